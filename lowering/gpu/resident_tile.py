"""How a kernel that keeps its operands in registers divides its work, and for which problems there can be one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from mlir import ir

from bitmlir.dialects import bit
from bitmlir.dialects.layout import BITS_PER_WORD, ceil_div
from bitmlir.lowering.gpu.matrices import Placement
from bitmlir.lowering.gpu.product import ProductProblem
from bitmlir.lowering.instructions import LANES, LANES_PER_ROW, MmaInstruction, get_instruction
from bitmlir.lowering.targets import Target

__all__ = [
    "CHUNK_WORDS",
    "ResidentTile",
    "resident_fault",
    "resident_instruction",
    "resident_placement",
    "resident_tiles",
    "row_chunks",
]

CHUNK_WORDS = 4  # words of a row that a lane loads at once
_MOST_WARPS = 8  # of a block
_MOST_REGISTERS = 200  # for bits and accumulators, of the 255 that a thread can have
_MOST_CHUNKS = 2  # of a row: with more of them, tiles with stages are always faster on an H200
_MOST_SEEN_CHUNKS = 7  # of what a window sees, which TMA gathers in pieces


@dataclass(frozen=True)
class ResidentTile:
    """How a product is divided among blocks and warps.

    rows, columns: of the tile of a block. warp_rows, warp_columns: of the part of it that one warp multiplies.
    """

    rows: int
    columns: int
    warp_rows: int
    warp_columns: int

    @property
    def warps(self) -> int:
        """Warps of a block."""
        return self.rows // self.warp_rows * (self.columns // self.warp_columns)

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.warps * LANES


def resident_instruction(target: Target) -> MmaInstruction | None:
    """What multiplies bits in a warp's registers; None if the target has no such instruction."""
    mma = get_instruction("mma.m16n8k256" if target.copy == "tma" else target.instruction or "")
    return mma if mma.bits == 1 else None


def row_chunks(problem: ProductProblem) -> int:
    """How often a lane loads from a row: its four lanes have a chunk each."""
    return ceil_div(problem.row_bytes, LANES_PER_ROW * CHUNK_WORDS * (BITS_PER_WORD // 8))


def _registers_needed(problem: ProductProblem, tile: ResidentTile) -> int:
    """Registers of a lane for its bits of all planes and for its accumulators."""
    lhs_planes, rhs_planes = (ir.MemRefType(side.type).shape[0] for side in (problem.op.lhs, problem.op.rhs))
    rows = lhs_planes * tile.warp_rows + rhs_planes * tile.warp_columns
    accumulators = tile.warp_rows * tile.warp_columns // LANES * len(problem.chains)
    return rows * LANES_PER_ROW // LANES * row_chunks(problem) * CHUNK_WORDS + accumulators


def resident_fault(problem: ProductProblem, tile: ResidentTile) -> str | None:
    """Why a tile cannot be used for a problem; None if it can."""
    target, op = problem.target, problem.op
    mma = resident_instruction(target)
    if mma is None or problem.operation not in target.operations:
        return f"{target.name} has no instruction that multiplies these bits in registers: give the tile stages"
    has_bitmaps = op.lhs_tiles is not None or op.rhs_tiles is not None
    if isinstance(op, bit.PlaneSearchOp) or problem.groups is not None or has_bitmaps:
        return "searches, groups of rows and bitmaps need a tile with stages"
    if min(tile.warp_rows, tile.warp_columns) < 1 or tile.rows % tile.warp_rows or tile.columns % tile.warp_columns:
        return f"{tile.rows}×{tile.columns} cannot be cut into parts of {tile.warp_rows}×{tile.warp_columns}"
    least = BITS_PER_WORD if problem.packed else mma.n
    if tile.warp_rows % mma.m or tile.warp_columns % least:
        return f"a warp's part must be a multiple of {mma.m}×{least}"
    if not 1 <= tile.warps <= _MOST_WARPS:
        return f"a block would have {tile.warps} warps, of at most {_MOST_WARPS}"
    if (needed := _registers_needed(problem, tile)) > _MOST_REGISTERS:
        return f"a thread would hold {needed} registers of bits and sums, of at most {_MOST_REGISTERS}: give stages"
    return None


def resident_tiles(problem: ProductProblem) -> Iterator[ResidentTile]:
    """The tiles worth a thought for a problem, in which warps share columns; all are legal."""
    if row_chunks(problem) > (_MOST_CHUNKS if problem.window is None else _MOST_SEEN_CHUNKS):
        return
    for warp_rows, warp_columns, down in itertools.product((16, 32), (8, 16, 32), (1, 2, 4)):
        tile = ResidentTile(down * warp_rows, warp_columns, warp_rows, warp_columns)
        if (down == 1 or tile.rows < 2 * problem.m) and resident_fault(problem, tile) is None:
            yield tile


def resident_placement(problem: ProductProblem, tile: ResidentTile) -> Placement:
    """Who takes which tile of a product: a block each."""
    extent, size = (problem.m, problem.covered_columns), (tile.rows, tile.columns)
    return Placement.over(problem, extent, size, band=1, at_once=1 << 31)
