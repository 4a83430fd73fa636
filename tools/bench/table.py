"""A report as tables on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bitmlir.tools.bench.report import Limits, Point, Report

__all__ = ["print_report"]

_WIDTH = 180  # where the output is no terminal
_GPU_SPEEDS, _CPU_SPEEDS = ("POPS", 1e-15), ("TOPS", 1e-12)


def print_report(report: Report, console: Console | None = None) -> None:
    """A table for each suite, and what it was measured on."""
    console = console or Console(width=None if Console().is_terminal else _WIDTH)
    for suite, points in groupby(report.points, key=lambda point: point.suite):
        title = f"{suite}: {report.summaries[suite]}" if suite in report.summaries else suite
        listed = list(points)
        console.print(_table(title, listed))
        for line in _shares(listed):
            console.print(Text(line))
    for line in _remarks(report):
        console.print(Text(line))


def _table(title: str, points: list[Point]) -> Table:
    """Rows of points; columns that none of them has a figure for are left out."""
    unit, factor = _CPU_SPEEDS if all(point.target == "cpu" for point in points) else _GPU_SPEEDS
    columns: dict[str, Callable[[Point], str]] = {
        "time": lambda point: _time(point.seconds),
        unit: lambda point: _speed(point, point.seconds, factor),
        "sustained": lambda point: _speed(point, point.timing and point.timing.sustained, factor),
        "images/s": lambda point: _cell(point.rate(point.images) if point.images else None, "{:,.0f}"),
        "of the aim": lambda point: _cell(point.aim and point.seconds and point.aim / point.seconds, "{:.2f} ×"),
        "GB/s": lambda point: _cell(point.rate(point.bytes * 1e-9), "{:.0f}"),
        "of the limit": lambda point: _cell(point.fraction, f"{{:.0%}} {point.bound}"),
    }
    rivals = {name: f"{name} takes" for point in points for name in point.rivals}
    rivals |= {name: f"{name}* takes" for point in points for name in point.quoted}
    for name, heading in rivals.items():
        columns[heading] = lambda point, name=name: _cell(point.times_faster(name), "{:.2f} ×")
    table = Table(title=title, title_justify="left", title_style="bold")
    for heading in ("size", "operands → result", "target"):
        table.add_column(heading)
    shown = [heading for heading, cell in columns.items() if any(map(cell, points))]
    for heading in shown:
        table.add_column(heading, justify="right")
    table.add_column("exact")
    for point in points:
        table.add_row(point.size, point.kind, point.target, *(columns[name](point) for name in shown), _exact(point))
    return table


def _shares(points: list[Point]) -> Iterator[str]:
    """Of each point of several layers, what each takes of the sum of them one by one."""
    for point in points:
        if len(shares := point.shares()) > 1:
            yield f"{point.size}, {point.kind}: " + ", ".join(f"{name} {share:.1%}" for name, share in shares.items())


def _exact(point: Point) -> Text:
    if point.exact:
        return Text("yes", "green")
    return Text("not measured" if point.timing is None else "NO", "bold red")


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _speed(point: Point, seconds: float | None, factor: float) -> str:
    return f"{point.operations / seconds * factor:.3g}" if seconds and point.operations else ""


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    unit, factor = ("µs", 1e6) if seconds < 1e-3 else ("ms", 1e3)
    return f"{seconds * factor:.4g} {unit}"


def _remarks(report: Report) -> Iterator[str]:
    device = report.device
    yield f"Measured on {device['name']}" + (f", driver {device['driver']}" if device.get("driver") else "") + "."
    yield from _limit_remarks(report.limits)
    for name, clocks in report.clocks.items():
        if clocks:
            yield f"Clocks {name}: " + ", ".join(f"{key} {value:g}" for key, value in clocks.items()) + "."
    for name, source in report.quoted.items():
        yield f"* {name} was not measured in this run: {source}."
    for point in report.points:
        if point.fault:
            yield f"{point.suite}, {point.size}, {point.kind}: {point.fault}"
    yield from report.notes


def _limit_remarks(limits: Limits) -> Iterator[str]:
    for target, limit in limits.instructions.items():
        wrong = "" if limit.exact else " (its results were WRONG)"
        yield f"Limit of {target}: {limit.name}, {limit.operations_per_second * 1e-15:.4g} POPS{wrong}."
    if limits.copies:
        rates = ", ".join(f"{name} {rate * 1e-9:.0f} GB/s" for name, rate in limits.copies.items())
        yield f"Limit of memory, read plus written: {rates}."
    if limits.launch_seconds:
        yield f"Limit of launches: an empty kernel in a graph takes {limits.launch_seconds * 1e6:.2f} µs."
