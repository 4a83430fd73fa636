"""Plane products by mma.sync: persistent blocks, some of whose warps copy while the others multiply.

    producers                                   consumers (a warp for each part of the tile)
    for each output tile of the block           for each output tile
        for each plane product, each step           for each plane product, each step
            wait for an empty stage                     wait until the stage is full
            copy rows of lhs and rhs                    ldmatrix, mma.sync on the warp's part
        what the body reads by row or by                release the stage
        column alone, to shared memory              the body on the thread's elements, stores

Warps meet in a ring of stages in shared memory alone, so that storing one output tile overlaps multiplying and copying
the next. Copies are cp.async, or loads and stores on sm_75. Rows of a stage are 128 bytes, so that 16-byte chunk c of
row r lies at chunk c xor r % 8: ldmatrix and the copies are free of bank conflicts. Rows of rhs are in an order that
lets lanes store several neighbouring columns at once (see `bitmlir.lowering.gpu.column_order`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mlir import ir
from mlir.dialects import arith, nvvm, scf

from bitmlir.dialects.layout import TILE_BITS
from bitmlir.lowering.elements import Chain, Elements, Grid
from bitmlir.lowering.emit import Scalar, const, for_loop, i32, if_else, if_then, select
from bitmlir.lowering.gpu.column_order import ColumnOrder
from bitmlir.lowering.gpu.copies import CHUNK_BYTES, CHUNKS, Chunk, copy_async, copy_through_registers
from bitmlir.lowering.gpu.gathering import SeenRow, seen_chunk, seen_row
from bitmlir.lowering.gpu.matrices import Dealing, Place, Placement
from bitmlir.lowering.gpu.memory import (
    GLOBAL,
    SHARED,
    Kernel,
    barrier,
    block_index,
    kernel_function,
    offset,
    overlap_launches,
    shared_memory,
    struct_elements,
    thread_index,
)
from bitmlir.lowering.gpu.mma_tile import LDMATRIX_CORES, MmaLayout, MmaTile, group_rows, mma_placement
from bitmlir.lowering.gpu.product import BLOCK_BYTES, Link, ProductProblem, continued, for_each_link
from bitmlir.lowering.gpu.ring import Position
from bitmlir.lowering.gpu.staging import STAGED_TILES
from bitmlir.lowering.gpu.steps import Steps
from bitmlir.lowering.gpu.thread_tile import PAIR, ThreadTile, group_pairs, ungroup_pairs
from bitmlir.lowering.gpu.warp_mma import WarpPart, issue_mma
from bitmlir.lowering.gpu.warp_ring import MemoryRing, NumberedRing, WarpRing
from bitmlir.lowering.instructions import (
    CORE_BITS,
    LANES,
    LANES_PER_ROW,
    FragmentLayout,
    MmaInstruction,
    get_instruction,
)

__all__ = ["build_mma_kernel"]


def build_mma_kernel(module: ir.Block, name: str, problem: ProductProblem, tile: MmaTile) -> Kernel:
    """Emit the kernel into a `gpu.module`'s block and say how it is launched."""
    arguments = problem.arguments()
    place = mma_placement(problem, tile)
    layout = MmaLayout.of(problem, tile)

    def emit(*pointers: ir.Value) -> None:
        _Emitter(problem, tile, place, layout, module, dict(zip(arguments, pointers, strict=True))).emit()

    with ir.InsertionPoint(module):
        kernel_function(name, tile.threads, arguments, {}, emit)
    # Without this the assembler would use registers that only a single block finds.
    function = module.operations[len(module.operations) - 1].operation
    function.attributes["nvvm.minctasm"] = ir.IntegerAttr.get(i32(), tile.blocks)
    persistent = tile.blocks if place.is_persistent else None
    grid = (place.tiles, 1, 1)
    return Kernel(
        name,
        grid,
        tile.threads,
        layout.bytes,
        arguments,
        zeroed=problem.zeroed,
        overlaps=problem.target.overlaps_launches,
        persistent=persistent,
    )


@dataclass(frozen=True)
class _OutputTile:
    """Where an output tile begins, and of which product it is."""

    first_row: Scalar
    first_column: Scalar
    place: Place


