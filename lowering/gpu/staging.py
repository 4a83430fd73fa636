"""What the body of a product reads by row or by column alone, computed once a tile and handed over in shared memory.

Thresholds, scales, biases and row sums would each be read from global memory by every warp at the moment they are
needed, which is when the warp has nothing else to do. Instead, idle warps compute them while the products run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from mlir import ir
from mlir.dialects import arith

from bitmlir.dialects.layout import ceil_div
from bitmlir.lowering.elements import Elements
from bitmlir.lowering.emit import Scalar, i1, if_then
from bitmlir.lowering.gpu.memory import SHARED, element_bytes, load, offset, store
from bitmlir.lowering.vectors import vector_of

__all__ = ["STAGED_TILES", "Staged", "Staging"]

STAGED_TILES = 2  # how many tiles' values lie in shared memory, for tiles of some length

_ALIGNMENT = 16


@dataclass(frozen=True)
class Staged:
    """One value of a body: the axis it depends on, and where its elements lie in a stage."""

    value: ir.Value
    axis: str
    start: int

    @property
    def element(self) -> ir.Type:
        """The type that its elements have in memory: bits are bytes there."""
        return ir.IntegerType.get_signless(8) if self.value.type == i1() else self.value.type

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return element_bytes(self.value.type)

    def store(self, stage: Scalar, index: Scalar, value: ir.Value, shared: ir.Value) -> None:
        """Write the element at that index of its axis, or a vector of those that begin there."""
        is_vector = isinstance(value.type, ir.VectorType)
        type_ = vector_of(self.element, ir.VectorType(value.type).shape[0]) if is_vector else self.element
        value = arith.extui(type_, value) if self.value.type == i1() else value
        store(value, self._address(stage, index, shared), self._alignment(value))

    def load(self, stage: Scalar, index: Scalar, distance: int, lanes: int | None, shared: ir.Value) -> ir.Value:
        """Read the element at index + distance, or a vector of so many."""
        type_ = self.element if lanes is None else vector_of(self.element, lanes)
        address = offset(self._address(stage, index, shared), distance * self.size, SHARED)
        value = load(type_, address, self.size * (lanes or 1))
        if self.value.type != i1():
            return value
        return arith.trunci(i1() if lanes is None else vector_of(i1(), lanes), value)

    def _alignment(self, value: ir.Value) -> int:
        is_vector = isinstance(value.type, ir.VectorType)
        return self.size * (ir.VectorType(value.type).shape[0] if is_vector else 1)

    def _address(self, stage: Scalar, index: Scalar, shared: ir.Value) -> ir.Value:
        return offset(offset(shared, stage + index * self.size, SHARED), self.start, SHARED)


@dataclass(frozen=True)
class Staging:
    """Where staged values lie."""

    values: tuple[Staged, ...]
    stage_bytes: int

    @staticmethod
    def of(by_axis: dict[str, Sequence[ir.Value]], sizes: dict[str, int]) -> Staging:
        """The layout of a stage, given each axis' values and its size in a tile."""
        values, end = [], 0
        for axis, members in by_axis.items():
            for value in members:
                values.append(Staged(value, axis, end))
                end += ceil_div(sizes[axis] * element_bytes(value.type), _ALIGNMENT) * _ALIGNMENT
        return Staging(tuple(values), end)

    def fill(
        self, axes: dict[str, tuple[int, int]], thread: Scalar, threads: int, body: Callable[[str, Scalar], Elements],
        stage: Scalar, shared: ir.Value,
    ) -> None:  # fmt: skip
        """Compute and store a tile's values; `axes` gives for each the tile's size and how many elements a thread takes
        at a time, and body(axis, index) the elements at an index of the tile."""
        for axis, (size, width) in axes.items():
            members = [staged for staged in self.values if staged.axis == axis]

            def compute(axis: str, index: Scalar, members: list[Staged]) -> None:
                elements = body(axis, index)
                for staged in members:
                    staged.store(stage * self.stage_bytes, index, elements.at(staged.value, 0, 0), shared)

            for first in range(0, size, threads * width) if members else ():
                index = thread * width + first
                inside = None if first + threads * width <= size else index < size
                if_then(inside, partial(compute, axis, index, members))

    def load(
        self, value: ir.Value, stage: Scalar, index: Scalar, distance: int, lanes: int | None, shared: ir.Value
    ) -> ir.Value | None:
        """The element of a value at index + distance of its axis, or a vector of so many; None if it is not staged."""
        staged = next((s for s in self.values if s.value == value), None)
        return staged and staged.load(stage * self.stage_bytes, index, distance, lanes, shared)
