"""Pixels of 64 channels that lie side by side in pairs: where they do, and that results are exact."""

from __future__ import annotations

import numpy as np
import pytest
from mlir import ir
from pixel_pairs import CHAINS
from support import run
from warp_interpreter import InterpretedProgram

from bitmlir import compiler
from bitmlir.dialects import bit
from bitmlir.dialects.pixel_pairs import PairWindow
from bitmlir.dialects.window import Axis, Window
from bitmlir.lowering.parsing import parse_module
from bitmlir.lowering.pipeline import run_pipeline
from bitmlir.lowering.targets import get_target
from bitmlir.tools.check import expected_results, random_operands

RESIDENT = "rows=16,columns=32,warp_rows=16,warp_columns=32"  # which the interpreter can run
NONE = {"rows of odd length", "an odd number of places", "to fewer channels", "pooled to rows of odd length"}


@pytest.mark.parametrize("case", CHAINS)
def test_every_element_is_exact_in_gpu_kernels(case: str) -> None:
    text = CHAINS[case].text(images=2 if "strides" in case else 1)
    bundle = compiler.lower(text, get_target("sm_90"), tile=RESIDENT)
    assert ("plane_pair_filters" in bundle.stages["planes"].decode()) == (case not in NONE)
    operands = random_operands(bundle.plan, seed=5)
    results = run(InterpretedProgram(bundle), operands.given)
    expected = expected_results(bundle.plan, text, operands.plain)
    for value, right in zip(bundle.plan.results, expected, strict=True):
        np.testing.assert_array_equal(results[value.name], right)


@pytest.mark.parametrize("taps", range(1, 8))
@pytest.mark.parametrize("stride", [1, 2])
def test_a_window_over_pairs_sees_the_same_pixels(taps: int, stride: int) -> None:
    seen = 0
    for size in range(2, 16):
        for before, after in np.ndindex(4, 4):
            axis = Axis(size, taps, stride, before, after)
            pairs = PairWindow.of(Window(Axis(3, 1), axis)) if axis.places > 0 else None
            if pairs is None:
                continue
            over = pairs.over_pairs.columns
            assert over.places * pairs.beside == axis.places
            for run_, place, tap in np.ndindex(over.places, pairs.beside, taps):
                t, half = divmod(pairs.half(place, tap), 2)
                assert 0 <= t < over.taps
                pair = run_ * over.stride - over.before + t
                assert 2 * pair + half == (run_ * pairs.beside + place) * stride - before + tap
                seen += 1
    assert seen > 100


@pytest.mark.parametrize(
    "axis",
    [Axis(7, 3, 1, 1, 1), Axis(8, 2), Axis(8, 3, 3), Axis(8, 3, 1, 2, 2, 2)],
    ids=["an odd size", "an odd number of places", "a stride of 3", "dilation"],
)
def test_windows_that_see_no_whole_pairs(axis: Axis) -> None:
    assert PairWindow.of(Window(Axis(4, 1), axis)) is None


def test_results_and_what_the_cpu_computes_have_no_pairs() -> None:
    for target in ("cpu", "sm_90a"):
        with ir.Context() as context, ir.Location.unknown():
            bit.load(context)
            module = parse_module(CHAINS["±1"].text())
            run_pipeline(module, f"bit-decompose{{target={target}}}")
            assert ("memref<1x60x2xi32>" in str(module)) == (target != "cpu")


def test_a_long_chain_is_decided_once() -> None:
    images, filters = 'tensor<1x2x4x64xi1, #bit.encoding<"u1">>', 'tensor<64x1x1x64xi1, #bit.encoding<"u1">>'
    steps = "stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>"
    arguments = "%acc: i32, %n: index, %q: index, %s: index, %o: index"

    def conv(number: int, body: str, result: str) -> str:
        region = f"({{\n^bb0({arguments}):\n{body}\n}}) {{{steps}}}"
        return f'%y{number + 1} = "bit.conv2d"(%y{number}, %w) {region} : ({images}, {filters}) -> {result}'

    lines = [conv(n, "%c = arith.trunci %acc : i32 to i1\ngpu.yield %c : i1", images) for n in range(400)]
    result = "tensor<1x2x4x64xi32>"
    body = "\n".join([*lines, conv(400, "gpu.yield %acc : i32", result)])
    text = f"func.func @deep(%y0: {images}, %w: {filters}) -> {result} {{\n{body}\nreturn %y401 : {result}\n}}"
    with ir.Context() as context, ir.Location.unknown():
        bit.load(context)
        module = parse_module(text)
        run_pipeline(module, "bit-decompose{target=sm_90}")
        made = str(module)
    assert made.count('"bit.plane_pair_filters"') == 1  # which all but the first share
    assert made.count("memref.alloc() : memref<1x8x2xi32>") == 400
