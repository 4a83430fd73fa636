"""Rings of stages in shared memory, each with two mbarriers: `full`, which its filling completes, and `empty`, which
its readers complete. Source: PTX ISA, section on mbarrier objects (phases and parity).
"""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir
from mlir.dialects import nvvm

from bitmlir.lowering.emit import Scalar, const, select
from bitmlir.lowering.gpu.memory import SHARED, offset

__all__ = ["BARRIER_BYTES", "Position", "Ring", "Turns", "wait_for_phase"]

BARRIER_BYTES = 8
_SPIN_TICKS = 0x989680  # how long one try_wait may sleep, in ns


@dataclass(frozen=True)
class Position:
    """The stage that comes next, and the phase that its barriers are in."""

    stage: Scalar
    phase: Scalar

    @staticmethod
    def of(values: list[ir.Value]) -> Position:
        """A position from what a loop carries."""
        return Position(Scalar(values[0]), Scalar(values[1]))

    @property
    def carried(self) -> list[ir.Value]:
        """What a loop carries."""
        return [self.stage.value, self.phase.value]


@dataclass(frozen=True)
class Ring:
    """The barriers of a ring of so many stages; `fillers` and `readers` are how many arrivals complete a phase."""

    shared: ir.Value
    start: int
    stages: int
    fillers: int
    readers: int

    @staticmethod
    def bytes(stages: int) -> int:
        """Bytes of shared memory that the barriers take."""
        return 2 * stages * BARRIER_BYTES

    def full(self, stage: Scalar | int) -> ir.Value:
        """The barrier that says that a stage can be read."""
        return self._barrier(stage, 0)

    def empty(self, stage: Scalar | int) -> ir.Value:
        """The barrier that says that a stage can be filled."""
        return self._barrier(stage, self.stages * BARRIER_BYTES)

    def _barrier(self, stage: Scalar | int, distance: int) -> ir.Value:
        return offset(self.shared, stage * BARRIER_BYTES + (self.start + distance), SHARED)

    def initialise(self) -> None:
        """Emit what one thread does before anybody uses the ring."""
        for stage in range(self.stages):
            nvvm.mbarrier_init(self.full(stage), const(self.fillers).value)
            nvvm.mbarrier_init(self.empty(stage), const(self.readers).value)

    def reading(self) -> Position:
        """Where readers begin."""
        return Position(const(0), const(0))

    def filling(self) -> Position:
        """Where fillers begin: a fresh barrier counts as having passed phase 1, so that all stages are empty."""
        return Position(const(0), const(1))

    def after(self, at: Position, count: Scalar | None = None) -> Position:
        """The position after, or that many further on."""
        if count is not None:
            total = at.stage + count
            return Position(total % self.stages, at.phase ^ (total // self.stages & 1))
        following = at.stage + 1
        wrapped = following.equals(self.stages)
        return Position(select(wrapped, const(0), following), select(wrapped, at.phase ^ 1, at.phase))

    def wait_full(self, at: Position) -> None:
        """Wait until the stage can be read."""
        wait_for_phase(self.full(at.stage), at.phase)

    def wait_empty(self, at: Position) -> None:
        """Wait until the stage can be filled."""
        wait_for_phase(self.empty(at.stage), at.phase)


@dataclass(frozen=True)
class Turns:
    """Barriers by which warp groups do something one after the other, again and again, the first group first.

    `arrivals` is how many threads of a group pass the turn on.
    """

    shared: ir.Value
    start: int
    groups: int
    arrivals: int

    @staticmethod
    def bytes(groups: int) -> int:
        """Bytes of shared memory that the barriers take."""
        return groups * BARRIER_BYTES

    def initialise(self) -> None:
        """Emit what one thread does before anybody takes turns."""
        for group in range(self.groups):
            nvvm.mbarrier_init(self._barrier(const(group)), const(self.arrivals).value)

    def wait(self, group: Scalar, parity: Scalar) -> None:
        """Wait for the group's turn; parity is that of how often it had one."""
        wait_for_phase(self._barrier(group), parity ^ group.equals(0).to_i32())

    def pass_on(self, group: Scalar) -> None:
        """Let the next group have its turn."""
        following = group + 1
        following = select(following.equals(self.groups), const(0), following)
        nvvm.mbarrier_arrive(None, self._barrier(following))

    def _barrier(self, group: Scalar) -> ir.Value:
        return offset(self.shared, group * BARRIER_BYTES + self.start, SHARED)


def wait_for_phase(barrier: ir.Value, phase: Scalar) -> None:
    """Wait until a barrier has completed the phase of that parity."""
    nvvm.mbarrier_try_wait_parity(barrier, phase.value, const(_SPIN_TICKS).value)
