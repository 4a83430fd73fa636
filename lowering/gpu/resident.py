"""Plane products in a single trip through memory: a warp loads all its bits into registers, and multiplies them.

For results so small that barriers and copies to shared memory would take longer than the products. No two warps meet.
Of a row each of its four lanes loads 16 neighbouring bytes at a time, and gives their words to as many steps of the
matrix instruction: the order of k is free as long as both sides have the same.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from mlir import ir
from mlir.dialects import arith, vector

from bitmlir.dialects.layout import BITS_PER_WORD
from bitmlir.lowering.elements import Chain, Grid
from bitmlir.lowering.emit import Scalar, const, i32, select
from bitmlir.lowering.gpu.gathering import seen_chunk, seen_row
from bitmlir.lowering.gpu.matrices import Dealing, Place, Placement
from bitmlir.lowering.gpu.memory import (
    GLOBAL,
    Kernel,
    block_index,
    kernel_function,
    load,
    offset,
    overlap_launches,
    thread_index,
)
from bitmlir.lowering.gpu.product import ProductProblem, continued
from bitmlir.lowering.gpu.resident_tile import (
    CHUNK_WORDS,
    ResidentTile,
    resident_instruction,
    resident_placement,
    row_chunks,
)
from bitmlir.lowering.gpu.thread_tile import ThreadTile, group_pairs, ungroup_pairs
from bitmlir.lowering.gpu.warp_mma import WarpPart, issue_mma
from bitmlir.lowering.instructions import LANES, LANES_PER_ROW, FragmentLayout
from bitmlir.lowering.vectors import vector_of

__all__ = ["build_resident_kernel"]

_CHUNK_BYTES = CHUNK_WORDS * BITS_PER_WORD // 8

Words = list[ir.Value]  # of a lane's row, in the order in which they are multiplied


def build_resident_kernel(module: ir.Block, name: str, problem: ProductProblem, tile: ResidentTile) -> Kernel:
    """Emit the kernel into a `gpu.module`'s block and say how it is launched."""
    arguments = problem.arguments()
    place = resident_placement(problem, tile)
    overlaps = problem.target.overlaps_launches

    def emit(*pointers: ir.Value) -> None:
        if overlaps:
            overlap_launches(pointers)
        _Emitter(problem, tile, place, dict(zip(arguments, pointers, strict=True))).emit()

    with ir.InsertionPoint(module):
        kernel_function(name, tile.threads, arguments, {}, emit)
    return Kernel(name, (place.tiles, 1, 1), tile.threads, 0, arguments, zeroed=problem.zeroed, overlaps=overlaps)


@dataclass(frozen=True)
class _Side:
    """An operand: its matrix, its rows, and those of a lane, `offsets` from `first` on."""

    matrix: ir.Value
    bound: int
    first: Scalar
    offsets: list[int]
    is_covered: bool  # whether tiles end where the matrix does


