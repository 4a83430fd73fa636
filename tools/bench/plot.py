"""A report as a roofline plot. The only module that needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bitmlir.dialects.errors import InputError
from bitmlir.tools.bench.report import Limits, Point, Report

__all__ = ["draw"]

_COLUMNS = 2  # of panels
_PANEL = (7.2, 5.0)  # inches
_MARKERS = "os^DvP*Xh<>d"
_LINE_PIXELS = 18  # that labels above each other are apart
_PIXELS_A_CHARACTER = 7


def draw(report: Report, path: str) -> None:
    """Write a PNG with a roofline for each suite: 1-bit operations a second over 1-bit operations a byte.

    Raises:
        InputError: no point of the report is a product that was measured; or the file cannot be written.
    """
    suites: dict[str, list[Point]] = {}
    for point in report.points:
        if point.timing and point.bit_operations:
            suites.setdefault(point.suite, []).append(point)
    if not suites:
        raise InputError("the report holds no product that was measured: there is nothing to draw")
    columns = min(_COLUMNS, len(suites))
    rows = math.ceil(len(suites) / columns)
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * rows + 1.0), layout="constrained", dpi=110)
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(_title(report), fontsize=11)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel, (suite, points) in zip(panels, suites.items(), strict=False):
        _draw_panel(panel, suite, points, report.limits)
    for panel in panels[len(suites) :]:
        panel.set_visible(False)
    canvas.draw()  # settles the layout, which the labels' places depend on
    for panel, points in zip(panels, suites.values(), strict=False):
        _label_memory(panel, report.limits)
        _label_points(panel, points)
    try:
        part = Path(path).with_name(f".{Path(path).name}.part")
        try:
            figure.savefig(part, format="png")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write '{path}': {error.strerror}") from None


def _title(report: Report) -> str:
    exact = sum(point.exact for point in report.points)
    date = report.tools.get("date", "").partition("T")[0]
    return "\n".join(
        (
            f"1-bit products on {report.device['name']}, {date}: speeds under the limits measured in the same run "
            f"({exact} of {len(report.points)} results exact)",
            "1-bit operations = 2·M·N·K·(planes of lhs)·(planes of rhs); bytes: operands and result, each moved once, "
            "or where weights come from memory",
            "the weights alone; a grey bar is what the limits leave to a problem: the unit's, memory's, or a launch's",
        )
    )


def _intensity(point: Point) -> float:
    return point.bit_operations / point.bytes


def _speed(point: Point) -> float:
    return (point.rate(point.bit_operations) or 0.0) * 1e-15


def _draw_panel(panel: Any, suite: str, points: Sequence[Point], limits: Limits) -> None:
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_title(suite, fontsize=10, fontweight="bold")
    panel.set_xlabel("1-bit operations a byte")
    panel.set_ylabel("1-bit POPS (10¹⁵ operations a second)")
    panel.grid(visible=True, which="major", linewidth=0.4, alpha=0.5)
    kinds = list(dict.fromkeys(point.kind for point in points))
    for number, kind in enumerate(kinds):
        of_kind = [point for point in points if point.kind == kind]
        panel.plot(
            [_intensity(p) for p in of_kind],
            [_speed(p) for p in of_kind],
            linestyle="none",
            marker=_MARKERS[number % len(_MARKERS)],
            color=f"C{number % 10}",
            markersize=6,
            label=kind,
        )
    limited = [point for point in points if point.bound]
    panel.plot(
        [_intensity(p) for p in limited],
        [p.bit_operations / p.floor[p.bound or ""] * 1e-15 for p in limited],
        linestyle="none",
        marker="_",
        color="grey",
        markersize=9,
        zorder=1,
    )
    panel.legend(fontsize=7, loc="lower right", title="lhs × rhs → result", title_fontsize=7)
    _draw_limits(panel, points, limits)


def _draw_limits(panel: Any, points: Sequence[Point], limits: Limits) -> None:
    """The limits as lines, rates of instructions level and copying as a slope, and axes that show where they meet."""
    found = (limits.instructions.get(target) for target in dict.fromkeys(point.target for point in points))
    instructions = [limit for limit in found if limit]
    rates = [limit["operations_per_second"] * 1e-15 for limit in instructions]
    slope = (limits.copy_bytes_per_second or 0.0) * 1e-15
    reach, speeds = [_intensity(point) for point in points], [_speed(point) for point in points]
    left, right, low, high = min(reach) / 4, max(reach) * 4, min(speeds) / 3, max([*speeds, *rates]) * 2
    if slope and rates:
        left, right = min(left, max(rates) / slope / 16), max(right, max(rates) / slope * 4)
        low = min(low, max(rates) / 16)
    for limit, rate in zip(instructions, rates, strict=True):
        panel.plot([left, right], [rate, rate], color="black", linewidth=1.2)
        text = f"{limit['name']} alone: {rate:.1f} POPS"
        panel.annotate(text, (right, rate), xytext=(-4, 3), textcoords="offset points", fontsize=7, ha="right")
    if slope:
        end = min(right, max(rates, default=high) / slope)
        panel.plot([left, end], [left * slope, end * slope], color="black", linewidth=1.2, linestyle="--")
    panel.set_xlim(left, right)
    panel.set_ylim(low, high)


def _label_memory(panel: Any, limits: Limits) -> None:
    """Write along the slope of copying, in the middle of what is seen of it."""
    if not limits.copy_bytes_per_second:
        return
    slope = limits.copy_bytes_per_second * 1e-15
    (left, right), (low, high) = panel.get_xlim(), panel.get_ylim()
    first, last = max(left, low / slope), min(right, high / slope)
    (x0, y0), (x1, y1) = panel.transData.transform([(first, first * slope), (last, last * slope)])
    middle = math.sqrt(first * last) / 1.5  # the upper end is under the instruction's line
    panel.annotate(
        f"memory: {slope * 1e3:.2f} TB/s by copying",
        (middle, middle * slope),
        xytext=(-4, 4),
        textcoords="offset points",
        fontsize=7,
        ha="center",
        va="bottom",
        rotation=math.degrees(math.atan2(y1 - y0, x1 - x0)),
        rotation_mode="anchor",
    )


def _label_points(panel: Any, points: Sequence[Point]) -> None:
    """Write its size beside each point, unless another label is there already."""
    taken: list[tuple[float, float]] = []
    for point in sorted(points, key=_speed, reverse=True):
        x, y = panel.transData.transform((_intensity(point), _speed(point)))
        width = _PIXELS_A_CHARACTER * len(point.size)
        if any(abs(x - other) < width and abs(y - above) < _LINE_PIXELS for other, above in taken):
            continue
        taken.append((x, y))
        panel.annotate(
            point.size, (_intensity(point), _speed(point)), xytext=(5, -9), textcoords="offset points", fontsize=7
        )
