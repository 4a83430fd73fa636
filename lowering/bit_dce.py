"""The pass `bit-dce`: MLIR's own dead-code elimination does not know that operations defined by IRDL are pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mlir import ir

from bitmlir.lowering.passes import Pass

__all__ = ["BitDce", "is_pure"]


@dataclass(frozen=True)
class BitDce(Pass):
    """Erase pure operations of our dialects whose results nobody uses."""

    name: ClassVar[str] = "bit-dce"

    def run(self, op: ir.Operation) -> None:
        while _sweep(op):
            pass


def is_pure(op: ir.OpView) -> bool:
    """Whether the operation's class says `PURE = True`: no effects, and equal operands give equal results."""
    return getattr(type(op), "PURE", False) is True


def _sweep(op: ir.Operation | ir.OpView) -> bool:
    """Erase what is dead now, last operations first so that chains go in one sweep; whether there was any."""
    erased = False
    for region in op.operation.regions:
        for block in reversed(list(region)):
            for inner in reversed(list(block.operations)):
                if is_pure(inner) and not any(any(True for _ in result.uses) for result in inner.operation.results):
                    inner.operation.erase()
                    erased = True
                else:
                    erased |= _sweep(inner)
    return erased
