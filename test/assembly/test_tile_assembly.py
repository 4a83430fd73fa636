"""Tiles that the tuner may pick, assembled: each structure of a kernel at its extremes, and each matrix instruction."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import pytest

from bitmlir import compiler
from bitmlir.assembler import assemble, find_assembler, resources
from bitmlir.lowering.targets import get_target
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench.tune import Candidate, candidates

PROBLEMS = {
    "Horner's rule, scales": MatmulSpec(400, 1000, 2000, "u2", "i3", "f16", row_scale=True, column_scale=True),
    "packed bits": MatmulSpec(400, 1000, 2000, "bipolar", "bipolar", "bit"),
    "few rows": MatmulSpec(33, 1000, 2000, "u2", "i3"),
    "whole words": MatmulSpec(8192, 8192, 2048, "bipolar", "bipolar"),
    "few tiles, deep K": MatmulSpec(200, 300, 20000, "bipolar", "u2"),
}
HOPPER_ONLY = ("few rows", "few tiles, deep K")  # what other kernels have no structures for
MOST_SPILLED = {"sm_90a": 0, "sm_80": 32, "sm_75": 0, "sm_100a": 0}
"""Bytes that kernels of a target may spill: the widest of mma.sync put addresses aside while they multiply."""


def structure(candidate: Candidate) -> Hashable:
    """What makes kernels differ in more than sizes."""
    names = ("rows", "warp_rows", "blocks", "alternate", "cluster", "split", "swapped")
    return tuple(item for item in candidate.tile.items() if item[0] in names)


def instruction_columns(candidate: Candidate) -> int:
    """Of wgmma; of a tile of mma.sync, its columns."""
    return candidate.tile["columns"] * candidate.tile.get("planes", 1)


def sample(found: list[Candidate]) -> Iterator[Candidate]:
    """For each structure the smallest and the largest tile, and each matrix instruction once."""
    by_size = sorted(found, key=lambda c: (instruction_columns(c), c.tile["stages"]))
    groups: dict[Hashable, list[Candidate]] = {}
    for candidate in by_size:
        groups.setdefault(structure(candidate), []).append(candidate)
    chosen = {member.text: member for group in groups.values() for member in (group[0], group[-1])}
    covered = {instruction_columns(candidate) for candidate in chosen.values()}
    for number, candidate in enumerate(by_size):
        if instruction_columns(candidate) not in covered:
            chosen[candidate.text] = by_size[number]
            covered.add(instruction_columns(candidate))
    yield from chosen.values()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize(
        ("spec", "target", "tile"),
        [
            pytest.param(spec, target, candidate.text, id=f"{target}, {name}: {candidate.text}")
            for target in MOST_SPILLED
            for name, spec in PROBLEMS.items()
            if target == "sm_90a" or name not in HOPPER_ONLY
            for candidate in sample(candidates(spec, get_target(target))[1])
        ],
    )


@pytest.mark.skipif(find_assembler() is None, reason="no PTX assembler: pip install 'bitmlir[cuda]'")
def test_a_tile_assembles_and_keeps_its_registers(spec: MatmulSpec, target: str, tile: str) -> None:
    bundle = compiler.lower(spec, get_target(target), tile=tile)
    for used in resources(assemble(bundle.stages["ptx"], target).log).values():
        assert used.spill_bytes <= MOST_SPILLED[target]
