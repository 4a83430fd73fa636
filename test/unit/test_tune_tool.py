"""`bitmlir-bench tune` without a GPU: which tiles it takes, what it keeps, and what it refuses."""

from __future__ import annotations

import json
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bench_support import spec_of
from mlir import ir

from bitmlir import compiler
from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.dialects.errors import DeviceError, InputError
from bitmlir.lowering.targets import get_target
from bitmlir.lowering.tuning_table import TuningTable
from bitmlir.search_spec import SearchSpec
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench import ahead, cli, machine, measure, tune
from bitmlir.tools.bench.oracle import Verdict
from bitmlir.tools.bench.problems import Convolution, Product, Search
from bitmlir.tools.bench.timing import Timing

SPEC = MatmulSpec(130, 200, 300, "bipolar", "u2")
HOPPER = get_target("sm_90a")


@dataclass
class Operands:
    """Stands for a product's operands: results are wrong for the tiles named."""

    wrong: str

    def bind(self, executable: Any) -> list[Any]:
        self.tile = executable.explain().launches[0].tile
        return [lambda: None]

    def check(self, result: Any, torch: Any) -> Verdict:
        return Verdict(1, "result[0, 0] is 1, but must be 2" if self.tile == self.wrong else None)


class FakeBench:
    """Measures nothing: the second candidate is the fastest."""

    target, device, torch, cached, seed = HOPPER, None, None, False, 0

    def __init__(self, wrong: str = "") -> None:
        self.wrong, self.times = wrong, iter([3e-6, 1e-6, 2e-6])

    def operands(self, problem: Product, plan: Any) -> Any:
        return Operands(self.wrong)

    def timing(self, calls: Any, *, sustained: bool) -> Timing:
        return Timing((next(self.times),), 10)


class InProcess:
    """A pool of this process."""

    def __init__(self, *_: object) -> None: ...

    def submit(self, function: Any, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*arguments))
        return future

    def shutdown(self, **_: object) -> None: ...


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "ProcessPoolExecutor", InProcess)


def tuned(bench: FakeBench) -> tune.Result:
    tuner = tune.Tuner(bench, 3)  # type: ignore[arg-type]
    problem = Product(SPEC)
    jobs = tuner.jobs([problem, problem])
    assert len(jobs) == 1  # each problem once
    seen: list[str] = []
    (result,) = tuner.run(jobs, seen.append)
    assert len(seen) == 3
    return result


def test_candidates_are_legal_tiles_ranked_by_the_model() -> None:
    workload, ranked = tune.candidates(SPEC, HOPPER)
    assert (workload.m, workload.n, workload.k, workload.chains) == (130, 200, 300, (2,))
    assert [c.expected for c in ranked] == sorted(c.expected for c in ranked)


def test_searches_have_tiles_to_choose_too() -> None:
    bench, search = FakeBench(), Search(SearchSpec(20, 300, 100, "bipolar", "bipolar", count=3))
    tuner = tune.Tuner(bench, 3)  # type: ignore[arg-type]
    (result,) = tuner.run(tuner.jobs([search]), lambda _: None)
    assert not result.is_wrong
    assert result.entry is not None
    assert result.entry.workload.kind == "search"
    assert result.entry.details["problem"]["kind"] == "search"
    assert tune.summary(result).startswith("20×300×100, bipolar × bipolar → best 3 by dot, sm_90a: 1 µs with")


def test_convolutions_are_known_by_their_window_and_compiled_by_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = Conv2dSpec(2, 9, 8, 64, 40, "bipolar", "bipolar", "bit", stride=2, padding=1)
    tuner = tune.Tuner(FakeBench(), 3)  # type: ignore[arg-type]
    (result,) = tuner.run(tuner.jobs([Convolution(spec)]), lambda _: None)
    assert not result.is_wrong
    assert result.entry is not None
    assert result.entry.workload.kind == "conv2d"
    assert result.entry.workload.window == (9, 3, 2, 1, 1, 1, 8, 3, 2, 1, 1, 1)
    assert spec_of(json.loads(json.dumps(result.entry.details["problem"]))) == spec
    table = tune.table_for({"name": "a card"}, None, "t").merged([result.entry])
    table.save(tmp_path / "t.json")
    assert TuningTable.load(tmp_path / "t.json").find(result.entry.workload) is not None
    monkeypatch.setenv("BITMLIR_TUNING", str(tmp_path / "t.json"))
    sources = [
        [
            launch.tile_source
            for launch in compiler.compile(each, "sm_90a", cached=False).explain().launches
            if launch.tile
        ]
        for each in (spec, replace(spec, stride=1))
    ]
    assert [len(each) for each in sources] == [1, 1]
    assert (sources[0][0] or "").startswith("tuned: t.json")
    assert not (sources[1][0] or "").startswith("tuned")


