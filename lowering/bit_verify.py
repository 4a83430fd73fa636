"""The pass `bit-verify`: what the dialect's verifiers say that IRDL cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from mlir import ir

from bitmlir.lowering.passes import Pass, PassFailure

__all__ = ["BitVerify"]


@dataclass(frozen=True)
class BitVerify(Pass):
    """Run the Python verifiers of the operations.

    Every operation whose class has a method `check` is asked; a string that it returns is an error at the operation's
    location. All faulty operations are reported before the pass fails.
    """

    name: ClassVar[str] = "bit-verify"

    def run(self, op: ir.Operation) -> None:
        faults = [(faulty, message) for faulty in _operations(op) if (message := _fault(faulty))]
        for faulty, message in faults:
            faulty.location.emit_error(f"'{faulty.operation.name}' op {message}")
        if faults:
            raise PassFailure


def _operations(op: ir.Operation | ir.OpView) -> Iterator[ir.OpView]:
    """All operations inside `op`, an operation before those in its regions."""
    for region in op.operation.regions:
        for block in region:
            for inner in block.operations:
                yield inner
                yield from _operations(inner)


def _fault(op: ir.OpView) -> str | None:
    check: Callable[[ir.OpView], str | None] | None = getattr(type(op), "check", None)
    if check is None:
        return None
    with op.location:  # a check may build types, and MLIR wants to know where
        return check(op)
