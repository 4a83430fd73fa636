"""The pass `bit-cse`: MLIR's own common-subexpression elimination does not know that IRDL operations are pure."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

from mlir import ir

from bitmlir.lowering.bit_dce import is_pure
from bitmlir.lowering.passes import Pass

__all__ = ["BitCse"]

Scope = ChainMap[Hashable, ir.Operation]

# Their regions may not use values from outside (MLIR's trait IsolatedFromAbove, which Python cannot ask about).
ISOLATED = frozenset({"builtin.module", "func.func", "gpu.func", "gpu.module", "llvm.func"})


@dataclass(frozen=True)
class BitCse(Pass):
    """Merge pure operations of our dialects that compute the same.

    Two operations are the same if their names, operands, attributes and result types are, and they have no regions.
    The later one goes if the earlier one is in scope: before it in its block, in the entry block of its region, or
    before an operation around it that is not isolated.
    """

    name: ClassVar[str] = "bit-cse"

    def run(self, op: ir.Operation) -> None:
        _merge_inside(op, ChainMap())


def _merge_inside(op: ir.Operation | ir.OpView, outer: Scope) -> None:
    """Merge in the regions of `op`; `outer` holds what dominates it."""
    visible: Scope = ChainMap() if op.operation.name in ISOLATED else outer
    for region in op.operation.regions:
        scope = visible
        for index, block in enumerate(region):
            inner = scope.new_child()
            _merge_block(block, inner)
            if index == 0:
                scope = inner  # the entry block dominates the others


def _merge_block(block: ir.Block, scope: Scope) -> None:
    for op in list(block.operations):
        if is_pure(op) and len(op.operation.regions) == 0:
            earlier = scope.setdefault(_key(op.operation), op.operation)
            if earlier != op.operation:
                for result, replacement in zip(op.operation.results, earlier.results, strict=True):
                    result.replace_all_uses_with(replacement)
                op.operation.erase()
                continue
        _merge_inside(op, scope)


def _key(op: ir.Operation) -> Hashable:
    """Equal for operations that compute the same."""
    return (
        op.name,
        tuple(op.operands),
        frozenset((name, op.attributes[name]) for name in op.attributes),
        tuple(result.type for result in op.results),
    )