def test_two_thirds_of_what_is_selected_are_different_shapes() -> None:
    _, ranked = tune.candidates(MatmulSpec(8192, 8192, 8192, "bipolar", "bipolar"), HOPPER)
    chosen = tune.select(ranked, 12)
    assert len(chosen) == len({c.text for c in chosen}) == 12
    assert chosen[0] == ranked[0]
    assert len({c.shape for c in chosen[:8]}) == 8
    assert {c.shape for c in chosen[8:]} <= {c.shape for c in chosen[:8]}
    assert tune.select(ranked, 1) == [ranked[0]]
    assert tune.select(ranked[:2], 12) == list(ranked[:2])


def test_tiles_with_and_without_stages_are_selected_in_turn() -> None:
    _, ranked = tune.candidates(MatmulSpec(64, 512, 512, "u2", "bipolar"), HOPPER)
    staged = ["stages" in candidate.tile for candidate in tune.select(ranked, 12)]
    assert staged[:8] == [False, True] * 4


def test_tiles_with_and_without_padded_taps_are_selected_in_turn() -> None:
    _, ranked = tune.candidates(Conv2dSpec(1, 16, 16, 640, 640, "u2", "bipolar", padding=1), HOPPER)
    selected = tune.select(ranked, 24)
    padded = ["padded" in candidate.tile for candidate in selected if "stages" in candidate.tile]
    assert padded[:10] in ([False, True] * 5, [True, False] * 5)


def test_the_fastest_tile_is_kept_with_all_timings() -> None:
    result = tuned(FakeBench())
    assert not result.is_wrong
    assert result.entry is not None
    assert result.entry.tile == result.job.candidates[1].tile
    assert result.entry.seconds == 1e-6
    timings = result.entry.details["timings"]
    assert [timing["seconds"] for timing in timings] == [[3e-6], [1e-6], [2e-6]]
    assert {"date", "tools", "clocks", "problem"} <= result.entry.details.keys()
    assert "1 µs with" in tune.summary(result)
    table = TuningTable({"name": "a GPU"}, "a test", (result.entry,))
    assert TuningTable.from_json(table.to_json(), "t").find(result.job.workload) is not None


def test_a_tile_with_a_wrong_result_is_reported_and_never_kept() -> None:
    first = tune.select(tune.candidates(SPEC, HOPPER)[1], 3)[0]
    result = tuned(FakeBench(wrong=first.text))
    assert result.is_wrong
    assert result.entry is not None
    assert result.entry.tile != first.tile
    assert "wrong result: result[0, 0] is 1, but must be 2" in tune.summary(result)
    assert result.entry.details["timings"][0]["fault"].startswith("wrong result")


def test_a_tile_that_does_not_compile_is_reported_and_the_others_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    first = tune.select(tune.candidates(SPEC, HOPPER)[1], 3)[0]
    compiled = ahead._compiled
    monkeypatch.setattr(ahead, "_compiled", lambda work, c: "no" if work.tile == first.text else compiled(work, c))
    result = tuned(FakeBench())
    assert [outcome.fault for outcome in result.outcomes] == ["no", None, None]
    assert result.is_wrong
    assert result.entry is not None


