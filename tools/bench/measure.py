"""Measuring one problem: run it on random operands, check the result, time it, time the rivals."""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from bitmlir import compiler
from bitmlir.arrays import as_numpy
from bitmlir.device import to_device
from bitmlir.dialects.errors import BitmlirError
from bitmlir.executable import BoundCall, Executable
from bitmlir.formats.packed import Packed
from bitmlir.formats.tiles import TileBitmap
from bitmlir.lowering.targets import TARGETS, Target
from bitmlir.runtime.driver import Device, DeviceArray
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.runtime.plan import Buffer, Launch, Plan
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench import oracle
from bitmlir.tools.bench.ahead import Compiled
from bitmlir.tools.bench.aims import aim_of
from bitmlir.tools.bench.machine import l2_bytes, read_clocks
from bitmlir.tools.bench.networks import CompiledNetwork, kernel_name, layers_of_steps, random_images
from bitmlir.tools.bench.operands import random_operands, random_packed
from bitmlir.tools.bench.oracle import Verdict
from bitmlir.tools.bench.problems import Convolution, Network, Problem
from bitmlir.tools.bench.published import quoted_seconds
from bitmlir.tools.bench.report import Limits, Part, Point
from bitmlir.tools.bench.rivals import convolution_timings, network_timings, rival_timings
from bitmlir.tools.bench.timing import Timing, graph_timing, recorder, wall_timing

__all__ = ["FAULTS", "Bench", "Operands", "fault_text", "target_for"]

FAULTS = (BitmlirError, MemoryError, RuntimeError)
"""What may keep a problem from being measured; torch's errors, out of memory among them, are RuntimeErrors."""

_L2_FILLS = 3  # rotated weights are so many times the L2 cache
_CPU_COPIES = 2
_PART_REPEATS = 5


def target_for(problem: Problem, target: Target) -> Target:
    """The target of a run, or for portable problems the newest one before it that later chips run too."""
    if not problem.portable or target.capability is None or target.forward_compatible:
        return target
    older = [t for t in TARGETS.values() if t.forward_compatible and t.capability and t.capability <= target.capability]
    return max(older, key=lambda t: t.capability or (0, 0))


def fault_text(error: BaseException) -> str:
    """What is said of an error; torch adds a page of advice to the first line."""
    if isinstance(error, BitmlirError):
        return str(error)
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


@dataclass(frozen=True)
class Operands:
    """The arguments of a problem on the host, and where it is to find them, once for each copy of the weights."""

    problem: Problem
    host: dict[str, Any]
    placed: list[dict[str, Any]]

    def bind(self, executable: Executable) -> list[BoundCall]:
        """The program with each copy of the weights."""
        return [executable.bind(**arguments) for arguments in self.placed]

    def check(self, result: Any, torch: Any) -> Verdict:
        """Whether the result with the first copy is right."""
        assert not isinstance(self.problem, Network)
        verdict = oracle.check(self.problem.spec, self.host, result, torch)
        if torch is not None:
            torch.cuda.empty_cache()
        return verdict


@dataclass(frozen=True)
class NetworkOperands:
    """A network with its inputs where it is to find them."""

    network: CompiledNetwork
    placed: dict[str, Any]

    def bind(self, executable: Executable) -> list[BoundCall]:
        """The program with its operands."""
        return [executable.bind(**self.placed)]

    def check(self, result: Any, torch: Any) -> Verdict:
        """Whether the sampled logits are right."""
        del torch  # plain numpy has computed them where the network was compiled
        logits = as_numpy(result).reshape(self.network.spec.batch, -1)
        sampled = self.network.sampled
        return oracle.check_rows(logits, sampled, self.network.expected.reshape(len(sampled), -1))


