"""Packing, unpacking and whole networks on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
from support import compile_for_cpu, packed_type, random_matrix, run

from bitmlir import reference
from bitmlir.dialects.encoding import Encoding
from bitmlir.formats.packed import unpack

ENCODINGS = ["u1", "u2", "u8", "u4@9", "u3@row", "u8@row", "i2", "i8", "bipolar", "bipolar3", "bipolar8", "ternary"]


def pack_text(rows: int, k: int, encoding: str, element: str) -> str:
    packed, source, zeros = packed_type(rows, k, encoding), f"tensor<{rows}x{k}x{element}>", f"tensor<{rows}xi32>"
    if Encoding.parse(encoding).has_row_zeros:
        return f"""
func.func @pack(%x: {source} {{bit.name = "x"}}, %z: {zeros} {{bit.name = "zeros"}}) -> {packed} {{
  %p = "bit.pack"(%x, %z) : ({source}, {zeros}) -> {packed}
  return %p : {packed}
}}"""
    return f"""
func.func @pack(%x: {source} {{bit.name = "x"}}) -> {packed} {{
  %p = "bit.pack"(%x) : ({source}) -> {packed}
  return %p : {packed}
}}"""


@pytest.mark.parametrize("sizes", [(3, 32), (5, 131)], ids=str)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_packing_gives_the_planes_sums_and_zeros_that_numpy_gives(encoding, sizes):
    values, expected = random_matrix(np.random.default_rng(1), sizes, encoding)
    known = Encoding.parse(encoding)
    element = "i8" if -128 <= known.minimum and known.maximum <= 127 else "i16"
    arguments = {"x": values.astype(np.int8 if element == "i8" else np.int16), "zeros": expected.zeros}
    (result,) = run(compile_for_cpu(pack_text(*sizes, encoding, element)), arguments).values()
    np.testing.assert_array_equal(result.planes, expected.planes)
    np.testing.assert_array_equal(result.sums, expected.sums)
    if known.has_row_zeros:
        np.testing.assert_array_equal(result.zeros, expected.zeros)


def test_packing_reads_32_bit_integers():
    values, expected = random_matrix(np.random.default_rng(1), (7, 65), "i5")
    (result,) = run(compile_for_cpu(pack_text(7, 65, "i5", "i32")), {"x": values.astype(np.int32)}).values()
    np.testing.assert_array_equal(result.planes, expected.planes)


@pytest.mark.parametrize("sizes", [(3, 32), (5, 131)], ids=str)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_unpacking_gives_the_values_back(encoding, sizes):
    values, packed = random_matrix(np.random.default_rng(2), sizes, encoding)
    known = Encoding.parse(encoding)
    element = "i8" if -128 <= known.minimum and known.maximum <= 127 else "i16"
    source, result = packed_type(*sizes, encoding), f"tensor<{sizes[0]}x{sizes[1]}x{element}>"
    text = f"""
func.func @unpack(%p: {source} {{bit.name = "p"}}) -> {result} {{
  %x = "bit.unpack"(%p) : ({source}) -> {result}
  return %x : {result}
}}"""
    (unpacked,) = run(compile_for_cpu(text), {"p": packed}).values()
    np.testing.assert_array_equal(unpacked, values)


NETWORK = """
func.func @network(
    %x: tensor<9x70xi8> {bit.name = "x"},
    %w1: tensor<50x70xi2, #bit.encoding<"ternary">> {bit.name = "w1"},
    %w2: tensor<10x50xi1, #bit.encoding<"bipolar">> {bit.name = "w2"}
) -> (tensor<9x10xi32> {bit.name = "y"}, tensor<9x50xi8> {bit.name = "hidden"}) {
  %p = "bit.pack"(%x) : (tensor<9x70xi8>) -> tensor<9x70xi4, #bit.encoding<"i4">>
  %h = "bit.matmul"(%p, %w1) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %zero = arith.constant 0 : i32
    %positive = arith.cmpi sge, %acc, %zero : i32
    gpu.yield %positive : i1
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>}
    : (tensor<9x70xi4, #bit.encoding<"i4">>, tensor<50x70xi2, #bit.encoding<"ternary">>)
    -> tensor<9x50xi1, #bit.encoding<"bipolar">>
  %y = "bit.matmul"(%h, %w2) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>}
    : (tensor<9x50xi1, #bit.encoding<"bipolar">>, tensor<10x50xi1, #bit.encoding<"bipolar">>) -> tensor<9x10xi32>
  %hidden = "bit.unpack"(%h) : (tensor<9x50xi1, #bit.encoding<"bipolar">>) -> tensor<9x50xi8>
  return %y, %hidden : tensor<9x10xi32>, tensor<9x50xi8>
}
"""


def test_a_network_passes_packed_layers_through_scratch_memory():
    rng = np.random.default_rng(3)
    x = rng.integers(-8, 8, (9, 70), dtype=np.int8)
    (w1, packed_w1), (w2, packed_w2) = random_matrix(rng, (50, 70), "ternary"), random_matrix(rng, (10, 50), "bipolar")
    results = run(compile_for_cpu(NETWORK), {"x": x, "w1": packed_w1, "w2": packed_w2})
    hidden = reference.epilogue(reference.matmul(x, w1), "bit")
    np.testing.assert_array_equal(results["hidden"], hidden)
    np.testing.assert_array_equal(results["y"], reference.matmul(hidden, unpack(packed_w2)))
    np.testing.assert_array_equal(w2, unpack(packed_w2))
