"""The launch plan of a module: its arguments, results, buffers and steps, read off the host function."""

from __future__ import annotations

import re
from typing import Any

import pytest
from mlir import ir

from bitmlir.compiler import lower
from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.dialects import bit
from bitmlir.dialects.errors import InputError
from bitmlir.grouped_spec import GroupedSpec
from bitmlir.lowering.launch_plan import read_plan
from bitmlir.lowering.pipeline import run_pipeline
from bitmlir.lowering.stages import stage_pipelines
from bitmlir.lowering.targets import get_target
from bitmlir.pack_spec import PackSpec
from bitmlir.runtime.plan import Buffer, Launch, Memset, Plan, TensorMap, Value
from bitmlir.search_spec import SearchSpec
from bitmlir.spec import MatmulSpec

BIPOLAR = 'tensor<{}x{}xi1, #bit.encoding<"bipolar">>'
YIELD = "^bb0(%acc: i32, %row: index, %col: index):\n"
PLAIN = "operandSegmentSizes = array<i32: 1, 1, 0, 0>"


def plan_of(source: str, target: str) -> Plan:
    """The plan of a module in the `bit` dialect."""
    with ir.Context() as context:
        bit.load(context)
        module = ir.Module.parse(source)
        for stage, pipeline in stage_pipelines(get_target(target)).items():
            run_pipeline(module, pipeline)
            if stage in ("gpu", "vector"):
                return read_plan(module, target)
    raise AssertionError(f"'{target}' has no stage with a plan")


def product(x: str, w: str, result: str, value: str = "%acc", epilogue: str = "") -> str:
    """The operands' and the result's types, and the region, of a `bit.matmul`."""
    element = re.findall(r"x([a-z]+\d+)", result)[0]
    return f"({{\n{YIELD}{epilogue}\ngpu.yield {value} : {element}\n}}) {{{PLAIN}}} : ({x}, {w}) -> {result}"


X, W, OUT = BIPOLAR.format(200, 3000), 'tensor<100x3000xi2, #bit.encoding<"u2">>', "tensor<200x100xi32>"
ONE_PRODUCT = f"""
func.func @scores(%x: {X} {{bit.name = "x"}}, %w: {W} {{bit.name = "w"}}) -> ({OUT} {{bit.name = "y"}}) {{
  %y = "bit.matmul"(%x, %w) {product(X, W, OUT)}
  return %y : {OUT}
}}
"""


def test_one_product_is_one_launch() -> None:
    plan = plan_of(ONE_PRODUCT, "sm_80")
    assert (plan.name, plan.target) == ("scores", "sm_80")
    assert plan.arguments == (
        Value("x", "packed", (200, 3000), {"planes": "x.planes", "sums": "x.sums"}, encoding="bipolar"),
        Value("w", "packed", (100, 3000), {"planes": "w.planes", "sums": "w.sums"}, encoding="u2"),
    )
    assert plan.results == (Value("y", "array", (200, 100), {"values": "y.values"}, dtype="i32"),)
    assert plan.buffers == (
        Buffer("x.planes", "i32", (1, 200, 96)),
        Buffer("x.sums", "i32", (200,)),
        Buffer("w.planes", "i32", (2, 100, 96)),
        Buffer("w.sums", "i32", (100,)),
        Buffer("y.values", "i32", (200, 100)),
    )
    (launch,) = plan.steps
    assert isinstance(launch, Launch)
    assert launch.kernel == "plane_matmul_0"
    assert launch.block[0] % 32 == 0
    assert launch.block[1:] == launch.grid[1:] == launch.cluster[1:] == (1, 1)
    assert 1 <= launch.grid[0] <= 200 * 100
    assert 0 < launch.shared_bytes <= get_target("sm_80").shared_bytes
    # ±1 needs the sums of w alone: those of x are there, but no kernel asks for them.
    assert launch.arguments == ("x.planes", "w.planes", "y.values", "w.sums")


def test_hopper_takes_tensor_maps() -> None:
    (launch,) = plan_of(ONE_PRODUCT, "sm_90a").steps
    assert isinstance(launch, Launch)
    first, second, *others = launch.arguments
    assert isinstance(first, TensorMap)
    assert isinstance(second, TensorMap)
    assert (first.buffer, second.buffer) == ("x.planes", "w.planes")
    a_row_of_the_swizzle = 32  # words
    assert (first.box[0], first.box[2]) == (second.box[0], second.box[2]) == (a_row_of_the_swizzle, 1)
    assert first.box[1] % 64 == 0
    assert set(others) == {"y.values", "w.sums"}


