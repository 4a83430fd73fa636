"""Kernels for `bit.plane_matmul`: blocks of rows times panels of columns.

For each panel the kernel first copies those rows of rhs so that neighbouring columns lie side by side, word by word;
then every block of rows reads the panel from the cache (K. Goto and R. van de Geijn, Anatomy of High-Performance
Matrix Multiplication, ACM TOMS 34(3), 2008).
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from functools import cached_property

from mlir import ir
from mlir.dialects import arith, memref

from bitmlir.dialects import bit
from bitmlir.dialects.layout import BITS_PER_WORD, TILE_BITS, TILE_ROWS
from bitmlir.lowering.cpu.block import Block
from bitmlir.lowering.cpu.kernel import Arrays, Kernel, kernel_function, loop, read, task_rows, write
from bitmlir.lowering.cpu.popcount import ChainTable, PlaneCounter
from bitmlir.lowering.cpu.vectors import LANES, lanes_below
from bitmlir.lowering.elements import Chain, chains_of
from bitmlir.lowering.emit import Scalar, const, i1, i32, if_then

__all__ = ["build_product_kernel"]

_ROWS = 2  # of a block: with 4 vectors of columns, counts and sums take 16 of AVX-512's 32 registers
_VECTORS = 4
_VECTOR_BYTES = LANES * BITS_PER_WORD // 8
_TILE_WORDS = TILE_BITS // BITS_PER_WORD


def build_product_kernel(name: str, op: bit.PlaneMatmulOp) -> Kernel:
    """Emit the kernel of a product at the insertion point."""
    problem = _Problem(op)
    reads = [inner.operands[0] for inner in op.body.operations if inner.operation.name == "memref.load"]
    arguments = (op.lhs, op.rhs, op.out, op.out_sums, op.lhs_tiles, op.rhs_tiles, *reads)
    tables = {c.last.result: ChainTable(f"{name}_{number}", c) for number, c in enumerate(problem.chains)}

    def body(arrays: Arrays, first: Scalar, last: Scalar) -> None:
        panel = memref.alloc(ir.MemRefType.get(problem.panel, i32()), [], [], alignment=_VECTOR_BYTES)
        _ProductKernel(problem, tables, arrays, first, last, panel).emit()
        memref.dealloc(panel)

    row_block = task_rows(problem.words_per_row, problem.m, problem.block_rows)
    return kernel_function(name, arguments, problem.m, row_block, body)


@dataclass(frozen=True)
class _Problem:
    """A `bit.plane_matmul` with its sizes at hand."""

    op: bit.PlaneMatmulOp

    @cached_property
    def m(self) -> int:
        """Rows of lhs."""
        return ir.MemRefType(self.op.lhs.type).shape[1]

    @cached_property
    def rhs_shape(self) -> tuple[int, int, int]:
        """Planes, rows and words a row of rhs; its rows are the result's columns."""
        planes, n, words = ir.MemRefType(self.op.rhs.type).shape
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
        return min(-(-self.rhs_shape[1] // together) * together, _VECTORS * LANES)

    @property
    def panel(self) -> list[int]:
        """Sizes of the copy of a panel: planes, words, columns."""
        planes, _, words = self.rhs_shape
        return [planes, words, self.panel_columns]


@dataclass(frozen=True)
class _ProductKernel:
    """The rows [first, last) of a product, with memory for a panel."""

    problem: _Problem
    tables: dict[ir.Value, ChainTable]
    arrays: Arrays
    first: Scalar
    last: Scalar
    panel: ir.Value

    def emit(self) -> None:
        """Emit the kernel's loops at the insertion point."""
        if self.problem.is_packed:
            loop(self.first, self.last, 1, self._clear_row)
        loop(0, self.problem.rhs_shape[1], self.problem.panel_columns, self._fill_columns)

    def _clear_row(self, row: Scalar) -> None:
        """Set the row's sum, to which each panel adds, and its words past the last panel to 0."""
        out, n, columns = self.problem.op.out, self.problem.rhs_shape[1], self.problem.panel_columns
        planes, _, words = ir.MemRefType(out.type).shape
        first_padding = -(-n // columns) * columns // BITS_PER_WORD
        write(const(0), self.arrays[self.problem.op.out_sums], row)
        for plane in range(planes):
            for word in range(first_padding, words):
                write(const(0), self.arrays[out], plane, row, word)

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
                loop(first, end, 1, lambda word: write(read(rhs, plane, row, word), self.panel, plane, word, c))

            may_hold_bits = self._tile_bit(self.problem.op.rhs_tiles, plane, column, first)
            if_then(may_hold_bits, lambda: loop(0, width, 1, copy_column))

        loop(0, planes, 1, lambda plane: loop(0, words, _TILE_WORDS, lambda first: copy_tile(plane, first)))

    def _fill_block(self, row: Scalar, columns: list[Scalar], masks: list[ir.Value | None]) -> None:
        """One block of the result. Rows past the last one repeat it, and store the same once more."""
        op, problem = self.problem.op, self.problem
        rows = [row, *((row + r).minimum(self.last - 1) for r in range(1, problem.block_rows))]
        is_live = functools.partial(self._is_live, row, columns[0]) if problem.is_sparse else None
        counter = PlaneCounter(self.arrays[op.lhs], self.panel, rows, bit.bitwise_name(op.bitwise), is_live)
        before_rows = ir.InsertionPoint(ir.InsertionPoint.current.block.owner)
        Block(op, self.arrays, rows, columns, masks, before_rows, counter, self.tables).store()

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
