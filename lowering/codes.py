"""From an element's value to its code and back, as scalar code: the arithmetic of `bit.pack` and `bit.unpack`."""

from __future__ import annotations

from collections.abc import Callable

from mlir import ir
from mlir.dialects import arith

from bitmlir.dialects.encoding import Encoding
from bitmlir.lowering.emit import Scalar, const, i32

__all__ = ["code_of", "value_of", "widened"]


def widened(value: ir.Value) -> Scalar:
    """An integer of up to 32 bits as i32, with its sign."""
    return Scalar(value if value.type == i32() else arith.extsi(i32(), value))


def code_of(value: Scalar, encoding: Encoding, zero: Scalar | None) -> Scalar:
    """The code of a value: bit i belongs to plane i. `zero` is the row's zero point where the encoding has them."""
    if encoding.kind == "ternary":
        return value.equals(1).to_i32() | (value.equals(-1).to_i32() << 1)
    if encoding.kind == "bipolar":
        return (value - encoding.offset) >> 1
    if zero is not None:
        value = value + zero
    return value - encoding.offset


def value_of(plane_bit: Callable[[int], Scalar], encoding: Encoding, zero: Scalar | None) -> Scalar:
    """The value of an element whose bits are plane_bit(0), plane_bit(1), … (0 or 1 each)."""
    value = const(encoding.offset)
    for plane, weight in enumerate(encoding.weights):
        value = value + plane_bit(plane) * (encoding.scale * weight)
    return value if zero is None else value - zero