BATCH = """
!x = tensor<3x20x3000xi1, #bit.encoding<"bipolar">>
!y = tensor<3x20x20xi1, #bit.encoding<"bipolar">>
func.func @batch(%x: !x {bit.name = "x"}) -> (!y {bit.name = "y"}) {
  %y = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index, %batch: index):
    %zero = arith.constant 0 : i32
    %bit = arith.cmpi sge, %acc, %zero : i32
    gpu.yield %bit : i1
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !x) -> !y
  return %y : !y
}
"""


@pytest.mark.parametrize("target", ["cpu", "sm_80", "sm_90a"])
def test_a_batch_keeps_its_dimension_in_values_and_buffers(target: str) -> None:
    plan = plan_of(BATCH, target)
    assert [(value.kind, value.shape) for value in plan.arguments] == [("packed", (3, 20, 3000))]
    assert [(value.kind, value.shape) for value in plan.results] == [("packed", (3, 20, 20))]
    assert plan.buffer("x.planes").shape == (1, 3, 20, 96)
    assert plan.buffer("x.sums").shape == (3, 20)
    assert plan.buffer("y.planes").shape == (1, 3, 20, 4)
    last = plan.steps[-1]
    assert isinstance(last, Launch)
    if target == "cpu":
        assert last.grid == (60, 1, 1)
    if target == "sm_90a":
        maps = [argument for argument in last.arguments if isinstance(argument, TensorMap)]
        assert [(one.buffer, len(one.box)) for one in maps] == [("x.planes", 4)] * 2


def test_the_cpu_splits_the_rows() -> None:
    (launch,) = plan_of(ONE_PRODUCT, "cpu").steps
    assert isinstance(launch, Launch)
    assert launch.grid == (200, 1, 1)
    assert launch.block[0] >= 1
    assert launch.block[1:] == (1, 1)
    assert {"x.planes", "w.planes", "y.values"} <= set(launch.arguments)


HIDDEN = BIPOLAR.format(200, 100)
V = BIPOLAR.format(40, 100)
THRESHOLD = """
    %t = tensor.extract %limit[%col] : tensor<100xi32>
    %bit = arith.cmpi sge, %acc, %t : i32"""
TWO_PRODUCTS = f"""
func.func @layers(%x: {X}, %w: {W}, %limit: tensor<100xi32>, %v: {V}) -> tensor<200x40xf32> {{
  %h = "bit.matmul"(%x, %w) {product(X, W, HIDDEN, "%bit", THRESHOLD)}
  %y = "bit.matmul"(%h, %v) {product(HIDDEN, V, "tensor<200x40xf32>", "%f", "%f = arith.sitofp %acc : i32 to f32")}
  return %y : tensor<200x40xf32>
}}
"""


@pytest.mark.parametrize("target", ["sm_75", "sm_80", "sm_90a"])
def test_a_packed_intermediate_is_scratch_whose_sums_are_cleared_before_it_is_made(target: str) -> None:
    plan = plan_of(TWO_PRODUCTS, target)
    named = {name for value in (*plan.arguments, *plan.results) for name in value.buffers.values()}
    planes, sums = (buffer for buffer in plan.buffers if buffer.name not in named)
    assert (planes.dtype, planes.shape) == ("i32", (1, 200, 4))
    assert (sums.dtype, sums.shape) == ("i32", (200,))

    clear, first, second = plan.steps
    assert is_clearing(clear, sums.name)
    assert isinstance(first, Launch)
    assert isinstance(second, Launch)
    assert {"argument0.planes", "argument1.planes", "argument2.values", planes.name, sums.name} <= names_of(first)
    assert {planes.name, "argument3.planes", "result0.values"} <= names_of(second)
    assert "result0.values" not in names_of(first)
    assert first.kernel != second.kernel


def is_clearing(step: object, buffer: str) -> bool:
    """Whether a step zeroes the buffer: a kernel does where launches overlap, since a memset would keep them apart."""
    if isinstance(step, Launch):
        return step.kernel.startswith("zero_") and step.arguments == (buffer,) and step.overlap_previous
    return step == Memset(buffer)


def names_of(launch: Launch) -> set[str]:
    """The buffers that a launch uses, directly or by a tensor map."""
    return {a.buffer if isinstance(a, TensorMap) else a for a in launch.arguments}


