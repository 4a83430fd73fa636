"""Planes of filters that are spread over all channels: what they hold, code by code."""

from __future__ import annotations

import pytest

from bitmlir.dialects.encoding import Encoding
from bitmlir.lowering.spread_filters import SpreadPlane, spread_planes

KINDS = [f"u{p}" for p in range(1, 9)] + [f"i{p}" for p in range(2, 9)] + ["bipolar", "ternary"]
KINDS += [f"bipolar{p}" for p in range(2, 8)] + [f"u{p}@{z}" for p in range(1, 9) for z in range(1, 2**p)]


def value(encoding: Encoding, bits: list[int]) -> int:
    """What the planes of an element stand for."""
    return encoding.offset + encoding.scale * sum(w * b for w, b in zip(encoding.weights, bits, strict=True))


def bit_of(plane: SpreadPlane, bits: list[int]) -> int:
    """The bit of a plane in a filter's own channel that has these bits."""
    return 1 if plane.source is None else bits[plane.source] ^ plane.is_inverted


@pytest.mark.parametrize("name", KINDS)
def test_own_channels_keep_their_values_and_others_are_0(name: str) -> None:
    encoding = Encoding.parse(name)
    result, planes = encoding.with_zero, spread_planes(encoding)
    assert len(planes) == result.bits
    assert value(result, [plane.outside for plane in planes]) == 0
    for code in range(2**encoding.bits):
        bits = [code >> i & 1 for i in range(encoding.bits)]
        assert value(result, [bit_of(plane, bits) for plane in planes]) == value(encoding, bits)
