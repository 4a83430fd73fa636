"""How K lies in stages: that instructions meet every byte of a row once, with padded taps and without."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from bitmlir.dialects.layout import SWIZZLES
from bitmlir.lowering.gpu.k_blocks import KBlocks

PIXELS = [*range(16, 321, 16), 1024]
UNIT = 32


@dataclass(frozen=True)
class Row:
    """What blocks ask of a problem."""

    row_bytes: int
    window: Any


def row_of(taps: int, pixel: int) -> Any:
    return Row(taps * pixel, SimpleNamespace(taps=taps))


def multiplied(blocks: KBlocks) -> list[int]:
    """The bytes of a row that instructions read, in order, without what is filled up."""
    return [
        byte
        for block in range(blocks.count)
        for depth in blocks.depths(block)
        for byte in range(_begin(blocks, block) + depth, _begin(blocks, block) + depth + UNIT)
        if byte < (block // blocks.of_part + 1) * blocks.part_bytes
    ]


def _begin(blocks: KBlocks, block: int) -> int:
    part, number = divmod(block, blocks.of_part)
    return part * blocks.part_bytes + number * blocks.step


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("pixel", PIXELS)
@pytest.mark.parametrize("taps", [1, 9])
def test_every_byte_of_a_row_is_multiplied_once(taps: int, pixel: int, padded: bool) -> None:
    blocks = KBlocks.of(row_of(taps, pixel), padded)
    assert multiplied(blocks) == list(range(taps * pixel))
    assert blocks.width in SWIZZLES
    for block in range(blocks.count):
        depths = blocks.depths(block)
        assert len(depths) <= len(blocks.depths())
        assert depths[-1] + UNIT <= blocks.width


@pytest.mark.parametrize("pixel", PIXELS)
def test_pieces_bring_every_pixel(pixel: int) -> None:
    for padded in (False, True):
        blocks = KBlocks.of(row_of(9, pixel), padded)
        of_pixel = blocks.pieces // 9
        reached = (of_pixel - 1) * blocks.piece_step + blocks.piece
        assert (of_pixel - 1) * blocks.piece_step < pixel <= reached
        assert reached == pixel or padded


@pytest.mark.parametrize(
    ("pixel", "pieces", "padded", "step", "width"),
    [(32, 9, 9, 32, 32), (48, 27, 9, 64, 64), (80, 45, 9, 96, 128), (128, 9, 9, 128, 128), (144, 81, 18, 96, 128)],
)
def test_padded_taps_come_in_fewer_copies(pixel: int, pieces: int, padded: int, step: int, width: int) -> None:
    assert KBlocks.of(row_of(9, pixel)).pieces == pieces
    blocks = KBlocks.of(row_of(9, pixel), padded=True)
    assert (blocks.pieces, blocks.count, blocks.step, blocks.width) == (padded, padded, step, width)
