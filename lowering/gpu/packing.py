"""Kernels for `bit.plane_pack` (a warp a row, planes by ballot) and `bit.plane_unpack` (a thread an element)."""

from __future__ import annotations

from mlir import ir
from mlir.dialects import arith, llvm, nvvm

from bitmlir.dialects import bit
from bitmlir.dialects.layout import BITS_PER_WORD
from bitmlir.lowering.codes import code_of, value_of, widened
from bitmlir.lowering.emit import Scalar, const, for_loop, i1, i32, if_then
from bitmlir.lowering.gpu.memory import GLOBAL, Kernel, block_index, kernel_function, load, offset, store, thread_index
from bitmlir.lowering.instructions import LANES

__all__ = ["build_pack_kernel", "build_unpack_kernel"]

_THREADS = 256
_WORD_BYTES = BITS_PER_WORD // 8


def build_pack_kernel(module: ir.Block, name: str, op: bit.PlanePackOp) -> Kernel:
    """planes and sums from integers: each warp takes a row, 32 elements at a time."""
    encoding = bit.encoding_in(op.encoding)
    source = ir.MemRefType(op.source.type)
    _, rows, words = ir.MemRefType(op.planes.type).shape
    k, width = source.shape[1], ir.IntegerType(source.element_type).width
    arguments = tuple(v for v in (op.source, op.planes, op.sums, op.zeros, op.out_zeros) if v is not None)
    warps = _THREADS // LANES

    def body(source_at: ir.Value, planes_at: ir.Value, sums_at: ir.Value, *zeros_at: ir.Value) -> None:
        thread = thread_index()
        lane, row = thread % LANES, block_index() * warps + thread // LANES

        def pack_row() -> None:
            zero = Scalar(load(i32(), offset(zeros_at[0], row.to_i64() * 4, GLOBAL))) if zeros_at else None

            def pack_word(word: Scalar, carried: list[ir.Value]) -> list[ir.Value]:
                element = word * BITS_PER_WORD + lane
                number = row.to_i64() * k + element.minimum(k - 1).to_i64()
                value = load(source.element_type, offset(source_at, number * (width // 8), GLOBAL))
                code = code_of(widened(value), encoding, zero)
                sums = Scalar(carried[0])
                for plane, weight in enumerate(encoding.weights):
                    one = Scalar(arith.trunci(i1(), (code >> plane).value)) & (element < k)
                    ballot = Scalar(nvvm.vote_sync(i32(), const(-1).value, one.value, nvvm.VoteSyncKind.ballot))
                    sums = sums + Scalar(llvm.intr_ctpop(ballot.value)) * weight
                    at = (row.to_i64() + plane * rows) * words + word.to_i64()
                    address = offset(planes_at, at * _WORD_BYTES, GLOBAL)
                    if_then(lane.equals(0), lambda b=ballot, a=address: store(b.value, a))
                return [sums.value]

            (sums,) = for_loop(const(0), const(words), const(1), [const(0).value], pack_word)

            def store_row() -> None:
                store(sums, offset(sums_at, row.to_i64() * 4, GLOBAL))
                if zero is not None:
                    store(zero.value, offset(zeros_at[1], row.to_i64() * 4, GLOBAL))

            if_then(lane.equals(0), store_row)

        if_then(row < rows, pack_row)

    with ir.InsertionPoint(module):
        kernel_function(name, _THREADS, arguments, {}, body)
    return Kernel(name, (-(-rows // warps), 1, 1), _THREADS, 0, arguments)


def build_unpack_kernel(module: ir.Block, name: str, op: bit.PlaneUnpackOp) -> Kernel:
    """Integers from planes: each thread takes an element."""
    encoding = bit.encoding_in(op.encoding)
    out = ir.MemRefType(op.out.type)
    _, rows, words = ir.MemRefType(op.planes.type).shape
    k, width = out.shape[1], ir.IntegerType(out.element_type).width
    arguments = tuple(v for v in (op.planes, op.out, op.zeros) if v is not None)
    blocks_per_row = -(-k // _THREADS)

    def body(planes_at: ir.Value, out_at: ir.Value, *zeros_at: ir.Value) -> None:
        block = block_index()
        element, row = block % blocks_per_row * _THREADS + thread_index(), block // blocks_per_row

        def plane_bit(plane: int) -> Scalar:
            number = (row.to_i64() + plane * rows) * words + (element // BITS_PER_WORD).to_i64()
            word = Scalar(load(i32(), offset(planes_at, number * _WORD_BYTES, GLOBAL)))
            return (word >> (element % BITS_PER_WORD)) & 1

        def unpack() -> None:
            zero = Scalar(load(i32(), offset(zeros_at[0], row.to_i64() * 4, GLOBAL))) if zeros_at else None
            value = arith.trunci(out.element_type, value_of(plane_bit, encoding, zero).value)
            store(value, offset(out_at, (row.to_i64() * k + element.to_i64()) * (width // 8), GLOBAL))

        if_then(element < k, unpack)

    with ir.InsertionPoint(module):
        kernel_function(name, _THREADS, arguments, {}, body)
    return Kernel(name, (blocks_per_row * rows, 1, 1), _THREADS, 0, arguments)
