"""The elements of an output tile that one thread holds: positions, reads, arithmetic and stores, for all kernels.

Lanes share the layout of every accumulator fragment (see `bitmlir.lowering.instructions`): four neighbouring lanes hold
a row, each of them pairs of neighbouring columns in every group of eight.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith, llvm, vector

from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.layout import BITS_PER_WORD
from bitmlir.lowering.elements import Chain, Computed, Elements, Grid, Position
from bitmlir.lowering.emit import Scalar, const, i1, i32, if_then, select
from bitmlir.lowering.gpu.bulk_store import BulkStore
from bitmlir.lowering.gpu.column_order import ColumnOrder
from bitmlir.lowering.gpu.memory import (
    GLOBAL,
    WIDEST_STORE,
    element_bytes,
    load,
    offset,
    shuffle_xor,
    store,
    store_past_l1,
)
from bitmlir.lowering.gpu.top import Lists
from bitmlir.lowering.instructions import LANES_PER_ROW
from bitmlir.lowering.vectors import apply, as_vector, joined, lane_numbers, splat, vector_of

__all__ = ["PAIR", "ThreadTile", "group_pairs", "ungroup_pairs"]

PAIR = 2  # neighbouring columns that a lane holds in every group of eight
_WORD_BYTES = BITS_PER_WORD // 8
_LOWEST_BITS = 0x01010101  # of the bytes of a word
_GROUP_COLUMNS = PAIR * LANES_PER_ROW
_PAIR_BITS = 0b11


@dataclass(frozen=True)
class _Word:
    """A word of a packed result: its row slot, its plane, and its number in the tile's part of the row."""

    row: int
    plane: int
    number: int


