"""Searches on the GPU against plain numpy: the best columns of each row, in order, ties and all.

Results and scratch are poisoned and every buffer lies between guard bytes (`support.run_on_gpu`).
"""

from __future__ import annotations

import numpy as np
import pytest
from support import lower_for_gpu, random_planes, run_on_gpu, search_text

from bitmlir import reference
from bitmlir.formats.packed import Packed, unpack

pytestmark = pytest.mark.gpu

FAST = ["sm_90a", "sm_90"]  # what a Hopper GPU runs itself
TARGETS = [*FAST, "sm_80", "sm_75"]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def check(lhs: Packed, rhs: Packed, count: int, order: str, target: str) -> None:
    sizes = (lhs.rows, rhs.rows, lhs.k)
    text = search_text(sizes, str(lhs.encoding), str(rhs.encoding), count, order)
    results = run_on_gpu(lower_for_gpu(text, target), {"lhs": lhs, "rhs": rhs})
    values, columns = reference.search(reference.matmul(unpack(lhs), unpack(rhs)), count, order)
    np.testing.assert_array_equal(results["columns"], columns)
    np.testing.assert_array_equal(results["values"], values)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (17, 33, 65), (64, 256, 300), (70, 1001, 500)], ids=str)
@pytest.mark.parametrize("count", [1, 5, 32])
@pytest.mark.parametrize("order", ["largest", "smallest"])
def test_the_best_columns_come_in_order(
    rng: np.random.Generator, sizes: tuple[int, int, int], count: int, order: str, target: str
) -> None:
    m, n, k = sizes
    lhs, rhs = random_planes(rng, (m, k), "u2"), random_planes(rng, (n, k), "bipolar")
    check(lhs, rhs, min(count, n), order, target)


@pytest.mark.parametrize("target", FAST)
@pytest.mark.parametrize("sizes", [(1024, 20000, 256), (2047, 4999, 1000), (3, 200001, 128)], ids=str)
@pytest.mark.parametrize("count", [1, 10])
def test_large_searches(rng: np.random.Generator, sizes: tuple[int, int, int], count: int, target: str) -> None:
    m, n, k = sizes
    check(random_planes(rng, (m, k), "bipolar"), random_planes(rng, (n, k), "bipolar"), count, "largest", target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("order", ["largest", "smallest"])
def test_equal_scores_come_by_column(rng: np.random.Generator, order: str, target: str) -> None:
    row = random_planes(rng, (1, 100), "bipolar")
    same = Packed.from_planes(np.repeat(row.planes, 1000, axis=1), row.encoding, 100, None)
    check(same, same, 32, order, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("order", ["largest", "smallest"])
def test_scores_may_be_any_int32(rng: np.random.Generator, order: str, target: str) -> None:
    low, high = -(2**31), 2**31 - 1
    scores = rng.choice([low, low + 1, -1, 0, 1, high - 1, high], (40, 300)).astype(np.int32)
    epilogue = "%out = tensor.extract %scores[%row, %col] : tensor<40x300xi32>"
    text = search_text((40, 300, 1), "u1", "u1", 32, order, epilogue, reads={"scores": "tensor<40x300xi32>"})
    lhs, rhs = random_planes(rng, (40, 1), "u1"), random_planes(rng, (300, 1), "u1")
    results = run_on_gpu(lower_for_gpu(text, target), {"lhs": lhs, "rhs": rhs, "scores": scores})
    values, columns = reference.search(scores, 32, order)
    np.testing.assert_array_equal(results["columns"], columns)
    np.testing.assert_array_equal(results["values"], values)
