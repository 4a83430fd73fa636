"""Kernels for `bit.plane_pack_patches`: a thread gathers 32 numbers of a patch and makes their word of each plane.

Four bytes become four bits of a plane by a multiplication: of the lowest bits b0 … b3 of the bytes,
(b0 + 2^8·b1 + 2^16·b2 + 2^24·b3) · (2^24 + 2^17 + 2^10 + 2^3) has b0 … b3 from bit 24 on, and no two of its terms meet.
"""

from __future__ import annotations

import dataclasses
import functools

from mlir import ir
from mlir.dialects import llvm

from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.layout import BITS_PER_WORD, ceil_div
from bitmlir.dialects.window import Window
from bitmlir.lowering.emit import Scalar, const, if_then, select
from bitmlir.lowering.gpu.memory import GLOBAL, Kernel, load, offset, shuffle_xor, store
from bitmlir.lowering.gpu.tasks import WORD_BYTES, build_task_kernel, require_countable
from bitmlir.lowering.instructions import LANES
from bitmlir.lowering.targets import Target
from bitmlir.lowering.windows import pixel_at, place_in_image

__all__ = ["build_pack_patches_kernel"]

_BYTES = 4  # of a register, that are turned into bits at once
_LOWEST_BITS, _GATHER, _GATHERED = 0x01010101, 0x01020408, 24


def build_pack_patches_kernel(module: ir.Block, name: str, op: bit.PlanePackPatchesOp, target: Target) -> Kernel:
    """Emit the kernel that packs what a window sees."""
    window, encoding = bit.window_in(op.window), bit.encoding_in(op.encoding)
    (_, places, words), channels = ir.MemRefType(op.planes.type).shape, ir.MemRefType(op.source.type).shape[1]
    used = ceil_div(window.taps * channels, BITS_PER_WORD)  # words with numbers in them
    tasks = places * used
    require_countable(op, tasks)
    together = min(used & -used, LANES)  # neighbouring lanes that work on the same place

    def body(task: Scalar, source: ir.Value, planes: ir.Value, sums: ir.Value) -> None:
        exists, task = task < tasks, task.minimum(tasks - 1)  # all lanes take part in shuffles
        place, word = task // used, task % used
        made = _packed(window, channels, encoding, source, place, word)
        total = const(0)
        for plane, weight in enumerate(encoding.weights):
            row = ((place + plane * places).to_i64() * words) * WORD_BYTES

            def keep(value: Scalar, at: Scalar, row: Scalar = row) -> None:
                store(value.value, offset(planes, row + at.to_i64() * WORD_BYTES, GLOBAL), WORD_BYTES)

            if_then(exists, functools.partial(keep, made[plane], word))
            for padding in range(used, words):
                if_then(exists & word.equals(used - 1), functools.partial(keep, const(0), const(padding)))
            total = total + Scalar(llvm.intr_ctpop(made[plane].value)) * weight
        distance = 1
        while distance < together:
            total = total + shuffle_xor(total, distance)
            distance *= 2
        address = offset(sums, place.to_i64() * WORD_BYTES, GLOBAL)

        def add() -> None:
            if together == used:
                store(total.value, address, WORD_BYTES)
            else:
                llvm.atomicrmw(llvm.AtomicBinOp.add, address, total.value, llvm.AtomicOrdering.monotonic)

        if_then((task % together).equals(0) & exists, add)

    kernel = build_task_kernel(module, name, tasks, (op.source, op.planes, op.sums), target, body)
    return kernel if together == used else dataclasses.replace(kernel, zeroed=(op.sums,))


def _packed(
    window: Window, channels: int, encoding: Encoding, source: ir.Value, place: Scalar, word: Scalar
) -> list[Scalar]:
    """The word of each plane of the 32 numbers of a patch that begin at word·32."""
    where = place_in_image(window, place)
    columns = window.columns.taps

    def code(number: int) -> Scalar:
        """A number of the patch, 0 outside the image and past its end."""
        element = word * BITS_PER_WORD + number
        tap = element // channels
        r, s = tap // columns, tap % columns
        inside, pixel = pixel_at(window, where, r, s, outside=0)
        inside = inside & (r < window.rows.taps)
        at = select(inside, pixel, 0).to_i64() * channels + (element % channels).to_i64()
        byte = Scalar(load(ir.IntegerType.get_signless(8), offset(source, at, GLOBAL), 1)).to_i32()
        return select(inside, byte & 0xFF, 0)

    made = [const(0)] * encoding.bits
    for first in range(0, BITS_PER_WORD, _BYTES):
        four = code(first)
        for number in range(1, _BYTES):
            four = four | (code(first + number) << 8 * number)
        for plane in range(encoding.bits):
            lowest = (four >> plane) & _LOWEST_BITS
            made[plane] = made[plane] | (((lowest * _GATHER) >> _GATHERED) << first)
    return made
