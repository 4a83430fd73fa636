"""Tiles of kernels: as an attribute of the IR and as text, which of them a problem can have, and all there are.

A tile is a record of its kernel family: `WgmmaTile` where operands come by TMA, else `MmaTile`; `ResidentTile`, with no
stages, where they stay in registers. In the IR it is the attribute `tile` of the operation, {alternate, columns =
256 : i64, rows = 64 : i64, …}: fields at their defaults are left out, and those that are switched on are units.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mlir import ir

from bitmlir.dialects import bit
from bitmlir.dialects.errors import InputError
from bitmlir.dialects.faults import tile_fault
from bitmlir.dialects.layout import ceil_div
from bitmlir.lowering.gpu.k_blocks import KBlocks
from bitmlir.lowering.gpu.mma_tile import MmaTile, mma_tile_fault, mma_tiles
from bitmlir.lowering.gpu.product import ProductProblem
from bitmlir.lowering.gpu.resident_tile import ResidentTile, resident_fault, resident_tiles
from bitmlir.lowering.gpu.top import list_registers
from bitmlir.lowering.gpu.wgmma_tile import (
    GROUP_ROWS,
    MOST_REGISTERS,
    SharedLayout,
    WgmmaTile,
    stackable,
    stationary_blocks,
    wgmma_placement,
)
from bitmlir.lowering.instructions import WGMMA_COLUMNS
from bitmlir.lowering.passes import fail
from bitmlir.lowering.targets import Target

__all__ = [
    "Fields",
    "Tile",
    "fault_of",
    "given_tile",
    "impossible",
    "make_tile",
    "parse_fields",
    "parse_tile",
    "read_fields",
    "tile_attribute",
    "tile_fields",
    "tile_text",
    "tiles",
]

Tile = WgmmaTile | MmaTile | ResidentTile
_LARGEST_FIELD = 4096
_WGMMA_EXAMPLE = "rows=64,columns=256,stages=4,alternate"
_RESIDENT_EXAMPLE = "rows=32,columns=16,warp_rows=16,warp_columns=16"
Fields = Mapping[str, int | bool]  # of a tile, without those at their defaults

# --- as fields, text and attribute ------------------------------------------------------------------


def make_tile(target: Target, fields: Fields) -> Tile:
    """The tile with these fields, of the target's kernel family.

    Raises:
        InputError: a field that such tiles do not have, one that is missing, or one that is not of its type.
    """
    family = _family(target, fields)
    known = {field.name: field for field in dataclasses.fields(family)}
    for name, value in fields.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else f": expected {', '.join(known)}"
            raise InputError(f"a tile for {target.name}{_kind(family)} has no field '{name}'{hint}")
        is_switch, came = known[name].type == "bool", type(value)
        if value is True and not is_switch:
            raise InputError(f"the field '{name}' of a tile needs a number, as in {_example(target, family)}")
        if came is not (bool if is_switch else int) or (not is_switch and not 0 <= value <= _LARGEST_FIELD):
            expected = "a switch" if is_switch else f"a whole number up to {_LARGEST_FIELD}"
            raise InputError(f"the field '{name}' of a tile must be {expected}, but is {value!r}")
    if missing := [n for n, field in known.items() if field.default is dataclasses.MISSING and n not in fields]:
        needs = f"needs its {' and '.join(missing)}, as in {_example(target, family)}"
        raise InputError(f"a tile for {target.name}{_kind(family)} {needs}")
    values: dict[str, Any] = dict(fields)
    return family(**values)


def _family(target: Target, fields: Fields) -> type[Tile]:
    """The kernel family that fields are for: tiles whose warps have parts, but that have no stages, are resident."""
    parts = {"warp_rows", "warp_columns"} & fields.keys()
    if parts and not (fields.keys() - {field.name for field in dataclasses.fields(ResidentTile)}):
        return ResidentTile
    if target.copy == "tma":
        return ResidentTile if parts and "stages" not in fields else WgmmaTile
    return MmaTile


def tile_fields(tile: Tile) -> dict[str, int | bool]:
    """The fields of a tile that are not at their defaults.

    Example:
        >>> tile_fields(WgmmaTile(64, 256, 4, alternate=True))
        {'rows': 64, 'columns': 256, 'stages': 4, 'alternate': True}
    """
    return {f.name: value for f in dataclasses.fields(tile) if (value := getattr(tile, f.name)) != f.default}


def tile_text(tile: Tile) -> str:
    """A tile as people write it, and `parse_fields` reads it.

    Example:
        >>> tile_text(WgmmaTile(64, 256, 4, alternate=True))
        'rows=64,columns=256,stages=4,alternate'
    """
    return ",".join(name if value is True else f"{name}={value}" for name, value in tile_fields(tile).items())


def parse_tile(target: Target, text: str) -> Tile:
    """The tile that a text names, of the target's kernel family.

    Raises:
        InputError: as `parse_fields` and `make_tile`.

    Example:
        >>> from bitmlir.lowering.targets import get_target
        >>> parse_tile(get_target("sm_90a"), "rows=64,columns=256,stages=4").columns
        256
    """
    return make_tile(target, parse_fields(text, _example(target)))


def _kind(family: type[Tile]) -> str:
    """What tells a family from the target's other one."""
    return " without stages" if family is ResidentTile else ""


