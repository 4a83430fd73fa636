"""Products on the GPU against plain numpy, every element: encodings, shapes, results, bitmaps, epilogues, chains.

Results and scratch are poisoned and every buffer lies between guard bytes (`support.run_on_gpu`).
"""

from __future__ import annotations

from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from support import lower_for_gpu, product_text, random_matrix, random_planes, run_on_gpu

import bitmlir
from bitmlir import reference
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.layout import TILE_BITS, TILE_ROWS, tile_counts
from bitmlir.formats.packed import Packed, pack, unpack
from bitmlir.formats.tiles import TileBitmap, tile_bitmap
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.spec import MatmulSpec

pytestmark = pytest.mark.gpu

FAST = ["sm_90a", "sm_90"]  # what a Hopper GPU runs itself
EMULATED = ["sm_80", "sm_75"]  # whose PTX the driver recompiles: their instructions are emulated there, so small shapes
TARGETS = FAST + EMULATED

KINDS = ["u3", "u2@1", "u2@row", "i3", "bipolar", "bipolar2", "ternary"]  # one of each kind of encoding
SMALL, ODD = (17, 33, 65), (255, 257, 1023)
DEEP = (17, 33, 2100)  # too deep for kernels that keep operands in registers


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(2026)


def exact_product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x·yᵀ in int32, by the fastest matrix product of numpy whose partial sums are all exact."""
    bound = x.shape[1] * int(np.abs(x.astype(np.int32)).max()) * int(np.abs(y.astype(np.int32)).max())
    if bound < 2**24:
        return (x.astype(np.float32) @ y.astype(np.float32).T).astype(np.int32)
    return reference.matmul(x, y).astype(np.int32)


def same(result: np.ndarray, expected: np.ndarray) -> None:
    """Equal bit by bit, −0 and the number format included."""
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)
    assert result.tobytes() == expected.tobytes()


def operands(
    rng: np.random.Generator, sizes: tuple[int, int, int], lhs: str, rhs: str
) -> tuple[dict[str, Packed], np.ndarray]:
    """Random packed operands by name, and their product."""
    m, n, k = sizes
    packed = {"lhs": random_planes(rng, (m, k), lhs), "rhs": random_planes(rng, (n, k), rhs)}
    return packed, exact_product(unpack(packed["lhs"]), unpack(packed["rhs"]))


def floats(rng: np.random.Generator, size: int) -> np.ndarray:
    return rng.standard_normal(size).astype(np.float32)


# --- encodings -------------------------------------------------------------------------------------


Sizes = tuple[int, int, int]


@pytest.mark.parametrize("sizes", [SMALL, DEEP])
@pytest.mark.parametrize(("lhs", "rhs"), list(product(KINDS, repeat=2)))
def test_every_kind_of_encoding_multiplies_with_every_other(
    rng: np.random.Generator, lhs: str, rhs: str, sizes: Sizes
) -> None:
    given, expected = operands(rng, sizes, lhs, rhs)
    same(run_on_gpu(lower_for_gpu(MatmulSpec(*sizes, lhs, rhs), "sm_90a"), given)["result"], expected)


@pytest.mark.parametrize("sizes", [SMALL, DEEP])
@pytest.mark.parametrize("target", ["sm_90", *EMULATED])
@pytest.mark.parametrize(("lhs", "rhs"), list(zip(KINDS, KINDS[1:] + KINDS[:1], strict=True)))
def test_other_targets_multiply_all_kinds_too(
    rng: np.random.Generator, lhs: str, rhs: str, target: str, sizes: Sizes
) -> None:
    given, expected = operands(rng, sizes, lhs, rhs)
    same(run_on_gpu(lower_for_gpu(MatmulSpec(*sizes, lhs, rhs), target), given)["result"], expected)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("lhs", "rhs"), [("u1", "u8"), ("i8", "i8"), ("u8@row", "u8@255"), ("bipolar8", "i2")])
def test_the_widest_encodings_multiply_to_the_last_bit(
    rng: np.random.Generator, lhs: str, rhs: str, target: str
) -> None:
    sizes = (70, 66, 1300)
    given, expected = operands(rng, sizes, lhs, rhs)
    same(run_on_gpu(lower_for_gpu(MatmulSpec(*sizes, lhs, rhs), target), given)["result"], expected)


@pytest.mark.parametrize("target", FAST)
@pytest.mark.parametrize("name", ["u8", "i8", "bipolar8", "u8@row"])
def test_extreme_values_reach_the_ends_of_int32(name: str, target: str) -> None:
    encoding = Encoding.parse(name)
    k = (2**31 - 1) // encoding.magnitude**2
    zeros = np.array([255, 0]) if encoding.has_row_zeros else None
    extremes = np.array([encoding.minimum, encoding.maximum])
    x = np.repeat(extremes[:, None], k, axis=1)
    packed, bundle = pack(x, name, zeros), lower_for_gpu(MatmulSpec(2, 2, k, name, name), target)
    result = run_on_gpu(bundle, {"lhs": packed, "rhs": packed})["result"]
    same(result, (k * np.outer(extremes, extremes)).astype(np.int32))


# --- shapes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "sizes", [(1, 1, 1), (1, 300, 128), (300, 1, 129), SMALL, ODD, (64, 64, 1024), (65, 63, 1025), DEEP, (300, 1, 2049)]
)
def test_small_and_odd_shapes(rng: np.random.Generator, sizes: tuple[int, int, int], target: str) -> None:
    given, expected = operands(rng, sizes, "bipolar", "u2")
    same(run_on_gpu(lower_for_gpu(MatmulSpec(*sizes, "bipolar", "u2"), target), given)["result"], expected)


@pytest.mark.parametrize("target", FAST)
@pytest.mark.parametrize(
    "sizes", [(64, 8192, 8192), (2048, 1024, 2048), (2047, 1023, 2047), (2048, 2048, 2048), (4096, 4096, 4096)]
)
def test_shapes_that_take_the_larger_tiles(rng: np.random.Generator, sizes: tuple[int, int, int], target: str) -> None:
    given, expected = operands(rng, sizes, "bipolar", "ternary")
    same(run_on_gpu(lower_for_gpu(MatmulSpec(*sizes, "bipolar", "ternary"), target), given)["result"], expected)


@pytest.mark.parametrize("target", FAST)
def test_many_planes_on_large_tiles(rng: np.random.Generator, target: str) -> None:
    sizes = (2050, 4090, 3000)
    given, expected = operands(rng, sizes, "i4", "u4@row")
    same(run_on_gpu(lower_for_gpu(MatmulSpec(*sizes, "i4", "u4@row"), target), given)["result"], expected)


@pytest.mark.parametrize("target", TARGETS)
def test_a_matrix_times_its_own_transpose(rng: np.random.Generator, target: str) -> None:
    packed_type = 'tensor<70x300xi3, #bit.encoding<"i3">>'
    source = f"""
