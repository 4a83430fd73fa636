"""Arithmetic on one element of a product: the plane schedule, the corrections by encodings, sums of terms."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith

from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.lowering.emit import i32
from bitmlir.lowering.packed_planes import PackedRow
from bitmlir.lowering.schedule import Negate, Product, Shift, correction, plane_schedule

__all__ = [
    "Term",
    "constant",
    "corrected",
    "moved",
    "plain",
    "schedule",
    "schedule_by_plane",
    "term_by_column",
    "times",
    "total",
]


def constant(value: int) -> ir.Value:
    """An i32, modulo 2^32 as all arithmetic is: the final value fits."""
    wrapped = (value + 2**31) % 2**32 - 2**31
    return arith.constant(i32(), wrapped)


def schedule_by_plane(lhs: Encoding, rhs: Encoding) -> ir.Value:
    """The plane schedule with an accumulator for each plane of lhs, so that each plane of rhs is read once."""
    sums = [times(functools.partial(schedule, lhs, rhs, number), weight) for number, weight in enumerate(lhs.weights)]
    return plain(total(*sums))


def schedule(lhs: Encoding, rhs: Encoding, lhs_plane: int | None = None) -> ir.Value:
    """The plane schedule as operations on one accumulator; of a single plane of lhs, taken with weight 1, if asked."""
    acc = constant(0)
    for step in plane_schedule(lhs, rhs, lhs_plane):
        match step:
            case Shift():
                acc = arith.shli(acc, constant(step.by))
            case Negate():
                acc = arith.subi(constant(0), acc)
            case Product():
                sides = [list(side) for side in zip(*step.pairs, strict=True)]
                acc = bit.PlaneProductOp(acc=acc, lhs_planes=sides[0], rhs_planes=sides[1]).result
    return acc


@dataclass(frozen=True)
class Term:
    """A value to be added, or subtracted."""

    value: ir.Value
    negative: bool = False


def times(value: Callable[[], ir.Value], factor: int) -> Term | None:
    """value · factor; None for zero, so that what is not needed is not even read.

    By shifts where that is possible: LLVM 22 takes quadratic time over straight-line code with many multiplications.
    """
    size = abs(factor)
    if size == 0:
        return None
    if size & (size - 1):
        return Term(arith.muli(value(), constant(size)), factor < 0)
    exponent = size.bit_length() - 1
    return Term(arith.shli(value(), constant(exponent)) if exponent else value(), factor < 0)


def term_by_column(terms: Sequence[Term | None], column: ir.Value, width: int) -> Term | None:
    """Of terms that are alike, the one whose run of so many columns a column lies in."""
    present = [term for term in terms if term is not None]
    if not present:
        return None
    value = present[-1].value
    for number in range(len(present) - 2, -1, -1):
        end = arith.constant(ir.IndexType.get(), (number + 1) * width)
        value = arith.select(arith.cmpi(arith.CmpIPredicate.ult, column, end), present[number].value, value)
    return Term(value, present[0].negative)


def total(*terms: Term | None) -> Term | None:
    """The sum of terms; it begins with a positive one if there is one."""
    present = sorted((term for term in terms if term is not None), key=lambda term: term.negative)
    if not present:
        return None
    total, all_negative = present[0].value, present[0].negative
    for term in present[1:]:
        add = arith.subi if term.negative and not all_negative else arith.addi
        total = add(total, term.value)
    return Term(total, all_negative)


def plain(term: Term | None) -> ir.Value:
    """A term as a value."""
    assert term is not None
    return arith.subi(constant(0), term.value) if term.negative else term.value


def corrected(acc: ir.Value, lhs: PackedRow, rhs: PackedRow, operation: str) -> ir.Value:
    """The product of two rows from the schedule's accumulator: see `bitmlir.lowering.schedule`.

    With a zero point a row, value = stored − zeros[row], the product gains
    − zeros_x·rowsum(Y) − zeros_y·rowsum(X) + zeros_x·zeros_y·K, rowsum being that of the values before their zeros.
    """
    k = lhs.k
    c = correction(lhs.encoding, rhs.encoding, operation, k)
    fixed = None if c.constant == 0 else Term(constant(c.constant))
    by_row, by_col = times(lhs.sum, c.lhs_sums), times(rhs.sum, c.rhs_sums)
    scaled = times(lambda: acc, c.acc)
    if c.halve:
        value = total(Term(arith.shrsi(plain(total(scaled, by_row, by_col)), constant(1))), fixed)
    else:
        value = total(scaled, by_row, total(by_col, fixed))

    def zero_times(row: PackedRow, other: PackedRow) -> Term | None:
        """− the row's zero point · the other row's sum"""
        if not row.encoding.has_row_zeros:
            return None
        offset = None if other.encoding.offset == 0 else Term(constant(other.encoding.offset * k))
        other_sum = plain(total(times(other.sum, other.encoding.scale), offset))
        return Term(arith.muli(row.zero(), other_sum), negative=True)

    both = None
    if lhs.encoding.has_row_zeros and rhs.encoding.has_row_zeros:
        product = arith.muli(lhs.zero(), rhs.zero())
        both = times(lambda: product, k)
    by_lhs_zeros = zero_times(lhs, rhs)
    by_rhs_zeros = zero_times(rhs, lhs)
    return plain(total(value, by_lhs_zeros, by_rhs_zeros, both))


def moved(index: ir.Value, factor: int, distance: int) -> ir.Value:
    """index · factor + distance"""
    type_ = ir.IndexType.get()
    product = arith.muli(index, arith.constant(type_, factor))
    return arith.addi(product, arith.constant(type_, distance)) if distance else product
