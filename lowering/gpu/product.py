"""What the two kernel families for plane products share: the problem they solve and the steps of an output tile."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from mlir import ir
from mlir.dialects import arith, vector

from bitmlir.dialects import bit
from bitmlir.dialects.layout import BITS_PER_WORD, TILE_BITS, ceil_div, words_per_row
from bitmlir.dialects.window import Window
from bitmlir.lowering.elements import Chain, Elements, arrays_read, chains_of
from bitmlir.lowering.emit import Scalar, const, for_loop, i32
from bitmlir.lowering.gpu.steps import DenseSteps, SparseSteps, Steps, TileMap, lookup
from bitmlir.lowering.targets import Target
from bitmlir.lowering.vectors import as_vector, vector_of

__all__ = ["BLOCK_BYTES", "Link", "ProductProblem", "continued", "for_each_link"]

BLOCK_BYTES = TILE_BITS // 8  # of one row in one stage: 128, as wide as the widest swizzle


@dataclass(frozen=True)
class ProductProblem:
    """A product of planes for a target, with its sizes at hand."""

    op: bit.PlaneProduct
    target: Target

    @cached_property
    def window(self) -> Window | None:
        """Through which the kernel sees lhs, which are images then; its rows are what the window sees at each place."""
        return None if self.op.window is None else bit.window_in(self.op.window)

    @cached_property
    def m(self) -> int:
        """Rows of lhs; of a batch, of each matrix."""
        rows = ir.MemRefType(self.op.lhs.type).shape[-2]
        return rows if self.window is None else rows // self.window.pixels * math.prod(self.window.places)

    @cached_property
    def n(self) -> int:
        """Rows of rhs; of a batch or for groups, of each matrix."""
        return ir.MemRefType(self.op.rhs.type).shape[-2]

    @cached_property
    def is_batch(self) -> bool:
        """Whether lhs, rhs and the result are batches of matrices."""
        return ir.MemRefType(self.op.lhs.type).rank == 4

    @cached_property
    def batch(self) -> int:
        """Matrices in lhs."""
        return ir.MemRefType(self.op.lhs.type).shape[1] if self.is_batch else 1

    @cached_property
    def groups(self) -> int | None:
        """Groups of rows of lhs, each with a matrix of rhs; None if there are none."""
        return None if self.op.offsets is None else ir.MemRefType(self.op.rhs.type).shape[1]

    @cached_property
    def k(self) -> int:
        """Elements of a row."""
        return ir.IntegerAttr(self.op.attributes["k"]).value

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of a packed row."""
        return words_per_row(self.k) * (BITS_PER_WORD // 8)

    @property
    def operation(self) -> str:
        """The bit operation."""
        return bit.bitwise_name(self.op.bitwise)

    @cached_property
    def out_type(self) -> ir.MemRefType:
        """The type of the result, or of its planes."""
        return ir.MemRefType(self.op.out.type)

    @cached_property
    def packed(self) -> bool:
        """Whether the result is a packed matrix."""
        return self.op.out_sums is not None

    @cached_property
    def sparse(self) -> bool:
        """Whether a bitmap says which tiles are empty."""
        return self.op.lhs_tiles is not None or self.op.rhs_tiles is not None

    @cached_property
    def sum_columns(self) -> int | None:
        """Columns that share a sum of a packed result, if a row has several."""
        sums = bit.sums_of_row(self.op.out, self.op.out_sums) if self.packed else 1
        return None if sums == 1 else self.n // sums

    @cached_property
    def numbers(self) -> ir.Value | None:
        """The array of numbers that is stored: a plain result, or what is kept beside a packed one."""
        if isinstance(self.op, bit.PlaneSearchOp):
            return None
        return self.op.kept if self.packed else self.op.out

    @cached_property
    def chains(self) -> list[Chain]:
        """The body's plane products."""
        return chains_of(self.op.body)

    @cached_property
    def loaded(self) -> dict[str, list[ir.Value]]:
        """What the body reads by row or by column alone, by that axis: see `Elements.loaded`."""
        body = Elements(self.op.body, None)  # pyright: ignore[reportArgumentType]  # nothing is built
        return {axis: body.loaded(axis) for axis in ("row", "column")}

    @cached_property
    def read_by_element(self) -> list[ir.Value]:
        """The arrays that the body reads for each element alone."""
        return Elements(self.op.body, None).read_by_element  # pyright: ignore[reportArgumentType]  # nothing is built

    @cached_property
    def covered_columns(self) -> int:
        """Columns that output tiles must cover: a packed result's rows are padded, and the padding is written too."""
        return self.out_type.shape[-1] * BITS_PER_WORD if self.packed else self.n

    def row_bound(self, tile_rows: int) -> int | None:
        """The number of rows, if tiles reach past the last one."""
        return self.m if self.m % tile_rows else None

    def column_bound(self, tile_columns: int) -> int | None:
        """The number of columns, if tiles that cover the padding, too, reach past the last one."""
        return self.n if ceil_div(self.covered_columns, tile_columns) * tile_columns != self.n else None

    @cached_property
    def zeroed(self) -> tuple[ir.Value, ...]:
        """Buffers that must be zero before the kernel runs: what many blocks add row sums or keys to."""
        if isinstance(self.op, bit.PlaneSearchOp):
            return (self.op.out,)
        return (self.op.out_sums,) if self.packed else ()

    def arguments(self) -> tuple[ir.Value, ...]:
        """The memrefs the kernel needs, lhs and rhs first, each once."""
        op = self.op
        values = [
            op.lhs,
            op.rhs,
            op.out,
            op.out_sums,
            op.kept,
            op.lhs_tiles,
            op.rhs_tiles,
            op.offsets,
            *arrays_read(op.body),
        ]
        return tuple(dict.fromkeys(value for value in values if value is not None))

    def steps(
        self,
        chain: Chain,
        pointers: dict[ir.Value, ir.Value],
        rows: tuple[Scalar, int],
        columns: tuple[Scalar, int],
        k_blocks: int | None = None,
        part: tuple[Scalar, int] | None = None,
    ) -> Steps:
        """The steps of a chain on an output tile, given as (first row, rows) and (first column, columns). Of dense
        operands there may be other K blocks than those of `TILE_BITS`, and a part of them, given as (number, how many
        parts), may be asked for."""
        op = self.op
        if op.lhs_tiles is None and op.rhs_tiles is None:
            return DenseSteps(chain.pairs, k_blocks or ceil_div(self.k, TILE_BITS), part)

        def tile_map(words: ir.Value | None, part: tuple[Scalar, int]) -> TileMap | None:
            if words is None:
                return None
            _, row_tiles, words_per_row = ir.MemRefType(words.type).shape
            return TileMap(pointers[words], row_tiles, words_per_row, *part)

        return SparseSteps(chain.pairs, self.k, tile_map(op.lhs_tiles, rows), tile_map(op.rhs_tiles, columns))


@dataclass(frozen=True)
class Link:
    """A link of a chain at run time."""

    first_pair: Scalar
    pairs: Scalar
    shift: Scalar | None
    negate: Scalar | None


def for_each_link(
    chain: Chain, initial: list[ir.Value], body: Callable[[Link, list[ir.Value]], list[ir.Value]]
) -> list[ir.Value]:
    """carried = body(link, carried) for each link, in a loop, so that the code does not grow with the planes."""
    pairs = [len(link.pairs) for link in chain.links]
    starts = list(itertools.accumulate(pairs, initial=0))[:-1]
    # The shift and the sign of the first link apply to nothing yet, or to an accumulator that `initial` holds.
    shifts, signs = [link.shift for link in chain.links], [int(link.negate) for link in chain.links]
    if len(pairs) == 1:
        return body(Link(const(0), const(pairs[0]), None, None), initial)

    def visit(number: Scalar, carried: list[ir.Value]) -> list[ir.Value]:
        shift = lookup(shifts, number) if any(shifts) else None
        negate = lookup(signs, number) if any(signs) else None
        return body(Link(lookup(starts, number), lookup(pairs, number), shift, negate), carried)

    return for_loop(const(0), const(len(pairs)), const(1), initial, visit)


def continued(accumulators: Sequence[ir.Value], shift: Scalar | None, negate: Scalar | None) -> list[ir.Value]:
    """The accumulators shifted and with their sign changed as a link asks.

    They are handled as one vector: LLVM takes quadratic time over many scalars that are shifted alike.
    """
    if shift is None and negate is None:
        return list(accumulators)
    lanes = len(accumulators)
    values = vector.from_elements(vector_of(i32(), lanes), accumulators)
    if shift is not None:
        values = arith.shli(values, as_vector(shift.value, lanes))
    if negate is not None:
        mask = as_vector((const(0) - negate).value, lanes)  # all ones to negate: (v ^ mask) − mask
        values = arith.subi(arith.xori(values, mask), mask)
    return [vector.extract(values, [], [i]) for i in range(lanes)]