func.func @gram(%x: {packed_type} {{bit.name = "x"}}) -> (tensor<70x70xi32> {{bit.name = "result"}}) {{
  %y = "bit.matmul"(%x, %x) ({{
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }}) {{operandSegmentSizes = array<i32: 1, 1, 0, 0>}} : ({packed_type}, {packed_type}) -> tensor<70x70xi32>
  return %y : tensor<70x70xi32>
}}
"""
    x, packed = random_matrix(rng, (70, 300), "i3")
    same(run_on_gpu(lower_for_gpu(source, target), {"x": packed})["result"], exact_product(x, x))


# --- results ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("out", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("parts", [(), ("row_scale", "column_scale", "bias")], ids=["bare", "scaled"])
@pytest.mark.parametrize("sizes", [(64, 128, 500), (63, 65, 500)], ids=["even", "odd"])
def test_float_results_are_those_of_the_oracle_bit_by_bit(
    rng: np.random.Generator, sizes: tuple[int, int, int], parts: tuple[str, ...], out: Any, target: str
) -> None:
    spec = MatmulSpec(*sizes, "i3", "bipolar2", out=out, **dict.fromkeys(parts, True))
    given, acc = operands(rng, sizes, "i3", "bipolar2")
    more = {name: floats(rng, sizes[0] if name == "row_scale" else sizes[1]) for name in parts}
    result = run_on_gpu(lower_for_gpu(spec, target), {**given, **more})["result"]
    same(result, reference.epilogue(acc, out, **more))


@pytest.mark.parametrize("target", FAST)
def test_float_results_of_large_tiles(rng: np.random.Generator, target: str) -> None:
    sizes = (2048, 4096, 1024)
    spec = MatmulSpec(*sizes, "u2", "i2", out="bf16", row_scale=True, column_scale=True, bias=True)
    given, acc = operands(rng, sizes, "u2", "i2")
    more = {"row_scale": floats(rng, 2048), "column_scale": floats(rng, 4096), "bias": floats(rng, 4096)}
    same(run_on_gpu(lower_for_gpu(spec, target), {**given, **more})["result"], reference.epilogue(acc, "bf16", **more))


@pytest.mark.parametrize("target", FAST)
def test_a_sum_past_24_bits_is_rounded_to_f32_once_and_past_f16_is_infinite(target: str) -> None:
    k = 33000
    values = np.array([[255] * k, [255] * (k - 1) + [254]])
    packed = pack(values, "u8")
    acc = exact_product(values, values)
    assert (acc.astype(np.float32) != acc).any()
    for out in ("f32", "bf16", "f16"):
        bundle = lower_for_gpu(MatmulSpec(2, 2, k, "u8", "u8", out=out), target)
        result = run_on_gpu(bundle, {"lhs": packed, "rhs": packed})["result"]
        same(result, reference.epilogue(acc, out))
    assert np.isinf(result).all()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("n", [1, 31, 32, 64, 96, 100, 128, 192, 257])
def test_packed_results_have_right_bits_sums_and_padding(rng: np.random.Generator, n: int, target: str) -> None:
    sizes = (70, n, 300)
    given, acc = operands(rng, sizes, "bipolar", "i2")
    more = {"threshold": rng.integers(-20, 20, n).astype(np.int32), "flip": rng.integers(0, 2, n).astype(np.int8)}
    spec = MatmulSpec(*sizes, "bipolar", "i2", out="bit")
    result = run_on_gpu(lower_for_gpu(spec, target), {**given, **more})["result"]
    assert result.encoding == Encoding.parse("bipolar")
    same(unpack(result), reference.epilogue(acc, "bit", threshold=more["threshold"], flip=more["flip"] != 0))


@pytest.mark.parametrize("target", FAST)
@pytest.mark.parametrize("sizes", [(2048, 4096, 1024), (2047, 4000, 1000), (2048, 2112, 1024)])
def test_packed_results_of_large_tiles(rng: np.random.Generator, sizes: tuple[int, int, int], target: str) -> None:
    given, acc = operands(rng, sizes, "bipolar", "bipolar")
    more = {"threshold": rng.integers(-9, 9, sizes[1]).astype(np.int32), "flip": np.zeros(sizes[1], np.int8)}
    spec = MatmulSpec(*sizes, "bipolar", "bipolar", out="bit")
    result = run_on_gpu(lower_for_gpu(spec, target), {**given, **more})["result"]
    same(unpack(result), reference.epilogue(acc, "bit", threshold=more["threshold"]))


# --- bitmaps ---------------------------------------------------------------------------------------


def with_empty_tiles(rng: np.random.Generator, packed: Packed, kept: float) -> Packed:
    """The matrix with random tiles of single planes set to 0; `kept` is the share of those that stay."""
    row_tiles, k_tiles = tile_counts(packed.shape)
    keep = rng.random((packed.encoding.bits, row_tiles, k_tiles)) < kept
    words = keep.repeat(TILE_ROWS, axis=1)[:, : packed.rows].repeat(TILE_BITS // 32, axis=2)
    planes = np.where(words[:, :, : packed.planes.shape[2]], packed.planes, np.uint32(0))
    return Packed.from_planes(planes, packed.encoding, packed.k, packed.zeros)


def with_more_bits(rng: np.random.Generator, tiles: TileBitmap) -> TileBitmap:
    """A bitmap that also calls some empty tiles full, which costs time but changes nothing."""
    bits = tiles.to_array()
    return TileBitmap.from_array(bits | (rng.random(bits.shape) < 0.1), tiles.shape, tiles.encoding)


def product_with_bitmaps(
    rng: np.random.Generator,
    sizes: tuple[int, int, int],
    names: tuple[str, str],
    sides: tuple[str, ...],
    kept: float,
    target: str,
) -> None:
    m, n, k = sizes
    packed = {
        "lhs": with_empty_tiles(rng, random_planes(rng, (m, k), names[0]), kept),
        "rhs": with_empty_tiles(rng, random_planes(rng, (n, k), names[1]), kept),
    }
    tiles = {f"{side}_tiles": with_more_bits(rng, tile_bitmap(packed[side])) for side in sides}
    spec = MatmulSpec(*sizes, *names, **dict.fromkeys(tiles, True))
    expected = exact_product(unpack(packed["lhs"]), unpack(packed["rhs"]))
    same(run_on_gpu(lower_for_gpu(spec, target), {**packed, **tiles})["result"], expected)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kept", [0.0, 0.3, 1.0], ids=["all empty", "some empty", "all full"])
@pytest.mark.parametrize("sides", [("lhs",), ("rhs",), ("lhs", "rhs")], ids="+".join)
def test_bitmaps_skip_what_is_empty_and_nothing_else(
    rng: np.random.Generator, sides: tuple[str, ...], kept: float, target: str
) -> None:
    product_with_bitmaps(rng, (200, 300, 5000), ("u2", "i3"), sides, kept, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("names", [("bipolar", "bipolar"), ("u2@row", "ternary"), ("bipolar2", "u1@1")], ids="-".join)
def test_bitmaps_are_exact_for_encodings_without_a_zero(
    rng: np.random.Generator, names: tuple[str, str], target: str
) -> None:
    product_with_bitmaps(rng, (130, 140, 3000), names, ("lhs", "rhs"), 0.3, target)


@pytest.mark.parametrize("target", TARGETS)
def test_bitmaps_of_several_words_a_row(rng: np.random.Generator, target: str) -> None:
    product_with_bitmaps(rng, (130, 70, 40000), ("u2", "ternary"), ("lhs", "rhs"), 0.05, target)


@pytest.mark.parametrize("target", FAST)
def test_bitmaps_on_large_tiles(rng: np.random.Generator, target: str) -> None:
    product_with_bitmaps(rng, (2048, 4096, 8192), ("ternary", "i2"), ("lhs", "rhs"), 0.2, target)


# --- chains ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_products_in_a_chain_hand_packed_bits_on(rng: np.random.Generator, target: str) -> None:
    x_type, w_type = 'tensor<70x300xi1, #bit.encoding<"bipolar">>', 'tensor<96x300xi2, #bit.encoding<"u2">>'
    h_type, v_type = 'tensor<70x96xi1, #bit.encoding<"bipolar">>', 'tensor<40x96xi3, #bit.encoding<"i3">>'
    source = f"""
