"""Memory for scratch: buffers that are never needed at the same time share it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from bitmlir.dialects.layout import ceil_div
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.runtime.plan import Buffer, Launch, Plan, Step

__all__ = ["ALIGNMENT", "arena_bytes", "buffer_bytes", "lifetimes", "share_memory"]

ALIGNMENT = 256
"""Bytes that offsets into the arena are multiples of, as addresses of GPU memory are."""


_NEAR = 2  # launches that overlap, after the last that touches a buffer, and leave its memory alone


def buffer_bytes(buffer: Buffer) -> int:
    """Bytes of a buffer."""
    return math.prod(buffer.shape) * numpy_dtype(buffer.dtype).itemsize


def arena_bytes(plan: Plan) -> int:
    """Bytes of the memory that scratch shares."""
    return max((b.offset + buffer_bytes(b) for b in plan.buffers if b.offset is not None), default=0)


def lifetimes(steps: Sequence[Step]) -> dict[str, frozenset[int]]:
    """The steps in which each buffer's memory can serve no other: from the first that touches it to the last, and two
    more if they overlap what comes before. Runs follow each other, so the first steps come after the last.

    A kernel that begins early waits until all before it have ended before it touches memory, so it cannot overwrite
    what they read. But kernels read past the coherent caches (`ld.global.nc`), of which PTX says that nobody may write
    there meanwhile. A line that an old kernel has left in a cache must not be what a newer one finds after another has
    written there: with two launches between them the old one would have to run while four more fit beside it.
    """
    spans: dict[str, tuple[int, int]] = {}
    for number, step in enumerate(steps):
        for name in step.buffers:
            spans[name] = (spans.get(name, (number, 0))[0], number)
    return {
        name: frozenset((*range(first, last + 1), *_still_near(steps, last))) for name, (first, last) in spans.items()
    }


def _still_near(steps: Sequence[Step], last: int) -> list[int]:
    """The steps after one that may begin before it has ended."""
    near: list[int] = []
    for distance in range(1, min(_NEAR, len(steps) - 1) + 1):
        number = (last + distance) % len(steps)
        step = steps[number]
        if not (isinstance(step, Launch) and step.overlap_previous):
            break
        near.append(number)
    return near


def share_memory(plan: Plan) -> Plan:
    """The plan with a place in one arena for each buffer of scratch; what is needed at the same time lies apart.

    Arguments, results, constants and what setup makes of them stay outside. The largest buffer is placed first, each as
    low as it fits.

    Example:
        >>> from bitmlir.runtime.plan import Launch
        >>> steps = [Launch("k", (1, 1, 1), (32, 1, 1), 0, (a, b), writes=(b,)) for a, b in ("ab", "bc", "cd")]
        >>> plan = Plan("f", "sm_80", (), (), tuple(Buffer(name, "i8", (100,)) for name in "abcd"), tuple(steps))
        >>> [buffer.offset for buffer in share_memory(plan).buffers]
        [0, 256, 0, 256]
    """
    own = plan.fixed_buffers.union(*(value.buffers.values() for value in (*plan.arguments, *plan.results)))
    lives = lifetimes(plan.steps)
    scratch = [buffer for buffer in plan.buffers if buffer.name in lives and buffer.name not in own]
    placed: dict[str, tuple[int, int]] = {}  # name → where it begins and ends
    for buffer in sorted(scratch, key=buffer_bytes, reverse=True):
        size = ceil_div(buffer_bytes(buffer), ALIGNMENT) * ALIGNMENT
        offset = 0
        for start, end in sorted(span for n, span in placed.items() if lives[n] & lives[buffer.name]):
            if offset + size <= start:
                break
            offset = max(offset, end)
        placed[buffer.name] = (offset, offset + size)
    buffers = (replace(b, offset=placed[b.name][0] if b.name in placed else None) for b in plan.buffers)
    return replace(plan, buffers=tuple(buffers))
