"""`bitmlir-bench`: measures suites of products, checks every result, and draws what came out.

Exit codes: 0 fine; 1 a result was wrong, something could not be measured, or there is no GPU; 2 wrong usage; 70 our
fault.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib.util
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from bitmlir.dialects.errors import DeviceError, InputError, ShapeError, TargetError
from bitmlir.lowering.targets import Target, get_target
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench.suites import ALL, SUITES, Product, Suite, suites_named
from bitmlir.tools.cli import BAD_INPUT, OK, USAGE, read_input, run_tool, write_output

# numpy, MLIR and torch take seconds to import; --help and wrong usage do without.
if TYPE_CHECKING:
    from bitmlir.runtime.driver import Device
    from bitmlir.tools.bench.report import Point, Report

__all__ = ["main"]

NAME = "bitmlir-bench"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool on these arguments, by default the process's, and return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return run_tool(NAME, lambda: _main(arguments))


def _main(argv: list[str]) -> int:
    try:
        return command.main(argv, NAME, standalone_mode=False) or OK
    except click.UsageError as error:
        print(f"{NAME}: error: {error.format_message()}\nTry '{NAME} --help'.", file=sys.stderr)
        return USAGE
    except MemoryError as error:  # numpy's message says how much was asked for
        print(f"{NAME}: error: not enough memory: {error}", file=sys.stderr)
        return BAD_INPUT


# --- the command line -----------------------------------------------------------------------------


def _as_target(_context: click.Context, _parameter: click.Parameter, name: str) -> str:
    try:
        return name if name == "auto" else get_target(name).name
    except TargetError as error:
        raise click.BadParameter(str(error)) from error


def _as_suites(_context: click.Context, _parameter: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    known = [*SUITES, ALL]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise click.BadParameter(f"unknown suite '{name}': expected {', '.join(known)}{hint}")
    return names


_size = functools.partial(click.option, type=click.IntRange(min=1), metavar="SIZE", multiple=True)
_encoding = functools.partial(click.option, metavar="ENCODING", multiple=True)


@click.group(NAME, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Measure bit-level products beside the limits of the machine and beside other libraries."""


@command.command("run", epilog="Suites: " + "; ".join(f"{suite.name}: {suite.summary}" for suite in SUITES.values()))
@click.argument("suites", metavar="[SUITE]...", nargs=-1, callback=_as_suites)
@_size("-m", "--m", help="Rows of lhs and of the result. Options that are given more than once are a sweep.")
@_size("-n", "--n", help="Rows of rhs, columns of the result.")
@_size("-k", "--k", help="Elements in a row of lhs and of rhs.")
@_encoding("--lhs", help="Such as u1 to u8, i2 to i8, bipolar, ternary.")
@_encoding("--rhs", help="The same for the other operand, the weights.")
@click.option("--out", metavar="RESULT", multiple=True, help="The result: i32 if not given, f32, f16, bf16, bit.")
@click.option("--rotate", is_flag=True, help="Let copies of rhs take turns, so that it comes from memory.")
@click.option(
    "--target", default="auto", metavar="NAME", callback=_as_target, help="cpu, a chip, or auto: what the GPU has."
)
@click.option(
    "--repeat", type=click.IntRange(min=1), default=30, metavar="N", show_default=True, help="How often to measure."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, metavar="N", show_default=True, help="Of the operands.")
@click.option("--no-rivals", is_flag=True, help="Measure no other libraries.")
@click.option("--no-cache", is_flag=True, help="Neither read nor fill the compile cache.")
@click.option("--json", "json_file", metavar="FILE", help="Write everything that was measured; '-' is standard output.")
@click.option("--plot", "plot_file", metavar="FILE", help="Draw a roofline of the products, as PNG.")
def run(
    *,
    suites: tuple[str, ...],
    rotate: bool,
    target: str,
    repeat: int,
    seed: int,
    no_rivals: bool,
    no_cache: bool,
    json_file: str | None,
    plot_file: str | None,
    **sweep: tuple[Any, ...],
) -> int:
    """Measure suites, or products of given sizes and encodings.

    \b
        bitmlir-bench run square deep --json square.json --plot square.png
        bitmlir-bench run -m 16 -n 8192 -k 8192 --lhs u8 --rhs bipolar --rhs i2 --rotate

    Every result is compared with an oracle in the same run: all elements by torch where that is installed, else sampled
    rows by numpy. Times are medians, on a GPU between events round a CUDA graph. The suite 'all' stands for all but
    'smoke'.
    """
    chosen = suites_named(suites) if suites else [_sweep(sweep, rotate)]
    if suites and any(sweep.values()):
        raise click.UsageError("name suites, or give sizes and encodings, but not both")
    _require("rich", "the table")
    if plot_file is not None:
        _require("matplotlib", "--plot")
    resolved, device = _machine(target)
    report = _measured(chosen, resolved, device, repeat, seed, rivals=not no_rivals, cached=not no_cache)
    if json_file is not None:
        write_output(json_file, report.to_json())
    if json_file != "-":
        from bitmlir.tools.bench.table import print_report

        print_report(report)
    if plot_file is not None:
        from bitmlir.tools.bench.plot import draw

        draw(report, plot_file)
    return OK if all(point.exact for point in report.points) else BAD_INPUT