func.func @layers(%x: {x_type} {{bit.name = "x"}}, %w: {w_type} {{bit.name = "w"}},
                  %limit: tensor<96xi32> {{bit.name = "limit"}}, %v: {v_type} {{bit.name = "v"}})
    -> (tensor<70x40xf32> {{bit.name = "y"}}, {h_type} {{bit.name = "h"}}) {{
  %h = "bit.matmul"(%x, %w) ({{
  ^bb0(%acc: i32, %row: index, %col: index):
    %t = tensor.extract %limit[%col] : tensor<96xi32>
    %bit = arith.cmpi sge, %acc, %t : i32
    gpu.yield %bit : i1
  }}) {{operandSegmentSizes = array<i32: 1, 1, 0, 0>}} : ({x_type}, {w_type}) -> {h_type}
  %hidden = "bit.matmul"(%x, %w) ({{
  ^bb0(%acc: i32, %row: index, %col: index):
    %t = tensor.extract %limit[%col] : tensor<96xi32>
    %bit = arith.cmpi slt, %acc, %t : i32
    gpu.yield %bit : i1
  }}) {{operandSegmentSizes = array<i32: 1, 1, 0, 0>}} : ({x_type}, {w_type}) -> {h_type}
  %y = "bit.matmul"(%hidden, %v) ({{
  ^bb0(%acc: i32, %row: index, %col: index):
    %f = arith.sitofp %acc : i32 to f32
    gpu.yield %f : f32
  }}) {{operandSegmentSizes = array<i32: 1, 1, 0, 0>}} : ({h_type}, {v_type}) -> tensor<70x40xf32>
  return %y, %h : tensor<70x40xf32>, {h_type}
}}
"""
    x, packed_x = random_matrix(rng, (70, 300), "bipolar")
    w, packed_w = random_matrix(rng, (96, 300), "u2")
    v, packed_v = random_matrix(rng, (40, 96), "i3")
    limit = rng.integers(-20, 20, 96).astype(np.int32)
    given = {"x": packed_x, "w": packed_w, "limit": limit, "v": packed_v}
    results = run_on_gpu(lower_for_gpu(source, target), given)
    h = np.where(exact_product(x, w) >= limit, 1, -1)
    np.testing.assert_array_equal(unpack(results["h"]), h)
    same(results["y"], exact_product(-h, v).astype(np.float32))


# --- packing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["i8", "i16", "i32"])
@pytest.mark.parametrize("name", ["u1", "u7", "u2@3", "i2", "i8", "bipolar", "bipolar7", "ternary", "u4@row"])
def test_the_gpu_packs_and_unpacks_as_numpy_does(rng: np.random.Generator, name: str, source: str) -> None:
    rows, k = 37, 301
    encoding = Encoding.parse(name)
    packed_type = f'tensor<{rows}x{k}xi{encoding.bits}, #bit.encoding<"{name}">>'
    zeros_type = f", tensor<{rows}xi32>" if encoding.has_row_zeros else ""
    zeros = f', %zeros: tensor<{rows}xi32> {{bit.name = "zeros"}}' if encoding.has_row_zeros else ""
    text = f"""
