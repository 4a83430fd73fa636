"""The kernel for `bit.plane_pool`: an output place at a time, four words of each plane at a time."""

from __future__ import annotations

from mlir import ir
from mlir.dialects import arith, math, vector

from bitmlir.dialects import bit
from bitmlir.lowering.cpu.kernel import Arrays, Kernel, as_index, kernel_function, loop_with, task_rows, write
from bitmlir.lowering.emit import Carried, Scalar, const, i32
from bitmlir.lowering.largest import larger, smallest
from bitmlir.lowering.vectors import splat, vector_of
from bitmlir.lowering.windows import pixel_at, place_in_image

__all__ = ["build_pool_kernel"]

_CHUNK_WORDS = 4  # a pixel's row has whole ones


def build_pool_kernel(name: str, op: bit.PlanePoolOp) -> Kernel:
    """Emit the kernel that takes the largest number that a window sees."""
    window, encoding = bit.window_in(op.window), bit.encoding_in(op.encoding)
    planes, places, words = ir.MemRefType(op.out.type).shape

    def body(arrays: Arrays, first: Scalar, last: Scalar) -> None:
        type_ = vector_of(i32(), _CHUNK_WORDS)

        def chunk_at(array: ir.Value, plane: int, row: Scalar, word: Scalar) -> ir.Value:
            return vector.load(type_, array, [as_index(plane).value, row.value, word.value])

        def pool(place: Scalar, carried: Carried) -> Carried:
            where = place_in_image(window, place)

            def chunk(word: Scalar, total: Carried) -> Carried:
                def tap(r: Scalar, s: Scalar, largest: Carried) -> Carried:
                    inside, pixel = pixel_at(window, where, r, s, outside=as_index(0))
                    seen = [chunk_at(arrays[op.planes], plane, pixel, word) for plane in range(planes)]
                    larger_ = larger(encoding, largest, seen)
                    return [arith.select(inside.value, x, y) for x, y in zip(larger_, largest, strict=True)]

                largest = loop_with(
                    [splat(word, type_) for word in smallest(encoding)], 0, window.rows.taps, 1,
                    lambda r, rows: loop_with(rows, 0, window.columns.taps, 1, lambda s, inner: tap(r, s, inner)),
                )  # fmt: skip
                ones = Scalar(total[0])
                for plane, (value, weight) in enumerate(zip(largest, encoding.weights, strict=True)):
                    vector.store(value, arrays[op.out], [as_index(plane).value, place.value, word.value])
                    count = vector.reduction(i32(), vector.CombiningKind.ADD, math.ctpop(value))
                    ones = ones + Scalar(count) * weight
                return [ones.value]

            write(Scalar(loop_with([const(0).value], 0, words, _CHUNK_WORDS, chunk)[0]), arrays[op.out_sums], place)
            return carried

        loop_with([], first, last, 1, pool)

    arguments = (op.planes, op.out, op.out_sums)
    return kernel_function(name, arguments, places, task_rows(planes * words * window.taps, places), body)
