"""Kernels for `bit.plane_patches` and `bit.plane_patch_sums`, a place at a time, and for `bit.plane_edge_sums`, a
filter at a time."""

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
from bitmlir.lowering.windows import class_taps, pixel_at, place_in_image

__all__ = ["build_edge_sums_kernel", "build_patch_sums_kernel", "build_patches_kernel"]


def build_patches_kernel(name: str, op: bit.PlanePatchesOp) -> Kernel:
    """Emit the kernel that gathers what a window sees."""
    window, (planes, places, row_words) = bit.window_in(op.window), ir.MemRefType(op.out.type).shape
    words = row_words // window.taps

    def body(arrays: Arrays, first: Scalar, last: Scalar) -> None:
        source, out = arrays[op.planes], arrays[op.out]

        def gather(place: Scalar) -> None:
            where = place_in_image(window, place)

            def tap(r: Scalar, s: Scalar) -> None:
                inside, pixel = pixel_at(window, where, r, s, outside=as_index(0))
                start = (r * window.columns.taps + s) * words
                for plane in range(planes):

                    def copy(v: Scalar, plane: int = plane) -> None:
                        write(read(source, plane, pixel, v), out, plane, place, start + v)

                    def clear(v: Scalar, plane: int = plane) -> None:
                        write(const(0), out, plane, place, start + v)

                    if_else(
                        inside,
                        lambda copy=copy: loop(0, words, 1, copy),
                        lambda clear=clear: loop(0, words, 1, clear),
                    )

            loop(0, window.rows.taps, 1, lambda r: loop(0, window.columns.taps, 1, lambda s: tap(r, s)))

        loop(first, last, 1, gather)

    return kernel_function(name, (op.planes, op.out), places, task_rows(planes * row_words, places), body)


def build_patch_sums_kernel(name: str, op: bit.PlanePatchSumsOp) -> Kernel:
    """Emit the kernel that adds up the sums of the pixels that a window sees."""
    window, (places,) = bit.window_in(op.window), ir.MemRefType(op.out.type).shape

    def body(arrays: Arrays, first: Scalar, last: Scalar) -> None:
        def add_up(place: Scalar) -> None:
            where = place_in_image(window, place)

            def tap(r: Scalar, s: Scalar, total: Carried) -> Carried:
                inside, pixel = pixel_at(window, where, r, s, outside=as_index(0))
                return [(Scalar(total[0]) + select(inside, read(arrays[op.sums], pixel), const(0))).value]

            total = loop_with(
                [const(0).value], 0, window.rows.taps, 1,
                lambda r, carried: loop_with(carried, 0, window.columns.taps, 1, lambda s, inner: tap(r, s, inner)),
            )  # fmt: skip
            write(Scalar(total[0]), arrays[op.out], place)

        loop(first, last, 1, add_up)

    return kernel_function(name, (op.sums, op.out), places, task_rows(window.taps, places), body)


def build_edge_sums_kernel(name: str, op: bit.PlaneEdgeSumsOp) -> Kernel:
    """Emit the kernel that adds up the taps of filters that lie inside an image."""
    window, (_, filters) = bit.window_in(op.window), ir.MemRefType(op.out.type).shape
    scale, offset = (ir.IntegerAttr(a).value for a in (op.scale, op.offset))
    rows, columns = len(window.rows.classes), len(window.columns.classes)

    def body(arrays: Arrays, first: Scalar, last: Scalar) -> None:
        def add_up(number: Scalar, down: Scalar, across: Scalar) -> None:
            (top, bottom), (left, right) = class_taps(window.rows, down), class_taps(window.columns, across)

            def add(r: Scalar, s: Scalar, total: Carried) -> Carried:
                tap = number * window.taps + r * window.columns.taps + s
                return [(Scalar(total[0]) + read(arrays[op.sums], tap) * scale + offset).value]

            total = loop_with(
                [const(0).value], top, bottom, 1,
                lambda r, carried: loop_with(carried, left, right, 1, lambda s, inner: add(r, s, inner)),
            )  # fmt: skip
            write(Scalar(total[0]), arrays[op.out], down * columns + across, number)

        def all_classes(number: Scalar) -> None:
            loop(0, rows, 1, lambda down: loop(0, columns, 1, lambda across: add_up(number, down, across)))

        loop(first, last, 1, all_classes)

    work = len(window.classes) * window.taps
    return kernel_function(name, (op.sums, op.out), filters, task_rows(work, filters), body)
