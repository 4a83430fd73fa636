"""Plane products by wgmma on Hopper: TMA fills a ring of tiles in shared memory, one warp group issues the copies, the
others multiply. Blocks are persistent, one a multiprocessor: the producer fills the ring for the next output tile while
the consumers store the last one.

    producer (one thread)                       consumers (a warp group for every 64 rows)
    for each output tile of the block           for each output tile of the block
        for each plane product, each step           for each plane product, each step
            wait until the stage is empty               wait until the stage is full
            TMA boxes of lhs and rhs                    wgmma on its 64 rows, one group left in flight
                                                        release the stage before
                                                    the body on the thread's elements, stores

A stage row is 128 bytes, swizzled by TMA in 128-byte atoms of 8 rows as the wgmma descriptors expect.
Source: PTX ISA, sections on wgmma.mma_async (matrix descriptor, register fragments) and cp.async.bulk.tensor.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import llvm, nvvm

from bitmlir.dialects.layout import BITS_PER_WORD, TILE_BITS
from bitmlir.lowering.elements import Chain, Grid, chains_of
from bitmlir.lowering.emit import Scalar, const, for_loop, i32, i64, if_else, if_then, select
from bitmlir.lowering.gpu.memory import (
    GLOBAL,
    SHARED,
    Kernel,
    barrier,
    block_index,
    kernel_function,
    offset,
    pointer,
    shared_memory,
    thread_index,
)
from bitmlir.lowering.gpu.product import BLOCK_BYTES, Link, ProductProblem, ceil_div, continued, for_each_link
from bitmlir.lowering.gpu.steps import Steps
from bitmlir.lowering.gpu.thread_tile import PAIR, ThreadTile, element_bytes, group_pairs, ungroup_pairs
from bitmlir.lowering.instructions import LANES, LANES_PER_ROW, MmaInstruction, wgmma

__all__ = ["WgmmaTile", "build_wgmma_kernel", "choose_wgmma_tile"]

GROUP_THREADS = 4 * LANES  # a warp group
_BARRIER_BYTES = 8
_LINE_BYTES = 128  # of the L1 cache
_PRODUCER_REGISTERS, _MOST_REGISTERS = 40, 232
_SHARED_CLUSTER = 7  # the address space TMA writes to
_SPIN_TICKS = 0x989680  # how long one try_wait may sleep, in ns
_ATOM_BYTES = 8 * BLOCK_BYTES  # 8 rows: what the 128-byte swizzle repeats over
# Matrix descriptor fields (PTX ISA, wgmma matrix descriptor): address and strides count 16-byte units.
_DESCRIPTOR = (1 << 62) | ((_ATOM_BYTES >> 4) << 32) | (1 << 16)  # 128-byte swizzle, stride between atoms, leading
_ADDRESS_MASK = 0x3FFFF


@dataclass(frozen=True)
class WgmmaTile:
    """Sizes of a block's tile and the number of stages in its ring."""

    rows: int
    columns: int
    stages: int

    @property
    def consumers(self) -> int:
        """Warp groups that multiply."""
        return self.rows // 64

    @property
    def threads(self) -> int:
        """Threads of a block, the producer's warp group included."""
        return (self.consumers + 1) * GROUP_THREADS

    @property
    def stage_bytes(self) -> int:
        """Bytes that TMA brings for one stage."""
        return (self.rows + self.columns) * BLOCK_BYTES

    @property
    def shared_bytes(self) -> int:
        """Bytes of shared memory that a block takes: the ring, two barriers a stage, and one for nothing."""
        return self.stages * (self.stage_bytes + 2 * _BARRIER_BYTES) + _BARRIER_BYTES

    @property
    def registers(self) -> tuple[int, int]:
        """Registers a thread of the producer and of a consumer: what is left of 64 K (PTX ISA, setmaxnreg)."""
        at_launch = (1 << 16) // self.threads // 8 * 8
        consumer = (at_launch * (self.consumers + 1) - _PRODUCER_REGISTERS) // self.consumers // 8 * 8
        return _PRODUCER_REGISTERS, min(consumer, _MOST_REGISTERS)


def choose_wgmma_tile(problem: ProductProblem) -> WgmmaTile:
    """The largest tile that still gives every multiprocessor one; small problems get the smallest that fits."""
    for tile in (WgmmaTile(128, 256, 4), WgmmaTile(128, 128, 6), WgmmaTile(128, 64, 8)):
        blocks = ceil_div(problem.m, tile.rows) * ceil_div(problem.covered_columns, tile.columns)
        if blocks >= problem.target.multiprocessors:
            return tile
    return WgmmaTile(64, 32, 8)


