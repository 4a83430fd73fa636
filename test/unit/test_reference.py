"""The oracle against loops written out, and its results bit by bit."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bitmlir import reference
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import InputError, ShapeError


def test_the_product_is_the_sum_written_out() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(-300, 300, (3, 7)), rng.integers(-300, 300, (5, 7))
    expected = [[sum(int(a) * int(b) for a, b in zip(r, s, strict=True)) for s in y] for r in x]
    result = reference.matmul(x.astype(np.int16), y.astype(np.int16))
    assert result.dtype == np.int64
    assert result.tolist() == expected


def test_the_product_is_exact_past_what_float64_holds() -> None:
    x, y = np.array([[2**31, 1]]), np.array([[2**30, 1]])
    assert reference.matmul(x, y).tolist() == [[2**61 + 1]]


def test_the_most_negative_values_do_not_wrap() -> None:
    x = np.full((1, 3), -128, np.int8)
    assert reference.matmul(x, x).tolist() == [[3 * 128 * 128]]
    assert reference.row_sums(x).tolist() == [-384]


def test_a_product_that_int64_cannot_hold_is_refused() -> None:
    with pytest.raises(InputError, match="do not fit in int64"):
        reference.matmul(np.array([[2**32]]), np.array([[2**31]]))


def test_i32_is_the_accumulator() -> None:
    acc = np.array([[-(2**31), 2**31 - 1]])
    result = reference.epilogue(acc, "i32")
    assert result.dtype == np.int32
    assert result.tolist() == acc.tolist()


def test_i16_is_the_accumulator_where_that_fits() -> None:
    acc = np.array([[-(2**15), 2**15 - 1]])
    result = reference.epilogue(acc, "i16")
    assert result.dtype == np.int16
    assert result.tolist() == acc.tolist()
    with pytest.raises(ShapeError, match="does not fit in int16"):
        reference.epilogue(acc + 1, "i16")


@pytest.mark.parametrize("out", ["i32", "i16"])
def test_a_sum_with_a_residual_is_clamped_and_then_cut_at_zero(out: Any) -> None:
    largest = 2 ** (int(out[1:]) - 1) - 1
    acc, residual = np.array([[largest, -largest, 5, 5]]), np.array([[1, -2, -7, 1]], np.int32)
    assert reference.epilogue(acc, out, residual=residual).tolist() == [[largest, -largest - 1, -2, 6]]
    assert reference.epilogue(acc, out, residual=residual, relu=True).tolist() == [[largest, 0, 0, 6]]


def test_a_threshold_meets_the_sum_with_the_residual_clamped_to_int32() -> None:
    acc, residual = np.array([[2**31 - 1, 3, -(2**31)]]), np.array([[2**31 - 1, -5, -1]], np.int32)
    for threshold, expected in ((-2, [1, 1, -1]), (-1, [1, -1, -1]), (2**31 - 1, [1, -1, -1]), (-(2**31), [1, 1, 1])):
        result = reference.epilogue(acc, "bit", threshold=np.full(3, threshold), residual=residual)
        assert result.tolist() == [expected]
    with pytest.raises(InputError, match="takes a residual of integers, got float32"):
        reference.epilogue(acc, "bit", residual=residual.astype(np.float32))


def test_a_residual_is_the_last_to_be_added_before_relu() -> None:
    acc = np.array([[3, 3, 3]])
    more: dict[str, Any] = {
        "column_scale": np.array([2, 2, 2]),
        "bias": np.array([1, 1, 1]),
        "residual": np.array([[-6.5, -7.0, -9.0]]),
    }
    assert reference.epilogue(acc, "f32", **more).tolist() == [[0.5, 0, -2]]
    assert reference.epilogue(acc, "f16", relu=True, **more).tolist() == [[0.5, 0, 0]]


def test_relu_makes_minus_zero_positive_and_keeps_nan() -> None:
    scale = np.array([-0.0, np.nan, -1.0], np.float32)
    result = reference.epilogue(np.array([[1, 1, 1]]), "f32", column_scale=scale, relu=True)
    assert not np.signbit(result[0, [0, 2]]).any()
    assert np.isnan(result[0, 1])


@pytest.mark.parametrize("encoding", ["u1", "u2", "u4", "u8", "u3@5", "i2", "i8", "ternary", "bipolar", "bipolar3"])
def test_quantising_takes_the_nearest_value_and_clamps(encoding: str) -> None:
    known = Encoding.parse(encoding)
    if encoding == "ternary":
        values = [-1, 0, 1]
    else:
        values = [v for v in range(known.minimum, known.maximum + 1) if known.kind != "bipolar" or v % 2]
    halves = np.arange(4 * (known.minimum - 5), 4 * (known.maximum + 6)) / 4
    for y, result in zip(halves, reference.quantised(halves.astype(np.float32), encoding), strict=True):
        nearest = min(abs(v - y) for v in values)
        candidates = [v for v in values if abs(v - y) == nearest]
        tie = max(candidates, key=lambda v: (abs(v), v) if known.kind == "bipolar" else (v % 2 == 0, 0))
        assert result == tie, y


def test_quantising_knows_infinities_nan_and_the_smallest_floats() -> None:
    tiny = float(np.finfo(np.float32).smallest_subnormal)
    y = np.array([np.inf, -np.inf, np.nan, 3e38, -3e38, tiny, -tiny, -0.0], np.float32)
    assert reference.quantised(y, "i4").tolist() == [7, -8, -8, 7, -8, 0, 0, 0]
    assert reference.quantised(y, "u4@3").tolist() == [12, -3, -3, 12, -3, 0, 0, 0]
    assert reference.quantised(y, "bipolar").tolist() == [1, -1, -1, 1, -1, 1, -1, 1]
    assert reference.quantised(y, "u8").dtype == np.int16


@pytest.mark.parametrize("out", ["i32", "f32", "bit"])
def test_an_accumulator_past_int32_is_refused(out: Any) -> None:
    with pytest.raises(ShapeError, match="does not fit in int32: split K"):
        reference.epilogue(np.array([[2**31]]), out)


def round_to_f32(value: Fraction) -> Fraction:
    """Nearest 24-bit value, ties to even, for normal numbers; by exact arithmetic."""
    unit = Fraction(1)
    while abs(value) / unit >= 2**24:
        unit *= 2
    while value and abs(value) / unit < 2**23:
        unit /= 2
    return round(value / unit) * unit


def test_float_results_round_to_f32_after_each_step_in_order() -> None:
    rng = np.random.default_rng(1)
    acc = rng.integers(-(2**31), 2**31, (4, 6))
    rows, columns, bias = (rng.normal(size=n).astype(np.float32) for n in (4, 6, 6))
    result = reference.epilogue(acc, "f32", rows, columns, bias * np.float32(1e8))
    assert result.dtype == np.float32
    for i in range(4):
        for j in range(6):
            exact = round_to_f32(Fraction(int(acc[i, j])))
            exact = round_to_f32(exact * Fraction(float(rows[i])))
            exact = round_to_f32(exact * Fraction(float(columns[j])))
            exact = round_to_f32(exact + Fraction(float(bias[j] * np.float32(1e8))))
            assert Fraction(float(result[i, j])) == exact


def test_each_scale_and_the_bias_apply_alone_along_their_own_axis() -> None:
    acc, pair, triple = np.ones((2, 3), np.int64), np.array([2, 4]), np.array([8, 16, 32])
    assert reference.epilogue(acc, "f32", row_scale=pair).tolist() == [[2, 2, 2], [4, 4, 4]]
    assert reference.epilogue(acc, "f32", column_scale=triple).tolist() == [[8, 16, 32]] * 2
    assert reference.epilogue(acc, "f32", bias=triple).tolist() == [[9, 17, 33]] * 2


@pytest.mark.parametrize(
    ("out", "dtype", "acc", "expected"),
    [
        ("f16", np.float16, 2049, 2048),  # 11 bits, ties to even
        ("f16", np.float16, 2051, 2052),
        ("f16", np.float16, 65520, np.inf),
        ("bf16", ml_dtypes.bfloat16, 257, 256),  # 8 bits
        ("bf16", ml_dtypes.bfloat16, 259, 260),
        ("f32", np.float32, 2**24 + 1, 2**24),
    ],
)
def test_the_result_type_rounds_to_nearest_even(out: Any, dtype: Any, acc: int, expected: float) -> None:
    result = reference.epilogue(np.array([[acc]]), out)
    assert result.dtype == dtype
    assert float(result[0, 0]) == expected


def test_a_narrow_result_is_rounded_from_f32_and_not_from_the_exact_value() -> None:
    scale = np.array([1170.8572], np.float32)
    assert (
        np.float16(7 * np.float64(scale[0])) == 8200
    )  # the exact product lies above 8196, the middle of 8192 and 8200
    assert reference.epilogue(np.array([[7]]), "f16", column_scale=scale)[0, 0] == 8192  # in f32 it is the middle: even


def test_a_bit_is_set_at_the_threshold_and_flip_turns_it() -> None:
    acc = np.array([[4, 5, 6], [4, 5, 6]]).T
    assert reference.epilogue(acc, "bit", threshold=np.array([5, 5]), flip=np.array([False, True])).tolist() == [
        [-1, 1],
        [1, -1],
        [1, -1],
    ]


def test_without_threshold_and_flip_a_bit_is_the_sign() -> None:
    result = reference.epilogue(np.array([[-1, 0, 1]]), "bit")
    assert result.dtype == np.int8
    assert result.tolist() == [[-1, 1, 1]]


@pytest.mark.parametrize(
    ("out", "argument"),
    [("i32", "bias"), ("i32", "threshold"), ("i16", "flip"), ("bit", "row_scale"), ("bit", "relu"), ("f16", "flip"),
     ("u4", "threshold")],
)  # fmt: skip
def test_arguments_a_result_has_no_use_for_are_refused(out: Any, argument: str) -> None:
    given: dict[str, Any] = {argument: np.ones(1)}
    with pytest.raises(InputError, match=f"a result of {out} takes no {argument}"):
        reference.epilogue(np.zeros((1, 1), int), out, **given)


def test_an_unknown_result_is_refused() -> None:
    with pytest.raises(InputError, match="unknown result 'f64': expected i32, i16, f32, f16, bf16, bit or"):
        reference.epilogue(np.zeros((1, 1), int), "f64")
    with pytest.raises(InputError, match="cannot have a zero point for each row, as 'u4@row' would"):
        reference.epilogue(np.zeros((1, 1), int), "u4@row")
