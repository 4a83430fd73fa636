"""Kernels whose threads have a task each and share nothing, and the chunks in which they move rows of words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlir import ir

from bitmlir.dialects.layout import BITS_PER_WORD, ceil_div
from bitmlir.lowering.gpu.memory import Kernel, block_index, kernel_function, overlap_launches, thread_index
from bitmlir.lowering.passes import fail
from bitmlir.lowering.targets import Target

__all__ = ["CHUNK_BYTES", "CHUNK_WORDS", "WORD_BYTES", "build_task_kernel", "require_countable"]

CHUNK_WORDS = 4  # that a thread moves at once: a row has whole chunks
WORD_BYTES = BITS_PER_WORD // 8
CHUNK_BYTES = CHUNK_WORDS * WORD_BYTES

_THREADS = 256
_MOST_TASKS = 1 << 31


def require_countable(op: ir.OpView, tasks: int) -> None:
    """Refuse what has more tasks than threads can be numbered."""
    if tasks >= _MOST_TASKS:
        fail(op, f"its kernel has fewer than {_MOST_TASKS} tasks, but this one {tasks}: take fewer images")


def build_task_kernel(
    module: ir.Block, name: str, tasks: int, arguments: Sequence[ir.Value], target: Target, body: Callable[..., None]
) -> Kernel:
    """Emit a kernel of enough threads for so many tasks; `body(task, *parameters)` does one, if there are as many."""

    def run(*parameters: ir.Value) -> None:
        if target.overlaps_launches:
            overlap_launches(parameters)
        body(block_index() * _THREADS + thread_index(), *parameters)

    with ir.InsertionPoint(module):
        kernel_function(name, _THREADS, arguments, {}, run)
    grid = (ceil_div(tasks, _THREADS), 1, 1)
    return Kernel(name, grid, _THREADS, 0, tuple(arguments), overlaps=target.overlaps_launches)
