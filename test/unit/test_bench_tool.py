"""`bitmlir-bench` as a command, without a GPU: exit codes, faults, files, interrupts. Its options are in test/tools."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from bench_support import PNG, example_report
from fake_driver import FakeDriver, Status

from bitmlir import compiler
from bitmlir.dialects.errors import CompileError
from bitmlir.executable import Executable
from bitmlir.lowering.targets import get_target
from bitmlir.pack_spec import PackSpec
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench import cli, measure, oracle
from bitmlir.tools.bench.oracle import Verdict
from bitmlir.tools.bench.problems import Packing
from bitmlir.tools.bench.report import Limits, Point, Report
from bitmlir.tools.bench.suites import SUITES


@pytest.fixture
def nothing_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever measures fails."""
    monkeypatch.setattr(cli, "_measured", lambda *_arguments, **_named: pytest.fail("measured nevertheless"))


def test_a_wrong_result_ends_with_exit_code_1_and_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(oracle, "check", lambda *_arguments: Verdict(0, "result[0, 0] is 1, but must be 2"))
    sizes = ("-m", "1", "-n", "2", "-k", "3", "--lhs", "u1", "--rhs", "u1")
    path = tmp_path / "out.json"
    assert cli.main(["run", *sizes, "--target", "cpu", "--repeat", "1", "--json", str(path)]) == 1
    assert "result[0, 0] is 1, but must be 2" in capsys.readouterr().out
    (point,) = Report.from_json(path.read_text()).points
    assert not point.exact
    assert point.timing is not None


def test_a_problem_that_does_not_compile_leaves_the_others_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(spec: MatmulSpec | PackSpec, *arguments: object, **named: object) -> Executable:
        if spec == PackSpec(20, 100, "u4", "f32"):
            raise CompileError("no f32 today")
        return compile_(spec, *arguments, **named)

    compile_ = compiler.compile
    monkeypatch.setattr(compiler, "compile", fail)
    suite = dataclasses.replace(SUITES["pack"], problems=SUITES["smoke"].problems[-4:-2])
    monkeypatch.setitem(SUITES, "pack", suite)
    assert cli.main(["run", "pack", "--target", "cpu", "--repeat", "1", "--json", str(tmp_path / "out.json")]) == 1
    failed, measured = Report.from_json((tmp_path / "out.json").read_text()).points
    assert (failed.exact, failed.timing) == (False, None)
    assert failed.fault == "no f32 today"
    assert measured.exact


@pytest.mark.usefixtures("nothing_measured")
def test_a_missing_package_is_named_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None if name == "matplotlib" else object())
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "smoke", "--target", "cpu", "--plot", "x.png"]) == 1
    assert "--plot needs matplotlib: pip install 'bitmlir[bench]'" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--json", "--plot"])