@dataclass
class ThreadTile:
    """One thread's part of an output tile; it is the `ElementBuilder` of the GPU kernels.

    Slot r lies in row `first_row` + row_offsets[r]. A column slot is a pair of neighbouring columns, the first of them
    `first_column` + column_offsets[c], which is even: what depends on the column is a vector of two. (With
    paired = "row" it is the other way round.) `tile_column` is the first column of the warp's part of the tile, `lane`
    the lane's number among its four. `row_bound` and `column_bound` are the matrix's sizes where tiles may reach past
    them, else None; of a group of rows, `row_bound` is where it ends. `matrix` is the number of the matrix in a batch,
    or of the group, if there are such. `read_staged` reads what was computed before, if it was; `bulk` stores plain
    results by TMA. So many column slots lie `side_by_side`, and are stored at once: the groups of their `ColumnOrder`.
    Threads outside `finishes` have multiplied for others, and store nothing. So many words of zeros pad a packed row
    behind this part of the tile, if the condition holds. Where a row `is_whole` in the tile, its sum is stored, and
    else added to what others add. With `reads_early` there are registers for what is read for each element alone, while
    products are computed. `see` yields what a window sees for an element, where there is one.
    """

    op: bit.PlaneProduct | bit.PlaneByteConvOp | bit.PlaneReduceWindowOp
    pointers: dict[ir.Value, ir.Value]
    first_row: Scalar
    row_offsets: list[int]
    first_column: Scalar
    column_offsets: list[int]
    tile_column: Scalar
    lane: Scalar
    row_bound: int | Scalar | None
    column_bound: int | None
    matrix: Scalar | None = None
    multiply: Callable[[Chain, Grid | None], Grid] | None = None
    paired: str = "column"
    bulk: BulkStore | None = None
    side_by_side: int = 1
    finishes: Scalar | None = None
    padding: tuple[int, Scalar | None] = (0, None)
    is_whole: bool = False
    reads_early: bool = False
    see: Callable[[int, int], ir.Value] | None = None
    read_staged: Callable[[ir.Value, str, int], ir.Value | None] = lambda *_: None

    @property
    def row_slots(self) -> int:
        return len(self.row_offsets)

    @property
    def column_slots(self) -> int:
        return len(self.column_offsets)

    # --- ElementBuilder ---

    def position(self, axis: str, slot: int) -> ir.Value:
        position = self._position(axis, slot).to_index()
        return lane_numbers(position, PAIR) if axis == self.paired else position.value

    def number(self) -> ir.Value:
        assert self.matrix is not None
        return self.matrix.to_index().value

    @property
    def _rows_before(self) -> Scalar | int:
        """Rows of the result in the matrices of the batch before this one."""
        if self.matrix is None or isinstance(self.op, bit.PlaneReduceWindowOp):
            return 0
        lhs = ir.MemRefType(self.op.lhs.type)
        return 0 if lhs.rank == 3 else self.matrix * lhs.shape[-2]

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
        by_pair = [
            isinstance(item.value.type, ir.VectorType)
            if isinstance(item, Computed)
            else isinstance(item, tuple) and item[0] == self.paired
            for item in position
        ]
        if not any(by_pair):
            return load(element, self._address(array, position))
        pair = vector_of(element, PAIR)
        # Pairs are aligned, and lie on one side of the matrix's edge, in rows of even length.
        is_axis = isinstance(position[-1], tuple)
        if by_pair[-1] and is_axis and not any(by_pair[:-1]) and shape[-1] % PAIR == 0:
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
            if isinstance(item, Computed):
                is_vector = isinstance(item.value.type, ir.VectorType)
                value = Scalar(vector.extract(item.value, [], [lane]) if is_vector else item.value).to_i32()
                is_inside = self.row_bound is None and self.column_bound is None
                value = value if is_inside else value.minimum(type_.shape[axis] - 1)
                dynamic.append(value.to_i64() * stride)
                continue
            if isinstance(item, ir.Value):
                dynamic.append(Scalar(item).to_i32().to_i64() * stride)
                continue
            kind, slot = item
            moved = lane if kind == self.paired else 0
            first, distance, bound = (
                (self.first_row, self.row_offsets[slot] + moved, self.row_bound)
                if kind == "row"
                else (self.first_column, self.column_offsets[slot] + moved, self.column_bound)
            )
            if isinstance(bound, Scalar):
                dynamic.append((first + distance).minimum(bound - 1).to_i64() * stride)
            elif bound is None:
                dynamic.append(first.to_i64() * stride)
                static += distance * stride
            else:
                # The last one inside; of pairs in a matrix of even size, the one of the last pair.
                end = bound - 1 if kind != self.paired or bound % PAIR else bound - PAIR + lane
                dynamic.append((first + distance).minimum(end).to_i64() * stride)
        start = functools.reduce(lambda at, distance: offset(at, distance, GLOBAL), dynamic, self.pointers[array])
        return offset(start, static, GLOBAL)

    def apply(self, op: ir.OpView, operands: list[ir.Value], as_vector: bool) -> ir.Value:
        return apply(op, operands, PAIR if as_vector else None)

    def product(self, chain: Chain, acc: Grid | None) -> Grid:
        assert self.multiply is not None
        return self.multiply(chain, acc)

    def staged(self, value: ir.Value, axis: str, slot: int) -> ir.Value | None:
        return self.read_staged(value, axis, slot)

    def number_at(self, array: ir.Value, index: Scalar) -> Scalar:
        element, (count,) = ir.MemRefType(array.type).element_type, ir.MemRefType(array.type).shape
        size = element_bytes(element)
        index = index if self.row_bound is None else index.minimum(count - 1)  # of a row past the end
        return Scalar(load(element, offset(self.pointers[array], index.to_i64() * size, GLOBAL), size))

    def seen(self, row: int, column: int) -> ir.Value:
        assert self.see is not None
        return self.see(row, column)

    # --- results ---

    def store(self, ready: Callable[[], None] = lambda: None) -> None:
        """Run the body on the thread's elements and store what it yields; `ready` is called after the products."""
        elements = Elements(self.op.body, self)
        lists = self._lists(self.op) if isinstance(self.op, bit.PlaneSearchOp) else None
        if self.reads_early:
            elements.read_elements()
        elements.run_products()
        ready()
        if_then(self.finishes, lambda: self._store(elements, lists))

    def _store(self, elements: Elements, lists: Lists | None) -> None:
        if lists is not None:
            self._keep_best(elements, lists)
            return
        if self._plain is not None:
            self._store_plain(elements, self._plain)
        if self.op.out_sums is not None:
            self._store_packed(elements)

    @property
    def _plain(self) -> ir.Value | None:
        """The array of numbers to store: a plain result, or what is kept beside a packed one."""
        return self.op.out if self.op.out_sums is None else self.op.kept

    def _guard(self, axis: str, slot: int, lane: int = 0) -> Scalar | None:
        """Whether a slot, or one of its pair, lies inside the matrix; None if it always does."""
        bound = self.row_bound if axis == "row" else self.column_bound
        return None if bound is None else self._position(axis, slot) + lane < bound

    def _has_row(self, row: Scalar) -> Scalar | None:
        """Whether the result has a row; None if it has all."""
        return None if self.row_bound is None else row < self.row_bound

    def _lists(self, op: bit.PlaneSearchOp) -> Lists:
        """The lists of a search for the thread's rows."""
        across = self.paired == "column"
        rows = [self._position("row", r) + lane for r in range(self.row_slots) for lane in range(1 if across else PAIR)]
        distances = (1, 2) if across else (4, 8, 16)  # of the lanes that share a row of the accumulator, or a column
        assert not isinstance(self.row_bound, Scalar)  # a search has no groups
        return Lists(op, self.pointers[op.out], rows, (self.row_bound, self.column_bound), distances)

    def _keep_best(self, elements: Elements, lists: Lists) -> None:
        """Put the thread's scores, row by row, into the lists of a search."""
        across = self.paired == "column"
        of_rows: dict[tuple[int, int], list[tuple[Scalar, Scalar]]] = {}
        for r, c, lane in itertools.product(range(self.row_slots), range(self.column_slots), range(PAIR)):
            pair = as_vector(elements.at(elements.yielded[0], r, c), PAIR)
            column = self._position("column", c) + (lane if across else 0)
            row = (r, 0 if across else lane)
            of_rows.setdefault(row, []).append((Scalar(vector.extract(pair, [], [lane])), column))
        lists.keep_best([of_rows[row] for row in sorted(of_rows)])

    def _store_plain(self, elements: Elements, out: ir.Value) -> None:
        numbers = elements.yielded[-1]
        columns = ir.MemRefType(out.type).shape[-1]
        if self.bulk is not None:
            self._store_bulk(elements, numbers, self.bulk)
        elif self.paired == "column" and columns % PAIR == 0:
            self._store_rows(elements, numbers, out)
        else:  # pairs are not aligned, or not in one row
            self._store_elements(elements, numbers, out)

    def _store_rows(self, elements: Elements, numbers: ir.Value, out: ir.Value) -> None:
        """Store at once the pairs of a row that lie side by side."""
        beside, size = self.side_by_side, _element_bytes(out)
        base = self._out_address(out)
        # Columns outside, so that what depends on the column alone is needed only for a moment.
        for c, r in itertools.product(range(0, self.column_slots, beside), range(self.row_slots)):
            value = joined([as_vector(elements.at(numbers, r, c + i), PAIR) for i in range(beside)])
            address = _moved(out, base, self.row_offsets[r], self.column_offsets[c])
            guard = _both(self._guard("row", r), self._guard("column", c))
            if PAIR * beside * size == WIDEST_STORE:
                if_then(guard, functools.partial(store_past_l1, value, address))
            else:
                if_then(guard, functools.partial(store, value, address, PAIR * beside * size))

    def _store_elements(self, elements: Elements, numbers: ir.Value, out: ir.Value) -> None:
        """Store one element at a time."""
        base = self._out_address(out)
        down, right = (0, 1) if self.paired == "column" else (1, 0)  # where a pair's second element lies
        for c, r in itertools.product(range(self.column_slots), range(self.row_slots)):
            pair = as_vector(elements.at(numbers, r, c), PAIR)
            for lane in range(PAIR):
                guard = _both(self._guard("row", r, lane * down), self._guard("column", c, lane * right))
                moved = self.row_offsets[r] + lane * down, self.column_offsets[c] + lane * right
                value, address = vector.extract(pair, [], [lane]), _moved(out, base, *moved)
                if_then(guard, functools.partial(store, value, address, _element_bytes(out)))

    def _out_address(self, out: ir.Value) -> ir.Value:
        """Where the element at the first row and column lies in a plain result."""
        columns = ir.MemRefType(out.type).shape[-1]
        origin = (self.first_row + self._rows_before).to_i64() * columns + self.first_column.to_i64()
        return offset(self.pointers[out], origin * _element_bytes(out), GLOBAL)

    def _store_bulk(self, elements: Elements, numbers: ir.Value, bulk: BulkStore) -> None:
        for chunk in range(self.column_slots // bulk.groups):

            def value(r: int, group: int, first: int = chunk * bulk.groups) -> ir.Value:
                return as_vector(elements.at(numbers, r, first + group), PAIR)

            bulk.store_chunk(chunk, value)
        bulk.drain()

    def _store_packed(self, elements: Elements) -> None:
        """Gather the codes' bits into words across the four lanes of a row, store the words, add up the row sums."""
        encoding = Encoding.parse(ir.StringAttr(self.op.attributes["out_encoding"]).value)
        words = self.column_slots * PAIR * LANES_PER_ROW // BITS_PER_WORD
        row_sums, row_words = bit.sums_of_row(self.op.out, self.op.out_sums), ir.MemRefType(self.op.out.type).shape[-1]
        sum_words = words if row_sums == 1 else min(row_words // row_sums, words)
        sums = dict.fromkeys(itertools.product(range(self.row_slots), range(words // sum_words)), const(0))

        def parts() -> Iterator[tuple[_Word, Scalar]]:
            """This lane's bits of all words."""
            for first in range(0, words, LANES_PER_ROW):
                group = range(first, min(first + LANES_PER_ROW, words))
                # Columns outside, as in `_store_rows`.
                codes = {(w, r): self._codes(elements, r, w) for w in group for r in range(self.row_slots)}
                for r, plane, w in itertools.product(range(self.row_slots), range(encoding.bits), group):
                    yield _Word(r, plane, w), self._lane_bits(codes[w, r], plane, encoding.bits)

        remaining = parts()
        while some := list(itertools.islice(remaining, LANES_PER_ROW)):
            held, bits = zip(*some, strict=True)
            ones = self._store_word(self._scatter(list(bits), operator.or_), held, encoding)
            summed = [(word.row, word.number // sum_words) for word in held]
            for place in sorted(set(summed)):
                sums[place] = sums[place] + self._where([other == place for other in summed], ones)
        number, ends = self.padding
        if number:
            if_then(ends, lambda: self._store_padding(range(words, words + number), encoding))
        places = list(sums)
        while places:
            some, places = places[:LANES_PER_ROW], places[LANES_PER_ROW:]
            self._add_sums(some, self._scatter([sums[place] for place in some], operator.add))

    def _store_padding(self, words: range, encoding: Encoding) -> None:
        places = itertools.product(range(self.row_slots), range(encoding.bits), words)
        remaining = (_Word(r, plane, w) for r, plane, w in places)
        while held := list(itertools.islice(remaining, LANES_PER_ROW)):
            self._store_word(const(0), held, encoding)

    def _codes(self, elements: Elements, r: int, w: int) -> ir.Value:
        """This lane's codes in word w, a byte each: its first columns in every group of eight, and its second."""
        pairs = BITS_PER_WORD // (LANES_PER_ROW * PAIR)
        vectors = vector_of(i32(), PAIR)
        together: ir.Value | None = None
        for number in range(pairs):
            code = as_vector(elements.at(elements.yielded[0], r, w * pairs + number), PAIR)
            code = arith.extui(vectors, code)
            if number:
                code = arith.shli(code, splat(number * LANES_PER_ROW * PAIR, vectors))
            together = code if together is None else arith.ori(together, code)
        assert together is not None
        return together

    def _lane_bits(self, codes: ir.Value, plane: int, planes: int) -> Scalar:
        """This lane's bits of a plane's word, where they belong."""
        vectors = vector_of(i32(), PAIR)
        bits = arith.shrui(codes, splat(plane, vectors)) if plane else codes
        bits = arith.andi(bits, splat(_LOWEST_BITS, vectors)) if planes > 1 else bits
        even, odd = (Scalar(vector.extract(bits, [], [i])) for i in range(PAIR))
        pairs = even | (odd << 1)
        if self.side_by_side == 1:
            return pairs << (self.lane << 1)
        order, word = ColumnOrder(self.side_by_side), const(0)
        for number in range(BITS_PER_WORD // _GROUP_COLUMNS):
            pair = (pairs >> (number * _GROUP_COLUMNS)) & _PAIR_BITS
            word = word | (pair << order.column(number * _GROUP_COLUMNS))
        return word << (self.lane * (PAIR * self.side_by_side))

    def _scatter(self, parts: list[Scalar], combine: Callable[[Scalar, Scalar], Scalar]) -> Scalar:
        """Number i, combined of all four lanes' parts of it, in lane i; up to four numbers."""

        def exchange(pair: list[Scalar], distance: int) -> Scalar:
            """Lanes keep one of two numbers, and give the other to their neighbour; if there is one, both have it."""
            if len(pair) == 1:
                return combine(pair[0], shuffle_xor(pair[0], distance))
            is_odd = (self.lane & distance).differs(0)
            keep, give = select(is_odd, pair[1], pair[0]), select(is_odd, pair[0], pair[1])
            return combine(keep, shuffle_xor(give, distance))

        for distance in (1, 2):
            parts = [exchange(parts[i : i + 2], distance) for i in range(0, len(parts), 2)]
        return parts[0]

    def _store_word(self, word: Scalar, held: Sequence[_Word], encoding: Encoding) -> Scalar:
        """Store the lane's word, which is held[lane]; what it adds to the row sum. Anything in lanes that have none."""
        _, *rows, words_per_row = ir.MemRefType(self.op.out.type).shape
        place = self.tile_column // BITS_PER_WORD + self._of_lane([w.number for w in held])
        word = _masked(word, self._inside_word(place))
        row = self.first_row + self._of_lane([self.row_offsets[w.row] for w in held])
        plane = self._of_lane([w.plane for w in held])
        start = (row + self._rows_before).to_i64() + plane.to_i64() * math.prod(rows)
        address = offset(self.pointers[self.op.out], (start * words_per_row + place.to_i64()) * _WORD_BYTES, GLOBAL)
        stored = _both(place < words_per_row, self._holds_one(held))
        if_then(_both(stored, self._has_row(row)), lambda: store(word.value, address, _WORD_BYTES))
        return Scalar(llvm.intr_ctpop(word.value)) * self._of_lane([encoding.weights[w.plane] for w in held])

    def _holds_one(self, held: Sequence[object]) -> Scalar | None:
        """Whether the lane has one of them; None if all lanes do."""
        return None if len(held) == LANES_PER_ROW else self.lane < len(held)

    def _where(self, lanes: Sequence[bool], value: Scalar) -> Scalar:
        """The value in lanes where that holds, else 0."""
        if len(lanes) == LANES_PER_ROW and all(lanes):
            return value
        return select(self._of_lane([*map(int, lanes), *[0] * (LANES_PER_ROW - len(lanes))]).differs(0), value, 0)

    def _of_lane(self, values: Sequence[int]) -> Scalar:
        """values[lane]; anything in lanes that have none."""
        step = values[1] - values[0] if len(values) > 1 else 0
        if all(value == values[0] + step * i for i, value in enumerate(values)):
            return const(values[0]) if step == 0 else self.lane * step + values[0]
        chosen = const(values[-1])
        for i in range(len(values) - 2, -1, -1):
            chosen = select(self.lane.equals(i), values[i], chosen)
        return chosen

    def _inside_word(self, place: Scalar) -> Scalar | None:
        """A mask of the columns that lie inside the matrix, of the word at a place in its row; None if all words do."""
        if self.column_bound is None:
            return None
        first = place * BITS_PER_WORD
        left = const(self.column_bound) - first
        some = (const(1) << left) - 1
        partly = select(left < BITS_PER_WORD, some, const(-1))
        return select(first < self.column_bound, partly, const(0))

    def _add_sums(self, places: Sequence[tuple[int, int]], sums: Scalar) -> None:
        """Add the lane's sum to that of places[lane], the row's slot and which of its sums here, or make it that."""
        row = self.first_row + self._of_lane([self.row_offsets[r] for r, _ in places])
        number, guard = row + self._rows_before, _both(self._holds_one(places), self._has_row(row))
        if (row_sums := bit.sums_of_row(self.op.out, self.op.out_sums)) > 1:
            columns = ir.MemRefType(self.op.out.type).shape[-1] // row_sums * BITS_PER_WORD
            part = self.tile_column // columns + self._of_lane([part for _, part in places])
            number, guard = number * row_sums + part, _both(guard, part < row_sums)
        address = offset(self.pointers[self.op.out_sums], number.to_i64() * _WORD_BYTES, GLOBAL)
        add, relaxed = llvm.AtomicBinOp.add, llvm.AtomicOrdering.monotonic
        if self.is_whole:
            if_then(guard, lambda: store(sums.value, address, _WORD_BYTES))
        else:
            if_then(guard, lambda: llvm.atomicrmw(add, address, sums.value, relaxed))


def _element_bytes(array: ir.Value) -> int:
    """Bytes of an element of an array."""
    return element_bytes(ir.MemRefType(array.type).element_type)


def _moved(array: ir.Value, address: ir.Value, rows: int, columns: int) -> ir.Value:
    """An address in an array, so many rows and columns further."""
    distance = rows * ir.MemRefType(array.type).shape[-1] + columns
    return offset(address, distance * _element_bytes(array), GLOBAL)


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
