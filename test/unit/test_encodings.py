"""Encodings: names, ranges and the sum-of-planes formula, by brute force over all codes."""

from __future__ import annotations

from itertools import product

import pytest

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import BitmlirError, EncodingError

PLAIN = (
    [f"u{p}" for p in range(1, 9)]
    + [f"i{p}" for p in range(2, 9)]
    + ["bipolar", *(f"bipolar{p}" for p in range(2, 9)), "ternary"]
)
ZERO_POINTS = [f"u{p}@{z}" for p in range(1, 9) for z in range(1, 2**p)]
ROW_ZEROS = [f"u{p}@row" for p in range(1, 9)]


def defined_values(name: str) -> list[int]:
    """The values of an encoding as its definition words them, one for each code."""
    encoding = Encoding.parse(name)
    p = encoding.bits
    codes = range(2**p)
    if encoding.kind == "bipolar":
        return [2 * code - (2**p - 1) for code in codes]
    if encoding.kind == "ternary":
        return [0, 1, -1]
    if encoding.kind == "i":
        return [code - 2**p if code >= 2 ** (p - 1) else code for code in codes]
    zeros = codes if encoding.has_row_zeros else [int(encoding.zero)]
    return [code - zero for code in codes for zero in zeros]


def plane_sums(encoding: Encoding) -> list[int]:
    """scale·Σ weights[i]·P_i + offset for every code."""
    codes = product((0, 1), repeat=encoding.bits)
    sums = [encoding.scale * sum(w * b for w, b in zip(encoding.weights, c, strict=True)) for c in codes]
    return [s + encoding.offset for s in sums]


@pytest.mark.parametrize("name", PLAIN + ROW_ZEROS)
def test_every_name_parses_and_prints_back(name: str) -> None:
    encoding = Encoding.parse(name)
    assert encoding.name == str(encoding) == name
    assert Encoding.parse(encoding) is encoding
    assert encoding.has_row_zeros == name.endswith("@row")


def test_every_zero_point_parses_and_prints_back() -> None:
    for name in ZERO_POINTS:
        assert Encoding.parse(name).name == name


@pytest.mark.parametrize("name", PLAIN)
def test_planes_add_up_to_exactly_the_defined_values(name: str) -> None:
    assert sorted(set(plane_sums(Encoding.parse(name)))) == sorted(defined_values(name))


@pytest.mark.parametrize("name", [n for n in PLAIN if n != "bipolar8"] + ZERO_POINTS[::7])
def test_an_encoding_with_a_zero_has_all_values_and_0(name: str) -> None:
    values = defined_values(Encoding.parse(name).with_zero.name)
    assert {0, *defined_values(name)} <= set(values)
    assert Encoding.parse(name).with_zero.name == name or 0 not in defined_values(name)


def test_bipolar8_has_no_room_for_a_zero() -> None:
    with pytest.raises(EncodingError, match="'bipolar8' would take nine bits with a 0, use fewer bits"):
        _ = Encoding.parse("bipolar8").with_zero


def test_zero_points_shift_the_values_of_the_codes() -> None:
    for name in ZERO_POINTS:
        assert sorted(plane_sums(Encoding.parse(name))) == sorted(defined_values(name))


def test_the_range_is_that_of_all_codes() -> None:
    for name in PLAIN + ZERO_POINTS + ROW_ZEROS:
        encoding, values = Encoding.parse(name), defined_values(name)
        assert (encoding.minimum, encoding.maximum) == (min(values), max(values))
        assert encoding.magnitude == max(abs(v) for v in values)


@pytest.mark.parametrize("name", PLAIN + ROW_ZEROS)
def test_every_weight_is_a_signed_power_of_two_for_one_plane(name: str) -> None:
    encoding = Encoding.parse(name)
    assert len(encoding.weights) == encoding.bits
    assert all(abs(w).bit_count() == 1 for w in encoding.weights)


@pytest.mark.parametrize("name", [n for n in PLAIN if "bipolar" not in n])
def test_encodings_with_a_zero_have_empty_planes_for_it(name: str) -> None:
    assert Encoding.parse(name).offset == 0


@pytest.mark.parametrize(
    "name",
    ["", "u", "i", "u0", "u9", "i1", "i9", "bipolar9", "ternary3", "U2", " u2", "u2 ", "u2@", "u2@-1", "q4", None, 2],
)
def test_an_unknown_name_is_refused_with_the_known_ones(name: object) -> None:
    with pytest.raises(EncodingError, match=r"unknown encoding .*u1…u8"):
        Encoding.parse(name)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "meant"), [("bipolar1", "bipolar"), ("u02", "u2"), ("ternary2", "ternary"), ("u2@0", "u2")]
)
def test_another_spelling_is_refused_with_the_right_one(name: str, meant: str) -> None:
    with pytest.raises(EncodingError, match=f"did you mean '{meant}'"):
        Encoding.parse(name)


def test_a_zero_point_past_the_codes_is_refused() -> None:
    with pytest.raises(EncodingError, match=r"zero point 4 of 'u2' must lie in 0\.\.3"):
        Encoding.parse("u2@4")


@pytest.mark.parametrize("name", ["i4@1", "bipolar@1", "ternary@row"])
def test_only_unsigned_encodings_take_a_zero_point(name: str) -> None:
    with pytest.raises(EncodingError, match="takes no zero point: use u<p>@z"):
        Encoding.parse(name)


def test_an_encoding_error_is_also_a_value_error() -> None:
    assert issubclass(EncodingError, BitmlirError)
    assert issubclass(EncodingError, ValueError)