@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("nowhere/out.png", "No such file or directory"),
        ("file/out.png", "Not a directory"),
        ("folder.png", "Is a directory"),
        ("/proc/out.png", "No such file or directory"),
    ],
)
@pytest.mark.usefixtures("nothing_measured")
def test_a_file_that_cannot_be_written_is_named_before_anything_is_measured(
    option: str,
    place: str,
    reason: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    path = str(tmp_path / place)  # as it is, if it is absolute
    assert cli.main(["run", "smoke", "--target", "cpu", option, path]) == 1
    assert f"cannot write '{path}': {reason}" in capsys.readouterr().err
    assert sorted(found.name for found in tmp_path.iterdir()) == ["file", "folder.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.usefixtures("nothing_measured")
def test_a_folder_without_permission_is_named_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tmp_path.chmod(0o500)
    assert cli.main(["run", "smoke", "--target", "cpu", "--json", str(tmp_path / "out.json")]) == 1
    assert "Permission denied" in capsys.readouterr().err


def test_what_was_there_stays_until_the_new_file_is_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text("old")

    def measured(*_arguments: object, **_named: object) -> tuple[Report, bool]:
        assert (tmp_path / "out.json").read_text() == "old"
        return example_report(), True

    monkeypatch.setattr(cli, "_measured", measured)
    assert cli.main(["run", "smoke", "--target", "cpu", "--json", str(tmp_path / "out.json")]) == 1
    assert Report.from_json((tmp_path / "out.json").read_text()) == example_report()
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_an_interrupt_ends_the_tool_as_shells_report_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: object, **_named: object) -> Report:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_measured", interrupted)
    assert cli.main(["run", "smoke", "--target", "cpu"]) == 130


@pytest.mark.parametrize("measured", [0, 2])
def test_an_interrupt_leaves_a_report_of_what_was_measured(
    measured: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    points = iter(range(measured))

    def measure_(bench: measure.Bench, *arguments: object) -> Point:
        if next(points, None) is None:
            raise KeyboardInterrupt
        return measure_one(bench, *arguments)  # type: ignore[arg-type]

    measure_one = measure.Bench.measure
    monkeypatch.setattr(measure.Bench, "measure", measure_)
    path = tmp_path / "out.json"
    path.write_text("old")
    picture = tmp_path / "out.png"
    files = ("--json", str(path), "--plot", str(picture))
    assert cli.main(["run", "smoke", "--target", "cpu", "--repeat", "1", *files]) == 130
    if not measured:
        assert path.read_text() == "old"
        return
    report = Report.from_json(path.read_text())
    assert len(report.points) == 2
    assert all(point.exact for point in report.points)
    assert report.notes == ("interrupted after 2 of 15 points",)
    assert "interrupted after 2 of 15 points" in capsys.readouterr().out
    assert picture.read_bytes().startswith(PNG)


def test_a_run_that_is_killed_leaves_what_it_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def measure_(bench: measure.Bench, *arguments: object) -> Point:
        if next(points) == 2:
            raise SystemExit  # as by a signal: nothing of the tool runs any more
        return measure_one(bench, *arguments)  # type: ignore[arg-type]

    measure_one, points, path = measure.Bench.measure, iter(range(3)), tmp_path / "out.json"
    monkeypatch.setattr(measure.Bench, "measure", measure_)
    monkeypatch.setattr(cli, "_KEPT_SECONDS", -1.0)
    cli.main(["run", "smoke", "--target", "cpu", "--repeat", "1", "--json", str(path)])
    report = Report.from_json(path.read_text())
    assert len(report.points) == 2
    assert report.notes == ("ended after 2 of 15 points",)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "smoke", "--target", "cpu", "--json", "a.png", "--plot", "a.png"], "cannot hold both"),
        (["run", "smoke", "--target", "cpu", "--json", "a.png", "--plot", "./b/../a.png"], "cannot hold both"),
        (["run", "smoke", "--target", "cpu", "--json", "a.png", "--plot", "link.png"], "cannot hold both"),
        (["run", "smoke", "--target", "cpu", "--plot", "a.json"], "name ends in .png, got 'a.json'"),
        (["plot", "a.png", "a.png"], "'a.png' cannot hold both the JSON and the picture: name two files"),
        (["plot", "a.json", "a.json"], "name ends in .png, got 'a.json'"),
        (["plot", "a.json", "-"], "name ends in .png, got '-'"),
    ],
)
@pytest.mark.usefixtures("nothing_measured")
def test_files_that_would_be_lost_are_wrong_usage(
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.json", "a.png"):
        Path(name).write_text(example_report().to_json())
    Path("b").mkdir()
    Path("link.png").symlink_to("a.png")
    assert cli.main(arguments) == 2
    assert said in capsys.readouterr().err
    assert [Path(name).read_text() for name in ("a.json", "a.png")] == [example_report().to_json()] * 2


def test_without_a_gpu_each_command_says_what_can_be_done(capsys: pytest.CaptureFixture[str], fake: FakeDriver) -> None:
    fake.cuInit = lambda _flags: (Status.CUDA_ERROR_NO_DEVICE,)  # type: ignore[method-assign]
    assert cli.main(["run", "smoke"]) == 1
    assert cli.main(["tune", "small"]) == 1
    ours, tunes = capsys.readouterr().err.splitlines()
    assert "CUDA_ERROR_NO_DEVICE" in ours
    assert ours.endswith("; --target cpu measures the CPU's kernels")
    assert "CUDA_ERROR_NO_DEVICE" in tunes
    assert tunes.endswith("; tiles are measured on the GPU that they are for")
    assert "target='cpu'" not in ours + tunes


def test_what_torch_raises_is_a_fault_of_one_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(*_arguments: object) -> Verdict:
        raise RuntimeError("CUDA out of memory\nand a page of advice")

    monkeypatch.setattr(oracle, "check", check)
    bench = measure.Bench(get_target("cpu"), None, None, Limits(), 1, 0, cached=True, rivals=False)
    problem = Packing(PackSpec(3, 4, "u2"))
    point = bench.measure("pack", problem, lambda: compiler.compile(problem.spec, "cpu"))
    assert point.fault == "RuntimeError: CUDA out of memory"
    assert (point.exact, point.timing) == (False, None)
