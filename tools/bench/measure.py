"""Measuring one problem: compile it, run it on random operands, check the result, time it, time the rivals."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from bitmlir import compiler
from bitmlir.device import to_device
from bitmlir.dialects.errors import BitmlirError
from bitmlir.executable import BoundCall, Executable
from bitmlir.formats.packed import Packed
from bitmlir.lowering.targets import TARGETS, Target
from bitmlir.runtime.driver import Device, DeviceArray
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.runtime.plan import Buffer, Launch, Plan, Value
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench.machine import l2_bytes, read_clocks
from bitmlir.tools.bench.operands import epilogue_arguments, packing_source, random_packed
from bitmlir.tools.bench.oracle import Verdict, check_packing, check_product
from bitmlir.tools.bench.report import Limits, Point
from bitmlir.tools.bench.rivals import rival_timings
from bitmlir.tools.bench.suites import Packing, Problem, Product
from bitmlir.tools.bench.timing import Timing, graph_timing, recorder, wall_timing

__all__ = ["ProductOperands", "Session", "target_for"]

_L2_FILLS = 3  # rotated weights are so many times the L2 cache
_CPU_COPIES = 2


def target_for(problem: Problem, target: Target) -> Target:
    """The target of a run, or for portable problems the newest one before it that later chips run too."""
    if not problem.portable or target.capability is None or target.forward_compatible:
        return target
    older = [t for t in TARGETS.values() if t.forward_compatible and t.capability and t.capability <= target.capability]
    return max(older, key=lambda t: t.capability or (0, 0))


@dataclass(frozen=True)
class ProductOperands:
    """A product's operands on the host, and where it is to find lhs and each copy of the weights."""

    spec: MatmulSpec
    lhs: Packed
    weights: Packed
    named: dict[str, np.ndarray]
    placed: list[tuple[Packed, Packed]]

    def bind(self, executable: Executable) -> list[BoundCall]:
        """The product with each copy of the weights."""
        return [executable.bind(lhs, weights, **self.named) for lhs, weights in self.placed]

    def check(self, result: Any, torch: Any) -> Verdict:
        """Whether the result with the first copy is right."""
        return check_product(self.spec, self.lhs, self.weights, self.named, result, torch)


