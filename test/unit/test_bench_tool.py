"""`bitmlir-bench` without a GPU: suites, operands, oracle, reports, tables and plots. Its options are in test/tools."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
from rich.console import Console

from bitmlir import compiler, reference
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import CompileError, InputError
from bitmlir.executable import Executable
from bitmlir.formats.packed import Packed, pack, unpack
from bitmlir.lowering.targets import get_target
from bitmlir.pack_spec import PackSpec
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench import cli, measure, plot, timing
from bitmlir.tools.bench.operands import packing_source, random_packed
from bitmlir.tools.bench.oracle import Verdict, check_packing, check_product
from bitmlir.tools.bench.report import Limits, Point, Report
from bitmlir.tools.bench.suites import SUITES, Packing, Product, suites_named
from bitmlir.tools.bench.table import print_report
from bitmlir.tools.bench.timing import Timing, wall_timing

ENCODINGS = ["u1", "u8", "u3@2", "u4@row", "i2", "i8", "bipolar", "bipolar4", "ternary"]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


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


# --- operands -------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 127, 128, 300])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_random_matrices_are_well_formed_and_reach_every_value(rng: np.random.Generator, encoding: str, k: int) -> None:
    packed = random_packed(rng, 64, k, encoding)
    packed.check()
    if k == 300 and not packed.encoding.has_row_zeros:
        known = packed.encoding
        assert set(np.unique(unpack(packed))) == set(range(known.minimum, known.maximum + 1, known.scale))


@pytest.mark.parametrize("encoding", ["u1", "u8", "i2", "i8", "bipolar", "bipolar4", "ternary"])
def test_integers_to_pack_are_every_value_of_the_encoding(rng: np.random.Generator, encoding: str) -> None:
    values, known = packing_source(rng, PackSpec(20, 300, encoding, "i16")), Encoding.parse(encoding)
    assert set(np.unique(values)) == set(range(known.minimum, known.maximum + 1, 2 if known.kind == "bipolar" else 1))


def test_floats_to_pack_reach_past_the_ends_of_the_encoding(rng: np.random.Generator) -> None:
    floats = packing_source(rng, PackSpec(20, 300, "u4"))
    assert floats.dtype == np.float32
    assert floats.min() < 0 < 15 < floats.max()
    assert 0.5 < np.mean((floats > 0) & (floats < 15)) < 1


# --- the oracle -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Task:
    """A product with a right result, made by plain numpy."""

    spec: MatmulSpec
    lhs: Packed
    rhs: Packed
    arguments: dict[str, np.ndarray]
    values: np.ndarray

    def verdict(self, values: np.ndarray) -> Verdict:
        result = pack(values, "bipolar") if self.spec.out == "bit" else values
        return check_product(self.spec, self.lhs, self.rhs, self.arguments, result)


def task(rng: np.random.Generator, out: str, lhs: str = "u3", rhs: str = "i4") -> Task:
    m, n, k = 37, 41, 300
    spec = MatmulSpec(m, n, k, lhs, rhs, out, column_scale=out == "f16")
    x, y = random_packed(rng, m, k, lhs), random_packed(rng, n, k, rhs)
    arguments = {
        "f16": {"column_scale": rng.uniform(0.5, 1.5, n).astype(np.float32)},
        "bit": {"threshold": rng.integers(-99, 99, n, np.int32), "flip": rng.integers(0, 2, n, np.int8)},
    }.get(out, {})
    by_column = {name: array != 0 if name == "flip" else array for name, array in arguments.items()}
    acc = unpack(x).astype(np.int64) @ unpack(y).astype(np.int64).T
    return Task(spec, x, y, arguments, reference.epilogue(acc, out, **by_column))


@pytest.mark.parametrize(("lhs", "rhs"), [("u3", "i4"), ("u4@row", "bipolar2"), ("bipolar", "ternary")])
@pytest.mark.parametrize("out", ["i32", "f16", "bit"])
def test_right_results_are_accepted_whole(rng: np.random.Generator, out: str, lhs: str, rhs: str) -> None:
    given = task(rng, out, lhs, rhs)
    assert given.verdict(given.values) == Verdict(given.values.size)


@pytest.mark.parametrize("out", ["i32", "f16", "bit"])
@pytest.mark.parametrize("place", [(0, 0), (36, 40), (17, 33)])
def test_one_wrong_element_is_found_and_named(rng: np.random.Generator, out: str, place: tuple[int, int]) -> None:
    given = task(rng, out)
    wrong = given.values.copy()
    wrong[place] = -wrong[place] if out == "bit" else wrong[place] + 1
    fault = given.verdict(wrong).fault or ""
    assert fault.startswith(f"result[{place[0]}, {place[1]}] is {wrong[place]}, but must be {given.values[place]}")
    assert f"1 of {wrong.size} elements are wrong" in fault


def test_wrong_row_sums_and_padding_of_a_packed_result_are_found(rng: np.random.Generator) -> None:
    given = task(rng, "bit")
    right = pack(given.values, "bipolar")
    sums, planes = right.sums.copy(), right.planes.copy()
    sums[3] += 1
    planes[0, 5, -1] |= np.uint32(1 << 31)
    for broken, said in (
        (dataclasses.replace(right, sums=sums), "sums[3]"),
        (dataclasses.replace(right, planes=planes), "padding"),
    ):
        verdict = check_product(given.spec, given.lhs, given.rhs, given.arguments, broken)
        assert said in (verdict.fault or "")


def test_a_result_of_another_type_is_refused(rng: np.random.Generator) -> None:
    given = task(rng, "i32")
    assert "must be int32" in (given.verdict(given.values.astype(np.int64)).fault or "")


@pytest.mark.parametrize("source", ["i8", "f32"])
def test_a_wrong_plane_or_sum_of_packing_is_found(rng: np.random.Generator, source: str) -> None:
    spec = PackSpec(5, 100, "u4", source)
    values = packing_source(rng, spec)
    right = pack(reference.quantised(values, "u4"), "u4")
    assert check_packing(spec, values, right) == Verdict(500)
    for field, at, said in (("planes", (2, 3, 1), "planes[2, 3, 1]"), ("sums", (4,), "sums[4]")):
        array = getattr(right, field).copy()
        array[at] ^= 4
        assert said in (check_packing(spec, values, dataclasses.replace(right, **{field: array})).fault or "")


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


def test_runs_in_a_graph_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[tuple[str, int]] = []
    monkeypatch.setattr(timing, "_Graph", lambda _device, _stream, queue: queue)
    queues = [lambda stream, name=name: order.append((name, stream)) for name in "abc"]
    timing.recorder(MagicMock(), queues)(7, 4)()
    assert order == [("a", 7), ("b", 7), ("c", 7), ("a", 7)]


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
    instruction = {"name": "wgmma and.popc", "operations_per_second": 15.5e15, "exact": True, "timing": {}}
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


def test_a_report_is_drawn_as_png_and_only_whole(tmp_path: Path) -> None:
    plot.draw(example(), str(tmp_path / "out.png"))
    assert (tmp_path / "out.png").read_bytes().startswith(PNG)
    with pytest.raises(InputError, match="cannot write"):
        plot.draw(example(), str(tmp_path / "nowhere" / "out.png"))
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


def test_the_plot_names_the_limits_and_the_points(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    texts: list[str] = []
    save = plot.Figure.savefig

    def spy(figure: plot.Figure, *arguments: object, **named: object) -> None:
        texts.extend(text.get_text() for axes in figure.axes for text in axes.texts)
        save(figure, *arguments, **named)

    monkeypatch.setattr(plot.Figure, "savefig", spy)
    plot.draw(example(), str(tmp_path / "out.png"))
    assert texts == ["wgmma and.popc alone: 15.5 POPS", "memory: 4.00 TB/s by copying", "64²×1024"]


def test_a_report_without_products_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to draw"):
        plot.draw(example(points=example().points[1:]), str(tmp_path / "out.png"))


# --- the tool -------------------------------------------------------------------------------------


def test_a_wrong_result_ends_with_exit_code_1_and_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(measure, "check_product", lambda *_arguments: Verdict(0, "result[0, 0] is 1, but must be 2"))
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
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None if name == "matplotlib" else object())
    monkeypatch.setattr(cli, "_measured", lambda *_arguments, **_named: pytest.fail("measured nevertheless"))
    assert cli.main(["run", "smoke", "--target", "cpu", "--plot", "x.png"]) == 1
    assert "--plot needs matplotlib: pip install 'bitmlir[bench]'" in capsys.readouterr().err