def _example(target: Target, family: type[Tile] | None = None) -> str:
    """A tile of a kernel family, or of the target's main one, to show how one is written."""
    if family is ResidentTile:
        return _RESIDENT_EXAMPLE
    return _WGMMA_EXAMPLE if target.copy == "tma" else tile_text(mma_tiles(target)[0])


def parse_fields(text: str, example: str = _WGMMA_EXAMPLE) -> dict[str, int | bool]:
    """The fields that a text names; one without a value is a switch. Errors show the example.

    Raises:
        InputError: it is no list of NAME=NUMBER and NAME, or one has a name twice.

    Example:
        >>> parse_fields("rows=64,columns=256,stages=4,alternate")
        {'rows': 64, 'columns': 256, 'stages': 4, 'alternate': True}
    """
    fields: dict[str, int | bool] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*([a-z_]+)(?:\s*=\s*(\d+))?\s*", part)
        if match is None:
            raise InputError(f"a tile is written {example}, but here stands {part!r}")
        if match[1] in fields:
            raise InputError(f"the field '{match[1]}' of a tile is given twice")
        fields[match[1]] = True if match[2] is None else int(match[2])
    return fields


def tile_attribute(tile: Tile) -> ir.DictAttr:
    """The attribute for a tile."""
    i64 = ir.IntegerType.get_signless(64)
    return ir.DictAttr.get(
        {n: ir.UnitAttr.get() if v is True else ir.IntegerAttr.get(i64, v) for n, v in tile_fields(tile).items()}
    )


def read_fields(attribute: ir.Attribute) -> dict[str, int | bool]:
    """The fields in an attribute that `bit-verify` has found sound."""
    items = {item.name: item.attr for item in ir.DictAttr(attribute)}
    return {name: True if isinstance(v, ir.UnitAttr) else ir.IntegerAttr(v).value for name, v in items.items()}


# --- legality ---------------------------------------------------------------------------------------


def fault_of(problem: ProductProblem, tile: Tile) -> str | None:
    """Why a tile cannot be used for a problem; None if it can."""
    if fault := _result_fault(problem, tile):
        return fault
    if isinstance(tile, ResidentTile):
        return resident_fault(problem, tile)
    if isinstance(tile, MmaTile):
        return mma_tile_fault(tile, problem.target, len(problem.chains), _list_registers(problem, tile))
    return _wgmma_fault(problem, tile)


