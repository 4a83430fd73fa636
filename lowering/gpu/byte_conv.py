"""Kernels for `bit.plane_byte_conv`: images of bytes times filters of few bits on the int8 unit, by mma.sync.

The filters are turned into bytes once a block, in the order in which lanes need them, in shared memory. A block works
through tiles of whole rows of the result: while it multiplies one, the rows of the image that the next one sees come to
shared memory, with zeros where windows reach outside. From there each lane takes what it gives to the instruction, four
bytes of a row of taps at a time, wherever they begin; no patch is ever stored. The unit takes both sides with a sign,
so bytes are moved by −128, which each filter's sum makes up for: also outside the image, where a byte counts as 0.
Source: PTX ISA, mma.m16n8k32 for .s8, and cp.async.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir
from mlir.dialects import llvm, nvvm, vector

from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.layout import BITS_PER_WORD, ceil_div, words_per_row
from bitmlir.lowering.byte_images import GROUP_BYTES, STEP_BYTES, ByteLayout, Slab
from bitmlir.lowering.elements import Chain, Grid, arrays_read
from bitmlir.lowering.emit import Carried, Scalar, const, for_loop, i32, if_then, select
from bitmlir.lowering.gpu.column_order import ColumnOrder
from bitmlir.lowering.gpu.memory import (
    GLOBAL,
    SHARED,
    Kernel,
    barrier,
    block_count,
    block_index,
    element_bytes,
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
from bitmlir.lowering.vectors import splat, vector_of

__all__ = ["build_byte_conv_kernel"]

_WARPS = 4
_THREADS = _WARPS * LANES
_BLOCKS = 3  # on a multiprocessor
_COPY_BYTES = 16  # at once, at most
_WIDE = 64  # columns, beyond which a warp has half as many rows
_SHIFTED = 0x80808080 - (1 << 32)  # turns bytes 0 … 255 into −128 … 127
_MOVED = 128


def build_byte_conv_kernel(module: ir.Block, name: str, op: bit.PlaneByteConvOp, target: Target) -> Kernel:
    """Emit the kernel that multiplies images of bytes with filters."""
    arguments = tuple(
        dict.fromkeys(v for v in (op.source, op.rhs, op.out, op.out_sums, op.kept, *arrays_read(op.body)) if v)
    )

    def emit(*pointers: ir.Value) -> None:
        if target.overlaps_launches:
            overlap_launches(pointers)
        _Emitter(op, module, dict(zip(arguments, pointers, strict=True))).emit()

    with ir.InsertionPoint(module):
        kernel_function(name, _THREADS, arguments, {}, emit)
    function = module.operations[len(module.operations) - 1].operation
    shape = _Shape.of(op)
    blocks = min(_BLOCKS, target.shared_bytes // shape.shared_bytes)
    function.attributes["nvvm.minctasm"] = ir.IntegerAttr.get(i32(), blocks)
    grid, overlaps = (shape.tiles, 1, 1), target.overlaps_launches
    return Kernel(name, grid, _THREADS, shape.shared_bytes, arguments, overlaps=overlaps, persistent=blocks)


@dataclass(frozen=True)
class _Shape:
    """Sizes of a kernel. images: how many. warp_rows: of a warp's part of a tile, which has all columns. order: of the
    columns, in which lanes store most at once."""

    layout: ByteLayout
    slab: Slab
    images: int
    warp_rows: int
    order: ColumnOrder

    @staticmethod
    def of(op: bit.PlaneByteConvOp) -> _Shape:
        """The sizes for an operation."""
        layout = ByteLayout.of(op)
        images = ir.MemRefType(op.source.type).shape[0] // layout.window.pixels
        numbers, order = op.out if op.out_sums is None else op.kept, ColumnOrder()
        if numbers is not None:
            order = ColumnOrder.of(layout.filters, element_bytes(ir.MemRefType(numbers.type).element_type))
        return _Shape(layout, Slab.of(layout), images, 32 if layout.columns <= _WIDE else 16, order)

    @property
    def tiles_down(self) -> int:
        """Tiles of an image."""
        return ceil_div(self.layout.window.places[0], self.slab.tile_rows)

    @property
    def tiles(self) -> int:
        """Tiles of all images."""
        return self.images * self.tiles_down

    @property
    def parts(self) -> int:
        """Parts of a tile, each a warp's."""
        return ceil_div(self.slab.places, self.warp_rows)

    @property
    def slabs(self) -> int:
        """Where the slabs lie in shared memory: behind the filters, and what each column's sums begin with."""
        return ceil_div(self.layout.weight_bytes + self.layout.columns * GROUP_BYTES, _COPY_BYTES) * _COPY_BYTES

    @property
    def shared_bytes(self) -> int:
        """All that lies there."""
        return self.slabs + 2 * self.slab.bytes


