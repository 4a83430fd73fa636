"""`nvvm-wgmma-b1`: complete the 1-bit wgmma that upstream prints without its bit operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mlir import ir

from bitmlir.lowering.passes import Pass

__all__ = ["NvvmWgmmaB1"]

_WITHOUT, _WITH = ".b1.b1 ", ".b1.b1.and.popc "


@dataclass(frozen=True)
class NvvmWgmmaB1(Pass):
    """Add `.and.popc` to 1-bit wgmma instructions.

    Runs after convert-nvvm-to-llvm, which turns `nvvm.wgmma.mma_async` into inline assembly: MLIR 22 leaves out the bit
    operation that the PTX ISA demands for .b1, and the assembler refuses it.
    """

    name: ClassVar[str] = "nvvm-wgmma-b1"
    anchor: ClassVar[str] = "any"

    def run(self, op: ir.Operation) -> None:
        def repair(inner: ir.Operation) -> ir.WalkResult:
            if inner.name == "llvm.inline_asm":
                text = ir.StringAttr(inner.attributes["asm_string"]).value
                if "wgmma.mma_async" in text and _WITHOUT in text:
                    inner.attributes["asm_string"] = ir.StringAttr.get(text.replace(_WITHOUT, _WITH))
            return ir.WalkResult.ADVANCE

        op.walk(repair, ir.WalkOrder.POST_ORDER)
