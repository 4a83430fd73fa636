"""The limits of the machine, measured: the matrix instruction's rate, copying, an empty launch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from bitmlir import compiler
from bitmlir.lowering.gpu.ceiling import empty_program, expected_sums, instruction_ceiling
from bitmlir.lowering.targets import Target
from bitmlir.runtime.driver import Device, DeviceArray, call
from bitmlir.tools.bench.report import Instruction, Limits
from bitmlir.tools.bench.rivals import copy_timing
from bitmlir.tools.bench.timing import Timing, graph_timing, queuer, recorder

__all__ = ["measure_limits"]

_CEILING_REPEATS = 2000  # about a millisecond on Hopper: what surrounds the loop does not count
_COPIED_BYTES = 1 << 29  # far more than any L2 cache holds


def measure_limits(device: Device, targets: Iterable[Target], torch: Any, repeats: int, *, cached: bool) -> Limits:
    """Measure them all; `torch` may be None.

    Raises:
        DeviceError: the driver reported an error.
    """
    targets = list(targets)
    copies = _copy_timings(device, repeats)
    if torch is not None:
        copies["torch copy_"] = copy_timing(torch, device, _COPIED_BYTES, repeats)
    rates = {name: 2 * _COPIED_BYTES / timing.median for name, timing in copies.items()}
    return Limits(
        instructions={target.name: _instruction(device, target, repeats, cached) for target in targets},
        copy_bytes_per_second=max(rates.values()),
        copies=rates,
        launch_seconds=_program_timing(device, empty_program(targets[0]), targets[0], repeats, cached)[0].median,
    )


def _instruction(device: Device, target: Target, repeats: int, cached: bool) -> Instruction:
    ceiling = instruction_ceiling(target, device.sm_count, _CEILING_REPEATS)
    timing, sums = _program_timing(device, ceiling.text, target, repeats, cached)
    is_exact = bool((sums == expected_sums(target, _CEILING_REPEATS)).all())
    return Instruction(ceiling.instruction, ceiling.operations / timing.median, is_exact, timing)


def _program_timing(device: Device, text: str, target: Target, repeats: int, cached: bool) -> tuple[Timing, np.ndarray]:
    """How long a program without arguments takes, and its result."""
    call_ = compiler.compile(text, target.name, cached=cached).bind()
    return graph_timing(device, recorder(device, [call_.run]), repeats), call_()


def _copy_timings(device: Device, repeats: int) -> dict[str, Timing]:
    """The driver's copy, alone and as a node of a graph, where it may be done by another engine."""
    source, target = (DeviceArray.empty((_COPIED_BYTES,), np.dtype(np.uint8), device) for _ in range(2))
    with device.active():
        call("cuMemsetD8", source.address, 0x5A, _COPIED_BYTES)

    def copy(stream: int) -> None:
        call("cuMemcpyDtoDAsync", target.address, source.address, _COPIED_BYTES, stream)

    ways = {"cuMemcpyDtoDAsync": queuer([copy]), "the same in a graph": recorder(device, [copy])}
    return {name: graph_timing(device, way, repeats) for name, way in ways.items()}