@dataclass(frozen=True)
class Session:
    """What the points of a run share. device: None is the CPU; torch: None if there is none."""

    target: Target
    device: Device | None
    torch: Any
    limits: Limits
    repeats: int
    seed: int
    cached: bool
    rivals: bool
    _rival_timings: dict[tuple[tuple[int, int, int], int], dict[str, Timing]] = field(default_factory=dict)

    def measure(self, suite: str, problem: Problem) -> Point:
        """Measure and check; a problem that cannot be is a point with its fault."""
        target = target_for(problem, self.target)
        try:
            executable = compiler.compile(problem.spec, target.name, cached=self.cached)
            rng = np.random.default_rng(self.seed)
            if isinstance(problem, Product):
                calls, verdict = self._product(problem, executable, rng)
            else:
                calls, verdict = self._packing(problem, executable, rng)
            timing = self.timing(calls)
        except BitmlirError as error:
            names = {"suite": suite, "size": problem.size, "kind": problem.kind, "problem": problem.to_json()}
            return Point(**names, target=target.name, exact=False, fault=str(error))
        n_bytes = _traffic(problem, executable.plan)
        return Point(
            suite=suite,
            size=problem.size,
            kind=problem.kind,
            problem=problem.to_json(),
            target=target.name,
            exact=verdict.fault is None,
            launches=tuple(_launch(step) for step in executable.plan.steps if isinstance(step, Launch)),
            timing=timing,
            operations=problem.operations,
            bit_operations=problem.operations * problem.planes,
            bytes=n_bytes,
            copies=len(calls),
            floor=self._floor(problem.operations * problem.planes, n_bytes, target),
            checked=verdict.elements,
            fault=verdict.fault,
            rivals=self._rivals(problem),
            clocks={} if self.device is None else read_clocks(self.device),
        )

    # --- running ---

    def _product(
        self, problem: Product, executable: Executable, rng: np.random.Generator
    ) -> tuple[list[BoundCall], Verdict]:
        """The product bound to its operands, once for each copy of the weights, and whether the first is right."""
        operands = self.operands(problem, executable.plan, rng)
        calls = operands.bind(executable)
        return calls, operands.check(calls[0](), self.torch)

    def operands(self, problem: Product, plan: Plan, rng: np.random.Generator) -> ProductOperands:
        """Random operands, also where the product is to find them."""
        spec = problem.spec
        lhs = random_packed(rng, spec.m, spec.k, spec.lhs)
        weights = [random_packed(rng, spec.n, spec.k, spec.rhs)]
        for _ in range(self._copies(problem, weights[0].planes.nbytes) - 1):
            weights.append(random_packed(rng, spec.n, spec.k, spec.rhs))
        named = epilogue_arguments(rng, spec, plan)
        x = self._placed(lhs)
        placed = [(x, self._placed(w)) for w in weights]
        return ProductOperands(spec, lhs, weights[0], named, placed)

    def _packing(
        self, problem: Packing, executable: Executable, rng: np.random.Generator
    ) -> tuple[list[BoundCall], Verdict]:
        source = packing_source(rng, problem.spec)
        call = executable.bind(source if self.device is None else DeviceArray.from_numpy(source))
        return [call], check_packing(problem.spec, source, call())

    def _placed(self, packed: Packed) -> Packed:
        return packed if self.device is None else to_device(packed)

    def _weight_bytes(self, problem: Product) -> int:
        """How much memory the copies of the weights must fill."""
        return _L2_FILLS * l2_bytes(self.device) if problem.rotated and self.device is not None else 0

    def _copies(self, problem: Product, n_bytes: int) -> int:
        if self.device is None:
            return _CPU_COPIES if problem.rotated else 1
        return max(1, math.ceil(self._weight_bytes(problem) / n_bytes))

    # --- timing ---

    def timing(self, calls: Sequence[BoundCall], *, sustained: bool = True) -> Timing:
        """How long calls take that take turns; `sustained`: also without rests."""
        if self.device is None:
            return wall_timing([call.run for call in calls], self.repeats)
        queues = [call.run for call in calls]
        record = recorder(self.device, queues)
        return graph_timing(self.device, record, self.repeats, len(calls), sustained=sustained)

    def _rivals(self, problem: Problem) -> dict[str, Timing]:
        """Measured once for each shape of a run."""
        if not isinstance(problem, Product) or self.torch is None or self.device is None or not self.rivals:
            return {}
        size, n_bytes = (problem.spec.m, problem.spec.n, problem.spec.k), self._weight_bytes(problem)
        if (size, n_bytes) not in self._rival_timings:
            timings = rival_timings(self.torch, self.device, size, n_bytes, self.repeats)
            self._rival_timings[size, n_bytes] = timings
        return self._rival_timings[size, n_bytes]

    def _floor(self, bit_operations: int, n_bytes: int, target: Target) -> dict[str, float]:
        limits, floor = self.limits, {}
        if bit_operations and target.name in limits.instructions:
            floor["unit"] = bit_operations / limits.instructions[target.name]["operations_per_second"]
        if limits.copy_bytes_per_second:
            floor["memory"] = n_bytes / limits.copy_bytes_per_second
        if limits.launch_seconds:
            floor["launch"] = limits.launch_seconds
        return floor


def _launch(step: Launch) -> dict[str, Any]:
    fields = asdict(step)
    return {name: fields[name] for name in ("kernel", "grid", "block", "shared_bytes")}


def _traffic(problem: Problem, plan: Plan) -> int:
    """Bytes that must move: of arguments and results, each once; of rotated weights those of their planes."""
    if isinstance(problem, Product) and problem.rotated:
        return _bytes(plan.buffer(_argument(plan, "rhs").buffers["planes"]))
    names = {name for value in (*plan.arguments, *plan.results) for name in value.buffers.values()}
    return sum(_bytes(buffer) for buffer in plan.buffers if buffer.name in names)


def _argument(plan: Plan, name: str) -> Value:
    return next(value for value in plan.arguments if value.name == name)


def _bytes(buffer: Buffer) -> int:
    return functools.reduce(int.__mul__, buffer.shape, numpy_dtype(buffer.dtype).itemsize)
