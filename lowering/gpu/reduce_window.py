"""The kernel for `bit.plane_reduce_window`: a warp has 16 places and 64 channels, in the layout of an accumulator, so
that it stores what it yields as products do."""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith, vector

from bitmlir.dialects import bit
from bitmlir.dialects.layout import BITS_PER_WORD, ceil_div, words_per_row
from bitmlir.lowering.elements import Grid
from bitmlir.lowering.emit import Carried, Scalar, const, for_loop, i1
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
    loads = (inner.operands[0] for inner in op.body.operations if inner.operation.name == "memref.load")
    arguments = tuple(dict.fromkeys(v for v in (op.source, op.out, op.out_sums, op.kept, *loads) if v is not None))
    kernel = _Shape.of(op)

    def emit(*pointers: ir.Value) -> None:
        if target.overlaps_launches:
            overlap_launches()
        _emit(op, kernel, dict(zip(arguments, pointers, strict=True)))

    with ir.InsertionPoint(module):
        kernel_function(name, _THREADS, arguments, {}, emit)
    zeroed = () if op.out_sums is None or kernel.across == 1 else (op.out_sums,)
    grid, overlaps = (kernel.across * kernel.down, 1, 1), target.overlaps_launches
    return Kernel(name, grid, _THREADS, 0, arguments, zeroed=zeroed, overlaps=overlaps)


@dataclass(frozen=True)
class _Shape:
    """How warps share the work: `columns` of each, `across` of them side by side, and `down` blocks of rows."""

    channels: int
    columns: int
    across: int
    down: int

    @staticmethod
    def of(op: bit.PlaneReduceWindowOp) -> _Shape:
        """The shape for an operation."""
        channels = ir.IntegerAttr(op.attributes["channels"]).value
        together = BITS_PER_WORD if op.out_sums is not None else _GROUP
        columns = min(ceil_div(channels, together) * together, _WIDEST)
        return _Shape(channels, columns, ceil_div(channels, columns), ceil_div(op.places, _BLOCK_ROWS))


def _emit(op: bit.PlaneReduceWindowOp, shape: _Shape, pointers: dict[ir.Value, ir.Value]) -> None:
    lane, warp = thread_index() % LANES, thread_index() // LANES
    tile_column = block_index() % shape.across * shape.columns
    first_row = block_index() // shape.across * _BLOCK_ROWS + warp * _WARP_ROWS + lane // LANES_PER_ROW
    first_column = tile_column + lane % LANES_PER_ROW * PAIR
    offsets = list(range(0, shape.columns, _GROUP))
    grid = _reduce(op, shape, pointers[op.source], first_row, [first_column + distance for distance in offsets])
    padding = 0
    if op.out_sums is not None:
        padding = max(0, words_per_row(shape.channels) - shape.across * shape.columns // BITS_PER_WORD)
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
        padding=(padding, is_last),
        is_whole=shape.across == 1,
        see=lambda row, column: grid[row][column],
    ).store()


def _reduce(
    op: bit.PlaneReduceWindowOp, shape: _Shape, source: ir.Value, first_row: Scalar, columns: list[Scalar]
) -> Grid:
    """What the window sees of the thread's pairs of channels."""
    window, type_ = bit.window_in(op.window), vector_of(op.value.result.type, PAIR)
    where = [place_in_image(window, (first_row + distance).minimum(op.places - 1)) for distance in _ROWS]
    (_, channels), element = ir.MemRefType(op.source.type).shape, ir.MemRefType(op.source.type).element_type
    has_all = shape.across * shape.columns <= channels

    def pair_at(pixel: Scalar, column: Scalar) -> ir.Value:
        size, row = element_bytes(element), pixel.to_i64() * channels
        if channels % PAIR == 0:
            column = column if has_all else column.minimum(channels - PAIR)
            at = (row + column.to_i64()) * size
            return load(vector_of(element, PAIR), offset(source, at, GLOBAL), PAIR * size)
        places = [(row + (column + i).minimum(channels - 1).to_i64()) * size for i in range(PAIR)]
        return vector.from_elements(
            vector_of(element, PAIR), [load(element, offset(source, at, GLOBAL), size) for at in places]
        )

    def tap(number: Scalar, so_far: Carried) -> Carried:
        r, s = number // window.columns.taps, number % window.columns.taps
        taken: list[ir.Value] = []
        for place in where:
            inside, pixel = pixel_at(window, place, r, s, outside=0)
            for column in columns:
                before = so_far[len(taken)]
                value = reduced(op, before, widened(pair_at(pixel, column), type_))
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
    return [values[: len(columns)], values[len(columns) :]]


def _present(pair: ir.Value, column: Scalar, channels: int) -> ir.Value:
    """A pair of channels, of those that the source does not have 0."""
    type_ = ir.VectorType(pair.type)
    exists = vector.from_elements(vector_of(i1(), PAIR), [((column + i) < channels).value for i in range(PAIR)])
    return arith.select(exists, pair, splat(0, type_))