PACKED_ROW, PACKED_U1 = 'tensor<8x40xi2, #bit.encoding<"u2@row">>', 'tensor<8x8xi1, #bit.encoding<"u1">>'
PACK_TO_UNPACK = f"""
func.func @all(%x: tensor<8x40xi16>, %zeros: tensor<8xi32>) -> tensor<8x8xi8> {{
  %p = "bit.pack"(%x, %zeros) : (tensor<8x40xi16>, tensor<8xi32>) -> {PACKED_ROW}
  %q = "bit.matmul"(%p, %p) {product(PACKED_ROW, PACKED_ROW, PACKED_U1, "%bit", "%bit = arith.trunci %acc : i32 to i1")}
  %r = "bit.unpack"(%q) : ({PACKED_U1}) -> tensor<8x8xi8>
  return %r : tensor<8x8xi8>
}}
"""


@pytest.mark.parametrize("target", ["sm_75", "sm_80", "sm_90a", "sm_120"])
def test_packing_multiplying_and_unpacking_stay_in_order(target: str) -> None:
    plan = plan_of(PACK_TO_UNPACK, target)
    assert [value.kind for value in (*plan.arguments, *plan.results)] == ["array", "array", "array"]
    assert [value.dtype for value in (*plan.arguments, *plan.results)] == ["i16", "i32", "i8"]
    launches = [step for step in plan.steps if isinstance(step, Launch) and not step.kernel.startswith("zero_")]
    assert [launch.kernel.rsplit("_", 1)[0] for launch in launches] == ["plane_pack", "plane_matmul", "plane_unpack"]
    (clear,) = (step for step in plan.steps if step not in launches)
    assert any(is_clearing(clear, buffer) for buffer in names_of(launches[1]))
    assert plan.steps.index(clear) < plan.steps.index(launches[1])

    pack, multiply, unpack = launches
    scratch = {buffer.name: buffer.shape for buffer in plan.buffers if buffer.name.startswith("scratch")}
    assert sorted(scratch.values()) == [(1, 8, 4), (2, 8, 4), (8,), (8,), (8,)]
    (wide,) = (name for name, shape in scratch.items() if shape == (2, 8, 4))
    (narrow,) = (name for name, shape in scratch.items() if shape == (1, 8, 4))
    assert {"argument0.values", "argument1.values", wide} <= names_of(pack)
    assert {wide, narrow, (clear.arguments[0] if isinstance(clear, Launch) else clear.buffer)} <= names_of(multiply)
    assert names_of(unpack) == {narrow, "result0.values"}


def test_zero_points_are_a_part_of_a_packed_argument() -> None:
    w, out = 'tensor<8x40xi1, #bit.encoding<"u1">>', "tensor<8x8xi32>"
    source = f"""
func.func @f(%x: {PACKED_ROW}, %w: {w}) -> {out} {{
  %y = "bit.matmul"(%x, %w) {product(PACKED_ROW, w, out)}
  return %y : {out}
}}
"""
    plan = plan_of(source, "sm_80")
    parts = {"planes": "argument0.planes", "sums": "argument0.sums", "zeros": "argument0.zeros"}
    assert plan.arguments[0] == Value("argument0", "packed", (8, 40), parts, encoding="u2@row")
    (launch,) = plan.steps
    assert isinstance(launch, Launch)
    assert {"argument0.zeros", "argument1.sums"} <= set(launch.arguments)


GRAM = f"""
func.func @gram(%x: {X}) -> tensor<200x200xi32> {{
  %y = "bit.matmul"(%x, %x) {product(X, X, "tensor<200x200xi32>")}
  return %y : tensor<200x200xi32>
}}
"""


@pytest.mark.parametrize("target", ["sm_75", "sm_80", "sm_90"])
def test_an_operand_that_is_used_twice_is_passed_once(target: str) -> None:
    (launch,) = plan_of(GRAM, target).steps
    assert isinstance(launch, Launch)
    assert launch.arguments[:2] == ("argument0.planes", "result0.values")
    assert len(set(launch.arguments)) == len(launch.arguments)


def test_an_operand_that_is_used_twice_has_a_tensor_map_for_each_side() -> None:
    (launch,) = plan_of(GRAM, "sm_90a").steps
    assert isinstance(launch, Launch)
    rows, columns, out, *_ = launch.arguments
    assert isinstance(rows, TensorMap)
    assert isinstance(columns, TensorMap)
    assert rows.buffer == columns.buffer == "argument0.planes"
    assert out == "result0.values"