class Bench:
    """Where problems are measured one after the other. It keeps the rivals' timings, and weights for the next problem.

    Attributes:
        target: what programs are compiled for.
        device: where they run; None is the CPU.
        torch: the library, or None if there is none.
        cached: whether compiling uses the cache.
        without_rivals: of how many points the rivals were left out for lack of time.
    """

    def __init__(
        self,
        target: Target,
        device: Device | None,
        torch: Any,
        limits: Limits,
        repeats: int,
        seed: int,
        *,
        cached: bool,
        rivals: bool,
        rival_seconds: float = math.inf,
    ) -> None:
        """limits: of the machine; repeats: how often to measure; seed: of operands; rivals: whether to time them;
        rival_seconds: no more of them once so much time has gone into that."""
        self.target, self.device, self.torch, self.cached = target, device, torch, cached
        self._limits, self._repeats, self._seed, self._times_rivals = limits, repeats, seed, rivals
        self._rival_seconds, self.without_rivals = rival_seconds, 0
        self._rival_timings: dict[Any, dict[str, Timing]] = {}
        self._weights: dict[Any, list[tuple[Packed, Packed]]] = {}

    def measure(self, suite: str, problem: Problem, compiled: Compiled) -> Point:
        """Measure and check; a problem that cannot be is a point with its fault."""
        target = target_for(problem, self.target)
        names = {"suite": suite, "size": problem.size, "kind": problem.kind, "problem": problem.to_json()}
        try:
            program = compiled()
            network = program if isinstance(program, CompiledNetwork) else None
            executable = program.executable if isinstance(program, CompiledNetwork) else program
            operands = self._network_operands(network) if network else self.operands(problem, executable.plan)
            calls = operands.bind(executable)
            verdict = operands.check(calls[0](), self.torch)
            timing = self.timing(calls)
            parts = self._parts(problem, network, calls[0])
            rivals = self._rivals(problem, operands)
        except FAULTS as error:
            return Point(**names, target=target.name, exact=False, fault=fault_text(error))
        operations, bit_operations = _work(problem, network)
        n_bytes = _traffic(problem, executable.plan)
        return Point(
            **names,
            target=target.name,
            exact=verdict.fault is None,
            launches=tuple(_launch(step) for step in executable.plan.steps if isinstance(step, Launch)),
            timing=timing,
            images=network.spec.batch if network else 0,
            parts=parts,
            operations=operations,
            bit_operations=bit_operations,
            bytes=n_bytes,
            copies=len(calls),
            floor=self._floor(bit_operations, n_bytes, target),
            checked=verdict.elements,
            fault=verdict.fault,
            rivals=rivals,
            quoted=quoted_seconds(problem.spec),
            aim=None if self.device is None else aim_of(problem.spec),
            clocks={} if self.device is None else read_clocks(self.device),
        )

    # --- operands ---

    def operands(self, problem: Problem, plan: Plan) -> Operands:
        """Random operands, also where the problem is to find them."""
        copies = self._rotated(problem, plan) if problem.rotated else []
        rhs = {"rhs": copies[0][0]} if copies else {}
        host = random_operands(np.random.default_rng(self._seed), problem, plan, rhs)
        placed = {name: self._placed(value) for name, value in host.items() if name not in rhs}
        return Operands(problem, host, [{**placed, "rhs": copy} for _, copy in copies] or [placed])

    def _network_operands(self, network: CompiledNetwork) -> NetworkOperands:
        images = random_images(network.spec, network.nodes, self._seed)
        return NetworkOperands(network, {"images": self._placed(images)})

    def _rotated(self, problem: Problem, plan: Plan) -> list[tuple[Packed, Packed]]:
        """Copies of the weights, on the host and placed; those of the problem before, if they do."""
        (value,) = (value for value in plan.arguments if value.name == "rhs")
        key = (value.shape, value.encoding or "")
        if key not in self._weights:
            self._weights.clear()
            rng, n_bytes = np.random.default_rng([self._seed, 1]), _bytes(plan.buffer(value.buffers["planes"]))
            copies = [random_packed(rng, *key) for _ in range(self._copies(problem, n_bytes))]
            self._weights[key] = [(copy, self._placed(copy)) for copy in copies]
        return self._weights[key]

    def _placed(self, value: Any) -> Any:
        if self.device is None:
            return value
        return DeviceArray.from_numpy(value) if isinstance(value, np.ndarray) else to_device(value)

    def _weight_bytes(self, problem: Problem) -> int:
        """How much memory the copies of the weights must fill."""
        return _L2_FILLS * l2_bytes(self.device) if problem.rotated and self.device is not None else 0

    def _copies(self, problem: Problem, n_bytes: int) -> int:
        return _CPU_COPIES if self.device is None else max(1, math.ceil(self._weight_bytes(problem) / n_bytes))

    # --- timing ---

    def timing(self, calls: Sequence[BoundCall], *, sustained: bool = True) -> Timing:
        """How long calls take that take turns; `sustained`: also without rests."""
        if self.device is None:
            return wall_timing([call.run for call in calls], self._repeats)
        queues = [call.run for call in calls]
        record = recorder(self.device, queues)
        return graph_timing(self.device, record, self._repeats, len(calls), sustained=sustained)

    def _parts(self, problem: Problem, network: CompiledNetwork | None, call: BoundCall) -> tuple[Part, ...]:
        """The launches of a network or a convolution, one by one."""
        if not isinstance(problem, (Network, Convolution)):
            return ()
        steps = call.steps()
        layers = layers_of_steps(call.plan, network.nodes) if network else [kernel_name(step) for step, _ in steps]
        return tuple(
            Part(layer, getattr(step, "kernel", "memset"), statistics.median(alone.time(_PART_REPEATS)))
            for layer, (step, alone) in zip(layers, steps, strict=True)
        )

    def _rivals(self, problem: Problem, operands: Operands | NetworkOperands) -> dict[str, Timing]:
        """Other libraries, once for each shape of a run; of a product with bitmaps the same without."""
        measure = self._rivals_of(problem, operands)
        if not self._times_rivals or measure is None:
            return {}
        key, timings = measure
        if key not in self._rival_timings:
            if self._rival_seconds <= 0:
                self.without_rivals += 1
                return {}
            begin = time.monotonic()
            self._rival_timings[key] = timings()
            self._rival_seconds -= time.monotonic() - begin
        return self._rival_timings[key]

    def _rivals_of(
        self, problem: Problem, operands: Operands | NetworkOperands
    ) -> tuple[Any, Callable[[], dict[str, Timing]]] | None:
        """What names the rivals' task, and what times them, if there are any."""
        torch, device, repeats, spec = self.torch, self.device, self._repeats, problem.spec
        if isinstance(spec, MatmulSpec) and isinstance(operands, Operands) and (spec.lhs_tiles or spec.rhs_tiles):
            return spec, lambda: {"dense": self._dense_timing(problem, spec, operands)}
        if torch is None or device is None:
            return None
        if isinstance(operands, NetworkOperands):
            network = operands.network  # whose bits change nothing for them
            name, batch, nodes = network.spec.name, network.spec.batch, network.nodes
            return (name, batch), lambda: network_timings(torch, device, nodes, batch, repeats)
        if isinstance(problem, Convolution):
            window = problem.spec.window
            key = (problem.spec.images, window, problem.spec.channels, problem.spec.filters)
            return key, lambda: convolution_timings(torch, device, problem.spec, repeats)
        if not isinstance(spec, MatmulSpec) or spec.batch is not None:
            return None
        size, n_bytes = (spec.m, spec.n, spec.k), self._weight_bytes(problem)
        return (size, n_bytes), lambda: rival_timings(torch, device, size, n_bytes, repeats)

    def _dense_timing(self, problem: Problem, spec: MatmulSpec, operands: Operands) -> Timing:
        dense = replace(spec, lhs_tiles=False, rhs_tiles=False)
        executable = compiler.compile(dense, target_for(problem, self.target).name, cached=self.cached)
        given = {name: value for name, value in operands.placed[0].items() if not isinstance(value, TileBitmap)}
        call = executable.bind(**given)
        if fault := operands.check(call(), self.torch).fault:
            raise BitmlirError(f"without bitmaps: {fault}")
        return self.timing([call])

    def _floor(self, bit_operations: int, n_bytes: int, target: Target) -> dict[str, float]:
        limits, floor = self._limits, {}
        if bit_operations and target.name in limits.instructions:
            floor["unit"] = bit_operations / limits.instructions[target.name].operations_per_second
        if limits.copy_bytes_per_second:
            floor["memory"] = n_bytes / limits.copy_bytes_per_second
        if limits.launch_seconds:
            floor["launch"] = limits.launch_seconds
        return floor