func.func @pack(%x: tensor<{rows}x{k}x{source}> {{bit.name = "x"}}{zeros})
    -> ({packed_type} {{bit.name = "packed"}}, tensor<{rows}x{k}xi8> {{bit.name = "values"}}) {{
  %p = "bit.pack"(%x{", %zeros" if zeros else ""}) : (tensor<{rows}x{k}x{source}>{zeros_type}) -> {packed_type}
  %v = "bit.unpack"(%p) : ({packed_type}) -> tensor<{rows}x{k}xi8>
  return %p, %v : {packed_type}, tensor<{rows}x{k}xi8>
}}
"""
    values, packed = random_matrix(rng, (rows, k), name)
    given: dict[str, Any] = {"x": values.astype(numpy_dtype(source))} | ({"zeros": packed.zeros} if zeros else {})
    results = run_on_gpu(lower_for_gpu(text, "sm_90a"), given)
    same(results["packed"].planes, packed.planes)
    same(results["packed"].sums, packed.sums)
    same(results["values"], values.astype(np.int8))
    if zeros:
        same(results["packed"].zeros, packed.zeros)


def test_more_rows_than_a_grid_has_along_y(rng: np.random.Generator) -> None:
    rows, k = 70_000, 300
    packed_type = f'tensor<{rows}x{k}xi1, #bit.encoding<"u1">>'
    text = f"""
