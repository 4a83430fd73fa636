"""Random operands, and the comparison of a program's results with the oracle's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import bitmlir
from bitmlir import Encoding, MatmulSpec, Packed, SearchSpec, TileBitmap, pack, unpack
from bitmlir.dialects.errors import InputError
from bitmlir.runtime.plan import Plan, Value
from bitmlir.tools import check
from bitmlir.tools.check import Trial, WrongResultError, random_operands

ENCODINGS = ["u1", "u8", "u4@3", "u3@row", "u8@row", "i2", "i8", "bipolar", "bipolar8", "ternary"]
NETWORK = Path(__file__).parent.parent / "tools" / "Inputs" / "network.mlir"


def plan_of(*arguments: Value) -> Plan:
    return Plan("f", "cpu", arguments, (), (), ())


def matrix(name: str, shape: tuple[int, int], encoding: str) -> Value:
    return Value(name, "packed", shape, {}, encoding=encoding)


def tiles(name: str, shape: tuple[int, int], encoding: str) -> Value:
    return Value(name, "tiles", shape, {}, encoding=encoding)


# --- random operands ------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_matrix_is_given_as_it_is_told_to_the_oracle_and_reaches_both_extremes(encoding: str) -> None:
    operands = random_operands(plan_of(matrix("x", (50, 70), encoding)), seed=0)
    values, packed = operands.plain["x"], operands.given["x"]
    np.testing.assert_array_equal(unpack(packed), values)
    zeros = np.zeros(50, np.int32) if packed.zeros is None else packed.zeros
    known = Encoding.parse(encoding)
    assert (values[0] + zeros[0] == known.maximum).all()
    assert (values[1] + zeros[1] == (0 if known.has_row_zeros else known.minimum)).all()
    assert len(np.unique(values[2:])) > 1


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_half_the_tiles_under_a_bitmap_are_empty_and_it_says_which(encoding: str) -> None:
    shape = (1000, 5000)
    operands = random_operands(plan_of(tiles("x_tiles", shape, encoding), matrix("x", shape, encoding)), seed=0)
    bitmap = operands.given["x_tiles"]
    bitmap.check(operands.given["x"])
    assert 0.2 < bitmap.to_array()[0].mean() < 0.8
    assert "x_tiles" not in operands.plain


@pytest.mark.parametrize(
    "other", [matrix("y", (130, 70), "u2"), matrix("x", (130, 70), "i2")], ids=["name", "encoding"]
)
def test_a_bitmap_over_what_is_no_argument_calls_no_tile_empty(other: Value) -> None:
    operands = random_operands(plan_of(other, tiles("x_tiles", (130, 70), "u2")), seed=0)
    assert operands.given["x_tiles"].to_array().all()


@pytest.mark.parametrize("dtype", ["i1", "i8", "i16", "i32", "i64", "f16", "bf16", "f32", "f64"])
def test_plain_arrays_have_their_type_and_both_signs(dtype: str) -> None:
    operands = random_operands(plan_of(Value("a", "array", (40, 50), {}, dtype=dtype)), seed=0)
    array = operands.given["a"]
    assert operands.plain["a"] is array
    assert array.dtype.itemsize == {"i1": 1, "bf16": 2}.get(dtype) or int(dtype[1:]) // 8
    assert (array > 0).any()
    assert (array <= 0).any()
    if dtype in ("i8", "i16", "i32", "i64"):
        assert (array == 0).any()
        assert np.abs(array.astype(float)).max() > np.iinfo(array.dtype).max / 4


def test_scales_are_positive_and_flips_truth_values() -> None:
    scale = Value("scale", "array", (1000,), {}, dtype="f32")
    flip, other = (Value(name, "array", (1000,), {}, dtype="i8") for name in ("flip", "other"))
    plain = random_operands(plan_of(scale, flip, other), seed=0).plain
    assert (plain["scale"] >= 0).all()
    assert np.unique(plain["flip"]).tolist() == [False, True]
    assert len(np.unique(plain["other"])) > 2


def test_the_seed_decides_the_operands() -> None:
    plan = plan_of(matrix("x", (5, 70), "u3@row"), Value("a", "array", (9,), {}, dtype="f32"))
    first, same, other = (random_operands(plan, seed) for seed in (1, 1, 2))
    for name in ("x", "a"):
        np.testing.assert_array_equal(first.plain[name], same.plain[name])
        assert (first.plain[name] != other.plain[name]).any()


# --- comparing ------------------------------------------------------------------------------------


def trial_of(source: MatmulSpec | SearchSpec | str, change: Callable[[Any], Any] = lambda result: result) -> Trial:
    """A trial on the CPU whose result is changed before it is compared."""
    trial = Trial.start(bitmlir.compile(source, "cpu"), source, seed=0)
    return replace(trial, call=lambda: change(trial.call()))  # type: ignore[arg-type]


FLOATS = MatmulSpec(m=5, n=7, k=64, lhs="bipolar", rhs="u2", out="f32", column_scale=True)
BITS = MatmulSpec(m=5, n=7, k=64, lhs="bipolar", rhs="u2", out="bit")


@pytest.mark.parametrize("out", ["i32", "i16", "f32", "f16", "bf16", "bit", "u4", "bipolar2", "ternary"])
def test_right_results_of_every_kind_pass(out: str) -> None:
    assert trial_of(replace(BITS, out=out)).check() == 35


@pytest.mark.parametrize("out", ["i32", "f16", "u4@8"])
def test_a_residual_and_relu_are_told_to_the_oracle(out: str) -> None:
    spec = replace(BITS, out=out, residual="i16", relu=True)
    assert trial_of(spec).check() == 35
    with pytest.raises(WrongResultError):
        Trial.start(bitmlir.compile(replace(spec, relu=False), "cpu"), spec, seed=0).check()


@pytest.mark.parametrize("score", ["dot", "hamming"])
def test_values_and_columns_of_a_search_are_compared(score: str) -> None:
    spec = SearchSpec(5, 70, 64, "bipolar", "bipolar", 3, score)
    assert trial_of(spec).check() == 30

    def swapped(results: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        results[1][2] = results[1][2, ::-1]
        return results

    with pytest.raises(WrongResultError, match=r"columns\[2, 0\]"):
        trial_of(spec, swapped).check()


def test_the_last_bit_of_a_float_counts() -> None:
    def nudged(result: np.ndarray) -> np.ndarray:
        result[3, 2] = np.nextafter(result[3, 2], np.float32(np.inf))
        return result

    with pytest.raises(WrongResultError, match=r"result\[3, 2\] is .*; 1 of 35 elements are wrong"):
        trial_of(FLOATS, nudged).check()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16])
def test_floats_are_compared_bit_for_bit_but_any_nan_is_a_nan(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    nan, other_nan = np.array([0x7FC0, 0xFFC1], np.uint16).view(ml_dtypes.bfloat16).astype(dtype)
    trial = trial_of(FLOATS, lambda _: np.array([[0.0, nan]], dtype))
    monkeypatch.setattr(check, "expected_results", lambda *_: [np.array([[0.0, other_nan]], dtype)])
    assert trial.check() == 2
    monkeypatch.setattr(check, "expected_results", lambda *_: [np.array([[-0.0, nan]], dtype)])
    with pytest.raises(WrongResultError, match=r"result\[0, 0\] is 0.0, but must be -0.0"):
        trial.check()


def test_a_wrong_bit_is_found() -> None:
    def flipped(result: Packed) -> Packed:
        values = unpack(result)
        values[4, 6] *= -1
        return pack(values, "bipolar")

    with pytest.raises(WrongResultError, match=r"result\[4, 6\] is (1, but must be -1|-1, but must be 1); 1 of 35"):
        trial_of(BITS, flipped).check()


def test_row_sums_and_padding_that_the_next_product_would_read_must_be_right() -> None:
    def off_by_one(result: Packed) -> Packed:
        result.sums[3] += 1
        return result

    def stray(result: Packed) -> Packed:
        result.planes[0, 2, 0] |= np.uint32(1 << 31)
        return result

    with pytest.raises(InputError, match=r"sums\[3\]"):
        trial_of(BITS, off_by_one).check()
    with pytest.raises(InputError, match=r"planes\[0, 2\] has bits set past k = 7"):
        trial_of(BITS, stray).check()


def test_every_result_of_a_program_in_ir_is_compared() -> None:
    text = NETWORK.read_text()
    assert trial_of(text).check() == 40 * 9 + 40 * 70

    def wrong(results: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        results[1][39, 69] *= -1
        return results

    with pytest.raises(WrongResultError, match=r"hidden\[39, 69\]"):
        trial_of(text, wrong).check()


def test_a_bitmap_is_handed_to_the_program() -> None:
    spec = replace(BITS, m=130, k=3000, out="i32", lhs_tiles=True)
    trial = trial_of(spec)
    assert isinstance(trial.operands.given["lhs_tiles"], TileBitmap)
    assert not trial.operands.given["lhs_tiles"].to_array().all()
    assert trial.check() == 130 * 7


def test_a_run_is_timed_as_often_as_asked() -> None:
    seconds = Trial.start(bitmlir.compile(BITS, "cpu"), BITS, seed=0).time(4)
    assert len(seconds) == 4
    assert min(seconds) > 0
