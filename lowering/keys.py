"""The keys of a search (see `bit.plane_search`): a score and its column in one unsigned number of 64 bits."""

from __future__ import annotations

from mlir import ir

from bitmlir.dialects import bit
from bitmlir.lowering.emit import Scalar, const

__all__ = ["key_of", "rank_of", "unsigned_score"]

_SMALLEST, _LARGEST = -(1 << 31), (1 << 31) - 1
_FIRST_COLUMN = -2  # the low half of column 0's keys: no key is 0, nor the largest number


def unsigned_score(score: Scalar, order: ir.Attribute) -> Scalar:
    """A score as an unsigned i32 that is greater if the score is better; and such a number as a score again."""
    return score ^ (_SMALLEST if bit.order_name(order) == "largest" else _LARGEST)


def key_of(score: Scalar, column: Scalar, order: ir.Attribute) -> Scalar:
    """The key, i64, of an i32 score of an i32 column."""
    return (unsigned_score(score, order).to_i64() << 32) | (const(_FIRST_COLUMN) - column).to_i64()


def rank_of(key: Scalar, order: ir.Attribute) -> tuple[Scalar, Scalar]:
    """The score and the column of a key, i32 each."""
    return unsigned_score((key >> 32).to_i32(), order), const(_FIRST_COLUMN) - key.to_i32()
