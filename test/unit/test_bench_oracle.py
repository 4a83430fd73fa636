"""What `bitmlir-bench` compares results with, and the operands that it makes: against plain numpy, without a GPU."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

import numpy as np
import pytest
from convolutions import CASES

from bitmlir import compiler
from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.layout import TILE_BITS, TILE_ROWS
from bitmlir.executable import Executable
from bitmlir.formats.packed import Packed, pack, unpack
from bitmlir.formats.tiles import tile_bitmap
from bitmlir.grouped_spec import GroupedSpec
from bitmlir.pack_spec import PackSpec
from bitmlir.reference import quantised
from bitmlir.search_spec import SearchSpec
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench import oracle
from bitmlir.tools.bench.operands import packing_source, random_operands, random_packed
from bitmlir.tools.bench.oracle import Verdict
from bitmlir.tools.bench.problems import Convolution, Packing, Problem, Product, Search
from bitmlir.tools.bench.suites import SUITES
from bitmlir.tools.check import expected_results

ENCODINGS = ["u1", "u8", "u3@2", "u4@row", "i2", "i8", "bipolar", "bipolar4", "ternary"]
SAMPLED = "300×41×2100"  # of this problem numpy takes some rows only
FLOAT_PARTS = {"row_scale": True, "column_scale": True, "bias": True, "relu": True}
PROBLEMS: list[Problem] = [
    *(Product(MatmulSpec(37, 41, 300, lhs, rhs)) for lhs, rhs in zip(ENCODINGS, ENCODINGS[::-1], strict=True)),
    Product(MatmulSpec(9, 41, 300, "bipolar", "i2", "i32", residual="i16", relu=True)),
    Product(MatmulSpec(9, 41, 300, "bipolar", "i2", "i16", residual="i32", relu=True)),
    *(
        Product(MatmulSpec(9, 41, 300, "u3", "i4", out, residual="f16", **FLOAT_PARTS))
        for out in ("f32", "f16", "bf16", "u4", "u8@128", "i5", "bipolar", "bipolar3", "ternary")
    ),
    Product(MatmulSpec(37, 41, 300, "u3", "i4", "bit", residual="i8")),
    Product(MatmulSpec(9, 41, 300, "u3@row", "i4", "f16", column_scale=True, batch=3)),
    Product(MatmulSpec(9, 41, 300, "u3", "i4", "bit", batch=3)),
    Product(MatmulSpec(300, 41, 2100, "u3", "bipolar", lhs_tiles=True), empty_tiles=0.5),
    Product(GroupedSpec(5, 37, 41, 300, "u3", "i4", "u4", residual="i8", **FLOAT_PARTS)),
    Product(GroupedSpec(5, 37, 41, 300, "bipolar", "i4", "bit")),
    *(Convolution(CASES[name]) for name in CASES),
    Search(SearchSpec(37, 300, 10, "bipolar", "bipolar", count=9, score="hamming")),  # with many equal scores
    Search(SearchSpec(37, 300, 10, "u2", "i3", count=9)),
    Packing(PackSpec(37, 300, "u4", "f32")),
    Packing(PackSpec(37, 300, "bipolar", "f16")),
    Packing(PackSpec(37, 300, "i3", "i16")),
]


def title(problem: Problem) -> str:
    return f"{problem.size} {problem.kind}".replace("×", "x").replace("→", "to").replace("²", "2").replace("³", "3")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


@functools.cache
def compiled(problem: Problem) -> Executable:
    return compiler.compile(problem.spec, "cpu", cached=False)


@dataclasses.dataclass(frozen=True)
class Task:
    """A problem with random operands, and what plain numpy says of it."""

    problem: Problem
    given: dict[str, Any]
    result: Any

    def verdict(self, result: Any, torch: Any = None) -> Verdict:
        return oracle.check(self.problem.spec, self.given, result, torch, "cpu")

    def changed(self, **arrays: np.ndarray) -> Packed:
        return dataclasses.replace(self.result, **arrays)


def task(problem: Problem) -> Task:
    """The result comes from `reference`, which knows nothing of the oracle."""
    plan = compiled(problem).plan
    given = random_operands(np.random.default_rng(3), problem, plan)
    if isinstance(problem.spec, PackSpec):
        source = given["x"]
        values = quantised(source, problem.spec.encoding) if problem.spec.is_rounded else source
        return Task(problem, given, pack(values, problem.spec.encoding))
    plain = {n: unpack(v) if isinstance(v, Packed) else v for n, v in given.items() if not n.endswith("_tiles")}
    results = expected_results(plan, problem.spec, plain)
    if plan.results[0].kind == "packed":
        return Task(problem, given, pack(results[0], plan.results[0].encoding or ""))
    return Task(problem, given, results[0] if len(results) == 1 else tuple(results))


# --- operands -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64, 1), (64, 127), (64, 128), (64, 300), (3, 50, 300)], ids=str)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_random_matrices_are_well_formed_and_reach_every_value(
    rng: np.random.Generator, encoding: str, shape: tuple[int, ...]
) -> None:
    packed = random_packed(rng, shape, encoding)
    packed.check()
    assert packed.shape == shape
    if shape[-1] == 300 and not packed.encoding.has_row_zeros:
        known = packed.encoding
        assert set(np.unique(unpack(packed))) == set(range(known.minimum, known.maximum + 1, known.scale))


@pytest.mark.parametrize("encoding", ["u2", "bipolar", "ternary"])
def test_the_asked_share_of_tiles_is_empty_and_the_bitmap_says_which(encoding: str) -> None:
    problem = Product(MatmulSpec(5 * TILE_ROWS, 8, 8 * TILE_BITS - 9, encoding, "u1", lhs_tiles=True), empty_tiles=0.9)
    given = random_operands(np.random.default_rng(0), problem, compiled(problem).plan)
    bits = given["lhs_tiles"].to_array()
    assert np.count_nonzero(bits[0]) == 4
    assert (tile_bitmap(given["lhs"]).to_array() == bits).all()


@pytest.mark.parametrize("encoding", ["u1", "u8", "i2", "i8", "bipolar", "bipolar4", "ternary"])
def test_integers_to_pack_are_every_value_of_the_encoding(rng: np.random.Generator, encoding: str) -> None:
    values, known = packing_source(rng, PackSpec(20, 300, encoding, "i16")), Encoding.parse(encoding)
    assert set(np.unique(values)) == set(range(known.minimum, known.maximum + 1, 2 if known.kind == "bipolar" else 1))


def test_floats_to_pack_reach_past_the_ends_of_the_encoding(rng: np.random.Generator) -> None:
    floats = packing_source(rng, PackSpec(20, 300, "u4"))
    assert floats.dtype == np.float32
    assert floats.min() < 0 < 15 < floats.max()
    assert 0.5 < np.mean((floats > 0) & (floats < 15)) < 1


@pytest.mark.parametrize("problem", SUITES["epilogues"].problems, ids=title)
def test_scales_bring_sums_inside_the_range_of_the_result(problem: Problem) -> None:
    spec = dataclasses.replace(problem.spec, m=64, n=64)
    result = task(Product(spec)).result
    values = unpack(result) if isinstance(result, Packed) else result
    assert np.isfinite(values.astype(np.float32)).all()
    assert len(np.unique(values)) >= min(16, 2 if spec.out == "bit" else 16)


def test_offsets_divide_the_rows() -> None:
    problem = Product(GroupedSpec(6, 100, 3, 4, "u1", "u1"))
    offsets = random_operands(np.random.default_rng(0), problem, compiled(problem).plan)["offsets"]
    assert (offsets[0], offsets[-1], len(offsets)) == (0, 100, 7)
    assert (np.diff(offsets) >= 0).all()


# --- the oracle -----------------------------------------------------------------------------------


def library(name: str) -> Any:
    """What the oracle is to compute with: None stands for numpy."""
    return None if name == "numpy" else pytest.importorskip("torch")


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("problem", PROBLEMS, ids=title)
def test_right_results_are_accepted_whole(problem: Problem, name: str) -> None:
    given = task(problem)
    torch = library(name)
    result = given.result
    if torch is not None and getattr(problem.spec, "out", "") == "bf16":  # of numpy's arrays torch knows no such
        result = torch.from_numpy(result.view(np.int16)).view(torch.bfloat16)
    verdict = given.verdict(result, torch)
    assert verdict.fault is None
    results = result if isinstance(result, tuple) else (result,)
    elements = sum(int(np.prod(each.shape)) for each in results)
    assert verdict.elements == elements if torch or problem.size != SAMPLED else verdict.elements == 64 * 41


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("place", [(0, 0), (36, 40), (17, 33)], ids=str)
@pytest.mark.parametrize("out", ["i32", "f16", "bit"])
def test_one_wrong_element_is_found_and_named(out: str, place: tuple[int, int], name: str) -> None:
    spec = MatmulSpec(37, 41, 300, "u3", "i4", out, column_scale=out == "f16")
    given = task(Product(spec))
    values = unpack(given.result).astype(int) if out == "bit" else given.result
    wrong = values.copy()
    wrong[place] = -wrong[place] if out == "bit" else wrong[place] + 1
    fault = given.verdict(pack(wrong, "bipolar") if out == "bit" else wrong, library(name)).fault or ""
    is_, right = (f"{array[place]:.10g}" for array in (wrong, values))
    assert fault.startswith(f"result[{place[0]}, {place[1]}] is {is_}, but must be {right}; 1 of")


def test_a_wrong_element_of_a_batch_and_of_a_group_is_named() -> None:
    for spec, place in (
        (MatmulSpec(9, 41, 300, "u3", "i4", batch=3), (2, 8, 40)),
        (GroupedSpec(5, 37, 41, 300, "u3", "i4"), (36, 0)),
    ):
        given = task(Product(spec))
        wrong = given.result.copy()
        wrong[place] += 1
        assert (given.verdict(wrong).fault or "").startswith(f"result{list(place)} is")


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("place", [(0, 0, 0, 0), (4, 2, 3, 4), (8, 4, 2, 1)], ids=str)
def test_a_wrong_element_of_a_convolution_is_named_by_its_place(place: tuple[int, ...], name: str) -> None:
    spec = Conv2dSpec(9, 9, 8, 33, 5, "bipolar", "u2", stride=2, padding=(1, 0, 1, 1))
    given = task(Convolution(spec))
    assert given.verdict(given.result, library(name)) == Verdict(given.result.size // (3 if name == "numpy" else 1))
    wrong = given.result.copy()
    wrong[place] += 1
    assert (given.verdict(wrong, library(name)).fault or "").startswith(f"result{list(place)} is")


def test_without_torch_some_images_are_compared_whole() -> None:
    given = task(Convolution(Conv2dSpec(9, 4, 4, 3, 5, "bipolar", "u2")))
    wrong = given.result.copy()
    wrong[3] += 1
    assert given.verdict(wrong).fault is None
    assert "result[3, 0, 0, 0] is" in (given.verdict(wrong, library("torch")).fault or "")


def test_the_sign_of_a_zero_counts() -> None:
    given = task(Product(MatmulSpec(9, 41, 300, "u3", "i4", "f32", relu=True)))
    place = tuple(int(index[0]) for index in np.nonzero(given.result == 0))
    wrong = given.result.copy()
    wrong[place] = -0.0
    assert f"result{list(place)} is -0, but must be 0" in (given.verdict(wrong).fault or "")


@pytest.mark.parametrize("which", [0, 1])
def test_a_wrong_score_or_column_of_a_search_is_found(which: int) -> None:
    given = task(Search(SearchSpec(37, 300, 10, "bipolar", "bipolar", count=9)))
    results = [array.copy() for array in given.result]
    results[which][30, 5] += 1
    assert (given.verdict(tuple(results)).fault or "").startswith(f"{('values', 'columns')[which]}[30, 5] is")


def test_equal_scores_in_another_order_are_wrong() -> None:
    given = task(Search(SearchSpec(3, 300, 4, "bipolar", "bipolar", count=9)))
    scores, columns = (array.copy() for array in given.result)
    assert scores[0, 0] == scores[0, 1]
    columns[0, :2] = columns[0, 1::-1]
    assert "columns[0, 0]" in (given.verdict((scores, columns)).fault or "")


@pytest.mark.parametrize("out", ["bit", "u4"])
def test_wrong_row_sums_and_padding_of_a_packed_result_are_found(out: str) -> None:
    given = task(Product(MatmulSpec(37, 41, 300, "u3", "i4", out, column_scale=out == "u4")))
    sums, planes = given.result.sums.copy(), given.result.planes.copy()
    sums[3] += 1
    planes[0, 5, -1] |= np.uint32(1 << 31)
    assert "sums[3]" in (given.verdict(given.changed(sums=sums)).fault or "")
    assert "padding" in (given.verdict(given.changed(planes=planes)).fault or "")


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("source", ["i8", "f32"])
def test_a_wrong_bit_and_a_wrong_sum_of_packing_are_found(source: str, name: str) -> None:
    given = task(Packing(PackSpec(5, 100, "u4", source)))
    planes, sums = given.result.planes.copy(), given.result.sums.copy()
    planes[2, 3, 1] ^= 4
    sums[4] ^= 4
    wrong = Packed.from_planes(planes, "u4", 100)
    assert (given.verdict(wrong, library(name)).fault or "").startswith("result[3, 34] is")
    assert "sums[4]" in (given.verdict(given.changed(sums=sums), library(name)).fault or "")


def test_a_result_of_another_type_or_shape_is_refused() -> None:
    given = task(Product(MatmulSpec(37, 41, 300, "u3", "i4")))
    message = re.escape("result is int64 (37, 41), but must be int32 (37, 41)")
    assert re.fullmatch(message, given.verdict(given.result.astype(np.int64)).fault or "")
    assert "(37, 40)" in (given.verdict(given.result[:, :40]).fault or "")
