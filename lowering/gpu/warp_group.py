"""What a warp group does on Hopper: matrix instructions on tiles in shared memory, waiting for them, sharing registers.

Source: PTX ISA, sections on wgmma.mma_async, wgmma.wait_group and setmaxnreg.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlir import ir
from mlir.dialects import llvm, nvvm

from bitmlir.lowering.emit import Scalar, as_signed, i32, i64
from bitmlir.lowering.gpu.memory import struct_elements
from bitmlir.lowering.gpu.product import BLOCK_BYTES
from bitmlir.lowering.instructions import LANES, MmaInstruction

__all__ = [
    "GROUP_THREADS",
    "GROUP_WARPS",
    "accumulator_type",
    "descriptor",
    "issue_wgmma",
    "join_registers",
    "set_registers",
    "split_registers",
    "wait_for_groups",
]

GROUP_WARPS = 4
GROUP_THREADS = GROUP_WARPS * LANES
_ATOM_ROWS = 8  # what a swizzle repeats over
_MODES = {128: 1, 64: 2, 32: 3, 16: 0}  # of swizzles, by their bytes; rows of 16 bytes need none
_ADDRESS_MASK = 0x3FFFF


def descriptor(address: Scalar, swizzle: int = BLOCK_BYTES, leading: int = 16) -> Scalar:
    """The matrix descriptor of a tile in shared memory whose rows are as many bytes as they are swizzled over.

    leading: bytes from rows of 16 bytes to those that continue them along K; wider ones have both in one row.
    Source: PTX ISA, wgmma matrix descriptor; addresses and strides count 16-byte units.
    """
    atom = _ATOM_ROWS * swizzle >> 4
    fields = (_MODES[swizzle] << 62) | (atom << 32) | (leading >> 4 << 16)
    return ((address & _ADDRESS_MASK) >> 4).to_i64() | as_signed(fields, 64)


def accumulator_type(mma: MmaInstruction) -> ir.Type:
    """The accumulators of a thread: one struct of registers."""
    return ir.Type.parse(f"!llvm.struct<({', '.join(['i32'] * len(mma.accumulator.registers))})>")


def issue_wgmma(mma: MmaInstruction, accumulators: ir.Value, lhs: Scalar, rhs: Scalar) -> ir.Value:
    """accumulators + lhs·rhsᵀ, asynchronously; the operands are matrix descriptors."""
    shape = ir.Attribute.parse(f"#nvvm.shape<m = {mma.m}, n = {mma.n}, k = {mma.k}>")
    b1, one = nvvm.WGMMATypes.b1, nvvm.WGMMAScaleIn.one
    return nvvm.wgmma_mma_async(
        accumulators.type, accumulators, lhs.value, rhs.value, shape, b1, b1, nvvm.WGMMATypes.s32,
        nvvm.WGMMAScaleOut.one, one, one, nvvm.MMALayout.row, nvvm.MMALayout.col,
    )  # fmt: skip


def wait_for_groups(pending: int) -> None:
    """Wait until no more than so many committed groups of matrix instructions are under way."""
    nvvm.wgmma_wait_group_sync_aligned(ir.IntegerAttr.get(i64(), pending))


def set_registers(count: int, action: nvvm.SetMaxRegisterAction) -> None:
    """Give back or take registers, so that each thread of the warp group has `count`."""
    nvvm.setmaxregister(ir.IntegerAttr.get(i32(), count), action)


def split_registers(mma: MmaInstruction, struct: ir.Value) -> list[ir.Value]:
    """The registers in a struct of accumulators."""
    return struct_elements(struct, len(mma.accumulator.registers))


def join_registers(mma: MmaInstruction, registers: Sequence[ir.Value]) -> ir.Value:
    """The struct of accumulators made of registers."""
    struct = llvm.mlir_undef(accumulator_type(mma))
    for i, register in enumerate(registers):
        struct = llvm.insertvalue(struct, register, ir.DenseI64ArrayAttr.get([i]))
    return struct
