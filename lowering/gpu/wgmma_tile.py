"""How a wgmma kernel divides its work: the tile of a block, its parts in shared memory, and who takes which tile."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlir import ir

from bitmlir.dialects.layout import BITS_PER_WORD, ceil_div
from bitmlir.lowering.elements import Chain, is_zero
from bitmlir.lowering.gpu.bulk_store import BulkStore
from bitmlir.lowering.gpu.k_blocks import KBlocks
from bitmlir.lowering.gpu.matrices import Placement
from bitmlir.lowering.gpu.memory import SHARED_ALIGNMENT, element_bytes
from bitmlir.lowering.gpu.product import BLOCK_BYTES, ProductProblem
from bitmlir.lowering.gpu.ring import BARRIER_BYTES, Ring, Turns
from bitmlir.lowering.gpu.split import PartialSums
from bitmlir.lowering.gpu.staging import STAGED_TILES, Staging
from bitmlir.lowering.gpu.warp_group import GROUP_THREADS, GROUP_WARPS
from bitmlir.lowering.instructions import CORE_ROWS, LANES_PER_ROW, wgmma

__all__ = [
    "GROUP_ROWS",
    "MOST_REGISTERS",
    "SharedLayout",
    "StageSide",
    "WgmmaTile",
    "cleared",
    "padding_words",
    "stackable",
    "stage_sides",
    "stationary_blocks",
    "stationary_bytes",
    "stored_in_bulk",
    "wgmma_placement",
]

GROUP_ROWS = 64  # of a tile, for each warp group
_PRODUCER_REGISTERS, MOST_REGISTERS = 40, 232  # of a thread, the latter of a consumer
_FEW_ACCUMULATORS = 64


@dataclass(frozen=True)
class WgmmaTile:
    """The tile of a block.

    rows, columns: of the result, as the instruction sees it: `swapped` puts the columns of the result on the
        instruction's rows, for results of few rows.
    stages: of the ring.
    cluster: blocks that take tiles one below the other and bring the columns' operand for each other.
    band: over how many rows of tiles blocks work side by side before they move on along the columns, so that what they
        read stays in the L2 cache.
    alternate: two warp groups take a tile each in turn, one storing while the other multiplies; else a warp group takes
        64 rows of every tile.
    planes: planes of the columns' operand that lie side by side, so that what the rows' operand brings is used for all
        at once.
    split: blocks that share a tile, each multiplying its part of K.
    stationary: the columns' operand stays in shared memory. A block brings all of it that its tiles need before the
        first of them, and takes tiles of one column; stages have the rows' operand alone.
    padded: of what a window sees, each tap has K blocks of its own, filled up with zeros, and comes in as many copies;
        else taps lie one after the other, and come in the pieces that divide a pixel (see `KBlocks`).
    """

    rows: int
    columns: int
    stages: int
    cluster: int = 1
    band: int = 1
    alternate: bool = False
    swapped: bool = False
    planes: int = 1
    split: int = 1
    stationary: bool = False
    padded: bool = False

    @property
    def blocks(self) -> int:
        """Blocks that run together."""
        return self.cluster * self.split

    @property
    def multiplying_warps(self) -> int:
        """Warps that work on the same tile."""
        return self.sharers * GROUP_WARPS

    @property
    def accumulators(self) -> int:
        """Registers of a thread that hold sums."""
        return len(wgmma(self.instruction_columns).accumulator.registers)

    @property
    def consumers(self) -> int:
        """Warp groups that multiply."""
        return 2 if self.alternate else self.rows // GROUP_ROWS

    @property
    def sharers(self) -> int:
        """Warp groups that work on the same tile."""
        return 1 if self.alternate else self.consumers

    @property
    def thread_rows(self) -> int:
        """Rows of the result of which a thread holds sums."""
        return self.columns // LANES_PER_ROW if self.swapped else GROUP_ROWS // GROUP_WARPS // CORE_ROWS

    @property
    def threads(self) -> int:
        """Threads of a block, the producer's warp group included."""
        return (self.consumers + 1) * GROUP_THREADS

    @property
    def instruction_columns(self) -> int:
        """Columns of the matrix instruction."""
        return self.columns * self.planes

    @property
    def stage_bytes(self) -> int:
        """Bytes of shared memory that one stage takes."""
        return (self.rows + (0 if self.stationary else self.instruction_columns)) * BLOCK_BYTES

    @property
    def staged_tiles(self) -> int:
        """How many tiles' staged values lie in shared memory: short tiles would wait for those of the next."""
        return 2 * STAGED_TILES if self.stationary else STAGED_TILES

    @property
    def registers(self) -> tuple[int, int] | None:
        """Registers a thread of the producer and of a consumer: what is left of 64 K (PTX ISA, setmaxnreg).

        None for small tiles, which need no more than others: so blocks of the next launch find room beside this one's.
        """
        if self.accumulators <= _FEW_ACCUMULATORS:
            return None
        at_launch = (1 << 16) // self.threads // 8 * 8
        consumer = (at_launch * (self.consumers + 1) - _PRODUCER_REGISTERS) // self.consumers // 8 * 8
        return _PRODUCER_REGISTERS, min(consumer, MOST_REGISTERS)

    def axis(self, side: str) -> str:
        """The axis of the result ("row", "column") that lies on a side of the instruction ("rows", "columns")."""
        return "row" if (side == "rows") != self.swapped else "column"


def stackable(chains: list[Chain]) -> int:
    """How many planes of lhs can be multiplied side by side: those of chains from zero on that differ in nothing else;
    else 1."""
    if not chains or not all(is_zero(chain.first) for chain in chains):
        return 1
    shapes = [[(link.shift, link.negate, [pair[1] for pair in link.pairs]) for link in c.links] for c in chains]
    planes = [{pair[0] for pair in chain.pairs} for chain in chains]
    same = all(shape == shapes[0] for shape in shapes)
    return len(chains) if same and planes == [{number} for number in range(len(chains))] else 1


