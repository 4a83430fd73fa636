"""Convolutions of packed images: exact on the CPU and as GPU kernels, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from convolutions import CASES, GROUPED
from mlir import ir
from support import run
from warp_interpreter import InterpretedProgram

import bitmlir
from bitmlir import compiler, reference
from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import EncodingError, InputError, IRError, ShapeError
from bitmlir.dialects.window import Axis, Window
from bitmlir.formats.packed import Packed, pack, unpack
from bitmlir.lowering.pipeline import run_pipeline
from bitmlir.lowering.targets import get_target
from bitmlir.tools.check import Trial, expected_results, random_operands

# Tiles of kernels that the interpreter can run, for plain results and packed ones.
RESIDENT = "rows=16,columns=8,warp_rows=16,warp_columns=8"
RESIDENT_PACKED = "rows=16,columns=32,warp_rows=16,warp_columns=32"


@pytest.mark.parametrize("case", [*CASES, *GROUPED])
def test_every_element_is_exact_on_the_cpu(case: str) -> None:
    spec = {**CASES, **GROUPED}[case]
    executable = bitmlir.compile(spec, target="cpu")
    assert Trial.start(executable, spec, 3, 0.0).check() == np.prod(spec.out_shape)


TOO_DEEP = {"strides, uneven padding, dilation", "the first layer of a network"}  # for registers alone


IN_KERNELS = [(case, target) for case in sorted(CASES.keys() - TOO_DEEP) for target in ("sm_90", "sm_80")]


@pytest.mark.parametrize(("case", "target"), [*IN_KERNELS, *((case, "sm_90") for case in GROUPED)])
def test_every_element_is_exact_in_gpu_kernels(case: str, target: str) -> None:
    spec = {**CASES, **GROUPED}[case]
    tile = RESIDENT if spec.product.result_encoding is None else RESIDENT_PACKED
    bundle = compiler.lower(spec, get_target(target), tile=tile)
    operands = random_operands(bundle.plan, seed=5)
    (value,) = bundle.plan.results
    result = run(InterpretedProgram(bundle), operands.given)[value.name]
    (expected,) = expected_results(bundle.plan, spec, operands.plain)
    result = unpack(result) if isinstance(result, Packed) else result
    np.testing.assert_array_equal(result, expected)


def test_the_reference_is_the_sum_that_it_says() -> None:
    rng = np.random.default_rng(0)
    window = Window(Axis(4, 2, 2, 1, 0, 2), Axis(5, 3, 1, 0, 2))
    x, y = rng.integers(-3, 4, (2, 4, 5, 3)), rng.integers(-3, 4, (4, 2, 3, 3))
    result = reference.conv2d(x, y, window)
    for n, p, q, o in np.ndindex(result.shape):
        total = 0
        for r, s in np.ndindex(2, 3):
            i, j = p * 2 - 1 + r * 2, q + s
            if 0 <= i < 4 and 0 <= j < 5:
                total += int(x[n, i, j] @ y[o, r, s])
        assert result[n, p, q, o] == total


def test_layers_follow_each_other_without_unpacking() -> None:
    rng = np.random.default_rng(1)
    first = bitmlir.compile(Conv2dSpec(2, 6, 6, 30, 40, "bipolar", "bipolar", "bit", padding=1), target="cpu")
    second = bitmlir.compile(Conv2dSpec(2, 6, 6, 40, 7, "bipolar", "u2", stride=2), target="cpu")
    x, w, v = rng.choice([-1, 1], (2, 6, 6, 30)), rng.choice([-1, 1], (40, 3, 3, 30)), rng.integers(0, 4, (7, 3, 3, 40))
    limit = rng.integers(-20, 20, 40)
    hidden = first(x, w, threshold=limit)
    assert isinstance(hidden, Packed)
    assert hidden.shape == (2, 6, 6, 40)
    hidden.check()
    same = Window(Axis(6, 3, 1, 1, 1), Axis(6, 3, 1, 1, 1))
    bits = np.where(reference.conv2d(x, w, same) >= limit, 1, -1)
    np.testing.assert_array_equal(unpack(hidden), bits)
    strided = Window(Axis(6, 3, 2), Axis(6, 3, 2))
    np.testing.assert_array_equal(second(hidden, pack(v, "u2")), reference.conv2d(bits, v, strided))


def test_a_result_goes_where_it_is_asked_for() -> None:
    spec = Conv2dSpec(1, 4, 4, 8, 5, "u1", "i2", padding=1)
    rng = np.random.default_rng(2)
    x, w = rng.integers(0, 2, (1, 4, 4, 8)), rng.integers(-2, 2, (5, 3, 3, 8))
    out = np.empty(spec.out_shape, np.int32)
    assert bitmlir.compile(spec, target="cpu")(x, w, out=out) is out
    np.testing.assert_array_equal(out, reference.conv2d(x, w, spec.window))
    with pytest.raises(InputError, match=r"must be C-contiguous .* numpy.empty\(\(1, 4, 4, 5\), 'int32'\)"):
        bitmlir.compile(spec, target="cpu")(x, w, out=np.empty((5, 4, 4, 1), np.int32).transpose(3, 1, 2, 0))
    with pytest.raises(InputError, match=r"must be int32 of shape \(1, 4, 4, 5\), got int16 of shape \(1, 4, 4, 5\)"):
        bitmlir.compile(spec, target="cpu")(x, w, out=np.empty((1, 4, 4, 5), np.int16))


def test_a_number_stands_for_both_sides_and_specs_are_equal() -> None:
    one = Conv2dSpec(1, 8, 8, 4, 4, "u1", "u1", size=3, stride=2, padding=1, dilation=1)
    other = Conv2dSpec(1, 8, 8, 4, 4, Encoding.parse("u1"), "u1", size=(3, 3), stride=[2, 2], padding=(1, 1, 1, 1))  # type: ignore[arg-type]
    assert one == other
    assert one.out_shape == (1, 4, 4, 4)
    assert one.operations == 2 * 16 * 4 * 9 * 4


def test_groups_of_the_reference_see_their_own_channels_alone() -> None:
    rng = np.random.default_rng(6)
    window = Window(Axis(4, 3, 2, 1, 1), Axis(5, 2, 1, 0, 1))
    x, y = rng.integers(-3, 4, (2, 4, 5, 6)), rng.integers(-3, 4, (9, 3, 2, 2))
    result = reference.conv2d(x, y, window, groups=3)
    for o in range(9):
        alone = x[..., o // 3 * 2 : o // 3 * 2 + 2]
        np.testing.assert_array_equal(result[..., o], reference.conv2d(alone, y[o : o + 1], window)[..., 0])


@pytest.mark.parametrize("target", ["cpu", "sm_90"])
@pytest.mark.parametrize("encoding", [f"bipolar{p}" for p in range(2, 8)] + ["bipolar", "u8", "u2@3", "i8", "ternary"])
def test_filters_in_groups_are_0_in_the_channels_of_others(encoding: str, target: str) -> None:
    """An image with a pixel for each channel, 1 in that one alone, shows all filters as they are multiplied."""
    channels, groups, values = 90, 3, Encoding.parse(encoding)
    rng = np.random.default_rng(7)
    w = rng.choice(np.arange(values.minimum, values.maximum + 1, values.scale), (6, 1, 1, channels // groups))
    w[0], w[-1] = values.minimum, values.maximum
    spec = Conv2dSpec(1, 1, channels, channels, 6, "u1", encoding, size=1, groups=groups)
    x = np.eye(channels, dtype=int).reshape(1, 1, channels, channels)
    if target == "cpu":
        seen = bitmlir.compile(spec, target=target)(x, w)
    else:
        program = InterpretedProgram(compiler.lower(spec, get_target(target), tile=RESIDENT))
        seen = run(program, {"lhs": pack(x, "u1"), "rhs": pack(w, encoding)})["result"]
    expected = np.zeros((6, channels), int)
    for o in range(6):
        expected[o, o // 2 * 30 : o // 2 * 30 + 30] = w[o, 0, 0]
    np.testing.assert_array_equal(seen[0, 0].T, expected)


def test_a_group_for_all_is_none() -> None:
    one, none = (Conv2dSpec(1, 4, 4, 6, 4, "u1", "bipolar8", groups=g) for g in (1, np.int64(1)))  # type: ignore[arg-type]
    assert one == none == Conv2dSpec(1, 4, 4, 6, 4, "u1", "bipolar8")
    with ir.Context() as context, ir.Location.unknown():
        bit.load(context)
        module = compiler.build_module(one)
        assert "groups" not in str(module)
        run_pipeline(module, "bit-decompose")
        assert "plane_spread_filters" not in str(module)


def test_operations_are_those_of_the_groups() -> None:
    assert Conv2dSpec(1, 4, 4, 6, 4, "u1", "u1", padding=1, groups=2).operations == 2 * 16 * 4 * 9 * 3


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"height": 0}, ShapeError, "height must be a whole number from 1"),
        ({"size": 9}, ShapeError, "reaches over 9×9, farther than images of 8×8 with padding"),
        ({"dilation": 5}, ShapeError, "reaches over 11×11, farther than images of 8×8"),
        ({"stride": 0}, ShapeError, "stride must be a whole number from 1 on, or 2 of them, got 0"),
        ({"padding": -1}, ShapeError, "padding must be a whole number from 0 on, or 2 or 4 of them, got -1"),
        ({"padding": (1, 2, 3)}, ShapeError, r"padding must be .* got \(1, 2, 3\)"),
        ({"size": (3, True)}, ShapeError, r"size must be .* got \(3, True\)"),
        ({"stride": 1.5}, ShapeError, "stride must be .* got 1.5"),
        ({"images": 2**26}, ShapeError, "67108864 images of 8×8 have more than 134217728 pixels"),
        ({"images": 2**20, "padding": 8}, ShapeError, "1048576 results of 22×22 have more than 134217728 pixels"),
        ({"filters": 2**26}, ShapeError, "67108864 filters of 3×3 have more than 134217728 pixels"),
        ({"channels": 2**26}, ShapeError, "filters of 3×3×67108864 are too large: 134217728 numbers are the limit"),
        ({"lhs": "u2@row"}, EncodingError, "lhs='u2@row' would need a zero point for each pixel"),
        ({"rhs": "u2@row"}, EncodingError, "rhs='u2@row' would need a zero point for each pixel"),
        ({"lhs": "u9"}, EncodingError, "u9"),
        ({"bias": True}, InputError, "takes no scales or bias"),
        ({"lhs": "u8", "rhs": "u8", "channels": 10**5, "size": 7}, ShapeError, "int32"),
        ({"lhs": "u8", "rhs": "u8", "channels": 10**5, "size": 7, "groups": 2}, ShapeError, "K = 2450000 .* int32"),
        ({"groups": 0}, ShapeError, "groups must be a whole number from 1"),
        ({"groups": 2.0}, ShapeError, "groups must be a whole number from 1"),
        ({"groups": 3}, ShapeError, "channels and filters must be multiples of the 3 groups, but are 4 and 4"),
        ({"groups": 4, "filters": 6}, ShapeError, "must be multiples of the 4 groups, but are 4 and 6"),
        ({"groups": 2, "rhs": "bipolar8"}, EncodingError, "filters in groups count as 0 .* 'bipolar8' would take nine"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    fields = {"images": 1, "height": 8, "width": 8, "channels": 4, "filters": 4, "lhs": "u1", "rhs": "u1"}
    with pytest.raises(error, match=message):
        Conv2dSpec(**{**fields, **changed})  # type: ignore[arg-type]


def test_arrays_of_another_shape_are_refused() -> None:
    executable = bitmlir.compile(Conv2dSpec(1, 4, 5, 8, 6, "u1", "u1"), target="cpu")
    x, w = np.ones((1, 4, 5, 8), int), np.ones((6, 3, 3, 8), int)
    for name, bad in (("lhs", x.reshape(1, 5, 4, 8)), ("rhs", w.reshape(6, 9, 8)), ("rhs", w[:5])):
        given = {"lhs": x, "rhs": w} | {name: bad}
        with pytest.raises(ShapeError, match=f"{name} must have the shape"):
            executable(**given)
    x[0, 1, 2, 3] = 2
    with pytest.raises(EncodingError, match=r"lhs\[0, 1, 2, 3\] = 2"):
        executable(x, w)


IMAGES, FILTERS = 'tensor<2x5x5x8xi1, #bit.encoding<"u1">>', 'tensor<4x3x3x8xi1, #bit.encoding<"u1">>'
STEPS = "stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>"


def convolution(
    images: str = IMAGES, filters: str = FILTERS, steps: str = STEPS, out: str = "2x3x3x4xi32", epilogue: str = ""
) -> str:
    value = "%out" if epilogue else "%acc"
    return f"""
