"""Plane products by mma.sync: a ring of tiles in shared memory, fragments by ldmatrix, one warp tile a warp.

    for each plane product of the body
        for each step (plane pair, K block)         ring of `stages`, filled ahead by cp.async (plain loads on sm_75)
            for each k slice of the block           fragments of both operands by ldmatrix
                mma.sync on every fragment pair of the warp tile
    the body on the thread's elements, stores

Rows of a stage are 128 bytes, so that 16-byte chunk c of row r lies at chunk c xor r % 8: ldmatrix and the copies are
free of bank conflicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlir import ir
from mlir.dialects import arith, llvm, nvvm

from bitmlir.dialects.layout import TILE_BITS
from bitmlir.lowering.elements import Chain, Grid
from bitmlir.lowering.emit import Scalar, const, for_loop, i32, if_then, select
from bitmlir.lowering.gpu.memory import (
    GLOBAL,
    SHARED,
    Kernel,
    barrier,
    block_index,
    kernel_function,
    load,
    offset,
    shared_memory,
    store,
    thread_index,
)
from bitmlir.lowering.gpu.product import BLOCK_BYTES, Link, ProductProblem, ceil_div, continued, for_each_link
from bitmlir.lowering.gpu.thread_tile import PAIR, ThreadTile, group_pairs, ungroup_pairs
from bitmlir.lowering.instructions import CORE_BITS, LANES, LANES_PER_ROW, FragmentLayout, get_instruction

__all__ = ["MmaTile", "build_mma_kernel", "choose_mma_tile"]

CHUNK_BYTES = 16  # the unit of cp.async and of ldmatrix rows
CHUNKS = BLOCK_BYTES // CHUNK_BYTES
_LDMATRIX_CORES = 4  # 8×128-bit matrices that one ldmatrix.x4 loads


@dataclass(frozen=True)
class MmaTile:
    """Sizes of a block's tile and of a warp's part of it, and how many K blocks lie in shared memory at a time."""

    rows: int
    columns: int
    warp_rows: int
    warp_columns: int
    stages: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.rows // self.warp_rows * (self.columns // self.warp_columns) * LANES

    @property
    def stage_bytes(self) -> int:
        """Bytes of shared memory that one stage takes."""
        return (self.rows + self.columns) * BLOCK_BYTES

    @property
    def shared_bytes(self) -> int:
        """Bytes of shared memory that a block takes."""
        return self.stages * self.stage_bytes


def choose_mma_tile(problem: ProductProblem) -> MmaTile:
    """The largest tile that still gives every multiprocessor one; small problems get the smallest."""
    if problem.target.copy == "load":
        return MmaTile(64, 64, 32, 32, stages=2)
    small, medium, large = (
        MmaTile(64, 64, 32, 32, stages=4),
        MmaTile(128, 64, 64, 32, stages=4),
        MmaTile(128, 128, 64, 64, stages=3),
    )
    for tile in (large, medium):
        blocks = ceil_div(problem.m, tile.rows) * ceil_div(problem.covered_columns, tile.columns)
        if blocks >= problem.target.multiprocessors and tile.shared_bytes <= problem.target.shared_bytes:
            return tile
    return small


def build_mma_kernel(module: ir.Block, name: str, problem: ProductProblem, tile: MmaTile) -> Kernel:
    """Emit the kernel into a `gpu.module`'s block and say how it is launched."""
    arguments = problem.arguments()
    with ir.InsertionPoint(module):
        kernel_function(
            name,
            tile.threads,
            arguments,
            {},
            lambda *pointers: _Emitter(problem, tile, module, dict(zip(arguments, pointers, strict=True))).emit(),
        )
    blocks = ceil_div(problem.covered_columns, tile.columns) * ceil_div(problem.m, tile.rows)
    return Kernel(name, (blocks, 1, 1), tile.threads, tile.shared_bytes, arguments, zeroed=problem.zeroed)


