"""Kernels for `bit.plane_patches`, an output place at a time, and for `bit.plane_edge_sums`, a filter at a time."""

from __future__ import annotations

from mlir import ir

from bitmlir.dialects import bit
from bitmlir.lowering.cpu.kernel import (
    Arrays,
    Kernel,
    as_index,
    kernel_function,
    loop,
    loop_with,
    read,
    task_rows,
    write,
)
from bitmlir.lowering.emit import Carried, Scalar, const, if_else, select
from bitmlir.lowering.windows import pixel_at, place_in_image

__all__ = ["build_edge_sums_kernel", "build_patches_kernel"]


def build_patches_kernel(name: str, op: bit.PlanePatchesOp) -> Kernel:
    """Emit the kernel that gathers what a window sees."""
    window, (planes, places, row_words) = bit.window_in(op.window), ir.MemRefType(op.out.type).shape
    words = row_words // window.taps

    def body(arrays: Arrays, first: Scalar, last: Scalar) -> None:
        def gather(place: Scalar) -> None:
            where = place_in_image(window, place)

            def tap(r: Scalar, s: Scalar, total: Carried) -> Carried:
                inside, pixel = pixel_at(window, where, r, s, outside=as_index(0))
                start = (r * window.columns.taps + s) * words
                for plane in range(planes):
                    if_else(
                        inside,
                        lambda plane=plane: loop(
                            0,
                            words,
                            1,
                            lambda v: write(read(arrays[op.planes], plane, pixel, v), out, plane, place, start + v),
                        ),
                        lambda plane=plane: loop(0, words, 1, lambda v: write(const(0), out, plane, place, start + v)),
                    )
                return [(Scalar(total[0]) + select(inside, read(arrays[op.sums], pixel), const(0))).value]

            out = arrays[op.out]
            total = loop_with(
                [const(0).value], 0, window.rows.taps, 1,
                lambda r, carried: loop_with(carried, 0, window.columns.taps, 1, lambda s, inner: tap(r, s, inner)),
            )  # fmt: skip
            write(Scalar(total[0]), arrays[op.out_sums], place)

        loop(first, last, 1, gather)

    arguments = (op.planes, op.sums, op.out, op.out_sums)
    return kernel_function(name, arguments, places, task_rows(planes * row_words, places), body)


def build_edge_sums_kernel(name: str, op: bit.PlaneEdgeSumsOp) -> Kernel:
    """Emit the kernel that adds up the taps of filters that lie inside an image."""
    window, (_, filters) = bit.window_in(op.window), ir.MemRefType(op.out.type).shape
    scale, offset = (ir.IntegerAttr(a).value for a in (op.scale, op.offset))

    def body(arrays: Arrays, first: Scalar, last: Scalar) -> None:
        def add_up(number: Scalar) -> None:
            for place, (rows, columns) in enumerate(window.classes):

                def add(r: Scalar, s: Scalar, total: Carried) -> Carried:
                    tap = number * window.taps + r * window.columns.taps + s
                    return [(Scalar(total[0]) + read(arrays[op.sums], tap) * scale + offset).value]

                total = loop_with(
                    [const(0).value], rows.start, rows.stop, 1,
                    lambda r, carried, columns=columns, add=add: loop_with(
                        carried, columns.start, columns.stop, 1, lambda s, inner: add(r, s, inner)
                    ),
                )  # fmt: skip
                write(Scalar(total[0]), arrays[op.out], place, number)

        loop(first, last, 1, add_up)

    work = sum(len(rows) * len(columns) for rows, columns in window.classes)
    return kernel_function(name, (op.sums, op.out), filters, task_rows(work, filters), body)