func.func @f(%x: {images}, %w: {filters}, %r: tensor<2x3x3x4xi32>, %p: tensor<3x4xi32>) -> tensor<{out}> {{
  %y = "bit.conv2d"(%x, %w) ({{
  ^bb0(%acc: i32, %image: index, %row: index, %col: index, %channel: index):
    {epilogue}
    gpu.yield {value} : i32
  }}) {{{steps}}} : ({images}, {filters}) -> tensor<{out}>
  return %y : tensor<{out}>
}}
"""


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": 'tensor<2x8xi1, #bit.encoding<"u1">>'}, "lhs must have four static sizes"),
        ({"filters": 'tensor<4x3x3x9xi1, #bit.encoding<"u1">>'}, "the same channels .* but have 8 and 9"),
        ({"images": 'tensor<2x5x5x8xi1, #bit.encoding<"u1@row">>'}, "lhs cannot have a zero point for each pixel"),
        ({"steps": STEPS.replace("stride = array<i64: 1, 1>", "stride = array<i64: 1, 0>")}, "stride must be array"),
        (
            {"steps": STEPS.replace("dilation = array<i64: 1, 1>", "dilation = array<i64: 3, 1>")},
            "reaches 7x3, farther",
        ),
        ({"out": "2x3x4x3xi32"}, "the result must be a 2x3x3x4 tensor"),
        ({"steps": f"{STEPS}, groups = 2 : i64"}, "rhs must have the 4 channels .* of one of 2 groups, but has 8"),
        (
            {"epilogue": "%out = tensor.extract %p[%col, %channel] : tensor<3x4xi32>"},
            r"may read at \[image, y, x, channel\], or at the channel and constants",
        ),
        (
            {"epilogue": "%out = tensor.extract %r[%image, %col, %row, %channel] : tensor<2x3x3x4xi32>"},
            r"may read at \[image, y, x, channel\], or at the channel and constants",
        ),
    ],
)
def test_ir_that_cannot_be_is_refused(changed: dict[str, str], message: str) -> None:
    with pytest.raises(IRError, match=message):
        bitmlir.compile(convolution(**changed), target="cpu")


def test_an_epilogue_may_read_and_compute_with_its_places() -> None:
    epilogue = """
    %old = tensor.extract %r[%image, %row, %col, %channel] : tensor<2x3x3x4xi32>
    %here = arith.index_cast %row : index to i32
    %there = arith.index_cast %col : index to i32
    %which = arith.index_cast %image : index to i32
    %ten = arith.constant 10 : i32
    %a = arith.muli %here, %ten : i32
    %b = arith.addi %a, %there : i32
    %c = arith.muli %b, %ten : i32
    %d = arith.addi %c, %which : i32
    %e = arith.addi %d, %old : i32
    %out = arith.addi %acc, %e : i32"""
    text = convolution(epilogue=epilogue)
    assert Trial.start(bitmlir.compile(text, target="cpu"), text, 3, 0.0).check() == 2 * 3 * 3 * 4


def test_an_epilogue_may_read_arrays_of_four_sizes_at_constants() -> None:
    epilogue = """
    %k = arith.constant 1 : index
    %zero = arith.constant 0 : index
    %one = tensor.extract %b[%zero, %k, %zero, %channel] : tensor<1x2x1x4xi32>
    %two = tensor.extract %r[%image, %row, %col, %channel] : tensor<2x3x3x4xi32>
    %sum = arith.addi %one, %two : i32
    %out = arith.addi %acc, %sum : i32"""
    text = convolution(epilogue=epilogue).replace("%p: tensor<3x4xi32>", "%b: tensor<1x2x1x4xi32>")
    rng = np.random.default_rng(4)
    x, w = rng.integers(0, 2, (2, 5, 5, 8)), rng.integers(0, 2, (4, 3, 3, 8))
    r, b = rng.integers(-9, 9, (2, 3, 3, 4), np.int32), rng.integers(-9, 9, (1, 2, 1, 4), np.int32)
    result = bitmlir.compile(text, target="cpu")(x, w, r, b)
    np.testing.assert_array_equal(result, reference.conv2d(x, w, Window(Axis(5, 3), Axis(5, 3))) + r + b[0, 1, 0])


def test_a_product_reads_arrays_of_four_sizes_as_they_are() -> None:
    text = """
