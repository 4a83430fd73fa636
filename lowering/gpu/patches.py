"""Kernels for `bit.plane_patches`, 16 bytes of a patch a thread, and for `bit.plane_edge_sums`, a filter a thread."""

from __future__ import annotations

from mlir import ir
from mlir.dialects import arith

from bitmlir.dialects import bit
from bitmlir.dialects.window import Window
from bitmlir.lowering.emit import Carried, Scalar, const, for_loop, i32, if_else, if_then, select
from bitmlir.lowering.gpu.memory import GLOBAL, Kernel, load, offset, store
from bitmlir.lowering.gpu.tasks import CHUNK_BYTES, CHUNK_WORDS, WORD_BYTES, build_task_kernel
from bitmlir.lowering.passes import fail
from bitmlir.lowering.targets import Target
from bitmlir.lowering.vectors import splat, vector_of
from bitmlir.lowering.windows import pixel_at, place_in_image

__all__ = ["build_edge_sums_kernel", "build_patches_kernel"]

_MOST_TASKS = 1 << 31


def build_patches_kernel(module: ir.Block, name: str, op: bit.PlanePatchesOp, target: Target) -> Kernel:
    """Emit the kernel that gathers what a window sees: first the threads that copy, then one for each place's sum."""
    window, (planes, places, row_words) = bit.window_in(op.window), ir.MemRefType(op.out.type).shape
    row_chunks = row_words // CHUNK_WORDS
    tap_chunks = row_chunks // window.taps
    copies = planes * places * row_chunks
    if copies + places >= _MOST_TASKS:
        fail(
            op, f"a patch kernel has fewer than {_MOST_TASKS} tasks, but this one {copies + places}: take fewer images"
        )
    rows = ir.MemRefType(op.planes.type).shape[1]
    arguments = (op.planes, op.sums, op.out, op.out_sums)

    def body(task: Scalar, source: ir.Value, sums: ir.Value, out: ir.Value, out_sums: ir.Value) -> None:

        def copy() -> None:
            chunk, place, plane = task % row_chunks, task // row_chunks % places, task // (row_chunks * places)
            tap = chunk // tap_chunks
            inside, pixel = _pixel(window, place_in_image(window, place), tap)
            at = ((plane * rows + pixel).to_i64() * tap_chunks + (chunk % tap_chunks).to_i64()) * CHUNK_BYTES
            type_ = vector_of(i32(), CHUNK_WORDS)
            words = load(type_, offset(source, at, GLOBAL), CHUNK_BYTES)
            words = arith.select(inside.value, words, splat(0, type_))
            store(words, offset(out, task.to_i64() * CHUNK_BYTES, GLOBAL), CHUNK_BYTES)

        def add_up() -> None:
            place = task - copies
            where = place_in_image(window, place)

            def add(tap: Scalar, carried: Carried) -> Carried:
                inside, pixel = _pixel(window, where, tap)
                value = Scalar(load(i32(), offset(sums, pixel.to_i64() * WORD_BYTES, GLOBAL), WORD_BYTES))
                return [(Scalar(carried[0]) + select(inside, value, 0)).value]

            total = for_loop(const(0), const(window.taps), const(1), [const(0).value], add)[0]
            address = offset(out_sums, place.to_i64() * WORD_BYTES, GLOBAL)
            store(total, address, WORD_BYTES)

        if_else(task < copies, copy, lambda: if_then(task < copies + places, add_up))

    return build_task_kernel(module, name, copies + places, arguments, target, body)


def _pixel(window: Window, where: tuple[Scalar, Scalar, Scalar], tap: Scalar) -> tuple[Scalar, Scalar]:
    """Whether a tap lies inside the image at an output place, and the number of the pixel there, or 0."""
    r, s = tap // window.columns.taps, tap % window.columns.taps
    return pixel_at(window, where, r, s, outside=0)


def build_edge_sums_kernel(module: ir.Block, name: str, op: bit.PlaneEdgeSumsOp, target: Target) -> Kernel:
    """Emit the kernel that adds up the taps of filters that lie inside an image."""
    window, (_, filters) = bit.window_in(op.window), ir.MemRefType(op.out.type).shape
    scale, constant = (ir.IntegerAttr(a).value for a in (op.scale, op.offset))
    arguments = (op.sums, op.out)

    def body(number: Scalar, sums: ir.Value, out: ir.Value) -> None:

        def add_up() -> None:
            for place, (rows, columns) in enumerate(window.classes):

                def add(step: Scalar, carried: Carried, rows: range = rows, columns: range = columns) -> Carried:
                    r, s = step // len(columns) + rows.start, step % len(columns) + columns.start
                    tap = number * window.taps + r * window.columns.taps + s
                    value = Scalar(load(i32(), offset(sums, tap.to_i64() * WORD_BYTES, GLOBAL), WORD_BYTES))
                    return [(Scalar(carried[0]) + value * scale + constant).value]

                inside = len(rows) * len(columns)
                total = (
                    for_loop(const(0), const(inside), const(1), [const(0).value], add)[0] if inside else const(0).value
                )
                address = offset(out, (number + place * filters).to_i64() * WORD_BYTES, GLOBAL)
                store(total, address, WORD_BYTES)

        if_then(number < filters, add_up)

    return build_task_kernel(module, name, filters, arguments, target, body)
