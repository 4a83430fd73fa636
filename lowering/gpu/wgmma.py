"""Plane products by wgmma on Hopper: TMA fills a ring of tiles in shared memory, one warp group issues the copies, the
others multiply. Blocks are persistent, one a multiprocessor: the producer fills the ring for the next output tile while
the consumers store the last one.

    producer (one thread)               stagers (two warps)             consumers (warp groups)
    for each output tile of the block   for each output tile            for each output tile
        for each plane product              wait for an empty stage         for each plane product, each step
            for each step                   what the body reads by row          wait until the stage is full
                wait for an empty stage     or by column alone, to              wgmma on 64 rows
                TMA boxes of lhs and rhs    shared memory                       release the stage before
                                                                            wait for what was staged
                                                                            the body on the thread's elements
                                                                            shared memory, TMA: the result

Warp groups either share a tile, 64 rows each, and run the body in turns, so that one stores while the next computes. Or
they alternate: each takes every other tile, and multiplies while the other runs the body. Where TMA cannot store a
result, because of its shape or type, threads do.

A stage row is a block of K (see `bitmlir.lowering.gpu.k_blocks`): 128 bytes, or 64 or 32 where K is that short,
swizzled by TMA over atoms of 8 rows as wgmma's descriptors expect. Blocks of a cluster take tiles one below the other:
they share the columns, of which each brings its part to all. Or they take the same tile, and parts of K (see
`bitmlir.lowering.gpu.split`).
Source: PTX ISA, sections on wgmma.mma_async (matrix descriptor, register fragments) and cp.async.bulk.tensor.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

from mlir import ir
from mlir.dialects import arith, llvm, nvvm

from bitmlir.dialects.layout import BITS_PER_WORD, ceil_div
from bitmlir.dialects.window import Window
from bitmlir.lowering.elements import Chain, Elements, Grid, chains_of
from bitmlir.lowering.emit import Scalar, const, for_loop, i16, i32, if_else, if_then, select
from bitmlir.lowering.gpu.bulk_store import BulkStore
from bitmlir.lowering.gpu.cluster import (
    arrive_at,
    meet_cluster,
    seen_by_cluster,
)
from bitmlir.lowering.gpu.k_blocks import KBlocks
from bitmlir.lowering.gpu.matrices import Dealing, Place, Placement
from bitmlir.lowering.gpu.memory import (
    SHARED,
    Box,
    Kernel,
    barrier,
    block_index,
    element_bytes,
    kernel_function,
    offset,
    overlap_launches,
    shared_memory,
    thread_index,
)
from bitmlir.lowering.gpu.product import BLOCK_BYTES, Link, ProductProblem, continued, for_each_link
from bitmlir.lowering.gpu.ring import Position, Ring, Turns, wait_for_phase
from bitmlir.lowering.gpu.split import PartialSums
from bitmlir.lowering.gpu.steps import Steps
from bitmlir.lowering.gpu.thread_tile import PAIR, ThreadTile, group_pairs, ungroup_pairs
from bitmlir.lowering.gpu.warp_group import (
    GROUP_THREADS,
    GROUP_WARPS,
    accumulator_type,
    descriptor,
    issue_wgmma,
    join_registers,
    set_registers,
    split_registers,
    wait_for_groups,
)
from bitmlir.lowering.gpu.wgmma_tile import (
    SharedLayout,
    StageSide,
    WgmmaTile,
    cleared,
    padding_words,
    stage_sides,
    stationary_blocks,
    stored_in_bulk,
    wgmma_placement,
)
from bitmlir.lowering.instructions import LANES, LANES_PER_ROW, MmaInstruction, wgmma
from bitmlir.lowering.windows import place_in_image

__all__ = ["build_wgmma_kernel"]

_STAGERS = 2 * LANES  # the second and third warp of the producer's group
_MOST_HELD = 160  # registers of sums and of what is read for each element


def build_wgmma_kernel(module: ir.Block, name: str, problem: ProductProblem, tile: WgmmaTile) -> Kernel:
    """Emit the kernel into a `gpu.module`'s block and say how it is launched."""
    arguments = problem.arguments()
    if arguments.count(problem.op.lhs) == 1 and problem.op.lhs == problem.op.rhs:
        arguments = (problem.op.lhs, *arguments)  # x·xᵀ: two maps over one buffer
    boxes: dict[int, Box] = {}
    taps = problem.window.taps if problem.window is not None and tile.padded else None
    filters = ir.MemRefType(problem.op.rhs.type).shape
    by_tap = None if taps is None else (*filters[:-1], taps, filters[-1] // taps)
    for side in stage_sides(problem, tile):
        words = side.row_bytes * 8 // BITS_PER_WORD
        if problem.window is not None and side.operand == 0:
            boxes[0] = Box((words, side.rows), problem.op.window)
            continue
        tap = () if taps is None else (1,)
        matrices = (1,) * (ir.MemRefType(arguments[side.operand].type).rank - 3)  # one of a batch
        boxes[side.operand] = Box((words, *tap, side.copied, *matrices, side.planes // side.copies), shape=by_tap)
    if (numbers := stored_in_bulk(problem, tile)) is not None:
        element = element_bytes(ir.MemRefType(numbers.type).element_type)
        boxes[arguments.index(numbers)] = Box(BulkStore.box(element))
    place = wgmma_placement(problem, tile)
    layout = SharedLayout.of(problem, tile)

    def emit(*pointers: ir.Value) -> None:
        _Emitter(problem, tile, place, layout, module, arguments, pointers).emit()

    with ir.InsertionPoint(module):
        kernel_function(name, tile.threads, arguments, boxes, emit, tile.blocks)
    grid, persistent = (place.tiles * tile.blocks, 1, 1), 1 if place.is_persistent else None
    zeroed = cleared(problem, tile)
    return Kernel(name, grid, tile.threads, layout.bytes, arguments, boxes, zeroed, True, persistent, tile.blocks)


@dataclass(frozen=True)
class _OutputTile:
    """Where an output tile begins, as the instruction sees it: down the rows' operand, across the columns'; and of
    which product it is."""

    down: Scalar
    across: Scalar
    place: Place


@dataclass(frozen=True)
class _Progress:
    """How far a role has come: its positions in the ring and in that of staged values, and whether the number of tiles
    it has done is odd."""

    ring: Position
    staged: Position
    parity: Scalar


class _Emitter:
    """One kernel while it is emitted."""

    def __init__(
        self,
        problem: ProductProblem,
        tile: WgmmaTile,
        place: Placement,
        layout: SharedLayout,
        module: ir.Block,
        arguments: tuple[ir.Value, ...],
        pointers: tuple[ir.Value, ...],
    ) -> None:
        self.problem, self.tile, self.place, self.layout = problem, tile, place, layout
        self.blocks = KBlocks.of(problem, tile.padded)
        self.maps = pointers[:2]
        self.pointers = dict(zip(arguments, pointers, strict=True))
        self.mma: MmaInstruction = wgmma(tile.instruction_columns)
        self.shared = shared_memory(module)
        self.thread = thread_index()
        self.group = self.thread // GROUP_THREADS - 1  # among those that multiply
        offsets = None if problem.op.offsets is None else self.pointers[problem.op.offsets]
        self.dealing = Dealing(problem, place, tile.rows, offsets)
        self.rank = block_index() % tile.blocks if tile.blocks > 1 else const(0)
        chains = chains_of(problem.op.body)
        self.chains = chains[:1] if tile.planes > 1 else chains  # one stands for all that lie side by side
        self.ring = Ring(self.shared, layout.ring, tile.stages, 1, tile.sharers * tile.cluster)
        self.turns = Turns(self.shared, layout.turns, tile.consumers, GROUP_WARPS if tile.alternate else GROUP_THREADS)
        warps, registers = tile.multiplying_warps, tile.accumulators
        self.partial_sums = PartialSums(self.shared, layout.partial_sums, tile.split, warps, registers)
        self.staging = layout.staging
        self.staged_ring = Ring(
            self.shared, layout.staged_ring, tile.staged_tiles, _STAGERS, tile.sharers * GROUP_THREADS
        )
        self.stays = offset(self.shared, layout.stays_barrier, SHARED)  # which says that what stays is there

    def emit(self) -> None:
        registers = self.tile.registers
        self._initialise_barriers()
        overlap_launches(self.pointers.values())

        def feed() -> None:
            if registers is not None:
                set_registers(registers[0], nvvm.SetMaxRegisterAction.decrease)
            if_then(self.thread.equals(0), self._produce)
            if self.staging.values:
                warps = (self.thread >= LANES) & (self.thread < LANES + _STAGERS)
                if_then(warps, self._stage)

        def consume() -> None:
            if registers is not None:
                set_registers(registers[1], nvvm.SetMaxRegisterAction.increase)
            self._consume()

        if_else(self.thread < GROUP_THREADS, feed, consume)
        if self.tile.cluster > 1:
            meet_cluster()  # no block leaves while another may still write to it

    def _initialise_barriers(self) -> None:
        def initialise() -> None:
            self.ring.initialise()
            nvvm.mbarrier_init(offset(self.shared, self.layout.nothing, SHARED), const(self.ring.readers).value)
            self.turns.initialise()
            if self.tile.stationary:
                nvvm.mbarrier_init(self.stays, const(1).value)
            if self.staging.values:
                self.staged_ring.initialise()
            if self.tile.split > 1:
                self.partial_sums.initialise()
            nvvm.fence_mbarrier_init()
            for tensor_map in self.maps:
                nvvm.prefetch(tensor_map, tensormap=True)

        if_then(self.thread.equals(0), initialise)
        barrier()
        if self.tile.blocks > 1:
            meet_cluster(releases=False)  # all threads at once: compute-sanitizer hangs where they wait in branches

    def _for_each_tile(
        self, first: Position, body: Callable[[_OutputTile, _Progress], Position], alternate: bool = False
    ) -> None:
        """Emit body for the block's output tiles in turn, or for every other one; it returns the next position in the
        ring. `first` is where the role begins in both rings."""
        tile, place = self.tile, self.place
        cluster = block_index() // tile.blocks
        stride, staged_first = place.stride(tile.blocks), first
        if tile.stationary:  # tiles of one column; blocks that are too many for that have none
            stride = stride // place.across * place.across
            cluster = select(cluster < stride, cluster, self.dealing.count())
        if alternate:  # the second group begins with the second tile
            second = self.group.equals(1)
            skipped = self._skip(self._tile(cluster), first)
            staged_skipped = self.staged_ring.after(first)
            first, staged_first = (
                Position(select(second, b.stage, a.stage), select(second, b.phase, a.phase))
                for a, b in ((first, skipped), (first, staged_skipped))
            )
            cluster = cluster + self.group * stride

        def visit(number: Scalar, carried: list[ir.Value]) -> list[ir.Value]:
            progress = _Progress(Position.of(carried[:2]), Position.of(carried[2:4]), Scalar(carried[4]))
            at, staged_at = body(self._tile(number), progress), self.staged_ring.after(progress.staged)
            if alternate:
                at, staged_at = self._skip(self._tile(number + stride), at), self.staged_ring.after(staged_at)
            return [*at.carried, *staged_at.carried, (progress.parity ^ 1).value]

        carried = [*first.carried, *staged_first.carried, const(0).value]
        for_loop(cluster, self.dealing.count(), stride * 2 if alternate else stride, carried, visit)

    def _tile(self, number: Scalar) -> _OutputTile:
        place = self.dealing.locate(number)
        row = place.row
        if self.tile.cluster > 1:
            row = row * self.tile.cluster + self.rank
        return _OutputTile(place.row_at(row * self.tile.rows), place.column * self.tile.columns, place)

    def _parts(self, tile: _OutputTile) -> dict[str, tuple[Scalar, int]]:
        """Where the tile begins and how much it covers, by axis of the result."""
        return {
            self.tile.axis("rows"): (tile.down, self.tile.rows),
            self.tile.axis("columns"): (tile.across, self.tile.columns),
        }

    def _skip(self, tile: _OutputTile, at: Position) -> Position:
        """The position in the ring behind a tile that another warp group takes."""
        for chain in self.chains:
            steps = self._steps(chain, tile)
            at = self.ring.after(at, steps.count(const(0), const(len(chain.pairs))))
        return at

    def _steps(self, chain: Chain, tile: _OutputTile) -> Steps:
        parts = self._parts(tile)
        part = (self.rank, self.tile.split) if self.tile.split > 1 else None
        return self.problem.steps(chain, self.pointers, parts["row"], parts["column"], self.blocks.count, part)

    # --- producer ---

    def _bring_what_stays(self) -> None:
        """Bring the columns' operand of all the block's tiles: plane after plane, K block after K block."""
        planes, blocks = stationary_blocks(self.problem, self.tile)
        _, side = stage_sides(self.problem, self.tile)
        nvvm.mbarrier_arrive_expect_tx(None, self.stays, const(planes * blocks * side.copied_bytes).value)
        first = self._tile(block_index() % self.place.across)

        def bring(number: Scalar, carried: list[ir.Value]) -> list[ir.Value]:
            start = number * (self.tile.columns * side.row_bytes) + self.layout.stays
            plane = number // blocks
            self._copy_side(side, self.stays, start, first.place, [plane, plane], number % blocks, first.across)
            return carried

        for_loop(const(0), const(planes * blocks), const(1), [], bring)

    def _produce(self) -> None:
        if self.tile.stationary:
            self._bring_what_stays()

        def produce_tile(tile: _OutputTile, progress: _Progress) -> Position:
            at = progress.ring
            for chain in self.chains:
                steps = self._steps(chain, tile)
                count = steps.count(const(0), const(len(chain.pairs)))

                def step(_: Scalar, carried: list[ir.Value], steps: Steps = steps) -> list[ir.Value]:
                    here = Position.of(carried[:2])
                    self._copy_stage(tile, here, steps.position(carried[2:]))
                    return [*self.ring.after(here).carried, *steps.next(carried[2:])]

                at = Position.of(for_loop(const(0), count, const(1), [*at.carried, *steps.first()], step)[:2])
            return at

        self._for_each_tile(self.ring.filling(), produce_tile)

    def _copy_stage(self, tile: _OutputTile, at: Position, position: tuple[Scalar, Scalar, Scalar]) -> None:
        *planes, block = position
        full = self.ring.full(at.stage)
        self.ring.wait_empty(at)
        rows, columns = stage_sides(self.problem, self.tile)
        pieces = self._pieces_left(rows, block)
        copied = pieces * rows.copied_bytes
        if not self.tile.stationary:
            copied = copied + columns.copied_bytes * self.tile.cluster
        nvvm.mbarrier_arrive_expect_tx(None, full, (const(copied) if isinstance(copied, int) else copied).value)
        first = self.rank * columns.rows if self.tile.cluster > 1 else const(0)  # of this block's part
        everyone = const((1 << self.tile.cluster) - 1, i16()).value if self.tile.cluster > 1 else None
        start = at.stage * self.tile.stage_bytes
        if self.problem.window is None:
            self._copy_side(rows, full, start, tile.place, planes, block, tile.down)
        else:
            self._gather(self.problem.window, rows, full, start, planes[rows.operand], block, pieces, tile.down)
        if self.tile.stationary:
            return
        start = start + first * columns.row_bytes + self.tile.rows * BLOCK_BYTES
        self._copy_side(columns, full, start, tile.place, planes, block, tile.across + first, everyone)

    def _copy_side(
        self,
        side: StageSide,
        full: ir.Value,
        start: Scalar,
        place: Place,
        planes: list[Scalar],
        block: Scalar,
        row: Scalar,
        blocks: ir.Value | None = None,
    ) -> None:
        """Bring a K block of rows, to this block or to some of the cluster."""
        matrix = [place.number] if self._is_batch(side.operand) else []
        for plane in range(side.copies):
            to = start + plane * side.rows * side.row_bytes
            places = [*self._place_in_row(block), row, *matrix, planes[side.operand] + plane]
            nvvm.cp_async_bulk_tensor_shared_cluster_global(
                seen_by_cluster(offset(self.shared, to, SHARED)),
                self.maps[side.operand],
                [place.value for place in places],
                full,
                [],
                multicast_mask=blocks,
            )

    def _place_in_row(self, block: Scalar) -> list[Scalar]:
        """Where a K block begins in a row: at which word, or of a row of padded taps at which word of which tap."""
        if not self.tile.padded:
            return [block * self.blocks.step_words]
        return [block % self.blocks.of_part * self.blocks.step_words, block // self.blocks.of_part]

    def _pieces_left(self, side: StageSide, block: Scalar) -> Scalar | int:
        """Pieces of a row that a K block has: the last one may have fewer."""
        whole = self.blocks.pieces
        if side.pieces == 1 or whole % side.pieces == 0:
            return side.pieces
        return (const(whole) - block * side.pieces).minimum(side.pieces)

    def _gather(
        self,
        window: Window,
        side: StageSide,
        full: ir.Value,
        start: Scalar,
        plane: Scalar,
        block: Scalar,
        pieces: Scalar | int,
        first: Scalar,
    ) -> None:
        """Bring a K block of what the window sees at places from the first on, piece by piece."""
        image, y, x = place_in_image(window, first)
        step = self.blocks.piece_step
        of_pixel = ceil_div(self.problem.row_bytes // window.taps, step)
        images = ir.MemRefType(self.problem.op.lhs.type).shape[1] // window.pixels
        corner = [x * window.columns.stride - window.columns.before, y * window.rows.stride - window.rows.before]
        mode = ir.Attribute.parse("#nvvm.tma_load_mode<im2col>")
        for number in range(side.pieces):
            piece = block * side.pieces + number
            tap = piece // of_pixel
            r, s = tap // window.columns.taps, tap % window.columns.taps
            places = [piece % of_pixel * (step * 8 // BITS_PER_WORD), *corner, plane * images + image]
            distances = [s * window.columns.dilation, r * window.rows.dilation]

            def copy(number: int = number, places: list[Scalar] = places, distances: list[Scalar] = distances) -> None:
                to = start + number * side.rows * side.row_bytes
                nvvm.cp_async_bulk_tensor_shared_cluster_global(
                    seen_by_cluster(offset(self.shared, to, SHARED)),
                    self.maps[side.operand],
                    [place.value for place in places],
                    full,
                    [arith.trunci(i16(), distance.value) for distance in distances],
                    mode=mode,
                )

            if_then(None if number == 0 or isinstance(pieces, int) else const(number) < pieces, copy)

    def _is_batch(self, operand: int) -> bool:
        """Whether lhs (0) or rhs (1) is a batch of matrices."""
        planes = (self.problem.op.lhs, self.problem.op.rhs)[operand]
        return ir.MemRefType(planes.type).rank == 4

    # --- stagers ---

    def _stage(self) -> None:
        """Compute what the body reads by row or by column alone, tile after tile."""
        thread = self.thread - LANES
        axes = {self.tile.axis("rows"): (self.tile.rows, 1), self.tile.axis("columns"): (self.tile.columns, PAIR)}

        def stage_tile(tile: _OutputTile, progress: _Progress) -> Position:
            at = progress.staged
            self.staged_ring.wait_empty(at)

            def elements(axis: str, index: Scalar) -> Elements:
                down, across = (index, const(0)) if axis == self.tile.axis("rows") else (const(0), index)
                return Elements(self.problem.op.body, self._thread_tile(tile, down, [0], across, [0]))

            self.staging.fill(axes, thread, _STAGERS, elements, at.stage, self._staged)
            nvvm.mbarrier_arrive(None, self.staged_ring.full(at.stage))
            return progress.ring

        self._for_each_tile(self.ring.filling(), stage_tile)

    @property
    def _staged(self) -> ir.Value:
        return offset(self.shared, self.layout.staged, SHARED)

    def _thread_tile(
        self, tile: _OutputTile, down: Scalar, down_offsets: list[int], across: Scalar, across_offsets: list[int]
    ) -> ThreadTile:
        """The elements at these places of the tile, as the result has them."""
        height, width = self.tile.rows * self.tile.cluster, self.tile.columns
        sides = [(tile.down + down, down_offsets), (tile.across + across, across_offsets)]
        (row, row_offsets), (column, column_offsets) = reversed(sides) if self.tile.swapped else sides
        bounds = (width, height) if self.tile.swapped else (height, width)
        return ThreadTile(
            self.problem.op,
            self.pointers,
            row,
            row_offsets,
            column,
            column_offsets,
            tile.across,
            self.thread % LANES_PER_ROW,
            self.problem.row_bound(bounds[0]) if tile.place.end_row is None else tile.place.end_row,
            self.problem.n if self.problem.n % bounds[1] else None,
            tile.place.number,
            paired=self.tile.axis("columns"),
            padding=(padding_words(self.problem, self.tile), self._ends_rows(tile)),
            is_whole=not cleared(self.problem, self.tile),
            reads_early=self._reads_early,
        )

    @property
    def _reads_early(self) -> bool:
        """Whether registers are left for what is read for each element beside sums and what is computed from them."""
        arrays = (ir.MemRefType(array.type) for array in self.problem.read_by_element)
        bytes_ = self.tile.accumulators * sum(element_bytes(array.element_type) for array in arrays)
        return self.tile.accumulators + bytes_ // 4 <= _MOST_HELD

    def _ends_rows(self, tile: _OutputTile) -> Scalar | None:
        """Whether a tile has the last columns; None if all do."""
        last = self.place.across - 1
        return None if last == 0 else tile.across.equals(last * self.tile.columns)

    # --- consumers ---

    def _consume(self) -> None:
        if self.tile.stationary:
            wait_for_phase(self.stays, const(0))
        self._for_each_tile(self.ring.reading(), self._consume_tile, self.tile.alternate)

    def _consume_tile(self, tile: _OutputTile, progress: _Progress) -> Position:
        layout, parity = self.mma.accumulator, progress.parity
        at, staged_at = progress.ring, progress.staged
        lane, warp = self.thread % LANES, self.thread // LANES % GROUP_WARPS
        part = const(0) if self.tile.alternate else self.group * self.mma.m  # of the tile's rows
        warp_row = part + warp * layout.warp_rows
        places = {
            self.tile.axis("rows"): (warp_row + lane // LANES_PER_ROW, list(layout.row_offsets), None),
            self.tile.axis("columns"): (lane % LANES_PER_ROW * layout.lane_columns, self._column_offsets, PAIR),
        }
        grids: list[Grid] = []

        def multiply(chain: Chain, acc: Grid | None) -> Grid:
            nonlocal at
            if not grids:
                if self.tile.alternate:
                    self.turns.wait(self.group, parity)
                grid, at = self._multiply(chain, acc, tile, at)
                grids.extend(self._split_planes(grid))
            return grids.pop(0)

        def ready() -> None:
            if self.staging.values:
                self.staged_ring.wait_full(staged_at)
            if self.tile.sharers > 1:
                self.turns.wait(self.group, parity)

        def read_staged(value: ir.Value, axis: str, slot: int) -> ir.Value | None:
            index, offsets, lanes = places[axis]
            return self.staging.load(value, staged_at.stage, index, offsets[slot], lanes, self._staged)

        bulk = None
        if (out := stored_in_bulk(self.problem, self.tile)) is not None:
            buffers = (warp + self.group * GROUP_WARPS if self.tile.alternate else warp) * BulkStore.BYTES
            shared = offset(self.shared, buffers + self.layout.results, SHARED)
            element = element_bytes(ir.MemRefType(out.type).element_type)
            first = (tile.down + warp_row, tile.across)
            bulk = BulkStore(self.pointers[out], shared, lane, *first, element, tile.place.number)
        (down, down_offsets, _), (across, across_offsets, _) = places.values()
        thread_tile = self._thread_tile(tile, down, down_offsets, across, across_offsets)
        finishes = self.partial_sums.owns(self.rank, self._warp) if self.tile.split > 1 else None
        replace(thread_tile, multiply=multiply, read_staged=read_staged, bulk=bulk, finishes=finishes).store(ready)
        if self.tile.sharers > 1:
            self._pass_turn()
        if self.staging.values:
            nvvm.mbarrier_arrive(None, self.staged_ring.empty(staged_at.stage))
        return at

    @property
    def _column_offsets(self) -> list[int]:
        """Where the lane's pairs of columns lie, for one plane."""
        return [column for column in self.mma.accumulator.column_offsets[::PAIR] if column < self.tile.columns]

    def _split_planes(self, grid: Grid) -> list[Grid]:
        """The grids of the planes that lie side by side, turned as the result has them."""
        width = len(grid[0]) // self.tile.planes
        grids = [[row[i * width : (i + 1) * width] for row in grid] for i in range(self.tile.planes)]
        return list(map(_turned, grids)) if self.tile.swapped else grids

    def _pass_turn(self) -> None:
        # Groups that share buffers pass them on thread by thread; those that alternate just keep out of the way.
        leads = (self.thread % LANES).equals(0) if self.tile.alternate else None
        if_then(leads, lambda: self.turns.pass_on(self.group))

    def _multiply(self, chain: Chain, acc: Grid | None, tile: _OutputTile, at: Position) -> tuple[Grid, Position]:
        """The chain's products on top of acc; the accumulators travel as one struct of registers."""
        if self.tile.stationary:
            return self._multiply_stationary(chain, acc, at)
        steps = self._steps(chain, tile)
        last_chain = self.tile.alternate and chain == self.chains[-1]
        address = Scalar(llvm.ptrtoint(i32(), self.shared))
        width, piece = self.blocks.width, self.blocks.piece

        def step(_: Scalar, carried: list[ir.Value]) -> list[ir.Value]:
            accumulators, here, before = carried[0], Position.of(carried[1:3]), carried[3]
            self.ring.wait_full(here)
            start = address + here.stage * self.tile.stage_bytes
            part = const(0) if self.tile.alternate else self.group * (self.mma.m * piece)
            lhs = descriptor(start + part, piece, self.tile.rows * piece)
            rhs = descriptor(start + self.tile.rows * BLOCK_BYTES, width)
            nvvm.wgmma_fence_aligned()
            for depth in self.blocks.depths():
                accumulators = issue_wgmma(self.mma, accumulators, lhs + self._lhs_units(depth), rhs + (depth >> 4))
            nvvm.wgmma_commit_group_sync_aligned()
            wait_for_groups(1)  # the step before is done, so its stage can be filled again
            self._release(before)
            return [accumulators, *self.ring.after(here).carried, self.ring.empty(here.stage)]

        def run_link(link: Link, carried: list[ir.Value]) -> list[ir.Value]:
            accumulators, *at = carried
            if link.shift is not None or link.negate is not None:
                registers = split_registers(self.mma, accumulators)
                accumulators = join_registers(self.mma, continued(registers, link.shift, link.negate))
            # The first step has none before it: it arrives at a barrier that nobody waits for. A condition in its place
            # would make LLVM peel off the first iteration, and double the code.
            nothing = offset(self.shared, self.layout.nothing, SHARED)
            count = steps.count(link.first_pair, link.pairs)
            accumulators, *at, last = for_loop(const(0), count, const(1), [accumulators, *at, nothing], step)
            if last_chain and len(chain.links) == 1:
                self._pass_turn()  # the next group's products queue up behind these
            wait_for_groups(0)
            self._release(last)
            return [accumulators, *at]

        slots = self.mma.accumulator.slots
        initial = llvm.mlir_zero(accumulator_type(self.mma))
        if acc is not None:
            given = ungroup_pairs(_turned(acc) if self.tile.swapped else acc, slots)
            if self.tile.split > 1:  # one block brings in what the products are added to
                given = [select(self.rank.equals(0), Scalar(value), 0).value for value in given]
            initial = join_registers(self.mma, given)
        accumulators, *carried = for_each_link(chain, [initial, *at.carried], run_link)
        if last_chain and len(chain.links) > 1:
            self._pass_turn()
        registers = split_registers(self.mma, accumulators)
        if self.tile.split > 1:
            registers = self.partial_sums.add_up(registers, self.rank, self._warp, self.thread % LANES)
        return group_pairs(registers, slots), Position.of(carried)

    def _multiply_stationary(self, chain: Chain, acc: Grid | None, at: Position) -> tuple[Grid, Position]:
        """As `_multiply`, where the columns' operand stays: its place is known for every step, and so is K's end."""
        width, piece = self.blocks.width, self.blocks.piece
        address, slots = Scalar(llvm.ptrtoint(i32(), self.shared)), self.mma.accumulator.slots
        _, blocks = stationary_blocks(self.problem, self.tile)
        part = const(0) if self.tile.alternate else self.group * (self.mma.m * piece)
        accumulators = llvm.mlir_zero(accumulator_type(self.mma))
        if acc is not None:
            accumulators = join_registers(self.mma, ungroup_pairs(acc, slots))
        before: ir.Value | None = None

        def finish() -> None:
            nonlocal before
            wait_for_groups(0)
            if before is not None:
                self._release(before)
            before = None

        for link in chain.links:
            if (link.shift or link.negate) and (acc is not None or link is not chain.links[0]):
                finish()
                shift, negate = const(link.shift) if link.shift else None, const(1) if link.negate else None
                accumulators = join_registers(
                    self.mma, continued(split_registers(self.mma, accumulators), shift, negate)
                )
            for (_, plane), block in itertools.product(link.pairs, range(blocks)):
                self.ring.wait_full(at)
                stays = self.layout.stays + (plane * blocks + block) * self.tile.columns * width
                lhs = descriptor(address + at.stage * self.tile.stage_bytes + part, piece, self.tile.rows * piece)
                rhs = descriptor(address + stays, width)
                nvvm.wgmma_fence_aligned()
                for depth in self.blocks.depths(block):
                    accumulators = issue_wgmma(self.mma, accumulators, lhs + self._lhs_units(depth), rhs + (depth >> 4))
                nvvm.wgmma_commit_group_sync_aligned()
                if before is not None:
                    wait_for_groups(1)
                    self._release(before)
                before, at = self.ring.empty(at.stage), self.ring.after(at)
        if self.tile.alternate and chain == self.chains[-1]:
            self._pass_turn()
        finish()
        return group_pairs(split_registers(self.mma, accumulators), slots), at

    def _lhs_units(self, depth: int) -> int:
        """How far the rows' operand lies in a stage from so many bytes of K on, as descriptors count: by 16 bytes."""
        piece = self.blocks.piece
        return (depth // piece * (self.tile.rows * piece) + depth % piece) >> 4

    @property
    def _warp(self) -> Scalar:
        """The warp's number among those that multiply."""
        return self.thread // LANES - GROUP_WARPS

    def _release(self, barrier_address: ir.Value) -> None:
        """Let one thread of the warp group arrive for all of them, in each block of the cluster."""
        thread = self.thread % GROUP_THREADS
        if self.tile.cluster == 1:
            if_then(thread.equals(0), lambda: nvvm.mbarrier_arrive(None, barrier_address))
            return

        if_then(thread < self.tile.cluster, lambda: arrive_at(barrier_address, thread))


def _turned(grid: Grid) -> Grid:
    """Rows as columns: between the result and the instruction on swapped sides."""
    return [list(row) for row in zip(*grid, strict=True)]
