"""Products on the CPU against plain numpy: encodings, sizes, results, epilogues, bitmaps."""

from __future__ import annotations

import sys
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from support import compile_for_cpu, product_text, random_matrix, run

from bitmlir import reference
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import IRError
from bitmlir.dialects.layout import tile_counts
from bitmlir.formats.packed import Packed, unpack
from bitmlir.formats.tiles import TileBitmap, tile_bitmap
from bitmlir.runtime.dtypes import numpy_dtype

SIZES = [(1, 1, 1), (17, 33, 65), (3, 130, 129), (64, 64, 1024), (255, 257, 1023)]
PAIRS = [
    ("bipolar", "bipolar"),
    ("bipolar", "u2"),
    ("u2", "i3"),
    ("i4", "bipolar3"),
    ("ternary", "ternary"),
    ("ternary", "bipolar"),
    ("u3@5", "i2"),
    ("u2@row", "bipolar2"),
    ("i3", "u4@row"),
    ("u2@row", "u3@row"),
    ("u8", "i8"),
]


def product(
    rng: np.random.Generator, sizes: tuple[int, int, int], lhs: str, rhs: str, result: str = "i32", epilogue: str = "",
    *, packed: bool = False, **reads: tuple[str, np.ndarray],
) -> tuple[np.ndarray, Any]:  # fmt: skip
    """The exact accumulator of a random product, and what the CPU returns; reads: name -> (type, array)."""
    m, n, k = sizes
    (x, packed_x), (y, packed_y) = random_matrix(rng, (m, k), lhs), random_matrix(rng, (n, k), rhs)
    types = {name: type_ for name, (type_, _) in reads.items()}
    text = product_text(sizes, lhs, rhs, result, epilogue, packed=packed, reads=types)
    arrays = {name: array for name, (_, array) in reads.items()}
    results = run(compile_for_cpu(text), {"lhs": packed_x, "rhs": packed_y, **arrays})
    return reference.matmul(x, y), results["result"]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize(("lhs", "rhs"), PAIRS)
def test_every_class_of_encodings_is_exact(rng, sizes, lhs, rhs):
    expected, result = product(rng, sizes, lhs, rhs)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(("lhs", "rhs"), [("u8", "u8"), ("bipolar", "bipolar"), ("i8", "i8")])
def test_sums_of_extreme_values_are_exact(lhs, rhs):
    """Every plane bit is 1, so that every byte of counts is as full as it can be."""
    m, n, k = 2, 16, 32 * 32 + 1
    full = Packed.from_planes(_ones(Encoding.parse(lhs).bits, m, k), lhs, k)
    other = Packed.from_planes(_ones(Encoding.parse(rhs).bits, n, k), rhs, k)
    results = run(compile_for_cpu(product_text((m, n, k), lhs, rhs)), {"lhs": full, "rhs": other})
    np.testing.assert_array_equal(results["result"], reference.matmul(unpack(full), unpack(other)))


