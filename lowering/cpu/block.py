"""A block of the result, some rows by some vectors of columns: reads, arithmetic and stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mlir import ir
from mlir.dialects import arith, math, vector

from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.layout import BITS_PER_WORD
from bitmlir.lowering.cpu.kernel import Arrays, read, write
from bitmlir.lowering.cpu.popcount import ChainTable, PlaneCounter
from bitmlir.lowering.cpu.top import keep_best
from bitmlir.lowering.cpu.vectors import LANES, load, load_element, store
from bitmlir.lowering.elements import Chain, Computed, Elements, Grid, Position
from bitmlir.lowering.emit import Scalar, const, i1, i32
from bitmlir.lowering.vectors import apply, as_vector, lane_numbers, splat, vector_of

__all__ = ["Block", "clear_row"]


@dataclass(frozen=True)
class Block:
    """A block of a product's result; it is the `ElementBuilder` of the CPU kernels.

    A row slot is a row, a column slot 16 neighbouring columns: what depends on the column is a vector, the rest scalar.

    rows[r] is the row of a slot and always inside the matrix; columns[c] is the first column of a slot, and masks[c]
    its lanes inside the matrix, None where all are. `hoisted` is where reads go that depend on the column alone.
    `n` is how many columns there are. `tables` are the body's chains of plane products by their results, `counter`
    computes them on this block. `place` is the number of the matrix in a batch, or of the group, if there are such;
    `batch` the same for batches alone, whose results have a dimension for it. `see` yields what a window sees for an
    element, where there is one.
    """

    op: bit.PlaneProduct | bit.PlaneReduceWindowOp
    n: int
    arrays: Arrays
    rows: list[Scalar]
    columns: list[Scalar]
    masks: list[ir.Value | None]
    hoisted: ir.InsertionPoint
    counter: PlaneCounter | None = None
    tables: Mapping[ir.Value, ChainTable] = field(default_factory=dict)
    place: tuple[Scalar, ...] = ()
    batch: tuple[Scalar, ...] = ()
    see: Callable[[int, int], ir.Value] | None = None

    @property
    def paired(self) -> str:
        return "column"

    @property
    def row_slots(self) -> int:
        return len(self.rows)

    @property
    def column_slots(self) -> int:
        return len(self.columns)

    # --- ElementBuilder ---

    def position(self, axis: str, slot: int) -> ir.Value:
        return self.rows[slot].value if axis == "row" else lane_numbers(self.columns[slot], LANES)

    def number(self) -> ir.Value:
        (number,) = self.place
        return number.value

    def load(self, array: ir.Value, position: Position) -> ir.Value:
        if any(isinstance(item, Computed) or (isinstance(item, tuple) and item[0] == "row") for item in position):
            return self._load(self.arrays[array], position)
        with self.hoisted:
            return self._load(self.arrays[array], position)

    def _load(self, array: ir.Value, position: Position) -> ir.Value:
        by_column = [isinstance(item, tuple) and item[0] == "column" for item in position]
        if not any(by_column):
            return load_element(array, self._indices(position))
        if by_column.index(True) == len(position) - 1 and isinstance(position[-1], tuple):
            _, slot = position[-1]
            return load(array, self._indices(position), self.masks[slot])
        lanes = [load_element(array, self._indices(position, lane)) for lane in range(LANES)]
        return vector.from_elements(vector_of(lanes[0].type, LANES), lanes)

    def _indices(self, position: Position, lane: int | None = None) -> list[ir.Value]:
        """The indices of a position; of a column slot, those of one lane (past the last column: of the last)."""
        indices = []
        for item in position:
            if isinstance(item, Computed):
                indices.append(item.value)
                continue
            if not isinstance(item, tuple):
                # A constant is made again, for reads may be hoisted above it; a block's argument is above them.
                is_argument = isinstance(item.owner, ir.Block)
                indices.append(item if is_argument else item.owner.clone().results[0])
                continue
            axis, slot = item
            index = self.rows[slot] if axis == "row" else self.columns[slot]
            if axis == "column" and lane is not None:
                index = (index + lane).minimum(self.n - 1)
            indices.append(index.value)
        return indices

    def apply(self, op: ir.OpView, operands: list[ir.Value], as_vector: bool) -> ir.Value:
        # Scalars of 16-bit floats would be converted by library functions that are not there; vectors are expanded.
        values = [*op.operation.operands, *op.operation.results]
        as_vectors = as_vector or any(isinstance(value.type, ir.VectorType) for value in operands)
        narrow = any(isinstance(value.type, (ir.F16Type, ir.BF16Type)) for value in values)
        return apply(op, operands, LANES if as_vectors or (operands and narrow) else None)

    def product(self, chain: Chain, acc: Grid | None) -> Grid:
        columns = self.column_slots
        assert self.counter is not None
        if acc is None:
            sums = [splat(0, vector_of(i32(), LANES))] * (self.row_slots * columns)
        else:
            sums = [as_vector(value, LANES) for row in acc for value in row]
        sums = self.counter.run(self.tables[chain.last.result], sums)
        return [sums[r : r + columns] for r in range(0, len(sums), columns)]

    def staged(self, value: ir.Value, axis: str, slot: int) -> ir.Value | None:
        return None

    def number_at(self, array: ir.Value, index: Scalar) -> Scalar:
        return Scalar(load_element(self.arrays[array], [index.to_index().value]))

    def seen(self, row: int, column: int) -> ir.Value:
        assert self.see is not None
        return self.see(row, column)

    # --- results ---

    def store(self) -> None:
        """Run the body on the block and store what it yields."""
        elements = Elements(self.op.body, self)
        elements.run_products()
        columns = range(self.column_slots)
        grids = [
            [[elements.at(value, r, c) for c in columns] for r in range(self.row_slots)] for value in elements.yielded
        ]
        if isinstance(self.op, bit.PlaneSearchOp):
            keep_best(self.op, self.arrays[self.op.out], self.rows, self.columns, self.masks, grids[0])
            return
        if self.op.out_sums is not None:
            self._store_packed(grids[0])
        numbers = self.op.out if self.op.out_sums is None else self.op.kept
        if numbers is not None:
            self._store_plain(grids[-1], self.arrays[numbers])

    def _store_plain(self, values: Grid, out: ir.Value) -> None:
        for row, row_values in zip(self.rows, values, strict=True):
            for column, mask, value in zip(self.columns, self.masks, row_values, strict=True):
                store(as_vector(value, LANES), out, [i.value for i in (*self.batch, row, column)], mask)

    def _store_packed(self, codes: Grid) -> None:
        """Store the planes of the codes and add the weights of their bits to the row sums."""
        encoding = Encoding.parse(ir.StringAttr(self.op.attributes["out_encoding"]).value)
        out, sums = self.arrays[self.op.out], self.arrays[self.op.out_sums]
        first_word = self.columns[0] // BITS_PER_WORD
        # All sums are read before any is written: at the edge, several slots stand for the same row.
        totals = [read(sums, *self.batch, row) for row in self.rows]
        for r, row in enumerate(self.rows):
            for plane, weight in enumerate(encoding.weights):
                for number, word in enumerate(self._words(codes[r], plane)):
                    write(word, out, plane, *self.batch, row, first_word + number)
                    totals[r] = totals[r] + Scalar(math.ctpop(word.value)) * weight
        for row, total in zip(self.rows, totals, strict=True):
            write(total, sums, *self.batch, row)

    def _words(self, codes: list[ir.Value], plane: int) -> list[Scalar]:
        """The words of one plane of a row's codes; columns past the last one give 0."""
        words = [const(0)] * (len(codes) * LANES // BITS_PER_WORD)
        for number, (code, mask) in enumerate(zip(codes, self.masks, strict=True)):
            word, place = divmod(number * LANES, BITS_PER_WORD)
            # Put together as scalars: LLVM 22 for AVX-512 stores wrong bits where vectors of i2 to i7 end in a store.
            words[word] = words[word] | (_bits(code, plane, mask).to_i32() << place)
        return words


def clear_row(
    op: bit.PlaneProduct | bit.PlaneReduceWindowOp,
    arrays: Arrays,
    covered: int,
    row: Scalar,
    batch: tuple[Scalar, ...] = (),
) -> None:
    """Set a packed row's sum, to which blocks add, and its words past the `covered` columns to 0."""
    planes, *_, words = ir.MemRefType(op.out.type).shape
    write(const(0), arrays[op.out_sums], *batch, row)
    for plane in range(planes):
        for word in range(covered // BITS_PER_WORD, words):
            write(const(0), arrays[op.out], plane, *batch, row, word)


def _bits(code: ir.Value, plane: int, mask: ir.Value | None) -> Scalar:
    """One plane of a vector of codes, or of a code for all lanes, as an integer with a bit a lane."""
    code = as_vector(code, LANES)
    bits = arith.shrui(code, splat(plane, ir.VectorType(code.type))) if plane else code
    if bits.type != vector_of(i1(), LANES):
        bits = arith.trunci(vector_of(i1(), LANES), bits)
    if mask is not None:
        bits = arith.andi(bits, mask)
    integer = vector.bitcast(vector_of(ir.IntegerType.get_signless(LANES), 1), bits)
    return Scalar(vector.extract(integer, [], [0]))