def test_a_tile_bitmap_says_what_it_covers() -> None:
    tiles, out = "tensor<2x1x3xi1>", OUT
    body = product(X, f"{W}, {tiles}", out).replace("1, 1, 0, 0", "1, 1, 0, 1")
    source = f"""
func.func @f(%x: {X}, %w: {W}, %tiles: {tiles} {{bit.name = "of_w"}}) -> {out} {{
  %y = "bit.matmul"(%x, %w, %tiles) {body}
  return %y : {out}
}}
"""
    plan = plan_of(source, "sm_90a")
    assert plan.arguments[2] == Value("of_w", "tiles", (100, 3000), {"tiles": "of_w.tiles"}, encoding="u2")
    assert plan.buffer("of_w.tiles") == Buffer("of_w.tiles", "i32", (2, 1, 1))
    (launch,) = plan.steps
    assert isinstance(launch, Launch)
    assert "of_w.tiles" in launch.arguments


def test_several_results_keep_their_order() -> None:
    source = f"""
func.func @f(%x: {X}) -> (tensor<200x3000xi8> {{bit.name = "values"}}, tensor<200x200xi32> {{bit.name = "gram"}}) {{
  %g = "bit.matmul"(%x, %x) {product(X, X, "tensor<200x200xi32>")}
  %v = "bit.unpack"(%x) : ({X}) -> tensor<200x3000xi8>
  return %v, %g : tensor<200x3000xi8>, tensor<200x200xi32>
}}
"""
    plan = plan_of(source, "sm_80")
    assert [(value.name, value.dtype) for value in plan.results] == [("values", "i8"), ("gram", "i32")]
    kernels = [step.kernel for step in plan.steps if isinstance(step, Launch)]
    assert kernels == ["plane_matmul_0", "plane_unpack_1"]


@pytest.mark.parametrize("target", ["cpu", "sm_75", "sm_90a"])
@pytest.mark.parametrize(
    "source", [ONE_PRODUCT, TWO_PRODUCTS, PACK_TO_UNPACK, GRAM], ids=["one", "two", "pack", "gram"]
)
def test_every_step_uses_buffers_of_the_plan_and_every_result_is_written(source: str, target: str) -> None:
    plan = plan_of(source, target)
    names = [buffer.name for buffer in plan.buffers]
    assert len(set(names)) == len(names)
    used = {step.buffer for step in plan.steps if isinstance(step, Memset)}
    for launch in plan.steps:
        if isinstance(launch, Launch):
            used |= names_of(launch)
    assert used <= set(names)
    assert {name for value in plan.results for name in value.buffers.values()} <= used
    assert Plan.from_json(plan.to_json()) == plan


def test_functions_that_hold_nothing_of_ours_are_no_part_of_the_plan() -> None:
    others = "func.func @other(%x: tensor<4xi32>) -> tensor<4xi32> { return %x : tensor<4xi32> }"
    assert plan_of(others + ONE_PRODUCT, "sm_80") == plan_of(ONE_PRODUCT, "sm_80")


def test_a_declaration_beside_the_function_does_no_harm() -> None:
    declaration = f"func.func private @declared({X})\n"
    assert plan_of(declaration + ONE_PRODUCT, "sm_80") == plan_of(ONE_PRODUCT, "sm_80")


VIEWED = """
func.func @seen(%x: memref<1x4x4xi32> {{bit.value = "x", bit.part = "values", bit.shape = array<i64: 16>}}) {{
  %v = memref.reinterpret_cast %x to offset: [{}], sizes: [1, {}, 4], strides: [{}, 4, 1]
    : memref<1x4x4xi32> to memref<1x{}x4xi32{}>
  return
}}
"""


@pytest.mark.parametrize(("offset", "rows", "layout"), [(0, 2**20, ""), (4, 3, ", strided<[12, 4, 1], offset: 4>")])
def test_only_whole_buffers_are_seen_in_other_shapes(offset: int, rows: int, layout: str) -> None:
    with ir.Context() as context:
        bit.load(context)
        module = ir.Module.parse(VIEWED.format(offset, rows, 4 * rows, rows, layout))
        with pytest.raises(
            InputError, match=r"reinterpret_cast must see all elements of a buffer in order, .* this one"
        ):
            read_plan(module, "cpu")
        assert read_plan(ir.Module.parse(VIEWED.format(0, 4, 16, 4, "")), "cpu").buffers


def test_a_module_without_a_function_on_packed_matrices_is_refused() -> None:
    with pytest.raises(InputError, match="expected one function on packed matrices in the module, but found none"):
        plan_of("func.func @f(%x: tensor<4xi32>) -> tensor<4xi32> { return %x : tensor<4xi32> }", "sm_80")


