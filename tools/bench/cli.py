"""`bitmlir-bench`: measures suites of products, checks every result, and draws what came out.

Exit codes: 0 fine; 1 a result was wrong, something could not be measured, or there is no GPU; 2 wrong usage; 70 our
fault; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bitmlir.dialects.errors import DeviceError, InputError
from bitmlir.lowering.targets import Target, get_target
from bitmlir.tools.bench.options import SUITE_LIST, Request, request_options
from bitmlir.tools.bench.problems import Convolution, Network, Packing, Product, Search
from bitmlir.tools.cli import (
    BAD_INPUT,
    INTERRUPTED,
    OK,
    read_input,
    require_writable,
    run_command,
    version_line,
    write_output,
)

# numpy, MLIR and torch take seconds to import; --help and wrong usage do without.
if TYPE_CHECKING:
    from bitmlir.runtime.driver import Device
    from bitmlir.tools.bench.report import Report

__all__ = ["main"]

NAME = "bitmlir-bench"

_KEPT_SECONDS = 5.0  # between one writing of a report that is not whole yet and the next


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool on these arguments, by default the process's, and return its exit code."""
    return run_command(NAME, command, argv)


def _show_version(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if asked:
        write_output("-", version_line(NAME))
        context.exit(OK)


def _as_picture(_context: click.Context, _parameter: click.Parameter, file: str | None) -> str | None:
    """Check a file to draw into."""
    if file is not None and not file.lower().endswith(".png"):
        raise click.BadParameter(f"a picture needs a file whose name ends in .png, got '{file}'")
    return file


@click.group(NAME, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def command() -> None:
    """Measure bit-level products beside the limits of the machine and beside other libraries."""


@command.command("run", epilog=SUITE_LIST)
@request_options
@click.option("--no-rivals", is_flag=True, help="Measure no other libraries.")
@click.option(
    "--rival-seconds",
    type=click.FloatRange(min=0),
    metavar="N",
    help="Measure no more of them once that took so long; torch.compile needs some 20 s for a network.",
)
@click.option("--json", "json_file", metavar="FILE", help="Write everything that was measured; '-' is standard output.")
@click.option(
    "--plot", "plot_file", metavar="FILE.png", callback=_as_picture, help="Draw speeds under the limits of the machine."
)
def run(
    request: Request, *, no_rivals: bool, rival_seconds: float | None, json_file: str | None, plot_file: str | None
) -> int:
    """Measure suites, or products of given sizes and encodings.

    \b
        bitmlir-bench run all --json all.json --plot all.png
        bitmlir-bench run square deep --json square.json --plot square.png
        bitmlir-bench run networks --rival-seconds 240 --json networks.json
        bitmlir-bench run -m 16 -n 8192 -k 8192 --lhs u8 --rhs bipolar --rhs i2 --rotate

    Every result is compared with an oracle in the same run: all elements by torch where that is installed, else sampled
    rows by numpy; of networks plain numpy computes some inputs. Times are medians, on a GPU between events round a CUDA
    graph. The suite 'all' stands for all but 'smoke'. Ctrl-C ends the measurements: what there is of them is shown and
    written. The JSON is written every few seconds, so that a run that is killed leaves what it had.
    """
    _require_apart(json_file, plot_file)
    for file in filter(None, (json_file, plot_file)):
        require_writable(file)
    _require("rich", "the table")
    if plot_file is not None:
        _require("matplotlib", "--plot")
    machine = _machine(request.target)
    seconds = 0.0 if no_rivals else math.inf if rival_seconds is None else rival_seconds
    keep = _keeper(json_file)
    report, is_whole = _measured(request, *machine, rivals=not no_rivals, rival_seconds=seconds, keep=keep)
    if json_file is not None:
        write_output(json_file, report.to_json())
    if json_file != "-":
        from bitmlir.tools.bench.table import print_report

        print_report(report)
    if plot_file is not None:
        from bitmlir.tools.bench.plot import picture

        write_output(plot_file, picture(report))
    if not is_whole:
        return INTERRUPTED
    return OK if all(point.exact for point in report.points) else BAD_INPUT


@command.command("tune", epilog=SUITE_LIST)
@request_options
@click.option(
    "--top", type=click.IntRange(min=1), default=12, metavar="N", show_default=True, help="How many tiles to measure."
)
@click.option(
    "--table", "table_file", metavar="FILE", help="The table to add to; if not given, your own one in the cache folder."
)
def tune(request: Request, *, top: int, table_file: str | None) -> int:
    """Find the fastest tiles for the products, convolutions and searches of suites, for the layers of networks, or for
    products of given sizes and encodings.

    \b
        bitmlir-bench tune square deep
        bitmlir-bench tune networks --only resnet18
        bitmlir-bench tune -m 16 -n 8192 -k 8192 --lhs u8 --rhs bipolar --rhs i2 --rotate --top 20

    Of each of them the tiles that the cost model expects most of are compiled, checked and timed. The fastest goes into
    a table, with all timings, the device, its clocks and the tools; what the table had for other products stays.
    Compiling looks into the table that BITMLIR_TUNING names, into your own and into bitmlir's, in this order.
    """
    if request.target == "cpu":
        raise click.UsageError("--target: tiles are for GPU kernels, but the target is 'cpu'")
    problems = [p for suite in request.suites for p in suite.problems if not isinstance(p, Packing)]
    if not problems:
        names = ", ".join(suite.name for suite in request.suites)
        raise click.UsageError(f"{names}: packing has no tiles to choose; name suites of products or convolutions")
    _require("rich", "the progress bar")
    device = _gpu("tiles are measured on the GPU that they are for")
    return _tuned(request, problems, device, top, table_file)


@command.command("plot")
@click.argument("source", metavar="FILE.json")
@click.argument("picture_file", metavar="OUT.png", callback=_as_picture)
def plot(source: str, picture_file: str) -> int:
    """Draw what 'run --json' wrote, as PNG."""
    _require_apart(source, picture_file)
    require_writable(picture_file)
    _require("matplotlib", "plotting")
    from bitmlir.tools.bench.plot import picture
    from bitmlir.tools.bench.report import Report

    write_output(picture_file, picture(Report.from_json(read_input(source), source)))
    return OK


@command.command("table")
@click.argument("sources", metavar="FILE.json...", nargs=-1, required=True)
@click.option("--into", "page", metavar="FILE.md", help="Put the tables into this page, for those that it has.")
def table(sources: tuple[str, ...], page: str | None) -> int:
    """Print what 'run --json' wrote, of one run or several, as tables in Markdown.

    \b
        bitmlir-bench table all.json --into docs/performance.md

    The page needs two lines that the tables come between; without them '--into' says which.
    """
    from bitmlir.tools.bench.markdown import inserted, markdown
    from bitmlir.tools.bench.report import Report

    tables = "\n".join(markdown(Report.from_json(read_input(source), source)) for source in sources)
    if page is None:
        write_output("-", tables)
    else:
        write_output(page, inserted(read_input(page), tables, page))
    return OK


def _require_apart(*files: str | None) -> None:
    """None of them may take the place of another."""
    paths = [os.path.realpath(file) for file in files if file not in (None, "-")]
    if len(set(paths)) < len(paths):
        raise click.UsageError(f"'{files[-1]}' cannot hold both the JSON and the picture: name two files")


def _require(package: str, use: str) -> None:
    """Before anything is measured, so that no result is lost."""
    if importlib.util.find_spec(package) is None:
        raise InputError(f"{use} needs {package}: pip install 'bitmlir[bench]'")


def _machine(name: str) -> tuple[Target, Device | None]:
    """The target, and the GPU that runs it: None is the CPU, which is never taken unasked."""
    if name == "cpu":
        return get_target(name), None
    device = _gpu("--target cpu measures the CPU's kernels")
    from bitmlir.compiler import resolve_target

    return resolve_target(name), device


def _gpu(without: str) -> Device:
    """The current GPU; `without` is what errors say of doing without one."""
    from bitmlir.runtime.driver import Device, call

    try:
        call("cuInit", 0)  # first, since `Device.current` would advise to compile for the CPU
        return Device.current()
    except DeviceError as error:
        raise DeviceError(f"{error}; {without}") from None


def _keeper(json_file: str | None) -> Callable[[Callable[[], Report]], None]:
    """What writes the report so far into a file, not too often."""
    last = time.monotonic()

    def keep(report: Callable[[], Report]) -> None:
        nonlocal last
        if json_file not in (None, "-") and time.monotonic() - last > _KEPT_SECONDS:
            write_output(json_file, report().to_json())
            last = time.monotonic()

    return keep


def _measured(
    request: Request,
    target: Target,
    device: Device | None,
    *,
    rivals: bool,
    rival_seconds: float,
    keep: Callable[[Callable[[], Report]], None],
) -> tuple[Report, bool]:
    """What was measured, and whether that is all: after an interrupt it is what there was until then. `keep` is told
    after each point how to report what there is."""
    from bitmlir.tools.bench.ahead import Work, compiled_ahead
    from bitmlir.tools.bench.limits import measure_limits
    from bitmlir.tools.bench.machine import describe_device, read_clocks, tool_versions
    from bitmlir.tools.bench.measure import Bench, target_for
    from bitmlir.tools.bench.published import PUBLISHED
    from bitmlir.tools.bench.report import Limits, Point, Report
    from bitmlir.tools.bench.rivals import find_torch

    problems = [(suite, problem) for suite in request.suites for problem in suite.problems]
    works = [Work(problem.spec, target_for(problem, target).name, seed=request.seed) for _, problem in problems]
    torch, note = (None, "") if device is None else find_torch()
    notes = (note,) if device is not None and torch is None else ()
    clocks, limits = {}, Limits()
    if device is not None:
        clocks["before"] = read_clocks(device)
        targets = [get_target(name) for name in dict.fromkeys(work.target for work in works)]
        limits = measure_limits(device, targets, torch, request.repeats, cached=request.cached)
        clocks["after the limits"] = read_clocks(device)
    bench = Bench(
        target,
        device,
        torch,
        limits,
        request.repeats,
        request.seed,
        cached=request.cached,
        rivals=rivals,
        rival_seconds=rival_seconds,
    )
    points: list[Point] = []

    def report(*more: str) -> Report:
        return Report(
            device=describe_device(device),
            tools=tool_versions(),
            clocks=clocks,
            limits=limits,
            points=tuple(points),
            notes=(*notes, *more),
            summaries={suite.name: suite.summary for suite in request.suites},
            quoted={name: PUBLISHED[name].source for point in points for name in point.quoted},
        )

    with compiled_ahead(works, cached=request.cached) as programs, _progress(len(problems)) as advance:
        try:
            for (suite, problem), compiled in zip(problems, programs, strict=True):
                advance(f"{suite.name}: {problem.size}, {problem.kind}")
                points.append(bench.measure(suite.name, problem, compiled))
                keep(lambda: report(f"ended after {len(points)} of {len(problems)} points"))
        except KeyboardInterrupt:
            if not points:
                raise
            notes += (f"interrupted after {len(points)} of {len(problems)} points",)
    if bench.without_rivals:
        notes += (f"rivals of {bench.without_rivals} points were left out, after {rival_seconds:g} s for others",)
    if device is not None:
        clocks["at the end"] = read_clocks(device)
    return report(), len(points) == len(problems)


def _tuned(
    request: Request,
    problems: Sequence[Product | Convolution | Network | Search],
    device: Device,
    top: int,
    table_file: str | None,
) -> int:
    """Tune and write the table; a line on standard output for each product."""
    from bitmlir.compiler import resolve_target
    from bitmlir.lowering.tuning_table import TuningTable
    from bitmlir.tools.bench.machine import describe_device
    from bitmlir.tools.bench.measure import Bench
    from bitmlir.tools.bench.network_layers import layers_as_problems
    from bitmlir.tools.bench.report import Limits
    from bitmlir.tools.bench.rivals import find_torch
    from bitmlir.tools.bench.tune import Tuner, summary, table_for
    from bitmlir.tuning import user_table_path

    target = resolve_target(request.target)
    path = user_table_path(device.name) if table_file is None else Path(table_file)
    existing = TuningTable.load(path) if path.exists() else None
    table = table_for(describe_device(device), existing, str(path))
    table.save(path)  # before anything is measured: it may not be writable
    torch, _ = find_torch()
    bench = Bench(target, device, torch, Limits(), request.repeats, request.seed, cached=request.cached, rivals=False)
    tuner, code = Tuner(bench, top), OK
    parts = [layers_as_problems(p.spec) if isinstance(p, Network) else [p] for p in problems]
    jobs = tuner.jobs(itertools.chain.from_iterable(parts))
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
