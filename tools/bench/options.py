"""What the commands of `bitmlir-bench` that measure share: options that name problems and say how to measure them."""

from __future__ import annotations

import difflib
import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import click

from bitmlir.dialects.errors import InputError, ShapeError
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench.problems import Problem, Product
from bitmlir.tools.bench.suites import ALL, SUITES, Suite, suites_named
from bitmlir.tools.cli import as_target

__all__ = ["SUITE_LIST", "Request", "request_options"]

SUITE_LIST = "Suites: " + "; ".join(f"{suite.name}: {suite.summary}" for suite in SUITES.values())
"""For the end of a command's help."""


@dataclass(frozen=True)
class Request:
    """What is to be measured, for which target, how often, with operands of which seed."""

    suites: list[Suite]
    target: str
    repeats: int
    seed: int
    cached: bool


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
_count = functools.partial(click.option, metavar="N", show_default=True)

_OPTIONS = (
    click.argument("suites", metavar="[SUITE]...", nargs=-1, callback=_as_suites),
    _size("-m", "--m", help="Rows of lhs and of the result. Options that are given more than once are a sweep."),
    _size("-n", "--n", help="Rows of rhs, columns of the result."),
    _size("-k", "--k", help="Elements in a row of lhs and of rhs."),
    _encoding("--lhs", help="Such as u1 to u8, i2 to i8, bipolar, ternary."),
    _encoding("--rhs", help="The same for the other operand, the weights."),
    click.option("--out", metavar="RESULT", multiple=True, help="Such as i32, f16, bit, u4; i32 if not given."),
    click.option(
        "--only", metavar="TEXT", multiple=True, help="Of suites, problems whose size and kind hold one of these texts."
    ),
    click.option("--rotate", is_flag=True, help="Let copies of rhs take turns, so that it comes from memory."),
    click.option(
        "--target", default="auto", metavar="NAME", callback=as_target, help="cpu, a chip, or auto: what the GPU has."
    ),
    _count("--repeat", type=click.IntRange(min=1), default=20, help="How often to measure."),
    _count("--seed", type=click.IntRange(min=0), default=0, help="Of the operands."),
    click.option("--no-cache", is_flag=True, help="Neither read nor fill the compile cache."),
)  # fmt: skip


def request_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command these options; it is called with the `Request` that they make, and with its own options."""

    @functools.wraps(command)
    def with_request(
        *,
        suites: tuple[str, ...],
        only: tuple[str, ...],
        rotate: bool,
        target: str,
        repeat: int,
        seed: int,
        no_cache: bool,
        **others: Any,
    ) -> int:
        sweep = {name: others.pop(name) for name in ("m", "n", "k", "lhs", "rhs", "out")}
        if suites and any(sweep.values()):
            raise click.UsageError("name suites, or give sizes and encodings, but not both")
        if only and not suites:
            raise click.UsageError("--only chooses from suites: name some")
        chosen = _only(suites_named(suites), only) if suites else [_sweep(sweep, rotate)]
        return command(Request(chosen, target, repeat, seed, not no_cache), **others)

    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(_OPTIONS), with_request)


def _only(suites: list[Suite], texts: tuple[str, ...]) -> list[Suite]:
    """The problems of suites whose names for people hold one of these texts; all of them if there are none."""

    def is_meant(problem: Problem) -> bool:
        return not texts or any(text in f"{problem.size}, {problem.kind}" for text in texts)

    chosen = [replace(suite, problems=tuple(filter(is_meant, suite.problems))) for suite in suites]
    if not any(suite.problems for suite in chosen):
        names = ", ".join(suite.name for suite in suites)
        raise click.UsageError(f"--only: no problem of {names} holds {' or '.join(map(repr, texts))}")
    return chosen


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