@command.command("tune", epilog="Suites: " + "; ".join(f"{suite.name}: {suite.summary}" for suite in SUITES.values()))
@click.argument("suites", metavar="[SUITE]...", nargs=-1, callback=_as_suites)
@_size("-m", "--m", help="Rows of lhs and of the result. Options that are given more than once are a sweep.")
@_size("-n", "--n", help="Rows of rhs, columns of the result.")
@_size("-k", "--k", help="Elements in a row of lhs and of rhs.")
@_encoding("--lhs", help="Such as u1 to u8, i2 to i8, bipolar, ternary.")
@_encoding("--rhs", help="The same for the other operand, the weights.")
@click.option("--out", metavar="RESULT", multiple=True, help="The result: i32 if not given, f32, f16, bf16, bit.")
@click.option("--rotate", is_flag=True, help="Let copies of rhs take turns, so that it comes from memory.")
@click.option(
    "--target", default="auto", metavar="NAME", callback=_as_target, help="A chip, or auto: what the GPU has."
)
@click.option(
    "--top", type=click.IntRange(min=1), default=12, metavar="N", show_default=True, help="How many tiles to measure."
)
@click.option(
    "--table", "table_file", metavar="FILE", help="The table to add to; if not given, your own one in the cache folder."
)
@click.option(
    "--repeat", type=click.IntRange(min=1), default=20, metavar="N", show_default=True, help="How often to measure."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, metavar="N", show_default=True, help="Of the operands.")
@click.option("--no-cache", is_flag=True, help="Neither read nor fill the compile cache.")
def tune(
    *,
    suites: tuple[str, ...],
    rotate: bool,
    target: str,
    top: int,
    table_file: str | None,
    repeat: int,
    seed: int,
    no_cache: bool,
    **sweep: tuple[Any, ...],
) -> int:
    """Find the fastest tiles for the products of suites, or of given sizes and encodings.

    \b
        bitmlir-bench tune square deep
        bitmlir-bench tune -m 16 -n 8192 -k 8192 --lhs u8 --rhs bipolar --rhs i2 --rotate --top 20

    Of each product the tiles that the cost model expects most of are compiled, checked and timed. The fastest goes into
    a table, with all timings, the device, its clocks and the tools; what the table had for other products stays.
    Compiling looks into the tables that BITMLIR_TUNING names, into your own and into bitmlir's, in this order.
    """
    if suites and any(sweep.values()):
        raise click.UsageError("name suites, or give sizes and encodings, but not both")
    chosen = suites_named(suites) if suites else [_sweep(sweep, rotate)]
    problems = [problem for suite in chosen for problem in suite.problems if isinstance(problem, Product)]
    if target == "cpu":
        raise click.UsageError("--target: tiles are for GPU kernels, but the target is 'cpu'")
    _require("rich", "the progress bar")
    from bitmlir.compiler import resolve_target
    from bitmlir.runtime.driver import Device

    device = Device.current()
    return _tuned(problems, resolve_target(target), device, top, table_file, repeat, seed, cached=not no_cache)


@command.command("plot")
@click.argument("source", metavar="FILE.json")
@click.argument("picture", metavar="OUT.png")
def plot(source: str, picture: str) -> int:
    """Draw what 'run --json' wrote, as PNG."""
    _require("matplotlib", "plotting")
    from bitmlir.tools.bench.plot import draw
    from bitmlir.tools.bench.report import Report

    draw(Report.from_json(read_input(source), source), picture)
    return OK


def _require(package: str, use: str) -> None:
    """Before anything is measured, so that no result is lost."""
    if importlib.util.find_spec(package) is None:
        raise InputError(f"{use} needs {package}: pip install 'bitmlir[bench]'")


