"""Storing a warp's part of an output tile through shared memory, by TMA: whole 128-byte lines instead of the 32 bytes
that four lanes hold of a row, and the warp need not wait for them.

A warp's 16 rows are stored in chunks 128 bytes wide. A chunk lies in shared memory as TMA's 128-byte swizzle has it:
the 16-byte piece p of row r at piece p xor r % 8. Source: PTX ISA, cp.async.bulk.tensor and bulk groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import nvvm

from bitmlir.lowering.emit import Scalar, const, i32, i64, if_then
from bitmlir.lowering.gpu.memory import SHARED, offset, store
from bitmlir.lowering.instructions import LANES_PER_ROW

__all__ = ["BulkStore"]

_ROW_BYTES = 128
_PIECE_BYTES = 16
_ATOM_ROWS = 8
_EVICT_FIRST = 0x12F0000000000000  # the cache policy that createpolicy.fractional.L2::evict_first makes
_GROUP_COLUMNS = 8  # in which each of a row's four lanes holds two


@dataclass(frozen=True)
class BulkStore:
    """A warp's chunks: `shared` is where its buffers begin, `first_row` and `first_column` where its part of the matrix
    does, `element` the bytes of an element, `matrix` the number of the matrix in a batch."""

    tensor_map: ir.Value
    shared: ir.Value
    lane: Scalar
    first_row: Scalar
    first_column: Scalar
    element: int
    matrix: Scalar | None = None

    ROWS = 16
    BUFFERS = 3
    CHUNK_BYTES = ROWS * _ROW_BYTES
    BYTES = BUFFERS * CHUNK_BYTES

    @classmethod
    def box(cls, element: int) -> tuple[int, int, int]:
        """The box of the tensor map: elements of that many bytes, rows, one plane."""
        return (_ROW_BYTES // element, cls.ROWS, 1)

    @staticmethod
    def fits(element: int, columns: int, tile_columns: int) -> bool:
        """Whether a matrix with rows of so many elements can be stored in this way: TMA wants rows of 16 bytes each."""
        return element in (2, 4) and columns * element % _PIECE_BYTES == 0 and tile_columns * element % _ROW_BYTES == 0

    @property
    def columns(self) -> int:
        """Columns of a chunk."""
        return _ROW_BYTES // self.element

    @property
    def groups(self) -> int:
        """Groups of eight columns in a chunk."""
        return self.columns // _GROUP_COLUMNS

    def store_chunk(self, chunk: int, value: Callable[[int, int], ir.Value]) -> None:
        """Store a chunk; value(row slot, group of columns) is the lane's pair of elements."""
        start = chunk % self.BUFFERS * self.CHUNK_BYTES
        leads = self.lane.equals(0)
        if chunk >= self.BUFFERS:
            if_then(leads, lambda: _wait_read(self.BUFFERS - 1))
        _meet_warp()
        row, place = self.lane // LANES_PER_ROW, self.lane % LANES_PER_ROW
        pair_bytes = 2 * self.element
        for group in range(self.groups):
            byte = place * pair_bytes + group * _GROUP_COLUMNS * self.element
            piece = (byte // _PIECE_BYTES) ^ row
            for slot in range(self.ROWS // _ATOM_ROWS):
                at = row * _ROW_BYTES + piece * _PIECE_BYTES + byte % _PIECE_BYTES
                address = offset(offset(self.shared, at, SHARED), start + slot * _ATOM_ROWS * _ROW_BYTES, SHARED)
                store(value(slot, group), address, pair_bytes)
        nvvm.fence_proxy(nvvm.ProxyKind.async_shared, space=nvvm.SharedSpace.shared_cta)
        _meet_warp()

        def copy() -> None:
            column, matrix = self.first_column + chunk * self.columns, self.matrix or const(0)
            coordinates = [column.value, self.first_row.value, matrix.value]
            nvvm.cp_async_bulk_tensor_global_shared_cta(
                self.tensor_map,
                offset(self.shared, start, SHARED),
                coordinates,
                l2_cache_hint=const(_EVICT_FIRST, i64()).value,
            )
            nvvm.cp_async_bulk_commit_group()

        if_then(leads, copy)

    def drain(self) -> None:
        """Wait until the buffers can be used by another warp."""
        if_then(self.lane.equals(0), lambda: _wait_read(0))


def _wait_read(pending: int) -> None:
    nvvm.cp_async_bulk_wait_group(ir.IntegerAttr.get(i32(), pending), read=True)


def _meet_warp() -> None:
    nvvm.bar_warp_sync(const(-1).value)
