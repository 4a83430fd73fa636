"""Rings of stages that some warps of a block fill and others read, with barriers in memory or without.

Both kinds have the methods of a ring (see `bitmlir.lowering.gpu.ring`), and say how threads arrive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mlir import ir
from mlir.dialects import nvvm

from bitmlir.lowering.emit import Scalar, const, i1, i32, i64, if_then, select, while_loop
from bitmlir.lowering.gpu.ring import Position, Ring

__all__ = ["NUMBERED_BARRIERS", "MemoryRing", "NumberedRing", "WarpRing"]

NUMBERED_BARRIERS = 16  # of a block (PTX ISA, barrier); number 0 is that of all threads


class WarpRing(Protocol):
    """A ring of stages between warps of a block."""

    def initialise(self) -> None:
        """Emit what one thread does before anybody uses the ring."""
        ...

    def reading(self) -> Position:
        """Where readers begin."""
        ...

    def filling(self) -> Position:
        """Where fillers begin."""
        ...

    def after(self, at: Position) -> Position:
        """The position after."""
        ...

    def wait_full(self, at: Position, again: Scalar | None = None) -> None:
        """Wait until the stage can be read; where `again` holds, the warp has waited for it before."""
        ...

    def wait_empty(self, at: Position) -> None:
        """Wait until the stage can be filled."""
        ...

    def arrive_full(self, at: Position, copied: bool = False) -> None:
        """Say that the thread's part of a stage is there; or, if it is `copied` by cp.async, will be."""
        ...

    def arrive_empty(self, at: Position) -> None:
        """Say that the thread has read its part of a stage."""
        ...

    def start_reading(self) -> None:
        """What readers do before all else."""
        ...

    def finish_filling(self) -> None:
        """What fillers do after all else."""
        ...


@dataclass(frozen=True)
class MemoryRing(Ring):
    """A ring by barriers in memory, at which each thread arrives for what it has filled or read itself.

    Where `polled` is true the chip has no wait that suspends the thread: try_wait came with sm_90 (PTX ISA, mbarrier).
    """

    polled: bool = False

    def wait_full(self, at: Position, again: Scalar | None = None) -> None:
        """Wait until the stage can be read; waiting again for one that is full ends at once."""
        if self.polled:
            _poll(self.full(at.stage), at.phase)
        else:
            super().wait_full(at)

    def wait_empty(self, at: Position) -> None:
        """Wait until the stage can be filled."""
        if self.polled:
            _poll(self.empty(at.stage), at.phase)
        else:
            super().wait_empty(at)

    def arrive_full(self, at: Position, copied: bool = False) -> None:
        """Say that the thread's part of a stage is there; or, if it is `copied` by cp.async, will be."""
        if copied:
            nvvm.cp_async_mbarrier_arrive(self.full(at.stage), noinc=True)
        else:
            nvvm.mbarrier_arrive(i64(), self.full(at.stage))

    def arrive_empty(self, at: Position) -> None:
        """Say that the thread has read its part of a stage."""
        nvvm.mbarrier_arrive(i64(), self.empty(at.stage))

    def start_reading(self) -> None:
        """Nothing: a fresh barrier lets fillers pass."""

    def finish_filling(self) -> None:
        """Wait for the copies under way: a thread that has ended would not arrive for them."""
        nvvm.cp_async_commit_group()
        nvvm.cp_async_wait_group(ir.IntegerAttr.get(i32(), 0))


def _poll(barrier_address: ir.Value, phase: Scalar) -> None:
    def under_way(_: list[ir.Value]) -> Scalar:
        return Scalar(nvvm.mbarrier_test_wait(i1(), barrier_address, phase.value)).equals(0)

    while_loop([], under_way, lambda _: [])


@dataclass(frozen=True)
class NumberedRing:
    """A ring by the numbered barriers of a block, two for each stage, from number `first` on.

    `threads` counts fillers and readers together. Source: PTX ISA, barrier.sync and barrier.arrive.
    """

    first: int
    stages: int
    threads: int

    @staticmethod
    def barriers(stages: int) -> int:
        """How many it takes."""
        return 2 * stages

    def initialise(self) -> None:
        """Nothing."""

    def reading(self) -> Position:
        """Where readers begin."""
        return Position(const(0), const(0))

    def filling(self) -> Position:
        """Where fillers begin."""
        return self.reading()

    def after(self, at: Position) -> Position:
        """The position after; these barriers have no phases."""
        following = at.stage + 1
        return Position(select(following.equals(self.stages), const(0), following), at.phase)

    def wait_full(self, at: Position, again: Scalar | None = None) -> None:
        """Wait until the stage can be read, unless the warp has waited for it before: each wait uses up an arrival."""
        first_time = None if again is None else again.equals(0)
        if_then(first_time, lambda: self._wait(at.stage + self.first))

    def wait_empty(self, at: Position) -> None:
        """Wait until the stage can be filled."""
        self._wait(at.stage + (self.first + self.stages))

    def arrive_full(self, at: Position, copied: bool = False) -> None:
        """Say that the thread's part of a stage is there."""
        assert not copied, "chips without barriers in memory have no cp.async"
        self._arrive(at.stage + self.first)

    def arrive_empty(self, at: Position) -> None:
        """Say that the thread has read its part of a stage."""
        self._arrive(at.stage + (self.first + self.stages))

    def start_reading(self) -> None:
        """Say that all stages are empty."""
        for stage in range(self.stages):
            self._arrive(const(self.first + self.stages + stage))

    def finish_filling(self) -> None:
        """Wait for what `start_reading` is ahead by: no barrier may be left with some threads arrived."""
        for stage in range(self.stages):
            self._wait(const(self.first + self.stages + stage))

    def _wait(self, number: Scalar) -> None:
        nvvm.barrier(None, barrier_id=number.value, number_of_threads=const(self.threads).value)

    def _arrive(self, number: Scalar) -> None:
        nvvm.barrier_arrive(const(self.threads).value, barrier_id=number.value)
