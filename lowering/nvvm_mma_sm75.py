"""`nvvm-mma-sm75`: the 1-bit m8n8k128 as inline assembly, which LLVM cannot select for sm_75."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mlir import ir
from mlir.dialects import llvm

from bitmlir.lowering.instructions import get_instruction
from bitmlir.lowering.passes import Pass

__all__ = ["NvvmMmaSm75"]


@dataclass(frozen=True)
class NvvmMmaSm75(Pass):
    """Replace m8n8k128 XOR products by inline assembly.

    Turing has the instruction (PTX ISA, mma.m8n8k128 with .xor.popc), but LLVM 22 selects its intrinsic from sm_80 on
    and aborts below. Runs before convert-nvvm-to-llvm; other shapes are left alone.
    """

    name: ClassVar[str] = "nvvm-mma-sm75"
    anchor: ClassVar[str] = "any"

    def run(self, op: ir.Operation) -> None:
        found: list[ir.Operation] = []

        def collect(inner: ir.Operation) -> ir.WalkResult:
            if inner.name == "nvvm.mma.sync" and _is_turings(inner):
                found.append(inner)
            return ir.WalkResult.ADVANCE

        op.walk(collect, ir.WalkOrder.POST_ORDER)
        text = get_instruction("mma.m8n8k128").ptx + ".xor.popc {$0, $1}, {$2}, {$3}, {$4, $5};"
        for inner in found:
            with ir.InsertionPoint(inner), inner.location:
                asm = llvm.InlineAsmOp(
                    inner.results[0].type, list(inner.operands), text, "=r,=r,r,r,r,r", asm_dialect=0
                )
            inner.results[0].replace_all_uses_with(asm.results[0])
            inner.erase()


def _is_turings(op: ir.Operation) -> bool:
    return "m = 8, n = 8, k = 128" in str(op.attributes["shape"]) and "xor_popc" in str(op.attributes["b1Op"])
