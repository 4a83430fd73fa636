"""The larger of two numbers, 32 at a time, from the bits of their planes: what pooling packed images is made of."""

from __future__ import annotations

from collections.abc import Sequence

from mlir import ir
from mlir.dialects import arith

from bitmlir.dialects.encoding import Encoding
from bitmlir.lowering.vectors import splat

__all__ = ["larger", "smallest"]


def smallest(encoding: Encoding) -> list[int]:
    """The words of the planes of an encoding's smallest number.

    Example:
        >>> smallest(Encoding.parse("i3")), smallest(Encoding.parse("ternary")), smallest(Encoding.parse("bipolar"))
        ([0, 0, -1], [0, -1], [0])
    """
    return [-1 if weight < 0 else 0 for weight in encoding.weights]


def larger(encoding: Encoding, x: Sequence[ir.Value], y: Sequence[ir.Value]) -> list[ir.Value]:
    """The planes of the larger of two numbers, for each bit of vectors of words.

    From the plane of most weight down, a number with a bit that the other lacks is larger, and its bits below are
    taken. A plane of negative weight counts the other way round. For one plane this is OR.
    """
    if encoding.kind == "ternary":
        (x_up, x_down), (y_up, y_down) = x, y
        return [arith.ori(x_up, y_up), arith.andi(x_down, y_down)]
    taken: list[ir.Value] = []
    x_open = y_open = None  # where a number can still be the larger one; None: everywhere
    for a, b, weight in reversed(list(zip(x, y, encoding.weights, strict=True))):
        from_x = a if x_open is None else arith.andi(a, x_open)
        from_y = b if y_open is None else arith.andi(b, y_open)
        if weight > 0:
            taken.append(arith.ori(from_x, from_y))
            x_loses, y_loses = arith.andi(from_y, _not(from_x)), arith.andi(from_x, _not(from_y))
        else:  # the topmost plane
            taken.append(arith.andi(a, b))
            x_loses, y_loses = arith.andi(a, _not(b)), arith.andi(b, _not(a))
        x_open = _not(x_loses) if x_open is None else arith.andi(x_open, _not(x_loses))
        y_open = _not(y_loses) if y_open is None else arith.andi(y_open, _not(y_loses))
    return taken[::-1]


def _not(words: ir.Value) -> ir.Value:
    return arith.xori(words, splat(-1, ir.VectorType(words.type)))
