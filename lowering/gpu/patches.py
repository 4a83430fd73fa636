"""Kernels for `bit.plane_patches`, 16 bytes of a patch a thread, and for `bit.plane_edge_sums`, a filter a thread."""

from __future__ import annotations

from mlir import ir
from mlir.dialects import arith

from bitmlir.dialects import bit
from bitmlir.dialects.layout import BITS_PER_WORD, ceil_div
from bitmlir.dialects.window import Window
from bitmlir.lowering.emit import Carried, Scalar, const, for_loop, i32, if_else, if_then, select
from bitmlir.lowering.gpu.memory import (
    GLOBAL,
    Kernel,
    block_index,
    kernel_function,
    load,
    offset,
    overlap_launches,
    store,
    thread_index,
)
from bitmlir.lowering.passes import fail
from bitmlir.lowering.targets import Target
from bitmlir.lowering.vectors import splat, vector_of
from bitmlir.lowering.windows import pixel_at, place_in_image

__all__ = ["build_edge_sums_kernel", "build_patches_kernel"]

_THREADS = 256
_WORD_BYTES = BITS_PER_WORD // 8
_CHUNK_WORDS = 4  # of a patch that a thread copies: a pixel's row has whole ones
_MOST_TASKS = 1 << 31


def build_patches_kernel(module: ir.Block, name: str, op: bit.PlanePatchesOp, target: Target) -> Kernel:
    """Emit the kernel that gathers what a window sees: first the threads that copy, then one for each place's sum."""
    window, (planes, places, row_words) = bit.window_in(op.window), ir.MemRefType(op.out.type).shape
    row_chunks = row_words // _CHUNK_WORDS
    tap_chunks = row_chunks // window.taps
    copies = planes * places * row_chunks
    if copies + places >= _MOST_TASKS:
        fail(
            op, f"a patch kernel has fewer than {_MOST_TASKS} tasks, but this one {copies + places}: take fewer images"
        )
    rows = ir.MemRefType(op.planes.type).shape[1]
    arguments = (op.planes, op.sums, op.out, op.out_sums)

    def body(source: ir.Value, sums: ir.Value, out: ir.Value, out_sums: ir.Value) -> None:
        if target.overlaps_launches:
            overlap_launches()
        task = block_index() * _THREADS + thread_index()

        def copy() -> None:
            chunk, place, plane = task % row_chunks, task // row_chunks % places, task // (row_chunks * places)
            tap = chunk // tap_chunks
            inside, pixel = _pixel(window, place, tap)
            at = ((plane * rows + pixel).to_i64() * tap_chunks + (chunk % tap_chunks).to_i64()) * _chunk_bytes()
            type_ = vector_of(i32(), _CHUNK_WORDS)
            words = load(type_, offset(source, at, GLOBAL), _chunk_bytes())
            words = arith.select(inside.value, words, splat(0, type_))
            store(words, offset(out, task.to_i64() * _chunk_bytes(), GLOBAL), _chunk_bytes())

        def add_up() -> None:
            place = task - copies

            def add(tap: Scalar, carried: Carried) -> Carried:
                inside, pixel = _pixel(window, place, tap)
                value = Scalar(load(i32(), offset(sums, pixel.to_i64() * _WORD_BYTES, GLOBAL), _WORD_BYTES))
                return [(Scalar(carried[0]) + select(inside, value, 0)).value]

            total = for_loop(const(0), const(window.taps), const(1), [const(0).value], add)[0]
            address = offset(out_sums, place.to_i64() * _WORD_BYTES, GLOBAL)
            if_then(task < copies + places, lambda: store(total, address, _WORD_BYTES))

        if_else(task < copies, copy, lambda: if_then(task < copies + places, add_up))

    with ir.InsertionPoint(module):
        kernel_function(name, _THREADS, arguments, {}, body)
    grid = (ceil_div(copies + places, _THREADS), 1, 1)
    return Kernel(name, grid, _THREADS, 0, arguments, overlaps=target.overlaps_launches)


def _chunk_bytes() -> int:
    return _CHUNK_WORDS * _WORD_BYTES


def _pixel(window: Window, place: Scalar, tap: Scalar) -> tuple[Scalar, Scalar]:
    """Whether a tap lies inside the image at an output place, and the number of the pixel there, or 0."""
    r, s = tap // window.columns.taps, tap % window.columns.taps
    return pixel_at(window, place_in_image(window, place), r, s, outside=0)


def build_edge_sums_kernel(module: ir.Block, name: str, op: bit.PlaneEdgeSumsOp, target: Target) -> Kernel:
    """Emit the kernel that adds up the taps of filters that lie inside an image."""
    window, (_, filters) = bit.window_in(op.window), ir.MemRefType(op.out.type).shape
    scale, constant = (ir.IntegerAttr(a).value for a in (op.scale, op.offset))
    arguments = (op.sums, op.out)

    def body(sums: ir.Value, out: ir.Value) -> None:
        if target.overlaps_launches:
            overlap_launches()
        number = block_index() * _THREADS + thread_index()

        def add_up() -> None:
            for place, (rows, columns) in enumerate(window.classes):

                def add(step: Scalar, carried: Carried, rows: range = rows, columns: range = columns) -> Carried:
                    r, s = step // len(columns) + rows.start, step % len(columns) + columns.start
                    tap = number * window.taps + r * window.columns.taps + s
                    value = Scalar(load(i32(), offset(sums, tap.to_i64() * _WORD_BYTES, GLOBAL), _WORD_BYTES))
                    return [(Scalar(carried[0]) + value * scale + constant).value]

                inside = len(rows) * len(columns)
                total = (
                    for_loop(const(0), const(inside), const(1), [const(0).value], add)[0] if inside else const(0).value
                )
                address = offset(out, (number + place * filters).to_i64() * _WORD_BYTES, GLOBAL)
                store(total, address, _WORD_BYTES)

        if_then(number < filters, add_up)

    with ir.InsertionPoint(module):
        kernel_function(name, _THREADS, arguments, {}, body)
    grid = (ceil_div(filters, _THREADS), 1, 1)
    return Kernel(name, grid, _THREADS, 0, arguments, overlaps=target.overlaps_launches)
