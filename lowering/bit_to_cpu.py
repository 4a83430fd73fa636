"""`bit-to-cpu`: from plane operations to vector kernels and a host function that calls them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

from mlir import ir
from mlir.dialects import arith, func

from bitmlir.dialects import bit
from bitmlir.dialects.layout import BITS_PER_WORD, ROW_ALIGNMENT
from bitmlir.lowering.cpu.kernel import Kernel
from bitmlir.lowering.cpu.packing import build_pack_kernel, build_unpack_kernel
from bitmlir.lowering.cpu.patch_packing import build_pack_patches_kernel
from bitmlir.lowering.cpu.patches import build_edge_sums_kernel, build_patch_sums_kernel, build_patches_kernel
from bitmlir.lowering.cpu.pool import build_pool_kernel
from bitmlir.lowering.cpu.product import build_product_kernel
from bitmlir.lowering.cpu.reduce_window import build_reduce_window_kernel
from bitmlir.lowering.cpu.spread_filters import build_spread_filters_kernel
from bitmlir.lowering.cpu.top import build_ranks_kernel
from bitmlir.lowering.kernels import WRITES, kernel_name, writes_attribute, written_by
from bitmlir.lowering.passes import Pass, fail

__all__ = ["BitToCpu"]

_NAME = re.compile(r"%[\w$.#-]+")  # of a value in IR


@dataclass(frozen=True)
class BitToCpu(Pass):
    """Turn plane operations into CPU kernels and calls of them.

    Before: functions with `bit.plane_*` operations on memrefs. After: one function `@kernel(memrefs…, %first, %last)`
    an operation, or for several that are alike, which computes the rows from %first to %last; the functions keep
    allocations and `func.call` on all rows, in order: the launch plan. `bit.row_block` on a kernel says what the bounds
    of row ranges must be multiples of, but for the last; as many rows are work enough for a thread.
    """

    name: ClassVar[str] = "bit-to-cpu"
    anchor: ClassVar[str] = "builtin.module"

    def run(self, op: ir.Operation) -> None:
        number = 0
        built: dict[str, tuple[Kernel, list[int]]] = {}  # with the places of its arguments among the values it is of
        for function in [f for f in op.regions[0].blocks[0].operations if isinstance(f, func.FuncOp)]:
            for inner in [] if function.is_external else list(function.entry_block.operations):
                if isinstance(inner, bit.PlaneOp):
                    with inner.location:
                        kind, values = _kind(inner), _values(inner)
                        if kind in built:
                            kernel, places = built[kind]
                            kernel = replace(kernel, arguments=tuple(values[place] for place in places))
                        else:
                            with ir.InsertionPoint(function):
                                kernel = _build(kernel_name(inner, number), inner)
                            built[kind] = kernel, [values.index(argument) for argument in kernel.arguments]
                        with ir.InsertionPoint(inner):
                            _call(kernel, written_by(inner))
                    inner.operation.erase()
                    number += 1


def _values(op: bit.PlaneOp) -> list[ir.Value]:
    """What an operation and those in its body take."""
    bodies = [block.operations for region in op.operation.regions for block in region]
    return [*op.operation.operands, *(v for body in bodies for inner in body for v in inner.operation.operands)]


def _kind(op: bit.PlaneOp) -> str:
    """A text that says all that a kernel depends on: equal ones have one kernel, on arrays of their own."""
    text = str(op.operation.get_asm(print_generic_op_form=True, use_local_scope=True))
    # Of numbers that the body takes from outside it says the name alone; of arrays all that matters.
    numbers = [value.owner for value in _values(op) if not isinstance(value.type, ir.MemRefType)]
    for owner in numbers:
        if not isinstance(owner, ir.Block) and owner.parent != op.operation:
            text += f"\n{owner}"
    names: dict[str, str] = {}
    return _NAME.sub(lambda name: names.setdefault(name[0], f"%{len(names)}"), text)


_BUILDERS: Mapping[type[bit.PlaneOp], Callable[..., Kernel]] = MappingProxyType(
    {
        bit.PlaneEdgeSumsOp: build_edge_sums_kernel,
        bit.PlanePackOp: build_pack_kernel,
        bit.PlanePackPatchesOp: build_pack_patches_kernel,
        bit.PlanePatchSumsOp: build_patch_sums_kernel,
        bit.PlanePatchesOp: build_patches_kernel,
        bit.PlanePoolOp: build_pool_kernel,
        bit.PlaneRanksOp: build_ranks_kernel,
        bit.PlaneReduceWindowOp: build_reduce_window_kernel,
        bit.PlaneSpreadFiltersOp: build_spread_filters_kernel,
        bit.PlaneUnpackOp: build_unpack_kernel,
    }
)


def _build(name: str, op: bit.PlaneOp) -> Kernel:
    _refuse_pairs(op)
    if build := _BUILDERS.get(type(op)):
        return build(name, op)
    if isinstance(op, bit.PlaneByteConvOp):
        fail(op, "kernels for the CPU cannot multiply bytes: run bit-decompose for the CPU")
    if isinstance(op, bit.PlanePairFiltersOp):
        fail(op, f"kernels for the CPU {_NO_PAIRS}")
    assert isinstance(op, bit.PlaneProduct)
    if op.window is not None:
        fail(op, "kernels for the CPU cannot gather what a window sees: run bit-decompose for the CPU")
    return build_product_kernel(name, op)


_NO_PAIRS = "do not take pixels in pairs: run bit-decompose for the CPU"


def _refuse_pairs(op: bit.PlaneOp) -> None:
    """Refuse what only pixels in pairs have: rows without padding, two sums a row, computed places."""
    storing = isinstance(op, (bit.PlaneMatmulOp, bit.PlaneReduceWindowOp, bit.PlanePoolOp))
    sums = op.out_sums if storing else None
    if storing and sums is not None and (_is_half(op.out) or bit.sums_of_row(op.out, sums) > 1):
        fail(op, f"kernels for the CPU {_NO_PAIRS}")
    for inner in op.body.operations if isinstance(op, bit.PlaneProduct) else ():
        if any(_is_computed(place) for place in _places(inner)):
            fail(inner, f"kernels for the CPU {_NO_PAIRS}")


def _is_half(planes: ir.Value) -> bool:
    """Whether rows of planes have no padding to whole 128 bits."""
    return ir.MemRefType(planes.type).shape[-1] * BITS_PER_WORD % ROW_ALIGNMENT != 0


def _places(op: ir.OpView) -> list[ir.Value]:
    """Where an operation of a body reads."""
    if isinstance(op, bit.WindowSumOp):
        return [op.place]
    return list(op.operation.operands)[1:] if op.operation.name == "memref.load" else []


def _is_computed(place: ir.Value) -> bool:
    return not isinstance(place.owner, ir.Block) and place.owner.name in bit.COMPUTED_PLACES


def _call(kernel: Kernel, written: Sequence[ir.Value]) -> None:
    """Emit the call that computes all rows; the kernel writes these of its arguments."""
    bounds = [arith.constant(ir.IndexType.get(), row) for row in (0, kernel.rows)]
    call = func.CallOp([], kernel.name, [*kernel.arguments, *bounds])
    call.operation.attributes[WRITES] = writes_attribute(kernel.arguments, written)
