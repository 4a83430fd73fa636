"""A kernel that zeroes a buffer: between launches that overlap it costs less than a memset, which keeps them apart."""

from __future__ import annotations

import math

from mlir import ir

from bitmlir.dialects.layout import ceil_div
from bitmlir.lowering.emit import const, if_then
from bitmlir.lowering.gpu.memory import (
    GLOBAL,
    Kernel,
    block_index,
    element_bytes,
    kernel_function,
    offset,
    overlap_launches,
    store,
    thread_index,
)

__all__ = ["build_zero_kernel"]

_THREADS = 256
_WORD_BYTES = 4


def build_zero_kernel(module: ir.Block, name: str, buffer: ir.Value) -> Kernel:
    """A word of the buffer a thread."""
    type_ = ir.MemRefType(buffer.type)
    words = math.prod(type_.shape) * element_bytes(type_.element_type) // _WORD_BYTES

    def body(start: ir.Value) -> None:
        overlap_launches()
        word = block_index().to_i64() * _THREADS + thread_index().to_i64()
        address = offset(start, word * _WORD_BYTES, GLOBAL)
        if_then(word < words, lambda: store(const(0).value, address, _WORD_BYTES))

    with ir.InsertionPoint(module):
        kernel_function(name, _THREADS, (buffer,), {}, body)
    return Kernel(name, (ceil_div(words, _THREADS), 1, 1), _THREADS, 0, (buffer,), overlaps=True)
