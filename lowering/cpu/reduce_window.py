"""The kernel for `bit.plane_reduce_window`: a place at a time, 64 channels of it in vectors."""

from __future__ import annotations

import functools

from mlir import ir
from mlir.dialects import arith

from bitmlir.dialects import bit
from bitmlir.dialects.layout import BITS_PER_WORD, ceil_div
from bitmlir.lowering.cpu.block import Block, clear_row
from bitmlir.lowering.cpu.kernel import Arrays, Kernel, as_index, kernel_function, loop, loop_with, task_rows
from bitmlir.lowering.cpu.vectors import LANES, lanes_below, load
from bitmlir.lowering.elements import arrays_read
from bitmlir.lowering.emit import Carried, Scalar
from bitmlir.lowering.reductions import initial, reduced, widened
from bitmlir.lowering.vectors import splat, vector_of
from bitmlir.lowering.windows import pixel_at, place_in_image

__all__ = ["build_reduce_window_kernel"]

_VECTORS = 4


def build_reduce_window_kernel(name: str, op: bit.PlaneReduceWindowOp) -> Kernel:
    """Emit the kernel that reduces what a window sees."""
    window, source_channels = bit.window_in(op.window), ir.MemRefType(op.source.type).shape[1]
    channels = ir.IntegerAttr(op.attributes["channels"]).value
    together = BITS_PER_WORD if op.out_sums is not None else LANES
    width = min(ceil_div(channels, together) * together, _VECTORS * LANES)

    def body(arrays: Arrays, first: Scalar, last: Scalar) -> None:
        def fill(row: Scalar, column: Scalar) -> None:
            columns = [column + lane for lane in range(0, width, LANES)]
            masks = [lanes_below(c, channels) if channels % width else None for c in columns]
            where = place_in_image(window, row)

            @functools.cache
            def see(_: int, slot: int) -> ir.Value:
                return _seen(op, arrays[op.source], where, columns[slot], source_channels)

            here = ir.InsertionPoint.current
            Block(op, channels, arrays, [row], columns, masks, here, see=see).store()

        def fill_row(row: Scalar) -> None:
            if op.out_sums is not None:
                clear_row(op, arrays, ceil_div(channels, width) * width, row)
            loop(0, channels, width, lambda column: fill(row, column))

        loop(first, last, 1, fill_row)

    work = ceil_div(channels * window.taps, 2)
    arguments = (op.source, op.out, op.out_sums, op.kept, *arrays_read(op.body))
    return kernel_function(name, arguments, op.places, task_rows(work, op.places), body)


def _seen(
    op: bit.PlaneReduceWindowOp, source: ir.Value, where: tuple[Scalar, Scalar, Scalar], column: Scalar, channels: int
) -> ir.Value:
    """What the window sees of 16 channels; 0 of those that the source does not have."""
    window, type_ = bit.window_in(op.window), vector_of(op.value.result.type, LANES)
    mask = lanes_below(column, channels)

    def tap(r: Scalar, s: Scalar, so_far: Carried) -> Carried:
        inside, pixel = pixel_at(window, where, r, s, outside=as_index(0))
        value = widened(load(source, [pixel.value, column.value], mask), type_)
        return [arith.select(inside.value, reduced(op, so_far[0], value), so_far[0])]

    (value,) = loop_with(
        [initial(op, type_)], 0, window.rows.taps, 1,
        lambda r, rows: loop_with(rows, 0, window.columns.taps, 1, lambda s, inner: tap(r, s, inner)),
    )  # fmt: skip
    return arith.select(mask, value, splat(0, type_))
