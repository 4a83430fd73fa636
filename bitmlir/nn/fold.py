"""Folding what follows a product of integers, batch norm and a rounding say, into thresholds on its sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bitmlir.nn.layers import Layer

__all__ = ["Thresholds", "fold"]


@dataclass(frozen=True)
class Thresholds:
    """code[c] = how many of limits[:, c] are at most s[c]·sum, where s is −1 for channels that fall, and else 1.

    limits: int64 [codes − 1, channels]; falls: truth values [channels].
    """

    limits: np.ndarray
    falls: np.ndarray


def fold(layers: Sequence[Layer], bounds: np.ndarray) -> Thresholds:
    """The thresholds of layers of which the last yields codes, for sums from −bounds to bounds.

    Each layer works on channels by themselves and rises or falls with its input, in float64 too: so the sum from which
    on a code is reached is found by halving, and the result is exactly what the layers say.

    bounds: int64 [channels].

    Example:
        >>> from bitmlir.nn.layers import BatchNorm, Input, Linear, Sign
        >>> sums = Linear(Input((4,)), np.ones((2, 4)))
        >>> norm = BatchNorm(sums, np.array([1, -1]), np.array([0, 0]), np.array([5, 5]), np.ones(2))
        >>> fold([norm, Sign(norm)], np.array([9, 9]))
        Thresholds(limits=array([[ 5, -5]]), falls=array([False,  True]))
    """
    codes = layers[-1].codes
    assert codes is not None
    count = 2**codes.bits

    def code(sums: np.ndarray) -> np.ndarray:
        values = sums.astype(np.float64)
        for layer in layers:
            values = layer.apply(values)
        return (values.astype(np.int64) - codes.offset) // codes.scale

    falls = code(bounds) < code(-bounds)
    signs = np.where(falls, -1, 1)
    limits = np.empty((count - 1, len(bounds)), np.int64)
    for number in range(1, count):
        low, high = -bounds, bounds + 1  # which no sum reaches: the code is never that large
        while (low < high).any():
            middle = (low + high) // 2
            reached = code(signs * middle) >= number
            low, high = np.where(reached | (low >= high), low, middle + 1), np.where(reached, middle, high)
        limits[number - 1] = low
    return Thresholds(limits, falls)
