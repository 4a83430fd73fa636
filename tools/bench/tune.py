"""Tuning: for each problem the most promising tiles are compiled, checked and timed, and a table keeps the fastest."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bitmlir import compiler
from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.dialects.errors import InputError
from bitmlir.executable import Executable
from bitmlir.grouped_spec import GroupedSpec
from bitmlir.lowering.targets import Target
from bitmlir.lowering.tuning_table import Entry, TuningTable
from bitmlir.lowering.workload import Workload
from bitmlir.search_spec import SearchSpec
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench.ahead import Compiled, Work, compiled_ahead
from bitmlir.tools.bench.machine import read_clocks, tool_versions
from bitmlir.tools.bench.measure import FAULTS, Bench, Operands, fault_text, target_for
from bitmlir.tools.bench.problems import Convolution, Product, Search
from bitmlir.tools.bench.timing import Timing

__all__ = ["Candidate", "Job", "Outcome", "Result", "Tunable", "Tuner", "candidates", "select", "summary", "table_for"]

Tunable = Product | Convolution | Search
"""Problems whose kernels have tiles to choose."""

_ORDER = ("stages", "band")  # what tiles of one shape differ in


@dataclass(frozen=True)
class Candidate:
    """A tile, as its fields and as text, and the seconds that the cost model expects."""

    tile: dict[str, int | bool]
    text: str
    expected: float

    @property
    def shape(self) -> tuple[tuple[str, int | bool], ...]:
        """What it has in common with tiles that differ in little."""
        return tuple(item for item in self.tile.items() if item[0] not in _ORDER)


@dataclass(frozen=True)
class Outcome:
    """What was measured of a candidate; a tile that gave a wrong result or could not run has a fault and no timing."""

    candidate: Candidate
    timing: Timing | None
    fault: str | None = None

    def to_json(self) -> dict[str, Any]:
        """For the table."""
        known: dict[str, Any] = {"tile": self.candidate.tile, "expected": _rounded(self.candidate.expected)}
        known |= {"seconds": [_rounded(seconds) for seconds in self.timing.seconds]} if self.timing else {}
        return known | ({"fault": self.fault} if self.fault else {})


def candidates(
    spec: MatmulSpec | GroupedSpec | Conv2dSpec | SearchSpec, target: Target
) -> tuple[Workload, list[Candidate]]:
    """The workload of a product, convolution or search, and all tiles that are legal for it, those expected to be
    fastest first."""
    from mlir import ir

    from bitmlir.dialects import bit
    from bitmlir.lowering.choose_tiles import plane_products
    from bitmlir.lowering.cost import ranked_tiles, workload_of
    from bitmlir.lowering.gpu.product import ProductProblem
    from bitmlir.lowering.gpu.tiles import tile_fields, tile_text
    from bitmlir.lowering.pipeline import run_pipeline

    context = ir.Context()
    with context, ir.Location.unknown():
        bit.load(context)
        module = compiler.build_module(spec)
        run_pipeline(module, f"bit-decompose{{target={target.name}}}")
        (op,) = plane_products(module.operation)
        problem = ProductProblem(op, target)
        ranked = [Candidate(tile_fields(t), tile_text(t), estimate.seconds) for t, estimate in ranked_tiles(problem)]
        return workload_of(problem), ranked


def select(ranked: Sequence[Candidate], top: int) -> list[Candidate]:
    """So many to measure: for two thirds the best of each shape, kernel families in turn, and those with padded taps;
    then variants of these, also in turn, and the best of more shapes.

    The model tells shapes apart better than families, and better than the number of stages or the order of tiles.
    """
    shapes: dict[Any, list[Candidate]] = {}
    for candidate in ranked:
        shapes.setdefault(candidate.shape, []).append(candidate)
    families: dict[Any, list[list[Candidate]]] = {}
    for variants in shapes.values():
        tile = variants[0].tile
        families.setdefault(("stages" in tile, "padded" in tile), []).append(variants)
    in_turn = [variants for group in itertools.zip_longest(*families.values()) for variants in group if variants]
    leading = in_turn[: max(1, -(-top * 2 // 3))]
    chosen = [variants[0] for variants in leading]
    chosen += [c for group in itertools.zip_longest(*(variants[1:] for variants in leading)) for c in group if c]
    chosen += [variants[0] for variants in in_turn[len(leading) :]]
    return chosen[:top]


def table_for(device: dict[str, Any], existing: TuningTable | None, name: str) -> TuningTable:
    """The table to add to: the one that is there, if it is of this device.

    Raises:
        InputError: it is of another one.
    """
    if existing is not None and existing.device_name != device["name"]:
        raise InputError(
            f"{name} is a table of {existing.device_name}, but this is {device['name']}: name another file with --table"
        )
    return TuningTable(device, "bitmlir-bench tune", existing.entries if existing else ())


@dataclass(frozen=True)
class Job:
    """A problem with the tiles to measure; without any if there is a fault."""

    problem: Tunable
    target: Target
    workload: Workload | None
    candidates: list[Candidate]
    fault: str | None = None


@dataclass(frozen=True)
class Result:
    """What came of a job; there is no entry if no tile ran. fault: why none could."""

    job: Job
    outcomes: list[Outcome]
    entry: Entry | None
    fault: str | None = None

    @property
    def is_wrong(self) -> bool:
        """Whether something could not be measured, or gave a wrong result: each is a fault of ours."""
        return bool(self.fault) or any(outcome.fault for outcome in self.outcomes)


def summary(result: Result) -> str:
    """A line for people, and one for each fault."""
    problem, entry = result.job.problem, result.entry
    name = f"{problem.size}, {problem.kind}, {result.job.target.name}"
    lines = [f"{name}: " + (result.fault or "no tile could be measured")]
    if entry is not None:
        best, first = min(_measured(result.outcomes), key=_median), result.outcomes[0]
        lines = [f"{name}: {entry.seconds * 1e6:.4g} µs with {best.candidate.text}"]
        if first.timing is not None:
            lines[0] += f" (the model's choice: {_median(first) * 1e6:.4g} µs)"
    return "\n".join(lines + [f"  {o.candidate.text}: {o.fault}" for o in result.outcomes if o.fault])


def _rounded(seconds: float) -> float:
    """To as many digits as a table has: more are noise."""
    return float(f"{seconds:.4g}")


def _measured(outcomes: Iterable[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.timing is not None]


def _median(outcome: Outcome) -> float:
    assert outcome.timing is not None
    return outcome.timing.median


@dataclass(frozen=True)
class Tuner:
    """What tunes: where it measures, and how many tiles it tries."""

    bench: Bench
    top: int

    def jobs(self, problems: Iterable[Tunable]) -> list[Job]:
        """What is to be measured, each problem once."""
        distinct = {(target_for(p, self.bench.target), p.spec): p for p in problems}
        return [self._job(problem, target) for (target, _), problem in distinct.items()]

    def _job(self, problem: Tunable, target: Target) -> Job:
        from mlir import ir

        try:
            workload, ranked = candidates(problem.spec, target)
        except (*FAULTS, ir.MLIRError) as error:  # pyright: ignore[reportAttributeAccessIssue]  # not in the stubs
            return Job(problem, target, None, [], fault_text(error))
        return Job(problem, target, workload, select(ranked, self.top))

    def run(self, jobs: Sequence[Job], advance: Callable[[str], None]) -> Iterator[Result]:
        """Measure jobs in turn, whatever becomes of each; `advance` is told of each tile. All are compiled ahead."""
        works = [Work(job.problem.spec, job.target.name, each.text) for job in jobs for each in job.candidates]
        with compiled_ahead(works, cached=self.bench.cached) as programs:
            waiting = iter(programs)
            for job in jobs:
                yield self._measure(job, [next(waiting) for _ in job.candidates], advance)

    def _measure(self, job: Job, programs: Sequence[Compiled], advance: Callable[[str], None]) -> Result:
        operands: Operands | None = None
        outcomes = []
        for candidate, program in zip(job.candidates, programs, strict=True):
            advance(f"{job.problem.size}, {job.problem.kind}: {candidate.text}")
            try:
                executable = program()
                assert isinstance(executable, Executable)  # networks are not tuned as a whole
                operands = operands or self.bench.operands(job.problem, executable.plan)
                outcomes.append(self._outcome(candidate, executable, operands))
            except FAULTS as error:
                outcomes.append(Outcome(candidate, None, fault_text(error)))
        return Result(job, outcomes, self._entry(job, outcomes), job.fault)

    def _entry(self, job: Job, outcomes: Sequence[Outcome]) -> Entry | None:
        if not (measured := _measured(outcomes)) or job.workload is None:
            return None
        best, tools = min(measured, key=_median), tool_versions()
        details = {
            "date": tools.pop("date"),
            "problem": job.problem.to_json(),
            "tools": tools,
            "clocks": {} if self.bench.device is None else read_clocks(self.bench.device),
            "timings": [outcome.to_json() for outcome in outcomes],
        }
        assert best.timing is not None
        return Entry(job.workload, best.candidate.tile, median(map(_rounded, best.timing.seconds)), details)

    def _outcome(self, candidate: Candidate, executable: Executable, operands: Operands) -> Outcome:
        calls = operands.bind(executable)
        verdict = operands.check(calls[0](), self.bench.torch)
        if verdict.fault is not None:
            return Outcome(candidate, None, f"wrong result: {verdict.fault}")
        return Outcome(candidate, self.bench.timing(calls, sustained=False))
