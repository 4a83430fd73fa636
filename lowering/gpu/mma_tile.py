"""How a mma.sync kernel divides its work: the tile of a block, its parts in shared memory, and who takes which tile."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from bitmlir.dialects.layout import BITS_PER_WORD, TILE_ROWS, ceil_div
from bitmlir.lowering.gpu.copies import CHUNK_BYTES, CHUNKS
from bitmlir.lowering.gpu.matrices import Placement
from bitmlir.lowering.gpu.product import BLOCK_BYTES, ProductProblem
from bitmlir.lowering.gpu.ring import Ring
from bitmlir.lowering.gpu.staging import STAGED_TILES, Staging
from bitmlir.lowering.gpu.warp_ring import NUMBERED_BARRIERS, NumberedRing
from bitmlir.lowering.instructions import CORE_ROWS, LANES, FragmentLayout, get_instruction
from bitmlir.lowering.targets import Target

__all__ = ["LDMATRIX_CORES", "MmaLayout", "MmaTile", "group_rows", "mma_placement", "mma_tile_fault", "mma_tiles"]

LDMATRIX_CORES = 4  # 8×128-bit matrices that one ldmatrix.x4 loads
_RESERVED_BYTES = 1 << 10  # of shared memory for each block (CUDA C++ Programming Guide, shared memory)
_MOST_STAGES = 6
_PRODUCERS = 2  # that keep up with the warps that multiply
_LOADERS = 4  # the same, where they hold their part of a stage in registers
_STAGING_BYTES = 8 << 10  # what most products need at most for staged values
_MOST_WARPS = 32  # of a block
_MOST_BLOCKS = 8  # that share a multiprocessor
_SCHEDULERS = 4  # of a multiprocessor, each with a quarter of its registers and of its warps
_REGISTERS, _MOST_REGISTERS = 512, 255  # 32-bit registers of a scheduler for each lane; of a thread at most
_SPARE_REGISTERS = 8  # what a consumer needs beside accumulators and fragments
_KEEPING_REGISTERS = 26  # the same beside accumulators and lists, once the fragments are gone


@dataclass(frozen=True)
class MmaTile:
    """How a product is divided among blocks and warps.

    rows, columns: of the tile of a block. warp_rows, warp_columns: of the part of it that one warp multiplies.
    stages: of the ring, each a K block.
    producers: warps that copy.
    blocks: that share a multiprocessor.
    band: over how many rows of tiles blocks work side by side before they move on along the columns, so that what
        they read stays in the L2 cache.
    """

    rows: int
    columns: int
    warp_rows: int
    warp_columns: int
    stages: int
    producers: int = 4
    blocks: int = 1
    band: int = 8

    @property
    def consumers(self) -> int:
        """Warps that multiply."""
        return self.rows // self.warp_rows * (self.columns // self.warp_columns)

    @property
    def thread_rows(self) -> int:
        """Rows of which a thread holds sums."""
        return self.warp_rows // CORE_ROWS

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return (self.consumers + self.producers) * LANES

    @property
    def registers(self) -> int:
        """Registers that each thread can have."""
        warps = ceil_div(self.blocks * (self.consumers + self.producers), _SCHEDULERS)
        return min(_REGISTERS // warps // 8 * 8, _MOST_REGISTERS)

    @property
    def stage_bytes(self) -> int:
        """Bytes of shared memory that one stage takes."""
        return (self.rows + self.columns) * BLOCK_BYTES

    @property
    def shared_bytes(self) -> int:
        """Bytes of shared memory that the ring and its barriers take."""
        return self.stages * self.stage_bytes + Ring.bytes(self.stages) + Ring.bytes(STAGED_TILES)


def mma_tiles(target: Target) -> list[MmaTile]:
    """The tiles worth timing on a target, with as many stages as fit; all are legal for every product."""
    sizes = ((64, 64), (64, 128), (128, 64), (128, 128), (128, 256), (256, 128))
    parts = ((32, 32), (64, 32), (64, 64))
    found: dict[MmaTile, None] = {}
    for (rows, columns), (warp_rows, warp_columns), blocks in itertools.product(sizes, parts, (1, 2)):
        producers = _PRODUCERS if target.copy == "cp.async" else _LOADERS // blocks
        shallow = MmaTile(rows, columns, warp_rows, warp_columns, 2, producers, blocks)
        if shallow.consumers not in (4, 8):
            continue
        tiles = (replace(shallow, stages=stages) for stages in range(2, _MOST_STAGES + 1))
        legal = [tile for tile in tiles if mma_tile_fault(tile, target) is None]
        # Once with room for staged values, once without.
        for spare in (_STAGING_BYTES, 0):
            fitting = [tile for tile in legal if tile.shared_bytes + spare <= _room(tile, target)]
            found.update(dict.fromkeys(fitting[-1:]))
    return list(found)


def mma_tile_fault(tile: MmaTile, target: Target, grids: int = 1, lists: int = 0) -> str | None:
    """Why kernels of that tile cannot be built for a target, or None if they can; `grids` is how many sums of products
    each element of the result needs, and `lists` how many registers a thread needs for the lists of a search.

    Example:
        >>> from bitmlir.lowering.targets import get_target
        >>> mma_tile_fault(MmaTile(128, 256, 64, 64, stages=5), get_target("sm_90"))
        'a block would have 245872 bytes of shared memory, of 232448: use fewer stages or blocks'
    """
    mma = get_instruction(target.instruction or "")
    lhs, rhs = group_rows(mma.lhs), group_rows(mma.rhs)
    if any(size < 1 or max(size, TILE_ROWS) % min(size, TILE_ROWS) for size in (tile.rows, tile.columns)):
        return f"rows and columns must divide {TILE_ROWS} or be multiples of it, but are {tile.rows} and {tile.columns}"
    if min(tile.warp_rows, tile.warp_columns) < 1 or tile.rows % tile.warp_rows or tile.columns % tile.warp_columns:
        return f"{tile.rows}×{tile.columns} cannot be cut into parts of {tile.warp_rows}×{tile.warp_columns}"
    if tile.warp_rows % lhs or tile.warp_columns % rhs or tile.warp_columns % BITS_PER_WORD:
        return f"a warp's part must be a multiple of {lhs}×{max(rhs, BITS_PER_WORD)}"
    if tile.producers < 1 or tile.producers & (tile.producers - 1):
        return f"{tile.producers} producers are no power of two"
    if tile.stages < 2 or tile.band < 1 or not 1 <= tile.blocks <= _MOST_BLOCKS:
        return f"stages must be at least 2, band at least 1, and blocks 1 to {_MOST_BLOCKS}"
    if (warps := tile.consumers + tile.producers) > _MOST_WARPS:
        return f"a block would have {warps} warps, of at most {_MOST_WARPS}: use fewer producers, or larger parts"
    at_once = tile.producers * LANES // CHUNKS
    if at_once > min(tile.rows, tile.columns):
        return f"{tile.producers} producers copy {at_once} rows at a time, more than the tile has"
    barriers = 1 + NumberedRing.barriers(tile.stages) + NumberedRing.barriers(STAGED_TILES)
    if target.copy == "load" and barriers > NUMBERED_BARRIERS:
        return f"a block would have {barriers} barriers, of at most {NUMBERED_BARRIERS}: use fewer stages"
    if tile.shared_bytes > (room := _room(tile, target)):
        return f"a block would have {tile.shared_bytes} bytes of shared memory, of {room}: use fewer stages or blocks"
    sums = tile.warp_rows * tile.warp_columns // LANES
    accumulators = sums * (grids if "and" in target.operations else grids + 1)
    fragments = LDMATRIX_CORES * (tile.warp_rows // lhs + tile.warp_columns // rhs) * (1 if mma.bits == 1 else 2)
    needed = accumulators + max(fragments + _SPARE_REGISTERS, lists + _KEEPING_REGISTERS if lists else 0)
    if needed > tile.registers:
        held = " with the lists of its rows" if lists else ""
        return f"a thread would need {needed} registers{held}, of {tile.registers}: use smaller parts or fewer blocks"
    return None


def _room(tile: MmaTile, target: Target) -> int:
    """Bytes of shared memory that each of the blocks on a multiprocessor can have."""
    return (target.shared_bytes + _RESERVED_BYTES) // tile.blocks - _RESERVED_BYTES


def group_rows(layout: FragmentLayout | None) -> int:
    """Rows of an operand that one ldmatrix covers."""
    assert layout is not None
    return layout.rows * (LDMATRIX_CORES // len(layout.registers))


def mma_placement(problem: ProductProblem, tile: MmaTile) -> Placement:
    """Who takes which tile of a product: each block every so many."""
    size = (tile.rows, tile.columns)
    at_once = problem.target.multiprocessors * tile.blocks
    return Placement.over(problem, (problem.m, problem.covered_columns), size, tile.band, at_once)


@dataclass(frozen=True)
class MmaLayout:
    """What lies where in a block's shared memory: the ring's stages and barriers, staged values and their barriers."""

    ring: int
    staged_ring: int
    staged: int
    staging: Staging

    @staticmethod
    def of(problem: ProductProblem, tile: MmaTile) -> MmaLayout:
        """The layout for a problem; values are staged where there is room for them."""
        sizes = {"row": tile.rows, "column": tile.columns}
        staging = Staging.of({axis: problem.loaded[axis] for axis in sizes}, sizes)
        ring = tile.stages * tile.stage_bytes
        staged_ring = ring + Ring.bytes(tile.stages)
        staged = ceil_div(staged_ring + Ring.bytes(STAGED_TILES), CHUNK_BYTES) * CHUNK_BYTES
        layout = MmaLayout(ring, staged_ring, staged, staging)
        fits = layout.bytes <= _room(tile, problem.target)
        return layout if fits else replace(layout, staging=Staging((), 0))

    @property
    def bytes(self) -> int:
        """Bytes in all."""
        return self.staged + STAGED_TILES * self.staging.stage_bytes
