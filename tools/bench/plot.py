"""A report as a picture. The only module that needs matplotlib.

Each point stands where the limit is that binds it: in a roofline those that the matrix unit or the memory binds, beside
it those that take hardly longer than a launch. Weights from memory and packing have a panel of their own, and networks,
which are bars beside those of other libraries.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from bitmlir.dialects.errors import InputError
from bitmlir.tools.bench.report import Limits, Point, Report

__all__ = ["picture"]

_WIDTH, _HEIGHT = 10.5, 9.5  # inches of a column of panels
_SMALL = 7.5  # points
_RESULTS = {"i32": "o", "bit": "s", "f16": "^", "i16": "v"}  # marker of each; of others it is
_OTHER_RESULT = "D"
_SERIES = "os^Dv<>P"
_DODGE = 0.13  # between the series of a place on the axis, which are 1 apart

Draw = Callable[[Any, Sequence[Point], Limits], None]


def picture(report: Report) -> bytes:
    """A PNG of the speeds in a report, under the limits measured with them.

    Raises:
        InputError: no point of the report was measured.
    """
    networks = [point for point in report.points if point.timing and point.images]
    measured = [point for point in report.points if point.timing and not point.images]
    roofline = [point for point in measured if point.bit_operations and point.bound != "launch"]
    choices: list[tuple[int, Draw, list[Point]]] = [  # column, what draws, what is drawn
        (0, _draw_roofline, roofline),
        (1, _draw_traffic, [point for point in measured if _is_rotated(point) or not point.bit_operations]),
        (1, _draw_short, [point for point in measured if point.bit_operations and point.bound == "launch"]),
        (0 if not roofline else 1, _draw_networks, networks),
    ]
    panels = {str(number): choice for number, choice in enumerate(choices) if choice[2]}
    if not panels:
        raise InputError("the report holds nothing that was measured: there is nothing to draw")
    columns = [names for at in (0, 1) if (names := [name for name, (column, *_) in panels.items() if column == at])]
    rows = max(map(len, columns))
    figure = Figure(figsize=(_WIDTH * len(columns), _HEIGHT), layout="constrained", dpi=110)
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(_title(report), fontsize=12)
    mosaic: Any = [[names[row * len(names) // rows] for names in columns] for row in range(rows)]
    axes = figure.subplot_mosaic(mosaic)
    for name, (_, draw, points) in panels.items():
        draw(axes[name], points, report.limits)
    canvas.draw()  # settles the layout, which the labels' places depend on
    if roofline:
        _label_memory(axes["0"], report.limits)
        _label_sizes(axes["0"], roofline, canvas.get_renderer())
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _title(report: Report) -> str:
    exact = sum(point.exact for point in report.points)
    date = report.tools.get("date", "").partition("T")[0]
    return (
        f"Products of few-bit numbers on {report.device['name']}, {date}, under the limits measured in the same run "
        f"({exact} of {len(report.points)} results exact)"
    )


def _is_rotated(point: Point) -> bool:
    """Whether its bytes are the weights alone."""
    return bool(point.problem.get("rotated"))


# --- the roofline ---------------------------------------------------------------------------------


def _intensity(point: Point) -> float:
    return point.bit_operations / point.bytes


def _speed(point: Point) -> float:
    return (point.rate(point.bit_operations) or 0.0) * 1e-15


def _draw_roofline(panel: Any, points: Sequence[Point], limits: Limits) -> None:
    """1-bit operations a second over 1-bit operations a byte."""
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_title("1-bit operations = 2·M·N·K·(planes of lhs)·(planes of rhs)", fontsize=10)
    panel.set_xlabel("1-bit operations a byte; bytes: operands and result, each once, or weights that come from memory")
    panel.set_ylabel("1-bit POPS (10¹⁵ operations a second)")
    panel.grid(visible=True, which="major", linewidth=0.4, alpha=0.5)
    suites = list(dict.fromkeys(point.suite for point in points))
    series: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        series.setdefault((point.suite, point.kind), []).append(point)
    for (suite, _), of_kind in series.items():
        color, are_many = f"C{suites.index(suite) % 10}", _is_rotated(of_kind[0])
        x, y = [_intensity(p) for p in of_kind], [_speed(p) for p in of_kind]
        panel.plot(x, y, linestyle="" if are_many else "-", linewidth=0.5, color=color, alpha=0.6)
        for point in of_kind:
            panel.plot(
                [_intensity(point)],
                [_speed(point)],
                linestyle="none",
                marker=_marker(point),
                markersize=3 if are_many else 6,
                color=color,
            )
    _draw_limits(panel, points, limits)
    _draw_legends(panel, suites, points)


def _result(point: Point) -> str:
    return point.problem.get("out", "best columns")


def _marker(point: Point) -> str:
    return _RESULTS.get(_result(point), _OTHER_RESULT)


def _draw_legends(panel: Any, suites: Sequence[str], points: Sequence[Point]) -> None:
    """Colours are suites, markers are results."""

    def entry(label: str, color: str, marker: str) -> Line2D:
        return Line2D([], [], linestyle="none", color=color, marker=marker, label=label)

    known = [name for name in _RESULTS if any(_result(point) == name for point in points)]
    entries = [entry(suite, f"C{number % 10}", "o") for number, suite in enumerate(suites)]
    entries += [entry(f"→ {name}", "black", _RESULTS[name]) for name in known]
    if any(_marker(point) == _OTHER_RESULT for point in points):
        entries.append(entry("→ other results", "black", _OTHER_RESULT))
    panel.legend(handles=entries, fontsize=_SMALL, loc="lower right", ncols=2)


def _draw_limits(panel: Any, points: Sequence[Point], limits: Limits) -> None:
    """The limits as lines, rates of instructions level and copying as a slope, and axes that show where they meet."""
    found = (limits.instructions.get(target) for target in dict.fromkeys(point.target for point in points))
    instructions = [limit for limit in found if limit]
    rates = [limit.operations_per_second * 1e-15 for limit in instructions]
    slope = (limits.copy_bytes_per_second or 0.0) * 1e-15
    reach, speeds = [_intensity(point) for point in points], [_speed(point) for point in points]
    left, right, low, high = min(reach) / 2, max(reach) * 4, min(speeds) / 2, max([*speeds, *rates]) * 1.4
    if slope and rates:
        left, right = min(left, max(rates) / slope / 16), max(right, max(rates) / slope * 4)
        low = min(low, max(rates) / 16)
    for limit, rate in zip(instructions, rates, strict=True):
        panel.plot([left, right], [rate, rate], color="black", linewidth=1.2)
        text = f"{limit.name} alone: {rate:.1f} POPS"
        panel.annotate(text, (left, rate), xytext=(6, 3), textcoords="offset points", fontsize=_SMALL)
    if slope:
        end = min(right, max(rates, default=high) / slope)
        panel.plot([left, end], [left * slope, end * slope], color="black", linewidth=1.2, linestyle="--")
    panel.set_xlim(left, right)
    panel.set_ylim(low, high)


def _label_memory(panel: Any, limits: Limits) -> None:
    """Write along the slope of copying, near its lower end."""
    if not limits.copy_bytes_per_second:
        return
    slope = limits.copy_bytes_per_second * 1e-15
    (left, right), (low, high) = panel.get_xlim(), panel.get_ylim()
    first, last = max(left, low / slope), min(right, high / slope)
    (x0, y0), (x1, y1) = panel.transData.transform([(first, first * slope), (last, last * slope)])
    place = first * (last / first) ** 0.2
    panel.annotate(
        f"memory: {slope * 1e3:.2f} TB/s by copying",
        (place, place * slope),
        xytext=(-4, 4),
        textcoords="offset points",
        fontsize=_SMALL,
        rotation=math.degrees(math.atan2(y1 - y0, x1 - x0)),
        rotation_mode="anchor",
    )


def _label_sizes(panel: Any, points: Sequence[Point], renderer: Any) -> None:
    """Write its size beside each point, where there is room; the fastest choose first. Many small ones have none."""
    pixels = panel.transData.transform([(_intensity(point), _speed(point)) for point in points])
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in pixels]
    taken += [text.get_window_extent(renderer) for text in (panel.get_legend(), *panel.texts)]
    for point in sorted(points, key=_speed, reverse=True):
        if _is_rotated(point):
            continue
        for (x, y), aligned in (((7, -3), "left"), ((-7, -3), "right"), ((0, 6), "center"), ((0, -12), "center")):
            label = panel.annotate(
                point.size,
                (_intensity(point), _speed(point)),
                xytext=(x, y),
                textcoords="offset points",
                fontsize=_SMALL,
                ha=aligned,
            )
            box = label.get_window_extent(renderer)
            if not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            label.remove()


# --- bytes ----------------------------------------------------------------------------------------


def _draw_traffic(panel: Any, points: Sequence[Point], limits: Limits) -> None:
    """Bytes a second, side by side for every number of rows and kind of weights; a bar is what the limits leave."""
    places = list(dict.fromkeys(_place(point) for point in sorted(points, key=_order)))
    names = list(dict.fromkeys(_series(point) for point in points))
    for number, name in enumerate(names):
        of_series = [point for point in points if _series(point) == name]
        x = [places.index(_place(p)) + (number - (len(names) - 1) / 2) * _DODGE for p in of_series]
        panel.plot(
            x,
            [(p.rate(p.bytes) or 0.0) * 1e-12 for p in of_series],
            linestyle="none",
            marker=_SERIES[number % len(_SERIES)],
            markersize=5,
            label=name,
        )
        floors = [(at, p) for at, p in zip(x, of_series, strict=True) if p.bound]
        bars = [p.bytes / p.floor[p.bound or ""] * 1e-12 for _, p in floors]
        panel.plot([at for at, _ in floors], bars, linestyle="none", marker="_", color="grey", markersize=7, zorder=1)
    if limits.copy_bytes_per_second:
        rate = limits.copy_bytes_per_second * 1e-12
        _draw_limit(panel, rate, f"copying: {rate:.2f} TB/s, read plus written")
    panel.set_title(
        "Rows × weights, by the bytes of the weights; packing, by all it reads and writes; grey: the limits",
        fontsize=10,
    )
    panel.set_ylabel("TB/s")
    panel.set_xticks(range(len(places)), places, rotation=60, ha="right", rotation_mode="anchor", fontsize=_SMALL)
    panel.set_ylim(0, panel.get_ylim()[1] * 1.25)  # the legend is above the points
    panel.grid(visible=True, linewidth=0.4, alpha=0.5)
    panel.legend(fontsize=_SMALL, ncols=3, loc="upper left")


def _draw_limit(panel: Any, height: float, text: str) -> None:
    """A limit of the machine: a dashed line, with words on it."""
    panel.axhline(height, color="black", linewidth=1.2, linestyle="--")
    panel.annotate(text, (0, height), xytext=(0, 3), textcoords="offset points", fontsize=_SMALL)


def _place(point: Point) -> str:
    return f"{point.problem['m']} × {point.problem['rhs']}" if _is_rotated(point) else point.kind


def _order(point: Point) -> int:
    """Rows, those that multiply nothing last; of the same rows as they came."""
    return point.problem["m"] if _is_rotated(point) else 1 << 62


def _series(point: Point) -> str:
    problem = point.problem
    return f"{problem['lhs']}, {problem['n']}×{problem['k']}" if _is_rotated(point) else f"packing {point.size}"


# --- launches -------------------------------------------------------------------------------------


def _draw_short(panel: Any, points: Sequence[Point], limits: Limits) -> None:
    """Microseconds for each size, and what other systems are said to take."""
    sizes = list(dict.fromkeys(point.size for point in points))
    for number, (kind, target) in enumerate(dict.fromkeys((point.kind, point.target) for point in points)):
        of_kind = [point for point in points if (point.kind, point.target) == (kind, target)]
        style = {"linestyle": "none", "color": f"C{number % 10}", "marker": _SERIES[number % len(_SERIES)]}
        x = [sizes.index(point.size) for point in of_kind]
        panel.plot(x, [(point.seconds or 0.0) * 1e6 for point in of_kind], label=f"{kind}, {target}", **style)
        for name in dict.fromkeys(name for point in of_kind for name in point.quoted):
            quoted = [(at, p.quoted[name] * 1e6) for at, p in zip(x, of_kind, strict=True) if name in p.quoted]
            panel.plot(*zip(*quoted, strict=True), label=f"{kind}, {name}, quoted", markerfacecolor="white", **style)
    if limits.launch_seconds:
        launch = limits.launch_seconds * 1e6
        _draw_limit(panel, launch, f"an empty kernel in a graph: {launch:.2f} µs")
    panel.set_title("Products that a launch binds", fontsize=10)
    panel.set_ylabel("µs")
    panel.set_xticks(range(len(sizes)), sizes, rotation=30, ha="right", rotation_mode="anchor", fontsize=_SMALL)
    panel.set_ylim(0, panel.get_ylim()[1] * 1.3)  # the legend is above the points
    panel.grid(visible=True, linewidth=0.4, alpha=0.5)
    panel.legend(fontsize=_SMALL, ncols=3, loc="upper left")


# --- networks -------------------------------------------------------------------------------------


def _draw_networks(panel: Any, points: Sequence[Point], limits: Limits) -> None:
    """Images a second of each network, a bar for us and for each rival; a mark where the aim is."""
    del limits  # of which the launches of a network have each their own
    theirs = dict.fromkeys(name for point in points for name in (*point.rivals, *point.quoted))
    names = ["bitmlir", *theirs]
    width = _DODGE * 6 / len(names)
    for number, name in enumerate(names):
        bars = [(at, _images_by(point, name)) for at, point in enumerate(points)]
        bars = [(at + (number - (len(names) - 1) / 2) * width, height) for at, height in bars if height]
        known = f"torch {name}" if any(name in point.rivals for point in points) else name
        label = f"{known}, quoted" if any(name in point.quoted for point in points) else known
        panel.bar(*zip(*bars, strict=True), width=width, label=label, color=f"C{number % 10}")
    aims = [(at, point.images / point.aim) for at, point in enumerate(points) if point.aim]
    if aims:
        panel.plot(*zip(*aims, strict=True), linestyle="none", marker="_", markersize=16, color="black", label="aim")
    panel.set_yscale("log")
    panel.set_title("Whole networks, from bytes to logits", fontsize=10)
    panel.set_ylabel("images a second")
    labels = [f"{point.size}, {point.kind}" for point in points]
    panel.set_xticks(range(len(points)), labels, rotation=40, ha="right", rotation_mode="anchor", fontsize=_SMALL)
    panel.set_ylim(panel.get_ylim()[0], panel.get_ylim()[1] * 8)  # the legend is above the bars
    panel.grid(visible=True, axis="y", linewidth=0.4, alpha=0.5)
    panel.legend(fontsize=_SMALL, ncols=3, loc="upper left")


def _images_by(point: Point, name: str) -> float | None:
    """Images a second that a rival does, or we."""
    faster = 1.0 if name == "bitmlir" else point.times_faster(name)
    rate = point.rate(point.images)
    return rate / faster if rate and faster else None