!m = tensor<3x8xi1, #bit.encoding<"u1">>
func.func @f(%x: !m, %y: !m, %b: tensor<1x2x1x3xi32>) -> tensor<3x3xi32> {
  %z = "bit.matmul"(%x, %y) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %k = arith.constant 1 : index
    %zero = arith.constant 0 : index
    %bias = tensor.extract %b[%zero, %k, %zero, %col] : tensor<1x2x1x3xi32>
    %out = arith.addi %acc, %bias : i32
    gpu.yield %out : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!m, !m) -> tensor<3x3xi32>
  return %z : tensor<3x3xi32>
}"""
    rng = np.random.default_rng(5)
    x, y, b = rng.integers(0, 2, (3, 8)), rng.integers(0, 2, (3, 8)), rng.integers(-9, 9, (1, 2, 1, 3), np.int32)
    np.testing.assert_array_equal(bitmlir.compile(text, target="cpu")(x, y, b), x @ y.T + b[0, 1, 0])


def test_groups_keep_their_sums_beside_packed_results() -> None:
    rng = np.random.default_rng(8)
    text = """
!x = tensor<2x4x5x66xi1, #bit.encoding<"bipolar">>
!w = tensor<40x3x3x33xi1, #bit.encoding<"bipolar">>
!y = tensor<2x4x5x40xi1, #bit.encoding<"bipolar">>
func.func @f(%x: !x, %w: !w) -> (!y, tensor<2x4x5x40xi16>) {
  %y, %sums = "bit.conv2d"(%x, %w) ({
  ^bb0(%acc: i32, %image: index, %row: index, %col: index, %channel: index):
    %zero = arith.constant 0 : i32
    %code = arith.cmpi sge, %acc, %zero : i32
    %sum = arith.trunci %acc : i32 to i16
    gpu.yield %code, %sum : i1, i16
  }) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 2 : i64}
    : (!x, !w) -> (!y, tensor<2x4x5x40xi16>)
  return %y, %sums : !y, tensor<2x4x5x40xi16>
}"""
    x, w = rng.choice([-1, 1], (2, 4, 5, 66)), rng.choice([-1, 1], (40, 3, 3, 33))
    codes, sums = bitmlir.compile(text, target="cpu")(x, w)
    expected = reference.conv2d(x, w, Window(Axis(4, 3, 1, 1, 1), Axis(5, 3, 1, 1, 1)), groups=2)
    np.testing.assert_array_equal(sums, expected)
    np.testing.assert_array_equal(unpack(codes), np.where(expected >= 0, 1, -1))


def test_bytes_in_groups_are_bit_planes() -> None:
    """The unit for bytes multiplies photographs, whose filters see all channels."""
    text = """