def build_wgmma_kernel(module: ir.Block, name: str, problem: ProductProblem, tile: WgmmaTile) -> Kernel:
    """Emit the kernel into a `gpu.module`'s block and say how it is launched."""
    arguments = problem.arguments()
    if arguments.count(problem.op.lhs) == 1 and problem.op.lhs == problem.op.rhs:
        arguments = (problem.op.lhs, *arguments)  # x·xᵀ: two maps over one buffer
    words = BLOCK_BYTES * 8 // BITS_PER_WORD
    boxes = {0: (words, tile.rows, 1), 1: (words, tile.columns, 1)}
    with ir.InsertionPoint(module):
        kernel_function(
            name, tile.threads, arguments, boxes, lambda *pointers: _Emitter(problem, tile, module, pointers).emit()
        )
    tiles = ceil_div(problem.covered_columns, tile.columns) * ceil_div(problem.m, tile.rows)
    grid = (min(tiles, problem.target.multiprocessors), 1, 1)
    return Kernel(name, grid, tile.threads, tile.shared_bytes, arguments, boxes, problem.zeroed)


Ring = tuple[Scalar, Scalar]  # the stage that comes next, and the phase its barriers are in


@dataclass(frozen=True)
class _OutputTile:
    """Where an output tile begins."""

    first_row: Scalar
    first_column: Scalar


