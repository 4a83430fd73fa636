"""Evaluating the body of a `bit.plane_matmul` on the elements that one thread holds.

A thread holds a grid of elements, row slots by column slots. A value of the body that depends only on the row is
computed once a row slot, one that depends only on the column once a column slot, and only the rest once an element.
Plane products are computed on the whole grid at a time, in the order they stand; those that are chained by shifts and
signs alone, as Horner's rule does, are handed to the kernel together, so that it can run them in one loop.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from mlir import ir

from bitmlir.dialects import bit
from bitmlir.dialects.types import constant_of
from bitmlir.lowering.emit import Scalar
from bitmlir.lowering.windows import class_number, window_sum

__all__ = [
    "Chain",
    "ChainLink",
    "Computed",
    "ElementBuilder",
    "Elements",
    "Grid",
    "Position",
    "arrays_read",
    "chains_of",
    "is_zero",
]

Grid = list[list[ir.Value]]  # [row slot][column slot]


@dataclass(frozen=True)
class Computed:
    """An index that was computed from the row or the column: a vector, if that is the paired axis."""

    value: ir.Value


Position = tuple[tuple[str, int] | ir.Value | Computed, ...]
"""Where an array is read: an axis with its slot, what was computed from one, or what is the same for all."""

_WIDTH = 32  # bits of an accumulator


@dataclass(frozen=True)
class ChainLink:
    """One plane product of a chain: shift the accumulator left, change its sign if asked, add the pairs' products."""

    product: bit.PlaneProductOp
    shift: int = 0
    negate: bool = False

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """The pairs of planes to add."""
        return self.product.pairs


@dataclass(frozen=True)
class Chain:
    """Plane products of which each continues the accumulator of the one before."""

    links: tuple[ChainLink, ...]

    @property
    def first(self) -> ir.Value:
        """The accumulator that the chain begins with."""
        return self.links[0].product.acc

    @property
    def last(self) -> bit.PlaneProductOp:
        """The product whose result is the chain's."""
        return self.links[-1].product

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """All pairs of planes, link after link."""
        return [pair for link in self.links for pair in link.pairs]


class ElementBuilder(Protocol):
    """How a kind of kernel builds the values of single elements."""

    @property
    def paired(self) -> str:
        """The axis ("row" or "column") along which a slot holds several elements, as a vector."""
        ...

    @property
    def row_slots(self) -> int:
        """Rows of the grid."""
        ...

    @property
    def column_slots(self) -> int:
        """Columns of the grid."""
        ...

    def position(self, axis: str, slot: int) -> ir.Value:
        """The row or the column ("row", "column") of a slot, as the body's index argument."""
        ...

    def number(self) -> ir.Value:
        """Which matrix of a batch, or which group, the elements are of: the body's third argument."""
        ...

    def load(self, array: ir.Value, position: Position) -> ir.Value:
        """Read an array."""
        ...

    def apply(self, op: ir.OpView, operands: list[ir.Value], as_vector: bool) -> ir.Value:
        """The result of an arith or math operation; `as_vector` if it depends on the paired axis."""
        ...

    def product(self, chain: Chain, acc: Grid | None) -> Grid:
        """The chain's result for the whole grid; acc is None where it is known to be zero."""
        ...

    def staged(self, value: ir.Value, axis: str, slot: int) -> ir.Value | None:
        """A value that depends on one axis alone, if it was computed before; else None."""
        ...

    def number_at(self, array: ir.Value, index: Scalar) -> Scalar:
        """Read one number of an array of one dimension."""
        ...

    def seen(self, row: int, column: int) -> ir.Value:
        """What a window yields for an element of the grid: `bit.window_value`."""
        ...