ELSE = MatmulSpec(64, 64, 300, "bipolar", "bipolar")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InputError("not like this"), "not like this"),
        (ir.MLIRError("failed", []), "MLIRError: failed"),
        (MemoryError("Unable to allocate 9 TiB"), "MemoryError: Unable to allocate 9 TiB"),
    ],
    ids=["ours", "MLIR's", "memory"],
)
def test_a_problem_without_candidates_is_reported_and_the_others_are_tuned(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tune.candidates

    def candidates(spec: Any, target: Any) -> Any:
        if spec == ELSE:
            raise error
        return real(spec, target)

    monkeypatch.setattr(tune, "candidates", candidates)
    tuner = tune.Tuner(FakeBench(), 3)  # type: ignore[arg-type]
    failed, fine = tuner.run(tuner.jobs([Product(ELSE), Product(SPEC)]), lambda _: None)
    assert failed.is_wrong
    assert failed.entry is None
    assert tune.summary(failed) == f"64²×300, bipolar × bipolar → i32, sm_90a: {said}"
    assert not fine.is_wrong
    assert fine.entry is not None


def test_operands_that_find_no_room_are_a_fault_of_their_problem_alone() -> None:
    bench = FakeBench()
    made = bench.operands

    def operands(problem: Product, plan: Any) -> Any:
        if problem.spec == ELSE:
            raise DeviceError("cannot allocate 9 bytes")
        return made(problem, plan)

    bench.operands = operands  # type: ignore[method-assign]
    tuner = tune.Tuner(bench, 3)  # type: ignore[arg-type]
    failed, fine = tuner.run(tuner.jobs([Product(ELSE), Product(SPEC)]), lambda _: None)
    assert [outcome.fault for outcome in failed.outcomes] == ["cannot allocate 9 bytes"] * 3
    assert "no tile could be measured" in tune.summary(failed)
    assert fine.entry is not None


def test_the_tool_ends_with_1_after_a_fault_and_keeps_what_it_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    real = tune.candidates

    def candidates(spec: Any, target: Any) -> Any:
        if spec.m == 64:
            raise ir.MLIRError("failed", [])
        return real(spec, target)

    monkeypatch.setattr(tune, "candidates", candidates)
    monkeypatch.setattr(cli, "_gpu", lambda _: SimpleNamespace(name="a GPU"))
    monkeypatch.setattr(machine, "describe_device", lambda device: {"name": device.name})
    monkeypatch.setattr(measure, "Bench", lambda *_, **__: FakeBench())
    table = tmp_path / "table.json"
    sizes = ("-m", "64", "-m", "130", "-n", "200", "-k", "300", "--lhs", "bipolar", "--rhs", "u2")
    assert cli.main(["tune", *sizes, "--target", "sm_90a", "--top", "3", "--table", str(table)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "64×200×300, bipolar × u2 → i32, sm_90a: MLIRError: failed"
    assert out[1].startswith("130×200×300, bipolar × u2 → i32, sm_90a: 1 µs with")
    assert [entry.workload.m for entry in TuningTable.load(table).entries] == [130]


def test_a_table_that_cannot_be_written_is_named_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(cli, "_gpu", lambda _: SimpleNamespace(name="a GPU"))
    monkeypatch.setattr(machine, "describe_device", lambda device: {"name": device.name})
    monkeypatch.setattr(tune.Tuner, "jobs", lambda *_: pytest.fail("tuned nevertheless"))
    (tmp_path / "file").touch()
    assert cli.main(["tune", "small", "--target", "sm_90a", "--table", str(tmp_path / "file" / "table.json")]) == 1
    assert "cannot write the tuning table" in capsys.readouterr().err


def test_suites_without_tiles_are_wrong_usage_and_leave_no_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(cli, "_gpu", lambda _: SimpleNamespace(name="a GPU"))
    table = tmp_path / "table.json"
    assert cli.main(["tune", "pack", "--target", "sm_90a", "--table", str(table)]) == 2
    assert "pack: packing has no tiles to choose; name suites of products or convolutions" in capsys.readouterr().err
    assert not table.exists()


def test_a_table_of_another_device_is_not_written_over() -> None:
    table = TuningTable({"name": "NVIDIA A100"}, "a test")
    with pytest.raises(InputError, match=r"t\.json is a table of NVIDIA A100, but this is NVIDIA H200: name another"):
        tune.table_for({"name": "NVIDIA H200"}, table, "t.json")
    assert tune.table_for({"name": "NVIDIA A100", "driver": "1"}, table, "t.json").device["driver"] == "1"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--target", "cpu", "small"], 2, "tiles are for GPU kernels, but the target is 'cpu'"),
        (["small", "-m", "8"], 2, "name suites, or give sizes and encodings, but not both"),
        ([], 2, "name a suite"),
        (["smal"], 2, "did you mean 'small'"),
        (["small", "--top", "0"], 2, "0 is not in the range"),
    ],
)
def test_wrong_usage_says_what_to_do(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["tune", *arguments]) == code
    assert message in capsys.readouterr().err
