"""Where the taps of a convolution's filter meet an image: sizes, and which taps lie inside at an edge."""

from __future__ import annotations

import functools
import itertools
import operator
from dataclasses import dataclass

from bitmlir.dialects.layout import ceil_div

__all__ = ["Axis", "Window"]


@dataclass(frozen=True)
class Axis:
    """One axis of a window that moves over an image.

    Output place o has tap t at o · stride − before + t · dilation.

    Attributes:
        size: of the image. taps: of the filter. stride, dilation: from one place to the next, from one tap to the next.
        before, after: places outside the image that the window may reach.

    Example:
        >>> axis = Axis(size=5, taps=3, before=1, after=1)
        >>> axis.places, axis.classes, [axis.taps_at(place) for place in (0, 2, 4)]
        (5, [range(1, 3), range(0, 3), range(0, 2)], [range(1, 3), range(0, 3), range(0, 2)])
    """

    size: int
    taps: int
    stride: int = 1
    before: int = 0
    after: int = 0
    dilation: int = 1

    @property
    def reach(self) -> int:
        """Places from a window's first tap to its last, both included."""
        return (self.taps - 1) * self.dilation + 1

    @property
    def places(self) -> int:
        """Places of the output; less than 1 if the window does not fit."""
        return (self.size + self.before + self.after - self.reach) // self.stride + 1

    def taps_at(self, place: int) -> range:
        """The taps that lie inside the image at an output place."""
        first = place * self.stride - self.before
        low = min(max(0, ceil_div(-first, self.dilation)), self.taps)
        return range(low, max(low, min(self.taps, ceil_div(self.size - first, self.dilation))))

    @property
    def classes(self) -> list[range]:
        """The different ranges of taps that lie inside, in the order of output places: each has one run of places."""
        return [taps for _, taps in _runs(self)]

    @property
    def first_places(self) -> list[int]:
        """The first output place of each class."""
        return [first for first, _ in _runs(self)]


@functools.cache
def _runs(axis: Axis) -> list[tuple[int, range]]:
    """The first place and the taps inside the image of each run of places that see the same taps."""
    inside = range(axis.taps)
    # All taps lie inside from the first of these places to the second, if there are such, and none before the third and
    # from the fourth on: one run each, however long.
    first = min(ceil_div(axis.before, axis.stride), axis.places)
    last = min(max(first, (axis.size + axis.before - axis.reach) // axis.stride + 1), axis.places)
    begin = min(max(0, ceil_div(axis.before - axis.reach + 1, axis.stride)), first)
    end = max(min(ceil_div(axis.size + axis.before, axis.stride), axis.places), last)
    places = [*range(min(begin, 1)), *range(begin, first), *range(first, last)[:1], *range(last, end)]
    places += range(end, axis.places)[:1]
    taps = [(place, inside if first <= place < last else axis.taps_at(place)) for place in places]
    return [next(run) for _, run in itertools.groupby(taps, key=operator.itemgetter(1))]


@dataclass(frozen=True)
class Window:
    """The two axes of a window: rows of the image, and columns."""

    rows: Axis
    columns: Axis

    @property
    def taps(self) -> int:
        """Taps of the filter."""
        return self.rows.taps * self.columns.taps

    @property
    def pixels(self) -> int:
        """Pixels of an image."""
        return self.rows.size * self.columns.size

    @property
    def places(self) -> tuple[int, int]:
        """Height and width of the output."""
        return self.rows.places, self.columns.places

    @property
    def always_sees(self) -> bool:
        """Whether some tap lies inside the image at every place."""
        return all(map(len, [*self.rows.classes, *self.columns.classes]))

    @property
    def sees_pixels(self) -> bool:
        """Whether it sees each pixel by itself, at a place of its own."""
        return all(axis == Axis(axis.size, 1, dilation=axis.dilation) for axis in (self.rows, self.columns))

    @property
    def im2col_fault(self) -> str | None:
        """Why TMA cannot read what the window sees, or None.

        Source: CUDA driver API, cuTensorMapEncodeIm2col, for tensors of four dimensions.
        """
        for name, axis in (("rows", self.rows), ("columns", self.columns)):
            if axis.before > 128 or not -128 <= axis.after - axis.reach + 1 <= 127 or axis.reach > 256:
                reach = f"{axis.before} before images and {axis.after} after, over {axis.reach}"
                return f"TMA reads windows of up to 128 places outside images, but this has along the {name} {reach}"
            if axis.stride > 8:
                return f"TMA reads windows with strides up to 8, but this one has {axis.stride} along the {name}"
        return None

    @property
    def classes(self) -> list[tuple[range, range]]:
        """The different sets of taps that lie inside, as ranges of rows and of columns, those of a row together."""
        return list(itertools.product(self.rows.classes, self.columns.classes))
