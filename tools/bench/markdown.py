"""A report as tables in Markdown, for docs/performance.md: one section a suite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import InputError
from bitmlir.tools.bench.report import Limits, Point, Report

__all__ = ["inserted", "markdown"]

BEGIN, END = "<!-- tables of one run: from its JSON -->\n", "<!-- end of the tables -->\n"
"""What the tables stand between in a page."""

_MANY = 64  # images from which on it is a rate that counts

Cell = Callable[[Point], str]
Key = Callable[[Point], Any]
Columns = dict[str, Cell]


# --- cells ----------------------------------------------------------------------------------------


def _number(value: float | None, form: str = "{:.3g}") -> str:
    return "" if value is None else form.format(value)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    micros = seconds * 1e6
    return f"{micros:.3g} µs" if micros < 1000 else f"{micros / 1e3:.3g} ms"


def _took(point: Point) -> str:
    return _time(point.seconds)


def _pops(point: Point) -> str:
    return _number(point.rate(point.operations * 1e-15) if point.operations else None)


def _sustained(point: Point) -> str:
    seconds = point.timing and point.timing.sustained
    return _number(point.operations / seconds * 1e-15 if seconds else None)


def _terabytes(point: Point) -> str:
    return _number(point.rate(point.bytes * 1e-12), "{:.2f}")


def _rival(*names: str) -> Cell:
    """How many times as long the first of these takes that is known."""

    def cell(point: Point) -> str:
        times = (point.times_faster(name) for name in names)
        return _number(next((each for each in times if each), None), "{:.3g} ×")

    return cell


def _problem(name: str) -> Cell:
    return lambda point: str(point.problem[name])


def _operands(point: Point) -> str:
    return point.kind.partition(" →")[0]


def _result(point: Point) -> str:
    return point.kind.partition("→ ")[2]


def _planes(point: Point) -> str:
    return " × ".join(str(Encoding.parse(point.problem[side]).bits) for side in ("lhs", "rhs"))


def _of_the_unit(point: Point) -> str:
    """The share of what the matrix instruction does alone."""
    return _number(point.floor["unit"] / point.seconds if "unit" in point.floor and point.seconds else None, "{:.0%}")


def _of_copying(point: Point) -> str:
    return _number(
        point.floor["memory"] / point.seconds if "memory" in point.floor and point.seconds else None, "{:.0%}"
    )


def _rate(images: float) -> str:
    return f"{images / 1e6:.3g} M" if images >= 1e6 else f"{images / 1e3:.3g} k"


def _images_per_second(point: Point) -> str:
    rate = point.rate(point.images)
    return _rate(rate) if rate else ""


def _aim(point: Point) -> str:
    """What is aimed at, a time or for many images a rate, in bold where it is missed."""
    if point.aim is None or point.seconds is None:
        return ""
    aim = f"{_rate(point.images / point.aim)} images/s" if point.images >= _MANY else _time(point.aim)
    return aim if point.seconds <= point.aim else f"**{aim}**"


def _shares(point: Point) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in point.shares().items())


# --- sections -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Section:
    """How the points of suites are shown.

    rows: what is the same in a row; by default each point has one of its own. across: the points of a row, which have
    columns each. shared: columns at the beginning, by the first point of a row.
    """

    suites: tuple[str, ...]
    title: str
    shared: Columns = field(default_factory=dict)
    columns: Columns = field(default_factory=dict)
    rows: Key | None = None
    across: Key | None = None
    note: str = ""

    def table(self, points: Sequence[Point]) -> Iterator[str]:
        """The lines of the table; columns that no point has anything for are left out."""
        if self.rows is None or self.across is None:
            columns = self.shared | self.columns
            yield from _table(columns, ([cell(point) for cell in columns.values()] for point in points))
            return
        across = self.across
        series = list(dict.fromkeys(across(point) for point in points))
        headings = [*self.shared, *(f"{one}{', ' * bool(name)}{name}" for one in series for name in self.columns)]
        yield from _table(headings, self._rows(points, self.rows, across, series))

    def _rows(self, points: Sequence[Point], row: Key, across: Key, series: Sequence[Any]) -> Iterator[list[str]]:
        ordered: dict[Any, dict[Any, Point]] = {}
        for point in points:
            ordered.setdefault(row(point), {})[across(point)] = point
        for of_row in ordered.values():
            cells = [cell(next(iter(of_row.values()))) for cell in self.shared.values()]
            for one in series:
                cells += [cell(of_row[one]) if one in of_row else "" for cell in self.columns.values()]
            yield cells


def _table(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    listed, headings = list(rows), list(headings)
    shown = [number for number in range(len(headings)) if any(row[number] for row in listed)]
    yield "| " + " | ".join(headings[number] for number in shown) + " |"
    yield "|" + "---|" * len(shown)
    for row in listed:
        yield "| " + " | ".join(row[number] for number in shown) + " |"


_INT8, _FP8, _BF16, _FP16 = (_rival(name) for name in ("int8", "fp8", "bf16", "fp16"))
_SPEED: Columns = {"time": _took, "POPS": _pops, "sustained": _sustained}

_SECTIONS = (
    _Section(
        ("square", "deep"),
        "±1 × ±1",
        {"m = n, k": lambda point: point.size, "result": _problem("out")},
        _SPEED
        | {"cuBLAS int8 takes": _INT8, "fp8": _FP8, "bf16": _BF16}
        | {"CUTLASS (i32), fp-cuda (bit), quoted": _rival("CUTLASS", "fp-cuda")},
    ),
    _Section(
        ("any-width",),
        "Any width, 8192³, f16 result scaled by column",
        {"activations × weights": _operands, "planes": _planes},
        _SPEED | {"of the unit": _of_the_unit, "cuBLAS int8 takes": _INT8, "fp8": _FP8},
    ),
    _Section(
        ("skinny",),
        "Few rows against weights that come from memory, f16 result, µs and TB/s",
        {"n = k": _problem("n"), "rows": _problem("m"), "activations": _problem("lhs")},
        {"": lambda point: f"{_took(point)}, {_terabytes(point)}" if point.seconds else ""},
        rows=lambda point: (point.problem["n"], point.problem["m"], point.problem["lhs"]),
        across=lambda point: point.problem["rhs"],
    ),
    _Section(
        ("small",),
        "64 rows, i32 result, by CUDA graph",
        {"n = k": _problem("n")},
        {"time": _took, "APNN-TC (quoted) takes": _rival("APNN-TC"), "cuBLAS int8 takes": _INT8},
        rows=lambda point: point.problem["n"],
        across=_operands,
    ),
    _Section(
        ("sm80",),
        "cp.async, ldmatrix and mma.sync, the kernels of Ampere and Ada",
        {"m = n = k": _problem("m")},
        {"time": _took, "POPS": _pops, "CUTLASS (quoted) takes": _rival("CUTLASS")},
        rows=lambda point: point.problem["m"],
        across=_result,
    ),
    _Section(
        ("epilogues",),
        "What becomes of ±1 × ±1 at 8192³",
        {"result": _result},
        {"time": _took, "POPS": _pops, "cuBLAS int8 takes": _INT8},
    ),
    _Section(
        ("bitmaps",),
        "Nine tiles in ten empty",
        {"m = n, k": lambda point: point.size, "result": _problem("out")},
        {"time": _took, "POPS": _pops, "the dense product takes": _rival("dense")},
        note="Tiles of 128 × 1024 bits of the left operand, drawn at random; POPS count the whole product.",
    ),
    _Section(
        ("batch", "search"),
        "Batches, groups and searches",
        {"problem": lambda point: point.size, "operands → result": lambda point: point.kind},
        {"time": _took, "POPS": _pops, "TB/s": _terabytes},
    ),
    _Section(
        ("conv",),
        "Convolutions, 512 images, 3×3",
        {"images, filters": lambda point: point.size, "operands → result": lambda point: point.kind},
        _SPEED | {"of the unit": _of_the_unit, "cuDNN fp16 takes": _FP16, "of the launches one by one": _shares},
    ),
    _Section(
        ("conv-apnn",),
        "3×3 convolutions of 16×16 images, i32 result, by CUDA graph",
        {"images": _problem("images"), "C = O": _problem("channels")},
        {"time": _took, "aim": _aim, "APNN-TC (quoted) takes": _rival("APNN-TC"), "cuDNN fp16 takes": _FP16},
        rows=lambda point: (point.problem["images"], point.problem["channels"]),
        across=_operands,
        note="An aim, two thirds of APNN-TC's time where its kernel is right, is in bold where it is missed.",
    ),
    _Section(
        ("networks",),
        "Whole networks, from bytes to logits, by CUDA graph",
        {"network": _problem("name"), "": lambda point: point.kind, "batch": _problem("batch")},
        {"time": _took, "images/s": _images_per_second, "aim": _aim, "POPS": _pops}
        | {"torch fp16 takes": _FP16, "torch.compile, fp16": _rival("fp16 compiled")}
        | {"TCBNN (quoted)": _rival("TCBNN")},
        note="The rivals of torch are networks of the same layers in fp16, channels last, by CUDA graph. An aim is in "
        "bold where it is missed.",
    ),
    _Section(
        ("networks",),
        "The share of each layer",
        {"network": _problem("name"), "": lambda point: point.kind, "batch": _problem("batch")},
        {"of the sum of all launches, each timed alone": _shares},
    ),
    _Section(
        ("pack",),
        "Packing on the GPU, 8192²",
        {"source": _problem("source"), "to": _result},
        {"time": _took, "TB/s, read plus written": _terabytes, "of copying": _of_copying},
    ),
)

_OTHER: dict[str, Cell] = {
    "problem": lambda point: point.size,
    "operands → result": lambda point: point.kind,
    "target": lambda point: point.target,
    "time": _took,
    "POPS": _pops,
    "images/s": _images_per_second,
    "TB/s": _terabytes,
}


def markdown(report: Report) -> str:
    """The tables of a report, and the limits that were measured with it.

    A point whose result was wrong or that could not be measured is named with its fault at the end.
    """
    known = {suite for section in _SECTIONS for suite in section.suites}
    own = [
        _Section((suite,), suite, _OTHER)
        for suite, _ in groupby(report.points, lambda p: p.suite)
        if suite not in known
    ]
    blocks = [_limits(report.limits)] if report.limits.instructions else []
    for section in (*_SECTIONS, *own):
        points = [p for suite in section.suites for p in report.points if p.suite == suite and p.exact]
        if points:
            note = [section.note, ""] if section.note else []
            targets = ", ".join(dict.fromkeys(point.target for point in points))
            blocks.append("\n".join([f"### {section.title}, {targets}", "", *note, *section.table(points)]))
    faults = [f"- {p.suite}, {p.size}, {p.kind}: {p.fault}" for p in report.points if not p.exact]
    blocks += ["\n".join(["### Wrong or not measured", "", *faults])] if faults else []
    blocks += ["\n".join(f"- {note}" for note in report.notes)] if report.notes else []
    return "\n\n".join(blocks) + "\n"


def _limits(limits: Limits) -> str:
    rates = ", ".join(
        f"{instruction.name} alone does {instruction.operations_per_second * 1e-15:.3g} POPS"
        for instruction in limits.instructions.values()
    )
    copying = _number(limits.copy_bytes_per_second and limits.copy_bytes_per_second * 1e-12)
    launch = _number(limits.launch_seconds and limits.launch_seconds * 1e6, "{:.2g}")
    return (
        f"### The limits, measured in the same run\n\n{rates};\n"
        f"copying within memory reaches {copying} TB/s, read plus written; "
        f"an empty kernel in a CUDA graph takes {launch} µs."
    )


def inserted(page: str, tables: str, name: str) -> str:
    """A page with these tables in the place of those that it has.

    Raises:
        InputError: it has no place for them; `name` is what the error calls it.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise InputError(f"{name} has no place for tables: it needs the lines {BEGIN.strip()} and {END.strip()}")
    return f"{before}{begin}\n{tables}\n{end}{after}"