class Elements:
    """The values of a body, built when they are first asked for. Products are built first, by `run_products`."""

    def __init__(self, body: ir.Block, builder: ElementBuilder) -> None:
        self.body = body
        self.builder = builder
        self._axes: dict[ir.Value, frozenset[str]] = {
            body.arguments[0]: frozenset({"row"}),
            body.arguments[1]: frozenset({"column"}),
        }
        self._read: dict[ir.Value, None] = {}  # numbers that depend on memory
        self._values: dict[tuple[ir.Value, int | None, int | None], ir.Value] = {}
        self._multiplied = False
        for op in body.operations:
            axes = frozenset().union(*(self._axes.get(v, frozenset()) for v in op.operation.operands))
            axes = frozenset({"row", "column"}) if isinstance(op, (bit.PlaneProductOp, bit.WindowValueOp)) else axes
            self._axes.update(dict.fromkeys(op.operation.results, axes))
            if _reads_memory(op) or any(v in self._read for v in op.operation.operands):
                numbers = (v for v in op.operation.results if not isinstance(v.type, ir.IndexType))
                self._read.update(dict.fromkeys(numbers))

    @property
    def yielded(self) -> list[ir.Value]:
        """The body's results, to be read with `at`: an element or a code, and perhaps a number to be kept beside it."""
        return list(self.body.operations[len(self.body.operations) - 1].operands)

    def at(self, value: ir.Value, row: int, column: int) -> ir.Value:
        """A value of the body for one element of the grid."""
        asked = self._key(value, row, column)
        waiting = [value]  # for their operands; no recursion: bodies may be deeper than Python's stack
        while asked not in self._values:
            value = waiting[-1]
            key = self._key(value, row, column)
            if key in self._values:
                waiting.pop()
            elif staged := self._staged(value, row, column):
                self._values[key] = staged
            elif missing := [v for v in _operands(value) if self._key(v, row, column) not in self._values]:
                waiting += reversed(missing)
            else:
                self._values[key] = self._build(value, row, column)
        return self._values[asked]

    def run_products(self) -> None:
        """Build the body's plane products, in order."""
        for chain in chains_of(self.body):
            grid = self.builder.product(chain, None if is_zero(chain.first) else self._grid(chain.first))
            for r, values in enumerate(grid):
                for c, value in enumerate(values):
                    self._values[chain.last.result, r, c] = value
        self._multiplied = True

    def read_elements(self) -> None:
        """Read what is read for each element alone, so that it comes while products are computed."""
        for op in self.body.operations:
            if op.operation.name == "memref.load" and len(self._axes[op.operation.results[0]]) == 2:
                self._grid(op.operation.results[0])

    def loaded(self, axis: str) -> list[ir.Value]:
        """Numbers that are read from memory at one axis alone, or computed from such, and meet the other axis next.

        What products are added to is none of them: it is needed before anything could be staged.
        """
        found: dict[ir.Value, None] = {}
        for op in (op for op in self.body.operations if not isinstance(op, bit.PlaneProductOp)):
            others = [self._axes.get(value) for value in (*op.operation.results, *op.operation.operands)]
            if any(axes != {axis} for axes in others if axes) or not op.operation.results:
                operands = (v for v in op.operation.operands if v in self._read and self._axes.get(v) == {axis})
                found.update(dict.fromkeys(operands))
        return list(found)

    @property
    def read_by_element(self) -> list[ir.Value]:
        """The arrays that are read at a place that depends on the row and on the column."""
        loads = (op for op in self.body.operations if op.operation.name == "memref.load")
        return [op.operation.operands[0] for op in loads if len(self._axes[op.operation.results[0]]) == 2]

    def _grid(self, value: ir.Value) -> Grid:
        rows, columns = range(self.builder.row_slots), range(self.builder.column_slots)
        return [[self.at(value, r, c) for c in columns] for r in rows]

    def _key(self, value: ir.Value, row: int, column: int) -> tuple[ir.Value, int | None, int | None]:
        """What tells a value apart: elements share those that do not depend on their row, or column."""
        axes = self._axes.get(value, frozenset())
        return value, row if "row" in axes else None, column if "column" in axes else None

    def _staged(self, value: ir.Value, row: int, column: int) -> ir.Value | None:
        axes = self._axes.get(value, frozenset())
        if len(axes) != 1 or not self._multiplied:
            return None
        (axis,) = axes
        return self.builder.staged(value, axis, row if axis == "row" else column)

    def _build(self, value: ir.Value, row: int, column: int) -> ir.Value:
        """A value whose operands are there."""
        slots = {"row": row, "column": column}
        for axis, argument in zip(slots, self.body.arguments, strict=False):
            if value == argument:
                return self.builder.position(axis, slots[axis])
        if isinstance(value.owner, ir.Block):
            return self.builder.number()
        op = value.owner.opview
        if isinstance(op, bit.WindowValueOp):
            return self.builder.seen(row, column)
        if isinstance(op, bit.WindowSumOp):
            read = functools.partial(self.builder.number_at, op.sums)
            return window_sum(bit.window_in(op.window), self.at(op.place, row, column), read)
        if isinstance(op, bit.WindowClassOp):
            return class_number(bit.window_in(op.window), self.at(op.place, row, column))
        if op.operation.name != "memref.load":
            operands = [self.at(operand, row, column) for operand in op.operation.operands]
            return self.builder.apply(op, operands, self.builder.paired in self._axes[value])
        array, *indices = op.operation.operands

        def place(index: ir.Value) -> tuple[str, int] | ir.Value | Computed:
            axis = next((a for a, argument in zip(slots, self.body.arguments, strict=False) if index == argument), None)
            if axis is not None:
                return axis, slots[axis]
            value = self.at(index, row, column)
            return Computed(value) if self._axes.get(index) else value

        return self.builder.load(array, tuple(map(place, indices)))


def arrays_read(body: ir.Block) -> list[ir.Value]:
    """The arrays that the operations of a body read."""
    return [op.operation.operands[0] for op in body.operations if _reads_memory(op)]


def _reads_memory(op: ir.OpView) -> bool:
    return op.operation.name == "memref.load" or isinstance(op, bit.WindowSumOp)


def _operands(value: ir.Value) -> list[ir.Value]:
    """The values that an operation computes its own from; what reads memory takes its places as they are."""
    if isinstance(value.owner, ir.Block) or _reads_memory(value.owner.opview):
        return []
    return list(value.owner.operands)


def chains_of(body: ir.Block) -> list[Chain]:
    """The body's plane products, gathered into the longest chains, in order."""
    chains: list[Chain] = []
    for op in body.operations:
        if isinstance(op, bit.PlaneProductOp):
            link = _link(op, chains[-1].last.result) if chains else None
            if link is None:
                chains.append(Chain((ChainLink(op),)))
            else:
                chains[-1] = Chain((*chains[-1].links, link))
    return chains


def _link(op: bit.PlaneProductOp, before: ir.Value) -> ChainLink | None:
    """How a product continues the one before; None if it does not, or if a value in between has other uses."""
    link, value = ChainLink(op), op.acc
    while value != before:
        if isinstance(value.owner, ir.Block) or len(list(value.uses)) != 1:
            return None
        owner = value.owner.operation
        operands = list(owner.operands)
        if owner.name == "arith.shli" and (by := constant_of(operands[1])) is not None and link.shift + by < _WIDTH:
            link, value = replace(link, shift=link.shift + by), operands[0]
        elif owner.name == "arith.subi" and is_zero(operands[0]):
            link, value = replace(link, negate=not link.negate), operands[1]
        else:
            return None
    return link if len(list(before.uses)) == 1 else None


def is_zero(value: ir.Value) -> bool:
    """Whether a value is the constant 0."""
    return constant_of(value) == 0