def _result_fault(problem: ProductProblem, tile: Tile) -> str | None:
    """Why the result cannot be cut into tiles, of whatever family."""
    if _too_many(problem, tile):
        return "the result would have more tiles than blocks can count in 31 bits"
    if problem.sum_columns is not None and _crosses_sums(tile, problem.sum_columns):
        return f"tiles must have whole runs of the {problem.sum_columns} columns that share a sum, or lie in one"
    return None


def _crosses_sums(tile: Tile, sum_columns: int) -> bool:
    """Whether what a thread works on has parts of runs of columns that share a sum."""
    columns = tile.columns if isinstance(tile, WgmmaTile) else tile.warp_columns
    return columns % sum_columns != 0 and sum_columns % columns != 0


_MOST_TILES = 1 << 31


def _too_many(problem: ProductProblem, tile: Tile) -> bool:
    rows, columns = problem.m, problem.covered_columns
    if isinstance(tile, WgmmaTile) and tile.swapped:
        rows, columns = columns, rows
    return ceil_div(rows, max(tile.rows, 1)) * ceil_div(columns, max(tile.columns, 1)) * problem.batch >= _MOST_TILES


def _list_registers(problem: ProductProblem, tile: WgmmaTile | MmaTile) -> int:
    """Registers that a thread needs for the lists of a search; a product has none."""
    if not isinstance(problem.op, bit.PlaneSearchOp):
        return 0
    in_turn = isinstance(tile, WgmmaTile) and tile.sharers > 1
    return list_registers(problem.op.count, tile.thread_rows, in_turn)


_OTHER_REGISTERS = 26  # what ptxas needs beside accumulators and lists