def _launch(step: Launch) -> dict[str, Any]:
    fields = asdict(step)
    return {name: fields[name] for name in ("kernel", "grid", "block", "shared_bytes")}


def _work(problem: Problem, network: CompiledNetwork | None = None) -> tuple[int, int]:
    """2·m·n·k, and the same for each pair of planes without what empty tiles save."""
    if isinstance(problem, Network):
        assert network is not None
        return network.operations, network.bit_operations
    return problem.operations, round(problem.operations * problem.planes * (1 - problem.empty_tiles))


def _traffic(problem: Problem, plan: Plan) -> int:
    """Bytes that must move: of arguments, constants and results each once, but for empty tiles; of rotated weights the
    planes."""
    by_name = {value.name: value for value in plan.arguments}
    if problem.rotated:
        return _bytes(plan.buffer(by_name["rhs"].buffers["planes"]))
    values = (*plan.arguments, *plan.constants, *plan.results)
    names = {name for value in values for name in value.buffers.values()}
    sparse = {by_name[name].buffers["planes"] for name in ("lhs", "rhs") if f"{name}_tiles" in by_name}
    sizes = {buffer.name: _bytes(buffer) for buffer in plan.buffers if buffer.name in names}
    return round(sum(n * (1 - problem.empty_tiles if name in sparse else 1) for name, n in sizes.items()))


def _bytes(buffer: Buffer) -> int:
    return functools.reduce(int.__mul__, buffer.shape, numpy_dtype(buffer.dtype).itemsize)
