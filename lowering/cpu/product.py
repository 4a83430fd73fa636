"""Kernels for `bit.plane_matmul`, `bit.plane_grouped_matmul` and `bit.plane_search`: blocks of rows times panels of
columns, matrix after matrix.

For each panel the kernel first copies those rows of rhs so that neighbouring columns lie side by side, word by word;
then every block of rows reads the panel from the cache (K. Goto and R. van de Geijn, Anatomy of High-Performance
Matrix Multiplication, ACM TOMS 34(3), 2008).
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass, replace
from functools import cached_property

from mlir import ir
from mlir.dialects import arith, memref

from bitmlir.dialects import bit
from bitmlir.dialects.layout import BITS_PER_WORD, TILE_BITS, TILE_ROWS, ceil_div
from bitmlir.lowering.cpu.block import Block, clear_row
from bitmlir.lowering.cpu.kernel import Arrays, Kernel, kernel_function, loop, loop_with, read, task_rows, write
from bitmlir.lowering.cpu.popcount import ChainTable, PlaneCounter
from bitmlir.lowering.cpu.top import clear_keys
from bitmlir.lowering.cpu.vectors import LANES, lanes_below
from bitmlir.lowering.elements import Chain, arrays_read, chains_of
from bitmlir.lowering.emit import Carried, Scalar, const, i1, i32, if_then, select

__all__ = ["build_product_kernel"]

_ROWS = 2  # of a block: with 4 vectors of columns, counts and sums take 16 of AVX-512's 32 registers
_VECTORS = 4
_VECTOR_BYTES = LANES * BITS_PER_WORD // 8
_TILE_WORDS = TILE_BITS // BITS_PER_WORD


def build_product_kernel(name: str, op: bit.PlaneProduct) -> Kernel:
    """Emit the kernel of a product at the insertion point."""
    problem = _Problem(op)
    arguments = (
        op.lhs,
        op.rhs,
        op.offsets,
        op.out,
        op.out_sums,
        op.kept,
        op.lhs_tiles,
        op.rhs_tiles,
        *arrays_read(op.body),
    )
    tables = {c.last.result: ChainTable(f"{name}_{number}", c) for number, c in enumerate(problem.chains)}

    def body(arrays: Arrays, first: Scalar, last: Scalar) -> None:
        panel = memref.alloc(ir.MemRefType.get(problem.panel, i32()), [], [], alignment=_VECTOR_BYTES)
        _ProductKernel(problem, tables, arrays, first, last, panel).emit()
        memref.dealloc(panel)

    rows = problem.batch * problem.m
    row_block = task_rows(problem.words_per_row, rows, problem.block_rows)
    return kernel_function(name, arguments, rows, row_block, body)


@dataclass(frozen=True)
class _Problem:
    """A product with its sizes at hand."""

    op: bit.PlaneProduct

    @cached_property
    def m(self) -> int:
        """Rows of lhs, or of each matrix in a batch."""
        return ir.MemRefType(self.op.lhs.type).shape[-2]

    @property
    def is_batch(self) -> bool:
        """Whether lhs is a batch of matrices."""
        return ir.MemRefType(self.op.lhs.type).rank == 4

    @property
    def batch(self) -> int:
        """Matrices in lhs."""
        return ir.MemRefType(self.op.lhs.type).shape[1] if self.is_batch else 1

    @cached_property
    def rhs_shape(self) -> tuple[int, int, int]:
        """Planes, rows and words a row of a matrix in rhs; its rows are the result's columns."""
        planes, *_, n, words = ir.MemRefType(self.op.rhs.type).shape
        return planes, n, words

    @cached_property
    def chains(self) -> list[Chain]:
        """The plane products of the body."""
        return chains_of(self.op.body)

    @property
    def words_per_row(self) -> int:
        """Words to count for a row of the result."""
        _, n, words = self.rhs_shape
        return sum(len(chain.pairs) for chain in self.chains) * n * words

    @property
    def is_packed(self) -> bool:
        """Whether the result is a packed matrix."""
        return self.op.out_sums is not None

    @property
    def is_sparse(self) -> bool:
        """Whether a bitmap says which tiles are empty."""
        return self.op.lhs_tiles is not None or self.op.rhs_tiles is not None

    @property
    def block_rows(self) -> int:
        """Rows of a block."""
        return min(_ROWS, self.m)

    @cached_property
    def panel_columns(self) -> int:
        """Columns of a panel and of a block: fewer for narrow results, but whole words of packed ones."""
        together = BITS_PER_WORD if self.is_packed else LANES
        return min(ceil_div(self.rhs_shape[1], together) * together, _VECTORS * LANES)

    @property
    def panel(self) -> list[int]:
        """Sizes of the copy of a panel: planes, words, columns."""
        planes, _, words = self.rhs_shape
        return [planes, words, self.panel_columns]


