"""Arrays in other shapes than they are allocated in."""

from __future__ import annotations

import math

from mlir import ir
from mlir.dialects import memref

__all__ = ["beside", "seen_as"]


def seen_as(array: ir.Value, *shape: int) -> ir.Value:
    """An array in another shape of as many elements."""
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    type_ = ir.MemRefType.get(list(shape), ir.MemRefType(array.type).element_type)
    return memref.reinterpret_cast(type_, array, [], [], [], [0], list(shape), strides)


def beside(array: ir.Value, rows: int) -> ir.Value:
    """An array whose rows have so many of its own side by side."""
    *planes, count, columns = ir.MemRefType(array.type).shape
    return array if rows == 1 else seen_as(array, *planes, count // rows, columns * rows)
