"""How filters in groups become filters of all channels: what the kernels for `bit.plane_spread_filters` compute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlir import ir

from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.layout import BITS_PER_WORD, words_per_row
from bitmlir.lowering.emit import Scalar, as_signed, const, funnel_shift, i64

__all__ = ["SpreadPlane", "SpreadProblem", "spread_planes", "spread_word"]


@dataclass(frozen=True)
class SpreadPlane:
    """What a plane of spread filters holds.

    source: the plane of the filters whose bits it has in a filter's own channels, or all but those if it is inverted;
    None for ones. outside: its bit in other channels.
    """

    source: int | None
    is_inverted: bool = False
    outside: int = 0


def spread_planes(encoding: Encoding) -> list[SpreadPlane]:
    """The planes of spread filters, in the encoding `with_zero`, of filters in an encoding.

    Of two's complement for odd numbers, 2·Σ_i 2^i·P_i − (2^p − 1) = 1 + Σ_{i<p−1} 2^(i+1)·P_i − 2^p·(1 − P_{p−1}), so
    that the lowest plane is 1 and the topmost is inverted.

    Example:
        >>> spread_planes(Encoding.parse("bipolar"))
        [SpreadPlane(source=None, is_inverted=False, outside=0), SpreadPlane(source=0, is_inverted=True, outside=0)]
        >>> spread_planes(Encoding.parse("u2@1"))
        [SpreadPlane(source=0, is_inverted=False, outside=1), SpreadPlane(source=1, is_inverted=False, outside=0)]
    """
    if encoding.kind == "bipolar":
        top = encoding.bits - 1
        return [SpreadPlane(None), *(SpreadPlane(i) for i in range(top)), SpreadPlane(top, is_inverted=True)]
    zero = -encoding.offset  # the code of 0
    return [SpreadPlane(i, outside=zero >> i & 1) for i in range(encoding.bits)]


@dataclass(frozen=True)
class SpreadProblem:
    """What a `bit.plane_spread_filters` is to do: the encoding of its filters, all channels, and taps of a filter."""

    encoding: Encoding
    groups: int
    channels: int
    filters: int
    taps: int

    @staticmethod
    def of(op: bit.PlaneSpreadFiltersOp) -> SpreadProblem:
        """That of an operation."""
        groups, channels = (ir.IntegerAttr(a).value for a in (op.groups, op.channels))
        _, filters, row_words = ir.MemRefType(op.out.type).shape
        taps = row_words // words_per_row(channels)
        return SpreadProblem(bit.encoding_in(op.encoding), groups, channels, filters, taps)

    @property
    def own(self) -> int:
        """Channels of a group."""
        return self.channels // self.groups

    @property
    def own_words(self) -> int:
        """Words of a tap of the filters."""
        return words_per_row(self.own)

    @property
    def tap_words(self) -> int:
        """Words of a tap of spread filters."""
        return words_per_row(self.channels)

    def spread_sum(self, total: Scalar) -> Scalar:
        """The sum of a spread tap's weighted bits, of that of the filters: what values add up to stays the same."""
        before, after = self.encoding, self.encoding.with_zero
        return total * before.scale + as_signed(before.offset * self.own - after.offset * self.channels)


def spread_word(
    problem: SpreadProblem, number: Scalar, word: Scalar, read: Callable[[int, Scalar], Scalar]
) -> list[Scalar]:
    """A word of a tap in each plane of spread filters, for the filter of that number; all are i32.

    read(plane, word): a word of the same tap in the filters.
    """
    first = number // (problem.filters // problem.groups) * problem.own
    start = word * BITS_PER_WORD
    before, seen, all_ = (_below(end, start) for end in (first, first + problem.own, const(problem.channels)))
    inside, outside = before ^ seen, all_ ^ before ^ seen
    # A group may begin in the middle of a word, which then has bits of two words of the filters. Where there is no such
    # word any other is read: none of its bits is the group's.
    place, last = word - first // BITS_PER_WORD, problem.own_words - 1
    high, low = place.minimum(last), (place - 1).minimum(last)

    def spread(plane: SpreadPlane) -> Scalar:
        bits = inside
        if plane.source is not None:
            bits = funnel_shift(read(plane.source, high), read(plane.source, low), first % BITS_PER_WORD)
            bits = (bits ^ -1 if plane.is_inverted else bits) & inside
        return bits | outside if plane.outside else bits

    return [spread(plane) for plane in spread_planes(problem.encoding)]


def _below(end: Scalar, start: Scalar) -> Scalar:
    """The bits of a word, of which the first is of the channel `start`, that are of channels below `end`."""
    count = (end - start.minimum(end)).minimum(BITS_PER_WORD)
    return ((const(1, i64()) << count.to_i64()) - 1).to_i32()
