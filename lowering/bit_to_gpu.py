"""`bit-to-gpu`: from plane operations to kernels in a `gpu.module` and a host function that launches them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from mlir import ir
from mlir.dialects import arith, func, gpu

from bitmlir.dialects import bit
from bitmlir.dialects.errors import PipelineError
from bitmlir.lowering.byte_images import ByteLayout, suits_bytes
from bitmlir.lowering.cost import choose_tile
from bitmlir.lowering.gpu.byte_conv import build_byte_conv_kernel
from bitmlir.lowering.gpu.launch import launch
from bitmlir.lowering.gpu.memory import Kernel, container
from bitmlir.lowering.gpu.mma_sync import build_mma_kernel
from bitmlir.lowering.gpu.mma_tile import MmaTile
from bitmlir.lowering.gpu.packing import build_pack_kernel, build_unpack_kernel
from bitmlir.lowering.gpu.pair_filters import build_pair_filters_kernel
from bitmlir.lowering.gpu.patch_packing import build_pack_patches_kernel
from bitmlir.lowering.gpu.patches import build_edge_sums_kernel, build_patch_sums_kernel, build_patches_kernel
from bitmlir.lowering.gpu.pool import build_pool_kernel
from bitmlir.lowering.gpu.product import ProductProblem
from bitmlir.lowering.gpu.reduce_window import build_reduce_window_kernel
from bitmlir.lowering.gpu.resident import build_resident_kernel
from bitmlir.lowering.gpu.resident_tile import ResidentTile
from bitmlir.lowering.gpu.spread_filters import build_spread_filters_kernel
from bitmlir.lowering.gpu.tiles import given_tile
from bitmlir.lowering.gpu.top import build_ranks_kernel
from bitmlir.lowering.gpu.wgmma import build_wgmma_kernel
from bitmlir.lowering.gpu.zeroing import build_zero_kernel
from bitmlir.lowering.kernels import kernel_name, written_by
from bitmlir.lowering.passes import Pass, fail
from bitmlir.lowering.targets import Target, get_target

__all__ = ["BitToGpu"]


@dataclass(frozen=True)
class BitToGpu(Pass):
    """Turn plane operations into GPU kernels and their launches.

    Before: functions with `bit.plane_*` operations on memrefs; products may have the `tile` that `choose-tiles` sets.
    After: a `gpu.module` with one kernel an operation; the functions keep allocations, `gpu.memset`, `bit.tensor_map`
    and `gpu.launch_func` in order: the launch plan.
    """

    name: ClassVar[str] = "bit-to-gpu"
    anchor: ClassVar[str] = "builtin.module"

    target: str

    def __post_init__(self) -> None:
        if not get_target(self.target).is_gpu:
            raise PipelineError(f"bit-to-gpu needs a GPU target, not '{self.target}'")

    def run(self, op: ir.Operation) -> None:
        target = get_target(self.target)
        operations = [
            inner
            for function in op.regions[0].blocks[0].operations
            if isinstance(function, func.FuncOp) and not function.is_external
            for inner in function.entry_block.operations
            if isinstance(inner, bit.PlaneOp)
        ]
        if not operations:
            return
        for inner in operations:
            _check_operation(inner, target)
        taken = {symbol.value for other in op.regions[0].blocks[0].operations if (symbol := _symbol(other))}
        names = itertools.chain(["kernels"], map("kernels_{}".format, itertools.count()))
        name = next(name for name in names if name not in taken)
        module = container(op, name, target.name, target.ptx_features)
        kernels = [_build_located(module, kernel_name(inner, n), inner, target) for n, inner in enumerate(operations)]
        by_function = itertools.groupby(zip(operations, kernels, strict=True), lambda made: made[0].operation.parent)
        for number, (_, made) in enumerate(by_function):
            made = list(made)
            _zero(module, name, f"zero_{number}", made)
            for inner, kernel in made:
                with inner.location, ir.InsertionPoint(inner):
                    launch(name, kernel, written_by(inner))
                inner.operation.erase()


def _build_located(module: ir.Block, name: str, op: bit.PlaneOp, target: Target) -> Kernel:
    with op.location:
        return _build(module, name, op, target)


def _zero(module: ir.Block, container_name: str, name: str, made: Sequence[tuple[bit.PlaneOp, Kernel]]) -> None:
    """Zero what kernels of a function need zeroed: all at once before the first that does, or where launches do not
    overlap, each by a memset."""
    together = [(op, kernel) for op, kernel in made if kernel.zeroed and kernel.overlaps]
    buffers = [buffer for _, kernel in together for buffer in kernel.zeroed]
    if buffers:
        first, _ = together[0]
        for buffer in buffers:
            if not isinstance(buffer.owner, ir.Block):
                buffer.owner.operation.move_before(first.operation)
        with first.location, ir.InsertionPoint(first):
            launch(container_name, build_zero_kernel(module, name, buffers), buffers)
    for op, kernel in made:
        for buffer in () if kernel.overlaps else kernel.zeroed:
            with op.location, ir.InsertionPoint(op):
                zero = arith.constant(ir.MemRefType(buffer.type).element_type, 0)
                gpu.MemsetOp(None, [], buffer, zero)


def _check_operation(op: bit.PlaneOp, target: Target) -> None:
    """XOR products need a unit that has XOR; AND is everywhere, if need be made of XORs."""
    if isinstance(op, bit.PlaneByteConvOp):
        layout = ByteLayout.of(op)
        images = ir.MemRefType(op.source.type).shape[0] // layout.window.pixels
        if not suits_bytes(target, layout, images, bit.encoding_in(op.rhs_encoding)):
            fail(op, f"{target.name} cannot multiply these bytes: run bit-decompose for {target.name}")
    is_product = isinstance(op, bit.PlaneProduct)
    if is_product and bit.bitwise_name(op.bitwise) not in ("and", *target.operations):
        fail(op, f"{target.name} has no XOR, but this product is by XOR: run bit-decompose for {target.name}")
    if is_product and op.window is not None:
        fault = bit.window_in(op.window).im2col_fault if target.copy == "tma" else None
        if fault:
            fail(op, fault)


def _symbol(op: ir.OpView) -> ir.StringAttr | None:
    return ir.StringAttr(op.attributes["sym_name"]) if "sym_name" in op.attributes else None


_BUILDERS: Mapping[type[bit.PlaneOp], Callable[..., Kernel]] = MappingProxyType(
    {
        bit.PlanePackOp: build_pack_kernel,
        bit.PlaneUnpackOp: build_unpack_kernel,
        bit.PlaneRanksOp: build_ranks_kernel,
    }
)
_BUILDERS_FOR_TARGET: Mapping[type[bit.PlaneOp], Callable[..., Kernel]] = MappingProxyType(
    {
        bit.PlaneByteConvOp: build_byte_conv_kernel,
        bit.PlaneEdgeSumsOp: build_edge_sums_kernel,
        bit.PlanePackPatchesOp: build_pack_patches_kernel,
        bit.PlanePairFiltersOp: build_pair_filters_kernel,
        bit.PlanePatchSumsOp: build_patch_sums_kernel,
        bit.PlanePatchesOp: build_patches_kernel,
        bit.PlanePoolOp: build_pool_kernel,
        bit.PlaneReduceWindowOp: build_reduce_window_kernel,
        bit.PlaneSpreadFiltersOp: build_spread_filters_kernel,
    }
)


def _build(module: ir.Block, name: str, op: bit.PlaneOp, target: Target) -> Kernel:
    if build := _BUILDERS.get(type(op)):
        return build(module, name, op)
    if build := _BUILDERS_FOR_TARGET.get(type(op)):
        return build(module, name, op, target)
    assert isinstance(op, bit.PlaneProduct)
    problem = ProductProblem(op, target)
    tile = given_tile(problem) or choose_tile(problem)
    if isinstance(tile, ResidentTile):
        return build_resident_kernel(module, name, problem, tile)
    if isinstance(tile, MmaTile):
        return build_mma_kernel(module, name, problem, tile)
    return build_wgmma_kernel(module, name, problem, tile)