class _Emitter:
    """One kernel while it is emitted."""

    def __init__(
        self, problem: ProductProblem, tile: WgmmaTile, module: ir.Block, pointers: tuple[ir.Value, ...]
    ) -> None:
        self.problem, self.tile = problem, tile
        self.maps = pointers[:2]
        self.pointers = dict(zip(problem.arguments()[-len(pointers) + 2 :], pointers[2:], strict=True))
        self.mma: MmaInstruction = wgmma(tile.columns)
        self.shared = shared_memory(module)
        self.thread = thread_index()
        self.tiles_across = ceil_div(problem.covered_columns, tile.columns)
        self.tiles = self.tiles_across * ceil_div(problem.m, tile.rows)
        self.blocks = min(self.tiles, problem.target.multiprocessors)
        self.chains = chains_of(problem.op.body)
        self.accumulators = ir.Type.parse(f"!llvm.struct<({', '.join(['i32'] * len(self.mma.accumulator.registers))})>")

    def emit(self) -> None:
        producer_registers, consumer_registers = self.tile.registers
        self._initialise_barriers()

        def produce() -> None:
            _set_registers(producer_registers, nvvm.SetMaxRegisterAction.decrease)
            if_then(self.thread.equals(0), self._produce)

        def consume() -> None:
            _set_registers(consumer_registers, nvvm.SetMaxRegisterAction.increase)
            self._consume()

        if_else(self.thread < GROUP_THREADS, produce, consume)

    # --- the ring ---

    def _barrier(self, stage: Scalar | int, kind: str) -> ir.Value:
        kinds = ("full", "empty", "nothing")
        start = self.tile.stages * (self.tile.stage_bytes + kinds.index(kind) * _BARRIER_BYTES)
        return offset(self.shared, stage * _BARRIER_BYTES + start, SHARED)

    def _initialise_barriers(self) -> None:
        def initialise() -> None:
            for stage in range(self.tile.stages):
                nvvm.mbarrier_init(self._barrier(stage, "full"), const(1).value)
                nvvm.mbarrier_init(self._barrier(stage, "empty"), const(self.tile.consumers).value)
            nvvm.mbarrier_init(self._barrier(0, "nothing"), const(self.tile.consumers).value)
            nvvm.fence_mbarrier_init()
            for tensor_map in self.maps:
                nvvm.prefetch(tensor_map, tensormap=True)

        if_then(self.thread.equals(0), initialise)
        barrier()

    def _advance(self, stage: Scalar, phase: Scalar) -> tuple[Scalar, Scalar]:
        following = stage + 1
        wrapped = following.equals(self.tile.stages)
        return select(wrapped, const(0), following), select(wrapped, phase ^ 1, phase)

    def _for_each_tile(self, phase: int, body: Callable[[_OutputTile, Ring], Ring]) -> None:
        """Emit body for the block's output tiles in turn; it receives the ring's position and returns the next."""

        def visit(number: Scalar, carried: list[ir.Value]) -> list[ir.Value]:
            row, column = number // self.tiles_across, number % self.tiles_across
            tile = _OutputTile(row * self.tile.rows, column * self.tile.columns)
            stage, phase = body(tile, (Scalar(carried[0]), Scalar(carried[1])))
            return [stage.value, phase.value]

        ring = [const(0).value, const(phase).value]
        for_loop(block_index(), const(self.tiles), const(self.blocks), ring, visit)

    def _steps(self, chain: Chain, tile: _OutputTile) -> Steps:
        rows, columns = (tile.first_row, self.tile.rows), (tile.first_column, self.tile.columns)
        return self.problem.steps(chain, self.pointers, rows, columns)

    # --- producer ---

    def _produce(self) -> None:
        # A fresh barrier counts as having passed phase 1: all stages are empty.
        self._for_each_tile(1, self._produce_tile)

    def _produce_tile(self, tile: _OutputTile, ring: Ring) -> Ring:
        for chain in self.chains:
            steps = self._steps(chain, tile)
            count = steps.count(const(0), const(len(chain.pairs)))

            def step(_: Scalar, carried: list[ir.Value], steps: Steps = steps) -> list[ir.Value]:
                stage, phase, *state = carried
                self._copy_stage(tile, Scalar(stage), Scalar(phase), steps.position(state))
                stage, phase = self._advance(Scalar(stage), Scalar(phase))
                return [stage.value, phase.value, *steps.next(state)]

            carried = [ring[0].value, ring[1].value, *steps.first()]
            stage, phase = for_loop(const(0), count, const(1), carried, step)[:2]
            ring = Scalar(stage), Scalar(phase)
        return ring

    def _copy_stage(
        self, tile: _OutputTile, stage: Scalar, phase: Scalar, position: tuple[Scalar, Scalar, Scalar]
    ) -> None:
        lhs_plane, rhs_plane, block = position
        full = self._barrier(stage, "full")
        _wait(self._barrier(stage, "empty"), phase)
        nvvm.mbarrier_arrive_expect_tx(None, full, const(self.tile.stage_bytes).value)
        word = block * (TILE_BITS // BITS_PER_WORD)
        start = stage * self.tile.stage_bytes
        for tensor_map, plane, row, distance in (
            (self.maps[0], lhs_plane, tile.first_row, 0),
            (self.maps[1], rhs_plane, tile.first_column, self.tile.rows * BLOCK_BYTES),
        ):
            to = llvm.addrspacecast(pointer(_SHARED_CLUSTER), offset(self.shared, start + distance, SHARED))
            coordinates = [word.value, row.value, plane.value]
            nvvm.cp_async_bulk_tensor_shared_cluster_global(to, tensor_map, coordinates, full, [])

    # --- consumers ---

    def _consume(self) -> None:
        self.group = self.thread // GROUP_THREADS - 1
        self.leads = (self.thread % GROUP_THREADS).equals(0)
        self._for_each_tile(0, self._consume_tile)

    def _consume_tile(self, tile: _OutputTile, ring: Ring) -> Ring:
        problem, layout = self.problem, self.mma.accumulator
        lane, warp = self.thread % LANES, self.thread // LANES % 4
        place = lane % LANES_PER_ROW
        row = tile.first_row + self.group * self.mma.m + warp * layout.warp_rows + lane // LANES_PER_ROW
        self._prefetch_columns(tile)

        def multiply(chain: Chain, acc: Grid | None) -> Grid:
            nonlocal ring
            grid, ring = self._multiply(chain, acc, tile, ring)
            return grid

        ThreadTile(
            problem.op,
            self.pointers,
            row,
            list(layout.row_offsets),
            tile.first_column + place * layout.lane_columns,
            list(layout.column_offsets[::PAIR]),
            tile.first_column,
            place,
            problem.row_bound(self.tile.rows),
            problem.column_bound(self.tile.columns),
            multiply,
        ).store()
        return ring

    def _prefetch_columns(self, tile: _OutputTile) -> None:
        """Ask for what the body reads by column alone, so that it is at hand once the products are done."""
        thread = self.thread % GROUP_THREADS
        for array in self.problem.column_arrays():
            type_ = ir.MemRefType(array.type)
            size = element_bytes(type_.element_type)
            lines = ceil_div(self.tile.columns * size, _LINE_BYTES)
            column = tile.first_column + thread * (_LINE_BYTES // size)
            address = offset(self.pointers[array], column.to_i64() * size, GLOBAL)
            inside = (thread < lines) & (column < type_.shape[0])
            if_then(inside, functools.partial(nvvm.prefetch, address, cache_level=nvvm.PrefetchCacheLevel.L1))

    def _multiply(self, chain: Chain, acc: Grid | None, tile: _OutputTile, ring: Ring) -> tuple[Grid, Ring]:
        """The chain's products on top of acc; the accumulators travel as one struct of registers."""
        steps = self._steps(chain, tile)
        address = Scalar(llvm.ptrtoint(i32(), self.shared))

        def step(_: Scalar, carried: list[ir.Value]) -> list[ir.Value]:
            accumulators, stage, phase, before = carried[0], Scalar(carried[1]), Scalar(carried[2]), carried[3]
            _wait(self._barrier(stage, "full"), phase)
            start = address + stage * self.tile.stage_bytes
            lhs = _descriptor(start + self.group * (self.mma.m * BLOCK_BYTES))
            rhs = _descriptor(start + self.tile.rows * BLOCK_BYTES)
            nvvm.wgmma_fence_aligned()
            for k in range(0, TILE_BITS, self.mma.k):
                units = k // 8 >> 4  # 16-byte units, as descriptors count
                accumulators = self._wgmma(accumulators, lhs + units, rhs + units)
            nvvm.wgmma_commit_group_sync_aligned()
            _wait_for_groups(1)  # the step before is done, so its stage can be filled again
            self._arrive(before)
            this = self._barrier(stage, "empty")
            stage, phase = self._advance(stage, phase)
            return [accumulators, stage.value, phase.value, this]

        def run_link(link: Link, carried: list[ir.Value]) -> list[ir.Value]:
            accumulators, stage, phase = carried
            if link.shift is not None or link.negate is not None:
                accumulators = self._struct(continued(self._registers(accumulators), link))
            # The first step has none before it: it arrives at a barrier that nobody waits for. A condition in its place
            # would make LLVM peel off the first iteration, and double the code.
            nothing = self._barrier(0, "nothing")
            count = steps.count(link.first_pair, link.pairs)
            accumulators, stage, phase, last = for_loop(
                const(0), count, const(1), [accumulators, stage, phase, nothing], step
            )
            _wait_for_groups(0)
            self._arrive(last)
            return [accumulators, stage, phase]

        initial = llvm.mlir_zero(self.accumulators) if acc is None else self._struct(self._ungrouped(acc))
        accumulators, stage, phase = for_each_link(chain, [initial, ring[0].value, ring[1].value], run_link)
        return self._grouped(self._registers(accumulators)), (Scalar(stage), Scalar(phase))

    def _arrive(self, barrier_address: ir.Value) -> None:
        """Let the warp group's first thread arrive for all of them."""
        if_then(self.leads, lambda: nvvm.mbarrier_arrive(None, barrier_address))

    def _wgmma(self, accumulators: ir.Value, lhs: Scalar, rhs: Scalar) -> ir.Value:
        mma = self.mma
        shape = ir.Attribute.parse(f"#nvvm.shape<m = {mma.m}, n = {mma.n}, k = {mma.k}>")
        b1, one = nvvm.WGMMATypes.b1, nvvm.WGMMAScaleIn.one
        return nvvm.wgmma_mma_async(
            self.accumulators, accumulators, lhs.value, rhs.value, shape, b1, b1, nvvm.WGMMATypes.s32,
            nvvm.WGMMAScaleOut.one, one, one, nvvm.MMALayout.row, nvvm.MMALayout.col,
        )  # fmt: skip

    # --- accumulators: a struct of registers for wgmma, a grid of pairs of columns for the body ---

    def _registers(self, struct: ir.Value) -> list[ir.Value]:
        count = len(self.mma.accumulator.registers)
        return [llvm.extractvalue(i32(), struct, ir.DenseI64ArrayAttr.get([i])) for i in range(count)]

    def _struct(self, registers: Sequence[ir.Value]) -> ir.Value:
        struct = llvm.mlir_undef(self.accumulators)
        for i, register in enumerate(registers):
            struct = llvm.insertvalue(struct, register, ir.DenseI64ArrayAttr.get([i]))
        return struct

    def _grouped(self, registers: Sequence[ir.Value]) -> Grid:
        return group_pairs(registers, self.mma.accumulator.slots)

    def _ungrouped(self, grid: Grid) -> list[ir.Value]:
        return ungroup_pairs(grid, self.mma.accumulator.slots)


def _set_registers(count: int, action: nvvm.SetMaxRegisterAction) -> None:
    nvvm.setmaxregister(ir.IntegerAttr.get(i32(), count), action)


def _wait(barrier_address: ir.Value, phase: Scalar) -> None:
    nvvm.mbarrier_try_wait_parity(barrier_address, phase.value, const(_SPIN_TICKS).value)


def _wait_for_groups(pending: int) -> None:
    nvvm.wgmma_wait_group_sync_aligned(ir.IntegerAttr.get(i64(), pending))


def _descriptor(address: Scalar) -> Scalar:
    """The matrix descriptor of a tile in shared memory whose rows are 128 bytes and swizzled over 128 bytes."""
    return ((address & _ADDRESS_MASK) >> 4).to_i64() | _DESCRIPTOR
