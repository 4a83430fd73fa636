"""`bitmlir-bench` on a GPU: limits are measured by kernels that compute what they should, points are exact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bitmlir import compiler, reference
from bitmlir.compiler import resolve_target
from bitmlir.formats.packed import unpack
from bitmlir.lowering.gpu.ceiling import expected_sums, instruction_ceiling
from bitmlir.lowering.targets import TARGETS, Target
from bitmlir.runtime.driver import Device
from bitmlir.search_spec import SearchSpec
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench import cli
from bitmlir.tools.bench.operands import random_packed
from bitmlir.tools.bench.oracle import Verdict, check
from bitmlir.tools.bench.problems import Search
from bitmlir.tools.bench.report import Report
from bitmlir.tools.bench.rivals import find_torch
from bitmlir.tools.bench.suites import SUITES

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
    files = ("--json", str(path), "--plot", str(tmp_path / "out.png"))
    assert cli.main(["run", "smoke", "--repeat", "3", *files]) == 0
    report = Report.from_json(path.read_text())
    assert all(point.exact and point.checked for point in report.points)
    assert {point.target for point in report.points} == report.limits.instructions.keys()
    assert all(limit.exact for limit in report.limits.instructions.values())
    assert report.limits.copy_bytes_per_second
    assert report.limits.launch_seconds
    (network,) = (point for point in report.points if point.images)
    assert list(network.shares()) == ["pack", "linear1", "linear2", "linear3", "linear4"]
    torch, _ = find_torch()
    measured = {
        name for point in report.points if point.problem["kind"] in ("convolution", "network") for name in point.rivals
    }
    assert measured >= ({"fp16"} if torch else set())
    rotated = [point for point in report.points if point.problem.get("rotated")]
    assert rotated
    assert all(point.copies * point.bytes >= 3 * report.device["l2_bytes"] for point in rotated)
    assert [point.kind for point in report.points if "dense" in point.rivals] == [
        "u2 × bipolar → i32 (90% of tiles empty)"
    ]


def test_tuning_leaves_a_table_that_compiling_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "table.json"
    sizes = ("-m", "130", "-n", "200", "-k", "300", "--lhs", "bipolar", "--rhs", "u2")
    assert cli.main(["tune", *sizes, "--top", "2", "--repeat", "3", "--table", str(table)]) == 0
    monkeypatch.setenv("BITMLIR_TUNING", str(table))
    (launch, *_) = compiler.compile(MatmulSpec(130, 200, 300, "bipolar", "u2")).explain().launches
    assert (launch.tile_source or "").startswith("tuned: table.json")


def test_searches_are_tuned_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, spec = tmp_path / "table.json", SearchSpec(20, 300, 100, "bipolar", "bipolar", count=3)
    monkeypatch.setitem(SUITES, "search", replace(SUITES["search"], problems=(Search(spec),)))
    assert cli.main(["tune", "search", "--top", "2", "--repeat", "3", "--table", str(table)]) == 0
    monkeypatch.setenv("BITMLIR_TUNING", str(table))
    (launch, *_) = compiler.compile(spec).explain().launches
    assert (launch.tile_source or "").startswith("tuned: table.json")


@pytest.mark.parametrize("encoding", ["bipolar", "u8@7", "i4", "ternary", "u4@row", "bipolar3"])
def test_torch_sees_every_element_of_large_products(encoding: str) -> None:
    torch, why_not = find_torch()
    if torch is None:
        pytest.skip(why_not)
    spec, rng = MatmulSpec(1100, 45, 999, encoding, "i8"), np.random.default_rng(2)
    given = {"lhs": random_packed(rng, (1100, 999), encoding), "rhs": random_packed(rng, (45, 999), "i8")}
    result = reference.matmul(unpack(given["lhs"]), unpack(given["rhs"])).astype(np.int32)
    assert check(spec, given, result, torch) == Verdict(result.size)
    result[1001, 44] += 1
    assert "result[1001, 44] is" in (check(spec, given, result, torch).fault or "")
