"""The elements of an output tile that one thread holds: positions, reads, arithmetic and stores, for all kernels.

Lanes share the layout of every accumulator fragment (see `bitmlir.lowering.instructions`): four neighbouring lanes hold
a row, each of them pairs of neighbouring columns in every group of eight.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith, llvm, vector

from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.layout import BITS_PER_WORD
from bitmlir.lowering.elements import Chain, Elements, Grid
from bitmlir.lowering.emit import Scalar, const, i1, i32, if_then, select
from bitmlir.lowering.gpu.memory import GLOBAL, load, offset, shuffle_xor, store
from bitmlir.lowering.instructions import LANES_PER_ROW
from bitmlir.lowering.vectors import apply, as_vector, lane_numbers, splat, vector_of

__all__ = ["PAIR", "ThreadTile", "element_bytes", "group_pairs", "ungroup_pairs"]

PAIR = 2  # neighbouring columns that a lane holds in every group of eight

Position = tuple[tuple[str, int] | ir.Value, ...]  # an axis with its slot, or a constant of the body


@dataclass
class ThreadTile:
    """One thread's part of an output tile; it is the `ElementBuilder` of the GPU kernels.

    Slot r lies in row `first_row` + row_offsets[r]. A column slot is a pair of neighbouring columns, the first of them
    `first_column` + column_offsets[c], which is even: what depends on the column is a vector of two. `tile_column` is
    the first column of the warp's part of the tile, `lane` the lane's number among its four. `row_bound` and
    `column_bound` are the matrix's sizes where tiles may reach past them, else None.
    """

    op: bit.PlaneMatmulOp
    pointers: dict[ir.Value, ir.Value]
    first_row: Scalar
    row_offsets: list[int]
    first_column: Scalar
    column_offsets: list[int]
    tile_column: Scalar
    lane: Scalar
    row_bound: int | None
    column_bound: int | None
    multiply: Callable[[Chain, Grid | None], Grid]

    @property
    def row_slots(self) -> int:
        return len(self.row_offsets)

    @property
    def column_slots(self) -> int:
        return len(self.column_offsets)

    # --- ElementBuilder ---

    def position(self, axis: str, slot: int) -> ir.Value:
        position = self._position(axis, slot).to_index()
        return position.value if axis == "row" else lane_numbers(position, PAIR)

    def _position(self, axis: str, slot: int) -> Scalar:
        """A slot's row or column."""
        if axis == "row":
            return self.first_row + self.row_offsets[slot]
        return self.first_column + self.column_offsets[slot]

    def load(self, array: ir.Value, position: Position) -> ir.Value:
        element = ir.MemRefType(array.type).element_type
        if element != i1():
            return self._load(array, position, element)
        value = self._load(array, position, ir.IntegerType.get_signless(8))  # a byte each; vectors of i1 would be bits
        return arith.trunci(_bits() if isinstance(value.type, ir.VectorType) else i1(), value)

    def _load(self, array: ir.Value, position: Position, element: ir.Type) -> ir.Value:
        shape = ir.MemRefType(array.type).shape
        by_column = [isinstance(item, tuple) and item[0] == "column" for item in position]
        if not any(by_column):
            return load(element, self._address(array, position))
        pair = vector_of(element, PAIR)
        # Pairs are aligned, and lie on one side of the matrix's edge, in rows of even length.
        if by_column[-1] and not any(by_column[:-1]) and shape[-1] % PAIR == 0:
            return load(pair, self._address(array, position), PAIR * element_bytes(element))
        elements = [load(element, self._address(array, position, lane)) for lane in range(PAIR)]
        return vector.from_elements(pair, elements)

    def _address(self, array: ir.Value, position: Position, lane: int = 0) -> ir.Value:
        """Where an array's element lies, moved inside the array for slots past the matrix's end.

        All slots share one address for each way of indexing, and differ by constants.
        """
        type_ = ir.MemRefType(array.type)
        size = element_bytes(type_.element_type)
        dynamic: list[Scalar] = []
        static = 0
        for axis, item in enumerate(position):
            stride = math.prod(type_.shape[axis + 1 :]) * size
            if isinstance(item, ir.Value):
                dynamic.append(Scalar(item).to_i32().to_i64() * stride)
                continue
            kind, slot = item
            first, distance, bound = (
                (self.first_row, self.row_offsets[slot], self.row_bound)
                if kind == "row"
                else (self.first_column, self.column_offsets[slot] + lane, self.column_bound)
            )
            if bound is None:
                dynamic.append(first.to_i64() * stride)
                static += distance * stride
            else:
                # The last one inside; for columns of a matrix of even width, the one of the last pair.
                end = bound - 1 if kind == "row" or bound % PAIR else bound - PAIR + lane
                dynamic.append((first + distance).minimum(end).to_i64() * stride)
        start = functools.reduce(lambda at, distance: offset(at, distance, GLOBAL), dynamic, self.pointers[array])
        return offset(start, static, GLOBAL)

    def apply(self, op: ir.OpView, operands: list[ir.Value], by_column: bool) -> ir.Value:
        return apply(op, operands, PAIR if by_column else None)

    def product(self, chain: Chain, acc: Grid | None) -> Grid:
        return self.multiply(chain, acc)

    # --- results ---

    def store(self) -> None:
        """Run the body on the thread's elements and store what it yields."""
        elements = Elements(self.op.body, self)
        if self.op.out_sums is None:
            self._store_plain(elements)
        else:
            self._store_packed(elements)

    def _guard(self, axis: str, slot: int, lane: int = 0) -> Scalar | None:
        """Whether a row, or a column of a pair, lies inside the matrix; None if it always does."""
        bound = self.row_bound if axis == "row" else self.column_bound
        return None if bound is None else self._position(axis, slot) + lane < bound

    def _store_plain(self, elements: Elements) -> None:
        out = ir.MemRefType(self.op.out.type)
        columns, size = out.shape[1], element_bytes(out.element_type)
        origin = self.first_row.to_i64() * columns + self.first_column.to_i64()
        base = offset(self.pointers[self.op.out], origin * size, GLOBAL)
        # Columns outside, so that what depends on the column alone is needed only for a moment.
        for c in range(self.column_slots):
            for r in range(self.row_slots):
                pair = as_vector(elements.at(elements.yielded, r, c), PAIR)
                address = offset(base, (self.row_offsets[r] * columns + self.column_offsets[c]) * size, GLOBAL)
                row_guard = self._guard("row", r)
                if columns % PAIR == 0:
                    guard = _both(row_guard, self._guard("column", c))
                    if_then(guard, functools.partial(store, pair, address, PAIR * size))
                    continue
                for lane in range(PAIR):  # in rows of odd length pairs are not aligned
                    guard = _both(row_guard, self._guard("column", c, lane))
                    value = vector.extract(pair, [], [lane])
                    if_then(guard, functools.partial(store, value, offset(address, lane * size, GLOBAL), size))

    def _store_packed(self, elements: Elements) -> None:
        """Gather the codes' bits into words across the four lanes of a row, store the words, add up the row sums."""
        encoding = Encoding.parse(ir.StringAttr(self.op.attributes["out_encoding"]).value)
        _, rows, words_per_row = ir.MemRefType(self.op.out.type).shape
        words = self.column_slots * PAIR * LANES_PER_ROW // BITS_PER_WORD
        first_word = self.tile_column // BITS_PER_WORD
        sums = [const(0)] * self.row_slots
        # As many words at a time as there are lanes to store them; columns outside, as in `_store_plain`.
        for first in range(0, words, LANES_PER_ROW):
            group = range(first, min(first + LANES_PER_ROW, words))
            packed: dict[tuple[int, int], list[Scalar]] = {}
            for w in group:
                mask = self._inside_word(w)
                for r in range(self.row_slots):
                    codes = self._codes(elements, r, w)
                    for plane in range(encoding.bits):
                        packed.setdefault((r, plane), []).append(_masked(self._gather(codes, plane), mask))
            for (r, plane), group_words in packed.items():
                for word in group_words:
                    sums[r] = sums[r] + Scalar(llvm.intr_ctpop(word.value)) * encoding.weights[plane]
                start = (self._position("row", r).to_i64() + plane * rows) * words_per_row
                self._store_words(r, start, first_word + first, group_words, words_per_row)
        for r in range(self.row_slots):
            self._add_sums(r, sums[r])

    def _inside_word(self, w: int) -> Scalar | None:
        """A mask of the columns of word w that lie inside the matrix; None if all words do."""
        if self.column_bound is None:
            return None
        first = self.tile_column + w * BITS_PER_WORD
        left = const(self.column_bound) - first
        some = (const(1) << left) - 1
        partly = select(left < BITS_PER_WORD, some, const(-1))
        return select(first < self.column_bound, partly, const(0))

    def _codes(self, elements: Elements, r: int, w: int) -> list[ir.Value]:
        """The codes of this thread's pairs of columns in word w, in 32 bits."""
        pairs = BITS_PER_WORD // (LANES_PER_ROW * PAIR)
        codes = [as_vector(elements.at(elements.yielded, r, c), PAIR) for c in range(w * pairs, (w + 1) * pairs)]
        return [arith.extui(vector_of(i32(), PAIR), code) for code in codes]

    def _gather(self, codes: list[ir.Value], plane: int) -> Scalar:
        """The word of 32 columns that holds one plane's bits of the four lanes' codes."""
        words = vector_of(i32(), PAIR)
        together: ir.Value | None = None
        for number, bits in enumerate(codes):
            if plane:
                bits = arith.shrui(bits, splat(plane, words))
            bits = arith.andi(bits, splat(1, words))
            if number:
                bits = arith.shli(bits, splat(number * LANES_PER_ROW * PAIR, words))
            together = bits if together is None else arith.ori(together, bits)
        first, second = (Scalar(vector.extract(together, [], [lane])) for lane in range(PAIR))
        word = first | (second << 1)
        word = word << (self.lane << 1)
        for distance in (1, 2):
            word = word | shuffle_xor(word, distance)
        return word

    def _store_words(self, r: int, start: Scalar, first: Scalar, words: list[Scalar], words_per_row: int) -> None:
        """Lane i of the four stores word i."""
        word = words[-1]
        for i in range(len(words) - 2, -1, -1):
            word = select(self.lane.equals(i), words[i], word)
        column = first + self.lane
        guard = _both((column < words_per_row) & (self.lane < len(words)), self._guard("row", r))
        number = start + column.to_i64()
        address = offset(self.pointers[self.op.out], number * (BITS_PER_WORD // 8), GLOBAL)
        if_then(guard, lambda: store(word.value, address, BITS_PER_WORD // 8))

    def _add_sums(self, r: int, sums: Scalar) -> None:
        guard = _both(self.lane.equals(0), self._guard("row", r))
        address = offset(self.pointers[self.op.out_sums], self._position("row", r).to_i64() * 4, GLOBAL)
        add, relaxed = llvm.AtomicBinOp.add, llvm.AtomicOrdering.monotonic
        if_then(guard, lambda: llvm.atomicrmw(add, address, sums.value, relaxed))


def group_pairs(registers: Sequence[ir.Value], slots: Sequence[tuple[int, int]]) -> Grid:
    """The grid of a thread from its accumulators; register i lies at slots[i], a row slot and a number of a column."""
    at = dict(zip(slots, registers, strict=True))
    rows, columns = (max(numbers) + 1 for numbers in zip(*slots, strict=True))
    pair = vector_of(i32(), PAIR)
    return [
        [vector.from_elements(pair, [at[r, c + lane] for lane in range(PAIR)]) for c in range(0, columns, PAIR)]
        for r in range(rows)
    ]


def ungroup_pairs(grid: Grid, slots: Sequence[tuple[int, int]]) -> list[ir.Value]:
    """The accumulators of a thread's grid: the inverse of `group_pairs`."""
    return [vector.extract(as_vector(grid[r][c // PAIR], PAIR), [], [c % PAIR]) for r, c in slots]


def _masked(word: Scalar, mask: Scalar | None) -> Scalar:
    return word if mask is None else word & mask


def _both(first: Scalar | None, second: Scalar | None) -> Scalar | None:
    """Both conditions; None stands for one known to hold."""
    if first is None or second is None:
        return second if first is None else first
    return first & second


def _bits() -> ir.VectorType:
    return vector_of(i1(), PAIR)


def element_bytes(type_: ir.Type) -> int:
    """Bytes that an element takes in memory."""
    width = ir.IntegerType(type_).width if isinstance(type_, ir.IntegerType) else ir.FloatType(type_).width
    return max(width // 8, 1)
