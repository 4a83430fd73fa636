"""What a product is to compute: sizes, encodings, the result and its epilogue."""

from __future__ import annotations

from dataclasses import dataclass

from bitmlir.dialects.encoding import Encoding, range_fault
from bitmlir.dialects.errors import EncodingError, InputError, ShapeError
from bitmlir.dialects.layout import LARGEST_SIZE
from bitmlir.spec_fields import require_names, require_sizes, require_switches

__all__ = ["MatmulSpec"]

INTEGERS = ("i32", "i16")
FLOATS = ("f32", "f16", "bf16")
RESULTS = (*INTEGERS, *FLOATS, "bit")  # and the encodings
RESIDUALS = (*INTEGERS, "i8", *FLOATS)


@dataclass(frozen=True)
class MatmulSpec:
    """The product of an m×k matrix with the transpose of an n×k matrix, exact in int32, and what becomes of it.

    acc = lhs · rhsᵀ, and with floats y = f32(acc) · row_scale[row] · column_scale[col] + bias[col] + f32(residual),
    each step rounded to f32, those parts that are switched on. Then by `out`:

    | out                       | result, m×n                                                                        |
    |---------------------------|------------------------------------------------------------------------------------|
    | `i32`, `i16`              | acc + residual, where int16 holds every product of that K                          |
    | `f32`, `f16`, `bf16`      | y rounded to the result's type                                                     |
    | an encoding: `u4`, `i8`,  | y quantised: its nearest value, ties to even; packed, to be an operand of the next |
    | `u4@8`, `ternary`, …      | product. Not `u<p>@row`: no product makes a zero point for each row                |
    | `bit`                     | packed `bipolar`: (acc + residual ≥ threshold[col]) ≠ flip[col]                    |

    Quantising is ONNX's QuantizeLinear: for `u<p>@z` the code is clamp(round_half_even(y) + z, 0, 2^p − 1), and the
    value that the code stands for is code − z. The output's scale goes into the others: divide row_scale or
    column_scale, bias and residual, by it. `bipolar<p>` has odd values only: an even y goes away from 0, and 0 to 1.
    What is too large, ±inf included, becomes the largest value; NaN becomes the smallest. `i8` is the encoding.

    residual: the element type of an m×n matrix that is added: `i8`, `i16` or `i32` with any result, `f16`, `bf16` or
    `f32` where there are floats. A sum of integers that the result's type (for `bit` int32) cannot hold is clamped.
    relu: whether what is negative then becomes 0 (before it is rounded or quantised); a NaN stays.

    lhs, rhs: encodings (see `bitmlir.Encoding`), kept as their names. row_scale, column_scale, bias: whether a result
    of floats or an encoding uses them. lhs_tiles, rhs_tiles: whether that operand comes with a `TileBitmap`, whose
    empty tiles are skipped; not of batches.

    batch: None, or how many such products there are: lhs is batch×m×k, rhs batch×n×k and the result batch×m×n. Then
    row_scale is batch×m and a residual batch×m×n; what is given by column all products share. With weights that all
    share, n×k, it is simply one product of batch·m rows.

    Raises:
        ShapeError: a size below 1, or a K whose sums could leave int32, or int16 for `i16`.
        EncodingError: an unknown encoding, or one that no result can have.
        InputError: an unknown result or residual, a part of the epilogue that the result has no use for, or a field
            that is not of its type.

    Example:
        >>> MatmulSpec(m=8, n=16, k=100, lhs="bipolar", rhs="u2").out
        'i32'
        >>> MatmulSpec(m=8, n=16, k=100, lhs="u4", rhs="i3", out="u4", column_scale=True, relu=True).result_encoding
        Encoding(kind='u', bits=4, zero=0)
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
    residual: str | None = None
    relu: bool = False
    lhs_tiles: bool = False
    rhs_tiles: bool = False
    batch: int | None = None

    def __post_init__(self) -> None:
        require_sizes(self, "m", "n", "k", *([] if self.batch is None else ["batch"]))
        require_switches(self, "row_scale", "column_scale", "bias", "relu", "lhs_tiles", "rhs_tiles")
        require_names(self, "lhs", "rhs", "out", *([] if self.residual is None else ["residual"]))
        self._check_batch()
        lhs, rhs = Encoding.parse(self.lhs), Encoding.parse(self.rhs)
        if fault := range_fault(lhs, rhs, self.k):
            raise ShapeError(fault)
        self._check_result()
        if self.out == "i16" and (fault := _int16_fault(lhs, rhs, self.k)):
            raise ShapeError(fault)
        if self.residual is not None and self.residual not in RESIDUALS:
            raise InputError(f"unknown residual {self.residual!r}: expected one of {', '.join(RESIDUALS)}, or None")
        if not self.uses_floats:
            self._check_no_floats()
        if self.out == "bit" and self.relu:
            raise InputError("out='bit' takes no relu, which the threshold makes idle: leave it out")

    def _check_batch(self) -> None:
        if self.batch is None:
            return
        if self.batch * max(self.m, self.n) > LARGEST_SIZE:
            rows = f"{self.batch * max(self.m, self.n)} rows in all"
            raise ShapeError(f"a batch of {self.batch} has {rows}, but {LARGEST_SIZE} is the limit: split it")
        if self.lhs_tiles or self.rhs_tiles:
            raise InputError("tile bitmaps cover single matrices, not batches: leave out lhs_tiles and rhs_tiles")

    def _check_result(self) -> None:
        if self.out in RESULTS:
            return
        try:
            encoding = Encoding.parse(self.out)
        except EncodingError:
            known = f"{', '.join(RESULTS)}, or an encoding such as u4, i2, bipolar, ternary"
            raise InputError(f"unknown result {self.out!r}: expected one of {known}") from None
        if encoding.has_row_zeros:
            raise EncodingError(
                f"out={self.out!r} would need a zero point for each row, which no product makes: "
                f"use u{encoding.bits}@z with one zero point for all"
            )

    def _check_no_floats(self) -> None:
        where = f"they belong to {', '.join(FLOATS)} and to encodings"
        if self.row_scale or self.column_scale or self.bias:
            raise InputError(f"out={self.out!r} takes no scales or bias: {where}")
        if self.residual in FLOATS:
            whole = ", ".join(name for name in RESIDUALS if name not in FLOATS)
            raise InputError(f"out={self.out!r} takes a residual of {whole}, not of {self.residual}: floats, {where}")

    @property
    def result_encoding(self) -> Encoding | None:
        """The encoding of a packed result; None for a plain one."""
        if self.out == "bit":
            return Encoding.parse("bipolar")
        return None if self.out in RESULTS else Encoding.parse(self.out)

    @property
    def uses_floats(self) -> bool:
        """Whether the epilogue computes in f32, and can take scales and a bias."""
        return self.out in FLOATS or self.out not in RESULTS

    @property
    def largest_sum(self) -> int:
        """A bound on |acc|."""
        return self.k * Encoding.parse(self.lhs).magnitude * Encoding.parse(self.rhs).magnitude

    @property
    def operations(self) -> int:
        """2·m·n·k, of a batch for each product: what speeds are counted in."""
        return 2 * self.m * self.n * self.k * (self.batch or 1)


def _int16_fault(lhs: Encoding, rhs: Encoding, k: int) -> str | None:
    """Why a product of K elements could leave int16."""
    products = [x * y for x in (lhs.minimum, lhs.maximum) for y in (rhs.minimum, rhs.maximum)]
    smallest, largest = min(0, *products), max(0, *products)
    low, high = -(2**15), 2**15 - 1
    if low <= k * smallest and k * largest <= high:
        return None
    limit = min(bound // product for bound, product in ((low, smallest), (high, largest)) if product)
    remedy = f"K up to {limit} fits" if limit else "no K fits"
    return (
        f"out='i16' cannot hold K = {k} products of '{lhs}' and '{rhs}', which reach {k * smallest}..{k * largest}: "
        f"{remedy}; use out='i32' or a float"
    )
