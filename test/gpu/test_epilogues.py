"""Results that the next layer wants, on the GPU and bit for bit: narrow and quantised ones, residuals, ReLU.

Results and scratch are poisoned and every buffer lies between guard bytes (`support.run_on_gpu`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import epilogue_parts, lower_for_gpu, random_planes, run_on_gpu

from bitmlir import reference
from bitmlir.formats.packed import Packed, pack, unpack
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.spec import MatmulSpec

pytestmark = pytest.mark.gpu

FAST = ["sm_90a", "sm_90"]  # what a Hopper GPU runs itself
TARGETS = [*FAST, "sm_80", "sm_75"]
SIZES = [(64, 128, 500), (70, 66, 500), (63, 65, 500)]
SCALES: dict[str, Any] = {"row_scale": True, "column_scale": True, "bias": True}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(33)


def check(spec: MatmulSpec, target: str, rng: np.random.Generator) -> None:
    """Equal to the last bit; `run_on_gpu` has checked row sums and padding of packed results."""
    lhs, rhs = (random_planes(rng, (n, spec.k), str(e)) for n, e in ((spec.m, spec.lhs), (spec.n, spec.rhs)))
    parts = epilogue_parts(rng, spec)
    result = run_on_gpu(lower_for_gpu(spec, target), {"lhs": lhs, "rhs": rhs, **parts})["result"]
    result = unpack(result) if isinstance(result, Packed) else result
    expected = reference.epilogue(reference.matmul(unpack(lhs), unpack(rhs)), spec.out, relu=spec.relu, **parts)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result.view(f"u{result.itemsize}"), expected.view(f"u{expected.itemsize}"))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("out", ["u1", "u2", "u4", "u4@8", "u8", "i2", "i8", "bipolar", "bipolar3", "ternary"])
@pytest.mark.parametrize("sizes", SIZES, ids=["aligned", "even", "odd"])
def test_quantised_results_are_those_of_the_oracle(
    rng: np.random.Generator, sizes: tuple[int, int, int], out: str, target: str
) -> None:
    check(MatmulSpec(*sizes, "u2", "i2", out=out, **SCALES), target, rng)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("residual", ["i8", "i16", "i32", "f32", "f16", "bf16"])
@pytest.mark.parametrize("out", ["f16", "u4"])
@pytest.mark.parametrize("sizes", SIZES, ids=["aligned", "even", "odd"])
def test_any_residual_is_added_where_there_are_floats(
    rng: np.random.Generator, sizes: tuple[int, int, int], out: str, residual: str, target: str
) -> None:
    check(MatmulSpec(*sizes, "bipolar", "i3", out=out, column_scale=True, residual=residual, relu=True), target, rng)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("residual", [None, "i8", "i16", "i32"])
@pytest.mark.parametrize(("out", "relu"), [("i32", True), ("i16", False), ("i16", True), ("bit", False)])
@pytest.mark.parametrize("sizes", SIZES, ids=["aligned", "even", "odd"])
def test_residuals_of_integers_are_added_to_integers(
    rng: np.random.Generator, sizes: tuple[int, int, int], out: str, relu: bool, residual: str | None, target: str
) -> None:
    check(MatmulSpec(*sizes, "bipolar", "u3@4", out=out, residual=residual, relu=relu), target, rng)


@pytest.mark.parametrize("target", FAST)
@pytest.mark.parametrize("sizes", [(2048, 4096, 1024), (2047, 4001, 1000)], ids=["even", "odd"])
@pytest.mark.parametrize(
    "parts",
    [
        {"out": "u4", "residual": "f16", "relu": True, **SCALES},
        {"out": "bipolar2", "column_scale": True},
        {"out": "i16", "residual": "i16"},
        {"out": "bit", "residual": "i32"},
        {"out": "bf16", "residual": "bf16", "relu": True, **SCALES},
    ],
    ids=lambda parts: parts["out"],
)
def test_every_part_works_on_large_tiles(
    rng: np.random.Generator, sizes: tuple[int, int, int], parts: dict[str, Any], target: str
) -> None:
    check(MatmulSpec(*sizes, "bipolar", "bipolar", **parts), target, rng)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("out", "low", "high"), [("i16", -(2**15), 2**15 - 1), ("i32", -(2**31), 2**31 - 1)])
def test_a_sum_with_a_residual_stops_at_the_ends_of_its_type(out: str, low: int, high: int, target: str) -> None:
    spec = MatmulSpec(m=1, n=4, k=2, lhs="i8", rhs="ternary", out=out, residual=out)
    w = pack(np.array([[-1, 0], [0, 0], [1, 0], [-1, -1]]), "ternary")
    residual = np.array([[low, low + 1, high - 1, high]], numpy_dtype(out))
    given = {"lhs": pack(np.array([[100, 100]]), "i8"), "rhs": w, "residual": residual}
    assert run_on_gpu(lower_for_gpu(spec, target), given)["result"].tolist() == [[low, low + 1, high, high - 200]]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("out", ["f32", "f16", "bf16", "u4", "i8", "bipolar", "bipolar3", "ternary"])
@pytest.mark.parametrize("relu", [False, True])
def test_infinities_nan_and_minus_zero_become_what_numpy_says(out: str, relu: bool, target: str) -> None:
    tiny = np.finfo(np.float32).smallest_subnormal
    residual = np.array([[np.inf, -np.inf, np.nan, 3e38, -3e38, tiny, -tiny, -0.0]], np.float32)
    spec = MatmulSpec(m=1, n=8, k=1, lhs="u1", rhs="u1", out=out, column_scale=True, residual="f32", relu=relu)
    rng = np.random.default_rng(0)
    lhs, rhs = random_planes(rng, (1, 1), "u1"), random_planes(rng, (8, 1), "u1")
    scale = np.full(8, -0.0, np.float32)
    given = {"lhs": lhs, "rhs": rhs, "column_scale": scale, "residual": residual}
    result = run_on_gpu(lower_for_gpu(spec, target), given)["result"]
    acc = reference.matmul(unpack(lhs), unpack(rhs))
    expected = reference.epilogue(acc, out, column_scale=scale, residual=residual, relu=relu)
    result = unpack(result) if isinstance(result, Packed) else result
    # NaN is NaN, whatever its bits.
    np.testing.assert_array_equal(result.astype(np.float32), expected.astype(np.float32))
    assert out[0] not in "fb" or out.startswith("bipolar") or (np.signbit(result) == np.signbit(expected))[0, 3:].all()
