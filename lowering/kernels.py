"""Kernels of plane operations as the plan of launches sees them: what they are called, and what they write."""

from __future__ import annotations

from collections.abc import Sequence

from mlir import ir

from bitmlir.dialects import bit

__all__ = ["WRITES", "kernel_name", "writes_attribute", "written_by"]

WRITES = "bit.writes"
"""The attribute of a launch that says which of its arguments are written."""

_WRITTEN = {
    bit.PlanePackOp: ("planes", "sums", "out_zeros"),
    bit.PlanePackPatchesOp: ("planes", "sums"),
    bit.PlaneRanksOp: ("values", "columns"),
}
_WRITTEN_BY_OTHERS = ("out", "out_sums", "kept")


def kernel_name(op: bit.PlaneOp, number: int) -> str:
    """The name of the kernel of the operation that is the module's plane operation of that number."""
    return f"{op.MNEMONIC}_{number}"


def written_by(op: bit.PlaneOp) -> list[ir.Value]:
    """The memrefs that an operation writes."""
    fields = (getattr(op, name, None) for name in _WRITTEN.get(type(op), _WRITTEN_BY_OTHERS))
    return [value for value in fields if value is not None]


def writes_attribute(arguments: Sequence[ir.Value], written: Sequence[ir.Value]) -> ir.Attribute:
    """The numbers of the arguments that are written."""
    return ir.DenseI64ArrayAttr.get([number for number, argument in enumerate(arguments) if argument in written])
