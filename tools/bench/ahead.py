"""Compiling ahead, in processes of their own, while the GPU is measured."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

from bitmlir import compiler
from bitmlir.compiler import Spec
from bitmlir.dialects.errors import BitmlirError, CompileError
from bitmlir.executable import Executable
from bitmlir.tools.bench.networks import CompiledNetwork, NetworkSpec, compile_network

__all__ = ["Compiled", "Work", "compiled_ahead"]

_MOST_WORKERS = 16
_SPARED_CORES = 2  # for the process that measures

Compiled = Callable[[], Executable | CompiledNetwork]
"""Waits for a program, or for a network with its parameters.

Raises:
    BitmlirError: it could not be compiled.
"""


@dataclass(frozen=True)
class Work:
    """A program to compile, for a target and with a tile; None leaves the tile to tables and the cost model. seed: of a
    network's parameters and inputs."""

    spec: Spec | NetworkSpec
    target: str
    tile: str | None = None
    seed: int = 0

    def compiled(self, *, cached: bool) -> Executable | CompiledNetwork:
        """The program.

        Raises:
            BitmlirError: it could not be compiled.
        """
        if isinstance(self.spec, NetworkSpec):
            return compile_network(self.spec, self.target, self.seed, cached=cached)
        return compiler.compile(self.spec, self.target, tile=self.tile, cached=cached)


@contextlib.contextmanager
def compiled_ahead(works: Sequence[Work], *, cached: bool) -> Iterator[list[Compiled]]:
    """What waits for each program; compiling begins at once, in this order.

    Programs for the CPU are compiled when they are waited for: nothing else may run there while they are measured.
    """
    workers = min(_MOST_WORKERS, max(1, (os.cpu_count() or 1) - _SPARED_CORES))
    # Processes start when there is work for them. Ctrl-C reaches them too, but this one says when to stop.
    deaf = (signal.signal, (signal.SIGINT, signal.SIG_IGN))
    pool = ProcessPoolExecutor(workers, get_context("spawn"), *deaf)

    def begin(work: Work) -> Compiled:
        if work.target == "cpu":
            return lambda: work.compiled(cached=cached)
        future = pool.submit(_compiled, work, cached)
        return lambda: _result(future)

    try:
        yield [begin(work) for work in works]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _compiled(work: Work, cached: bool) -> Executable | CompiledNetwork | str:
    """A program, or why there is none."""
    try:
        return work.compiled(cached=cached)
    except BitmlirError as error:  # as text: not every error comes through a pipe whole
        return str(error)
    except MemoryError as error:
        return f"not enough memory to compile: {error}"


def _result(future: Future[Executable | CompiledNetwork | str]) -> Executable | CompiledNetwork:
    try:
        found = future.result()
    except BrokenProcessPool as error:
        raise CompileError(f"a process that compiles ended, perhaps for lack of memory: {error}") from None
    if isinstance(found, str):
        raise CompileError(found)
    return found
