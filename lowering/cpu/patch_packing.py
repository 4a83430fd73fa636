"""Kernels for `bit.plane_pack_patches`: an output place at a time, word by word of each plane."""

from __future__ import annotations

from mlir import ir
from mlir.dialects import math

from bitmlir.dialects import bit
from bitmlir.dialects.layout import BITS_PER_WORD
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
from bitmlir.lowering.emit import Carried, Scalar, const, select
from bitmlir.lowering.windows import pixel_at, place_in_image

__all__ = ["build_pack_patches_kernel"]


def build_pack_patches_kernel(name: str, op: bit.PlanePackPatchesOp) -> Kernel:
    """Emit the kernel that packs what a window sees."""
    window, encoding = bit.window_in(op.window), bit.encoding_in(op.encoding)
    (_, places, words), channels = ir.MemRefType(op.planes.type).shape, ir.MemRefType(op.source.type).shape[1]
    k, columns = window.taps * channels, window.columns.taps

    def body(arrays: Arrays, first: Scalar, last: Scalar) -> None:
        source, planes = arrays[op.source], arrays[op.planes]

        def pack(place: Scalar) -> None:
            where = place_in_image(window, place)

            def bits(word: Scalar, plane: int) -> Scalar:
                def add(number: Scalar, carried: Carried) -> Carried:
                    element = word * BITS_PER_WORD + number
                    exists = element < k
                    element = select(exists, element, as_index(0))
                    tap = element // channels
                    inside, pixel = pixel_at(window, where, tap // columns, tap % columns, outside=as_index(0))
                    code = read(source, pixel, element % channels).to_i32()
                    here = select(inside & exists, (code >> plane) & 1, const(0))
                    return [(Scalar(carried[0]) | (here << number.to_i32())).value]

                return Scalar(loop_with([const(0).value], 0, BITS_PER_WORD, 1, add)[0])

            def fill(word: Scalar, carried: Carried) -> Carried:
                total = Scalar(carried[0])
                for plane, weight in enumerate(encoding.weights):
                    made = bits(word, plane)
                    write(made, planes, plane, place, word)
                    total = total + Scalar(math.ctpop(made.value)) * weight
                return [total.value]

            write(Scalar(loop_with([const(0).value], 0, words, 1, fill)[0]), arrays[op.sums], place)

        loop(first, last, 1, pack)

    work = encoding.bits * words * BITS_PER_WORD
    return kernel_function(name, (op.source, op.planes, op.sums), places, task_rows(work, places), body)
