"""Kernels for `bit.plane_byte_conv`: images of bytes times filters of few bits on the int8 unit, by mma.sync.

The filters are turned into bytes once a block, in the order in which lanes need them, in shared memory. Of the images
each lane gathers what it gives to the instruction, four bytes of a row of taps at a time; no patch is ever stored. The
unit takes both sides with a sign, so bytes are moved by −128, which each filter's sum makes up for: also outside the
image, where a byte counts as 0.
Source: PTX ISA, mma.m16n8k32 for .s8.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir
from mlir.dialects import llvm, nvvm

from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.layout import BITS_PER_WORD, ceil_div, words_per_row
from bitmlir.lowering.byte_images import GROUP_BYTES, STEP_BYTES, ByteLayout
from bitmlir.lowering.elements import Chain, Grid
from bitmlir.lowering.emit import Carried, Scalar, const, for_loop, i32, select
from bitmlir.lowering.gpu.column_order import ColumnOrder
from bitmlir.lowering.gpu.memory import (
    GLOBAL,
    SHARED,
    Kernel,
    barrier,
    block_count,
    block_index,
    kernel_function,
    load,
    offset,
    overlap_launches,
    shared_memory,
    store,
    struct_elements,
    thread_index,
)
from bitmlir.lowering.gpu.thread_tile import ThreadTile, group_pairs
from bitmlir.lowering.gpu.warp_mma import WarpPart
from bitmlir.lowering.instructions import LANES, LANES_PER_ROW, get_instruction
from bitmlir.lowering.targets import Target
from bitmlir.lowering.windows import place_in_image

__all__ = ["build_byte_conv_kernel"]

_WARPS = 4
_THREADS = _WARPS * LANES
_BLOCKS = 3  # on a multiprocessor
_WIDE = 64  # columns, beyond which a warp has half as many rows
_SHIFTED = 0x80808080 - (1 << 32)  # turns bytes 0 … 255 into −128 … 127
_MOVED = 128


def build_byte_conv_kernel(module: ir.Block, name: str, op: bit.PlaneByteConvOp, target: Target) -> Kernel:
    """Emit the kernel that multiplies images of bytes with filters."""
    loads = (inner.operands[0] for inner in op.body.operations if inner.operation.name == "memref.load")
    arguments = tuple(dict.fromkeys(v for v in (op.source, op.rhs, op.out, op.out_sums, op.kept, *loads) if v))

    def emit(*pointers: ir.Value) -> None:
        if target.overlaps_launches:
            overlap_launches()
        _Emitter(op, module, dict(zip(arguments, pointers, strict=True))).emit()

    with ir.InsertionPoint(module):
        kernel_function(name, _THREADS, arguments, {}, emit)
    function = module.operations[len(module.operations) - 1].operation
    function.attributes["nvvm.minctasm"] = ir.IntegerAttr.get(i32(), _BLOCKS)
    shape = _Shape.of(op)
    grid, overlaps = (ceil_div(shape.places, shape.rows), 1, 1), target.overlaps_launches
    return Kernel(name, grid, _THREADS, shape.shared_bytes, arguments, overlaps=overlaps, persistent=_BLOCKS)


@dataclass(frozen=True)
class _Shape:
    """Sizes of a kernel. places: rows of the result. warp_rows: of a warp's part of a tile, which has all columns."""

    layout: ByteLayout
    places: int
    warp_rows: int

    @staticmethod
    def of(op: bit.PlaneByteConvOp) -> _Shape:
        """The sizes for an operation."""
        layout = ByteLayout.of(op)
        return _Shape(layout, op.places, 32 if layout.columns <= _WIDE else 16)

    @property
    def rows(self) -> int:
        """Rows of a block's tile."""
        return self.warp_rows * _WARPS

    @property
    def shared_bytes(self) -> int:
        """The filters, and what each column's sums begin with."""
        return self.layout.weight_bytes + self.layout.columns * GROUP_BYTES


@dataclass(frozen=True)
class _Row:
    """A row of a lane: where its window lies in its image. byte: of the first tap's column, in the image's row."""

    image: Scalar
    y: Scalar
    byte: Scalar


