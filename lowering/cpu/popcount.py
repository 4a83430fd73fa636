"""Plane products on a block of the result: the inner loops of the CPU path.

Counts are kept in bytes, where CPUs without a vector popcount (AVX-512 BITALG) look up two nibbles a byte and need no
sums across bytes; after each `_CHUNK_WORDS` words they are added up in 32 bits.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith, math, memref, scf, vector

from bitmlir.dialects.layout import BITS_PER_WORD
from bitmlir.lowering.cpu.kernel import as_index, loop_with, read
from bitmlir.lowering.cpu.vectors import LANES
from bitmlir.lowering.elements import Chain
from bitmlir.lowering.emit import Carried, Scalar, i32, index
from bitmlir.lowering.vectors import as_vector, splat, vector_of

__all__ = ["ChainTable", "PlaneCounter"]

_WORD_BYTES = BITS_PER_WORD // 8
_CHUNK_WORDS = 16  # a byte holds the counts of 31 words; 16 divides the 32 words of a bitmap's tile


class ChainTable:
    """A chain of plane products as constants in the module: one loop nest then serves all its links and pairs.

    links, memref<Lx4xindex>: first pair, pair past the last, shift, and −1 where the sign changes, else 0.
    pairs, memref<Tx2xindex>: lhs plane, rhs plane.
    """

    def __init__(self, name: str, chain: Chain) -> None:
        """Emit the constants at the insertion point; `name` begins their names."""
        starts = itertools.accumulate((len(link.pairs) for link in chain.links), initial=0)
        ranges = itertools.pairwise(starts)
        links = [(*pairs, link.shift, -int(link.negate)) for pairs, link in zip(ranges, chain.links, strict=True)]
        self._links, self._pairs = _constant(f"{name}_links", links), _constant(f"{name}_pairs", chain.pairs)
        self.length = len(links)

    def links(self) -> ir.Value:
        """The array of links, for use at the insertion point."""
        return memref.get_global(self._links.type_.value, self._links.sym_name.value)

    def pairs(self) -> ir.Value:
        """The array of pairs, for use at the insertion point."""
        return memref.get_global(self._pairs.type_.value, self._pairs.sym_name.value)


def _constant(name: str, rows: Sequence[tuple[int, ...]]) -> memref.GlobalOp:
    """A constant array of the module."""
    shape = [len(rows), len(rows[0])]
    values = [ir.IntegerAttr.get(index(), value) for row in rows for value in row]
    content = ir.DenseElementsAttr.get(values, ir.RankedTensorType.get(shape, index()))
    type_ = ir.TypeAttr.get(ir.MemRefType.get(shape, index()))
    return memref.GlobalOp(name, type_, sym_visibility="private", initial_value=content, constant=True)


@dataclass(frozen=True)
class PlaneCounter:
    """Runs chains of plane products on the accumulators of a block: vectors of i32, row after row.

    lhs: memref<PxMxWxi32>, in which the block takes `rows`; of a batch memref<PxBxMxWxi32>, in matrix `batch`.
    panel: memref<QxWxCxi32>, the block's columns of rhs, neighbours side by side.
    is_live: (lhs plane, rhs plane, word) -> whether the tile around the word may hold a set bit in both operands.
    """

    lhs: ir.Value
    panel: ir.Value
    rows: Sequence[Scalar]
    bitwise: str
    is_live: Callable[[Scalar, Scalar, Scalar], Scalar] | None = None
    batch: tuple[Scalar, ...] = ()

    def run(self, table: ChainTable, sums: Carried) -> Carried:
        """The accumulators after a chain: for each link shift, change the sign, and add its pairs' popcounts."""
        links, pairs = table.links(), table.pairs()

        def add_pair(t: Scalar, carried: Carried) -> Carried:
            return self._add_pair(read(pairs, t, 0), read(pairs, t, 1), carried)

        def run_link(number: Scalar, carried: Carried) -> Carried:
            first, last, shift, sign = (read(links, number, field) for field in range(4))
            by, mask = (as_vector(field.to_i32().value, LANES) for field in (shift, sign))
            shifted = [arith.shli(value, by) for value in carried]
            signed = [arith.subi(arith.xori(value, mask), mask) for value in shifted]  # −v = (v ^ −1) − (−1)
            return loop_with(signed, first, last, 1, add_pair)

        return loop_with(sums, 0, table.length, 1, run_link)

    def _add_pair(self, lhs_plane: Scalar, rhs_plane: Scalar, sums: Carried) -> Carried:
        """sums + the popcounts of one pair of planes."""
        words = ir.MemRefType(self.panel.type).shape[1]

        def add_chunk(first: Scalar, carried: Carried) -> Carried:
            end = first + _CHUNK_WORDS
            if words % _CHUNK_WORDS:
                end = end.minimum(words)
            add = lambda: self._add_words(lhs_plane, rhs_plane, first, end, carried)  # noqa: E731
            return add() if self.is_live is None else _add_if(self.is_live(lhs_plane, rhs_plane, first), add, carried)

        return loop_with(sums, 0, words, _CHUNK_WORDS, add_chunk)

    def _add_words(self, lhs_plane: Scalar, rhs_plane: Scalar, first: Scalar, end: Scalar, sums: Carried) -> Carried:
        """sums + the popcounts of the words from first to end, at most _CHUNK_WORDS."""
        combine = {"and": arith.andi, "xor": arith.xori}[self.bitwise]
        words, bytes_ = vector_of(i32(), LANES), vector_of(ir.IntegerType.get_signless(8), LANES * _WORD_BYTES)
        columns = [as_index(column) for column in range(0, ir.MemRefType(self.panel.type).shape[2], LANES)]

        def add_word(word: Scalar, counts: Carried) -> Carried:
            rhs = [vector.load(words, self.panel, [i.value for i in (rhs_plane, word, c)]) for c in columns]
            lhs = [as_vector(read(self.lhs, lhs_plane, *self.batch, row, word).value, LANES) for row in self.rows]
            combined = (vector.bitcast(bytes_, combine(x, y)) for x in lhs for y in rhs)
            return [arith.addi(count, math.ctpop(x)) for count, x in zip(counts, combined, strict=True)]

        counts = loop_with([splat(0, bytes_)] * len(sums), first, end, 1, add_word)
        return [arith.addi(total, _sum_of_bytes(count)) for total, count in zip(sums, counts, strict=True)]


def _add_if(condition: Scalar, add: Callable[[], Carried], sums: Carried) -> Carried:
    """add() where the condition holds, else the sums as they are."""
    branch = scf.IfOp(condition.value, [value.type for value in sums], has_else=True)
    for region, result in zip(branch.regions, (add, lambda: sums), strict=True):
        with ir.InsertionPoint(region.blocks[0]):
            scf.yield_(result())
    return list(branch.results)


def _sum_of_bytes(counts: ir.Value) -> ir.Value:
    """The sum of the four bytes of each 32-bit lane."""
    type_ = vector_of(i32(), LANES)
    lanes = vector.bitcast(type_, counts)
    even_bytes = splat(0x00FF00FF, type_)
    odd_bytes = arith.andi(arith.shrui(lanes, splat(8, type_)), even_bytes)
    halves = arith.addi(arith.andi(lanes, even_bytes), odd_bytes)
    low_halves = arith.andi(halves, splat(0xFFFF, type_))
    return arith.addi(low_halves, arith.shrui(halves, splat(16, type_)))