@dataclass(frozen=True)
class StageSide:
    """What TMA brings of an operand for a stage: of each of so many `planes` the `rows` that the stage has, or only
    those `copied` that the matrix has, and `row_bytes` of each. (Rows outside it would be filled with zeros, at the
    pace of a copy; nobody looks at what comes of them.) Of what a window sees, rows come in `pieces`, all first ones
    before all second ones; copies are one of them each."""

    operand: int
    rows: int
    copied: int
    planes: int
    row_bytes: int
    pieces: int = 1

    @property
    def copies(self) -> int:
        """Copies that bring it: parts that do not lie side by side are copied one by one."""
        return 1 if self.copied == self.rows else self.planes

    @property
    def copied_bytes(self) -> int:
        """Bytes that come, of one piece."""
        return self.copied * self.planes * self.row_bytes


def stage_sides(problem: ProductProblem, tile: WgmmaTile) -> tuple[StageSide, StageSide]:
    """The rows' operand and the columns'; of the latter, what one block of a cluster brings."""
    sizes = (problem.m, problem.n)
    rows, columns = int(tile.swapped), int(not tile.swapped)
    part = tile.columns // tile.cluster
    copied = part if tile.cluster > 1 else min(part, sizes[columns])
    blocks = KBlocks.of(problem, tile.padded)
    height = min(tile.rows, sizes[rows]) if problem.window is None else tile.rows
    return (
        StageSide(rows, tile.rows, height, 1, blocks.piece, blocks.width // blocks.piece),
        StageSide(columns, part, copied, tile.planes, blocks.width),
    )


def wgmma_placement(problem: ProductProblem, tile: WgmmaTile) -> Placement:
    """Who takes which tile of a product: each cluster every so many."""
    extent = (problem.n, problem.m) if tile.swapped else (problem.m, problem.n)
    size = (tile.rows * tile.cluster, tile.columns)
    return Placement.over(problem, extent, size, tile.band, problem.target.clusters_at_once(tile.blocks))


def padding_words(problem: ProductProblem, tile: WgmmaTile) -> int:
    """Words of a packed row behind its last tile of columns, which stores them, too: nothing but zeros."""
    covered = wgmma_placement(problem, tile).across * tile.columns // BITS_PER_WORD
    return max(0, problem.out_type.shape[-1] - covered) if problem.packed else 0


def cleared(problem: ProductProblem, tile: WgmmaTile) -> tuple[ir.Value, ...]:
    """Buffers that must be zero before the kernel runs: no row sums, if tiles have all columns."""
    has_rows = problem.packed and wgmma_placement(problem, tile).across == 1
    return () if has_rows and tile.split == 1 else problem.zeroed


def stationary_blocks(problem: ProductProblem, tile: WgmmaTile) -> tuple[int, int]:
    """What stays in shared memory of the columns' operand: planes, and K blocks of each."""
    return ir.MemRefType(problem.op.rhs.type).shape[0], KBlocks.of(problem, tile.padded).count


def stationary_bytes(problem: ProductProblem, tile: WgmmaTile) -> int:
    """Bytes of shared memory in which the columns' operand stays."""
    return math.prod(stationary_blocks(problem, tile)) * tile.columns * KBlocks.of(problem, tile.padded).width


@dataclass(frozen=True)
class SharedLayout:
    """What lies where in a block's shared memory: the ring's stages, what stays there, barriers, staged values, results
    on their way."""

    stays: int
    stays_barrier: int
    ring: int
    nothing: int
    turns: int
    staged_ring: int
    staged: int
    partial_sums: int
    results: int
    bytes: int
    staging: Staging

    @staticmethod
    def of(problem: ProductProblem, tile: WgmmaTile) -> SharedLayout:
        """The layout for a problem."""
        axes = {tile.axis("rows"): tile.rows, tile.axis("columns"): tile.columns}
        staging = Staging.of({axis: problem.loaded[axis] for axis in axes}, axes)
        stays = ring = tile.stages * tile.stage_bytes
        if tile.stationary:
            ring += stationary_bytes(problem, tile)
        nothing = ring + Ring.bytes(tile.stages)
        stays_barrier = nothing + BARRIER_BYTES
        turns = stays_barrier + BARRIER_BYTES
        staged_ring = turns + Turns.bytes(tile.consumers)
        staged = ceil_div(staged_ring + Ring.bytes(tile.staged_tiles), 16) * 16
        partial_sums = ceil_div(staged + tile.staged_tiles * staging.stage_bytes, 16) * 16
        end = partial_sums
        if tile.split > 1:
            end += PartialSums.bytes(tile.split, tile.multiplying_warps, tile.accumulators)
        results = ceil_div(end, SHARED_ALIGNMENT) * SHARED_ALIGNMENT
        if stored_in_bulk(problem, tile) is not None:
            # Groups that share a tile store in turn, from the same buffers.
            groups = tile.consumers if tile.alternate else 1
            end = results + groups * GROUP_WARPS * BulkStore.BYTES
        return SharedLayout(
            stays, stays_barrier, ring, nothing, turns, staged_ring, staged, partial_sums, results, end, staging
        )


def stored_in_bulk(problem: ProductProblem, tile: WgmmaTile) -> ir.Value | None:
    """The array of numbers that leaves by TMA, if one does."""
    numbers = problem.numbers
    if numbers is None or tile.swapped or problem.groups is not None:  # TMA would store past a group's last row
        return None
    type_ = ir.MemRefType(numbers.type)
    return numbers if BulkStore.fits(element_bytes(type_.element_type), type_.shape[-1], tile.columns) else None
