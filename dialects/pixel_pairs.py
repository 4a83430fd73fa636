"""Images of 64 channels, whose pixels lie side by side in pairs: a row of 128 bits has two of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bitmlir.dialects.layout import BITS_PER_WORD, ceil_div
from bitmlir.dialects.window import Axis, Window

__all__ = ["PAIR_CHANNELS", "PAIR_WORDS", "PairWindow"]

PAIR_CHANNELS = 64  # of a pixel that takes half a row
PAIR_WORDS = PAIR_CHANNELS // BITS_PER_WORD
_PAIR = 2


@dataclass(frozen=True)
class PairWindow:
    """What a window over pixels is over pairs of them.

    Its places are runs of `beside` places of the window over pixels: where that one moves by a pixel, two of them see
    almost the same pairs, and are computed together. Of such a run's place i, tap s along the columns is half
    (2·t + h) = i·stride + lead + s of the pairs' tap t.

    Attributes:
        window: over pixels. over_pairs: over pairs of them. beside: places of the first to one of the second.
        lead: halves of pairs that the second sees before the first one does.

    Example:
        >>> pairs = PairWindow.of(Window(Axis(6, 3, before=1, after=1), Axis(8, 3, before=1, after=1)))
        >>> pairs.beside, pairs.lead, pairs.over_pairs.columns
        (2, 1, Axis(size=4, taps=3, stride=1, before=1, after=1, dilation=1))
    """

    window: Window
    over_pairs: Window
    beside: int
    lead: int

    @staticmethod
    def of(window: Window) -> PairWindow | None:
        """That of a window; None if rows of pixels or places are no whole pairs, if it moves by more than a pair, or if
        its taps lie apart along the columns."""
        columns = window.columns
        beside = 2 if columns.stride == 1 else 1
        if columns.size % _PAIR or columns.places % beside or columns.dilation > 1 or columns.stride > _PAIR:
            return None
        before = ceil_div(columns.before, _PAIR)
        lead = _PAIR * before - columns.before
        taps, places = ceil_div((beside - 1) * columns.stride + lead + columns.taps, _PAIR), columns.places // beside
        after = max(places - 1 + taps - columns.size // _PAIR - before, 0)
        over_pairs = Axis(columns.size // _PAIR, taps, 1, before, after)
        assert over_pairs.places == places
        return PairWindow(window, replace(window, columns=over_pairs), beside, lead)

    def half(self, place: int, tap: int) -> int:
        """Which half of the pairs that the window sees a tap along the columns is, at a place of a run."""
        return place * self.window.columns.stride + self.lead + tap