func.func @f(%x: tensor<1x8x8x4xi8>, %w: tensor<6x1x1x18xi1, #bit.encoding<"bipolar">>) -> tensor<1x8x8x6xi32> {
  %p = "bit.pack_patches"(%x) {size = array<i64: 3, 3>, stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>}
    : (tensor<1x8x8x4xi8>) -> tensor<1x8x8x36xi8, #bit.encoding<"u8">>
  %y = "bit.conv2d"(%p, %w) ({
  ^bb0(%acc: i32, %image: index, %row: index, %col: index, %channel: index):
    gpu.yield %acc : i32
  }) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 2 : i64}
    : (tensor<1x8x8x36xi8, #bit.encoding<"u8">>, tensor<6x1x1x18xi1, #bit.encoding<"bipolar">>) -> tensor<1x8x8x6xi32>
  return %y : tensor<1x8x8x6xi32>
}"""
    with ir.Context() as context, ir.Location.unknown():
        bit.load(context)
        for groups, filters, is_bytes in ((2, 18, False), (1, 36, True)):
            module = ir.Module.parse(text.replace("groups = 2", f"groups = {groups}").replace("x18x", f"x{filters}x"))
            run_pipeline(module, "bit-decompose{target=sm_90a}")
            assert ("bit.plane_byte_conv" in str(module)) == is_bytes


def test_filters_in_groups_that_are_too_large_with_all_channels_are_refused() -> None:
    spec = Conv2dSpec(1, 4, 4, 1 << 17, 1 << 17, "u1", "bipolar", groups=1 << 17)
    with ir.Context() as context, ir.Location.unknown():
        bit.load(context)
        with pytest.raises(ir.MLIRError, match="filters of all channels would take 8 GiB or more: take fewer"):
            run_pipeline(compiler.build_module(spec), "bit-decompose{target=sm_90a}")


def test_filters_are_arguments_of_their_own() -> None:
    window = "size = array<i64: 1, 1>, stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>"
    pool = f'%q = "bit.pool"(%w) {{{window}}} : ({FILTERS}) -> {FILTERS}'
    pooled = convolution().replace('%y = "bit.conv2d"(%x, %w)', f'{pool}\n  %y = "bit.conv2d"(%x, %q)')
    with pytest.raises(IRError, match="filters must be an argument of the function, packed beforehand"):
        bitmlir.compile(pooled, target="cpu")
    twice = convolution(images=FILTERS, out="4x1x1x4xi32").replace("(%x, %w)", "(%w, %w)")
    with pytest.raises(IRError, match="filters cannot be used for something else"):
        bitmlir.compile(twice, target="cpu")


def test_patches_that_are_too_large_are_refused_only_where_they_lie_in_memory() -> None:
    spec = Conv2dSpec(512, 224, 224, 256, 8, "u2", "bipolar", padding=1)
    with ir.Context() as context, ir.Location.unknown():
        bit.load(context)
        run_pipeline(compiler.build_module(spec), "bit-decompose{target=sm_90a}")
        with pytest.raises(ir.MLIRError, match="the patches of all images would take 8 GiB or more"):
            run_pipeline(compiler.build_module(spec), "bit-decompose{target=cpu}")


@pytest.mark.parametrize("padding", [1, 10**9])
def test_windows_know_their_classes_however_far_they_reach_out(padding: int) -> None:
    axis = Axis(8, 3, 1, padding, padding)
    first = [range(0)] if padding > 1 else []
    assert axis.classes == [*first, *([range(2, 3)] if first else []), range(1, 3), range(3), range(2), *(
        [range(1), range(0)] if first else []
    )]  # fmt: skip


@pytest.mark.parametrize(("size", "width"), [((1, 9), 1 << 22), ((31, 31), 64)])
def test_large_filters_and_long_images_can_be_compiled(size: tuple[int, int], width: int) -> None:
    """Code grows with the ways in which a window lies at the edges of an axis, not of both, and time with neither."""
    padding = (size[0] // 2, size[1] // 2)
    spec = Conv2dSpec(1, size[0], width, 1, 1, "bipolar", "bipolar", size=size, padding=padding)
    assert len(spec.window.classes) == size[0] * size[1]
    with ir.Context() as context, ir.Location.unknown():
        bit.load(context)
        module = compiler.build_module(spec)
        run_pipeline(module, "bit-decompose{target=sm_80},bit-to-gpu{target=sm_80}")
        assert len(str(module)) < 400_000