func.func @unpack(%x: {packed_type} {{bit.name = "x"}}) -> (tensor<{rows}x{k}xi8> {{bit.name = "values"}}) {{
  %v = "bit.unpack"(%x) : ({packed_type}) -> tensor<{rows}x{k}xi8>
  return %v : tensor<{rows}x{k}xi8>
}}
"""
    packed = random_planes(rng, (rows, k), "u1")
    same(run_on_gpu(lower_for_gpu(text, "sm_90a"), {"x": packed})["values"], unpack(packed))


# --- epilogues -------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("sizes", [(64, 64, 200), (70, 66, 200), (33, 35, 200)], ids=["aligned", "even", "odd"])
def test_a_residual_is_added_by_row_and_column(
    rng: np.random.Generator, sizes: tuple[int, int, int], target: str
) -> None:
    m, n, _ = sizes
    epilogue = f"""
        %f = arith.sitofp %acc : i32 to f32
        %r = tensor.extract %residual[%row, %col] : tensor<{m}x{n}xf16>
        %t = tensor.extract %turned[%col, %row] : tensor<{n}x{m}xf32>
        %wide = arith.extf %r : f16 to f32
        %once = arith.addf %f, %wide : f32
        %out = arith.addf %once, %t : f32"""
    reads = {"residual": f"tensor<{m}x{n}xf16>", "turned": f"tensor<{n}x{m}xf32>"}
    text = product_text(sizes, "bipolar", "i2", "f32", epilogue, reads=reads)
    given, acc = operands(rng, sizes, "bipolar", "i2")
    residual, turned = floats(rng, m * n).reshape(m, n).astype(np.float16), floats(rng, m * n).reshape(n, m)
    result = run_on_gpu(lower_for_gpu(text, target), {**given, "residual": residual, "turned": turned})["result"]
    same(result, acc.astype(np.float32) + residual.astype(np.float32) + turned.T)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("sizes", [(64, 128, 200), (70, 66, 200), (33, 35, 200)], ids=["aligned", "even", "odd"])
def test_results_are_quantised_to_codes_of_two_bits(
    rng: np.random.Generator, sizes: tuple[int, int, int], target: str
) -> None:
    m = sizes[0]
    epilogue = f"""
        %f = arith.sitofp %acc : i32 to f32
        %s = tensor.extract %scale[%row] : tensor<{m}xf32>
        %scaled = arith.mulf %f, %s : f32
        %rounded = math.roundeven %scaled : f32
        %zero = arith.constant 0.0 : f32
        %top = arith.constant 3.0 : f32
        %low = arith.maximumf %rounded, %zero : f32
        %inside = arith.minimumf %low, %top : f32
        %code = arith.fptosi %inside : f32 to i32
        %out = arith.trunci %code : i32 to i2"""
    text = product_text(sizes, "u2", "i2", "u2", epilogue, packed=True, reads={"scale": f"tensor<{m}xf32>"})
    given, acc = operands(rng, sizes, "u2", "i2")
    scale = np.abs(floats(rng, m)) / 10
    result = run_on_gpu(lower_for_gpu(text, target), {**given, "scale": scale})["result"]
    expected = np.clip(np.rint(acc.astype(np.float32) * scale[:, None]), 0, 3)
    np.testing.assert_array_equal(unpack(result), expected)


EXACT: dict[str, tuple[str, Any]] = {
    "%out = math.absi %acc : i32": ("i32", np.abs),
    "%out = math.ctpop %acc : i32": ("i32", lambda a: np.bitwise_count(a.astype(np.uint32)).astype(np.int32)),
    "%c = arith.constant 3 : i32 %out = arith.floordivsi %acc, %c : i32": ("i32", lambda a: a // 3),
    "%c = arith.constant 3 : i32 %out = arith.ceildivsi %acc, %c : i32": ("i32", lambda a: -(-a // 3)),
    "%c = arith.constant 5 : i32 %out = arith.maxsi %acc, %c : i32": ("i32", lambda a: np.maximum(a, 5)),
    "%out = arith.trunci %acc : i32 to i8": ("i8", lambda a: a.astype(np.int8)),
    "%w = arith.extsi %acc : i32 to i64 %out = arith.muli %w, %w : i64": ("i64", lambda a: a.astype(np.int64) ** 2),
    "%out = arith.sitofp %acc : i32 to f64": ("f64", lambda a: a.astype(np.float64)),
    "%f = arith.sitofp %acc : i32 to f32 %a = math.absf %f : f32 %out = math.sqrt %a : f32": (
        "f32",
        lambda a: np.sqrt(np.abs(a).astype(np.float32)),
    ),
    "%f = arith.sitofp %acc : i32 to f32 %h = arith.constant 0.5 : f32 %m = arith.mulf %f, %h : f32"
    " %out = math.floor %m : f32": ("f32", lambda a: np.floor(a.astype(np.float32) * np.float32(0.5))),
    "%f = arith.sitofp %acc : i32 to f32 %h = arith.constant 0.5 : f32 %m = arith.mulf %f, %h : f32"
    " %out = math.roundeven %m : f32": ("f32", lambda a: np.rint(a.astype(np.float32) * np.float32(0.5))),
    "%f = arith.sitofp %acc : i32 to f32 %out = math.fma %f, %f, %f : f32": (
        "f32",
        lambda a: (a.astype(np.float64) ** 2 + a).astype(np.float32),
    ),
    "%r = arith.index_cast %row : index to i32 %c = arith.index_cast %col : index to i32"
    " %m = arith.muli %r, %c : i32 %out = arith.addi %acc, %m : i32": (
        "i32",
        lambda a: a + np.outer(np.arange(a.shape[0]), np.arange(a.shape[1])).astype(np.int32),
    ),
}


@pytest.mark.parametrize("target", ["sm_90a", "sm_80"])
@pytest.mark.parametrize("epilogue", EXACT)
def test_arithmetic_in_an_epilogue_is_exact(rng: np.random.Generator, epilogue: str, target: str) -> None:
    dtype, expected = EXACT[epilogue]
    given, acc = operands(rng, SMALL, "i3", "i3")
    result = run_on_gpu(lower_for_gpu(product_text(SMALL, "i3", "i3", dtype, epilogue), target), given)["result"]
    same(result, expected(acc))


@pytest.mark.parametrize("target", ["sm_90a", "sm_80"])
@pytest.mark.parametrize("n", [64, 70, 71])
def test_arrays_of_all_kinds_are_read(rng: np.random.Generator, n: int, target: str) -> None:
    sizes = (66, n, 200)
    epilogue = f"""
        %zero = arith.constant 0 : i32
        %first = arith.constant 2 : index
        %f = tensor.extract %flip[%col] : tensor<{n}xi1>
        %s = tensor.extract %scalar[] : tensor<i32>
        %t = tensor.extract %table[%first, %row] : tensor<3x66xi16>
        %b = tensor.extract %scale[%col] : tensor<{n}xbf16>
        %minus = arith.subi %zero, %acc : i32
        %flipped = arith.select %f, %minus, %acc : i32
        %more = arith.extsi %t : i16 to i32
        %sum = arith.addi %flipped, %more : i32
        %all = arith.addi %sum, %s : i32
        %float = arith.sitofp %all : i32 to f32
        %wide = arith.extf %b : bf16 to f32
        %out = arith.mulf %float, %wide : f32"""
    reads = {
        "flip": f"tensor<{n}xi1>",
        "scalar": "tensor<i32>",
        "table": "tensor<3x66xi16>",
        "scale": f"tensor<{n}xbf16>",
    }
    text = product_text(sizes, "u1", "i2", "f32", epilogue, reads=reads)
    given, acc = operands(rng, sizes, "u1", "i2")
    more = {
        "flip": rng.integers(0, 2, n).astype(bool),
        "scalar": np.array(-7, np.int32),
        "table": rng.integers(-99, 99, (3, 66)).astype(np.int16),
        "scale": floats(rng, n).astype(ml_dtypes.bfloat16),
    }
    total = np.where(more["flip"], -acc, acc) + more["table"][2][:, None].astype(np.int32) + more["scalar"]
    result = run_on_gpu(lower_for_gpu(text, target), {**given, **more})["result"]
    same(result, total.astype(np.float32) * more["scale"].astype(np.float32))


# --- the way users take ----------------------------------------------------------------------------


def test_arrays_go_in_and_come_out_with_the_target_left_to_us(rng: np.random.Generator) -> None:
    spec = MatmulSpec(*ODD, "ternary", "u2")
    executable = bitmlir.compile(spec)
    assert executable.target != "cpu"
    x, w = rng.integers(-1, 2, (255, 1023)), rng.integers(0, 4, (257, 1023))
    same(executable(x, w), exact_product(x, w))


def test_a_bound_program_runs_again_on_what_its_arrays_hold_now(rng: np.random.Generator) -> None:
    given, expected = operands(rng, ODD, "bipolar", "bipolar")
    call = bitmlir.compile(MatmulSpec(*ODD, "bipolar", "bipolar", out="bit")).bind(**given, threshold=0)
    first, second = call(), call()
    same(unpack(first), np.where(expected >= 0, 1, -1).astype(np.int8))
    same(second.planes, first.planes)
    same(second.sums, first.sums)