class _Emitter:
    """One kernel while it is emitted."""

    def __init__(
        self, problem: ProductProblem, tile: ResidentTile, place: Placement, pointers: dict[ir.Value, ir.Value]
    ) -> None:
        mma = resident_instruction(problem.target)
        assert mma is not None
        self.problem, self.tile, self.pointers, self.mma = problem, tile, pointers, mma
        self.part = WarpPart.of(problem, mma, tile.warp_rows, tile.warp_columns)
        self.lane = thread_index() % LANES
        warp, warps_down = thread_index() // LANES, tile.rows // tile.warp_rows
        self.place: Place = Dealing(problem, place, tile.rows).locate(block_index())
        self.first_row = self.place.row * tile.rows + warp % warps_down * tile.warp_rows
        self.first_column = self.place.column * tile.columns + warp // warps_down * tile.warp_columns
        self.loaded: dict[tuple[ir.Value, int, int], list[Words]] = {}  # by matrix, plane and side

    def emit(self) -> None:
        problem, tile, (row, column) = self.problem, self.tile, self.part.first(self.lane)
        thread_tile = ThreadTile(
            problem.op,
            self.pointers,
            self.first_row + row,
            self.part.row_offsets,
            self.first_column + column,
            self.part.column_offsets,
            self.first_column,
            self.lane % LANES_PER_ROW,
            problem.row_bound(tile.rows),
            problem.column_bound(tile.columns),
            self.place.number,
        )
        self._load_all()
        replace(thread_tile, multiply=self._multiply, side_by_side=self.part.order.groups).store()

    # --- loading ---

    def _load_all(self) -> None:
        """Load the planes that are multiplied, of both operands, before anything else."""
        problem, lane_row = self.problem, self.lane // LANES_PER_ROW
        mma, order = self.mma, self.part.order
        assert mma.lhs is not None
        assert mma.rhs is not None
        down, across = range(0, self.tile.warp_rows, mma.m), range(0, self.tile.warp_columns, mma.n)
        rows = [i + row for i in down for row in mma.lhs.row_offsets]
        columns = [order.column(j + column) for j in across for column in mma.rhs.row_offsets]
        pairs = [pair for chain in problem.chains for pair in chain.pairs]
        bounds = problem.row_bound(self.tile.rows), problem.column_bound(self.tile.columns)
        first_column = self.first_column + order.column(lane_row)
        sides = (
            _Side(problem.op.lhs, problem.m, self.first_row + lane_row, rows, bounds[0] is None),
            _Side(problem.op.rhs, problem.n, first_column, columns, bounds[1] is None),
        )
        for number, side in enumerate(sides):
            for plane in sorted({pair[number] for pair in pairs}):
                row = self._seen_row if number == 0 and problem.window is not None else self._row
                self.loaded[side.matrix, plane, number] = [row(side, plane, at) for at in side.offsets]

    def _row(self, side: _Side, plane: int, distance: int) -> Words:
        """The lane's words of a row; those of the last one for rows past the end, which nobody asks for."""
        row = side.first + distance
        row = row if side.is_covered else row.minimum(side.bound - 1)
        row_bytes = self.problem.row_bytes
        start = (self.place.plane_in(side.matrix, const(plane)) * side.bound + row).to_i64() * row_bytes
        chunk = self.lane % LANES_PER_ROW * _CHUNK_BYTES
        words: Words = []
        for number in range(row_chunks(self.problem)):
            at = chunk + number * LANES_PER_ROW * _CHUNK_BYTES
            inside = None if (number + 1) * LANES_PER_ROW * _CHUNK_BYTES <= row_bytes else at < row_bytes
            at = at if inside is None else select(inside, at, 0)
            address = offset(self.pointers[side.matrix], start + at.to_i64(), GLOBAL)
            loaded = load(vector_of(i32(), CHUNK_WORDS), address, _CHUNK_BYTES)
            for index in range(CHUNK_WORDS):
                word = Scalar(vector.extract(loaded, [], [index]))
                words.append(word.value if inside is None else select(inside, word, 0).value)
        return words

    def _seen_row(self, side: _Side, plane: int, distance: int) -> Words:
        """The lane's words of what a window sees at a row."""
        matrix, chunk = self.pointers[side.matrix], self.lane % LANES_PER_ROW * _CHUNK_BYTES
        seen = seen_row(self.problem, side.first + distance, side.is_covered)
        words: Words = []
        for number in range(row_chunks(self.problem)):
            at = chunk + number * LANES_PER_ROW * _CHUNK_BYTES
            address, inside = seen_chunk(self.problem, matrix, seen, const(plane), at)
            address = arith.select(inside.value, address, matrix)
            loaded = load(vector_of(i32(), CHUNK_WORDS), address, _CHUNK_BYTES)
            elements = (Scalar(vector.extract(loaded, [], [index])) for index in range(CHUNK_WORDS))
            words += [select(inside, word, 0).value for word in elements]
        return words

    # --- multiplying ---

    def _multiply(self, chain: Chain, acc: Grid | None) -> Grid:
        """The chain's products on top of acc, for the thread's grid of accumulators."""
        slots = self.part.slots
        sums = [const(0).value] * len(slots) if acc is None else ungroup_pairs(acc, slots)
        for link in chain.links:
            shift, negate = (const(int(value)) if value else None for value in (link.shift, link.negate))
            sums = continued(sums, shift, negate)
            for lhs_plane, rhs_plane in link.pairs:
                self._add_product(sums, lhs_plane, rhs_plane)
        return group_pairs(sums, slots)

    def _add_product(self, sums: list[ir.Value], lhs_plane: int, rhs_plane: int) -> None:
        """Add the product of two planes to the accumulators."""
        mma, problem = self.mma, self.problem
        lhs, rhs = self.loaded[problem.op.lhs, lhs_plane, 0], self.loaded[problem.op.rhs, rhs_plane, 1]
        down, across = self.tile.warp_rows // mma.m, self.tile.warp_columns // mma.n
        step_words = _words_of_step(mma.lhs)
        size = len(mma.accumulator.registers)
        for first in range(0, row_chunks(problem) * CHUNK_WORDS, step_words):
            for i, j in itertools.product(range(down), range(across)):
                at = (i * across + j) * size
                a, b = _fragment(mma.lhs, lhs, i, first), _fragment(mma.rhs, rhs, j, first)
                sums[at : at + size] = issue_mma(mma, a, b, sums[at : at + size], problem.operation)


def _words_of_step(layout: FragmentLayout | None) -> int:
    """Words of a row that a lane gives to one instruction."""
    assert layout is not None
    return len(layout.column_offsets)


def _fragment(layout: FragmentLayout | None, rows: list[Words], number: int, first: int) -> list[ir.Value]:
    """The registers of fragment `number`, which takes the lane's words from `first` on."""
    assert layout is not None
    start = number * len(layout.row_offsets)
    return [rows[start + row][first + word] for row, word in layout.slots]