class _Emitter:
    """One kernel while it is emitted."""

    def __init__(self, op: bit.PlaneByteConvOp, module: ir.Block, pointers: dict[ir.Value, ir.Value]) -> None:
        self.op, self.pointers, self.shape = op, pointers, _Shape.of(op)
        self.layout = self.shape.layout
        self.shared = shared_memory(module)
        self.lane, self.warp = thread_index() % LANES, thread_index() // LANES
        self.mma = get_instruction("mma.m16n8k256")  # whose fragments of 32-bit registers are the same
        self.part = WarpPart(self.mma, self.shape.warp_rows, self.layout.columns, ColumnOrder())

    def emit(self) -> None:
        self._prepare_filters()
        barrier()

        def tile(number: Scalar, carried: Carried) -> Carried:
            self._tile(number * self.shape.rows + self.warp * self.shape.warp_rows)
            return carried

        tiles = ceil_div(self.shape.places, self.shape.rows)
        for_loop(block_index(), const(tiles), block_count(), [], tile)

    # --- filters ---

    def _prepare_filters(self) -> None:
        layout, groups = self.layout, self.layout.columns // self.mma.n

        def prepare(number: Scalar, carried: Carried) -> Carried:
            lane, rest = number % LANES, number // LANES
            column, step = rest % groups * self.mma.n + lane // LANES_PER_ROW, rest // groups
            for half in range(2):
                group = step * (STEP_BYTES // GROUP_BYTES) + half * LANES_PER_ROW + lane % LANES_PER_ROW
                word = const(0)
                for byte in range(GROUP_BYTES):
                    word = word | (self._weight(column, group, byte) << 8 * byte)
                at = (number * 2 + half) * GROUP_BYTES
                store(word.value, offset(self.shared, at, SHARED), GROUP_BYTES)
            return carried

        entries = layout.steps * groups * LANES
        for_loop(thread_index(), const(entries), const(_THREADS), [], prepare)

        def begin(column: Scalar, carried: Carried) -> Carried:
            at = column * GROUP_BYTES + layout.weight_bytes
            store((self._filter_sum(column) * _MOVED).value, offset(self.shared, at, SHARED), GROUP_BYTES)
            return carried

        for_loop(thread_index(), const(layout.columns), const(_THREADS), [], begin)

    @property
    def _encoding(self) -> Encoding:
        return bit.encoding_in(self.op.rhs_encoding)

    def _plane_word(self, plane: int, column: Scalar, word: Scalar) -> Scalar:
        _, filters, words = ir.MemRefType(self.op.rhs.type).shape
        at = ((column.minimum(filters - 1) + plane * filters).to_i64() * words + word.to_i64()) * GROUP_BYTES
        return Scalar(load(i32(), offset(self.pointers[self.op.rhs], at, GLOBAL), GROUP_BYTES))

    def _weight(self, column: Scalar, group: Scalar, byte: int) -> Scalar:
        """A byte of a filter: 0 for what K does not have."""
        layout, encoding = self.layout, self._encoding
        r, within = group // layout.row_groups, group % layout.row_groups * GROUP_BYTES + byte
        exists = (r < layout.window.rows.taps) & (within < layout.row_bytes) & (column < layout.filters)
        element = select(exists, r * layout.row_bytes + within, 0)
        value = const(encoding.offset)
        for plane, weight in enumerate(encoding.weights):
            bit_ = (self._plane_word(plane, column, element // BITS_PER_WORD) >> (element % BITS_PER_WORD)) & 1
            value = value + bit_ * (weight * encoding.scale)
        return select(exists, value & 0xFF, 0)

    def _filter_sum(self, column: Scalar) -> Scalar:
        """The sum of a filter's weights."""
        encoding, k = self._encoding, self.layout.window.taps * self.layout.channels
        total = const(encoding.offset * k)
        for plane, weight in enumerate(encoding.weights):

            def add(word: Scalar, carried: Carried, plane: int = plane, weight: int = weight) -> Carried:
                ones = Scalar(llvm.intr_ctpop(self._plane_word(plane, column, word).value))
                return [(Scalar(carried[0]) + ones * (weight * encoding.scale)).value]

            total = Scalar(for_loop(const(0), const(words_per_row(k)), const(1), [total.value], add)[0])
        return total

    # --- tiles ---

    def _tile(self, first_row: Scalar) -> None:
        row, column = self.part.first(self.lane)
        layout, places = self.layout, self.shape.places
        padding = max(0, words_per_row(layout.filters) - layout.columns // BITS_PER_WORD) if self.op.out_sums else 0
        ThreadTile(
            self.op,
            self.pointers,
            first_row + row,
            self.part.row_offsets,
            column,
            self.part.column_offsets,
            const(0),
            self.lane % LANES_PER_ROW,
            places if places % self.shape.rows else None,
            layout.filters if layout.filters % layout.columns else None,
            multiply=lambda chain, acc: self._multiply(first_row + row, chain, acc),
            padding=(padding, None),
            is_whole=True,
        ).store()

    def _row(self, row: Scalar) -> _Row:
        window, channels = self.layout.window, self.layout.channels
        image, y, x = place_in_image(window, row.minimum(self.shape.places - 1))
        byte = (x * window.columns.stride - window.columns.before) * channels
        return _Row(image * (window.pixels * channels), y * window.rows.stride - window.rows.before, byte)

    def _multiply(self, first_row: Scalar, chain: Chain, acc: Grid | None) -> Grid:
        assert acc is None
        assert len(chain.pairs) == 1
        rows = [self._row(first_row + distance) for distance in self.part.row_offsets]
        slots = self.part.slots
        begins = [self._begin(column) for column in self.part.column_offsets]
        initial = [begins[column // 2][column % 2] for _, column in slots]

        def step(number: Scalar, carried: Carried) -> Carried:
            halves = [[self._gathered(row, number, half) for half in range(2)] for row in rows]
            sums = list(carried)
            columns = self.layout.columns // self.mma.n
            for j in range(columns):
                at = ((number * columns + j) * LANES + self.lane) * (2 * GROUP_BYTES)
                b = [
                    load(i32(), offset(self.shared, at + half * GROUP_BYTES, SHARED), GROUP_BYTES) for half in range(2)
                ]
                for i in range(self.shape.warp_rows // self.mma.m):
                    # Registers: the first row's and the second's, of the first 16 bytes, then of the other 16.
                    a = [halves[2 * i + row][half].value for half in range(2) for row in range(2)]
                    start = (i * columns + j) * len(self.mma.accumulator.registers)
                    end = start + len(self.mma.accumulator.registers)
                    sums[start:end] = _issue(a, b, sums[start:end])
            return sums

        sums = for_loop(const(0), const(self.layout.steps), const(1), initial, step)
        return group_pairs(sums, slots)

    def _begin(self, distance: int) -> list[ir.Value]:
        """What a lane's sums in a pair of columns begin with."""
        at = (self.lane % LANES_PER_ROW * 2 + distance) * GROUP_BYTES + self.layout.weight_bytes
        return [load(i32(), offset(self.shared, at + i * GROUP_BYTES, SHARED), GROUP_BYTES) for i in range(2)]

    def _gathered(self, row: _Row, step: Scalar, half: int) -> Scalar:
        """Four bytes of a row of taps, moved by −128."""
        layout, window = self.layout, self.layout.window
        group = step * (STEP_BYTES // GROUP_BYTES) + half * LANES_PER_ROW + self.lane % LANES_PER_ROW
        r, within = group // layout.row_groups, group % layout.row_groups * GROUP_BYTES
        y, width = row.y + r, window.columns.size * layout.channels
        has_row = (y < window.rows.size) & (r < window.rows.taps)
        start = row.image + y * width
        word = const(0)
        for number in range(GROUP_BYTES):
            byte = row.byte + within + number
            inside = has_row & (byte < width)
            at = select(inside, start + byte, 0).to_i64()
            loaded = Scalar(load(ir.IntegerType.get_signless(8), offset(self.pointers[self.op.source], at, GLOBAL), 1))
            word = word | (select(inside, loaded.to_i32() & 0xFF, 0) << 8 * number)
        return Scalar(word.value) ^ _SHIFTED


def _issue(a: list[ir.Value], b: list[ir.Value], c: list[ir.Value]) -> list[ir.Value]:
    """c + a·bᵀ on bytes with a sign; all are the lane's registers."""
    struct = ir.Type.parse(f"!llvm.struct<({', '.join(['i32'] * len(c))})>")
    shape = ir.Attribute.parse(f"#nvvm.shape<m = 16, n = 8, k = {STEP_BYTES}>")
    row, column = ir.Attribute.parse("#nvvm.mma_layout<row>"), ir.Attribute.parse("#nvvm.mma_layout<col>")
    element, overflow = ir.Attribute.parse("#nvvm.mma_type<s8>"), ir.Attribute.parse("#nvvm.mma_int_overflow<wrapped>")
    result = nvvm.mma_sync(
        struct, shape, row, column, a, b, c, int_overflow_behavior=overflow,
        multiplicand_a_ptx_type=element, multiplicand_b_ptx_type=element,
    )  # fmt: skip
    return struct_elements(result, len(c))
