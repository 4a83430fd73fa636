"""Batches of products and groups of rows on the GPU against plain numpy.

Results and scratch are poisoned and every buffer lies between guard bytes (`support.run_on_gpu`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import lower_for_gpu, run_on_gpu

import bitmlir
from bitmlir import reference
from bitmlir.formats.packed import Packed, unpack
from bitmlir.tools.check import expected_results, random_operands

pytestmark = pytest.mark.gpu

FAST = ["sm_90a", "sm_90"]  # what a Hopper GPU runs itself
TARGETS = [*FAST, "sm_80", "sm_75"]
ENCODINGS = [("bipolar", "bipolar"), ("bipolar", "u2"), ("u3@row", "u2@row"), ("i3", "ternary")]
RESULTS = ["i32", "i16", "f32", "f16", "bf16", "bit", "u4", "i3", "ternary"]
# Odd and whole; fewer rows than a tile, and tiles that reach into the next matrix.
SHAPES = [(1, 1, 1, 1), (3, 5, 7, 70), (7, 64, 64, 1024), (5, 65, 130, 300), (3, 129, 257, 1100), (2, 300, 96, 2050)]

Spec = bitmlir.MatmulSpec | bitmlir.GroupedSpec


def check(spec: Spec, target: str, offsets: list[int] | None = None) -> None:
    bundle = lower_for_gpu(spec, target)
    operands = random_operands(bundle.plan, seed=9)
    chosen = {} if offsets is None else {"offsets": np.array(offsets, np.int32)}
    plain, given = {**operands.plain, **chosen}, {**operands.given, **chosen}
    result: Any = run_on_gpu(bundle, given)["result"]
    (expected,) = expected_results(bundle.plan, spec, plain)
    result = unpack(result) if isinstance(result, Packed) else result
    if result.dtype.kind not in "iu":
        result, expected = (array.view(f"u{array.dtype.itemsize}") for array in (result, expected))
    np.testing.assert_array_equal(result, expected)


def epilogue_of(out: str) -> dict[str, Any]:
    """Every part of the epilogue that a result has a use for."""
    plain = out in ("i32", "i16", "bit")
    scaling = {} if plain else {"row_scale": True, "column_scale": True, "bias": True}
    return {"out": out, "residual": "i16" if plain else "f16", **scaling}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("lhs", "rhs"), ENCODINGS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_matrix_of_a_batch_meets_its_own(
    shape: tuple[int, int, int, int], lhs: str, rhs: str, target: str
) -> None:
    batch, m, n, k = shape
    check(bitmlir.MatmulSpec(m, n, k, lhs, rhs, batch=batch), target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("out", RESULTS)
@pytest.mark.parametrize("shape", [(4, 33, 65, 300), (3, 200, 128, 1024)], ids=str)
def test_batches_have_every_kind_of_result(shape: tuple[int, int, int, int], out: str, target: str) -> None:
    batch, m, n, k = shape
    check(bitmlir.MatmulSpec(m, n, k, "u2@row", "bipolar", batch=batch, **epilogue_of(out)), target)


@pytest.mark.parametrize("target", FAST)
@pytest.mark.parametrize("out", ["i32", "f16", "bit"])
def test_large_batches(out: str, target: str) -> None:
    """More tiles than multiprocessors, so that blocks go from one matrix to the next."""
    check(bitmlir.MatmulSpec(500, 512, 1000, "bipolar", "bipolar", out, batch=24), target)
    check(bitmlir.MatmulSpec(8, 1024, 2000, "u2", "i2", out, batch=40), target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("lhs", "rhs"), ENCODINGS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_group_of_rows_meets_its_own_matrix(
    shape: tuple[int, int, int, int], lhs: str, rhs: str, target: str
) -> None:
    groups, m, n, k = shape
    check(bitmlir.GroupedSpec(groups, 3 * m, n, k, lhs, rhs), target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("out", RESULTS)
def test_groups_have_every_kind_of_result(out: str, target: str) -> None:
    check(bitmlir.GroupedSpec(6, 333, 129, 300, "u2@row", "bipolar", **epilogue_of(out)), target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "offsets",
    [
        [0, 100, 100, 228, 300],
        [0, 0, 0, 0, 300],
        [0, 300, 300, 300, 300],
        [0, 1, 2, 3, 300],
        [7, 200, 100, 250, 9],
        [0, -5, 2**31 - 1, -(2**31), 0],
    ],
    ids=str,
)
def test_any_offsets_give_each_row_one_group(offsets: list[int], target: str) -> None:
    check(bitmlir.GroupedSpec(4, 300, 65, 300, "bipolar", "u2", "bit"), target, offsets)
    check(bitmlir.GroupedSpec(4, 300, 64, 300, "bipolar", "u2"), target, offsets)


@pytest.mark.parametrize("target", FAST)
def test_one_program_serves_any_division_of_the_rows(target: str) -> None:
    spec = bitmlir.GroupedSpec(64, 4096, 512, 1024, "bipolar", "u2", "f16", column_scale=True)
    for offsets in ([*range(0, 4096, 64), 4096], [0] * 60 + [4096] * 5, [*range(64), 4096]):
        check(spec, target, offsets)


def test_the_oracle_of_groups_is_the_definition() -> None:
    offsets = np.array([0, 2, 2, 5])
    assert reference.row_groups(5, offsets).tolist() == [0, 0, 2, 2, 2]