def test_a_module_with_two_is_refused_with_their_names() -> None:
    second = ONE_PRODUCT.replace("@scores", "@more")
    with pytest.raises(InputError, match="but found @scores, @more"):
        plan_of(ONE_PRODUCT + second, "sm_80")


LAUNCH = """
module attributes {{gpu.container_module}} {{
  gpu.module @kernels {{
    llvm.func @k(%x: !llvm.ptr) attributes {{gpu.kernel, nvvm.kernel}} {{
      llvm.return
    }}
  }}
  func.func @f(%x: memref<4xi32> {{bit.value = "x", bit.part = "values", bit.shape = array<i64: 4>}}) {{
    %one = arith.constant 1 : index
    %two = arith.constant 2 : index
    %six = arith.constant 6 : index
    %bytes = arith.constant 64 : i32
    gpu.launch_func @kernels::@k {clusters} blocks in (%six, %two, %one) threads in (%two, %one, %one)
      dynamic_shared_memory_size %bytes args(%x : memref<4xi32>) {attributes}
    return
  }}
}}
"""


@pytest.mark.parametrize(
    ("clusters", "attributes", "says"),
    [
        ("", "", {}),
        ("clusters in (%two, %one, %one)", "", {"cluster": (2, 1, 1)}),
        ("", "{bit.overlap_previous}", {"overlap_previous": True}),
        ("clusters in (%six, %two, %one)", "{bit.overlap_previous}", {"cluster": (6, 2, 1), "overlap_previous": True}),
        ("", "{bit.persistent = 2 : i32}", {"persistent": 2}),
    ],
)
def test_a_launch_says_its_clusters_what_it_overlaps_and_whether_it_persists(clusters, attributes, says):
    with ir.Context() as context:
        bit.load(context)
        plan = read_plan(ir.Module.parse(LAUNCH.format(clusters=clusters, attributes=attributes)), "sm_90a")
    launch = Launch("k", (6, 2, 1), (2, 1, 1), 64, ("x.values",), **says)
    assert plan.steps == (launch,)
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("blocks", "cluster", "persistent", "at_once", "launched"),
    [
        (1000, 1, None, 10, 1000),
        (1000, 1, 2, 264, 264),
        (100, 1, 1, 132, 100),
        (1000, 2, 1, 65, 130),
        (1000, 4, 1, 0, 4),  # a cluster at least
    ],
)
def test_a_persistent_kernel_has_as_many_blocks_as_a_device_runs_at_once(
    blocks: int, cluster: int, persistent: int | None, at_once: int, launched: int
) -> None:
    launch = Launch("k", (blocks, 1, 1), (128, 1, 1), 0, (), cluster=(cluster, 1, 1), persistent=persistent)
    assert launch.grid_for(at_once) == (launched, 1, 1)


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_a_product_persists_if_it_has_more_tiles_than_find_room(target: str) -> None:
    large = ONE_PRODUCT.replace("200x", "200000x").replace("i64: 200", "i64: 200000")
    for text, persists in ((ONE_PRODUCT, False), (large, True)):
        (launch,) = (step for step in plan_of(text, target).steps if isinstance(step, Launch))
        assert (launch.persistent is not None) == persists
        assert (launch.grid[0] > get_target(target).multiprocessors * (launch.persistent or 1)) == persists


SPECS = [
    MatmulSpec(40, 70, 300, "u2", "bipolar", out="u4", column_scale=True),
    MatmulSpec(40, 70, 300, "bipolar", "bipolar", out="bit", batch=3),
    GroupedSpec(groups=3, m=40, n=70, k=300, lhs="bipolar", rhs="u2"),
    SearchSpec(m=8, n=500, k=256, lhs="bipolar", rhs="bipolar", count=5),
    Conv2dSpec(2, 6, 5, channels=40, filters=8, lhs="bipolar", rhs="bipolar", out="bit", size=3, padding=1),
    PackSpec(30, 100, "i4", scale=True),
]


@pytest.mark.parametrize("target", ["cpu", "sm_75", "sm_90a"])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_launches_say_what_they_write(spec: Any, target: str) -> None:
    plan = lower(spec, get_target(target)).plan
    read = {name for value in plan.arguments for name in value.buffers.values()}
    written: set[str] = set()
    for step in plan.steps:
        assert step.writes
        assert written.issuperset(set(step.buffers) - set(step.writes) - read), "scratch is written before it is read"
        written.update(step.writes)
    assert written == {buffer.name for buffer in plan.buffers} - read
