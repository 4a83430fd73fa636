"""From an element to its code and back: the arithmetic of `bit.pack`, `bit.quantise`, `bit.unpack` and of epilogues.

It is the same for single elements and for vectors of them: a `Scalar` here may hold either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.layout import LARGEST_SCALE, SMALLEST_SCALE
from bitmlir.lowering.emit import Scalar, const, i32
from bitmlir.lowering.vectors import as_vector, splat, vector_of

__all__ = ["Quantiser", "code_of", "safe_scale", "value_of", "widened"]

# Added to a smaller float, it leaves no bits for a fraction: the sum is rounded, half to even, and ends in the integer.
_ROUNDER = 3 << 22


def widened(value: ir.Value) -> Scalar:
    """Integers of up to 32 bits as i32, with their sign."""
    type_ = _like(value, i32())
    return Scalar(value if value.type == type_ else arith.extsi(type_, value))


def code_of(value: Scalar, encoding: Encoding, zero: Scalar | None) -> Scalar:
    """The code of a value: bit i belongs to plane i. `zero` is the row's zero point where the encoding has them."""

    def number(n: int) -> Scalar:
        return _number(n, value.value.type)

    if encoding.kind == "ternary":
        positive = arith.extui(value.value.type, value.equals(number(1)).value)
        return Scalar(arith.select(value.equals(number(-1)).value, number(2).value, positive))
    if encoding.kind == "bipolar":
        return (value - number(encoding.offset)) >> number(1)
    if zero is not None:
        value = value + Scalar(_spread(zero.value, value.value))
    return value - number(encoding.offset) if encoding.offset else value


def value_of(plane_bit: Callable[[int], Scalar], encoding: Encoding, zero: Scalar | None) -> Scalar:
    """The value of an element whose bits are plane_bit(0), plane_bit(1), … (0 or 1 each)."""
    value = const(encoding.offset)
    for plane, weight in enumerate(encoding.weights):
        value = value + plane_bit(plane) * (encoding.scale * weight)
    return value if zero is None else value - zero


def safe_scale(scale: ir.Value) -> ir.Value:
    """A scale brought within the limits that `bit.quantise` names; NaN becomes the lower one."""
    low, high = (arith.constant(scale.type, limit) for limit in (SMALLEST_SCALE, LARGEST_SCALE))
    return arith.minnumf(arith.maxnumf(scale, low), high)


@dataclass(frozen=True)
class Quantiser:
    """Rounds the floats of a row to the values of an encoding (see `bit.quantise`).

    zero: the row's zero point where the encoding has them. scale: what floats are divided by, a `safe_scale`, or None.
    divide: makes of f32 x and scale the quotient rounded to f32; |x / scale| is at most 256.
    """

    encoding: Encoding
    zero: Scalar | None = None
    scale: ir.Value | None = None
    divide: Callable[[ir.Value, ir.Value], ir.Value] = arith.divf

    def values(self, x: ir.Value) -> Scalar:
        """The values nearest to x / scale, as i32."""
        type_ = _like(x, ir.F32Type.get())
        x = x if x.type == type_ else arith.extf(type_, x)
        return self._nearest_odd(x) if self.encoding.kind == "bipolar" else self._nearest(x)

    def _nearest(self, x: ir.Value) -> Scalar:
        rounder, integers = _number(_ROUNDER, x.type).value, _like(x, i32())
        total = arith.addf(self._quotient(x), rounder)
        return Scalar(arith.bitcast(integers, total)) - Scalar(arith.bitcast(integers, rounder))

    def _nearest_odd(self, x: ir.Value) -> Scalar:
        """The odd one of t and t − 1 if x < 0, or t + 1 if not, t being x / scale rounded towards zero.

        The sign is that of x: a quotient so small as to be rounded to 0 has lost it. A NaN counts as negative.
        """
        integers = _like(x, i32())
        negative = arith.cmpf(arith.CmpFPredicate.ULT, x, _number(0, x.type).value)
        value = Scalar(arith.extsi(integers, negative))  # −1 or 0
        if self.encoding.bits > 1:
            value = Scalar(arith.fptosi(integers, self._quotient(x))) + value
        return value | _number(1, integers)

    def _quotient(self, x: ir.Value) -> ir.Value:
        """x / scale, limited to the encoding's range; NaN gives its lower end.

        x is limited before it is divided. Where scale · bound was rounded, its quotient still rounds to the bound.
        """
        low, high = (self._bound(value) for value in (self.encoding.minimum, self.encoding.maximum))
        x = arith.minnumf(arith.maxnumf(x, _spread(low, x)), _spread(high, x))
        return x if self.scale is None else self.divide(x, _spread(self.scale, x))

    def _bound(self, value: int) -> ir.Value:
        """The scale times the smallest or the largest value."""
        if self.zero is None:
            bound = arith.constant(ir.F32Type.get(), float(value))
        else:
            bound = arith.sitofp(ir.F32Type.get(), (const(max(value, 0)) - self.zero).value)
        return bound if self.scale is None else arith.mulf(bound, self.scale)


def _like(value: ir.Value, element: ir.Type) -> ir.Type:
    """The element type, or a vector of it if the value is a vector."""
    return vector_of(element, value.type.shape[0]) if isinstance(value.type, ir.VectorType) else element


def _number(n: int, type_: ir.Type) -> Scalar:
    """A number, in every lane of a vector."""
    if isinstance(type_, ir.VectorType):
        return Scalar(splat(n, type_))
    return Scalar(arith.constant(type_, float(n) if isinstance(type_, ir.FloatType) else n))


def _spread(value: ir.Value, like: ir.Value) -> ir.Value:
    """A single element in every lane, if the other is a vector."""
    return as_vector(value, like.type.shape[0]) if isinstance(like.type, ir.VectorType) else value
