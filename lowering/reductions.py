"""Reducing what a window sees, number by number: what the kernels of `bit.plane_reduce_window` on all targets share."""

from __future__ import annotations

import math

from mlir import ir
from mlir.dialects import arith

from bitmlir.dialects import bit
from bitmlir.lowering.vectors import splat

__all__ = ["initial", "reduced", "widened"]


def initial(op: bit.PlaneReduceWindowOp, type_: ir.VectorType) -> ir.Value:
    """What a reduction begins with: 0, or of the largest number what none is smaller than."""
    if _kind(op) == "sum":
        return splat(0, type_)
    return splat(-math.inf if isinstance(type_.element_type, ir.FloatType) else -(2**31), type_)


def reduced(op: bit.PlaneReduceWindowOp, so_far: ir.Value, value: ir.Value) -> ir.Value:
    """The larger of two numbers, or their sum."""
    is_float = isinstance(ir.VectorType(value.type).element_type, ir.FloatType)
    if _kind(op) == "sum":
        return (arith.addf if is_float else arith.addi)(so_far, value)
    return (arith.maximumf if is_float else arith.maxsi)(so_far, value)


def widened(value: ir.Value, type_: ir.VectorType) -> ir.Value:
    """A vector of numbers as they are reduced, in 32 bits."""
    if value.type == type_:
        return value
    return (arith.extf if isinstance(type_.element_type, ir.FloatType) else arith.extsi)(type_, value)


def _kind(op: bit.PlaneReduceWindowOp) -> str:
    return ir.StringAttr(op.attributes["reduction"]).value
