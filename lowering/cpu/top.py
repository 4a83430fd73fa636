"""The best columns of each row of a product, for `bit.plane_search`: lists of keys, sorted; and `bit.plane_ranks`."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from mlir import ir
from mlir.dialects import arith, vector

from bitmlir.dialects import bit
from bitmlir.lowering.cpu.kernel import Arrays, Kernel, kernel_function, loop, read, task_rows, write
from bitmlir.lowering.cpu.vectors import LANES
from bitmlir.lowering.elements import Grid
from bitmlir.lowering.emit import Carried, Scalar, const, i64, if_then, index, select, while_loop
from bitmlir.lowering.keys import key_of, rank_of
from bitmlir.lowering.vectors import as_vector, vector_of

__all__ = ["build_ranks_kernel", "clear_keys", "keep_best"]


def clear_keys(op: bit.PlaneSearchOp, arrays: Arrays, first: Scalar, last: Scalar) -> None:
    """Empty the lists of the rows from first to last."""
    no_key, out = const(0, i64()), arrays[op.out]
    loop(first, last, 1, lambda row: loop(0, op.count, 1, lambda place: write(no_key, out, row, place)))


def keep_best(
    op: bit.PlaneSearchOp,
    out: ir.Value,
    rows: Sequence[Scalar],
    columns: Sequence[Scalar],
    masks: Sequence[ir.Value | None],
    scores: Grid,
) -> None:
    """Put the scores of a block, rows by vectors of columns, into their rows' lists where they are good enough."""

    def keep_row(r: int) -> None:
        best = _Best(op, out, rows[r])
        for column, mask, some_scores in zip(columns, masks, scores[r], strict=True):
            best.offer(column, mask, as_vector(some_scores, LANES))

    for r, row in enumerate(rows):
        # Rows past the last one repeat it, and would offer its scores once more.
        is_new = None if r == 0 else row.differs(rows[r - 1])
        if_then(is_new, functools.partial(keep_row, r))


class _Best:
    """The list of one row."""

    def __init__(self, op: bit.PlaneSearchOp, out: ir.Value, row: Scalar) -> None:
        self.op, self.out, self.row = op, out, row

    def offer(self, column: Scalar, mask: ir.Value | None, scores: ir.Value) -> None:
        """Offer neighbouring columns, those in the mask. Most have no score that is better than the list's last one."""
        is_largest = bit.order_name(self.op.order) == "largest"
        better = arith.CmpIPredicate.sgt if is_largest else arith.CmpIPredicate.slt
        last = read(self.out, self.row, self.op.count - 1)
        worst, _ = rank_of(last, self.op.order)
        good = arith.cmpi(better, scores, as_vector(worst.value, LANES))
        lanes = vector.bitcast(vector_of(ir.IntegerType.get_signless(LANES), 1), good)
        some = Scalar(vector.extract(lanes, [], [0])).differs(0)

        def offer_lane(lane: Scalar) -> None:
            score = Scalar(vector.extract(scores, [lane.value], [_DYNAMIC]))
            key = key_of(score, (column + lane).to_i32(), self.op.order)
            is_better = read(self.out, self.row, self.op.count - 1) < key
            if mask is not None:
                is_better = is_better & Scalar(vector.extract(mask, [lane.value], [_DYNAMIC]))
            if_then(is_better, lambda: self._insert(key))

        if_then(some | last.equals(0), lambda: loop(0, LANES, 1, offer_lane))

    def _insert(self, key: Scalar) -> None:
        """Put a key in the place of the last one, and those that are less than it one place on."""

        def is_less_before(carried: Carried) -> Scalar:
            place = Scalar(carried[0])
            before = read(self.out, self.row, select(place.equals(0), place, place - 1))
            return place.differs(0) & (before < key)

        def move(carried: Carried) -> Carried:
            place = Scalar(carried[0])
            write(read(self.out, self.row, place - 1), self.out, self.row, place)
            return [(place - 1).value]

        last = const(self.op.count - 1, index())
        (place,) = while_loop([last.value], is_less_before, move)
        write(key, self.out, self.row, Scalar(place))


def build_ranks_kernel(name: str, op: bit.PlaneRanksOp) -> Kernel:
    """Emit the kernel that takes keys apart."""
    rows, count = ir.MemRefType(op.keys.type).shape

    def body(arrays: Arrays, first: Scalar, last: Scalar) -> None:
        def take_apart(row: Scalar, place: Scalar) -> None:
            score, column = rank_of(read(arrays[op.keys], row, place), op.order)
            write(score, arrays[op.values], row, place)
            write(column, arrays[op.columns], row, place)

        loop(first, last, 1, lambda row: loop(0, count, 1, lambda place: take_apart(row, place)))

    return kernel_function(name, (op.keys, op.values, op.columns), rows, task_rows(count, rows), body)


_DYNAMIC = ir.ShapedType.get_dynamic_size()  # says that a position is an operand