@dataclass(frozen=True)
class _Tile:
    """A tile of a block: its first place and the one past its last, and where its slab lies in shared memory."""

    first: Scalar
    end: Scalar
    slab: Scalar


class _Emitter:
    """One kernel while it is emitted."""

    def __init__(self, op: bit.PlaneByteConvOp, module: ir.Block, pointers: dict[ir.Value, ir.Value]) -> None:
        self.op, self.pointers, self.shape = op, pointers, _Shape.of(op)
        self.layout = self.shape.layout
        self.shared = shared_memory(module)
        self.lane, self.warp = thread_index() % LANES, thread_index() // LANES
        self.mma = get_instruction("mma.m16n8k256")  # whose fragments of 32-bit registers are the same
        self.part = WarpPart(self.mma, self.shape.warp_rows, self.layout.columns, self.shape.order)

    def emit(self) -> None:
        shape, slab = self.shape, self.shape.slab
        self._clear_slabs()
        barrier()
        self._copy(block_index(), const(shape.slabs))
        nvvm.cp_async_commit_group()
        self._prepare_filters()

        def tile(number: Scalar, carried: Carried) -> Carried:
            here = Scalar(carried[0])
            following, there = number + block_count(), const(2 * shape.slabs + slab.bytes) - here
            if_then(following < shape.tiles, lambda: self._copy(following, there))
            nvvm.cp_async_commit_group()
            nvvm.cp_async_wait_group(ir.IntegerAttr.get(i32(), 1))
            barrier()
            image, row = number // shape.tiles_down, number % shape.tiles_down * slab.tile_rows
            height, width = self.layout.window.places
            rows = (const(height) - row).minimum(slab.tile_rows)
            first = (image * height + row) * width
            self._multiply_tile(_Tile(first, first + rows * width, here))
            barrier()
            return [there.value]

        for_loop(block_index(), const(shape.tiles), block_count(), [const(shape.slabs).value], tile)

    # --- images ---

    def _clear_slabs(self) -> None:
        """Set all that is around the rows of images to 0."""
        four = vector_of(i32(), _COPY_BYTES // GROUP_BYTES)
        start, count = self.shape.slabs, 2 * self.shape.slab.bytes // _COPY_BYTES

        def clear(number: Scalar, carried: Carried) -> Carried:
            store(splat(0, four), offset(self.shared, number * _COPY_BYTES + start, SHARED), _COPY_BYTES)
            return carried

        for_loop(thread_index(), const(count), const(_THREADS), [], clear)

    def _copy(self, number: Scalar, to: Scalar) -> None:
        """Bring the rows of the image that a tile sees; zeros for those outside it."""
        shape, slab, axis = self.shape, self.shape.slab, self.layout.window.rows
        units, unit = slab.row_bytes // slab.unit, slab.unit
        image, tile = number // shape.tiles_down, number % shape.tiles_down
        first = tile * (slab.tile_rows * axis.stride) - axis.before

        def copy(task: Scalar, carried: Carried) -> Carried:
            row, at = task // units, task % units * unit
            y = first + row
            inside = y < axis.size  # rows before the first are numbers past the last, since numbers are unsigned
            source = (image * axis.size + select(inside, y, 0)) * slab.row_bytes + at
            address = offset(self.pointers[self.op.source], source.to_i64(), GLOBAL)
            target = offset(self.shared, to + row * slab.pitch + at + slab.lead, SHARED)
            if unit == 1:
                byte = ir.IntegerType.get_signless(8)
                store(select(inside, Scalar(load(byte, address, 1)), 0).value, target, 1)
            else:
                size, kinds = ir.IntegerAttr.get(i32(), unit), nvvm.LoadCacheModifierKind
                kind = kinds.CG if unit == _COPY_BYTES else kinds.CA
                nvvm.cp_async_shared_global(target, address, size, kind, cp_size=select(inside, const(unit), 0).value)
            return carried

        for_loop(thread_index(), const(slab.rows * units), const(_THREADS), [], copy)

    # --- filters ---

    def _prepare_filters(self) -> None:
        layout, groups = self.layout, self.layout.columns // self.mma.n

        def prepare(number: Scalar, carried: Carried) -> Carried:
            lane, rest = number % LANES, number // LANES
            column, step = self.shape.order.column(rest % groups * self.mma.n + lane // LANES_PER_ROW), rest // groups
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

    def _multiply_tile(self, tile: _Tile) -> None:
        """The warps' parts of a tile, in turn."""
        shape = self.shape

        def part(number: Scalar, carried: Carried) -> Carried:
            self._part(tile, number * shape.warp_rows)
            return carried

        if shape.parts == _WARPS:
            part(self.warp, [])
        else:
            for_loop(self.warp, const(shape.parts), const(_WARPS), [], part)

    def _part(self, tile: _Tile, start: Scalar) -> None:
        """A warp's part of a tile, from so many places on."""
        row, column = self.part.first(self.lane)
        layout, slab = self.layout, self.shape.slab
        words = ir.MemRefType(self.op.out.type).shape[-1] if self.op.out_sums else 0
        is_full = slab.places % self.shape.warp_rows == 0 and layout.window.places[0] % slab.tile_rows == 0
        ThreadTile(
            self.op,
            self.pointers,
            tile.first + start + row,
            self.part.row_offsets,
            column,
            self.part.column_offsets,
            const(0),
            self.lane % LANES_PER_ROW,
            None if is_full else tile.end,
            layout.filters if layout.filters % layout.columns else None,
            multiply=lambda chain, acc: self._multiply(tile, start + row, chain, acc),
            side_by_side=self.shape.order.groups,
            padding=(max(0, words - layout.columns // BITS_PER_WORD), None),
            is_whole=True,
        ).store()

    def _sees_from(self, place: Scalar) -> Scalar:
        """Where in a slab a place of the tile begins to see."""
        slab, window = self.shape.slab, self.layout.window
        place = place.minimum(slab.places - 1)
        width = window.places[1]
        down = place // width * (window.rows.stride * slab.pitch)
        return down + place % width * slab.step + slab.first

    def _multiply(self, tile: _Tile, first_row: Scalar, chain: Chain, acc: Grid | None) -> Grid:
        assert acc is None
        assert len(chain.pairs) == 1
        rows = [tile.slab + self._sees_from(first_row + distance) for distance in self.part.row_offsets]
        slots = self.part.slots
        begins = [self._begin(column) for column in self.part.column_offsets]
        initial = [begins[column // 2][column % 2] for _, column in slots]
        pair = vector_of(i32(), 2)

        def step(number: Scalar, carried: Carried) -> Carried:
            halves = [self._gathered(rows, number, half) for half in range(2)]
            sums = list(carried)
            columns = self.layout.columns // self.mma.n
            for j in range(columns):
                at = ((number * columns + j) * LANES + self.lane) * (2 * GROUP_BYTES)
                loaded = load(pair, offset(self.shared, at, SHARED), 2 * GROUP_BYTES)
                b = [vector.extract(loaded, [], [half]) for half in range(2)]
                for i in range(self.shape.warp_rows // self.mma.m):
                    # Registers: the first row's and the second's, of the first 16 bytes, then of the other 16.
                    a = [halves[half][2 * i + row].value for half in range(2) for row in range(2)]
                    start = (i * columns + j) * len(self.mma.accumulator.registers)
                    end = start + len(self.mma.accumulator.registers)
                    sums[start:end] = _issue(a, b, sums[start:end])
            return sums

        sums = for_loop(const(0), const(self.layout.steps), const(1), initial, step)
        return group_pairs(sums, slots)

    def _begin(self, distance: int) -> list[ir.Value]:
        """What a lane's sums in a pair of columns begin with."""
        _, column = self.part.first(self.lane)
        at = (column + distance) * GROUP_BYTES + self.layout.weight_bytes
        return [load(i32(), offset(self.shared, at + i * GROUP_BYTES, SHARED), GROUP_BYTES) for i in range(2)]

    def _gathered(self, rows: list[Scalar], step: Scalar, half: int) -> list[Scalar]:
        """Four bytes of a row of taps, moved by −128, of each row of the lane; anything if there is no such group."""
        layout, slab = self.layout, self.shape.slab
        group = step * (STEP_BYTES // GROUP_BYTES) + half * LANES_PER_ROW + self.lane % LANES_PER_ROW
        r = (group // layout.row_groups).minimum(layout.window.rows.taps - 1)
        at = r * slab.pitch + group % layout.row_groups * GROUP_BYTES
        is_aligned = slab.first % GROUP_BYTES == 0 and slab.step % GROUP_BYTES == 0
        gathered = []
        for row in rows:
            begin = row & -GROUP_BYTES
            low, high = (
                load(i32(), offset(offset(self.shared, begin + at, SHARED), distance, SHARED), GROUP_BYTES)
                for distance in (0, 0 if is_aligned else GROUP_BYTES)
            )
            word = low if is_aligned else llvm.intr_fshr(high, low, ((row & GROUP_BYTES - 1) << 3).value)
            gathered.append(Scalar(word) ^ _SHIFTED)
        return gathered


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
