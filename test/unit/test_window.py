"""Windows of convolutions: every tap of every place, against counting."""

from __future__ import annotations

import itertools

import pytest

from bitmlir.dialects.window import Axis, Window


@pytest.mark.parametrize(("taps", "stride", "dilation"), list(itertools.product(range(1, 6), (1, 2, 3), (1, 2))))
def test_the_taps_inside_are_those_that_lie_in_the_image(taps: int, stride: int, dilation: int) -> None:
    for size, before, after in itertools.product(range(1, 9), (0, 1, 2, 6), (0, 1, 3)):
        axis = Axis(size, taps, stride, before, after, dilation)
        starts = axis.first_places if axis.places > 0 else []
        for place in range(axis.places):
            inside = [t for t in range(taps) if 0 <= place * stride - before + t * dilation < size]
            assert list(axis.taps_at(place)) == inside
            assert list(axis.classes[sum(place >= start for start in starts) - 1]) == inside


def test_places_are_those_at_which_the_window_fits() -> None:
    for size, taps, stride, before, after in itertools.product(range(1, 8), range(1, 5), (1, 2), (0, 1), (0, 2)):
        axis = Axis(size, taps, stride, before, after)
        fits = [first for first in range(-before, size + after, stride) if first + taps <= size + after]
        assert max(axis.places, 0) == len(fits)


def test_a_window_has_the_classes_of_both_axes() -> None:
    window = Window(Axis(5, 3, before=1, after=1), Axis(4, 2))
    assert window.places == (5, 3)
    assert window.taps == 6
    assert window.classes == [(rows, range(2)) for rows in (range(1, 3), range(3), range(2))]
