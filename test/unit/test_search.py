"""Searches on the CPU against plain numpy: the best columns of each row, in order, ties and all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import compile_for_cpu, random_matrix, run, search_text

import bitmlir
from bitmlir import EncodingError, InputError, SearchSpec, ShapeError, reference
from bitmlir.tools.evaluate import evaluate

PAIRS = [("bipolar", "bipolar"), ("u2", "i3"), ("ternary", "u4@row")]


def check(
    rng: np.random.Generator, sizes: tuple[int, int, int], names: tuple[str, str], count: int, order: str
) -> None:
    m, n, k = sizes
    (x, lhs), (y, rhs) = random_matrix(rng, (m, k), names[0]), random_matrix(rng, (n, k), names[1])
    text = search_text(sizes, *names, count, order)
    results = run(compile_for_cpu(text), {"lhs": lhs, "rhs": rhs})
    values, columns = reference.search(reference.matmul(x, y), count, order)
    np.testing.assert_array_equal(results["columns"], columns)
    np.testing.assert_array_equal(results["values"], values)
    for result, expected in zip(evaluate(text, "search", [x, y]), (values, columns), strict=True):
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("names", PAIRS, ids="-".join)
@pytest.mark.parametrize("order", ["largest", "smallest"])
@pytest.mark.parametrize("count", [1, 2, 32])
def test_the_best_columns_come_in_order(
    rng: np.random.Generator, names: tuple[str, str], order: str, count: int
) -> None:
    check(rng, (7, 201, 90), names, count, order)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 17, 40), (3, 64, 128), (33, 130, 5)], ids=str)
@pytest.mark.parametrize("count", [1, 16, 32])
def test_every_size_works_up_to_all_columns(rng: np.random.Generator, sizes: tuple[int, int, int], count: int) -> None:
    check(rng, sizes, ("bipolar", "bipolar"), min(count, sizes[1]), "largest")


@pytest.mark.parametrize("order", ["largest", "smallest"])
def test_equal_scores_come_by_column(rng: np.random.Generator, order: str) -> None:
    spec = SearchSpec(2, 100, 4, "bipolar", "bipolar", 32, "dot" if order == "largest" else "hamming")
    x = np.ones((2, 4), int)
    values, columns = bitmlir.compile(spec, target="cpu")(x, np.tile(x[:1], (100, 1)))
    assert (values == (4 if order == "largest" else 0)).all()
    assert columns.tolist() == [list(range(32))] * 2


def test_sorted_scores_are_the_worst_case_of_a_list_and_still_right(rng: np.random.Generator) -> None:
    y = np.where(np.arange(60)[None, :] < np.arange(60)[:, None], 1, -1)  # row n has n ones
    for database in (y, y[::-1]):
        values, columns = bitmlir.compile(SearchSpec(1, 60, 60, "bipolar", "bipolar", 9), target="cpu")(
            np.ones((1, 60), int), database
        )
        expected = reference.search(database.sum(axis=1)[None, :], 9)
        assert values.tolist() == expected[0].tolist()
        assert columns.tolist() == expected[1].tolist()


@pytest.mark.parametrize("order", ["largest", "smallest"])
def test_scores_may_be_any_int32(rng: np.random.Generator, order: str) -> None:
    low, high = -(2**31), 2**31 - 1
    scores = np.array([[low, high, 0, low, high, -1, 1, low]], np.int32)
    epilogue = "%out = tensor.extract %scores[%row, %col] : tensor<1x8xi32>"
    text = search_text((1, 8, 1), "u1", "u1", 8, order, epilogue, reads={"scores": "tensor<1x8xi32>"})
    values, columns = bitmlir.compile(text, target="cpu")(np.zeros((1, 1), int), np.zeros((8, 1), int), scores)
    expected = reference.search(scores, 8, order)
    assert values.tolist() == expected[0].tolist()
    assert columns.tolist() == expected[1].tolist()


def test_a_score_may_weigh_columns(rng: np.random.Generator) -> None:
    epilogue = """
        %weight = tensor.extract %weights[%col] : tensor<50xi32>
        %out = arith.addi %acc, %weight : i32"""
    text = search_text((4, 50, 70), "u2", "i2", 3, "smallest", epilogue, reads={"weights": "tensor<50xi32>"})
    (x, lhs), (y, rhs) = random_matrix(rng, (4, 70), "u2"), random_matrix(rng, (50, 70), "i2")
    weights = rng.integers(-99, 99, 50).astype(np.int32)
    values, columns = bitmlir.compile(text, target="cpu")(lhs, rhs, weights)
    expected = reference.search(x @ y.T + weights, 3, "smallest")
    np.testing.assert_array_equal(values, expected[0])
    np.testing.assert_array_equal(columns, expected[1])


@pytest.mark.parametrize("score", ["dot", "hamming"])
def test_a_spec_finds_the_nearest_rows(rng: np.random.Generator, score: str) -> None:
    x, y = rng.choice([-1, 1], (5, 99)), rng.choice([-1, 1], (300, 99))
    values, columns = bitmlir.compile(SearchSpec(5, 300, 99, "bipolar", "bipolar", 10, score), target="cpu")(x, y)
    distances = (x[:, None] != y[None]).sum(axis=2)
    expected = reference.search(x @ y.T, 10) if score == "dot" else reference.search(distances, 10, "smallest")
    np.testing.assert_array_equal(values, expected[0])
    np.testing.assert_array_equal(columns, expected[1])


def test_threads_share_the_rows_of_a_search(rng: np.random.Generator) -> None:
    (x, lhs), (y, rhs) = random_matrix(rng, (301, 8000), "bipolar"), random_matrix(rng, (300, 8000), "u3")
    program = compile_for_cpu(search_text((301, 300, 8000), "bipolar", "u3", 4, "largest"), threads=3)
    results = run(program, {"lhs": lhs, "rhs": rhs})
    np.testing.assert_array_equal(results["columns"], reference.search(reference.matmul(x, y), 4)[1])


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"count": 0}, InputError, r"count must be a whole number from 1 to 32 \(32 at most, of n = 500 rows\), got 0"),
        ({"count": 33}, InputError, "got 33"),
        ({"count": 6, "n": 5}, InputError, r"from 1 to 5 \(32 at most, of n = 5 rows\), got 6"),
        ({"count": 2.0}, InputError, "got 2.0"),
        ({"score": "cosine"}, InputError, "unknown score 'cosine': expected one of dot, hamming"),
        ({"score": "hamming", "rhs": "u1"}, InputError, "in 'bipolar', not of 'bipolar' and 'u1': pack codes"),
        ({"m": 0}, ShapeError, "m must be a whole number"),
        ({"lhs": "u9"}, EncodingError, "unknown encoding 'u9'"),
        ({"lhs": "u8", "rhs": "u8", "k": 10**6}, ShapeError, "can leave int32"),
    ],
)  # fmt: skip
def test_a_wrong_spec_is_refused(fields: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SearchSpec(**{"m": 3, "n": 500, "k": 70, "lhs": "bipolar", "rhs": "bipolar", **fields})
