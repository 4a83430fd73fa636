"""The oracle against loops written out, and its results bit by bit."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bitmlir import reference
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
    ("out", "argument"), [("i32", "bias"), ("i32", "threshold"), ("bit", "row_scale"), ("f16", "flip")]
)
def test_arguments_a_result_has_no_use_for_are_refused(out: Any, argument: str) -> None:
    with pytest.raises(InputError, match=f"a result of {out} takes no {argument}"):
        reference.epilogue(np.zeros((1, 1), int), out, **{argument: np.ones(1)})


def test_an_unknown_result_is_refused() -> None:
    with pytest.raises(InputError, match="unknown result 'f64': expected i32, f32, f16, bf16 or bit"):
        reference.epilogue(np.zeros((1, 1), int), "f64")  # type: ignore[arg-type]
