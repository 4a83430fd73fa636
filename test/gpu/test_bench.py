"""`bitmlir-bench` on a GPU: limits are measured by kernels that compute what they should, points are exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bitmlir import compiler
from bitmlir.compiler import resolve_target
from bitmlir.formats.packed import unpack
from bitmlir.lowering.gpu.ceiling import expected_sums, instruction_ceiling
from bitmlir.lowering.targets import TARGETS, Target
from bitmlir.runtime.driver import Device
from bitmlir.tools.bench import cli
from bitmlir.tools.bench.operands import random_packed
from bitmlir.tools.bench.oracle import _accumulators
from bitmlir.tools.bench.report import Report
from bitmlir.tools.bench.rivals import find_torch

pytestmark = pytest.mark.gpu


def targets() -> list[Target]:
    """Every target whose programs the GPU runs as they are or recompiled."""
    best, here = resolve_target("auto"), Device.current().capability
    older = [t for t in TARGETS.values() if t.forward_compatible and t.capability and t.capability <= here]
    return list(dict.fromkeys([best, *older]))


def test_the_kernels_that_measure_instructions_compute_what_they_should() -> None:
    for target in targets():
        ceiling = instruction_ceiling(target, Device.current().sm_count, repeats=3)
        sums = compiler.compile(ceiling.text, target.name).bind()()
        assert (sums == expected_sums(target, 3)).all(), target.name


def test_the_smoke_suite_is_exact_and_every_limit_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    assert cli.main(["run", "smoke", "--repeat", "3", "--json", str(path)]) == 0
    report = Report.from_json(path.read_text())
    assert all(point.exact and point.checked for point in report.points)
    assert {point.target for point in report.points} == report.limits.instructions.keys()
    assert all(limit["exact"] for limit in report.limits.instructions.values())
    assert report.limits.copy_bytes_per_second
    assert report.limits.launch_seconds
    rotated = [point for point in report.points if point.problem.get("rotated")]
    assert rotated
    assert all(point.copies * point.bytes >= 3 * report.device["l2_bytes"] for point in rotated)


@pytest.mark.parametrize("encoding", ["bipolar", "u8@7", "i4", "ternary", "u4@row", "bipolar3"])
def test_torch_and_numpy_agree_on_every_element(encoding: str) -> None:
    torch, why_not = find_torch()
    if torch is None:
        pytest.skip(why_not)
    rng = np.random.default_rng(2)
    lhs, rhs = random_packed(rng, 1100, 999, encoding), random_packed(rng, 45, 999, "i8")
    blocks = list(_accumulators(lhs, rhs, torch))
    acc = np.concatenate([part for _, part in blocks])
    assert np.concatenate([rows for rows, _ in blocks]).tolist() == list(range(1100))
    assert (acc == unpack(lhs).astype(np.int64) @ unpack(rhs).astype(np.int64).T).all()
