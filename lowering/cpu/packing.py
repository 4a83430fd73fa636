"""Kernels for `bit.plane_pack` and `bit.plane_unpack`: a row at a time, a word of each plane at a time.

Packing works on vectors of elements; the innermost loop of unpacking is left to LLVM, which vectorises it.
"""

from __future__ import annotations

from collections.abc import Callable

from mlir import ir
from mlir.dialects import arith, math, vector

from bitmlir.dialects import bit
from bitmlir.dialects.layout import BITS_PER_WORD, ceil_div
from bitmlir.lowering.codes import Quantiser, code_of, safe_scale, value_of, widened
from bitmlir.lowering.cpu.kernel import Arrays, Kernel, kernel_function, loop, loop_with, read, task_rows, write
from bitmlir.lowering.cpu.vectors import LANES, lanes_below, load
from bitmlir.lowering.emit import Carried, Scalar, const, i1
from bitmlir.lowering.vectors import splat, vector_of

__all__ = ["build_pack_kernel", "build_unpack_kernel"]


def build_pack_kernel(name: str, op: bit.PlanePackOp) -> Kernel:
    """Emit the kernel that makes planes and row sums from integers or floats."""
    rows, k = ir.MemRefType(op.source.type).shape
    arguments = (op.source, op.planes, op.sums, op.scale, op.zeros, op.out_zeros)

    def body(arrays: Arrays, first: Scalar, last: Scalar) -> None:
        loop(first, last, 1, lambda row: _pack_row(op, arrays, row))

    return kernel_function(name, arguments, rows, task_rows(k * bit.encoding_in(op.encoding).bits, rows), body)


def _pack_row(op: bit.PlanePackOp, arrays: Arrays, row: Scalar) -> None:
    encoding, source = bit.encoding_in(op.encoding), ir.MemRefType(op.source.type)
    k, words = source.shape[1], ir.MemRefType(op.planes.type).shape[2]
    planes = arrays[op.planes]
    zero = None if op.zeros is None else read(arrays[op.zeros], row)
    scale = None if op.scale is None else safe_scale(read(arrays[op.scale], row).value)
    quantiser = Quantiser(encoding, zero, scale) if isinstance(source.element_type, ir.FloatType) else None

    def codes(first: Scalar, mask: ir.Value | None) -> ir.Value:
        elements = load(arrays[op.source], [row.value, first.value], mask)
        values = widened(elements) if quantiser is None else quantiser.values(elements)
        return code_of(values, encoding, zero).value

    def pack_word(word: Scalar, elements: int) -> None:
        packed = [const(0)] * encoding.bits
        for place in range(0, elements, LANES):
            first = word * BITS_PER_WORD + place
            mask = lanes_below(first, k) if elements - place < LANES else None
            code = codes(first, mask)
            packed = [bits | (_plane_of(code, i, mask).to_i32() << place) for i, bits in enumerate(packed)]
        for plane, bits in enumerate(packed):
            write(bits, planes, plane, row, word)

    def add_word(word: Scalar, totals: Carried) -> Carried:
        counts = [Scalar(math.ctpop(read(planes, plane, row, word).value)) for plane in range(encoding.bits)]
        return [(Scalar(total) + count).value for total, count in zip(totals, counts, strict=True)]

    _each_word(k, words, pack_word)
    ones = loop_with([const(0).value] * encoding.bits, 0, words, 1, add_word)
    total = const(0)
    for count, weight in zip(ones, encoding.weights, strict=True):
        total = total + Scalar(count) * weight
    write(total, arrays[op.sums], row)
    if zero is not None:
        write(zero, arrays[op.out_zeros], row)


def _plane_of(codes: ir.Value, plane: int, mask: ir.Value | None) -> Scalar:
    """One plane of a vector of codes, as an integer with a bit a lane."""
    bits = arith.shrui(codes, splat(plane, ir.VectorType(codes.type))) if plane else codes
    bits = arith.trunci(vector_of(i1(), LANES), bits)
    if mask is not None:
        bits = arith.andi(bits, mask)
    integer = vector.bitcast(vector_of(ir.IntegerType.get_signless(LANES), 1), bits)
    return Scalar(vector.extract(integer, [], [0]))


def build_unpack_kernel(name: str, op: bit.PlaneUnpackOp) -> Kernel:
    """Emit the kernel that makes integers from planes."""
    rows, k = ir.MemRefType(op.out.type).shape

    def body(arrays: Arrays, first: Scalar, last: Scalar) -> None:
        loop(first, last, 1, lambda row: _unpack_row(op, arrays, row))

    return kernel_function(
        name, (op.planes, op.out, op.zeros), rows, task_rows(k * bit.encoding_in(op.encoding).bits, rows), body
    )


def _unpack_row(op: bit.PlaneUnpackOp, arrays: Arrays, row: Scalar) -> None:
    encoding, out_type = bit.encoding_in(op.encoding), ir.MemRefType(op.out.type)
    zero = None if op.zeros is None else read(arrays[op.zeros], row)

    def unpack_word(word: Scalar, elements: int) -> None:
        packed = [read(arrays[op.planes], plane, row, word) for plane in range(encoding.bits)]

        def unpack_element(t: Scalar) -> None:
            value = value_of(lambda plane: (packed[plane] >> t.to_i32()) & 1, encoding, zero)
            element = Scalar(arith.trunci(out_type.element_type, value.value))
            write(element, arrays[op.out], row, word * BITS_PER_WORD + t)

        loop(0, elements, 1, unpack_element)

    k = out_type.shape[1]
    _each_word(k, ceil_div(k, BITS_PER_WORD), unpack_word)


def _each_word(k: int, words: int, body: Callable[[Scalar, int], None]) -> None:
    """body(word, elements in it) for each word of a row of k elements: full ones, the last one, and padding."""
    full, rest = divmod(k, BITS_PER_WORD)
    parts = ((0, full, BITS_PER_WORD), (full, full + 1, rest), (full + 1, words, 0))
    if rest == 0:
        parts = ((0, full, BITS_PER_WORD), (full, words, 0))
    for first, end, elements in parts:
        loop(first, end, 1, lambda word, elements=elements: body(word, elements))
