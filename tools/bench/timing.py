"""How long runs take: on a GPU by CUDA graphs and events, on the CPU by the clock."""

from __future__ import annotations

import contextlib
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bitmlir.runtime.cuda import Graph
from bitmlir.runtime.driver import Device, call, driver, release
from bitmlir.tools.bench.records import Positive

__all__ = ["Timing", "graph_timing", "queuer", "recorder", "wall_timing"]

_GRAPH_SECONDS = 1e-3  # that one measurement shall take, so that events and the graph's start do not count
_MOST_RUNS = 1000  # in a graph
_COOL_SECONDS = 0.3  # before measurements, and
_REST_SECONDS = 1e-2  # between them: a card at its power limit lowers its clocks within some ten milliseconds
_SUSTAINED_SECONDS = 0.2
_SHORT_SECONDS = 20e-6  # runs that take less are not limited by power

Record = Callable[[Any, int], Callable[[], None]]
"""record(stream, runs): put that many runs into a CUDA graph; returns what launches it on the stream."""


@dataclass(frozen=True)
class Timing:
    """Seconds that one run takes, once for each measurement; `runs`: how many runs a measurement held.

    Between measurements the GPU rests. `sustained` is what a run takes after a while of runs without a rest, where the
    card's power limit lowers the clocks; None where that was not measured.
    """

    seconds: tuple[Positive, ...]
    runs: int
    sustained: Positive | None = None

    def __post_init__(self) -> None:
        if not self.seconds:
            raise ValueError("a timing needs a measurement")

    @property
    def median(self) -> float:
        """The median in seconds."""
        return statistics.median(self.seconds)


def wall_timing(calls: Sequence[Callable[[], None]], repeats: int) -> Timing:
    """Calls in turn, by the clock."""

    def measure() -> float:
        start = time.perf_counter()
        for run in calls:
            run()
        return (time.perf_counter() - start) / len(calls)

    measure()
    return Timing(tuple(measure() for _ in range(repeats)), len(calls))


def queuer(queues: Sequence[Callable[[int], None]]) -> Record:
    """Runs that take turns, each queued by `queue(handle of a stream)`, one by one: for such as take longer than it
    takes to queue them."""

    def launch(stream: Any, runs: int) -> None:
        for number in range(runs):
            queues[number % len(queues)](int(stream))

    return lambda stream, runs: lambda: launch(stream, runs)


def recorder(device: Device, queues: Sequence[Callable[[int], None]]) -> Record:
    """As `queuer`, but queued at once, as a CUDA graph."""
    queue = queuer(queues)

    def record(stream: Any, runs: int) -> Callable[[], None]:
        graph = Graph(device, lambda recorded: queue(recorded, runs)())
        return functools.partial(graph.launch, stream)

    return record


def graph_timing(device: Device, record: Record, repeats: int, cycle: int = 1, *, sustained: bool = True) -> Timing:
    """Measure runs in a CUDA graph, after a warm-up, with rests and, if asked, without.

    cycle: a graph holds a multiple of that many.

    Raises:
        DeviceError: the driver reported an error.
    """
    with device.active(), contextlib.ExitStack() as stack:

        def own(handle: Any, destroy: str) -> Any:
            stack.callback(release, device, destroy, handle)
            return handle

        call("cuCtxSynchronize")  # the new stream does not wait for what other streams still do
        non_blocking = driver().CUstream_flags.CU_STREAM_NON_BLOCKING.value
        stream = own(call("cuStreamCreate", non_blocking), "cuStreamDestroy")
        start, stop = (own(call("cuEventCreate", 0), "cuEventDestroy") for _ in range(2))

        def measure(launch: Callable[[], None]) -> float:
            call("cuEventRecord", start, stream)
            launch()
            call("cuEventRecord", stop, stream)
            call("cuEventSynchronize", stop)
            return call("cuEventElapsedTime", start, stop) * 1e-3

        def rested(launch: Callable[[], None]) -> float:
            time.sleep(_REST_SECONDS)
            return measure(launch)

        first = record(stream, cycle)
        measure(first)
        cycles = round(_GRAPH_SECONDS / max(measure(first), 1e-9))
        runs = cycle * max(1, min(cycles, _MOST_RUNS // cycle))
        launch = record(stream, runs)
        short = measure(launch) / runs < _SHORT_SECONDS
        time.sleep(0 if short else _COOL_SECONDS)
        timing = Timing(tuple(rested(launch) / runs for _ in range(repeats)), runs)
        if short or not sustained:
            return timing
        begin, seconds = time.perf_counter(), [measure(launch)]
        while time.perf_counter() - begin < _SUSTAINED_SECONDS:
            seconds.append(measure(launch))
        return replace(timing, sustained=statistics.median(seconds[-max(1, len(seconds) // 4) :]) / runs)
