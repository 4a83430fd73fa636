"""Folding what makes codes of numbers, batch norm and a rounding say, into thresholds on these numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bitmlir.nn.layers import Layer, Quantise, Sign

__all__ = ["Thresholds", "fold", "fold_real"]

_INFINITY, _NOT_A_NUMBER = 0x7F800000, 0x7FC00000  # as bits of a float32; the former is the largest number of all


@dataclass(frozen=True, eq=False)
class Thresholds:
    """code number[c] = how many of limits[:, c] are at most s[c]·x, where s is −1 for channels that fall, and else 1.

    limits: [codes − 1, channels], int64 of integers, float32 of real numbers; falls: truth values [channels].
    """

    limits: np.ndarray
    falls: np.ndarray


def fold(layers: Sequence[Layer], bounds: np.ndarray, origin: np.ndarray | int = 0) -> Thresholds:
    """The thresholds of layers of which the last yields codes, for integers from −bounds to bounds that stand for
    themselves plus `origin`.

    Each layer works on channels by themselves and rises or falls with its input, in float64 too: so the number from
    which on a code is reached is found by halving, and the result is exactly what the layers say.

    bounds, origin: int64 [channels].

    Example:
        >>> from bitmlir.nn.layers import BatchNorm, Input, Linear, Sign
        >>> sums = Linear(Input((4,)), np.ones((2, 4)))
        >>> norm = BatchNorm(sums, np.array([1, -1]), np.array([0, 0]), np.array([5, 5]), np.ones(2))
        >>> fold([norm, Sign(norm)], np.array([9, 9]))
        Thresholds(limits=array([[ 5, -5]]), falls=array([False,  True]))
    """
    return _fold(layers, bounds, lambda numbers: (numbers + origin).astype(np.float64))


def fold_real(layers: Sequence[Layer], channels: int) -> Thresholds:
    """The same for numbers in float32, in whose order numbers have their places by halves, too.

    A code that is never reached has NaN for its limit, which nothing is as large as.

    Example:
        >>> from bitmlir.nn.layers import BatchNorm, Input, Linear, Quantise
        >>> sums = Linear(Input((4,)), np.ones((2, 4)))
        >>> norm = BatchNorm(sums, np.array([1, 0]), np.array([0, 0]), np.array([0, 0]), np.ones(2), epsilon=0.0)
        >>> fold_real([norm, Quantise(norm, 2, 3.0)], 2).limits
        array([[1.5000001,       nan],
               [4.5      ,       nan],
               [7.5000005,       nan]], dtype=float32)
    """
    folded = _fold(layers, np.full(channels, _INFINITY), _float_at)
    return Thresholds(_float_at(folded.limits).astype(np.float32), folded.falls)


def _float_at(places: np.ndarray) -> np.ndarray:
    """The float32 at a place in the order of all, 0 at 0, as float64."""
    bits = np.where(np.abs(places) > _INFINITY, _NOT_A_NUMBER, np.abs(places)).astype(np.uint32)
    return np.where(places < 0, -1.0, 1.0) * bits.view(np.float32).astype(np.float64)


def _fold(layers: Sequence[Layer], bounds: np.ndarray, number: Callable[[np.ndarray], np.ndarray]) -> Thresholds:
    """Thresholds on the places of numbers: `number` gives those, and that of −place is the negative one of place."""
    last = layers[-1]
    assert isinstance(last, (Sign, Quantise))
    codes = last.codes
    lowest, step = (last.ends[0], 1) if isinstance(last, Quantise) else (codes.minimum, codes.scale)
    count = (codes.maximum - lowest) // step + 1

    def rank(places: np.ndarray) -> np.ndarray:
        values = number(places)
        with np.errstate(invalid="ignore", over="ignore"):  # infinite numbers, times 0 say
            for layer in layers:
                values = layer.apply(values)
        return (values.astype(np.int64) - lowest) // step

    falls = rank(bounds) < rank(-bounds)
    signs = np.where(falls, -1, 1)
    limits = np.empty((count - 1, len(bounds)), np.int64)
    for wanted in range(1, count):
        low, high = -bounds, bounds + 1  # which no number reaches: the code is never that large
        while (low < high).any():
            middle = (low + high) // 2
            reached = rank(signs * middle) >= wanted
            low, high = np.where(reached | (low >= high), low, middle + 1), np.where(reached, middle, high)
        limits[wanted - 1] = low
    return Thresholds(limits, falls)
