"""What a warp does with mma.sync: one matrix instruction on fragments in registers.

Source: PTX ISA, section on mma.sync.
"""

from __future__ import annotations

from mlir import ir
from mlir.dialects import nvvm

from bitmlir.lowering.gpu.memory import struct_elements
from bitmlir.lowering.instructions import MmaInstruction

__all__ = ["issue_mma"]


def issue_mma(
    mma: MmaInstruction, a: list[ir.Value], b: list[ir.Value], c: list[ir.Value], operation: str
) -> list[ir.Value]:
    """c + a·bᵀ by a bit operation, or on numbers if the instruction has such; all are the lane's registers."""
    struct = ir.Type.parse(f"!llvm.struct<({', '.join(['i32'] * len(c))})>")
    shape = ir.Attribute.parse(f"#nvvm.shape<m = {mma.m}, n = {mma.n}, k = {mma.k // mma.bits}>")
    row, column = ir.Attribute.parse("#nvvm.mma_layout<row>"), ir.Attribute.parse("#nvvm.mma_layout<col>")
    element = ir.Attribute.parse("#nvvm.mma_type<b1>" if mma.bits == 1 else f"#nvvm.mma_type<u{mma.bits}>")
    bitwise = ir.Attribute.parse(f"#nvvm.mma_b1op<{operation}_popc>") if mma.bits == 1 else None
    overflow = None if mma.bits == 1 else ir.Attribute.parse("#nvvm.mma_int_overflow<wrapped>")
    result = nvvm.mma_sync(
        struct, shape, row, column, a, b, c, b1_op=bitwise, int_overflow_behavior=overflow,
        multiplicand_a_ptx_type=element, multiplicand_b_ptx_type=element,
    )  # fmt: skip
    return struct_elements(result, len(c))
