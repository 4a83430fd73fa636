"""Storage formats, one a file: `packed` bit planes (the default everywhere) and `tiles`, the bitmap of non-empty tiles.

Needs numpy only: neither `mlir` nor `bitmlir.lowering`.
"""

from __future__ import annotations

from bitmlir.formats.packed import Packed, pack, unpack
from bitmlir.formats.tiles import TileBitmap, tile_bitmap

__all__ = ["Packed", "TileBitmap", "pack", "tile_bitmap", "unpack"]
