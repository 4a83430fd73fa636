"""Pools of packed images: exact on the CPU and as GPU kernels, and what is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from mlir import ir
from pools import POOLS, pool_text
from support import run
from warp_interpreter import InterpretedProgram

import bitmlir
from bitmlir import compiler
from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import IRError
from bitmlir.formats.packed import Packed, unpack
from bitmlir.lowering.parsing import parse_module
from bitmlir.lowering.targets import get_target
from bitmlir.tools.check import Trial, expected_results, random_operands

ENCODINGS = ("u1", "u2", "u4@5", "u8", "i2", "i5", "bipolar", "bipolar3", "ternary")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("case", POOLS)
def test_every_element_is_exact_on_the_cpu(case: str, encoding: str) -> None:
    text = pool_text(encoding, *POOLS[case])
    executable = bitmlir.compile(text, target="cpu")
    assert Trial.start(executable, text, 3, 0.0).check() > 0


@pytest.mark.parametrize("target", ["sm_90a", "sm_80"])
@pytest.mark.parametrize("encoding", ["bipolar", "i3", "ternary"])
@pytest.mark.parametrize("case", POOLS)
def test_every_element_is_exact_in_gpu_kernels(case: str, encoding: str, target: str) -> None:
    text = pool_text(encoding, *POOLS[case])
    bundle = compiler.lower(text, get_target(target))
    operands = random_operands(bundle.plan, seed=5)
    (value,) = bundle.plan.results
    result = run(InterpretedProgram(bundle), operands.given)[value.name]
    assert isinstance(result, Packed)
    result.check()
    (expected,) = expected_results(bundle.plan, text, operands.plain)
    np.testing.assert_array_equal(unpack(result), expected)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_largest_of_every_pair_of_numbers_is_taken(encoding: str) -> None:
    e = Encoding.parse(encoding)
    numbers = range(e.minimum, e.maximum + 1, e.scale)
    pairs = np.array(list(itertools.product(numbers, repeat=2))).T
    images = pairs.reshape(1, 2, 1, -1)
    executable = bitmlir.compile(pool_text(encoding, images.shape, (2, 1), (1, 1), (0, 0, 0, 0)), target="cpu")
    result = executable(images)
    assert isinstance(result, Packed)
    result.check()  # no bits beyond the last channel, and the right sums
    np.testing.assert_array_equal(unpack(result)[0, 0, 0], pairs.max(axis=0))


def test_a_pool_between_layers_takes_packed_images() -> None:
    text = """
!x = tensor<2x7x7x40xi1, #bit.encoding<"bipolar">>
!h = tensor<2x5x5x70xi1, #bit.encoding<"bipolar">>
!p = tensor<2x2x2x70xi1, #bit.encoding<"bipolar">>
!w = tensor<70x3x3x40xi1, #bit.encoding<"bipolar">>
!v = tensor<9x2x2x70xi1, #bit.encoding<"bipolar">>
func.func @f(%x: !x, %w: !w, %v: !v) -> tensor<2x1x1x9xi32> {
  %h = "bit.conv2d"(%x, %w) ({
  ^bb0(%acc: i32, %image: index, %y: index, %col: index, %channel: index):
    %zero = arith.constant 0 : i32
    %bit = arith.cmpi sge, %acc, %zero : i32
    gpu.yield %bit : i1
  }) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>} : (!x, !w) -> !h
  %p = "bit.pool"(%h) {size = array<i64: 3, 3>, stride = array<i64: 2, 2>, padding = array<i64: 0, 0, 0, 0>}
    : (!h) -> !p
  %r = "bit.conv2d"(%p, %v) ({
  ^bb0(%acc: i32, %image: index, %y: index, %col: index, %channel: index):
    gpu.yield %acc : i32
  }) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>}
    : (!p, !v) -> tensor<2x1x1x9xi32>
  return %r : tensor<2x1x1x9xi32>
}"""
    assert Trial.start(bitmlir.compile(text, target="cpu"), text, 3, 0.0).check() == 2 * 9


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("array<i64: 2, 3>", "array<i64: 2, 0>", "size must be array<i64: …> of 2 numbers from 1 on"),
        ("array<i64: 2, 3>", "array<i64: 2>", "size must be array<i64: …> of 2 numbers"),
        ("array<i64: 2, 3>", "array<i64: 7, 3>", "the window of 7x3 does not fit into the padded images"),
        ("array<i64: 1, 0, 0, 1>", "array<i64: 2, 0, 0, 1>", "every window must see a place inside the image"),
        ("array<i64: 2, 1>", "array<i64: 1, 1>", "the result must be tensor<2x4x4x9xi2"),
        ('"u2"', '"u2@row"', "source cannot have a zero point for each pixel"),
        ("2x4x5x9", "4x5x9", "source must have four static sizes"),
    ],
)
def test_ir_that_cannot_be_is_refused(old: str, new: str, message: str) -> None:
    text = pool_text("u2", (2, 4, 5, 9), (2, 3), (2, 1), (1, 0, 0, 1))
    assert old in text
    with pytest.raises(IRError, match=message):
        bitmlir.compile(text.replace(old, new), target="cpu")


def test_the_builder_infers_what_the_text_says() -> None:
    text = pool_text("u2", (2, 4, 5, 9), (2, 3), (2, 1), (1, 0, 0, 1))
    with ir.Context() as context, ir.Location.unknown():
        bit.load(context)
        module = parse_module(text)
        block = module.body.operations[0].regions[0].blocks[0]
        pool = block.operations[0]
        with ir.InsertionPoint(pool):
            made = bit.PoolOp(source=block.arguments[0], size=[2, 3], stride=[2, 1], padding=[1, 0, 0, 1])
        assert made.result.type == pool.results[0].type
