"""Tiles that the tuner may pick, assembled: each structure of a kernel at its extremes, and each matrix instruction."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest
from support import assembled, by_structure

from bitmlir.assembler import find_assembler, resources
from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.grouped_spec import GroupedSpec
from bitmlir.lowering.targets import get_target
from bitmlir.search_spec import SearchSpec
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench.tune import Candidate, candidates

Spec = MatmulSpec | GroupedSpec | SearchSpec | Conv2dSpec

PRODUCTS: dict[str, Spec] = {
    "Horner's rule, scales": MatmulSpec(400, 1000, 2000, "u2", "i3", "f16", row_scale=True, column_scale=True),
    "packed bits": MatmulSpec(400, 1000, 2000, "bipolar", "bipolar", "bit"),
    "few rows": MatmulSpec(33, 1000, 2000, "u2", "i3"),
    "whole words": MatmulSpec(8192, 8192, 2048, "bipolar", "bipolar"),
    "few tiles, deep K": MatmulSpec(200, 300, 20000, "bipolar", "u2"),
    "search": SearchSpec(1024, 1 << 20, 256, "bipolar", "bipolar", count=10),
}
HOPPER_ONLY = ("few rows", "few tiles, deep K", "taps, padded and not")  # what other kernels have no structures for
OTHERS: dict[str, Spec] = {  # the same structures with more around them: of these the favourites are enough
    "batch": MatmulSpec(200, 1000, 2000, "u2", "i3", "f16", column_scale=True, batch=8),
    "groups of rows": GroupedSpec(16, 3000, 1000, 2000, "bipolar", "u2", "bit"),
    "search by another order": SearchSpec(100, 20001, 1024, "bipolar", "bipolar", count=32, score="hamming"),
    "search for one": SearchSpec(300, 70001, 1024, "bipolar", "u2"),
    "taps, padded and not": Conv2dSpec(8, 16, 16, 640, 640, "u2", "bipolar", padding=1),
}
FEW_BITS: dict[str, Spec] = {  # for tiles without stages
    "few bits": MatmulSpec(100, 200, 900, "u2", "i2"),
    "few bits, packed": MatmulSpec(33, 300, 1000, "u2", "bipolar", "u4", column_scale=True, batch=2),
    "few bits, zero points": MatmulSpec(70, 90, 400, "u4@row", "u4", "f32", row_scale=True, bias=True),
}
FAVOURITES = 3
MOST_SPILLED = {"sm_90a": 0, "sm_80": 32, "sm_75": 0, "sm_100a": 0}
"""Bytes that kernels of a target may spill: the widest of mma.sync put addresses aside while they multiply."""


def instruction_columns(candidate: Candidate) -> int:
    """Of wgmma; of a tile of mma.sync, its columns."""
    return candidate.tile["columns"] * candidate.tile.get("planes", 1)


def size(candidate: Candidate) -> tuple[int, int]:
    """What tiles of a structure differ in, beside the order in which blocks take them."""
    return instruction_columns(candidate), candidate.tile.get("stages", 0)


def extremes(found: list[Candidate]) -> Iterator[Candidate]:
    """For each structure the smallest tile and the largest, and each matrix instruction once."""
    by_size = sorted(found, key=size)
    ends = [(group[0], group[-1]) for group in by_structure(by_size)]
    chosen = [tile for first, last in ends for tile in ([first] if size(first) == size(last) else [first, last])]
    covered = {instruction_columns(candidate) for candidate in chosen}
    once = {instruction_columns(candidate): candidate for candidate in reversed(by_size)}
    yield from chosen
    yield from (candidate for columns, candidate in once.items() if columns not in covered)


def favourites(found: list[Candidate]) -> Iterator[Candidate]:
    """The tile that is expected to be fastest, and those of other structures that come next."""
    yield from islice((group[0] for group in by_structure(found)), FAVOURITES)


def without_stages(found: list[Candidate]) -> Iterator[Candidate]:
    """Of kernels that keep their operands in registers, the extremes."""
    yield from extremes([candidate for candidate in found if "stages" not in candidate.tile])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    samples = [(name, spec, extremes) for name, spec in PRODUCTS.items()]
    samples += [(name, spec, favourites) for name, spec in OTHERS.items()]
    samples += [(name, spec, without_stages) for name, spec in FEW_BITS.items()]
    metafunc.parametrize(
        ("spec", "target", "tile"),
        [
            pytest.param(spec, target, candidate.text, id=f"{target}, {name}: {candidate.text}")
            for target in MOST_SPILLED
            for name, spec, sample in samples
            if target == "sm_90a" or name not in HOPPER_ONLY
            for candidate in sample(candidates(spec, get_target(target))[1])
        ],
    )


@pytest.mark.skipif(find_assembler() is None, reason="no PTX assembler: pip install 'bitmlir[cuda]'")
def test_a_tile_assembles_and_keeps_its_registers(spec: Spec, target: str, tile: str) -> None:
    _, made = assembled(spec, target, tile)
    for used in resources(made.log).values():
        assert used.spill_bytes <= MOST_SPILLED[target]