def _sweep(sweep: dict[str, tuple[Any, ...]], rotate: bool) -> Suite:
    """Every combination of the sizes, encodings and results that were given."""
    if missing := [name for name in ("m", "n", "k", "lhs", "rhs") if not sweep[name]]:
        flags = ", ".join(f"-{name}" if len(name) == 1 else f"--{name}" for name in missing)
        raise click.UsageError(f"name a suite ({', '.join([*SUITES, ALL])}), or give {flags}")
    values = sweep | {"out": sweep["out"] or ("i32",)}
    combinations: list[dict[str, Any]] = [
        dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())
    ]
    try:
        specs = [MatmulSpec(**fields) for fields in combinations]
    except ShapeError:  # the options are fine, but the sums of this product could leave int32
        raise
    except InputError as error:
        raise click.UsageError(str(error)) from error
    return Suite("sweep", "products given on the command line", tuple(Product(s, rotated=rotate) for s in specs))


# --- measuring ------------------------------------------------------------------------------------


def _machine(name: str) -> tuple[Target, Device | None]:
    """The target, and the GPU that runs it: None is the CPU, which is never taken unasked."""
    if name == "cpu":
        return get_target(name), None
    from bitmlir.compiler import resolve_target
    from bitmlir.runtime.driver import Device

    try:
        device = Device.current()
    except DeviceError as error:
        raise DeviceError(f"{error}; --target cpu measures the CPU's kernels") from None
    return resolve_target(name), device


def _measured(
    suites: Sequence[Suite],
    target: Target,
    device: Device | None,
    repeats: int,
    seed: int,
    *,
    rivals: bool,
    cached: bool,
) -> Report:
    from bitmlir.tools.bench.limits import measure_limits
    from bitmlir.tools.bench.machine import describe_device, read_clocks, tool_versions
    from bitmlir.tools.bench.measure import Session, target_for
    from bitmlir.tools.bench.report import Limits, Report
    from bitmlir.tools.bench.rivals import find_torch

    problems = [(suite.name, problem) for suite in suites for problem in suite.problems]
    torch, note = (None, "") if device is None else find_torch()
    notes = (note,) if device is not None and torch is None else ()
    clocks, limits = {}, Limits()
    if device is not None:
        clocks["before"] = read_clocks(device)
        targets = {found.name: found for _, problem in problems if (found := target_for(problem, target))}
        limits = measure_limits(device, targets.values(), torch, repeats, cached=cached)
        clocks["after the limits"] = read_clocks(device)
    session = Session(target, device, torch, limits, repeats, seed, cached, rivals)
    points: list[Point] = []
    with _progress(len(problems)) as advance:
        for suite, problem in problems:
            advance(f"{suite}: {problem.size}, {problem.kind}")
            points.append(session.measure(suite, problem))
    if device is not None:
        clocks["at the end"] = read_clocks(device)
    return Report(describe_device(device), tool_versions(), clocks, limits, tuple(points), notes)


def _tuned(
    problems: Sequence[Product],
    target: Target,
    device: Device,
    top: int,
    table_file: str | None,
    repeats: int,
    seed: int,
    *,
    cached: bool,
) -> int:
    """Tune and write the table; a line on standard output for each product."""
    from pathlib import Path

    from bitmlir.lowering.tuning_table import TuningTable
    from bitmlir.tools.bench.machine import describe_device
    from bitmlir.tools.bench.measure import Session
    from bitmlir.tools.bench.report import Limits
    from bitmlir.tools.bench.rivals import find_torch
    from bitmlir.tools.bench.tune import Tuner, summary, table_for
    from bitmlir.tuning import user_table_path

    path = user_table_path(device.name) if table_file is None else Path(table_file)
    existing = TuningTable.load(path) if path.exists() else None
    table = table_for(describe_device(device), existing, str(path))
    session = Session(target, device, find_torch()[0], Limits(), repeats, seed, cached, rivals=False)
    tuner, code = Tuner(session, top), OK
    jobs = tuner.jobs(problems)
    with _progress(sum(len(job.candidates) for job in jobs)) as advance:
        for result in tuner.run(jobs, advance):
            if result.entry is not None:
                table = table.merged([result.entry])
                table.save(path)
            print(summary(result), flush=True)
            code = BAD_INPUT if result.is_wrong else code
    print(f"{len(table.entries)} products in {path}", file=sys.stderr)
    return code


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on standard error where that is a terminal, else a line for each step."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        numbers = itertools.count(1)
        yield lambda text: print(f"{NAME}: {next(numbers)} of {total}: {text}", file=sys.stderr, flush=True)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        done = itertools.count()
        yield lambda text: progress.update(task, completed=next(done), description=text)


if __name__ == "__main__":
    sys.exit(main())