class _Emitter:
    """One kernel while it is emitted."""

    def __init__(
        self,
        problem: ProductProblem,
        tile: MmaTile,
        place: Placement,
        layout: MmaLayout,
        module: ir.Block,
        pointers: dict[ir.Value, ir.Value],
    ) -> None:
        self.problem, self.tile, self.place, self.layout, self.pointers = problem, tile, place, layout, pointers
        self.mma: MmaInstruction = get_instruction(problem.target.instruction or "")
        self.shared = shared_memory(module)
        self.staging = layout.staging
        self.thread = thread_index()
        self.lane, self.warp = self.thread % LANES, self.thread // LANES
        self.filler = self.thread - tile.consumers * LANES
        warps_down = tile.rows // tile.warp_rows
        self.warp_row = self.warp % warps_down * tile.warp_rows
        self.warp_column = self.warp // warps_down * tile.warp_columns
        self.part = WarpPart.of(problem, self.mma, tile.warp_rows, tile.warp_columns)
        rhs_start = tile.rows * BLOCK_BYTES
        self.lhs = self._fragments(self.mma.lhs, self.warp_row, tile.warp_rows, 0)
        self.rhs = self._fragments(self.mma.rhs, self.warp_column, tile.warp_columns, rhs_start)
        self.copy_stage = copy_async if problem.target.copy == "cp.async" else copy_through_registers
        self.ring, self.staged_ring = self._rings()
        # AND where the unit has only XOR: 2·(a & b) = a ^ 0 + 0 ^ b − a ^ b, summed apart.
        self.and_by_xor = problem.operation == "and" and "and" not in problem.target.operations

    def _rings(self) -> tuple[WarpRing, WarpRing]:
        """The ring of stages, and that of staged values."""
        tile, layout, target = self.tile, self.layout, self.problem.target
        producers, consumers = tile.producers * LANES, tile.consumers * LANES
        if target.copy == "load":
            ring = NumberedRing(1, tile.stages, producers + consumers)
            after = ring.first + NumberedRing.barriers(tile.stages)
            return ring, NumberedRing(after, STAGED_TILES, producers + consumers)
        polled = target.capability is not None and target.capability < (9, 0)
        return (
            MemoryRing(self.shared, layout.ring, tile.stages, producers, consumers, polled),
            MemoryRing(self.shared, layout.staged_ring, STAGED_TILES, producers, consumers, polled),
        )

    def emit(self) -> None:
        def initialise() -> None:
            self.ring.initialise()
            self.staged_ring.initialise()

        if_then(self.thread.equals(0), initialise)
        barrier()
        if self.problem.target.overlaps_launches:
            overlap_launches(self.pointers.values())
        if_else(self.warp < self.tile.consumers, self._consume, self._produce)

    def _for_each_tile(
        self, first: Position, body: Callable[[_OutputTile, Position, Position], tuple[Position, Position]]
    ) -> None:
        """Emit body for the block's output tiles in turn; it receives the positions in both rings, the ring's own and
        that of staged values, and returns the next ones."""

        def visit(number: Scalar, carried: list[ir.Value]) -> list[ir.Value]:
            place = dealing.locate(number)
            here = _OutputTile(place.row_at(place.row * self.tile.rows), place.column * self.tile.columns, place)
            at, staged_at = body(here, Position.of(carried[:2]), Position.of(carried[2:]))
            return [*at.carried, *staged_at.carried]

        offsets = None if self.problem.op.offsets is None else self.pointers[self.problem.op.offsets]
        dealing = Dealing(self.problem, self.place, self.tile.rows, offsets)
        for_loop(block_index(), dealing.count(), self.place.stride(1), first.carried * 2, visit)

    def _steps(self, chain: Chain, tile: _OutputTile) -> Steps:
        rows, columns = (tile.first_row, self.tile.rows), (tile.first_column, self.tile.columns)
        return self.problem.steps(chain, self.pointers, rows, columns)

    # --- producers ---

    def _produce(self) -> None:
        problem = self.problem

        def produce_tile(tile: _OutputTile, at: Position, staged_at: Position) -> tuple[Position, Position]:
            seen = None if problem.window is None else self._seen_rows(tile)
            for chain in problem.chains:
                steps = self._steps(chain, tile)

                def step(_: Scalar, carried: list[ir.Value], steps: Steps = steps) -> list[ir.Value]:
                    here, state = Position.of(carried[:2]), carried[2:]
                    self.ring.wait_empty(here)
                    self.copy_stage(self._chunks(tile, seen, here, steps.position(state)))
                    self.ring.arrive_full(here, copied=problem.target.copy == "cp.async")
                    return [*self.ring.after(here).carried, *steps.next(state)]

                count = steps.count(const(0), const(len(chain.pairs)))
                at = Position.of(for_loop(const(0), count, const(1), [*at.carried, *steps.first()], step)[:2])
            return at, self._stage(tile, staged_at)

        self._for_each_tile(self.ring.filling(), produce_tile)
        self.ring.finish_filling()
        if self.staging.values:
            self.staged_ring.finish_filling()

    def _stage(self, tile: _OutputTile, at: Position) -> Position:
        """Compute what the body reads by row or by column alone, and the next position in the ring of such values."""
        if not self.staging.values:
            return at
        self.staged_ring.wait_empty(at)

        def elements(axis: str, index: Scalar) -> Elements:
            row, column = (index, const(0)) if axis == "row" else (const(0), index)
            place = self._thread_tile(tile, tile.first_row + row, [0], tile.first_column + column, [0])
            return Elements(self.problem.op.body, place)

        axes = {"row": (self.tile.rows, 1), "column": (self.tile.columns, PAIR)}
        self.staging.fill(axes, self.filler, self.tile.producers * LANES, elements, at.stage, self._staged)
        self.staged_ring.arrive_full(at)
        return self.staged_ring.after(at)

    def _seen_rows(self, tile: _OutputTile) -> list[SeenRow]:
        """Where the window lies at this thread's rows of a tile."""
        row_in_tile, rows_at_once = self.filler // CHUNKS, self.tile.producers * LANES // CHUNKS
        is_covered = self.problem.m % self.tile.rows == 0
        rows = range(0, self.tile.rows, rows_at_once)
        return [seen_row(self.problem, tile.first_row + row_in_tile + row, is_covered) for row in rows]

    def _chunks(
        self,
        tile: _OutputTile,
        seen: list[SeenRow] | None,
        at: Position,
        position: tuple[Scalar, Scalar, Scalar],
    ) -> list[Chunk]:
        """This thread's chunks of a stage."""
        problem = self.problem
        lhs_plane, rhs_plane, block = position
        below = self.tile.rows * BLOCK_BYTES
        # Tiles of a packed result reach past the last column where its padding does.
        covered = [problem.row_bound(self.tile.rows) is None, problem.column_bound(self.tile.columns) is None]
        operands = (
            (problem.op.lhs, lhs_plane, tile.first_row, self.tile.rows, problem.m, 0, ColumnOrder()),
            (problem.op.rhs, rhs_plane, tile.first_column, self.tile.columns, problem.n, below, self.part.order),
        )
        row_in_tile, column = self.filler // CHUNKS, self.filler % CHUNKS
        in_block = column * CHUNK_BYTES
        place = at.stage * self.tile.stage_bytes + row_in_tile * BLOCK_BYTES
        place = place + (column ^ row_in_tile % CHUNKS) * CHUNK_BYTES
        rows_at_once = self.tile.producers * LANES // CHUNKS
        whole_blocks = problem.row_bytes % BLOCK_BYTES == 0
        result = []
        for is_covered, (operand, plane, first, rows, bound, start, order) in zip(covered, operands, strict=True):
            first = first + order.column(row_in_tile)
            row = (tile.place.plane_in(operand, plane) * bound + first).to_i64() * problem.row_bytes
            matrix = self.pointers[operand]
            address = offset(matrix, row + (block * BLOCK_BYTES + in_block).to_i64(), GLOBAL)
            end = const(bound)
            if not whole_blocks:
                end = select(block * BLOCK_BYTES + in_block < problem.row_bytes, end, 0)
            fits = is_covered and problem.groups is None
            rows_left = None if whole_blocks and fits else end - first.minimum(end)
            for number, row in enumerate(range(0, rows, rows_at_once)):
                if start == 0 and seen is not None:
                    byte = block * BLOCK_BYTES + in_block
                    source, inside = seen_chunk(problem, matrix, seen[number], plane, byte)
                else:
                    source = offset(address, order.column(row) * problem.row_bytes, GLOBAL)
                    inside = None if rows_left is None else const(order.column(row)) < rows_left
                # Where a warp brings four rows at a time, the swizzle differs from one time to the next.
                turned = place if row % CHUNKS == 0 else place ^ (row % CHUNKS * CHUNK_BYTES)
                to = offset(offset(self.shared, turned, SHARED), start + row * BLOCK_BYTES, SHARED)
                result.append(Chunk(source, matrix, inside, to))
        return result

    @property
    def _staged(self) -> ir.Value:
        return offset(self.shared, self.layout.staged, SHARED)

    def _thread_tile(
        self, tile: _OutputTile, row: Scalar, row_offsets: list[int], column: Scalar, column_offsets: list[int]
    ) -> ThreadTile:
        return ThreadTile(
            self.problem.op,
            self.pointers,
            row,
            row_offsets,
            column,
            column_offsets,
            tile.first_column + self.warp_column,
            self.lane % LANES_PER_ROW,
            self.problem.row_bound(self.tile.rows) if tile.place.end_row is None else tile.place.end_row,
            self.problem.column_bound(self.tile.columns),
            tile.place.number,
        )

    # --- consumers ---

    def _consume(self) -> None:
        self.ring.start_reading()
        if self.staging.values:
            self.staged_ring.start_reading()
        self._for_each_tile(self.ring.reading(), self._consume_tile)

    def _consume_tile(self, tile: _OutputTile, at: Position, staged_at: Position) -> tuple[Position, Position]:
        row, column = self.part.first(self.lane)
        row, column = self.warp_row + row, self.warp_column + column
        offsets = {"row": self.part.row_offsets, "column": self.part.column_offsets}

        def multiply(chain: Chain, acc: Grid | None) -> Grid:
            nonlocal at
            grid, at = self._multiply(chain, acc, tile, at)
            return grid

        def ready() -> None:
            if self.staging.values:
                self.staged_ring.wait_full(staged_at)

        def read_staged(value: ir.Value, axis: str, slot: int) -> ir.Value | None:
            index, lanes = (row, None) if axis == "row" else (column, PAIR)
            return self.staging.load(value, staged_at.stage, index, offsets[axis][slot], lanes, self._staged)

        thread_tile = self._thread_tile(
            tile, tile.first_row + row, offsets["row"], tile.first_column + column, offsets["column"]
        )
        beside = self.part.order.groups
        replace(thread_tile, multiply=multiply, read_staged=read_staged, side_by_side=beside).store(ready)
        if self.staging.values:
            self.staged_ring.arrive_empty(staged_at)
            staged_at = self.staged_ring.after(staged_at)
        return at, staged_at

    def _multiply(self, chain: Chain, acc: Grid | None, tile: _OutputTile, at: Position) -> tuple[Grid, Position]:
        """The chain's products on top of acc, for the thread's grid of accumulators."""
        zero = const(0).value
        initial = [zero] * len(self.part.slots) if acc is None else ungroup_pairs(acc, self.part.slots)
        if self.and_by_xor:
            initial = [*([zero] * len(initial) if acc is None else _shifted_left(initial)), *[zero] * len(initial)]
        sums = len(initial)
        steps = self._steps(chain, tile)

        def step(number: Scalar, carried: list[ir.Value], count: Scalar) -> list[ir.Value]:
            here = Position.of(carried[:2])
            following = self.ring.after(here)
            last = (number + 1).equals(count)
            # After the last step there may be no other: the window is filled from this one again, and not used.
            then = Position(select(last, here.stage, following.stage), select(last, here.phase, following.phase))
            values = self._multiply_stage(carried[2 : sums + 2], carried[sums + 2 :], here, then, last)
            self.ring.arrive_empty(here)
            return [*following.carried, *values]

        def run_link(link: Link, carried: list[ir.Value]) -> list[ir.Value]:
            here, accumulators = Position.of(carried[:2]), continued(carried[2:], link.shift, link.negate)
            count = steps.count(link.first_pair, link.pairs)
            window = self._first_window(here, count)
            results = for_loop(
                const(0),
                count,
                const(1),
                [*here.carried, *accumulators, *window],
                lambda number, carried: step(number, carried, count),
            )
            # One step is as long as it should be: neither LLVM nor the assembler is to unroll the loop.
            rolled = ir.Attribute.parse("#llvm.loop_annotation<unroll = <disable = true>>")
            results[0].owner.attributes["loop_annotation"] = rolled
            return results[: sums + 2]

        carried = for_each_link(chain, [*at.carried, *initial], run_link)
        at, result = Position.of(carried[:2]), carried[2:]
        if self.and_by_xor:
            either, both = result[: sums // 2], result[sums // 2 :]
            one = const(1).value
            result = [arith.shrsi(arith.subi(a, b), one) for a, b in zip(either, both, strict=True)]
        return group_pairs(result, self.part.slots), at

    def _first_window(self, at: Position, count: Scalar) -> list[ir.Value]:
        """The fragments of a chain's first k slice; zeros if it has no steps."""
        registers = LDMATRIX_CORES * (self.lhs.groups + self.rhs.groups)
        branch = scf.IfOp(count.differs(0).value, [i32()] * registers, has_else=True)
        then, otherwise = (region.blocks[0] for region in branch.operation.regions)
        with ir.InsertionPoint(then):
            self.ring.wait_full(at)
            stage = at.stage * self.tile.stage_bytes
            loaded = [self._load(stage, x, i, 0) for x in (self.lhs, self.rhs) for i in range(x.groups)]
            scf.yield_([register for group in loaded for register in group])
        with ir.InsertionPoint(otherwise):
            scf.yield_([const(0).value] * registers)
        return list(branch.results)

    def _multiply_stage(
        self, accumulators: list[ir.Value], window: list[ir.Value], here: Position, then: Position, again: Scalar
    ) -> list[ir.Value]:
        """The accumulators and the window after one K block; `then` is the stage that comes next, or `here` again.

        The window holds the fragments of one k slice. Each is replaced by that of the next slice once it has been used
        for the last time; slices are walked by rows and by columns in turn, so that it is not needed again at once.
        """
        accumulators = list(accumulators)
        groups = [window[i : i + LDMATRIX_CORES] for i in range(0, len(window), LDMATRIX_CORES)]
        lhs, rhs = groups[: self.lhs.groups], groups[self.lhs.groups :]
        by_rows = list(itertools.product(range(len(lhs)), range(len(rhs))))
        by_columns = sorted(by_rows, key=lambda pair: pair[::-1])
        stage, slices = here.stage * self.tile.stage_bytes, TILE_BITS // self.mma.k
        for k_slice in range(slices):
            following = (k_slice + 1) % slices
            waited = following > 0
            pairs = by_columns if k_slice % 2 else by_rows
            for step in range(self.mma.bits):
                lhs_bits, rhs_bits = ([self._bits(group, step) for group in groups] for groups in (lhs, rhs))
                for i, j in pairs:
                    self._accumulate(accumulators, (i, j), lhs_bits[i], rhs_bits[j])
                    row_done, column_done = j + 1 == len(rhs), i + 1 == len(lhs)
                    if step + 1 < self.mma.bits or not (row_done or column_done):
                        continue
                    if not waited:
                        self.ring.wait_full(then, again)
                        stage, waited = then.stage * self.tile.stage_bytes, True
                    if row_done:
                        lhs[i] = self._load(stage, self.lhs, i, following)
                    if column_done:
                        rhs[j] = self._load(stage, self.rhs, j, following)
        return accumulators + [register for group in lhs + rhs for register in group]

    def _bits(self, registers: list[ir.Value], bit: int) -> list[ir.Value]:
        """What the unit multiplies at a step: the registers, or one bit of each number in them."""
        if self.mma.bits == 1:
            return registers
        return [((Scalar(register) >> bit) & self.mma.mask).value for register in registers]

    def _load(self, stage: Scalar, operand: _Fragments, group: int, k_slice: int) -> list[ir.Value]:
        """The registers that one ldmatrix loads."""
        struct = ir.Type.parse("!llvm.struct<(i32, i32, i32, i32)>")
        row_major = ir.Attribute.parse("#nvvm.mma_layout<row>")
        shape = ir.Attribute.parse("#nvvm.ld_st_matrix_shape<m = 8, n = 8>")
        element = ir.Attribute.parse("#nvvm.ld_st_matrix_elt_type<b16>")
        number = ir.IntegerAttr.get(i32(), LDMATRIX_CORES)
        # The slice last: kept apart for each, what does not change from stage to stage would take registers.
        lane = (stage + operand.lane) ^ (k_slice * self.mma.k // 8)
        address = offset(offset(self.shared, lane, SHARED), group * operand.rows * BLOCK_BYTES, SHARED)
        loaded = nvvm.ldmatrix(struct, address, number, row_major, shape, element)
        return struct_elements(loaded, LDMATRIX_CORES)

    def _fragments(self, layout: FragmentLayout | None, first: Scalar, extent: int, start: int) -> _Fragments:
        """The fragments of an operand's `extent` rows from `first` on, in the part of a stage that begins at `start`.

        Lane l gives ldmatrix the address of row l % 8 of core l // 8.
        """
        assert layout is not None
        rows = group_rows(layout)
        cores = [(base + row, bits) for base in range(0, rows, layout.rows) for row, bits in layout.registers]
        (row0, bit0), (row1, bit1), (row2, bit2), (row3, bit3) = cores
        assert (row3 - row2, bit3 - bit2) == (row1 - row0, bit1 - bit0), "cores of one ldmatrix must form a lattice"
        row_in_core, odd, upper = self.lane % 8, self.lane // 8 % 2, self.lane // 16
        row = first + row_in_core + odd * (row1 - row0) + upper * (row2 - row0)
        chunk = odd * ((bit1 - bit0) // CORE_BITS) + upper * ((bit2 - bit0) // CORE_BITS)
        lane = row * BLOCK_BYTES + (chunk ^ row_in_core) * CHUNK_BYTES + start
        return _Fragments(lane, rows, extent // rows)

    def _accumulate(
        self, accumulators: list[ir.Value], place: tuple[int, int], lhs: list[ir.Value], rhs: list[ir.Value]
    ) -> None:
        """Add the products of all fragments of two ldmatrix, which are groups number `place` down and across."""
        mma = self.mma
        assert mma.lhs is not None
        assert mma.rhs is not None
        size, a_size, b_size = (len(x.registers) for x in (mma.accumulator, mma.lhs, mma.rhs))
        down, right = LDMATRIX_CORES // a_size, LDMATRIX_CORES // b_size
        across = self.tile.warp_columns // mma.n
        for i, j in itertools.product(range(down), range(right)):
            at = ((place[0] * down + i) * across + place[1] * right + j) * size
            a, b = lhs[i * a_size : (i + 1) * a_size], rhs[j * b_size : (j + 1) * b_size]
            if not self.and_by_xor:
                operation = self.problem.operation
                accumulators[at : at + size] = issue_mma(mma, a, b, accumulators[at : at + size], operation)
                continue
            zeros_a, zeros_b = [const(0).value] * a_size, [const(0).value] * b_size
            both = at + len(accumulators) // 2
            either = issue_mma(mma, a, zeros_b, accumulators[at : at + size], "xor")
            accumulators[at : at + size] = issue_mma(mma, zeros_a, b, either, "xor")
            accumulators[both : both + size] = issue_mma(mma, a, b, accumulators[both : both + size], "xor")


@dataclass(frozen=True)
class _Fragments:
    """Where an operand's fragments lie: the lane's offset in a stage, the rows of an ldmatrix, how many there are."""

    lane: Scalar
    rows: int
    groups: int


def _shifted_left(values: Sequence[ir.Value]) -> list[ir.Value]:
    return [(Scalar(value) << 1).value for value in values]
