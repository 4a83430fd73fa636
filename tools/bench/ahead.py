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
from bitmlir.runtime.bundle import Bundle

__all__ = ["Compiled", "Work", "compiled_ahead"]

_MOST_WORKERS = 16
_SPARED_CORES = 2  # for the process that measures

Compiled = Callable[[], Executable]
"""Waits for a program.

Raises:
    BitmlirError: it could not be compiled.
"""


@dataclass(frozen=True)
class Work:
    """A program to compile, for a target and with a tile; None leaves the tile to tables and the cost model."""

    spec: Spec
    target: str
    tile: str | None = None


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
            return lambda: compiler.compile(work.spec, work.target, cached=cached)
        future = pool.submit(_bundle, work, cached)
        return lambda: _executable(future)

    try:
        yield [begin(work) for work in works]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _bundle(work: Work, cached: bool) -> bytes | str:
    """The bundle of a program, or why there is none."""
    try:
        bundle = compiler.compile(work.spec, work.target, tile=work.tile, cached=cached).emit("bundle")
        assert isinstance(bundle, bytes)
        return bundle
    except BitmlirError as error:  # as text: not every error comes through a pipe whole
        return str(error)
    except MemoryError as error:
        return f"not enough memory to compile: {error}"


def _executable(bundle: Future[bytes | str]) -> Executable:
    try:
        found = bundle.result()
    except BrokenProcessPool as error:
        raise CompileError(f"a process that compiles ended, perhaps for lack of memory: {error}") from None
    if isinstance(found, str):
        raise CompileError(found)
    return Executable(Bundle.from_bytes(found))
