"""Matrix instructions as records: shape in bits, fragment layouts as values that check themselves, meaning in numpy.

Lane numbers, fragment layouts and k sizes stand here and nowhere else.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "CORE_BITS",
    "CORE_ROWS",
    "INSTRUCTIONS",
    "LANES",
    "LANES_PER_ROW",
    "WGMMA_COLUMNS",
    "FragmentLayout",
    "MmaInstruction",
    "get_instruction",
    "wgmma",
]

LANES = 32
LANES_PER_ROW = 4  # four neighbouring lanes share a row in every fragment below
CORE_ROWS = LANES // LANES_PER_ROW
CORE_BITS = 128  # one register across a warp holds 8 rows of 128 bits


@dataclass(frozen=True)
class FragmentLayout:
    """Where the registers of a warp (or of four warps) lie in a matrix.

    Register r of lane l in warp w holds `elements` consecutive columns from
    row registers[r][0] + l // 4 + warp_rows·w, column registers[r][1] + l % 4 · lane_columns.

    Source: PTX ISA, sections on matrix fragments for mma.m8n8k128, mma.m16n8k256 and wgmma (register fragments).
    """

    rows: int
    columns: int
    registers: tuple[tuple[int, int], ...]
    lane_columns: int
    elements: int
    warps: int = 1
    warp_rows: int = 0

    def __post_init__(self) -> None:
        warp, lane = (numbers[:, None] for numbers in np.divmod(np.arange(self.warps * LANES), LANES))
        rows, columns = zip(*self.registers, strict=True)
        row, column = self._moved(np.array(rows), np.array(columns), warp, lane)
        row, column = np.broadcast_arrays(row[..., None], column[..., None] + np.arange(self.elements))
        inside = (row < self.rows) & (column < self.columns)
        times = np.bincount((row * self.columns + column)[inside], minlength=self.rows * self.columns)
        if not inside.all() or not (times == 1).all():
            raise ValueError(f"{self} does not cover each element exactly once")

    def position(self, warp: int, lane: int, register: int) -> tuple[int, int]:
        """Row and column of the first element that a register holds."""
        row, column = self.registers[register]
        return self._moved(row, column, warp, lane)

    def _moved(self, row: Any, column: Any, warp: Any, lane: Any) -> Any:
        """From the place of a register of lane 0 in warp 0 to that of another lane and warp; numbers or arrays."""
        return row + lane // LANES_PER_ROW + self.warp_rows * warp, column + lane % LANES_PER_ROW * self.lane_columns

    @property
    def row_offsets(self) -> tuple[int, ...]:
        """The distinct rows of one lane, relative to its first."""
        return tuple(sorted({row for row, _ in self.registers}))

    @property
    def slots(self) -> tuple[tuple[int, int], ...]:
        """For each register the numbers of its row among `row_offsets` and of its column among `column_offsets`."""
        return tuple((self.row_offsets.index(r), self.column_offsets.index(c)) for r, c in self.registers)

    @property
    def column_offsets(self) -> tuple[int, ...]:
        """The distinct columns of one lane, relative to its first."""
        return tuple(sorted({column for _, column in self.registers}))


def _operand(rows: int, bits: int, order: tuple[tuple[int, int], ...]) -> FragmentLayout:
    """An operand made of 8×128-bit cores, a register each: what one ldmatrix of 8×16 bytes loads."""
    return FragmentLayout(rows, bits, order, lane_columns=CORE_BITS // LANES_PER_ROW, elements=32)


def _accumulator(rows: int, columns: int, warps: int = 1) -> FragmentLayout:
    """32-bit accumulators: pairs of columns, rows 8 apart, groups of 8 columns."""
    rows_of_warp = rows // warps
    order = tuple(
        (row, column + pair)
        for column in range(0, columns, 8)
        for row in range(0, rows_of_warp, CORE_ROWS)
        for pair in range(2)
    )
    return FragmentLayout(rows, columns, order, 2, 1, warps, rows_of_warp)


@dataclass(frozen=True)
class MmaInstruction:
    """A 1-bit matrix instruction: D[m, n] = C[m, n] + Σ_k popc(A[m, k] ∘ B[n, k]).

    `lhs` and `rhs` are None where the operands come from shared memory by descriptor. `ptx` is the name in the PTX ISA
    without the bit operation.

    Where `bits` is above 1 the unit multiplies numbers of so many bits, here 0 and 1: the instruction is issued once
    for each of them, and takes bit i of every number at step i. `k` counts the bits of all steps together.
    """

    name: str
    ptx: str
    m: int
    n: int
    k: int
    lhs: FragmentLayout | None
    rhs: FragmentLayout | None
    accumulator: FragmentLayout
    bits: int = 1

    @property
    def mask(self) -> int:
        """The lowest bit of each number in a register."""
        return sum(1 << bit for bit in range(0, 32, self.bits))

    def reference(self, lhs: Any, rhs: Any, acc: Any, operation: str) -> np.ndarray:
        """The meaning on 0/1 matrices lhs m×k, rhs n×k and int32 acc m×n."""
        lhs, rhs = np.asarray(lhs, np.int64), np.asarray(rhs, np.int64)
        both = lhs @ rhs.T
        if operation == "and":
            return np.asarray(acc) + both
        return np.asarray(acc) + lhs.sum(1)[:, None] + rhs.sum(1)[None, :] - 2 * both


WGMMA_COLUMNS = (8, 16, 24, 32, *range(48, 257, 16))
"""The sizes n that wgmma has for bits (PTX ISA, wgmma.mma_async, shapes for .b1)."""


@functools.cache
def wgmma(n: int) -> MmaInstruction:
    """The Hopper instruction wgmma.m64n<n>k256, for 128 threads; operands lie in shared memory, K contiguous.

    n: one of `WGMMA_COLUMNS`.
    """
    if n not in WGMMA_COLUMNS:
        raise ValueError(f"wgmma has no n of {n}: expected 8, 16, 24, 32 or a multiple of 16 up to 256")
    ptx = f"wgmma.mma_async.sync.aligned.m64n{n}k256.s32.b1.b1"
    return MmaInstruction("wgmma.k256", ptx, 64, n, 256, None, None, _accumulator(64, n, warps=4))


INSTRUCTIONS: dict[str, MmaInstruction] = {
    record.name: record
    for record in (
        MmaInstruction(
            "mma.m8n8k128",
            "mma.sync.aligned.m8n8k128.row.col.s32.b1.b1.s32",
            8,
            8,
            128,
            lhs=_operand(8, 128, ((0, 0),)),
            rhs=_operand(8, 128, ((0, 0),)),
            accumulator=_accumulator(8, 8),
        ),
        MmaInstruction(
            "mma.m16n8k256",
            "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32",
            16,
            8,
            256,
            lhs=_operand(16, 256, ((0, 0), (8, 0), (0, 128), (8, 128))),
            rhs=_operand(8, 256, ((0, 0), (0, 128))),
            accumulator=_accumulator(16, 8),
        ),
        MmaInstruction(
            "mma.m16n8k32.u8",
            "mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32",
            16,
            8,
            256,
            lhs=_operand(16, 256, ((0, 0), (8, 0), (0, 128), (8, 128))),
            rhs=_operand(8, 256, ((0, 0), (0, 128))),
            accumulator=_accumulator(16, 8),
            bits=8,
        ),
    )
}


def get_instruction(name: str) -> MmaInstruction:
    """The mma.sync record of that name (`wgmma` makes the records of wgmma)."""
    return INSTRUCTIONS[name]