class _Emitter:
    """One kernel while it is emitted."""

    def __init__(
        self, problem: ProductProblem, tile: MmaTile, module: ir.Block, pointers: dict[ir.Value, ir.Value]
    ) -> None:
        self.problem, self.tile, self.pointers = problem, tile, pointers
        self.mma = get_instruction(problem.target.instruction or "")
        self.shared = shared_memory(module)
        self.thread = thread_index()
        self.lane, self.warp = self.thread % LANES, self.thread // LANES
        block, across = block_index(), ceil_div(problem.covered_columns, tile.columns)
        self.first_row, self.first_column = block // across * tile.rows, block % across * tile.columns
        warps_down = tile.rows // tile.warp_rows
        self.warp_row = self.warp % warps_down * tile.warp_rows
        self.warp_column = self.warp // warps_down * tile.warp_columns
        # AND where the unit has only XOR: 2·(a & b) = a ^ 0 + 0 ^ b − a ^ b, summed apart.
        self.and_by_xor = problem.operation == "and" and "and" not in problem.target.operations

    def emit(self) -> None:
        problem, tile, mma = self.problem, self.tile, self.mma
        group, place = self.lane // LANES_PER_ROW, self.lane % LANES_PER_ROW
        layout = mma.accumulator
        column = self.first_column + self.warp_column
        ThreadTile(
            problem.op,
            self.pointers,
            self.first_row + self.warp_row + group,
            [i + r for i in range(0, tile.warp_rows, mma.m) for r in layout.row_offsets],
            column + place * layout.lane_columns,
            [j + c for j in range(0, tile.warp_columns, mma.n) for c in layout.column_offsets[::PAIR]],
            column,
            place,
            problem.row_bound(tile.rows),
            problem.column_bound(tile.columns),
            self.product,
        ).store()

    # --- plane products ---

    def product(self, chain: Chain, acc: Grid | None) -> Grid:
        """The chain's products on top of acc, for the thread's grid of accumulators."""
        tile, mma, stages = self.tile, self.mma, self.tile.stages
        zero, ahead = const(0).value, stages - 1
        initial = [zero] * len(self._slots()) if acc is None else ungroup_pairs(acc, self._slots())
        if self.and_by_xor:
            initial = [*([zero] * len(initial) if acc is None else _shifted_left(initial)), *[zero] * len(initial)]
        sums = len(initial)
        rows, columns = (self.first_row, tile.rows), (self.first_column, tile.columns)
        steps = self.problem.steps(chain, self.pointers, rows, columns)
        copy = _AsyncCopy(self) if self.problem.target.copy == "cp.async" else _PlainCopy(self)
        lhs = self._lane_addresses(mma.lhs, self.warp_row, 0)
        rhs = self._lane_addresses(mma.rhs, self.warp_column, tile.rows * BLOCK_BYTES)
        total = steps.count(const(0), const(len(chain.pairs)))
        state = steps.first()
        barrier()  # the ring may still be read by the chain before this one
        for stage in range(ahead):
            pending = copy.begin(const(stage * tile.stage_bytes), steps.position(state), const(stage) < total)
            copy.finish(pending, const(stage * tile.stage_bytes))
            state = steps.next(state)

        def step(_: Scalar, carried: list[ir.Value]) -> list[ir.Value]:
            accumulators, (done, read, write, *state) = carried[:sums], carried[sums:]
            copy.wait()
            barrier()
            target = Scalar(write)
            pending = copy.begin(target, steps.position(state), Scalar(done) + ahead < total)
            accumulators = self._multiply(accumulators, Scalar(read), lhs, rhs)
            copy.finish(pending, target)
            done = (Scalar(done) + 1).value
            return [*accumulators, done, self._next_stage(read), self._next_stage(write), *steps.next(state)]

        def run_link(link: Link, carried: list[ir.Value]) -> list[ir.Value]:
            carried = [*continued(carried[:sums], link), *carried[sums:]]
            return for_loop(const(0), steps.count(link.first_pair, link.pairs), const(1), carried, step)

        carried = [*initial, zero, zero, const(ahead * tile.stage_bytes).value, *state]
        result = for_each_link(chain, carried, run_link)[:sums]
        copy.drain()
        if self.and_by_xor:
            either, both = result[: sums // 2], result[sums // 2 :]
            one = const(1).value
            result = [arith.shrsi(arith.subi(a, b), one) for a, b in zip(either, both, strict=True)]
        return group_pairs(result, self._slots())

    def _next_stage(self, start: ir.Value) -> ir.Value:
        following = Scalar(start) + self.tile.stage_bytes
        return select(following.equals(self.tile.shared_bytes), const(0), following).value

    def _slots(self) -> list[tuple[int, int]]:
        """Grid position (row slot, column slot) of each accumulator register, in the order of the fragments."""
        mma, layout = self.mma, self.mma.accumulator
        down, across = self.tile.warp_rows // mma.m, self.tile.warp_columns // mma.n
        rows, columns = len(layout.row_offsets), len(layout.column_offsets)
        return [(i * rows + r, j * columns + c) for i in range(down) for j in range(across) for r, c in layout.slots]

    def _lane_addresses(self, layout: FragmentLayout | None, first: Scalar, start: int) -> list[tuple[Scalar, Scalar]]:
        """For each four cores that one ldmatrix loads: the lane's row offset in bytes, and its chunk before swizzling.

        Lane l gives the address of row l % 8 of core l // 8.
        """
        assert layout is not None
        extent = self.tile.warp_rows if start == 0 else self.tile.warp_columns
        cores = [(base + row, bits) for base in range(0, extent, layout.rows) for row, bits in layout.registers]
        row_in_core, odd, upper = self.lane % 8, self.lane // 8 % 2, self.lane // 16
        addresses = []
        for g in range(0, len(cores), _LDMATRIX_CORES):
            (row0, bit0), (row1, bit1), (row2, bit2), (row3, bit3) = cores[g : g + _LDMATRIX_CORES]
            assert (row3 - row2, bit3 - bit2) == (row1 - row0, bit1 - bit0), "cores of one ldmatrix must form a lattice"
            row = first + row_in_core + row0 + odd * (row1 - row0) + upper * (row2 - row0)
            chunk = odd * ((bit1 - bit0) // CORE_BITS) + upper * ((bit2 - bit0) // CORE_BITS)
            addresses.append((row * BLOCK_BYTES + start, chunk))
        return addresses

    def _fragments(self, stage: Scalar, lanes: list[tuple[Scalar, Scalar]], k: int) -> list[ir.Value]:
        """The registers of all fragments of one operand at bit k of the stage."""
        struct = ir.Type.parse("!llvm.struct<(i32, i32, i32, i32)>")
        row_major = ir.Attribute.parse("#nvvm.mma_layout<row>")
        shape = ir.Attribute.parse("#nvvm.ld_st_matrix_shape<m = 8, n = 8>")
        element = ir.Attribute.parse("#nvvm.ld_st_matrix_elt_type<b16>")
        number = ir.IntegerAttr.get(i32(), _LDMATRIX_CORES)
        registers = []
        for row_offset, chunk in lanes:
            swizzled = (chunk + k // CORE_BITS) ^ (self.lane % CHUNKS)
            address = offset(self.shared, stage + row_offset + swizzled * CHUNK_BYTES, SHARED)
            loaded = nvvm.ldmatrix(struct, address, number, row_major, shape, element)
            registers += [_element(loaded, i) for i in range(_LDMATRIX_CORES)]
        return registers

    def _multiply(
        self, accumulators: list[ir.Value], stage: Scalar, lhs: list[tuple[Scalar, Scalar]], rhs: list[tuple]
    ) -> list[ir.Value]:
        """One K block: every fragment pair of the warp tile at every k slice."""
        for k in range(0, TILE_BITS, self.mma.k):
            a, b = self._fragments(stage, lhs, k), self._fragments(stage, rhs, k)
            if self.and_by_xor:
                half = len(accumulators) // 2
                either, both = accumulators[:half], accumulators[half:]
                zeros_a, zeros_b = [const(0).value] * len(a), [const(0).value] * len(b)
                either = self._slice(self._slice(either, a, zeros_b, "xor"), zeros_a, b, "xor")
                accumulators = either + self._slice(both, a, b, "xor")
            else:
                accumulators = self._slice(accumulators, a, b, self.problem.operation)
        return accumulators

    def _slice(self, acc: list[ir.Value], a: list[ir.Value], b: list[ir.Value], operation: str) -> list[ir.Value]:
        mma = self.mma
        assert mma.lhs is not None
        assert mma.rhs is not None
        size, a_size, b_size = (len(x.registers) for x in (mma.accumulator, mma.lhs, mma.rhs))
        across = self.tile.warp_columns // mma.n
        result = []
        for tile in range(len(acc) // size):
            i, j = divmod(tile, across)
            result += self._mma(
                a[i * a_size : (i + 1) * a_size], b[j * b_size : (j + 1) * b_size],
                acc[tile * size : (tile + 1) * size], operation,
            )  # fmt: skip
        return result

    def _mma(self, a: list[ir.Value], b: list[ir.Value], c: list[ir.Value], operation: str) -> list[ir.Value]:
        mma = self.mma
        struct = ir.Type.parse(f"!llvm.struct<({', '.join(['i32'] * len(c))})>")
        shape = ir.Attribute.parse(f"#nvvm.shape<m = {mma.m}, n = {mma.n}, k = {mma.k}>")
        row, column = ir.Attribute.parse("#nvvm.mma_layout<row>"), ir.Attribute.parse("#nvvm.mma_layout<col>")
        b1 = ir.Attribute.parse("#nvvm.mma_type<b1>")
        b1_op = ir.Attribute.parse(f"#nvvm.mma_b1op<{operation}_popc>")
        result = nvvm.mma_sync(
            struct, shape, row, column, a, b, c, b1_op=b1_op, multiplicand_a_ptx_type=b1, multiplicand_b_ptx_type=b1
        )
        return [_element(result, i) for i in range(len(c))]

    # --- copies ---

    def chunks(self, position: tuple[Scalar, Scalar, Scalar], wanted: Scalar) -> list[tuple[ir.Value, Scalar, Scalar]]:
        """This thread's chunks of a stage: global address, whether to read it, and offset in the stage.

        A chunk outside the matrix or of a step that is not wanted is not read (its address is that of the matrix).
        """
        problem, tile = self.problem, self.tile
        lhs_plane, rhs_plane, block = position
        operands = (
            (problem.op.lhs, lhs_plane, self.first_row, tile.rows, problem.m, 0),
            (problem.op.rhs, rhs_plane, self.first_column, tile.columns, problem.n, tile.rows * BLOCK_BYTES),
        )
        result = []
        for operand, plane, first, rows, bound, start in operands:
            column = self.thread % CHUNKS
            byte = block * BLOCK_BYTES + column * CHUNK_BYTES
            in_row = None if problem.row_bytes % BLOCK_BYTES == 0 else byte < problem.row_bytes
            for i in range(0, rows * CHUNKS, tile.threads):
                row_in_tile = self.thread // CHUNKS + i // CHUNKS
                row = first + row_in_tile
                read = wanted if in_row is None else wanted & in_row
                if bound % rows:
                    read = read & (row < bound)
                number = (plane * bound + row).to_i64() * problem.row_bytes + byte.to_i64()
                address = offset(self.pointers[operand], select(read, number, number - number), GLOBAL)
                swizzled = column ^ (row_in_tile % CHUNKS)
                result.append((address, read, row_in_tile * BLOCK_BYTES + swizzled * CHUNK_BYTES + start))
        return result


def _shifted_left(values: Sequence[ir.Value]) -> list[ir.Value]:
    return [(Scalar(value) << 1).value for value in values]


def _element(struct: ir.Value, position: int) -> ir.Value:
    return llvm.extractvalue(i32(), struct, ir.DenseI64ArrayAttr.get([position]))


class _AsyncCopy:
    """Tiles by cp.async, zero-filled where nothing is to be read."""

    def __init__(self, emitter: _Emitter) -> None:
        self.emitter = emitter

    def begin(self, stage: Scalar, position: tuple[Scalar, Scalar, Scalar], wanted: Scalar) -> Any:
        size = ir.IntegerAttr.get(i32(), CHUNK_BYTES)
        bypass_l1 = nvvm.LoadCacheModifierKind.CG

        def copy() -> None:
            for address, read, place in self.emitter.chunks(position, wanted):
                filled = select(read, const(CHUNK_BYTES), const(0)).value
                to = offset(self.emitter.shared, stage + place, SHARED)
                nvvm.cp_async_shared_global(to, address, size, bypass_l1, cp_size=filled)

        if_then(wanted, copy)
        nvvm.cp_async_commit_group()

    def finish(self, pending: Any, stage: Scalar) -> None:
        pass

    def wait(self) -> None:
        nvvm.cp_async_wait_group(ir.IntegerAttr.get(i32(), self.emitter.tile.stages - 2))

    def drain(self) -> None:
        nvvm.cp_async_wait_group(ir.IntegerAttr.get(i32(), 0))


class _PlainCopy:
    """Tiles through registers, for chips without cp.async: read before the products of a step, written after them."""

    def __init__(self, emitter: _Emitter) -> None:
        self.emitter = emitter

    def begin(self, stage: Scalar, position: tuple[Scalar, Scalar, Scalar], wanted: Scalar) -> Any:
        four = ir.VectorType.get([4], i32())
        zeros = arith.constant(four, ir.DenseElementsAttr.get_splat(four, ir.IntegerAttr.get(i32(), 0)))
        pending = []
        for address, read, place in self.emitter.chunks(position, wanted):
            pending.append((arith.select(read.value, load(four, address, CHUNK_BYTES), zeros), place))
        return pending

    def finish(self, pending: Any, stage: Scalar) -> None:
        for value, place in pending:
            store(value, offset(self.emitter.shared, stage + place, SHARED), CHUNK_BYTES)

    def wait(self) -> None:
        pass

    def drain(self) -> None:
        pass
