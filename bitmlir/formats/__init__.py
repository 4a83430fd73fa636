"""Storage formats, one a file: `packed` bit planes (the default everywhere) and `tiles`, the bitmap of non-empty tiles.

Needs numpy only: neither `mlir` nor `bitmlir.lowering`.
"""

from __future__ import annotations

from bitmlir.dialects.layout import BITS_PER_WORD, ROW_ALIGNMENT, TILE_BITS, TILE_ROWS, tile_counts, words_per_row
from bitmlir.formats.packed import Packed, pack, unpack
from bitmlir.formats.tiles import TileBitmap, tile_bitmap

__all__ = [
    "BITS_PER_WORD",
    "ROW_ALIGNMENT",
    "TILE_BITS",
    "TILE_ROWS",
    "Packed",
    "TileBitmap",
    "pack",
    "tile_bitmap",
    "tile_counts",
    "unpack",
    "words_per_row",
]
