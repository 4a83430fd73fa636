"""Tiles that the tuner may pick, assembled: each structure of a kernel at its extremes, and each matrix instruction."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

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
}


def structure(candidate: Candidate) -> Hashable:
    """What makes kernels differ in more than sizes."""
    return tuple(item for item in candidate.tile.items() if item[0] in ("rows", "alternate", "cluster", "swapped"))


def instruction_columns(candidate: Candidate) -> int:
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


def cases() -> list[Any]:
    hopper = get_target("sm_90a")
    return [
        pytest.param(spec, candidate.text, id=f"{name}: {candidate.text}")
        for name, spec in PROBLEMS.items()
        for candidate in sample(candidates(spec, hopper)[1])
    ]


CASES = cases()


@pytest.mark.skipif(find_assembler() is None, reason="no PTX assembler: pip install 'bitmlir[cuda]'")
@pytest.mark.parametrize(("spec", "tile"), CASES)
def test_a_tile_assembles_and_spills_nothing(spec: MatmulSpec, tile: str) -> None:
    bundle = compiler.lower(spec, get_target("sm_90a"), tile=tile)
    for used in resources(assemble(bundle.stages["ptx"], "sm_90a").log).values():
        assert used.spill_bytes == 0
