"""Batches of products and groups of rows on the CPU: exact for odd shapes and every result, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import compile_for_cpu

import bitmlir
from bitmlir import reference
from bitmlir.formats.packed import pack, unpack
from bitmlir.tools.check import Trial
from bitmlir.tools.evaluate import evaluate

ENCODINGS = [("bipolar", "u2"), ("u2@row", "i3"), ("u3@row", "u2@row"), ("ternary", "bipolar2"), ("u8", "i8")]
SHAPES = [(1, 1, 1, 1), (3, 5, 7, 70), (4, 1, 33, 200), (2, 67, 65, 1030)]
RESULTS = ["i32", "f32", "f16", "bf16", "bit", "u4", "i3", "ternary", "bipolar"]
FLOATS = {"row_scale": True, "column_scale": True, "bias": True}


def epilogue_of(out: str) -> dict[str, Any]:
    """Every part of the epilogue that a result has a use for."""
    return {"out": out, "residual": "i32", **(FLOATS if out not in ("i32", "i16", "bit") else {})}


def trial(spec: bitmlir.MatmulSpec | bitmlir.GroupedSpec, seed: int = 3) -> Trial:
    return Trial.start(bitmlir.compile(spec, target="cpu", cached=False), spec, seed)


# --- batches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("lhs", "rhs"), ENCODINGS)
def test_each_matrix_of_a_batch_meets_its_own(shape: tuple[int, int, int, int], lhs: str, rhs: str) -> None:
    batch, m, n, k = shape
    assert trial(bitmlir.MatmulSpec(m, n, k, lhs, rhs, batch=batch)).check() == batch * m * n


@pytest.mark.parametrize("out", RESULTS)
def test_a_batch_has_every_kind_of_result(out: str) -> None:
    spec = bitmlir.MatmulSpec(9, 37, 150, "u2@row", "bipolar", batch=3, **epilogue_of(out))
    assert trial(spec).check() == 3 * 9 * 37


def test_a_batch_is_what_plain_numpy_says(rng: np.random.Generator) -> None:
    x, w = rng.choice([-1, 1], (3, 5, 70)), rng.integers(0, 4, (3, 7, 70))
    scale = rng.random((3, 5)).astype(np.float32)
    multiply = bitmlir.compile(bitmlir.MatmulSpec(5, 7, 70, "bipolar", "u2", batch=3), target="cpu")
    expected = np.stack([x[b] @ w[b].T for b in range(3)])
    np.testing.assert_array_equal(multiply(x, w), expected)
    np.testing.assert_array_equal(multiply(pack(x, "bipolar"), pack(w, "u2")), expected)
    scaled = bitmlir.compile(
        bitmlir.MatmulSpec(5, 7, 70, "bipolar", "u2", "f32", row_scale=True, batch=3), target="cpu"
    )
    np.testing.assert_array_equal(scaled(x, w, row_scale=scale), expected.astype(np.float32) * scale[:, :, None])


def test_a_batch_of_one_keeps_its_dimension(rng: np.random.Generator) -> None:
    x, w = rng.integers(0, 4, (1, 2, 3)), rng.integers(0, 4, (1, 4, 3))
    spec = bitmlir.MatmulSpec(2, 4, 3, "u2", "u2", batch=1)
    np.testing.assert_array_equal(bitmlir.compile(spec, target="cpu")(x, w), x @ w.swapaxes(1, 2))


def test_a_packed_batch_feeds_the_next_product(rng: np.random.Generator) -> None:
    x, w, v = (rng.choice([-1, 1], shape) for shape in ((3, 5, 70), (3, 9, 70), (3, 4, 9)))
    first = bitmlir.compile(bitmlir.MatmulSpec(5, 9, 70, "bipolar", "bipolar", "bit", batch=3), target="cpu")
    bits = first(x, w, threshold=np.arange(9))
    bits.check()
    assert bits.shape == (3, 5, 9)
    signs = np.where(x @ w.swapaxes(1, 2) >= np.arange(9), 1, -1)
    np.testing.assert_array_equal(unpack(bits), signs)
    second = bitmlir.compile(bitmlir.MatmulSpec(5, 4, 9, "bipolar", "bipolar", batch=3), target="cpu")
    np.testing.assert_array_equal(second(bits, v), signs @ v.swapaxes(1, 2))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_take_rows_of_several_matrices(rng: np.random.Generator, threads: int) -> None:
    """Row ranges of tasks begin and end inside matrices."""
    spec = bitmlir.MatmulSpec(67, 65, 8192, "u2", "i2", "bit", batch=3)
    program = compile_for_cpu(spec, threads)
    x, w = pack(rng.integers(0, 4, (3, 67, 8192)), "u2"), pack(rng.integers(-2, 2, (3, 65, 8192)), "i2")
    planes, sums = np.full((1, 3, 67, 4), 7, np.int32), np.full((3, 67), 7, np.int32)
    program.run(
        {
            "lhs.planes": x.planes, "lhs.sums": x.sums, "rhs.planes": w.planes, "rhs.sums": w.sums,
            "threshold.values": np.zeros(65, np.int32), "flip.values": np.zeros(65, np.int8),
            "result.planes": planes, "result.sums": sums,
        }
    )  # fmt: skip
    result = bitmlir.Packed(planes.view(np.uint32), sums, bitmlir.Encoding.parse("bipolar"), (3, 67, 65))
    result.check()
    acc = reference.matmul(unpack(x), unpack(w))
    np.testing.assert_array_equal(unpack(result), np.where(acc >= 0, 1, -1))


def test_shapes_of_a_batch_are_checked(rng: np.random.Generator) -> None:
    multiply = bitmlir.compile(bitmlir.MatmulSpec(5, 7, 70, "bipolar", "u2", batch=3), target="cpu")
    x, w = rng.choice([-1, 1], (3, 5, 70)), rng.integers(0, 4, (3, 7, 70))
    with pytest.raises(bitmlir.ShapeError, match=r"lhs must have the shape \(3, 5, 70\), got \(2, 5, 70\)"):
        multiply(x[:2], w)
    with pytest.raises(bitmlir.ShapeError, match=r"rhs must have the shape \(3, 7, 70\), got \(7, 70\)"):
        multiply(x, pack(w[0], "u2"))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"batch": 0}, "batch must be a whole number from 1 to 134217728, got 0"),
        ({"batch": 2.5}, "batch must be a whole number from 1 to 134217728, got 2.5"),
        ({"batch": 1 << 20, "m": 1 << 10}, "a batch of 1048576 has 1073741824 rows in all"),
    ],
)
def test_a_batch_that_is_none_is_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(bitmlir.ShapeError, match=complaint):
        bitmlir.MatmulSpec(**{"m": 4, "n": 4, "k": 4, "lhs": "u1", "rhs": "u1", **fields})


def test_a_batch_takes_no_bitmaps() -> None:
    with pytest.raises(bitmlir.InputError, match="tile bitmaps cover single matrices, not batches"):
        bitmlir.MatmulSpec(4, 4, 4, "u1", "u1", lhs_tiles=True, batch=2)


def test_operations_of_a_batch_are_counted_for_each_matrix() -> None:
    assert bitmlir.MatmulSpec(2, 3, 5, "u1", "u1", batch=7).operations == 7 * 60


# --- groups -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("lhs", "rhs"), ENCODINGS)
def test_each_group_of_rows_meets_its_own_matrix(shape: tuple[int, int, int, int], lhs: str, rhs: str) -> None:
    groups, m, n, k = shape
    assert trial(bitmlir.GroupedSpec(groups, 4 * m, n, k, lhs, rhs)).check() == 4 * m * n


@pytest.mark.parametrize("out", RESULTS)
def test_groups_have_every_kind_of_result(out: str) -> None:
    spec = bitmlir.GroupedSpec(5, 29, 37, 150, "u2@row", "bipolar", **epilogue_of(out))
    assert trial(spec).check() == 29 * 37


@pytest.mark.parametrize(
    ("offsets", "groups"),
    [
        ([0, 2, 2, 7, 10], [0] * 2 + [2] * 5 + [3] * 3),  # one group is empty
        ([0, 0, 0, 0, 10], [3] * 10),
        ([0, 10, 10, 10, 10], [0] * 10),
        ([3, 4, 5, 6, 7], [0] * 4 + [1] + [2] + [3] * 4),  # the first and the last do not count
        ([0, 6, 4, 8, 10], [0] * 6 + [2] * 2 + [3] * 2),  # never back
        ([0, -5, 2**31 - 1, -(2**31), 0], [1] * 10),
    ],
    ids=str,
)
def test_any_offsets_give_each_row_one_group(rng: np.random.Generator, offsets: list[int], groups: list[int]) -> None:
    x, w = rng.choice([-1, 1], (10, 90)), rng.integers(-4, 4, (4, 6, 90))
    spec = bitmlir.GroupedSpec(4, 10, 6, 90, "bipolar", "i3")
    expected = np.einsum("mk,mnk->mn", x, w[groups])
    np.testing.assert_array_equal(bitmlir.compile(spec, target="cpu")(x, w, offsets), expected)
    np.testing.assert_array_equal(reference.grouped_matmul(x, w, np.array(offsets)), expected)


def test_column_parameters_are_those_of_the_group(rng: np.random.Generator) -> None:
    x, w = rng.choice([-1, 1], (6, 40)), rng.choice([-1, 1], (2, 3, 40))
    scale, rows = rng.random((2, 3)).astype(np.float32), rng.random(6).astype(np.float32)
    spec = bitmlir.GroupedSpec(2, 6, 3, 40, "bipolar", "bipolar", "f32", row_scale=True, column_scale=True)
    result = bitmlir.compile(spec, target="cpu")(x, w, [0, 4, 6], row_scale=rows, column_scale=scale)
    groups = np.array([0, 0, 0, 0, 1, 1])
    acc = np.einsum("mk,mnk->mn", x, w[groups]).astype(np.float32)
    np.testing.assert_array_equal(result, acc * rows[:, None] * scale[groups])


@pytest.mark.parametrize("groups", [0, True, 1 << 27])
def test_a_number_of_groups_that_is_none_is_refused(groups: int) -> None:
    with pytest.raises(bitmlir.ShapeError, match=r"groups must be a whole number from 1 to 33554432 \(134217728 rows"):
        bitmlir.GroupedSpec(groups, 4, 4, 4, "u1", "u1")


def test_what_is_wrong_with_one_product_is_wrong_with_groups() -> None:
    with pytest.raises(bitmlir.InputError, match="out='i32' takes no scales or bias"):
        bitmlir.GroupedSpec(2, 4, 4, 4, "u1", "u1", bias=True)


# --- the oracle -------------------------------------------------------------------------------------

BATCH = """
!x = tensor<2x3x5xi2, #bit.encoding<"u2">>
!w = tensor<2x4x5xi1, #bit.encoding<"bipolar">>
func.func @f(%x: !x, %w: !w, %each: tensor<2xi32>) -> tensor<2x3x4xi32> {
  %y = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index, %batch: index):
    %e = tensor.extract %each[%batch] : tensor<2xi32>
    %number = arith.index_cast %batch : index to i32
    %a = arith.addi %acc, %e : i32
    %b = arith.muli %a, %number : i32
    gpu.yield %b : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> tensor<2x3x4xi32>
  return %y : tensor<2x3x4xi32>
}
"""


def test_epilogues_may_use_the_number_of_the_matrix(rng: np.random.Generator) -> None:
    x, w, each = rng.integers(0, 4, (2, 3, 5)), rng.choice([-1, 1], (2, 4, 5)), np.array([7, -9], np.int32)
    expected = (x @ w.swapaxes(1, 2) + each[:, None, None]) * np.arange(2)[:, None, None]
    np.testing.assert_array_equal(bitmlir.compile(BATCH, target="cpu")(x, w, each), expected)
    np.testing.assert_array_equal(evaluate(BATCH, "f", [x, w, each])[0], expected)
