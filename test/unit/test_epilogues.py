"""Results that the next layer wants, on the CPU and bit for bit: narrow and quantised ones, residuals, ReLU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import compile_for_cpu, epilogue_parts, random_matrix, run

import bitmlir
from bitmlir import EncodingError, InputError, MatmulSpec, ShapeError, reference
from bitmlir.formats.packed import Packed, unpack

SIZES = (7, 70, 90)
QUANTISED = ["u1", "u2", "u3", "u4", "u8", "u4@8", "i2", "i4", "i8", "bipolar", "bipolar2", "bipolar4", "ternary"]
SCALES: dict[str, Any] = {"row_scale": True, "column_scale": True, "bias": True}
LARGEST = 2**31 - 1


def same(result: Any, expected: np.ndarray) -> None:
    """Equal to the last bit; `run` has checked row sums and padding of packed results."""
    result = unpack(result) if isinstance(result, Packed) else result
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result.view(f"u{result.itemsize}"), expected.view(f"u{expected.itemsize}"))


def check(spec: MatmulSpec, rng: np.random.Generator) -> None:
    (x, lhs), (y, rhs) = (random_matrix(rng, (n, spec.k), str(e)) for n, e in ((spec.m, spec.lhs), (spec.n, spec.rhs)))
    parts = epilogue_parts(rng, spec)
    result = run(compile_for_cpu(spec), {"lhs": lhs, "rhs": rhs, **parts})["result"]
    same(result, reference.epilogue(reference.matmul(x, y), spec.out, relu=spec.relu, **parts))


@pytest.mark.parametrize("out", QUANTISED)
@pytest.mark.parametrize("parts", [{}, SCALES], ids=["bare", "scaled"])
def test_quantised_results_are_those_of_the_oracle(rng: np.random.Generator, out: str, parts: dict[str, Any]) -> None:
    check(MatmulSpec(*SIZES, "u2", "i2", out=out, **parts), rng)


@pytest.mark.parametrize("residual", ["i8", "i16", "i32", "f32", "f16", "bf16"])
@pytest.mark.parametrize("out", ["f32", "f16", "bf16", "u4", "bipolar"])
@pytest.mark.parametrize("relu", [False, True])
def test_any_residual_is_added_where_there_are_floats(
    rng: np.random.Generator, out: str, residual: str, relu: bool
) -> None:
    check(MatmulSpec(*SIZES, "bipolar", "i3", out=out, column_scale=True, residual=residual, relu=relu), rng)


@pytest.mark.parametrize("residual", [None, "i8", "i16", "i32"])
@pytest.mark.parametrize(
    ("out", "relu"), [("i32", False), ("i32", True), ("i16", False), ("i16", True), ("bit", False)]
)
def test_residuals_of_integers_are_added_to_integers(
    rng: np.random.Generator, out: str, residual: str | None, relu: bool
) -> None:
    check(MatmulSpec(*SIZES, "bipolar", "u4@8", out=out, residual=residual, relu=relu), rng)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 17, 40), (2, 33, 129)], ids=str)
@pytest.mark.parametrize("out", ["i16", "f16", "u3", "bipolar2"])
def test_every_part_works_at_odd_sizes(rng: np.random.Generator, sizes: tuple[int, int, int], out: str) -> None:
    parts = {} if out == "i16" else SCALES
    check(MatmulSpec(*sizes, "ternary", "u2", out=out, residual="i16", relu=True, **parts), rng)


@pytest.mark.parametrize(("out", "low", "high"), [("i16", -(2**15), 2**15 - 1), ("i32", -(2**31), LARGEST)])
def test_a_sum_with_a_residual_stops_at_the_ends_of_its_type(out: str, low: int, high: int) -> None:
    spec = MatmulSpec(m=1, n=4, k=2, lhs="i8", rhs="ternary", out=out, residual=out)
    residual = np.array([[low, low + 1, high - 1, high]], np.int64)
    x, w = np.array([[100, 100]]), np.array([[-1, 0], [0, 0], [1, 0], [-1, -1]])
    result = bitmlir.compile(spec, target="cpu")(x, w, residual=residual)
    assert result.tolist() == [[low, low + 1, high, high - 200]]


def test_a_threshold_meets_a_sum_that_int32_cannot_hold() -> None:
    spec = MatmulSpec(m=1, n=4, k=1, lhs="u8", rhs="i2", out="bit", residual="i32")
    residual, w = np.array([[LARGEST, -LARGEST, -LARGEST, 0]]), np.array([[1], [-1], [-1], [1]])
    threshold = np.array([LARGEST, -LARGEST, -LARGEST - 1, 256])
    result = bitmlir.compile(spec, target="cpu")(np.array([[255]]), w, residual=residual, threshold=threshold)
    assert unpack(result).tolist() == [[1, -1, 1, -1]]


@pytest.mark.parametrize("out", ["u4", "i8", "bipolar", "bipolar3", "ternary"])
def test_infinities_and_nan_become_values_of_the_encoding(out: str) -> None:
    tiny = np.finfo(np.float32).smallest_subnormal
    residual = np.array([[np.inf, -np.inf, np.nan, 3e38, -3e38, tiny, -tiny, -0.0]], np.float32)
    spec = MatmulSpec(m=1, n=8, k=1, lhs="u1", rhs="u1", out=out, residual="f32")
    result = bitmlir.compile(spec, target="cpu")(np.zeros((1, 1), int), np.zeros((8, 1), int), residual=residual)
    result.check()
    np.testing.assert_array_equal(unpack(result), reference.quantised(residual, out))


@pytest.mark.parametrize("out", ["f32", "f16", "bf16"])
def test_relu_keeps_nan_and_makes_minus_zero_positive(out: str) -> None:
    residual = np.array([[-0.0, np.nan, -np.inf, np.inf, -1e-30, 1.0]], np.float32)
    spec = MatmulSpec(m=1, n=6, k=1, lhs="u1", rhs="u1", out=out, column_scale=True, residual="f32", relu=True)
    zeros = np.zeros((1, 1), int), np.zeros((6, 1), int)
    result = bitmlir.compile(spec, target="cpu")(*zeros, column_scale=-1.0, residual=residual)
    result = result.astype(np.float32)
    assert np.isnan(result[0, 1])
    assert result[0, [0, 2, 3, 4, 5]].tolist() == [0, 0, np.inf, 0, 1]
    assert not np.signbit(result[0, [0, 2, 4]]).any()


def test_a_quantised_result_is_the_next_products_operand(rng: np.random.Generator) -> None:
    x, w, v = rng.integers(0, 4, (6, 90)), rng.integers(-2, 2, (50, 90)), rng.integers(-4, 4, (9, 50))
    first = MatmulSpec(m=6, n=50, k=90, lhs="u2", rhs="i2", out="u4", column_scale=True, relu=True)
    second = MatmulSpec(m=6, n=9, k=50, lhs="u4", rhs="i3")
    hidden = bitmlir.compile(first, target="cpu")(x, w, column_scale=0.25)
    expected = np.clip(np.rint((x @ w.T) / 4), 0, 15).astype(int)
    np.testing.assert_array_equal(unpack(hidden), expected)
    np.testing.assert_array_equal(bitmlir.compile(second, target="cpu")(hidden, v), expected @ v.T)


def test_a_zero_point_shifts_codes_and_not_values() -> None:
    spec = MatmulSpec(m=1, n=5, k=1, lhs="i8", rhs="i8", out="u2@1")
    result = bitmlir.compile(spec, target="cpu")(np.array([[1]]), np.array([[-9], [-1], [0], [2], [9]]))
    assert unpack(result).tolist() == [[-1, -1, 0, 2, 2]]
    assert result.planes[:, 0, 0].tolist() == [0b11100, 0b11000]  # the codes 0, 0, 1, 3, 3


# --- what a spec refuses ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"out": "u4@row"}, EncodingError, "zero point for each row, which no product makes: use u4@z"),
        ({"out": "u9"}, InputError, "unknown result 'u9': .*i16.*or an encoding such as u4"),
        ({"residual": "u8"}, InputError, "unknown residual 'u8': expected one of i32, i16, i8, f32"),
        ({"residual": "f16"}, InputError, "takes a residual of i32, i16, i8, not of f16: floats, they belong to f32"),
        ({"out": "bit", "residual": "bf16"}, InputError, "out='bit' takes a residual of i32, i16, i8, not of bf16"),
        ({"out": "i16", "column_scale": True}, InputError, "out='i16' takes no scales or bias: they belong to f32"),
        ({"out": "bit", "relu": True}, InputError, "takes no relu, which the threshold makes idle"),
    ],
)  # fmt: skip
def test_a_part_that_the_result_has_no_use_for_is_refused(fields: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MatmulSpec(**{"m": 3, "n": 5, "k": 70, "lhs": "bipolar", "rhs": "u2", **fields})


@pytest.mark.parametrize(
    ("lhs", "rhs", "fits"),
    [("bipolar", "bipolar", 32767), ("u2", "u2", 3640), ("i8", "i8", 1), ("u8", "bipolar", 128), ("u4@15", "i2", 1092)],
)
def test_i16_takes_every_k_that_fits_and_no_more(lhs: str, rhs: str, fits: int) -> None:
    assert MatmulSpec(m=1, n=1, k=fits, lhs=lhs, rhs=rhs, out="i16").out == "i16"
    with pytest.raises(
        ShapeError, match=rf"cannot hold K = {fits + 1} products .*: K up to {fits} fits; use out='i32'"
    ):
        MatmulSpec(m=1, n=1, k=fits + 1, lhs=lhs, rhs=rhs, out="i16")


def test_i16_says_what_is_reached_and_that_nothing_fits() -> None:
    with pytest.raises(ShapeError, match=r"of 'u8' and 'u8', which reach 0\.\.65025: no K fits"):
        MatmulSpec(m=1, n=1, k=1, lhs="u8", rhs="u8", out="i16")


def test_the_largest_sums_of_i16_are_exact() -> None:
    spec = MatmulSpec(m=1, n=2, k=32767, lhs="bipolar", rhs="bipolar", out="i16")
    ones = np.ones((1, 32767), np.int8)
    result = bitmlir.compile(spec, target="cpu")(ones, np.vstack([ones, -ones]))
    assert result.dtype == np.int16
    assert result.tolist() == [[32767, -32767]]
