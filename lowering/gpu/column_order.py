"""The order of columns in the fragments of mma.sync: one in which a lane's columns are neighbours in the result.

A fragment gives a lane two neighbouring columns in every group of eight, so that the four lanes of a row would store at
most 32 bytes at a time; but a multiprocessor sends only so many requests to the L2 cache, and each costs as much as a
whole line. Therefore rows of rhs lie in shared memory in another order, in which the pairs that a lane has in several
groups belong to neighbouring columns: a lane stores 16 bytes at a time, and the four lanes of a row 64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from bitmlir.lowering.emit import Scalar
from bitmlir.lowering.gpu.memory import WIDEST_STORE
from bitmlir.lowering.instructions import LANES_PER_ROW

__all__ = ["ColumnOrder"]

_GROUP, _PAIR = 8, 2  # columns of a fragment, and of them a lane's

Number = TypeVar("Number", int, Scalar)


@dataclass(frozen=True)
class ColumnOrder:
    """Which columns the places of fragments stand for: lane l's pair in group j for the columns from 2·groups·l + 2·j
    on, in every 8·groups columns. `groups` is a power of two; with 1 the order is that of the matrix.

    Example:
        >>> [ColumnOrder(2).column(place) for place in (0, 1, 2, 7, 8, 9, 16)]
        [0, 1, 4, 13, 2, 3, 16]
    """

    groups: int = 1

    def column(self, place: Number) -> Number:
        """The column at a place. That of a sum of numbers without a common bit is the sum of theirs."""
        pair, group = place // _PAIR % LANES_PER_ROW, place // _GROUP % self.groups
        window = _GROUP * self.groups
        return place // window * window + pair * (_PAIR * self.groups) + group * _PAIR + place % _PAIR

    @staticmethod
    def of(columns: int, element: int) -> ColumnOrder:
        """The order in which lanes store most at once, for rows of so many elements of so many bytes.

        Example:
            >>> ColumnOrder.of(100, element=4), ColumnOrder.of(128, element=2), ColumnOrder.of(98, element=4)
            (ColumnOrder(groups=2), ColumnOrder(groups=4), ColumnOrder(groups=1))
        """
        fitting = (g for g in (4, 2) if _PAIR * g * element <= WIDEST_STORE and columns % (_PAIR * g) == 0)
        return ColumnOrder(next(fitting, 1))
