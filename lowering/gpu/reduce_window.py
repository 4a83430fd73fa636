"""The kernel for `bit.plane_reduce_window`: a warp has 16 places and 64 channels, in the layout of an accumulator, so
that it stores what it yields as products do."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith, vector

from bitmlir.dialects import bit
from bitmlir.dialects.layout import BITS_PER_WORD, ceil_div
from bitmlir.lowering.elements import Grid, arrays_read
from bitmlir.lowering.emit import Carried, Scalar, const, for_loop, i1
from bitmlir.lowering.gpu.column_order import ColumnOrder
from bitmlir.lowering.gpu.memory import (
    GLOBAL,
    Kernel,
    block_index,
    element_bytes,
    kernel_function,
    load,
    offset,
    overlap_launches,
    thread_index,
)
from bitmlir.lowering.gpu.thread_tile import PAIR, ThreadTile
from bitmlir.lowering.instructions import CORE_ROWS, LANES, LANES_PER_ROW
from bitmlir.lowering.reductions import initial, reduced, widened
from bitmlir.lowering.targets import Target
from bitmlir.lowering.vectors import splat, vector_of
from bitmlir.lowering.windows import pixel_at, place_in_image

__all__ = ["build_reduce_window_kernel"]

_WARPS = 8
_THREADS = _WARPS * LANES
_ROWS = [0, CORE_ROWS]  # of a lane, from its first on
_WARP_ROWS = 2 * CORE_ROWS
_BLOCK_ROWS = _WARPS * _WARP_ROWS
_WIDEST = 64  # channels of a warp
_GROUP = LANES_PER_ROW * PAIR  # columns, of which a lane has a pair
_FEW_TAPS = 4  # which need no loop


def build_reduce_window_kernel(module: ir.Block, name: str, op: bit.PlaneReduceWindowOp, target: Target) -> Kernel:
    """Emit the kernel that reduces what a window sees."""
    arguments = tuple(
        dict.fromkeys(v for v in (op.source, op.out, op.out_sums, op.kept, *arrays_read(op.body)) if v is not None)
    )
    kernel = _Shape.of(op)

    def emit(*pointers: ir.Value) -> None:
        if target.overlaps_launches:
            overlap_launches(pointers)
        _emit(op, kernel, dict(zip(arguments, pointers, strict=True)))

    with ir.InsertionPoint(module):
        kernel_function(name, _THREADS, arguments, {}, emit)
    zeroed = () if op.out_sums is None or kernel.across == 1 else (op.out_sums,)
    grid, overlaps = (kernel.across * kernel.down, 1, 1), target.overlaps_launches
    return Kernel(name, grid, _THREADS, 0, arguments, zeroed=zeroed, overlaps=overlaps)


@dataclass(frozen=True)
class _Shape:
    """How warps share the work: `columns` of each in an order in which lanes read and store most at once, `across` of
    them side by side, and `down` blocks of rows."""

    channels: int
    columns: int
    across: int
    down: int
    order: ColumnOrder

    @staticmethod
    def of(op: bit.PlaneReduceWindowOp) -> _Shape:
        """The shape for an operation."""
        channels = ir.IntegerAttr(op.attributes["channels"]).value
        columns = min(ceil_div(channels, BITS_PER_WORD) * BITS_PER_WORD, _WIDEST)
        stored = op.out if op.out_sums is None else op.kept
        plain = [ir.MemRefType(value.type) for value in (op.source, stored) if value is not None]
        widest = max(element_bytes(type_.element_type) for type_ in plain)
        order = ColumnOrder.of(math.gcd(channels, ir.MemRefType(op.source.type).shape[1]), widest)
        return _Shape(channels, columns, ceil_div(channels, columns), ceil_div(op.places, _BLOCK_ROWS), order)


def _emit(op: bit.PlaneReduceWindowOp, shape: _Shape, pointers: dict[ir.Value, ir.Value]) -> None:
    lane, warp = thread_index() % LANES, thread_index() // LANES
    tile_column = block_index() % shape.across * shape.columns
    first_row = block_index() // shape.across * _BLOCK_ROWS + warp * _WARP_ROWS + lane // LANES_PER_ROW
    first_column = tile_column + shape.order.column(lane % LANES_PER_ROW * PAIR)
    offsets = [shape.order.column(place) for place in range(0, shape.columns, _GROUP)]
    grid = _reduce(op, shape, pointers[op.source], first_row, first_column)
    padding = 0
    if op.out_sums is not None:
        padding = max(0, ir.MemRefType(op.out.type).shape[-1] - shape.across * shape.columns // BITS_PER_WORD)
    is_last = None if shape.across == 1 else tile_column.equals((shape.across - 1) * shape.columns)
    ThreadTile(
        op,
        pointers,
        first_row,
        _ROWS,
        first_column,
        offsets,
        tile_column,
        lane % LANES_PER_ROW,
        op.places if op.places % _BLOCK_ROWS else None,
        shape.channels if shape.channels % shape.columns else None,
        side_by_side=shape.order.groups,
        padding=(padding, is_last),
        is_whole=shape.across == 1,
        see=lambda row, column: grid[row][column],
    ).store()


def _reduce(
    op: bit.PlaneReduceWindowOp, shape: _Shape, source: ir.Value, first_row: Scalar, first_column: Scalar
) -> Grid:
    """What the window sees of the thread's pairs of channels, as many at once as lie side by side."""
    window, beside = bit.window_in(op.window), PAIR * shape.order.groups
    type_ = vector_of(op.value.result.type, beside)
    columns = [first_column + distance for distance in range(0, shape.columns, _GROUP * shape.order.groups)]
    where = [place_in_image(window, (first_row + distance).minimum(op.places - 1)) for distance in _ROWS]
    (_, channels), element = ir.MemRefType(op.source.type).shape, ir.MemRefType(op.source.type).element_type
    has_all = shape.across * shape.columns <= channels
    size = element_bytes(element)

    def numbers_at(pixel: Scalar, column: Scalar) -> ir.Value:
        row = pixel.to_i64() * channels
        if channels % beside == 0:
            column = column if has_all else column.minimum(channels - beside)
            at = (row + column.to_i64()) * size
            return load(vector_of(element, beside), offset(source, at, GLOBAL), beside * size)
        places = [(row + (column + i).minimum(channels - 1).to_i64()) * size for i in range(beside)]
        elements = [load(element, offset(source, at, GLOBAL), size) for at in places]
        return vector.from_elements(vector_of(element, beside), elements)

    def tap(number: Scalar, so_far: Carried) -> Carried:
        r, s = number // window.columns.taps, number % window.columns.taps
        taken: list[ir.Value] = []
        for place in where:
            inside, pixel = pixel_at(window, place, r, s, outside=0)
            for column in columns:
                before = so_far[len(taken)]
                value = reduced(op, before, widened(numbers_at(pixel, column), type_))
                taken.append(arith.select(inside.value, value, before))
        return taken

    values: Carried = [initial(op, type_)] * (len(_ROWS) * len(columns))
    if window.taps <= _FEW_TAPS:
        for number in range(window.taps):
            values = tap(const(number), values)
    else:
        values = for_loop(const(0), const(window.taps), const(1), values, tap)
    if not has_all:
        values = [_present(value, columns[i % len(columns)], channels) for i, value in enumerate(values)]
    rows = [values[i : i + len(columns)] for i in range(0, len(values), len(columns))]
    return [[pair for value in row for pair in _pairs(value)] for row in rows]


def _present(numbers: ir.Value, column: Scalar, channels: int) -> ir.Value:
    """Numbers of neighbouring channels, of those that the source does not have 0."""
    type_ = ir.VectorType(numbers.type)
    count = type_.shape[0]
    exists = vector.from_elements(vector_of(i1(), count), [((column + i) < channels).value for i in range(count)])
    return arith.select(exists, numbers, splat(0, type_))


def _pairs(numbers: ir.Value) -> list[ir.Value]:
    """The pairs of neighbours in a vector."""
    type_ = ir.VectorType(numbers.type)
    elements = [vector.extract(numbers, [], [i]) for i in range(type_.shape[0])]
    pair = vector_of(type_.element_type, PAIR)
    return [vector.from_elements(pair, elements[i : i + PAIR]) for i in range(0, len(elements), PAIR)]
