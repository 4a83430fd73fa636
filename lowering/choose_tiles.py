"""`choose-tiles`: decides how GPU kernels divide each product, and writes it into the IR."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mlir import ir
from mlir.dialects import func

from bitmlir.dialects import bit
from bitmlir.dialects.errors import InputError, PipelineError
from bitmlir.lowering.cost import CostModel, choose_tile, workload_of
from bitmlir.lowering.gpu.product import ProductProblem
from bitmlir.lowering.gpu.tiles import Tile, fault_of, given_tile, impossible, make_tile, parse_tile, tile_attribute
from bitmlir.lowering.passes import Pass
from bitmlir.lowering.targets import get_target
from bitmlir.lowering.tuning_table import Entry, TuningTable, unquoted_path, warn_once

__all__ = ["SOURCE", "ChooseTiles", "plane_products"]

SOURCE = "bit.tile_source"
"""The attribute that says where a tile comes from."""

_MUCH_SLOWER = 1.15  # times the model's best: a near problem's tile that does not suit this one


@dataclass(frozen=True)
class ChooseTiles(Pass):
    """Give each plane product the attribute `tile`, unless it has one.

    target: the chip. tile: the one to use for all, such as rows=64,columns=256,stages=4,alternate. tables: files of
    tuning tables, separated as in $PATH; %XX stands for a byte of a path, as in URLs. A product takes the first of
    these that there is: the tile given; that of an entry for the same problem; that of an entry for a problem of the
    same class and about the same size, if it is legal and the cost model expects it to be nearly the best; the tile
    that the model expects to be the best. The attribute `bit.tile_source` says which it was.
    """

    name: ClassVar[str] = "choose-tiles"
    anchor: ClassVar[str] = "builtin.module"

    target: str
    tile: str = ""
    tables: str = ""

    def __post_init__(self) -> None:
        if not get_target(self.target).is_gpu:
            raise PipelineError(f"choose-tiles needs a GPU target, not '{self.target}'")
        if self.tile:
            parse_tile(get_target(self.target), self.tile)

    def run(self, op: ir.Operation) -> None:
        target = get_target(self.target)
        paths = [unquoted_path(path) for path in self.tables.split(os.pathsep) if path]
        tables = [(path, TuningTable.load(path)) for path in paths]
        for product in plane_products(op):
            problem = ProductProblem(product, target)
            with product.location:
                if product.tile is None:
                    if self.tile:
                        tile, source = _asked_for(self.tile, problem), "asked for"
                    else:
                        tile, source = _decided(problem, tables)
                    product.attributes["tile"] = tile_attribute(tile)
                    product.attributes[SOURCE] = ir.StringAttr.get(source)
                given_tile(problem)  # reports one that is not possible


def plane_products(module: ir.Operation) -> Iterator[bit.PlaneProduct]:
    """The products in a module's functions, in order."""
    for function in module.regions[0].blocks[0].operations:
        if isinstance(function, func.FuncOp) and not function.is_external:
            for op in function.entry_block.operations:
                if isinstance(op, bit.PlaneProduct):
                    yield op


def _asked_for(text: str, problem: ProductProblem) -> Tile:
    """The tile that a caller wants for every product."""
    tile = parse_tile(problem.target, text)
    if fault := fault_of(problem, tile):
        # Not a fault of the product, and so not reported there.
        raise InputError(f"argument tile: {impossible(tile, fault)}")
    return tile


def _decided(problem: ProductProblem, tables: Sequence[tuple[str, TuningTable]]) -> tuple[Tile, str]:
    """The tile for a product, and where it comes from."""
    workload = workload_of(problem)
    for path, table in tables:
        entry = table.find(workload)
        if entry is None:
            continue
        tile = _tile_in(entry, problem)
        if not isinstance(tile, str):
            return tile, f"tuned: {_named(path, table, entry)}"
        warn_once(f"the tuning table {path}: the tile for {_sizes(entry)} is ignored: {tile}")
    best, model = choose_tile(problem), CostModel(problem)
    limit = model.estimate(best).seconds * _MUCH_SLOWER
    for path, table in tables:
        for entry in table.near(workload):
            tile = _tile_in(entry, problem)
            if not isinstance(tile, str) and model.estimate(tile).seconds <= limit:
                return tile, f"tuned for {_sizes(entry)}: {_named(path, table, entry)}"
    return best, "cost model"


def _tile_in(entry: Entry, problem: ProductProblem) -> Tile | str:
    """An entry's tile, or why it cannot be used here: kernels may have changed since."""
    try:
        tile = make_tile(problem.target, entry.tile)
    except InputError as error:
        return str(error)
    fault = fault_of(problem, tile)
    return tile if fault is None else impossible(tile, fault)


def _sizes(entry: Entry) -> str:
    return "x".join(str(size) for size in (entry.workload.m, entry.workload.n, entry.workload.k))


def _named(path: str, table: TuningTable, entry: Entry) -> str:
    """Which table has the entry, where and when it was measured, and the time that its tile took."""
    name = os.fsencode(Path(path).name).decode(errors="replace")  # MLIR takes Unicode alone, names of files need not be
    parts = [name, table.device_name, str(entry.details.get("date", ""))[:10]]
    return ", ".join([*filter(None, parts), f"{round(entry.seconds * 1e6, 2):.8g} µs"])
