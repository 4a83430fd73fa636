"""The best columns of each row of a product, for `bit.plane_search`: lists of keys in global memory; `bit.plane_ranks`.

A list begins with zeros and is kept by atomic maxima alone: a new key goes to the first place, what is less there goes
on to the second, and so forth. Whatever the order in which warps do so, each place ends with the maximum of all keys
that came by, which are all but those that stayed in the places before it: the list ends sorted and exact.

Most keys are less than the last of a list that has seen some thousand columns. A warp therefore looks at the last place
first, if it can before its products are there, and takes its columns' best one by one only until they are less.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from mlir import ir
from mlir.dialects import arith, llvm, nvvm

from bitmlir.dialects import bit
from bitmlir.dialects.layout import ceil_div
from bitmlir.lowering.emit import Carried, Scalar, const, i1, i32, i64, if_then, select, while_loop
from bitmlir.lowering.gpu.memory import (
    GLOBAL,
    Kernel,
    block_index,
    kernel_function,
    load,
    offset,
    shuffle_xor,
    store,
    thread_index,
)
from bitmlir.lowering.keys import key_of, rank_of, unsigned_score

__all__ = ["Lists", "build_ranks_kernel", "list_registers"]

_THREADS = 256  # of a block that takes keys apart
_KEY_BYTES = 8
_FEW_ROWS = 4  # of a thread, for which it has registers while it multiplies

# 32-bit registers of a thread for a row: where its list is, the key that was inserted last and the next one, 64 bits
# each. A list of one place needs no more than the first. Then what threads keep that wait for their turn.
_ROW_REGISTERS, _LONE_REGISTERS, _TURN_REGISTERS = 6, 2, 16

Scores = Sequence[Sequence[tuple[Scalar, Scalar]]]
"""For each row that a thread holds the scores that it has of it, each with its column."""


def list_registers(count: int, rows: int, in_turn: bool = False) -> int:
    """Registers that a thread needs beside its scores for the lists of so many rows, of `count` places each, found by
    assembling kernels; `in_turn` if groups of warps come to them one after the other.

    Example:
        >>> list_registers(count=10, rows=8), list_registers(count=1, rows=8)
        (48, 16)
    """
    if count == 1:
        return rows * _LONE_REGISTERS
    return rows * _ROW_REGISTERS + (_TURN_REGISTERS if in_turn else 0)


class Lists:
    """The lists of the rows that a thread shares with other lanes of its warp. All lanes call its methods together."""

    def __init__(
        self,
        op: bit.PlaneSearchOp,
        out: ir.Value,
        rows: Sequence[Scalar],
        bounds: tuple[int | None, int | None],
        distances: tuple[int, ...],
    ) -> None:
        """Find the lists, which `out` points to as memref<MxCxi64>, and look at them if they are few.

        bounds: the matrix's sizes where rows or columns may lie past them, else None. distances: by which the numbers
        of the lanes differ that share the rows.
        """
        self.op, self.count, self.rows, self.distances = op, op.count, rows, distances
        self.row_bound, self.column_bound = bounds
        inside = [row if self.row_bound is None else row.minimum(self.row_bound - 1) for row in rows]
        self.is_first = (thread_index() & sum(distances)).equals(0)  # of the lanes that share the rows
        self.lists = [offset(out, row.to_i64() * (self.count * _KEY_BYTES), GLOBAL) for row in inside]
        self.least = self._look() if len(rows) <= _FEW_ROWS else None

    def _look(self) -> list[Scalar]:
        """The scores in the last places."""
        return [(self._last_key(r) >> 32).to_i32() for r in range(len(self.rows))]

    def keep_best(self, scores: Scores) -> None:
        """Put scores into their rows' lists where they are good enough."""
        if_then(self._may_have_some(scores), lambda: self._insert_all(scores))

    def _has_row(self, r: int) -> Scalar:
        """Whether a row lies inside the matrix."""
        return const(1, i1()) if self.row_bound is None else self.rows[r] < self.row_bound

    def _if_inside(self, column: Scalar, value: Scalar) -> Scalar:
        """A value, or 0 for a column outside the matrix."""
        return value if self.column_bound is None else select(column < self.column_bound, value, 0)

    def _may_have_some(self, scores: Scores) -> Scalar:
        """Whether a lane of the warp has a score as good as that in the last place of its row's list."""
        found = const(0, i1())
        for r, least in enumerate(self.least or self._look()):
            numbers = (self._if_inside(column, unsigned_score(score, self.op.order)) for score, column in scores[r])
            found = found | ((functools.reduce(_greater, numbers) >= least) & self._has_row(r))
        return _any_lane(found)

    def _insert_all(self, scores: Scores) -> None:
        """Insert the best, the second best and so on, of all rows at a time, until none of them belongs into a list."""

        def insert_next(carried: Carried) -> Carried:
            number, _, *before = map(Scalar, carried)
            found, some = [], const(0, i1())
            for r, key_before in enumerate(before):
                key = self._best_below(scores[r], key_before)
                is_good = (self._last_key(r) < key) & self._has_row(r)
                if_then(is_good & self.is_first, functools.partial(self._insert, r, key))
                found.append(key.value)
                some = some | is_good
            return [(number + 1).value, _any_lane(some).value, *found]

        def goes_on(carried: Carried) -> Scalar:
            return Scalar(carried[1]) & (Scalar(carried[0]) < self.count)

        above_all = const(-1, i64()).value
        while_loop([const(0).value, const(1, i1()).value, *[above_all] * len(self.lists)], goes_on, insert_next)

    def _best_below(self, scores: Sequence[tuple[Scalar, Scalar]], bound: Scalar) -> Scalar:
        """The greatest key of a row that is less than the bound, among the lanes that share it; 0 if there is none."""

        def key(score: Scalar, column: Scalar) -> Scalar:
            number = key_of(score, column, self.op.order)
            return self._if_inside(column, select(number < bound, number, 0))

        best = functools.reduce(_greater, (key(*score) for score in scores))
        for distance in self.distances:
            low, high = (shuffle_xor(half, distance) for half in (best.to_i32(), (best >> 32).to_i32()))
            best = _greater(best, low.to_i64() | (high.to_i64() << 32))
        return best

    def _last_key(self, r: int) -> Scalar:
        """What is in the last place now. It only grows: an older value makes more work, but changes nothing."""
        address = offset(self.lists[r], (self.count - 1) * _KEY_BYTES, GLOBAL)
        return Scalar(llvm.LoadOp(i64(), address, alignment=_KEY_BYTES, volatile_=True).result)

    def _insert(self, r: int, key: Scalar) -> None:
        def leave(carried: Carried) -> Carried:
            """Leave the greater key in a place, and go on with the other."""
            place, moving = map(Scalar, carried)
            address = offset(self.lists[r], place.to_i64() * _KEY_BYTES, GLOBAL)
            largest, relaxed = llvm.AtomicBinOp.umax, llvm.AtomicOrdering.monotonic
            there = llvm.atomicrmw(largest, address, moving.value, relaxed, syncscope="device")
            return [(place + 1).value, moving.minimum(Scalar(there)).value]

        def goes_on(carried: Carried) -> Scalar:
            return (Scalar(carried[0]) < self.count) & Scalar(carried[1]).differs(0)

        while_loop([const(0).value, key.value], goes_on, leave)


