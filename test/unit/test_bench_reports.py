"""How `bitmlir-bench` takes times, and what it reports of them: files that come back or are refused, and tables."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import io
import json
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from bench_support import example_report
from fake_driver import FakeDriver
from rich.console import Console

from bitmlir.dialects.errors import InputError
from bitmlir.runtime.driver import Device
from bitmlir.tools.bench import timing
from bitmlir.tools.bench.report import Limits, Report
from bitmlir.tools.bench.table import print_report
from bitmlir.tools.bench.timing import Timing, wall_timing

# --- timing ---------------------------------------------------------------------------------------


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


# --- reports --------------------------------------------------------------------------------------


def test_what_follows_from_a_timing() -> None:
    point = example_report().points[0]
    assert point.seconds == 3e-6
    assert (point.bound, point.fraction) == ("memory", 0.5)
    assert point.times_faster("int8") == 2.0
    assert point.times_faster("fp8") is None
    assert point.to_json()["derived"]["pops"] == pytest.approx(2 * 64 * 64 * 1024 / 3e-6 / 1e15)


def test_a_report_comes_back_from_its_json() -> None:
    text = example_report().to_json()
    assert Report.from_json(text) == example_report()
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
    fields = json.loads(example_report().to_json())
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
    assert Report.from_json(changed(path, {"a": [1]})) == example_report()


def test_a_text_of_endless_brackets_is_refused() -> None:
    with pytest.raises(InputError, match=r"^the report is not what bitmlir-bench writes"):
        Report.from_json("[" * 100_000)


def test_a_report_of_a_newer_format_is_refused() -> None:
    newer = json.dumps(json.loads(example_report().to_json()) | {"format": 2})
    with pytest.raises(InputError, match=r"has format 2, but this bitmlir reads up to 1: upgrade it"):
        Report.from_json(newer)


# --- tables ---------------------------------------------------------------------------------------


def test_the_table_shows_speeds_limits_rivals_and_faults() -> None:
    console = Console(width=140, record=True, file=io.StringIO())
    print_report(example_report(), console)
    text = console.export_text()
    for said in ("64²×1024", "u2 × bipolar → i32", "3 µs", "50% memory", "2.00 ×", "yes", "not measured", "15.5 POPS"):
        assert said in text
    assert "pack, 8², i8 → u4: the source must be i8" in text
    assert "sustained" not in text  # nothing to show there


def test_speeds_of_the_cpu_are_told_in_a_unit_that_fits_them() -> None:
    point = dataclasses.replace(example_report().points[0], target="cpu", timing=Timing((1e-3,), 1))
    console = Console(width=140, record=True, file=io.StringIO())
    print_report(example_report(points=(point,), limits=Limits()), console)
    text = console.export_text()
    assert "TOPS" in text
    assert "0.00839" in text  # 2·64²·1024 in a millisecond
    assert "POPS" not in text


def test_what_is_quoted_is_marked_in_the_table_and_its_source_told() -> None:
    point = dataclasses.replace(example_report().points[0], quoted={"Another": 9e-6})
    console = Console(width=140, record=True, file=io.StringIO())
    report = example_report(points=(point,), quoted={"Another": "its paper"}, summaries={"square": "in short"})
    print_report(report, console)
    text = " ".join(console.export_text().split())
    for said in ("square: in short", "Another*", "3.00 ×", "* Another was not measured in this run: its paper."):
        assert said in text
