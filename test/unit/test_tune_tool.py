"""`bitmlir-bench tune` without a GPU: which tiles it takes, what it keeps, and what it refuses."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pytest

from bitmlir.dialects.errors import InputError
from bitmlir.lowering.targets import get_target
from bitmlir.lowering.tuning_table import TuningTable
from bitmlir.runtime.bundle import Bundle
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench import cli, tune
from bitmlir.tools.bench.oracle import Verdict
from bitmlir.tools.bench.suites import Product
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


class FakeSession:
    """Measures nothing: the second candidate is the fastest."""

    target, device, torch, cached, seed = HOPPER, None, None, False, 0

    def __init__(self, wrong: str = "") -> None:
        self.wrong, self.times = wrong, iter([3e-6, 1e-6, 2e-6])

    def operands(self, problem: Product, plan: Any, rng: Any) -> Any:
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
    monkeypatch.setattr(tune, "ProcessPoolExecutor", InProcess)


def tuned(session: FakeSession) -> tune.Result:
    tuner = tune.Tuner(session, 3)  # type: ignore[arg-type]
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


def test_two_thirds_of_what_is_selected_are_different_shapes() -> None:
    _, ranked = tune.candidates(MatmulSpec(8192, 8192, 8192, "bipolar", "bipolar"), HOPPER)
    chosen = tune.select(ranked, 12)
    assert len(chosen) == len({c.text for c in chosen}) == 12
    assert chosen[0] == ranked[0]
    assert len({c.shape for c in chosen[:8]}) == 8
    assert {c.shape for c in chosen[8:]} <= {c.shape for c in chosen[:8]}
    assert tune.select(ranked, 1) == [ranked[0]]
    assert tune.select(ranked[:2], 12) == list(ranked[:2])


def test_the_fastest_tile_is_kept_with_all_timings() -> None:
    result = tuned(FakeSession())
    assert not result.is_wrong
    assert result.entry is not None
    assert result.entry.tile == result.job.candidates[1].tile
    assert result.entry.seconds == 1e-6
    timings = result.entry.details["timings"]
    assert [timing["seconds"] for timing in timings] == [(3e-6,), (1e-6,), (2e-6,)]
    assert {"date", "tools", "clocks", "problem"} <= result.entry.details.keys()
    assert "1 µs with" in tune.summary(result)
    table = TuningTable({"name": "a GPU"}, "a test", (result.entry,))
    assert TuningTable.from_json(table.to_json(), "t").find(result.job.workload) is not None


def test_a_tile_with_a_wrong_result_is_reported_and_never_kept() -> None:
    first = tune.select(tune.candidates(SPEC, HOPPER)[1], 3)[0]
    result = tuned(FakeSession(wrong=first.text))
    assert result.is_wrong
    assert result.entry is not None
    assert result.entry.tile != first.tile
    assert "wrong result: result[0, 0] is 1, but must be 2" in tune.summary(result)
    assert result.entry.details["timings"][0]["fault"].startswith("wrong result")


def test_a_tile_that_does_not_compile_is_reported() -> None:
    message = tune.compiled(SPEC, "sm_90a", "rows=64,columns=8,stages=99", False)
    assert isinstance(message, str)
    assert "stages=99 is not possible here" in message
    bundle = tune.compiled(SPEC, "sm_90a", "rows=64,columns=8,stages=4", False)
    assert isinstance(bundle, bytes)
    assert "explain" in Bundle.from_bytes(bundle).stages


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
