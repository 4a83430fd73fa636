"""A kernel that zeroes buffers: between launches that overlap it costs less than memsets, which keep them apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

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


def build_zero_kernel(module: ir.Block, name: str, buffers: Sequence[ir.Value]) -> Kernel:
    """A word of each buffer a thread."""
    words = [_words(buffer) for buffer in buffers]

    def body(*starts: ir.Value) -> None:
        overlap_launches(starts)
        word = block_index().to_i64() * _THREADS + thread_index().to_i64()
        for start, count in zip(starts, words, strict=True):
            address = offset(start, word * _WORD_BYTES, GLOBAL)
            if_then(word < count, partial(store, const(0).value, address, _WORD_BYTES))

    with ir.InsertionPoint(module):
        kernel_function(name, _THREADS, buffers, {}, body)
    return Kernel(name, (ceil_div(max(words), _THREADS), 1, 1), _THREADS, 0, tuple(buffers), overlaps=True)


def _words(buffer: ir.Value) -> int:
    type_ = ir.MemRefType(buffer.type)
    return math.prod(type_.shape) * element_bytes(type_.element_type) // _WORD_BYTES
