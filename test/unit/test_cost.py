"""The cost model: what it computes with, that it agrees with measurements, and that all it proposes is legal."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from typing import Any

import pytest
from bench_support import spec_of
from mlir import ir

from bitmlir import compiler, tuning
from bitmlir.compiler import Spec
from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.dialects import bit
from bitmlir.dialects.errors import InputError
from bitmlir.lowering.choose_tiles import plane_products
from bitmlir.lowering.cost import CostModel, choose_tile, ranked_tiles, workload_of
from bitmlir.lowering.gpu.product import ProductProblem
from bitmlir.lowering.gpu.resident_tile import ResidentTile
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
from bitmlir.lowering.gpu.wgmma_tile import WgmmaTile
from bitmlir.lowering.machines import MACHINES
from bitmlir.lowering.pipeline import run_pipeline
from bitmlir.lowering.targets import TARGETS, get_target
from bitmlir.lowering.tuning_table import TuningTable
from bitmlir.lowering.workload import Workload
from bitmlir.search_spec import SearchSpec
from bitmlir.spec import MatmulSpec

SMALL = MatmulSpec(130, 200, 3000, "u2", "i3", "f16", row_scale=True, residual="f16")
_MODULES: list[ir.Module] = []  # an operation lives as long as its module


@functools.cache
def problem(spec: Spec, target: str = "sm_90a") -> ProductProblem:
    context = ir.Context()
    with context, ir.Location.unknown():
        bit.load(context)
        module = compiler.build_module(spec)
        run_pipeline(module, f"bit-decompose{{target={target}}}")
        _MODULES.append(module)
        (op,) = plane_products(module.operation)
        return ProductProblem(op, get_target(target))


def square(size: int, out: str) -> MatmulSpec:
    return MatmulSpec(size, size, size, "bipolar", "bipolar", out)


# --- what was measured --------------------------------------------------------------------------------

SHIPPED = TuningTable.load(Path(tuning.__file__).parent / "h200.json")
LARGE = 2**37  # operations: 9 µs of the matrix unit
SHORT = 4e-6  # seconds
Times = dict[Workload, list[tuple[float, float]]]


@pytest.fixture(scope="module")
def times() -> Times:
    """Of each workload in the table that comes with bitmlir, but for convolutions, the tiles that were measured, the
    fastest first.

    Of each tile the seconds that it took and those that the model expects.
    """
    return measured_times(lambda work: work.kind != "conv2d")


def measured_times(is_wanted: Callable[[Workload], bool]) -> Times:
    found: Times = {}
    for entry in SHIPPED.entries:
        if not is_wanted(entry.workload):
            continue
        given = problem(spec_of(entry.details["problem"]), entry.workload.target)
        measured = [timing for timing in entry.details["timings"] if "seconds" in timing]
        tiles_ = [make_tile(given.target, timing["tile"]) for timing in measured]
        assert [fault for tile in tiles_ if (fault := fault_of(given, tile))] == []
        model = CostModel(given)
        expected = (model.estimate(tile).seconds for tile in tiles_)
        found[entry.workload] = sorted(zip((median(t["seconds"]) for t in measured), expected, strict=True))
    return found


def factors_off(times: Times) -> dict[Workload, float]:
    """How far the model is from the time of the fastest tile; what a bitmap lets a kernel skip it cannot know."""
    dense = {work: fastest for work, (fastest, *_) in times.items() if not work.sparse}
    return {work: max(expected / seconds, seconds / expected) for work, (seconds, expected) in dense.items()}


def test_the_model_is_near_what_was_measured(times: Times) -> None:
    factors = factors_off(times)
    assert {work: factor for work, factor in factors.items() if factor > 1.32} == {}
    assert median(factors.values()) < 1.06


def test_no_tile_that_was_measured_is_a_surprise(times: Times) -> None:
    """Also those that are slow: the tuner would measure them for nothing."""
    pairs = ((work, expected / seconds) for work, found in times.items() for seconds, expected in found)
    assert [(work, factor) for work, factor in pairs if not work.sparse and not 0.4 < factor < 2.2] == []


def test_the_model_is_nearer_where_the_matrix_unit_sets_the_pace(times: Times) -> None:
    large = {work: factor for work, factor in factors_off(times).items() if work.operations >= LARGE}
    assert len(large) > 10
    assert {work: factor for work, factor in large.items() if factor > 1.21} == {}


def test_the_tile_that_the_model_prefers_is_among_the_fastest(times: Times) -> None:
    slowdowns = {}
    for work, measured in times.items():
        preferred, _ = min(measured, key=lambda pair: (pair[1], -pair[0]))  # of equals, the slowest
        slowdowns[work] = preferred / measured[0][0]
    # The shortest take about as long as a launch: measured again, they differ by a tenth.
    short = {work for work, measured in times.items() if measured[0][0] < SHORT}
    assert {work: slowdown for work, slowdown in slowdowns.items() if slowdown > (1.4 if work in short else 1.25)} == {}
    assert median(slowdowns.values()) < 1.03
    assert mean(slowdowns.values()) < 1.045


def test_the_model_knows_what_gathering_costs() -> None:
    """It is coarser for convolutions: 512 images of 14² and 256 channels to bits take 1.8 times what it expects."""
    times = measured_times(lambda work: work.kind == "conv2d")
    factors = factors_off(times)
    assert len(factors) > 30
    assert max(factors.values()) < 1.9
    assert median(factors.values()) < 1.25
    preferred = (min(measured, key=lambda pair: (pair[1], -pair[0]))[0] / measured[0][0] for measured in times.values())
    assert mean(preferred) < 1.17


# --- estimates ----------------------------------------------------------------------------------------


def test_few_rows_take_the_time_of_reading_the_weights() -> None:
    given = problem(MatmulSpec(16, 16384, 16384, "u4", "u4", "f16", column_scale=True))
    estimate = CostModel(given).estimate(choose_tile(given))
    assert estimate.held_up_by == "memory"
    assert estimate.seconds == pytest.approx(estimate.floor["memory"], rel=0.2)
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


WORK = Workload("sm_90a", "matmul", 1, 2, 3, 1, 2, (2,), "i32", sparse=True, batch=3)


def test_a_workload_comes_back_from_json() -> None:
    assert Workload.from_json(WORK.to_json()) == WORK


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "sort"}, "kind must be one of matmul, search, conv2d, but is 'sort'"),
        ({"kind": "search"}, "a search has no result 'i32'"),
        ({"out": "best3"}, "a matmul has no result 'best3'"),
        ({"kind": "search", "out": "i64"}, "a search has no result 'i64': those of searches are best1"),
    ],
)
def test_a_workload_that_cannot_be_is_refused(changed: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Workload.from_json(WORK.to_json() | changed)


# --- tiles -------------------------------------------------------------------------------------------

GPUS = [name for name, target in TARGETS.items() if target.is_gpu]


@pytest.mark.parametrize("target", GPUS)
def test_every_target_has_a_machine_and_tiles_that_are_legal_and_differ(target: str) -> None:
    given = problem(SMALL, target)
    found = list(tiles(given))
    assert len(set(found)) == len(found) > 3
    assert [fault for tile in found if (fault := fault_of(given, tile))] == []


@pytest.mark.parametrize(
    "spec", [SMALL, MatmulSpec(1, 1, 1, "u1", "i2"), square(4096, "bit"), MatmulSpec(3, 8, 9, "u8", "u8")]
)
def test_the_chosen_tile_is_the_first_of_the_ranking(spec: MatmulSpec) -> None:
    given = problem(spec)
    ranked = ranked_tiles(given)
    assert ranked[0][0] == choose_tile(given)
    assert [e.seconds for _, e in ranked] == sorted(e.seconds for _, e in ranked)


def test_small_products_stay_in_registers_and_large_ones_do_not() -> None:
    sizes = {
        size: isinstance(choose_tile(problem(MatmulSpec(64, size, size, "u2", "bipolar"))), ResidentTile)
        for size in (128, 512, 2048, 8192)
    }
    assert sizes == {128: True, 512: True, 2048: False, 8192: False}


def test_a_search_for_more_is_another_problem_and_takes_longer() -> None:
    one, ten = (problem(search(count)) for count in (1, 10))
    assert (workload_of(one).out, workload_of(ten).out) == ("best1", "best10")
    tile = make_tile(one.target, parse_fields("rows=64,columns=256,stages=4,alternate"))
    assert CostModel(ten).estimate(tile).seconds > 2 * CostModel(one).estimate(tile).seconds


def test_large_products_have_tiles_of_every_structure() -> None:
    found = [tile for tile in tiles(problem(square(4096, "i32"))) if isinstance(tile, WgmmaTile)]
    assert {tile.rows for tile in found} == {64, 128, 192}
    assert {(tile.alternate, tile.cluster) for tile in found} == {(a, c) for a in (False, True) for c in (1, 2)}
    assert {tile.band for tile in found} == {1, 4, 8, 16, 32}


def search(count: int, m: int = 1024) -> SearchSpec:
    return SearchSpec(m, 1 << 20, 256, "bipolar", "bipolar", count)


@pytest.mark.parametrize(
    ("count", "target", "text", "fault"),
    [
        (
            10,
            "sm_90a",
            "rows=192,columns=112,stages=5,swapped",
            "3 warp groups leave 128 registers a thread, too few for 56 accumulators and the lists of 28 rows: "
            "use smaller tiles",
        ),
        (1, "sm_90a", "rows=192,columns=80,stages=5,swapped", None),
        (10, "sm_90a", "rows=64,columns=256,stages=4,alternate", None),
        (
            10,
            "sm_90",
            "rows=256,columns=128,warp_rows=64,warp_columns=64,stages=4,producers=2",
            "a thread would need 202 registers with the lists of its rows, of 168: use smaller parts or fewer blocks",
        ),
        (10, "sm_90", "rows=128,columns=128,warp_rows=64,warp_columns=32,stages=6,producers=2", None),
    ],
)
def test_a_search_needs_registers_for_its_lists(count: int, target: str, text: str, fault: str | None) -> None:
    given = problem(search(count), target)
    assert fault_of(given, make_tile(given.target, parse_fields(text))) == fault


LONG = MatmulSpec(20000, 64, 1152, "u2", "bipolar", "bit")


@pytest.mark.parametrize(
    ("spec", "text", "fault"),
    [
        (LONG, "rows=64,columns=64,stages=8,alternate,stationary", None),
        (SMALL, "rows=64,columns=64,stages=8,stationary", "the columns' operand stays where blocks have several tiles"),
        (LONG, "rows=64,columns=64,stages=8,band=4,stationary", "on sides as they are, without clusters, bands and"),
        (LONG, "rows=64,columns=32,stages=8,cluster=2,stationary", "on sides as they are, without clusters, bands and"),
        (
            MatmulSpec(20000, 600, 100, "u1", "u1"),
            "rows=64,columns=64,stages=4,stationary",
            "where blocks have several tiles, side by side no more than 8",
        ),
        (
            MatmulSpec(20000, 64, 2000, "u8", "u8"),
            "rows=64,columns=64,stages=2,stationary",
            "stays for products of up to 40 steps",
        ),
        (
            MatmulSpec(20000, 64, 100, "u1", "u1", batch=2),
            "rows=64,columns=64,stages=2,stationary",
            "stays for dense products of two matrices alone",
        ),
        (Conv2dSpec(9, 9, 9, 64, 8, "u1", "u1"), "rows=64,columns=8,stages=2", None),
        (
            Conv2dSpec(9, 9, 9, 64, 8, "u1", "u1"),
            "rows=64,columns=8,stages=2,swapped",
            "what a window sees needs sides as they are and no clusters",
        ),
        (
            Conv2dSpec(9, 9, 9, 64, 8, "u1", "u1"),
            "rows=16,columns=8,warp_rows=16,warp_columns=8",
            None,
        ),
        (Conv2dSpec(9, 9, 9, 640, 8, "u1", "u1"), "rows=64,columns=8,stages=2,padded", None),
        (Conv2dSpec(9, 9, 9, 512, 8, "u1", "u1"), "rows=64,columns=8,stages=2,padded", "fewer copies than the pieces"),
        (MatmulSpec(99, 99, 640, "u1", "u1"), "rows=64,columns=8,stages=2,padded", "fewer copies than the pieces"),
        (
            Conv2dSpec(9, 9, 9, 640, 8, "u1", "u1"),
            "rows=64,columns=8,stages=2,cluster=2,padded",
            "what a window sees needs sides as they are and no clusters",
        ),
    ],
)
def test_what_stays_and_what_is_gathered_has_rules(spec: Spec, text: str, fault: str | None) -> None:
    given = problem(spec)
    found = fault_of(given, make_tile(given.target, parse_fields(text)))
    assert found is None if fault is None else fault in (found or "")


def test_short_rows_against_few_columns_are_brought_once() -> None:
    layer = problem(Conv2dSpec(64, 56, 56, 64, 64, "bipolar", "bipolar", "bit", padding=1))
    for given in (layer, problem(LONG)):
        tile = choose_tile(given)
        assert isinstance(tile, WgmmaTile)
        assert tile.stationary
    estimate = CostModel(layer).estimate(choose_tile(layer))
    assert estimate.paced_by == "gathering"
    assert "clearing" not in estimate.parts


def test_taps_are_padded_where_pixels_come_in_many_pieces() -> None:
    for channels, is_padded in ((384, True), (512, False), (640, True), (1024, False)):
        given = problem(Conv2dSpec(8, 16, 16, channels, 128, "u2", "bipolar", padding=1))
        tile = choose_tile(given)
        assert isinstance(tile, WgmmaTile)
        assert tile.padded == is_padded
        splits = {t.split for t in tiles(given) if isinstance(t, WgmmaTile) and t.padded}
        assert splits == ({1, 2, 4} if is_padded else set())


@pytest.mark.parametrize("target", GPUS)
@pytest.mark.parametrize("m", [1, 70, 4096])
def test_every_search_has_tiles(m: int, target: str) -> None:
    ranked = ranked_tiles(problem(search(32, m), target))
    assert len(ranked) > 3


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
        ({"rows": 64, "columns": 8, "stages": True}, "the field 'stages' of a tile needs a number, as in rows=64"),
        (
            {"rows": 64, "columns": 8, "warp_rows": 16},
            "a tile for sm_90a without stages needs its warp_columns, as in rows=32,columns=16,warp_rows=16",
        ),
        (
            {"rows": 64, "columns": 8, "warp_rows": 16, "warp_columns": 8, "band": 2},
            "a tile for sm_90a without stages has no field 'band'",
        ),
        ({"rows": 64, "columns": 8, "stages": 2, "swapped": 1}, "'swapped' of a tile must be a switch, but is 1"),
    ],
)
def test_fields_that_are_no_tile_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_tile(get_target("sm_90a"), fields)
