"""How the mma.sync kernels bring rows to shared memory: by cp.async, or by loads and stores on chips without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith, nvvm

from bitmlir.lowering.emit import Scalar, const, i32, select
from bitmlir.lowering.gpu.memory import load, store
from bitmlir.lowering.gpu.product import BLOCK_BYTES

__all__ = ["CHUNKS", "CHUNK_BYTES", "Chunk", "copy_async", "copy_through_registers"]

CHUNK_BYTES = 16  # the unit of cp.async and of ldmatrix rows
CHUNKS = BLOCK_BYTES // CHUNK_BYTES


@dataclass(frozen=True)
class Chunk:
    """16 bytes of a stage: where in which matrix they are read, if inside; and where they go."""

    source: ir.Value
    matrix: ir.Value
    inside: Scalar | None
    to: ir.Value


def copy_async(chunks: Sequence[Chunk]) -> None:
    """Copy by cp.async; zeros where a chunk lies outside."""
    size, bypass_l1 = ir.IntegerAttr.get(i32(), CHUNK_BYTES), nvvm.LoadCacheModifierKind.CG
    for chunk in chunks:
        filled = None if chunk.inside is None else select(chunk.inside, const(CHUNK_BYTES), 0).value
        nvvm.cp_async_shared_global(chunk.to, chunk.source, size, bypass_l1, cp_size=filled)


def copy_through_registers(chunks: Sequence[Chunk]) -> None:
    """Copy by loads and stores, for chips without cp.async: all loads before the first store."""
    four = ir.VectorType.get([4], i32())
    zeros = arith.constant(four, ir.DenseElementsAttr.get_splat(four, ir.IntegerAttr.get(i32(), 0)))
    loaded = []
    for chunk in chunks:
        if chunk.inside is None:
            loaded.append(load(four, chunk.source, CHUNK_BYTES))
            continue
        source = arith.select(chunk.inside.value, chunk.source, chunk.matrix)
        loaded.append(arith.select(chunk.inside.value, load(four, source, CHUNK_BYTES), zeros))
    for chunk, value in zip(chunks, loaded, strict=True):
        store(value, chunk.to, CHUNK_BYTES)
