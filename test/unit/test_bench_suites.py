"""What `bitmlir-bench` measures: its suites, how their problems are named and counted, and compiling them ahead."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from unittest.mock import MagicMock

import pytest

from bitmlir import compiler
from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.dialects.errors import CompileError
from bitmlir.grouped_spec import GroupedSpec
from bitmlir.lowering.targets import get_target
from bitmlir.pack_spec import PackSpec
from bitmlir.search_spec import SearchSpec
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench import ahead, measure
from bitmlir.tools.bench.networks import CompiledNetwork, NetworkSpec
from bitmlir.tools.bench.problems import Convolution, Network, Packing, Problem, Product, Search
from bitmlir.tools.bench.published import PUBLISHED, quoted_seconds
from bitmlir.tools.bench.report import Limits
from bitmlir.tools.bench.suites import SUITES, suites_named

# --- suites ---------------------------------------------------------------------------------------


def test_all_stands_for_every_suite_but_smoke_and_each_comes_once() -> None:
    names = [suite.name for suite in suites_named(["deep", "all", "deep"])]
    assert sorted(names) == sorted(SUITES.keys() - {"smoke"})
    assert names[0] == "deep"


@pytest.mark.parametrize("name", SUITES)
def test_no_suite_holds_a_problem_twice(name: str) -> None:
    problems = SUITES[name].problems
    assert problems
    assert len(set(problems)) == len(problems)


def test_operations_of_several_planes_are_counted_for_each_pair() -> None:
    product = Product(MatmulSpec(m=2, n=3, k=5, lhs="u4", rhs="ternary"))
    assert product.planes == 8
    assert product.operations == 60


def test_a_portable_problem_runs_on_the_newest_target_that_later_chips_run() -> None:
    portable = Product(MatmulSpec(m=1, n=1, k=1, lhs="u1", rhs="u1"), portable=True)
    found = {
        name: measure.target_for(portable, get_target(name)).name for name in ("sm_90a", "sm_100a", "sm_86", "cpu")
    }
    assert found == {"sm_90a": "sm_90", "sm_100a": "sm_90", "sm_86": "sm_86", "cpu": "cpu"}


@pytest.mark.parametrize(
    ("problem", "size", "kind"),
    [
        (Product(MatmulSpec(8, 8, 64, "u2", "i2", "f16", column_scale=True)), "8²×64", "u2 × i2 → f16"),
        (Product(MatmulSpec(8, 8, 8, "u2", "i2", batch=3)), "3 × 8³", "u2 × i2 → i32"),
        (Product(GroupedSpec(4, 8, 9, 7, "u2", "i2", "u4", bias=True)), "8×9×7 in 4 groups", "u2 × i2 → u4 (bias)"),
        (
            Product(MatmulSpec(8, 8, 8, "u2", "i2", lhs_tiles=True), empty_tiles=0.9),
            "8³",
            "u2 × i2 → i32 (90% of tiles empty)",
        ),
        (Search(SearchSpec(8, 9, 7, "u2", "i2", count=2)), "8×9×7", "u2 × i2 → best 2 by dot"),
        (Packing(PackSpec(8, 8, "u2")), "8²", "f32 → u2"),
        (
            Convolution(Conv2dSpec(8, 6, 5, 4, 3, "u2", "i2", bias=True, out="f16")),
            "8 × 6×5×4, 3 of 3²",
            "u2 × i2 → f16 (bias)",
        ),
        (
            Convolution(Conv2dSpec(1, 9, 9, 4, 3, "u2", "i2", size=(2, 1), stride=(2, 1), dilation=2)),
            "1 × 9²×4, 3 of 2×1 by 2×1 spread by 2",
            "u2 × i2 → i32",
        ),
        (Network(NetworkSpec("resnet18", 2, 8)), "resnet18, batch 8", "w1a2"),
    ],
    ids=str,
)
def test_problems_are_named_for_people(problem: Problem, size: str, kind: str) -> None:
    assert (problem.size, problem.kind) == (size, kind)
    kinds = ("product", "grouped product", "search", "packing", "convolution", "network")
    assert json.loads(json.dumps(problem.to_json()))["kind"] in kinds


def test_what_empty_tiles_save_is_neither_work_nor_traffic() -> None:
    spec = MatmulSpec(256, 32, 10240, "u2", "bipolar", lhs_tiles=True)
    plan = compiler.compile(spec, "cpu").plan
    dense, sparse = (Product(spec, empty_tiles=share) for share in (0.0, 0.9))
    assert measure._work(dense) == (2 * 256 * 32 * 10240, 2 * 256 * 32 * 10240 * 2)
    assert measure._work(sparse) == (dense.operations, measure._work(dense)[1] // 10)
    lhs_planes = 2 * 256 * 10240 // 8
    assert measure._traffic(dense, plan) - measure._traffic(sparse, plan) == pytest.approx(0.9 * lhs_planes, abs=1)


def test_the_weights_that_take_turns_serve_every_product_with_the_same() -> None:
    bench = measure.Bench(get_target("cpu"), None, None, Limits(), 1, 0, cached=True, rivals=False)
    problems = [Product(MatmulSpec(m, 8, 100, lhs, "i3"), rotated=True) for m, lhs in ((2, "u2"), (9, "u4"))]
    first, second = (bench.operands(p, compiler.compile(p.spec, "cpu").plan) for p in problems)
    copies = [placed["rhs"] for placed in first.placed]
    assert len(copies) == 2
    assert (copies[0].planes != copies[1].planes).any()
    assert [placed["rhs"] for placed in second.placed] == copies
    assert first.host["rhs"] is copies[0]


def test_quoted_figures_are_of_the_same_product_and_say_where_they_come_from() -> None:
    square = MatmulSpec(4096, 4096, 4096, "bipolar", "bipolar")
    assert quoted_seconds(square) == pytest.approx({"CUTLASS": 33.7e-6})
    assert quoted_seconds(dataclasses.replace(square, out="bit")) == pytest.approx({"fp-cuda": 2 * 4096**3 / 4.1e15})
    assert quoted_seconds(dataclasses.replace(square, batch=2)) == {}
    assert quoted_seconds(dataclasses.replace(square, lhs_tiles=True)) == {}
    quoted = [quoted_seconds(problem.spec) for problem in SUITES["small"].problems]
    assert all(each.keys() == {"APNN-TC"} for each in quoted)
    quoted = [problem.size for problem in SUITES["conv-apnn"].problems if quoted_seconds(problem.spec)]
    sides = (128, 256, 384, 640, 768, 896)  # where their kernels are right
    assert quoted == [f"1 × 16²×{side}, {side} of 3²" for side in sides] * 2
    assert quoted_seconds(NetworkSpec("alexnet", 1, 8)) == pytest.approx({"TCBNN": 0.53e-3})
    assert quoted_seconds(NetworkSpec("alexnet", 2, 8)) == {}
    assert all("H200" in system.source for system in PUBLISHED.values())


# --- compiling ahead ------------------------------------------------------------------------------


def test_programs_are_compiled_in_processes_of_their_own_and_faults_come_back() -> None:
    spec = MatmulSpec(130, 200, 300, "bipolar", "u2")
    tiles = ("rows=64,columns=8,stages=4", "rows=64,columns=8,stages=99")
    works = [ahead.Work(spec, "sm_90a", tile) for tile in tiles] + [ahead.Work(spec, "cpu")]
    works.append(ahead.Work(NetworkSpec("mnist-mlp", 1, 2), "sm_90a", seed=7))
    with ahead.compiled_ahead(works, cached=False) as (good, bad, on_cpu, network):
        made = network()
        assert isinstance(made, CompiledNetwork)
        assert made.executable.target == "sm_90a"
        assert made.expected.shape == (2, 10)
        assert good().explain().launches[0].tile == tiles[0]
        with pytest.raises(CompileError, match="stages=99 is not possible here"):
            bad()
        assert on_cpu().target == "cpu"


def test_ctrl_c_does_not_end_the_processes_that_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_MOST_WORKERS", 1)
    others = set(multiprocessing.active_children())
    works = [ahead.Work(MatmulSpec(n, n, n, "u1", "u1"), "sm_90a") for n in (1, 2, 3)]
    with ahead.compiled_ahead(works, cached=False) as (first, *rest):
        first()
        (process,) = set(multiprocessing.active_children()) - others
        os.kill(process.pid or 0, signal.SIGINT)
        assert [program().target for program in rest] == ["sm_90a"] * 2


def test_a_process_that_ends_is_a_fault_of_its_program(monkeypatch: pytest.MonkeyPatch) -> None:
    future: Future[bytes] = Future()
    future.set_exception(BrokenProcessPool("it was killed"))
    monkeypatch.setattr(ahead, "ProcessPoolExecutor", lambda *_: MagicMock(submit=lambda *_: future))
    work = ahead.Work(MatmulSpec(1, 1, 1, "u1", "u1"), "sm_90a")
    with (
        ahead.compiled_ahead([work], cached=False) as (program,),
        pytest.raises(CompileError, match="a process that compiles ended, perhaps for lack of memory: it was killed"),
    ):
        program()
