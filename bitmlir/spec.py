"""What a product is to compute: sizes, encodings, the result and its epilogue."""

from __future__ import annotations

import operator
from dataclasses import dataclass

from bitmlir.dialects.encoding import Encoding, range_fault
from bitmlir.dialects.errors import InputError, ShapeError
from bitmlir.dialects.layout import LARGEST_SIZE

__all__ = ["MatmulSpec"]

FLOATS = ("f32", "f16", "bf16")
RESULTS = ("i32", *FLOATS, "bit")


@dataclass(frozen=True)
class MatmulSpec:
    """The product of an m×k matrix with the transpose of an n×k matrix, exact in int32, and what becomes of it.

    acc = lhs · rhsᵀ, then by `out`:

    | out                   | result, m×n                                                                          |
    |-----------------------|--------------------------------------------------------------------------------------|
    | `i32`                 | acc                                                                                  |
    | `f32`, `f16`, `bf16`  | f32(acc) · row_scale[row] · column_scale[col] + bias[col], each step rounded to f32, |
    |                       | those parts that are switched on; then rounded to the result's type                  |
    | `bit`                 | packed `bipolar`: (acc ≥ threshold[col]) ≠ flip[col], ready to be the next lhs       |

    lhs, rhs: names of encodings (see `bitmlir.Encoding`). row_scale, column_scale, bias: whether a float result uses
    them. lhs_tiles, rhs_tiles: whether that operand comes with a `TileBitmap`, whose empty tiles are skipped.

    Raises:
        ShapeError: a size below 1, or a K whose sums could leave int32.
        EncodingError: an unknown encoding.
        InputError: an unknown result, or scales for a result that has none.

    Example:
        >>> MatmulSpec(m=8, n=16, k=100, lhs="bipolar", rhs="u2").out
        'i32'
    """

    m: int
    n: int
    k: int
    lhs: str | Encoding
    rhs: str | Encoding
    out: str = "i32"
    row_scale: bool = False
    column_scale: bool = False
    bias: bool = False
    lhs_tiles: bool = False
    rhs_tiles: bool = False

    def __post_init__(self) -> None:
        for name in ("m", "n", "k"):
            size = getattr(self, name)
            whole = hasattr(size, "__index__") and not isinstance(size, bool)
            if not whole or not 1 <= size <= LARGEST_SIZE:
                raise ShapeError(f"{name} must be a whole number from 1 to {LARGEST_SIZE}, got {size!r}")
            object.__setattr__(self, name, operator.index(size))  # numpy's integers become Python's
        lhs, rhs = Encoding.parse(self.lhs), Encoding.parse(self.rhs)
        if fault := range_fault(lhs, rhs, self.k):
            raise ShapeError(fault)
        if self.out not in RESULTS:
            raise InputError(f"unknown result {self.out!r}: expected one of {', '.join(RESULTS)}")
        if (self.row_scale or self.column_scale or self.bias) and self.out not in FLOATS:
            raise InputError(f"out={self.out!r} takes no scales or bias: they belong to {', '.join(FLOATS)}")

    @property
    def operations(self) -> int:
        """2·m·n·k, what speeds are counted in."""
        return 2 * self.m * self.n * self.k
