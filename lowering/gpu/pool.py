"""The kernel for `bit.plane_pool`: an output place a thread, 16 bytes of each plane at a time, or all of a pixel's."""

from __future__ import annotations

from mlir import ir
from mlir.dialects import arith, llvm, vector

from bitmlir.dialects import bit
from bitmlir.lowering.emit import Carried, Scalar, const, for_loop, i32, if_then
from bitmlir.lowering.gpu.memory import GLOBAL, Kernel, load, offset, store
from bitmlir.lowering.gpu.tasks import CHUNK_WORDS, WORD_BYTES, build_task_kernel
from bitmlir.lowering.largest import larger, smallest
from bitmlir.lowering.targets import Target
from bitmlir.lowering.vectors import splat, vector_of
from bitmlir.lowering.windows import pixel_at, place_in_image

__all__ = ["build_pool_kernel"]


def build_pool_kernel(module: ir.Block, name: str, op: bit.PlanePoolOp, target: Target) -> Kernel:
    """Emit the kernel that takes the largest number that a window sees."""
    window, encoding = bit.window_in(op.window), bit.encoding_in(op.encoding)
    planes, places, words = ir.MemRefType(op.out.type).shape
    chunk_words = min(words, CHUNK_WORDS)  # pixels in pairs have fewer
    pixels, chunks, chunk_bytes = ir.MemRefType(op.planes.type).shape[1], words // chunk_words, chunk_words * WORD_BYTES
    arguments = (op.planes, op.out, op.out_sums)

    def body(place: Scalar, source: ir.Value, out: ir.Value, out_sums: ir.Value) -> None:
        type_ = vector_of(i32(), chunk_words)
        where = place_in_image(window, place)

        def address(base: ir.Value, row: Scalar, chunk: Scalar) -> ir.Value:
            return offset(base, (row.to_i64() * chunks + chunk.to_i64()) * chunk_bytes, GLOBAL)

        def pool_chunk(chunk: Scalar, total: Carried) -> Carried:
            def tap(number: Scalar, largest: Carried) -> Carried:
                r, s = number // window.columns.taps, number % window.columns.taps
                inside, pixel = pixel_at(window, where, r, s, outside=0)
                rows = [pixel + plane * pixels for plane in range(planes)]
                seen = [load(type_, address(source, row, chunk), chunk_bytes) for row in rows]
                larger_ = larger(encoding, largest, seen)
                return [arith.select(inside.value, x, y) for x, y in zip(larger_, largest, strict=True)]

            start = [splat(word, type_) for word in smallest(encoding)]
            largest = for_loop(const(0), const(window.taps), const(1), start, tap)
            ones = Scalar(total[0])
            for plane, (value, weight) in enumerate(zip(largest, encoding.weights, strict=True)):
                store(value, address(out, place + plane * places, chunk), chunk_bytes)
                for lane in range(chunk_words):
                    ones = ones + Scalar(llvm.intr_ctpop(vector.extract(value, [], [lane]))) * weight
            return [ones.value]

        def pool() -> None:
            total = for_loop(const(0), const(chunks), const(1), [const(0).value], pool_chunk)[0]
            store(total, offset(out_sums, place.to_i64() * WORD_BYTES, GLOBAL), WORD_BYTES)

        if_then(place < places, pool)

    return build_task_kernel(module, name, places, arguments, target, body)
