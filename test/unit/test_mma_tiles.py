"""Tiles of the kernels by mma.sync: which are legal, and which are tried."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bitmlir.lowering.gpu.mma_tile import MmaTile, mma_tile_fault, mma_tiles
from bitmlir.lowering.targets import TARGETS, Target, get_target

CHIPS = [target for target in TARGETS.values() if target.copy in ("load", "cp.async")]
LARGE = MmaTile(128, 256, 64, 64, stages=4)


def name_of(target: Target) -> str:
    return target.name


@pytest.mark.parametrize("target", CHIPS, ids=name_of)
def test_tiles_that_are_tried_are_legal_and_differ(target: Target) -> None:
    tiles = mma_tiles(target)
    assert len(tiles) >= 4
    assert len(set(tiles)) == len(tiles)
    assert [mma_tile_fault(tile, target) for tile in tiles] == [None] * len(tiles)


@pytest.mark.parametrize("target", CHIPS, ids=name_of)
def test_tiles_that_are_tried_have_as_many_stages_as_fit(target: Target) -> None:
    for tile in mma_tiles(target):
        more = replace(tile, stages=tile.stages + 1)
        spare = (target.shared_bytes + 1024) // tile.blocks - 1024 - more.shared_bytes
        # Up to 8 KiB are left for what the body reads by row or by column.
        assert more.stages > 6 or spare < 8192 or mma_tile_fault(more, target)


def test_the_largest_tile_is_there_where_it_fits() -> None:
    assert replace(LARGE, producers=2) in mma_tiles(get_target("sm_90"))
    assert replace(LARGE, producers=2, stages=3) in mma_tiles(get_target("sm_80"))
    assert all(tile.columns < 256 for tile in mma_tiles(get_target("sm_75")))


@pytest.mark.parametrize(
    ("tile", "chip", "fault"),
    [
        (
            replace(LARGE, rows=96, warp_rows=32),
            "sm_90",
            "rows and columns must divide 128 or be multiples of it, but are 96 and 256",
        ),
        (
            replace(LARGE, columns=0),
            "sm_90",
            "rows and columns must divide 128 or be multiples of it, but are 128 and 0",
        ),
        (replace(LARGE, warp_columns=96), "sm_90", "128×256 cannot be cut into parts of 64×96"),
        (replace(LARGE, warp_rows=0), "sm_90", "128×256 cannot be cut into parts of 0×64"),
        (MmaTile(128, 128, 8, 64, 3), "sm_90", "a warp's part must be a multiple of 16×32"),
        (MmaTile(128, 128, 64, 16, 3), "sm_90", "a warp's part must be a multiple of 16×32"),
        (MmaTile(64, 64, 16, 32, 3), "sm_75", "a warp's part must be a multiple of 32×32"),
        (replace(LARGE, producers=3), "sm_90", "3 producers are no power of two"),
        (replace(LARGE, producers=0), "sm_90", "0 producers are no power of two"),
        (replace(LARGE, producers=32), "sm_90", "a block would have 40 warps, of at most 32: use fewer producers"),
        (
            MmaTile(32, 64, 32, 32, 3, producers=16),
            "sm_90",
            "16 producers copy 64 rows at a time, more than the tile has",
        ),
        (replace(LARGE, stages=1), "sm_90", "stages must be at least 2, band at least 1, and blocks 1 to 8"),
        (replace(LARGE, blocks=300), "sm_90", "stages must be at least 2, band at least 1, and blocks 1 to 8"),
        (replace(LARGE, blocks=0), "sm_90", "stages must be at least 2, band at least 1, and blocks 1 to 8"),
        (replace(LARGE, band=0), "sm_90", "stages must be at least 2, band at least 1, and blocks 1 to 8"),
        (replace(LARGE, stages=5), "sm_90", "a block would have 245872 bytes of shared memory, of 232448"),
        (replace(LARGE, stages=3, blocks=2), "sm_90", "a block would have 147536 bytes of shared memory, of 115712"),
        (MmaTile(32, 32, 32, 32, 6), "sm_75", "a block would have 17 barriers, of at most 16: use fewer stages"),
        (MmaTile(128, 128, 128, 64, 3), "sm_90", "a thread would need 312 registers, of 255: use smaller parts"),
        (MmaTile(128, 128, 64, 64, 3, 4, 2), "sm_90", "a thread would need 168 registers, of 128"),
        (MmaTile(128, 256, 64, 64, 3), "sm_100a", "a thread would need 200 registers, of 168"),
        (MmaTile(64, 64, 64, 64, 3), "sm_75", "a thread would need 280 registers, of 255"),
    ],
)
def test_an_illegal_tile_is_refused_with_the_rule_it_breaks(tile: MmaTile, chip: str, fault: str) -> None:
    assert (mma_tile_fault(tile, get_target(chip)) or "none").startswith(fault)


def test_registers_are_those_of_a_scheduler_divided_by_its_warps() -> None:
    """64 K registers and four schedulers (CUDA C++ Programming Guide, technical specifications)."""
    assert LARGE.registers == 168  # 12 warps: 16384 / 32 / 3, in eights
    assert MmaTile(128, 128, 64, 64, 3, producers=4).registers == 255
    assert MmaTile(128, 128, 64, 64, 3, producers=2, blocks=2).registers == 168
