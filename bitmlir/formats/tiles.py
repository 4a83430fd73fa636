"""Tile bitmaps: which tiles of a packed matrix hold a set bit, for each plane.

A product skips the tiles that hold none: they cost neither loads nor multiplications.

For `u`, `i` and `ternary` a tile is empty in every plane exactly when all its elements are 0. For the bipolar
encodings and those with zero points it is when all its codes are 0, that is when every element is the smallest value
of its row. Skipping is exact there too: a product adds up the planes only, and what the offsets contribute comes from
the row sums, which cover the whole row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bitmlir.arrays import as_numpy, require_layout
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import EncodingError, InputError, ShapeError
from bitmlir.dialects.layout import BITS_PER_WORD, TILE_BITS, TILE_ROWS, tile_counts
from bitmlir.formats.packed import Packed, bits_to_words, pack, whole_sizes, words_to_bits

__all__ = ["TileBitmap", "tile_bitmap"]

_TILE_WORDS = TILE_BITS // BITS_PER_WORD


@dataclass(frozen=True, eq=False)
class TileBitmap:
    """One bit for each plane and tile of a packed matrix: 1 where the tile may hold a set bit, 0 where it holds none.

    Bit t % 32 of words[p, r, t // 32] stands for plane p, rows [128·r, 128·(r+1)) and elements [1024·t, 1024·(t+1)).

    Attributes:
        words: uint32 [P, ⌈rows/128⌉, ⌈⌈k/1024⌉/32⌉], numpy or CUDA array, C-contiguous.
        shape: (rows, k) of the matrix it covers.
        encoding: of the matrix it covers.

    Raises:
        InputError, ShapeError: words that do not fit `encoding` and `shape`.

    Example:
        >>> bitmap = TileBitmap(np.array([[[0b10]]], np.uint32), (100, 2048), "bipolar")
        >>> bitmap.to_array()
        array([[[False,  True]]])
    """

    words: Any = field(repr=False)
    shape: tuple[int, int]
    encoding: Encoding

    def __post_init__(self) -> None:
        object.__setattr__(self, "encoding", Encoding.parse(self.encoding))  # a name will do
        object.__setattr__(self, "shape", whole_sizes(self.shape))  # and a list
        row_tiles, k_tiles = tile_counts(self.shape)
        require_layout(self.words, "words", np.uint32, (self.encoding.bits, row_tiles, _words(k_tiles)))

    @classmethod
    def from_array(cls, bits: Any, shape: tuple[int, int], encoding: str | Encoding) -> TileBitmap:
        """The bitmap given as booleans [⌈rows/128⌉, ⌈k/1024⌉], for all planes alike, or with a plane axis in front.

        Nothing here can know whether the tiles called empty are: `check` compares with the matrix.

        Raises:
            InputError: bits are not booleans.
            ShapeError: bits of another shape.

        Example:
            >>> TileBitmap.from_array([[True, False]], (1, 2048), "u2").to_array().shape
            (2, 1, 2)
        """
        encoding, array = Encoding.parse(encoding), as_numpy(bits, "bits")
        if array.dtype != bool:
            raise InputError(f"bits must be booleans, got {array.dtype}: pass bits != 0")
        tiles = tile_counts(shape)
        per_plane = (encoding.bits, *tiles)
        if array.shape not in (tiles, per_plane):
            raise ShapeError(
                f"bits must have shape {tiles} or {per_plane} for a '{encoding}' matrix of shape {shape}, "
                f"got {array.shape}: one for each {TILE_ROWS} rows and {TILE_BITS} elements"
            )
        return cls(bits_to_words(np.broadcast_to(array, per_plane), _words(tiles[1])), shape, encoding)

    def to_array(self) -> np.ndarray:
        """The bits as booleans [P, ⌈rows/128⌉, ⌈k/1024⌉]."""
        return words_to_bits(as_numpy(self.words, "words"), tile_counts(self.shape)[1]).astype(bool)

    def check(self, packed: Packed) -> None:
        """Check that every tile of `packed` which this calls empty is: else products would silently lose elements.

        Raises:
            ShapeError, EncodingError: the bitmap is for another shape or encoding.
            InputError: it calls a tile empty that is not; the message names the first.
        """
        if self.shape != packed.shape:
            raise ShapeError(f"the tile bitmap covers shape {self.shape}, the matrix has {packed.shape}: make it anew")
        if self.encoding != packed.encoding:
            raise EncodingError(
                f"the tile bitmap is for '{self.encoding}', the matrix is '{packed.encoding}': make it anew"
            )
        lost = tile_bitmap(packed).to_array() & ~self.to_array()
        if lost.any():
            plane, row, column = (int(i) for i in np.argwhere(lost)[0])
            rows_end, k_end = min(TILE_ROWS * (row + 1), packed.rows), min(TILE_BITS * (column + 1), packed.k)
            raise InputError(
                f"the tile bitmap calls tile [{row}, {column}] of plane {plane} empty, but rows {TILE_ROWS * row}.."
                f"{rows_end - 1}, elements {TILE_BITS * column}..{k_end - 1} hold a set bit: use tile_bitmap(matrix)"
            )


def tile_bitmap(matrix: Any, encoding: str | Encoding | None = None, zeros: Any = None) -> TileBitmap:
    """The bitmap of the tiles of a matrix that hold a set bit.

    Args:
        matrix: a `Packed`, or integers [rows, k] of the encoding named.
        encoding: for integers only.
        zeros: for integers of `u<p>@row` only: the zero point of each row.

    Raises:
        InputError: an encoding missing, or given for a `Packed`; and as `pack` for integers.
        ShapeError: a batch of matrices, or images.

    Example:
        >>> x = np.zeros((1, 3000), np.int8)
        >>> x[0, 2999] = 2
        >>> tile_bitmap(x, "u2").to_array().tolist()
        [[[False, False, False]], [[False, False, True]]]
    """
    if isinstance(matrix, Packed):
        if encoding is not None or zeros is not None:
            raise InputError("a Packed matrix has its encoding and zeros: call tile_bitmap(packed) without them")
        packed = matrix
    elif encoding is None:
        raise InputError("the tile bitmap of plain integers needs their encoding: tile_bitmap(x, encoding)")
    else:
        packed = pack(matrix, encoding, zeros)
    if len(packed.shape) != 2:
        raise ShapeError(f"tile bitmaps cover single matrices, but this one has the shape {packed.shape}")
    planes = as_numpy(packed.planes, "planes")
    in_rows = np.bitwise_or.reduceat(planes, range(0, packed.rows, TILE_ROWS), axis=1)
    in_tiles = np.bitwise_or.reduceat(in_rows, range(0, planes.shape[2], _TILE_WORDS), axis=2)
    return TileBitmap.from_array(in_tiles != 0, (packed.rows, packed.k), packed.encoding)


def _words(k_tiles: int) -> int:
    return -(-k_tiles // BITS_PER_WORD)
