"""Kernels for `bit.plane_patches`, 16 bytes of a patch a thread, for `bit.plane_patch_sums`, a place a thread, and for
`bit.plane_edge_sums`, a filter in a class a thread."""

from __future__ import annotations

from mlir import ir
from mlir.dialects import arith

from bitmlir.dialects import bit
from bitmlir.dialects.window import Window
from bitmlir.lowering.emit import Carried, Scalar, const, for_loop, i32, if_then
from bitmlir.lowering.gpu.memory import GLOBAL, Kernel, load, offset, store
from bitmlir.lowering.gpu.tasks import CHUNK_BYTES, CHUNK_WORDS, WORD_BYTES, build_task_kernel, require_countable
from bitmlir.lowering.targets import Target
from bitmlir.lowering.vectors import splat, vector_of
from bitmlir.lowering.windows import class_taps, pixel_at, place_in_image, window_sum

__all__ = ["build_edge_sums_kernel", "build_patch_sums_kernel", "build_patches_kernel"]


def build_patches_kernel(module: ir.Block, name: str, op: bit.PlanePatchesOp, target: Target) -> Kernel:
    """Emit the kernel that gathers what a window sees."""
    window, (planes, places, row_words) = bit.window_in(op.window), ir.MemRefType(op.out.type).shape
    row_chunks = row_words // CHUNK_WORDS
    tap_chunks = row_chunks // window.taps
    copies = planes * places * row_chunks
    require_countable(op, copies)
    rows = ir.MemRefType(op.planes.type).shape[1]

    def body(task: Scalar, source: ir.Value, out: ir.Value) -> None:

        def copy() -> None:
            chunk, place, plane = task % row_chunks, task // row_chunks % places, task // (row_chunks * places)
            tap = chunk // tap_chunks
            inside, pixel = _pixel(window, place_in_image(window, place), tap)
            at = ((plane * rows + pixel).to_i64() * tap_chunks + (chunk % tap_chunks).to_i64()) * CHUNK_BYTES
            type_ = vector_of(i32(), CHUNK_WORDS)
            words = load(type_, offset(source, at, GLOBAL), CHUNK_BYTES)
            words = arith.select(inside.value, words, splat(0, type_))
            store(words, offset(out, task.to_i64() * CHUNK_BYTES, GLOBAL), CHUNK_BYTES)

        if_then(task < copies, copy)

    return build_task_kernel(module, name, copies, (op.planes, op.out), target, body)


def build_patch_sums_kernel(module: ir.Block, name: str, op: bit.PlanePatchSumsOp, target: Target) -> Kernel:
    """Emit the kernel that adds up the sums of the pixels that a window sees."""
    window, (places,) = bit.window_in(op.window), ir.MemRefType(op.out.type).shape
    require_countable(op, places)

    def body(place: Scalar, sums: ir.Value, out: ir.Value) -> None:

        def read(pixel: Scalar) -> Scalar:
            return Scalar(load(i32(), offset(sums, pixel.to_i64() * WORD_BYTES, GLOBAL), WORD_BYTES))

        def add_up() -> None:
            total = window_sum(window, place.to_index().value, read)
            store(total, offset(out, place.to_i64() * WORD_BYTES, GLOBAL), WORD_BYTES)

        if_then(place < places, add_up)

    return build_task_kernel(module, name, places, (op.sums, op.out), target, body)


def _pixel(window: Window, where: tuple[Scalar, Scalar, Scalar], tap: Scalar) -> tuple[Scalar, Scalar]:
    """Whether a tap lies inside the image at an output place, and the number of the pixel there, or 0."""
    r, s = tap // window.columns.taps, tap % window.columns.taps
    return pixel_at(window, where, r, s, outside=0)


def build_edge_sums_kernel(module: ir.Block, name: str, op: bit.PlaneEdgeSumsOp, target: Target) -> Kernel:
    """Emit the kernel that adds up the taps of filters that lie inside an image."""
    window, (classes, filters) = bit.window_in(op.window), ir.MemRefType(op.out.type).shape
    scale, constant = (ir.IntegerAttr(a).value for a in (op.scale, op.offset))
    columns = len(window.columns.classes)
    require_countable(op, classes * filters)

    def body(task: Scalar, sums: ir.Value, out: ir.Value) -> None:

        def add_up() -> None:
            number, class_ = task % filters, task // filters
            top, bottom = class_taps(window.rows, class_ // columns)
            left, right = class_taps(window.columns, class_ % columns)
            width = right - left

            def add(step: Scalar, carried: Carried) -> Carried:
                r, s = step // width + top, step % width + left
                tap = number * window.taps + r * window.columns.taps + s
                value = Scalar(load(i32(), offset(sums, tap.to_i64() * WORD_BYTES, GLOBAL), WORD_BYTES))
                return [(Scalar(carried[0]) + value * scale + constant).value]

            total = for_loop(const(0), (bottom - top) * width, const(1), [const(0).value], add)[0]
            store(total, offset(out, task.to_i64() * WORD_BYTES, GLOBAL), WORD_BYTES)

        if_then(task < classes * filters, add_up)

    return build_task_kernel(module, name, classes * filters, (op.sums, op.out), target, body)