def build_ranks_kernel(module: ir.Block, name: str, op: bit.PlaneRanksOp) -> Kernel:
    """Emit the kernel that takes keys apart: a thread a key."""
    rows, count = ir.MemRefType(op.keys.type).shape
    arguments = (op.keys, op.values, op.columns)

    def body(keys_at: ir.Value, values_at: ir.Value, columns_at: ir.Value) -> None:
        number = block_index().to_i64() * _THREADS + thread_index().to_i64()

        def take_apart() -> None:
            key = Scalar(load(i64(), offset(keys_at, number * _KEY_BYTES, GLOBAL), _KEY_BYTES))
            for value, array_at in zip(rank_of(key, op.order), (values_at, columns_at), strict=True):
                store(value.value, offset(array_at, number * 4, GLOBAL), 4)

        if_then(number < rows * count, take_apart)

    with ir.InsertionPoint(module):
        kernel_function(name, _THREADS, arguments, {}, body)
    return Kernel(name, (ceil_div(rows * count, _THREADS), 1, 1), _THREADS, 0, arguments)


def _greater(a: Scalar, b: Scalar) -> Scalar:
    return Scalar(arith.maxui(a.value, b.value))


def _any_lane(condition: Scalar) -> Scalar:
    """Whether the condition holds for a lane of the warp."""
    everyone = const(-1).value
    return Scalar(nvvm.vote_sync(i32(), everyone, condition.value, nvvm.VoteSyncKind.ballot)).differs(0)
