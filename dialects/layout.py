"""The numbers of the packed format: words, row padding, tiles. Plain Python, for the IR and the runtime alike."""

from __future__ import annotations

__all__ = [
    "BITS_PER_WORD",
    "LARGEST_COUNT",
    "LARGEST_SCALE",
    "LARGEST_SIZE",
    "ROW_ALIGNMENT",
    "SMALLEST_SCALE",
    "SWIZZLES",
    "TILE_BITS",
    "TILE_ROWS",
    "ceil_div",
    "tile_counts",
    "words_per_row",
]

BITS_PER_WORD = 32
ROW_ALIGNMENT = 128  # bits: rows start on 16 bytes, what one cp.async copies and what TMA strides must be multiples of
LARGEST_COUNT = 32  # of columns that a search keeps for a row: a GPU's warp merges lists with a lane for each entry
LARGEST_SIZE = 1 << 27  # of rows or columns: with 8 planes, row numbers still fit 31 bits
SMALLEST_SCALE, LARGEST_SCALE = 2.0**-100, 2.0**100  # in `bit.quantise`: quotients and remainders are normal floats
TILE_ROWS = 128  # rows of an operand that a thread block keeps together: one bit of a tile bitmap
TILE_BITS = 1024  # elements of a row: one 128-byte line of shared memory in the widest swizzle
SWIZZLES = (32, 64, TILE_BITS // 8)  # bytes that TMA and wgmma can swizzle rows over (PTX ISA, swizzling modes)


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def words_per_row(k: int) -> int:
    """Words that a row of k bits takes: 4·⌈k/128⌉.

    Example:
        >>> words_per_row(128), words_per_row(129)
        (4, 8)
    """
    return ceil_div(k, ROW_ALIGNMENT) * (ROW_ALIGNMENT // BITS_PER_WORD)


def tile_counts(shape: tuple[int, int]) -> tuple[int, int]:
    """Tiles along the rows and along K of a (rows, k) matrix, those at the edges included.

    Example:
        >>> tile_counts((129, 1024))
        (2, 1)
    """
    rows, k = shape
    return ceil_div(rows, TILE_ROWS), ceil_div(k, TILE_BITS)
