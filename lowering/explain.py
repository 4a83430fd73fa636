"""Explaining a program before it runs: for each launch the work, the floor, the tile and the time that is expected."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlir import ir
from mlir.dialects import func

from bitmlir.dialects import bit
from bitmlir.lowering.choose_tiles import SOURCE
from bitmlir.lowering.cost import CostModel, choose_tile, traffic
from bitmlir.lowering.elements import arrays_read
from bitmlir.lowering.gpu.product import ProductProblem
from bitmlir.lowering.gpu.tiles import Tile, given_tile, tile_text
from bitmlir.lowering.kernels import kernel_name
from bitmlir.lowering.machines import MACHINES
from bitmlir.lowering.targets import Target
from bitmlir.lowering.workload import Workload

__all__ = ["explain_module"]


def explain_module(module: ir.Module, target: Target) -> dict[str, Any]:
    """What `bitmlir.explanation` shows, of a module at the level of planes: plain numbers and strings."""
    machine = MACHINES[target.name]
    launches = [
        _launch(op, target) | {"kernel": kernel_name(op, number)} for number, op in enumerate(_plane_operations(module))
    ]
    return {"target": target.name, "machine": machine.name, "measured": machine.measured, "launches": launches}


def _plane_operations(module: ir.Module) -> Iterator[bit.PlaneOp]:
    for function in module.body.operations:
        if isinstance(function, func.FuncOp) and not function.is_external:
            yield from (op for op in function.entry_block.operations if isinstance(op, bit.PlaneOp))


def _launch(op: bit.PlaneOp, target: Target) -> dict[str, Any]:
    if isinstance(op, bit.PlaneProduct):
        return _product(op, target)
    machine = MACHINES[target.name]
    if isinstance(op, bit.PlanePackOp):
        kind, matrix = "pack", op.source
        read, written = traffic((op.source, op.scale, op.zeros), (op.planes, op.sums, op.out_zeros))
    elif isinstance(op, bit.PlaneUnpackOp):
        kind, matrix = "unpack", op.out
        read, written = traffic((op.planes, op.zeros), (op.out,))
    elif isinstance(op, bit.PlanePatchesOp):
        kind, matrix = "patches", op.out
        read, written = traffic((op.planes,), (op.out,))
    elif isinstance(op, bit.PlaneByteConvOp):
        kind, matrix = "byte convolution", op.out
        read, written = traffic((op.source, op.rhs, *arrays_read(op.body)), (op.out, op.out_sums, op.kept))
    elif isinstance(op, bit.PlaneReduceWindowOp):
        kind, matrix = "reduce window", op.out
        read, written = traffic((op.source, *arrays_read(op.body)), (op.out, op.out_sums, op.kept))
    elif isinstance(op, bit.PlanePackPatchesOp):
        kind, matrix = "pack patches", op.planes
        read, written = traffic((op.source,), (op.planes, op.sums))
    elif isinstance(op, bit.PlanePatchSumsOp):
        kind, matrix = "patch sums", op.out
        read, written = traffic((op.sums,), (op.out,))
    elif isinstance(op, bit.PlanePoolOp):
        kind, matrix = "pool", op.out
        read, written = traffic((op.planes,), (op.out, op.out_sums))
    elif isinstance(op, bit.PlaneEdgeSumsOp):
        kind, matrix = "edge sums", op.out
        read, written = traffic((op.sums,), (op.out,))
    elif isinstance(op, bit.PlanePairFiltersOp):
        kind, matrix = "pair filters", op.out
        read, written = traffic((op.planes, op.sums), (op.out, op.out_sums))
    elif isinstance(op, bit.PlaneSpreadFiltersOp):
        kind, matrix = "spread filters", op.out
        read, written = traffic((op.planes, op.sums), (op.out, op.out_sums))
    else:
        kind, matrix = "ranks", op.values
        read, written = traffic((op.keys,), (op.values, op.columns))
    floor = {"memory": (read + written) / machine.memory_bytes_per_second, "launch": machine.launch_seconds}
    problem = f"{kind} {'×'.join(map(str, ir.MemRefType(matrix.type).shape))}"
    return {
        "problem": problem,
        "read_bytes": read,
        "written_bytes": written,
        "floor": floor,
        "seconds": sum(floor.values()),
    }


def _product(op: bit.PlaneProduct, target: Target) -> dict[str, Any]:
    problem = ProductProblem(op, target)
    given, model = given_tile(problem), CostModel(problem)
    tile = given or choose_tile(problem)
    source = ir.StringAttr(op.attributes[SOURCE]).value if SOURCE in op.attributes else "given in the IR"
    return model.estimate(tile).to_json() | {
        "problem": str(model.work),
        "workload": model.work.to_json(),
        "order": _order(model.work, tile),
        "tile": tile_text(tile),
        "tile_source": source if given else "cost model",
    }


def _order(work: Workload, tile: Tile) -> str:
    """The order in which planes are multiplied, in words."""
    if work.pairs == 1:
        return "one product of planes"
    if len(work.chains) == 1:
        return f"Horner's rule: one accumulator for {work.pairs} products of planes"
    count = f"an accumulator for each of {len(work.chains)} planes of lhs"
    if getattr(tile, "planes", 1) > 1:
        return f"side by side: {count}, and each plane of rhs is read once"
    return f"plane by plane: {count}, one after the other"
