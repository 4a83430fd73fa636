"""`bitmlir-bench` without a GPU: suites, timing, reports, tables and pictures. Its options are in test/tools."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import io
import json
import multiprocessing
import os
import signal
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
from fake_driver import FakeDriver, Status
from rich.console import Console

from bitmlir import compiler
from bitmlir.dialects.errors import CompileError, InputError
from bitmlir.executable import Executable
from bitmlir.grouped_spec import GroupedSpec
from bitmlir.lowering.targets import get_target
from bitmlir.pack_spec import PackSpec
from bitmlir.runtime.driver import Device
from bitmlir.search_spec import SearchSpec
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench import ahead, cli, measure, oracle, plot, timing
from bitmlir.tools.bench.oracle import Verdict
from bitmlir.tools.bench.problems import Packing, Problem, Product, Search
from bitmlir.tools.bench.published import PUBLISHED, quoted_seconds
from bitmlir.tools.bench.report import Instruction, Limits, Point, Report
from bitmlir.tools.bench.suites import SUITES, suites_named
from bitmlir.tools.bench.table import print_report
from bitmlir.tools.bench.timing import Timing, wall_timing

PNG = b"\x89PNG\r\n\x1a\n"


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
    ],
    ids=str,
)
def test_problems_are_named_for_people(problem: Problem, size: str, kind: str) -> None:
    assert (problem.size, problem.kind) == (size, kind)
    assert json.loads(json.dumps(problem.to_json()))["kind"] in ("product", "grouped product", "search", "packing")


def test_what_empty_tiles_save_is_neither_work_nor_traffic() -> None:
    spec = MatmulSpec(256, 32, 10240, "u2", "bipolar", lhs_tiles=True)
    plan = compiler.compile(spec, "cpu").plan
    dense, sparse = (Product(spec, empty_tiles=share) for share in (0.0, 0.9))
    assert measure._work(dense) == 2 * 256 * 32 * 10240 * 2
    assert measure._work(sparse) == measure._work(dense) // 10
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
    assert all("H200" in system.source for system in PUBLISHED.values())


# --- compiling ahead ------------------------------------------------------------------------------


def test_programs_are_compiled_in_processes_of_their_own_and_faults_come_back() -> None:
    spec = MatmulSpec(130, 200, 300, "bipolar", "u2")
    tiles = ("rows=64,columns=8,stages=4", "rows=64,columns=8,stages=99")
    works = [ahead.Work(spec, "sm_90a", tile) for tile in tiles] + [ahead.Work(spec, "cpu")]
    with ahead.compiled_ahead(works, cached=False) as (good, bad, on_cpu):
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


# --- timing and reports ---------------------------------------------------------------------------


def test_on_the_cpu_calls_take_turns_in_every_measurement() -> None:
    order: list[str] = []
    measured = wall_timing([lambda: order.append("a"), lambda: order.append("b")], repeats=3)
    assert "".join(order) == "ab" * 4  # the first time as a warm-up
    assert (len(measured.seconds), measured.runs) == (3, 2)


@pytest.mark.parametrize(
    ("microseconds", "cycle", "runs"), [(1.0, 3, 999), (0.001, 1, 1000), (150.0, 4, 8), (9e5, 2, 2)]
)
def test_a_graph_holds_whole_cycles_for_about_a_millisecond(
    monkeypatch: pytest.MonkeyPatch, microseconds: float, cycle: int, runs: int
) -> None:
    launched: list[int] = []

    def call(function: str, *_arguments: object) -> object:
        return launched[-1] * microseconds * 1e-3 if function == "cuEventElapsedTime" else function

    device = SimpleNamespace(active=contextlib.nullcontext)
    monkeypatch.setattr(timing, "call", call)
    monkeypatch.setattr(timing, "driver", MagicMock())
    monkeypatch.setattr(timing, "release", lambda *_arguments: None)
    monkeypatch.setattr(timing, "_REST_SECONDS", 0.0)
    monkeypatch.setattr(timing, "_SUSTAINED_SECONDS", 0.0)
    measured = timing.graph_timing(device, lambda _stream, n: lambda: launched.append(n), repeats=5, cycle=cycle)  # type: ignore[arg-type]
    assert measured.runs == runs
    assert measured.seconds == pytest.approx((microseconds * 1e-6,) * 5)
    assert launched.count(runs) >= 5
    assert (measured.sustained is None) == (microseconds < 20)


def test_runs_in_a_graph_take_turns_and_are_queued_once(fake: FakeDriver) -> None:
    order: list[tuple[str, int]] = []
    queues = [lambda stream, name=name: order.append((name, stream)) for name in "abc"]
    fake.cuStreamCreate = lambda _flags: fake._made("9")  # type: ignore[method-assign]
    device = Device.current()
    launch = timing.recorder(device, queues)(7, 4)
    assert order == [("a", 9), ("b", 9), ("c", 9), ("a", 9)]  # on a stream of its own
    fake.log.clear()
    with device.active():
        launch()
        launch()
    assert fake.log == [("replay", 7)] * 2
    assert fake.alive == ["executable graph"]
    del launch
    gc.collect()
    assert fake.alive == []


def example(**changes: object) -> Report:
    problem = Product(MatmulSpec(m=64, n=64, k=1024, lhs="u2", rhs="bipolar"))
    point = Point(
        suite="square",
        size=problem.size,
        kind=problem.kind,
        problem=problem.to_json(),
        target="sm_90a",
        exact=True,
        launches=({"kernel": "k", "grid": [1, 1, 1], "block": [128, 1, 1], "shared_bytes": 0},),
        timing=Timing((3e-6, 2e-6, 4e-6), 10),
        operations=problem.operations,
        bit_operations=problem.operations * 2,
        bytes=24576,
        floor={"unit": 1e-9, "memory": 1.5e-6, "launch": 1e-6},
        checked=4096,
        rivals={"int8": Timing((6e-6,), 10)},
        clocks={"sm_mhz": 1980.0},
    )
    packing = Packing(PackSpec(8, 8, "u4", "i8"))
    names = {"size": packing.size, "kind": packing.kind, "problem": packing.to_json()}
    unmeasured = Point(suite="pack", **names, target="sm_90a", exact=False, fault="the source must be i8")
    instruction = Instruction("wgmma and.popc", 15.5e15, True, Timing((1e-3,), 1))
    limits = Limits({"sm_90a": instruction}, 4e12, {"cuMemcpyDtoDAsync": 4e12}, 1e-6)
    device, tools = {"name": "NVIDIA H200", "driver": "580"}, {"date": "2026-11-21T12:00:00"}
    report = Report(device, tools, {"before": {"sm_mhz": 345.0}}, limits, (point, unmeasured), ("no torch",))
    return dataclasses.replace(report, **changes)


def test_what_follows_from_a_timing() -> None:
    point = example().points[0]
    assert point.seconds == 3e-6
    assert (point.bound, point.fraction) == ("memory", 0.5)
    assert point.times_faster("int8") == 2.0
    assert point.times_faster("fp8") is None
    assert point.to_json()["derived"]["pops"] == pytest.approx(2 * 64 * 64 * 1024 / 3e-6 / 1e15)


def test_a_report_comes_back_from_its_json() -> None:
    text = example().to_json()
    assert Report.from_json(text) == example()
    assert Report.from_json(text).to_json() == text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "points": [{}]}'])
def test_a_file_that_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^x\.json is not what bitmlir-bench writes"):
        Report.from_json(text, "x.json")


FLAWED = (  # where a value is put into a report, the value, and what is said
    (("points",), None, "points: expected a list, got null"),
    (("points",), [None], "points[0]: expected an object, got null"),
    (("device",), None, "device: expected an object, got null"),
    (("device",), {}, "the device has no name"),
    (("device", "name"), 5, "the device has no name"),
    (("tools", "date"), 5, "tools.date: expected a text, got 5"),
    (("format",), "1", 'format: expected a count, got "1"'),
    (("format",), True, "format: expected a count, got true"),
    (("limits", "launch_seconds"), 0, "limits.launch_seconds: expected a finite number above 0, got 0"),
    (("limits", "instructions", "sm_90a", "exact"), 1, "instructions.sm_90a.exact: expected true or false, got 1"),
    (("points", 0, "timing", "seconds"), [], "points[0].timing: a timing needs a measurement"),
    (("points", 0, "timing", "seconds"), ["a"], 'timing.seconds[0]: expected a finite number above 0, got "a"'),
    (("points", 0, "timing", "seconds"), [1, float("nan")], "seconds[1]: expected a finite number above 0, got NaN"),
    (("points", 0, "timing", "seconds"), [float("inf")], "seconds[0]: expected a finite number above 0, got Infinity"),
    (("points", 0, "timing", "seconds"), [0], "seconds[0]: expected a finite number above 0, got 0"),
    (("points", 0, "timing", "seconds"), [-1e-6], "seconds[0]: expected a finite number above 0, got -1e-06"),
    (("points", 0, "timing", "seconds"), [1e-320], "seconds[0]: expected a finite number above 0, got 1e-320"),
    (("points", 0, "rivals", "int8", "seconds"), [], "points[0].rivals.int8: a timing needs a measurement"),
    (("points", 0, "bytes"), 0, "points[0]: it was measured, but 'bytes' says that nothing was moved"),
    (("points", 0, "bytes"), -8, "points[0].bytes: expected a count, got -8"),
    (("points", 0, "bit_operations"), "x", 'points[0].bit_operations: expected a count, got "x"'),
    (("points", 0, "bit_operations"), 10**400, "points[0].bit_operations: expected a count, got 1000"),
    (("points", 0, "floor"), {"unit": "x"}, 'points[0].floor.unit: expected a finite number above 0, got "x"'),
    (("points", 0, "exact"), "no", 'points[0].exact: expected true or false, got "no"'),
    (("points", 0, "problem"), None, "points[0].problem: expected an object, got null"),
    (("points", 0, "problem"), {"rotated": True}, "points[0]: its problem's 'm' must be a size"),
    (("points", 0, "problem", "out"), [], "points[0]: its problem's 'out' must be a text"),
    (("points", 0, "quoted"), {"Another": None}, "quoted.Another: expected a finite number above 0, got null"),
    (("points", 0, "clocks"), {"sm_mhz": float("nan")}, "points[0].clocks.sm_mhz: expected a finite number, got NaN"),
)  # fmt: skip


def changed(path: tuple[str | int, ...], value: object) -> str:
    """The JSON of the example with a value put there, or with nothing there for `...`."""
    fields = json.loads(example().to_json())
    *parents, last = path
    inner = fields
    for each in parents:
        inner = inner[each]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(fields)


@pytest.mark.parametrize(("path", "value", "said"), FLAWED, ids=str)
def test_a_report_that_was_edited_is_refused_with_the_first_fault(
    path: tuple[str | int, ...], value: object, said: str
) -> None:
    with pytest.raises(InputError) as caught:
        Report.from_json(changed(path, value), "x.json")
    message = str(caught.value)
    assert message.startswith("x.json is not what bitmlir-bench writes with --json: ")
    assert said in message
    assert len(message) < 200


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (("device",), "device is missing"),
        (("points", 0, "size"), "points[0].size is missing"),
        (("points", 0, "bytes"), "points[0]: it was measured, but 'bytes' says that nothing was moved"),
        (("points", 0, "timing", "seconds"), "points[0].timing.seconds is missing"),
    ],
    ids=str,
)
def test_a_report_with_a_field_missing_is_refused(path: tuple[str | int, ...], said: str) -> None:
    with pytest.raises(InputError) as caught:
        Report.from_json(changed(path, ...))
    assert said in str(caught.value)


@pytest.mark.parametrize("path", [("new",), ("points", 0, "new"), ("points", 0, "timing", "new"), ("limits", "new")])
def test_fields_that_are_not_known_are_left_out_of_a_report(path: tuple[str | int, ...]) -> None:
    assert Report.from_json(changed(path, {"a": [1]})) == example()


def test_a_text_of_endless_brackets_is_refused() -> None:
    with pytest.raises(InputError, match=r"^the report is not what bitmlir-bench writes"):
        Report.from_json("[" * 100_000)


def test_a_report_of_a_newer_format_is_refused() -> None:
    newer = json.dumps(json.loads(example().to_json()) | {"format": 2})
    with pytest.raises(InputError, match=r"has format 2, but this bitmlir reads up to 1: upgrade it"):
        Report.from_json(newer)


def test_the_table_shows_speeds_limits_rivals_and_faults() -> None:
    console = Console(width=140, record=True, file=io.StringIO())
    print_report(example(), console)
    text = console.export_text()
    for said in ("64²×1024", "u2 × bipolar → i32", "3 µs", "50% memory", "2.00 ×", "yes", "not measured", "15.5 POPS"):
        assert said in text
    assert "pack, 8², i8 → u4: the source must be i8" in text
    assert "sustained" not in text  # nothing to show there


def test_speeds_of_the_cpu_are_told_in_a_unit_that_fits_them() -> None:
    point = dataclasses.replace(example().points[0], target="cpu", timing=Timing((1e-3,), 1))
    console = Console(width=140, record=True, file=io.StringIO())
    print_report(example(points=(point,), limits=Limits()), console)
    text = console.export_text()
    assert "TOPS" in text
    assert "0.00839" in text  # 2·64²·1024 in a millisecond
    assert "POPS" not in text


def test_what_is_quoted_is_marked_in_the_table_and_its_source_told() -> None:
    point = dataclasses.replace(example().points[0], quoted={"Another": 9e-6})
    console = Console(width=140, record=True, file=io.StringIO())
    print_report(example(points=(point,), quoted={"Another": "its paper"}, summaries={"square": "in short"}), console)
    text = " ".join(console.export_text().split())
    for said in ("square: in short", "Another*", "3.00 ×", "* Another was not measured in this run: its paper."):
        assert said in text


# --- pictures -------------------------------------------------------------------------------------


def drawn(report: Report, monkeypatch: pytest.MonkeyPatch) -> plot.Figure:
    """The figure that a picture is made of."""
    figures: list[plot.Figure] = []
    save = plot.Figure.savefig

    def spy(figure: plot.Figure, *arguments: object, **named: object) -> None:
        figures.append(figure)
        save(figure, *arguments, **named)

    monkeypatch.setattr(plot.Figure, "savefig", spy)
    assert plot.picture(report).startswith(PNG)
    return figures[0]


def texts(axes: object) -> list[str]:
    return [text.get_text() for text in axes.texts]  # type: ignore[attr-defined]


def test_the_roofline_names_the_limits_and_the_points(monkeypatch: pytest.MonkeyPatch) -> None:
    (panel,) = drawn(example(), monkeypatch).axes
    assert texts(panel) == ["wgmma and.popc alone: 15.5 POPS", "memory: 4.00 TB/s by copying", "64²×1024"]


def test_each_point_is_drawn_where_its_limit_is(monkeypatch: pytest.MonkeyPatch) -> None:
    point = example().points[0]
    short = dataclasses.replace(point, floor={"launch": 1e-6}, quoted={"Another": 9e-6}, size="short")
    rotated = dataclasses.replace(point, problem={**point.problem, "rotated": True, "m": 16})
    packing = dataclasses.replace(
        example().points[1], timing=point.timing, bytes=99, floor={"memory": 1e-9}, kind="f32 → u4"
    )
    figure = drawn(example(points=(packing, point, short, rotated)), monkeypatch)
    roofline, traffic, launches = figure.axes
    assert "64²×1024" in texts(roofline)
    assert [label.get_text() for label in traffic.get_xticklabels()] == ["16 × bipolar", "f32 → u4"]
    assert [label.get_text() for label in launches.get_xticklabels()] == ["short"]
    legend = [text.get_text() for text in launches.get_legend().get_texts()]
    assert legend == ["u2 × bipolar → i32, sm_90a", "u2 × bipolar → i32, Another, quoted"]


def test_labels_of_many_points_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, point = np.random.default_rng(0), example().points[0]
    many = tuple(
        dataclasses.replace(point, bytes=int(n_bytes), timing=Timing((float(seconds),), 1))
        for n_bytes, seconds in zip(rng.uniform(1e4, 1e5, 150), rng.uniform(2e-6, 2e-5, 150), strict=True)
    )
    figure = drawn(example(points=many), monkeypatch)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts if text.get_text() == point.size]
    assert len(boxes) > 20
    assert not any(one.overlaps(other) for number, one in enumerate(boxes) for other in boxes[:number])


def test_a_report_without_measurements_cannot_be_drawn() -> None:
    with pytest.raises(InputError, match="nothing to draw"):
        plot.picture(example(points=example().points[1:]))


# --- the tool -------------------------------------------------------------------------------------


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
    suite = dataclasses.replace(SUITES["pack"], problems=SUITES["smoke"].problems[-2:])
    monkeypatch.setitem(SUITES, "pack", suite)
    assert cli.main(["run", "pack", "--target", "cpu", "--repeat", "1", "--json", str(tmp_path / "out.json")]) == 1
    failed, measured = Report.from_json((tmp_path / "out.json").read_text()).points
    assert (failed.exact, failed.timing) == (False, None)
    assert failed.fault == "no f32 today"
    assert measured.exact


def test_a_missing_package_is_named_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None if name == "matplotlib" else object())
    monkeypatch.setattr(cli, "_measured", lambda *_arguments, **_named: pytest.fail("measured nevertheless"))
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
def test_a_file_that_cannot_be_written_is_named_before_anything_is_measured(
    option: str,
    place: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(cli, "_measured", lambda *_arguments, **_named: pytest.fail("measured nevertheless"))
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    path = str(tmp_path / place)  # as it is, if it is absolute
    assert cli.main(["run", "smoke", "--target", "cpu", option, path]) == 1
    assert f"cannot write '{path}': {reason}" in capsys.readouterr().err
    assert sorted(found.name for found in tmp_path.iterdir()) == ["file", "folder.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(cli, "_measured", lambda *_arguments, **_named: pytest.fail("measured nevertheless"))
    tmp_path.chmod(0o500)
    assert cli.main(["run", "smoke", "--target", "cpu", "--json", str(tmp_path / "out.json")]) == 1
    assert "Permission denied" in capsys.readouterr().err


def test_what_was_there_stays_until_the_new_file_is_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text("old")

    def measured(*_arguments: object, **_named: object) -> tuple[Report, bool]:
        assert (tmp_path / "out.json").read_text() == "old"
        return example(), True

    monkeypatch.setattr(cli, "_measured", measured)
    assert cli.main(["run", "smoke", "--target", "cpu", "--json", str(tmp_path / "out.json")]) == 1
    assert Report.from_json((tmp_path / "out.json").read_text()) == example()
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
    assert report.notes == ("interrupted after 2 of 13 points",)
    assert "interrupted after 2 of 13 points" in capsys.readouterr().out
    assert picture.read_bytes().startswith(PNG)


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
def test_files_that_would_be_lost_are_wrong_usage(
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(cli, "_measured", lambda *_arguments, **_named: pytest.fail("measured nevertheless"))
    monkeypatch.chdir(tmp_path)
    for name in ("a.json", "a.png"):
        Path(name).write_text(example().to_json())
    Path("b").mkdir()
    Path("link.png").symlink_to("a.png")
    assert cli.main(arguments) == 2
    assert said in capsys.readouterr().err
    assert [Path(name).read_text() for name in ("a.json", "a.png")] == [example().to_json()] * 2


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