def _wgmma_fault(problem: ProductProblem, tile: WgmmaTile) -> str | None:
    if tile.rows not in (GROUP_ROWS, 2 * GROUP_ROWS, 3 * GROUP_ROWS) or tile.columns % 8 or not tile.columns:
        return f"rows must be {GROUP_ROWS}, {2 * GROUP_ROWS} or {3 * GROUP_ROWS}, and columns a multiple of 8"
    if min(tile.stages, tile.cluster, tile.band, tile.planes, tile.split) < 1 or tile.stages < 2:
        return "stages must be at least 2, and cluster, band, planes and split at least 1"
    try:
        registers = tile.accumulators
    except ValueError as error:
        return str(error)
    registers *= 1 if tile.planes > 1 else len(problem.chains)  # all are alive until the epilogue
    most = min((1 << 16) // tile.threads // 8 * 8, MOST_REGISTERS)
    lists = _list_registers(problem, tile)
    if registers + lists + _OTHER_REGISTERS > most:
        held = f"{registers} accumulators" + (f" and the lists of {tile.thread_rows} rows" if lists else "")
        return f"{tile.consumers} warp groups leave {most} registers a thread, too few for {held}: use smaller tiles"
    if tile.alternate and (tile.rows != GROUP_ROWS or tile.swapped):
        return f"warp groups that alternate have tiles of {GROUP_ROWS} rows, on sides that are not swapped"
    sparse = problem.sparse
    if tile.planes > 1 and (not tile.swapped or sparse or tile.planes != stackable(problem.chains)):
        return "planes side by side must be all planes of lhs, on swapped sides, without bitmaps"
    if tile.swapped and problem.packed:
        return "a packed result cannot be made on swapped sides"
    if problem.packed and tile.columns % 32:
        return "a packed result needs tiles of whole words"
    if problem.groups is not None and (tile.swapped or tile.cluster > 1):
        return "groups of rows need sides as they are and no clusters"
    if problem.window is not None and (tile.swapped or tile.cluster > 1):
        return "what a window sees needs sides as they are and no clusters"
    if tile.padded and not _padding_saves_copies(problem):
        return "taps are padded where that takes fewer copies than the pieces that divide a pixel"
    if tile.cluster not in (1, 2, 4):
        return f"a cluster has 1, 2 or 4 blocks, not {tile.cluster}"
    if tile.cluster > 1 and (sparse or tile.swapped or tile.columns // tile.cluster % 8):
        return "clusters need dense operands, sides as they are, and columns that divide into parts of 8"
    if tile.split > 1 and (fault := _split_fault(problem, tile, sparse)):
        return fault
    if tile.stationary and (fault := _stationary_fault(problem, tile, sparse)):
        return fault
    needed, room = SharedLayout.of(problem, tile).bytes, problem.target.shared_bytes
    if needed > room:
        return f"{needed} bytes of shared memory are needed, but a block has {room}"
    return None


def _padding_saves_copies(problem: ProductProblem) -> bool:
    """Whether what a window sees comes in fewer copies with padded taps."""
    padded, whole = KBlocks.of(problem, padded=True), KBlocks.of(problem)
    return problem.window is not None and padded.pieces < whole.pieces


def _split_fault(problem: ProductProblem, tile: WgmmaTile, sparse: bool) -> str | None:
    """Why K cannot be split."""
    if tile.split not in _SPLITS or tile.multiplying_warps % tile.split:
        return f"{tile.multiplying_warps} warps cannot be divided among {tile.split} blocks, of 2 or 4"
    if sparse or tile.cluster > 1 or tile.alternate or tile.rows > 2 * GROUP_ROWS:
        return "K is split for dense operands, up to 128 rows, without clusters and alternation"
    if tile.planes == 1 and len(problem.chains) > 1:
        return "K is split where the planes make up one sum, or lie side by side"
    if wgmma_placement(problem, tile).is_persistent:
        return (
            "K is split where the result has no more tiles than there are clusters of blocks at once: use larger tiles"
        )
    return None


# Columns of tiles: each needs a block, of which a persistent kernel is sure to have as many. Products of a tile, which
# are written out.
_MOST_COLUMNS, _MOST_STEPS = 8, 40


def _stationary_fault(problem: ProductProblem, tile: WgmmaTile, sparse: bool) -> str | None:
    """Why the columns' operand cannot stay in shared memory."""
    if sparse or problem.groups is not None or problem.is_batch or isinstance(problem.op, bit.PlaneSearchOp):
        return "the columns' operand stays for dense products of two matrices alone"
    if tile.swapped or tile.blocks > 1 or tile.band > 1:
        return "the columns' operand stays on sides as they are, without clusters, bands and splitting of K"
    place = wgmma_placement(problem, tile)
    if place.across > _MOST_COLUMNS or not place.is_persistent:
        return f"the columns' operand stays where blocks have several tiles, side by side no more than {_MOST_COLUMNS}"
    _, blocks = stationary_blocks(problem, tile)
    if sum(len(chain.pairs) for chain in problem.chains) * blocks > _MOST_STEPS:
        return f"the columns' operand stays for products of up to {_MOST_STEPS} steps"
    return None


def given_tile(problem: ProductProblem) -> Tile | None:
    """The tile that the operation asks for, if it does; one that cannot be is an error there."""
    op = problem.op
    if op.tile is None:
        return None
    if fault := tile_fault(op.tile):
        fail(op, fault)
    try:
        tile = make_tile(problem.target, read_fields(op.tile))
    except InputError as error:
        fail(op, str(error))
    if fault := fault_of(problem, tile):
        fail(op, impossible(tile, fault))
    return tile


def impossible(tile: Tile, fault: str) -> str:
    """What says that a tile cannot be used for a problem, with the rule that it breaks."""
    return f"the tile {tile_text(tile)} is not possible here: {fault}"


# --- all of them ------------------------------------------------------------------------------------

_BANDS = (8, 16, 4, 32, 1)  # what is mostly best comes first: of equals the first is taken
_MOST_STAGES = 12
_SPLITS = (2, 4)
_LEAST_STEPS = 2  # of a part of K


def tiles(problem: ProductProblem, fewer_stages: bool = True) -> Iterator[Tile]:
    """All tiles that are worth a thought for a problem, and legal: without stages, with as many as fit and, if asked,
    with fewer."""
    return (tile for tile in _tiles(problem, fewer_stages) if _result_fault(problem, tile) is None)


def _tiles(problem: ProductProblem, fewer_stages: bool) -> Iterator[Tile]:
    yield from resident_tiles(problem)
    if problem.target.copy != "tma":
        legal = (t for t in mma_tiles(problem.target) if fault_of(problem, t) is None)
        for tile, band in itertools.product(legal, _BANDS):
            if band == 1 or band < 2 * ceil_div(problem.m, tile.rows):
                yield dataclasses.replace(tile, band=band)
        return
    shapes = itertools.chain.from_iterable(_with_padding(problem, shape) for shape in _wgmma_shapes(problem))
    for shape in itertools.chain.from_iterable(_with_splits(problem, shape) for shape in shapes):
        most = _most_stages(problem, shape)
        # Few stages leave room for nothing else, as blocks have a multiprocessor each; they are there to compare with.
        counts = {most, most - 1, most // 2} if fewer_stages else {most}
        for stages in sorted(counts - {-1, 0, 1}, reverse=True):
            tile = dataclasses.replace(shape, stages=stages)
            place = wgmma_placement(problem, tile)
            if tile.alternate and place.tiles <= place.clusters:
                continue  # a block has a single tile
            bands = (1,) if tile.swapped or tile.stationary else _BANDS
            for band in (band for band in bands if band == 1 or band < 2 * place.down):
                yield dataclasses.replace(tile, band=band)


def _wgmma_shapes(problem: ProductProblem) -> Iterator[WgmmaTile]:
    """The distinct structures, with stages and band left open."""
    for columns in reversed(WGMMA_COLUMNS):
        if columns < 2 * ceil_div(problem.covered_columns, 8) * 8:
            yield from (
                WgmmaTile(rows, columns, 2, cluster, alternate=alternate)
                for (rows, alternate), cluster in itertools.product(
                    ((64, True), (128, False), (192, False), (64, False)), (1, 2)
                )
                if rows == GROUP_ROWS or rows * cluster < 2 * problem.m
            )
            yield from (
                WgmmaTile(rows, columns, 2, alternate=alternate, stationary=True)
                for rows, alternate in ((64, True), (128, False), (64, False))
            )
        if problem.window is not None:
            continue
        height = ceil_div(problem.m, 8) * 8
        for planes, rows in itertools.product(sorted({1, stackable(problem.chains)}, reverse=True), (64, 128, 192)):
            # The rows' operand is read anew for every tile of columns: there should be few.
            if columns < 2 * height and 4 * columns >= min(height, WGMMA_COLUMNS[-1] // planes):
                yield WgmmaTile(rows, columns, 2, swapped=True, planes=planes)


def _with_padding(problem: ProductProblem, shape: WgmmaTile) -> Iterator[WgmmaTile]:
    """A shape, and with padded taps if that saves copies."""
    yield shape
    if _padding_saves_copies(problem):
        yield dataclasses.replace(shape, padded=True)


def _with_splits(problem: ProductProblem, shape: WgmmaTile) -> Iterator[WgmmaTile]:
    """A shape, and with K split among blocks that would have nothing to do."""
    yield shape
    place, k_blocks = wgmma_placement(problem, shape), KBlocks.of(problem, shape.padded).count
    for split in _SPLITS:
        if place.tiles * split <= problem.target.multiprocessors and _LEAST_STEPS * split <= k_blocks:
            yield dataclasses.replace(shape, split=split)


def _most_stages(problem: ProductProblem, shape: WgmmaTile) -> int:
    """How many stages fit; 0 if the shape is not legal for other reasons."""
    if _wgmma_fault(problem, shape) is not None:
        return 0
    spare = problem.target.shared_bytes - SharedLayout.of(problem, shape).bytes
    most = min(_MOST_STAGES, shape.stages + spare // shape.stage_bytes)
    # Barriers and padding take a little too.
    fits = SharedLayout.of(problem, dataclasses.replace(shape, stages=most)).bytes <= problem.target.shared_bytes
    return most if fits else most - 1