def _ones(planes: int, rows: int, k: int) -> np.ndarray:
    words = 4 * -(-k // 128)
    bits = np.arange(words * 32) < k
    return np.broadcast_to(np.packbits(bits, bitorder="little").view(np.uint32), (planes, rows, words)).copy()


def test_an_epilogue_may_be_longer_than_pythons_stack_is_deep(rng):
    steps = 2 * sys.getrecursionlimit()
    lines = [f"%v{i + 1} = arith.{'xori' if i % 2 else 'addi'} %v{i}, %acc : i32" for i in range(steps)]
    first, last = "%v0 = arith.addi %acc, %acc : i32", f"%out = arith.addi %v{steps}, %acc : i32"
    acc, result = product(rng, (3, 5, 70), "u2", "i3", epilogue="\n".join([first, *lines, last]))
    value = 2 * acc
    for i in range(steps):
        value = value ^ acc if i % 2 else value + acc
    np.testing.assert_array_equal(result, (value + acc).astype(np.int32))


# --- plain results --------------------------------------------------------------------------------

SCALED = """
    %f = arith.sitofp %acc : i32 to f32
    %r = tensor.extract %row_scale[%row] : tensor<{m}xf32>
    %c = tensor.extract %column_scale[%col] : tensor<{n}xf32>
    %b = tensor.extract %bias[%col] : tensor<{n}xf32>
    %fr = arith.mulf %f, %r : f32
    %frc = arith.mulf %fr, %c : f32
    %sum = arith.addf %frc, %b : f32
    %out = {last}
"""


@pytest.mark.parametrize("out", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("sizes", [(17, 33, 65), (2, 130, 700)], ids=str)
def test_each_float_operation_is_rounded_as_in_numpy(rng, sizes, out):
    m, n, _ = sizes
    last = "arith.addf %frc, %b : f32" if out == "f32" else f"arith.truncf %sum : f32 to {out}"
    scales = {
        "row_scale": rng.standard_normal(m, np.float32),
        "column_scale": rng.standard_normal(n, np.float32),
        "bias": rng.standard_normal(n, np.float32),
    }
    reads = {name: (f"tensor<{len(array)}xf32>", array) for name, array in scales.items()}
    epilogue = SCALED.format(m=m, n=n, last=last)
    acc, result = product(rng, sizes, "u4", "i4", out, epilogue, **reads)
    np.testing.assert_array_equal(_bits(result), _bits(reference.epilogue(acc, out, **scales)))


def _bits(array: np.ndarray) -> np.ndarray:
    return array.view(f"u{array.dtype.itemsize}")


@pytest.mark.parametrize("out", ["f16", "bf16"])
def test_halves_that_are_special_or_lie_between_two_neighbours_round_as_in_numpy(rng, out):
    halfway = [np.nan, np.inf, -np.inf, 65519.99, 65520, 3.4e38, 1e-40, -0.0, 1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-8]
    values = np.array([*halfway, 1 + 3 * 2**-8, *rng.standard_normal(20)], np.float32)
    epilogue = f"""
        %v = tensor.extract %values[%col] : tensor<32xf32>
        %out = arith.truncf %v : f32 to {out}"""
    with np.errstate(over="ignore"):
        expected = values.astype(numpy_dtype(out))
    _, result = product(rng, (1, 32, 8), "u1", "u1", out, epilogue, values=("tensor<32xf32>", values))
    np.testing.assert_array_equal(_bits(result[0, 1:]), _bits(expected[1:]))
    assert np.isnan(result[0, 0])


def test_large_sums_are_rounded_to_f32_before_bf16(rng):
    """2^25 + 2^17 + 1 is just above the middle of two bf16 numbers, but its f32 is that middle and rounds to even."""
    values = np.array([2**25 + 2**17 + 1, 2**25 + 2**17 + 5], np.int32)
    epilogue = """
        %v = tensor.extract %values[%col] : tensor<2xi32>
        %f = arith.sitofp %v : i32 to f32
        %out = arith.truncf %f : f32 to bf16"""
    _, result = product(rng, (1, 2, 8), "u1", "u1", "bf16", epilogue, values=("tensor<2xi32>", values))
    assert result.astype(np.float64).tolist() == [[2**25, 2**25 + 2**18]]


@pytest.mark.parametrize(
    ("out", "operation"),
    [("i8", "arith.trunci"), ("i16", "arith.trunci"), ("i64", "arith.extsi"), ("f64", "arith.sitofp")],
)
@pytest.mark.parametrize("columns", [64, 77])
def test_results_have_every_element_type(rng, out, operation, columns):
    acc, result = product(rng, (5, columns, 100), "i4", "i4", out, f"%out = {operation} %acc : i32 to {out}")
    np.testing.assert_array_equal(result, acc.astype(numpy_dtype(out)))


# --- epilogues ------------------------------------------------------------------------------------


def test_epilogues_read_arrays_at_the_row_the_column_both_or_a_constant(rng):
    m, n = 5, 37
    shapes = {"both": (m, n), "swapped": (n, m), "by_row": (m,), "by_column": (n,), "table": (3, n), "last": (n, 2)}
    arrays = {name: rng.integers(-1000, 1000, shape, dtype=np.int32) for name, shape in shapes.items()}
    types = {name: f"tensor<{'x'.join(map(str, shape))}xi32>" for name, shape in shapes.items()}
    epilogue = f"""
        %two = arith.constant 2 : index
        %one = arith.constant 1 : index
        %a = tensor.extract %both[%row, %col] : {types["both"]}
        %b = tensor.extract %swapped[%col, %row] : {types["swapped"]}
        %c = tensor.extract %by_row[%row] : {types["by_row"]}
        %d = tensor.extract %by_column[%col] : {types["by_column"]}
        %e = tensor.extract %table[%two, %col] : {types["table"]}
        %f = tensor.extract %last[%col, %one] : {types["last"]}
        %ab = arith.xori %a, %b : i32
        %cd = arith.muli %c, %d : i32
        %ef = arith.subi %e, %f : i32
        %abcd = arith.addi %ab, %cd : i32
        %all = arith.addi %abcd, %ef : i32
        %out = arith.addi %acc, %all : i32"""
    reads = {name: (types[name], arrays[name]) for name in shapes}
    acc, result = product(rng, (m, n, 100), "u2", "i2", "i32", epilogue, **reads)
    a = arrays
    expected = acc + (a["both"] ^ a["swapped"].T) + a["by_row"][:, None] * a["by_column"]
    np.testing.assert_array_equal(result, expected + a["table"][2] - a["last"][:, 1])


def test_epilogues_compute_with_positions_and_yield_what_depends_on_one_axis_or_none(rng):
    position = """
        %r = arith.index_cast %row : index to i32
        %c = arith.index_cast %col : index to i32
        %hundred = arith.constant 100 : i32
        %rs = arith.muli %r, %hundred : i32"""
    grid = np.arange(5)[:, None] * 100 + np.arange(37)
    for last, expected in (
        ("%out = arith.addi %rs, %c : i32", grid),
        ("%out = arith.addi %rs, %hundred : i32", grid - np.arange(37) + 100),
        ("%out = arith.constant 7 : i32", np.full((5, 37), 7)),
    ):
        _, result = product(rng, (5, 37, 40), "u1", "u1", "i32", f"{position}\n{last}")
        np.testing.assert_array_equal(result, expected)


def test_arrays_of_bf16_are_read(rng):
    scale = rng.standard_normal(70).astype(ml_dtypes.bfloat16)
    epilogue = """
        %s = tensor.extract %scale[%col] : tensor<70xbf16>
        %wide = arith.extf %s : bf16 to f32
        %f = arith.sitofp %acc : i32 to f32
        %out = arith.mulf %f, %wide : f32"""
    acc, result = product(rng, (3, 70, 40), "i2", "i2", "f32", epilogue, scale=("tensor<70xbf16>", scale))
    np.testing.assert_array_equal(result, acc.astype(np.float32) * scale.astype(np.float32))


def test_arrays_of_i1_take_a_byte_an_element(rng):
    flip = rng.integers(0, 2, 70).astype(bool)
    epilogue = """
        %f = tensor.extract %flip[%col] : tensor<70xi1>
        %zero = arith.constant 0 : i32
        %minus = arith.subi %zero, %acc : i32
        %out = arith.select %f, %minus, %acc : i32"""
    acc, result = product(rng, (3, 70, 40), "i2", "i2", "i32", epilogue, flip=("tensor<70xi1>", flip))
    np.testing.assert_array_equal(result, np.where(flip, -acc, acc))


MATH = {
    "math.absi %acc : i32": np.abs,
    "math.ctpop %acc : i32": lambda acc: np.bitwise_count(acc.astype(np.uint32)),
    "math.ctlz %acc : i32": lambda acc: 32 - np.ceil(np.log2(acc.astype(np.uint32) + 1.0)),
    "math.cttz %acc : i32": lambda acc: np.where(acc == 0, 32, np.log2((acc & -acc) + (acc == 0))),
    "arith.floordivsi %acc, %three : i32": lambda acc: acc // 3,
    "arith.ceildivsi %acc, %three : i32": lambda acc: -(-acc // 3),
    "arith.remsi %acc, %three : i32": lambda acc: np.fmod(acc, 3),
    "arith.maxsi %acc, %three : i32": lambda acc: np.maximum(acc, 3),
    "arith.shrsi %acc, %three : i32": lambda acc: acc >> 3,
}


@pytest.mark.parametrize(("operation", "expected"), MATH.items(), ids=[name.split()[0] for name in MATH])
def test_integer_operations_work_on_vectors(rng, operation, expected):
    epilogue = f"""
        %three = arith.constant 3 : i32
        %out = {operation}"""
    acc, result = product(rng, (9, 21, 60), "i3", "i3", "i32", epilogue)
    np.testing.assert_array_equal(result, expected(acc))


FLOAT_MATH = {
    "math.absf %x : f32": np.abs,
    "math.ceil %x : f32": np.ceil,
    "math.floor %x : f32": np.floor,
    "math.trunc %x : f32": np.trunc,
    "math.roundeven %x : f32": np.rint,
    "math.round %x : f32": lambda x: np.copysign(np.floor(np.abs(x) + np.float32(0.5)), x),
    "math.sqrt %x : f32": np.sqrt,
    "math.copysign %half, %x : f32": lambda x: np.copysign(np.float32(0.5), x),
    "math.fma %x, %x, %half : f32": lambda x: (x.astype(np.float64) * x + 0.5).astype(np.float32),
    "arith.divf %x, %half : f32": lambda x: x / np.float32(0.5),
    "arith.maximumf %x, %half : f32": lambda x: np.maximum(x, np.float32(0.5)),
    "arith.negf %x : f32": np.negative,
}


@pytest.mark.parametrize(("operation", "expected"), FLOAT_MATH.items(), ids=[name.split()[0] for name in FLOAT_MATH])
def test_float_operations_work_on_vectors(rng, operation, expected):
    epilogue = f"""
        %half = arith.constant 0.5 : f32
        %f = arith.sitofp %acc : i32 to f32
        %x = arith.mulf %f, %half : f32
        %out = {operation}"""
    acc, result = product(rng, (9, 21, 60), "i3", "i3", "f32", epilogue)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(result, expected(acc.astype(np.float32) * np.float32(0.5)))


@pytest.mark.parametrize("out", ["f16", "bf16"])
@pytest.mark.parametrize(
    ("operation", "expected"),
    [("arith.mulf %x, %x", lambda x: x * x), ("arith.divf %x, %c", lambda x: x / 3), ("math.sqrt %x", np.sqrt)],
    ids=["mulf", "divf", "sqrt"],
)
def test_arithmetic_on_halves_is_rounded_once_an_operation(rng, out, operation, expected):
    epilogue = f"""
        %c = arith.constant 3.0 : {out}
        %i = math.absi %acc : i32
        %f = arith.sitofp %i : i32 to f32
        %x = arith.truncf %f : f32 to {out}
        %out = {operation} : {out}"""
    acc, result = product(rng, (9, 21, 200), "i3", "i3", out, epilogue)
    x = np.abs(acc).astype(numpy_dtype(out)).astype(np.float32)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(_bits(result), _bits(expected(x).astype(numpy_dtype(out))))


def test_operations_with_several_results_are_refused(rng, monkeypatch, tmp_path):
    monkeypatch.setenv("BITMLIR_DUMP_DIR", str(tmp_path))
    epilogue = "%out, %high = arith.mulsi_extended %acc, %acc : i32"
    with pytest.raises(IRError, match=r"arith\.mulsi_extended in its region must have one result, but has 2"):
        product(rng, (1, 1, 1), "u1", "u1", "i32", epilogue)


# --- packed results -------------------------------------------------------------------------------

THRESHOLD = """
    %t = tensor.extract %threshold[%col] : tensor<{n}xi32>
    %f = tensor.extract %flip[%col] : tensor<{n}xi1>
    %above = arith.cmpi sge, %acc, %t : i32
    %out = arith.xori %above, %f : i1"""


@pytest.mark.parametrize(
    "sizes", [(1, 1, 1), (17, 33, 65), (3, 130, 129), (4, 64, 40), (2, 32, 40), (5, 300, 99)], ids=str
)
def test_thresholds_leave_packed_bits_with_their_sums(rng, sizes):
    n = sizes[1]
    threshold, flip = rng.integers(-9, 9, n, dtype=np.int32), rng.integers(0, 2, n).astype(bool)
    reads = {"threshold": (f"tensor<{n}xi32>", threshold), "flip": (f"tensor<{n}xi1>", flip)}
    acc, result = product(rng, sizes, "bipolar", "ternary", "bipolar", THRESHOLD.format(n=n), packed=True, **reads)
    np.testing.assert_array_equal(unpack(result), reference.epilogue(acc, "bit", threshold=threshold, flip=flip))


@pytest.mark.parametrize("encoding", ["u2", "u3", "i4", "bipolar2", "ternary", "u5@7"])
@pytest.mark.parametrize("columns", [33, 129])
def test_codes_of_several_planes_are_packed(rng, encoding, columns):
    """The epilogue yields the low bits of the accumulator as codes; ternary has no code with both bits."""
    bits = Encoding.parse(encoding).bits
    low = "arith.andi %acc, %one : i32" if encoding == "ternary" else "arith.addi %acc, %zero : i32"
    epilogue = f"""
        %zero = arith.constant 0 : i32
        %one = arith.constant 1 : i32
        %low = {low}
        %out = arith.trunci %low : i32 to i{bits}"""
    acc, result = product(rng, (5, columns, 77), "u3", "i3", encoding, epilogue, packed=True)
    codes = acc & (1 if encoding == "ternary" else 2**bits - 1)
    known = Encoding.parse(encoding)
    weights = np.array(known.weights) * known.scale
    planes = codes[..., None] >> np.arange(bits) & 1
    np.testing.assert_array_equal(unpack(result), planes @ weights + known.offset)


@pytest.mark.parametrize("bits", [1, 2, 4, 7, 8])
@pytest.mark.parametrize("columns", [45, 64])
def test_codes_are_packed_from_narrow_arithmetic_on_rows_and_columns(rng, bits, columns):
    """Vectors of i2 to i7, of which LLVM has been seen to store wrong bits, and codes that are the same in a row."""
    positions = f"""
        %r = arith.index_cast %row : index to i32
        %c = arith.index_cast %col : index to i32
        %rr = arith.trunci %r : i32 to i{bits}
        %cc = arith.trunci %c : i32 to i{bits}"""
    mixed = f"""
        %less = arith.cmpi ult, %rr, %cc : i{bits}
        %sum = arith.addi %rr, %cc : i{bits}
        %out = arith.select %less, %sum, %rr : i{bits}"""
    by_row = f"""
        %two = arith.constant 2 : i32
        %r2 = arith.muli %r, %two : i32
        %out = arith.trunci %r2 : i32 to i{bits}"""
    rows, cols = np.arange(20)[:, None] % 2**bits, np.arange(columns)[None] % 2**bits
    for epilogue, expected in (
        (mixed, np.where(rows < cols, (rows + cols) % 2**bits, rows)),
        (by_row, np.broadcast_to(np.arange(0, 40, 2)[:, None] % 2**bits, (20, columns))),
    ):
        _, result = product(rng, (20, columns, 8), "u1", "u1", f"u{bits}", positions + epilogue, packed=True)
        np.testing.assert_array_equal(unpack(result), expected)


# --- bitmaps --------------------------------------------------------------------------------------

SPARSE = (300, 140, 2500)  # 3 and 2 tiles of rows, 3 of K, none of them whole at the end


def _emptied(packed: Packed, live: np.ndarray) -> Packed:
    """The matrix without the bits in the tiles that are not live; live: booleans [planes, row tiles, K tiles]."""
    mask = np.repeat(np.repeat(live, 128, axis=1), 32, axis=2)[:, : packed.planes.shape[1], : packed.planes.shape[2]]
    return Packed.from_planes(np.where(mask, packed.planes, 0), packed.encoding, packed.k)


@pytest.mark.parametrize("tiles", [("lhs_tiles",), ("rhs_tiles",), ("lhs_tiles", "rhs_tiles")], ids="+".join)
@pytest.mark.parametrize(("lhs", "rhs"), [("ternary", "u2"), ("bipolar", "bipolar")])
def test_tiles_that_a_bitmap_calls_empty_are_not_read(rng, lhs, rhs, tiles):
    """The bitmaps lie: bits in tiles called empty must not count, though the row sums still do."""
    m, n, k = SPARSE
    (_, x), (_, y) = random_matrix(rng, (m, k), lhs), random_matrix(rng, (n, k), rhs)
    program = compile_for_cpu(product_text(SPARSE, lhs, rhs, tiles=tiles))
    shape_x, shape_y = ((p.encoding.bits, *tile_counts(p.shape)) for p in (x, y))
    patterns = {
        "random": (rng.integers(0, 2, shape_x).astype(bool), rng.integers(0, 2, shape_y).astype(bool)),
        "empty rows of tiles": (np.arange(shape_x[1])[None, :, None] != np.zeros(shape_x), np.ones(shape_y, bool)),
        "empty columns of tiles": (np.ones(shape_x, bool), np.arange(shape_y[2]) != np.ones(shape_y)),
        "all empty": (np.zeros(shape_x, bool), np.zeros(shape_y, bool)),
        "all full": (np.ones(shape_x, bool), np.ones(shape_y, bool)),
    }
    for name, (live_x, live_y) in patterns.items():
        bitmaps = {
            "lhs_tiles": TileBitmap.from_array(live_x, (m, k), lhs),
            "rhs_tiles": TileBitmap.from_array(live_y, (n, k), rhs),
        }
        result = run(program, {"lhs": x, "rhs": y, **{tile: bitmaps[tile] for tile in tiles}})["result"]
        seen_x = _emptied(x, live_x) if "lhs_tiles" in tiles else x
        seen_y = _emptied(y, live_y) if "rhs_tiles" in tiles else y
        np.testing.assert_array_equal(result, _plane_product(seen_x, seen_y, x, y), err_msg=name)


def _plane_product(seen_x: Packed, seen_y: Packed, x: Packed, y: Packed) -> np.ndarray:
    """The product whose planes are those seen, and whose row sums are the whole matrices'."""
    codes_x, codes_y = (unpack(p).astype(np.int64) - p.encoding.offset for p in (seen_x, seen_y))
    return (
        codes_x @ codes_y.T
        + y.encoding.offset * x.encoding.scale * x.sums[:, None].astype(np.int64)
        + x.encoding.offset * y.encoding.scale * y.sums
        + x.encoding.offset * y.encoding.offset * x.k
    )


def test_true_bitmaps_change_nothing(rng):
    m, n, k = SPARSE
    (_, packed_x), (y, packed_y) = random_matrix(rng, (m, k), "i3"), random_matrix(rng, (n, k), "u2@1")
    packed_x = _emptied(packed_x, rng.random((3, *tile_counts((m, k)))) < 0.3)
    arguments = {
        "lhs": packed_x,
        "rhs": packed_y,
        "lhs_tiles": tile_bitmap(packed_x),
        "rhs_tiles": tile_bitmap(packed_y),
    }
    text = product_text(SPARSE, "i3", "u2@1", tiles=("lhs_tiles", "rhs_tiles"))
    result = run(compile_for_cpu(text), arguments)["result"]
    np.testing.assert_array_equal(result, reference.matmul(unpack(packed_x), y))
