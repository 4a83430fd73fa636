"""The cost model: what it computes with, that it agrees with measurements, and that all it proposes is legal."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from mlir import ir

from bitmlir import compiler
from bitmlir.dialects import bit
from bitmlir.dialects.errors import InputError
from bitmlir.lowering.choose_tiles import plane_products
from bitmlir.lowering.cost import CostModel, choose_tile, ranked_tiles, workload_of
from bitmlir.lowering.gpu.product import ProductProblem
from bitmlir.lowering.gpu.tiles import (
    fault_of,
    make_tile,
    parse_fields,
    read_fields,
    tile_attribute,
    tile_fields,
    tile_text,
    tiles,
)
from bitmlir.lowering.machines import MACHINES
from bitmlir.lowering.pipeline import run_pipeline
from bitmlir.lowering.targets import TARGETS, get_target
from bitmlir.lowering.workload import Workload
from bitmlir.spec import MatmulSpec

SMALL = MatmulSpec(130, 200, 3000, "u2", "i3", "f16", row_scale=True, residual="f16")
_MODULES: list[ir.Module] = []  # an operation lives as long as its module


@functools.cache
def problem(spec: MatmulSpec, target: str = "sm_90a") -> ProductProblem:
    context = ir.Context()
    with context, ir.Location.unknown():
        bit.load(context)
        module = compiler.build_module(spec)
        run_pipeline(module, f"bit-decompose{{target={target}}}")
        _MODULES.append(module)
        (op,) = plane_products(module.operation)
        return ProductProblem(op, get_target(target))


def square(size: int, out: str, lhs: str = "bipolar", rhs: str = "bipolar") -> MatmulSpec:
    return MatmulSpec(size, size, size, lhs, rhs, out, column_scale=out == "f16")


ALTERNATE, TOGETHER = "rows=64,columns=256,stages=4,band=16,alternate", "rows=128,columns=256,stages=4,band=8"
MEASURED = [  # on an H200, in µs, medians
    (square(16384, "i32"), {ALTERNATE: 867, TOGETHER: 906}),
    (square(8192, "bit"), {ALTERNATE: 88.5, TOGETHER: 105}),
    (square(8192, "i32"), {ALTERNATE: 119, TOGETHER: 141, "rows=128,columns=256,stages=4,band=8,cluster=2": 143}),
    (square(4096, "i32"), {TOGETHER: 24.7, "rows=128,columns=128,stages=5,band=8": 26.8}),
    (square(2048, "i32"), {TOGETHER: 7.1, "rows=128,columns=128,stages=5,band=8": 7.5}),
    (MatmulSpec(8192, 8192, 65536, "bipolar", "bipolar", "bit"), {TOGETHER: 726, ALTERNATE: 790}),
    (square(8192, "f16", "bipolar", "u2"), {ALTERNATE: 194, TOGETHER: 219}),
    (square(8192, "f16", "u4", "i4"), {TOGETHER: 1500, ALTERNATE: 1559}),
]


@pytest.mark.parametrize(("spec", "times"), MEASURED)
def test_the_model_is_near_what_was_measured_and_ranks_tiles_alike(spec: MatmulSpec, times: dict[str, float]) -> None:
    given = problem(spec)
    expected = {}
    for text in times:
        tile = make_tile(given.target, parse_fields(text))
        assert fault_of(given, tile) is None
        expected[text] = CostModel(given).estimate(tile).seconds * 1e6
        assert expected[text] == pytest.approx(times[text], rel=0.2)
    assert min(expected, key=lambda text: expected[text]) == min(times, key=lambda text: times[text])


def test_few_rows_take_the_time_of_reading_the_weights() -> None:
    given = problem(MatmulSpec(16, 16384, 16384, "u4", "u4", "f16", column_scale=True))
    estimate = CostModel(given).estimate(choose_tile(given))
    assert estimate.held_up_by == "memory"
    assert estimate.seconds == pytest.approx(33.7e-6, rel=0.2)
    assert getattr(choose_tile(given), "planes", 0) == 4


def test_an_estimate_counts_operations_and_bytes_exactly() -> None:
    given = problem(SMALL)
    estimate = CostModel(given).estimate(choose_tile(given))
    words = 3000 // 128 * 4 + 4
    lhs, rhs = 2 * 130 * words * 4, 3 * 200 * words * 4
    residual = written = 130 * 200 * 2
    assert estimate.operations == 2 * 130 * 200 * 3000 * 6
    assert estimate.read_bytes == lhs + rhs + residual + 130 * 4
    assert estimate.written_bytes == written
    assert estimate.floor["matrix unit"] == estimate.operations / MACHINES["sm_90a"].operations_per_second
    assert sum(estimate.parts.values()) == pytest.approx(estimate.seconds)
    assert estimate.seconds > estimate.floor_seconds


@pytest.mark.parametrize(("target", "seconds"), [("sm_90a", 0.6e-6), ("sm_80", MACHINES["sm_80"].memset_seconds)])
def test_clearing_row_sums_before_the_launch_costs_its_time(target: str, seconds: float) -> None:
    packed, plain = problem(square(512, "bit"), target), problem(square(512, "i32"), target)
    estimate, without = (CostModel(given).estimate(choose_tile(given)) for given in (packed, plain))
    assert estimate.parts["clearing"] == seconds
    assert sum(estimate.parts.values()) == pytest.approx(estimate.seconds)
    assert "clearing" not in without.parts


def test_a_workload_says_all_that_kernels_depend_on() -> None:
    assert workload_of(problem(SMALL)) == Workload("sm_90a", "matmul", 130, 200, 3000, 2, 3, (6,), "f16", reads=2)
    few = MatmulSpec(8, 200, 3000, "u2", "i3", "bit", rhs_tiles=True)
    assert workload_of(problem(few, "sm_80")) == Workload(
        "sm_80", "matmul", 8, 200, 3000, 2, 3, (6,), "packed1", sparse=True
    )
    side_by_side = workload_of(problem(MatmulSpec(8, 200, 3000, "u2", "i3")))
    assert side_by_side.chains == (3, 3)


@pytest.mark.parametrize("work", [Workload("sm_90a", "matmul", 1, 2, 3, 1, 2, (2,), "i32", sparse=True, batch=3)])
def test_a_workload_comes_back_from_json(work: Workload) -> None:
    assert Workload.from_json(work.to_json()) == work


# --- tiles -------------------------------------------------------------------------------------------

GPUS = [name for name, target in TARGETS.items() if target.is_gpu]


@pytest.mark.parametrize("target", GPUS)
def test_every_target_has_a_machine_and_tiles_that_are_legal_and_differ(target: str) -> None:
    given = problem(SMALL, target)
    found = list(tiles(given))
    assert len(set(found)) == len(found) > 3
    assert [fault for tile in found if (fault := fault_of(given, tile))] == []
    assert MACHINES[target].multiprocessors == get_target(target).multiprocessors


@pytest.mark.parametrize(
    "spec", [SMALL, MatmulSpec(1, 1, 1, "u1", "i2"), square(4096, "bit"), MatmulSpec(3, 8, 9, "u8", "u8")]
)
def test_the_chosen_tile_is_the_first_of_the_ranking(spec: MatmulSpec) -> None:
    given = problem(spec)
    ranked = ranked_tiles(given)
    assert ranked[0][0] == choose_tile(given)
    assert [e.seconds for _, e in ranked] == sorted(e.seconds for _, e in ranked)


def test_large_products_have_tiles_of_every_structure() -> None:
    found = list(tiles(problem(square(4096, "i32"))))
    assert {tile.rows for tile in found} == {64, 128, 192}
    assert {(tile.alternate, tile.cluster) for tile in found} == {(a, c) for a in (False, True) for c in (1, 2)}
    assert {tile.band for tile in found} == {1, 4, 8, 16, 32}


@pytest.mark.parametrize("target", ["sm_90a", "sm_80"])
def test_tiles_come_back_from_text_and_attribute(target: str) -> None:
    given = problem(SMALL, target)
    for tile in list(tiles(given))[::7]:
        assert make_tile(given.target, parse_fields(tile_text(tile))) == tile
        with given.op.operation.context:
            attribute = ir.Attribute.parse(str(tile_attribute(tile)))
        assert make_tile(given.target, read_fields(attribute)) == tile
        assert make_tile(given.target, tile_fields(tile)) == tile


@pytest.mark.parametrize("text", ["", "rows", "rows=", "rows=-1", "rows=64,rows=64", "rows=64;columns=8", "64"])
def test_text_that_is_no_tile_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"a tile (is written|for sm_90a)|the field 'rows'"):
        make_tile(get_target("sm_90a"), parse_fields(text))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rows": 64, "columns": 8, "stages": 2, "raster": 3}, "has no field 'raster'"),
        ({"rows": 64, "columns": 8, "stages": -2}, "'stages' of a tile must be a whole number up to 4096, but is -2"),
        (
            {"rows": 64, "columns": 8, "stages": 10**20},
            "must be a whole number up to 4096, but is 100000000000000000000",
        ),
        ({"rows": 64, "columns": 8, "stages": 2.0}, "must be a whole number up to 4096, but is 2.0"),
        ({"rows": 64, "columns": 8, "stages": True}, "must be a whole number up to 4096, but is True"),
        ({"rows": 64, "columns": 8, "stages": 2, "swapped": 1}, "'swapped' of a tile must be a switch, but is 1"),
    ],
)
def test_fields_that_are_no_tile_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_tile(get_target("sm_90a"), fields)
