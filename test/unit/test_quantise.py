"""Packing by `PackSpec` on the CPU: floats rounded to encodings, and integers, against numpy."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from support import awkward_floats, packing_arguments

import bitmlir
from bitmlir import PackSpec
from bitmlir.dialects.encoding import Encoding
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.tools.evaluate import evaluate

ENCODINGS = [
    "u1",
    "u4",
    "u8",
    "u4@7",
    "u3@row",
    "u8@row",
    "i2",
    "i4",
    "i8",
    "bipolar",
    "bipolar3",
    "bipolar8",
    "ternary",
]


def assert_packs(spec: PackSpec, given: dict[str, Any]) -> None:
    """The program's planes, sums and zeros are those of the values that the oracle gives."""
    program = bitmlir.compile(spec, "cpu")
    result = program(**given)
    result.check()
    (values,) = evaluate(str(program.emit("bit")), "pack", list(given.values()))
    np.testing.assert_array_equal(bitmlir.unpack(result), values)
    if "zeros" in given:
        np.testing.assert_array_equal(result.zeros, given["zeros"])


@pytest.mark.parametrize("scale", [False, True], ids=["plain", "scaled"])
@pytest.mark.parametrize("source", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_floats_become_the_values_nearest_to_them(encoding: str, source: str, scale: bool) -> None:
    rng = np.random.default_rng(1)
    spec = PackSpec(11, 131, encoding, source, scale)
    assert_packs(spec, packing_arguments(rng, spec, awkward_floats(rng, (spec.rows, spec.k), source)))


@pytest.mark.parametrize("k", [1, 15, 16, 17, 31, 32, 33, 127, 128, 129, 1023, 1024, 1025])
def test_rows_of_every_length_are_packed_and_padded(k: int) -> None:
    rng = np.random.default_rng(2)
    spec = PackSpec(3, k, "i3", scale=True)
    assert_packs(spec, packing_arguments(rng, spec, awkward_floats(rng, (3, k), "f32")))


@pytest.mark.parametrize("source", ["i8", "i16", "i32"])
@pytest.mark.parametrize("encoding", ["u4", "u3@row", "i2", "bipolar3", "ternary"])
def test_integers_are_packed_as_they_are(encoding: str, source: str) -> None:
    rng = np.random.default_rng(3)
    spec, known = PackSpec(5, 131, encoding, source), Encoding.parse(encoding)
    values = rng.integers(0, 2**known.bits - (known.kind == "ternary"), (5, 131)) * known.scale
    given = packing_arguments(rng, spec, values)
    inside = values - given["zeros"][:, None] if "zeros" in given else values + known.minimum
    given["x"] = inside.astype(numpy_dtype(source))
    assert_packs(spec, given)


def test_quantising_is_quantize_linear_of_onnx() -> None:
    """y = saturate(round_half_even(x / scale) + zero_point), with division and sum in exact arithmetic."""
    rng = np.random.default_rng(4)
    x, zero = rng.normal(0, 4, (1, 500)).astype(np.float32), 9
    x[0, :100] = rng.integers(-20, 20, 100) / np.float32(2)
    given = np.float32(0.5)
    packed = bitmlir.compile(PackSpec(1, 500, f"u4@{zero}", scale=True), "cpu")(x, scale=given)
    codes = [min(max(round(Fraction(float(v)) / Fraction(float(given))) + zero, 0), 15) for v in x[0]]
    np.testing.assert_array_equal(bitmlir.unpack(packed)[0], np.array(codes) - zero)


def test_bipolar_holds_the_signs_whatever_the_scale() -> None:
    x = np.array([[-0.0, 0.0, 1e-45, -1e-45, np.inf, -np.inf, np.nan, 3, -3]], np.float32)
    signs = [1, 1, 1, -1, 1, -1, -1, 1, -1]
    assert bitmlir.unpack(bitmlir.compile(PackSpec(1, 9, "bipolar"), "cpu")(x)).tolist() == [signs]
    assert bitmlir.unpack(bitmlir.compile(PackSpec(1, 9, "bipolar", scale=True), "cpu")(x, scale=1e30)).tolist() == [
        signs
    ]


def test_a_row_of_zeros_may_have_scale_zero() -> None:
    packed = bitmlir.compile(PackSpec(2, 3, "i4", scale=True), "cpu")(np.zeros((2, 3)), scale=[0, 1])
    assert not bitmlir.unpack(packed).any()


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ([1, -0.5, -1], r"scale\[1\] = -0.5 cannot divide a row"),
        ([1, 0, np.nan], r"scale\[2\] = nan cannot divide a row"),
        ([1, -1e-45, 2], r"scale\[1\] = -1e-45 cannot divide a row"),
        (-np.inf, r"scale\[0\] = -inf cannot divide a row"),
    ],
)
@pytest.mark.parametrize("encoding", ["i4", "u4@row"])
def test_scales_that_are_negative_or_none_are_refused(encoding: str, scale: Any, message: str) -> None:
    program = bitmlir.compile(PackSpec(3, 5, encoding, scale=True), "cpu")
    zeros = {"zeros": np.zeros(3, np.int32)} if encoding == "u4@row" else {}
    with pytest.raises(bitmlir.InputError, match=message):
        program(np.zeros((3, 5)), scale=scale, **zeros)
    program(np.zeros((3, 5)), scale=[-0.0, np.inf, 1e-45], **zeros)


def test_what_was_packed_feeds_a_product_as_it_is() -> None:
    rng = np.random.default_rng(5)
    x, w = rng.normal(0, 1, (6, 100)).astype(np.float32), rng.integers(-1, 2, (4, 100))
    scale = (np.abs(x).max(axis=1) / 7).astype(np.float32)
    packed = bitmlir.compile(PackSpec(6, 100, "i4", scale=True), "cpu")(x, scale=scale)
    product = bitmlir.MatmulSpec(6, 4, 100, "i4", "ternary", out="f32", row_scale=True)
    y = bitmlir.compile(product, "cpu")(packed, w, row_scale=scale)
    np.testing.assert_array_equal(y, (np.rint(x / scale[:, None]) @ w.T).astype(np.float32) * scale[:, None])


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"rows": 0}, bitmlir.ShapeError, "rows must be a whole number from 1 to .*, got 0"),
        ({"k": 2.5}, bitmlir.ShapeError, "k must be a whole number from 1 to .*, got 2.5"),
        ({"k": 1 << 27, "encoding": "u8"}, bitmlir.ShapeError, "k = 134217728 is too long for 'u8': row sums up to"),
        ({"encoding": "u9"}, bitmlir.EncodingError, "unknown encoding 'u9'"),
        ({"source": "f64"}, bitmlir.InputError, "unknown source 'f64': expected one of f32, f16, bf16, i8, i16, i32"),
        ({"source": "i8", "scale": True}, bitmlir.InputError, "source='i8' takes no scale: integers are packed as"),
    ],
)
def test_specs_that_make_no_sense_are_refused(fields: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        PackSpec(**{"rows": 4, "k": 40, "encoding": "u4", **fields})


def test_sizes_may_be_numbers_of_numpy() -> None:
    rows, k = (int_type(size) for int_type, size in ((np.int64, 4), (np.int32, 5)))
    assert PackSpec(rows, k, "u1") == PackSpec(4, 5, "u1")  # pyright: ignore[reportArgumentType]