@dataclass(frozen=True)
class _ProductKernel:
    """The rows [first, last) of a product, with memory for a panel.

    Of a batch or of groups these are first the rows of all matrices, then those of one: `place` is then its number, and
    `batch` is so for batches, whose lhs and result have a dimension for it.
    """

    problem: _Problem
    tables: dict[ir.Value, ChainTable]
    arrays: Arrays
    first: Scalar
    last: Scalar
    panel: ir.Value
    place: tuple[Scalar, ...] = ()
    batch: tuple[Scalar, ...] = ()

    def emit(self) -> None:
        """Emit the kernel's loops at the insertion point."""
        if self.problem.op.offsets is not None:
            self._emit_groups(self.problem.op.offsets)
        elif self.problem.is_batch:
            loop(self.first // self.problem.m, (self.last - 1) // self.problem.m + 1, 1, self._emit_matrix)
        else:
            self._emit_product()

    def _emit_matrix(self, number: Scalar) -> None:
        """What of a matrix of a batch lies in the rows [first, last) of all."""
        before = number * self.problem.m
        first = select(before < self.first, self.first - before, 0)
        last = (self.last - before).minimum(self.problem.m)
        replace(self, first=first, last=last, place=(number,), batch=(number,))._emit_product()

    def _emit_groups(self, offsets: ir.Value) -> None:
        """All groups, each up to the next one's offset, but never back or past the last row."""
        count = ir.MemRefType(offsets.type).shape[0] - 1
        rows = const(self.problem.m)

        def emit_group(number: Scalar, carried: Carried) -> Carried:
            start = Scalar(carried[0])
            offset = arith.maxsi(read(self.arrays[offsets], number + 1).value, const(0).value)
            end = select(
                number.equals(count - 1), rows, Scalar(arith.maxui(start.value, rows.minimum(Scalar(offset)).value))
            )
            first = Scalar(arith.maxui(self.first.value, start.to_index().value))
            last = self.last.minimum(end.to_index())
            group = replace(self, first=first, last=last, place=(number,))
            if_then(first < last, group._emit_product)
            return [end.value]

        loop_with([const(0).value], 0, count, 1, emit_group)

    def _emit_product(self) -> None:
        """One product."""
        if self.problem.is_packed:
            columns = self.problem.panel_columns
            covered = ceil_div(self.problem.rhs_shape[1], columns) * columns
            op, arrays, batch = self.problem.op, self.arrays, self.batch
            loop(self.first, self.last, 1, lambda row: clear_row(op, arrays, covered, row, batch))
        elif isinstance(self.problem.op, bit.PlaneSearchOp):
            clear_keys(self.problem.op, self.arrays, self.first, self.last)
        loop(0, self.problem.rhs_shape[1], self.problem.panel_columns, self._fill_columns)

    def _fill_columns(self, column: Scalar) -> None:
        """The part of the result in the panel that starts at a column."""
        n, width = self.problem.rhs_shape[1], self.problem.panel_columns
        self._copy_panel(column)
        columns = [column + lane for lane in range(0, width, LANES)]
        masks = [lanes_below(c, n) if n % width else None for c in columns]
        loop(self.first, self.last, self.problem.block_rows, lambda row: self._fill_block(row, columns, masks))

    def _copy_panel(self, column: Scalar) -> None:
        """panel[plane, word, c] = rhs[plane, column + c, word]; columns past the last one repeat it."""
        planes, n, words = self.problem.rhs_shape
        rhs, width = self.arrays[self.problem.op.rhs], self.problem.panel_columns

        def copy_tile(plane: Scalar, first: Scalar) -> None:
            end = (first + _TILE_WORDS).minimum(words)

            def copy_column(c: Scalar) -> None:
                row = (column + c).minimum(n - 1) if n % width else column + c

                def copy_word(word: Scalar) -> None:
                    write(read(rhs, plane, *self.place, row, word), self.panel, plane, word, c)

                loop(first, end, 1, copy_word)

            may_hold_bits = self._tile_bit(self.problem.op.rhs_tiles, plane, column, first)
            if_then(may_hold_bits, lambda: loop(0, width, 1, copy_column))

        loop(0, planes, 1, lambda plane: loop(0, words, _TILE_WORDS, lambda first: copy_tile(plane, first)))

    def _fill_block(self, row: Scalar, columns: list[Scalar], masks: list[ir.Value | None]) -> None:
        """One block of the result. Rows past the last one repeat it, and store the same once more."""
        op, problem = self.problem.op, self.problem
        rows = [row, *((row + r).minimum(self.last - 1) for r in range(1, problem.block_rows))]
        is_live = functools.partial(self._is_live, row, columns[0]) if problem.is_sparse else None
        bitwise = bit.bitwise_name(op.bitwise)
        counter = PlaneCounter(self.arrays[op.lhs], self.panel, rows, bitwise, is_live, self.batch)
        before_rows = ir.InsertionPoint(ir.InsertionPoint.current.block.owner)
        numbers = (self.place, self.batch)
        n = problem.rhs_shape[1]
        Block(op, n, self.arrays, rows, columns, masks, before_rows, counter, self.tables, *numbers).store()

    def _is_live(self, row: Scalar, column: Scalar, lhs_plane: Scalar, rhs_plane: Scalar, word: Scalar) -> Scalar:
        """Whether the tiles around a word may hold set bits in both planes, for the block at (row, column)."""
        lhs = self._tile_bit(self.problem.op.lhs_tiles, lhs_plane, row, word)
        rhs = self._tile_bit(self.problem.op.rhs_tiles, rhs_plane, column, word)
        return functools.reduce(operator.and_, (known for known in (lhs, rhs) if known is not None))

    def _tile_bit(self, tiles: ir.Value | None, plane: Scalar, row: Scalar, word: Scalar) -> Scalar | None:
        """The bit of a bitmap for the tile around (row, word); None without a bitmap."""
        if tiles is None:
            return None
        tile = word // _TILE_WORDS
        bits = read(self.arrays[tiles], plane, row // TILE_ROWS, tile // BITS_PER_WORD)
        return Scalar(arith.trunci(i1(), (bits >> (tile % BITS_PER_WORD).to_i32()).value))
