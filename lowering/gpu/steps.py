"""Which (plane pair, K block) steps an output tile takes: all of them, or those that its bitmaps leave.

One K block is `TILE_BITS` elements: 128 bytes of a packed row, one stage of a kernel's ring, one bit of a tile bitmap.
Producers walk the steps; consumers only need to know how many there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mlir import ir
from mlir.dialects import llvm

from bitmlir.dialects.layout import BITS_PER_WORD, TILE_BITS, TILE_ROWS, ceil_div
from bitmlir.lowering.emit import Scalar, as_signed, const, for_loop, i32, select, while_loop
from bitmlir.lowering.gpu.memory import GLOBAL, load, offset

__all__ = ["DenseSteps", "SparseSteps", "Steps", "TileMap", "lookup"]

State = list[ir.Value]


class Steps(Protocol):
    """The steps of a chain of plane products on one output tile: pair after pair, and K block after K block."""

    def count(self, first_pair: Scalar, pairs: Scalar) -> Scalar:
        """How many there are of so many pairs."""
        ...

    def first(self) -> State:
        """The state of the first step; meaningless if there is none."""
        ...

    def next(self, state: State) -> State:
        """The state of the step after."""
        ...

    def position(self, state: State) -> tuple[Scalar, Scalar, Scalar]:
        """Plane of lhs, plane of rhs, K block."""
        ...


def lookup(values: Sequence[int], number: Scalar) -> Scalar:
    """values[number], for small values ≥ 0 known now: by arithmetic if they are evenly spaced, else from bit fields."""
    step = values[1] - values[0] if len(values) > 1 else 0
    if all(value == values[0] + step * i for i, value in enumerate(values)):
        return const(values[0]) if step == 0 else number * step + values[0]
    width = next(w for w in (1, 2, 4, 8, 16) if max(values) < 1 << w)
    fields = 32 // width
    words = [values[i : i + fields] for i in range(0, len(values), fields)]
    packed = [const(as_signed(sum(v << width * i for i, v in enumerate(word)))) for word in words]
    word = packed[-1]
    for i in range(len(packed) - 2, -1, -1):
        word = select((number // fields).equals(i), packed[i], word)
    return (word >> (number % fields * width)) & ((1 << width) - 1)


@dataclass(frozen=True)
class DenseSteps:
    """All pairs, and for each all K blocks, or a part of them: (number, how many parts)."""

    pairs: Sequence[tuple[int, int]]
    k_blocks: int
    part: tuple[Scalar, int] | None = None

    def _start(self, parts: int) -> Scalar:
        """The first K block of the part that lies so many parts further on."""
        if self.part is None:
            return const(parts * self.k_blocks)
        number, count = self.part
        return (number + parts) * self.k_blocks // count

    def count(self, first_pair: Scalar, pairs: Scalar) -> Scalar:
        if self.part is None:
            return pairs * self.k_blocks
        return pairs * (self._start(1) - self._start(0))

    def first(self) -> State:
        return [const(0).value, self._start(0).value]

    def next(self, state: State) -> State:
        pair, block = map(Scalar, state)
        following = block + 1
        wrapped = following.equals(self._start(1))
        return [(pair + select(wrapped, 1, const(0))).value, select(wrapped, self._start(0), following).value]

    def position(self, state: State) -> tuple[Scalar, Scalar, Scalar]:
        pair, block = map(Scalar, state)
        lhs, rhs = zip(*self.pairs, strict=True)
        return lookup(lhs, pair), lookup(rhs, pair), block


@dataclass(frozen=True)
class TileMap:
    """The bitmap of one operand, as an output tile sees it: words [plane][row tile][word]; the tile's rows start at
    `first_row` and cover `rows` of them."""

    words: ir.Value
    row_tiles: int
    words_per_row: int
    first_row: Scalar
    rows: int

    def read(self, plane: Scalar, word: Scalar) -> Scalar:
        """One bit for each of 32 K blocks: whether any of the covered row tiles holds something."""
        bits = const(0)
        # A tile that starts anywhere it can may reach into one row tile more than it is long.
        furthest = TILE_ROWS - math.gcd(self.rows, TILE_ROWS)
        for sub_tile in range((furthest + self.rows - 1) // TILE_ROWS + 1):
            row_tile = (self.first_row // TILE_ROWS + sub_tile).minimum(self.row_tiles - 1)
            index = (plane * self.row_tiles + row_tile) * self.words_per_row + word
            address = offset(self.words, index.to_i64() * (BITS_PER_WORD // 8), GLOBAL)
            bits = bits | Scalar(load(i32(), address))
        return bits


@dataclass(frozen=True)
class SparseSteps:
    """The steps whose tiles of both operands hold something; a side without a bitmap counts as full.

    State: the number of the current word (pair-major) and its bits not yet visited, never 0 while steps are left.
    """

    pairs: Sequence[tuple[int, int]]
    k: int
    lhs: TileMap | None
    rhs: TileMap | None

    @property
    def _words(self) -> int:
        return ceil_div(self.k, TILE_BITS * BITS_PER_WORD)

    def _read(self, number: Scalar) -> Scalar:
        pair, word = number // self._words, number % self._words
        lhs_planes, rhs_planes = zip(*self.pairs, strict=True)
        bits = const(-1)
        if self.lhs is not None:
            bits = bits & self.lhs.read(lookup(lhs_planes, pair), word)
        if self.rhs is not None:
            bits = bits & self.rhs.read(lookup(rhs_planes, pair), word)
        return bits

    @property
    def _total(self) -> int:
        return len(self.pairs) * self._words

    def count(self, first_pair: Scalar, pairs: Scalar) -> Scalar:
        def add(number: Scalar, carried: State) -> State:
            return [(Scalar(carried[0]) + Scalar(llvm.intr_ctpop(self._read(number).value))).value]

        first = first_pair * self._words
        return Scalar(for_loop(first, first + pairs * self._words, const(1), [const(0).value], add)[0])

    def first(self) -> State:
        return self._seek([const(0).value, self._read(const(0)).value])

    def next(self, state: State) -> State:
        number, bits = map(Scalar, state)
        return self._seek([number.value, (bits & (bits - 1)).value])

    def _seek(self, state: State) -> State:
        """The first word from here on that has bits left."""

        def empty(state: State) -> Scalar:
            number, bits = map(Scalar, state)
            return bits.equals(0) & (number < self._total - 1)

        def advance(state: State) -> State:
            number = Scalar(state[0]) + 1
            return [number.value, self._read(number).value]

        return while_loop(state, empty, advance)

    def position(self, state: State) -> tuple[Scalar, Scalar, Scalar]:
        number, bits = map(Scalar, state)
        pair, word = number // self._words, number % self._words
        lhs, rhs = zip(*self.pairs, strict=True)
        lowest = Scalar(llvm.intr_cttz(bits.value, ir.BoolAttr.get(False)))
        return lookup(lhs, pair), lookup(rhs, pair), word * BITS_PER_WORD + lowest
