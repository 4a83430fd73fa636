"""The CPU engine: what it is given, how it splits rows, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from support import compile_for_cpu, product_text, random_matrix, run

from bitmlir import reference
from bitmlir.compiler import lower
from bitmlir.dialects.errors import CompileError, InputError
from bitmlir.jit import CpuProgram, row_ranges
from bitmlir.lowering.targets import get_target
from bitmlir.runtime.plan import Launch, Memset, Plan

SIZES = (37, 40, 70)
OVERLAPPING = np.zeros((37, 40), np.int32)  # a row of this result is as long as the columns have sums


@pytest.mark.parametrize("rows", [1, 7, 64, 100])
@pytest.mark.parametrize("row_block", [1, 2, 8, 128])
@pytest.mark.parametrize("threads", [1, 2, 3, 64])
def test_row_ranges_cover_all_rows_once_and_are_cut_at_blocks(rows, row_block, threads):
    ranges = row_ranges(rows, row_block, threads)
    assert [row for first, last in ranges for row in range(first, last)] == list(range(rows))
    assert all(first % row_block == 0 for first, _ in ranges)
    assert all(first < last for first, last in ranges)
    assert len(ranges) == min(threads, -(-rows // row_block))


@pytest.fixture(scope="module")
def product() -> tuple[CpuProgram, dict[str, np.ndarray], np.ndarray]:
    """A program, its arguments by buffer, and its result."""
    m, n, k = SIZES
    rng = np.random.default_rng(0)
    (x, lhs), (y, rhs) = random_matrix(rng, (m, k), "bipolar"), random_matrix(rng, (n, k), "bipolar")
    buffers = {"lhs.planes": lhs.planes, "lhs.sums": lhs.sums, "rhs.planes": rhs.planes, "rhs.sums": rhs.sums}
    return compile_for_cpu(product_text(SIZES, "bipolar", "bipolar")), buffers, reference.matmul(x, y)


def split(plan: Plan, row_block: int) -> Plan:
    """The plan with rows that may be split more finely than they are worth."""
    steps = [replace(step, block=(row_block, 1, 1)) if isinstance(step, Launch) else step for step in plan.steps]
    return replace(plan, steps=tuple(steps))


@pytest.mark.parametrize("threads", [2, 3, 19])
@pytest.mark.parametrize("result", ["i32", "bipolar"])
def test_threads_share_the_rows_and_each_computes_its_own(threads, result):
    m, n, k = SIZES
    packed = result == "bipolar"
    epilogue = """
        %zero = arith.constant 0 : i32
        %out = arith.cmpi sge, %acc, %zero : i32"""
    text = product_text(SIZES, "u2", "i3", result, epilogue if packed else "", packed=packed)
    whole = compile_for_cpu(text, threads=1)
    program = compile_for_cpu(text, threads)
    program.plan = split(program.plan, 2)
    rng = np.random.default_rng(0)
    arguments = {"lhs": random_matrix(rng, (m, k), "u2")[1], "rhs": random_matrix(rng, (n, k), "i3")[1]}
    for _ in range(3):
        expected, result = (run(p, arguments)["result"] for p in (whole, program))
        if packed:
            np.testing.assert_array_equal(result.planes, expected.planes)
            np.testing.assert_array_equal(result.sums, expected.sums)
        else:
            np.testing.assert_array_equal(result, expected)


def test_a_small_product_is_not_split(product):
    program, _, _ = product
    (launch,) = program.plan.steps
    assert row_ranges(launch.grid[0], launch.block[0], threads=64) == [(0, SIZES[0])]


def test_a_bound_program_runs_again_on_what_its_buffers_then_hold(product):
    program, buffers, expected = product
    own = {name: array.copy() for name, array in buffers.items()}
    bound = program.bind(own)
    bound.run()
    np.testing.assert_array_equal(bound.buffers["result.values"], expected)
    own["lhs.planes"][:] = own["lhs.planes"][:, ::-1]
    bound.run()
    np.testing.assert_array_equal(bound.buffers["result.values"], expected[::-1])


def test_results_may_be_given_and_are_written_in_place(product):
    program, buffers, expected = product
    result = np.empty(SIZES[:2], np.int32)
    returned = program.run({**buffers, "result.values": result})
    assert returned["result.values"] is result
    np.testing.assert_array_equal(result, expected)


def test_memsets_are_run(product):
    program, buffers, _ = product
    cleared = CpuProgram.__new__(CpuProgram)
    cleared.__dict__ |= program.__dict__
    cleared.plan = replace(program.plan, steps=(*program.plan.steps, Memset("result.values")))
    assert not cleared.run(buffers)["result.values"].any()


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: {"lhs.planes": b["lhs.planes"]}, r"no array given for buffer lhs\.sums, rhs\.planes, rhs\.sums"),
        (lambda b: {**b, "bias": b["lhs.sums"]}, r"unknown buffer bias: expected lhs\.planes, lhs\.sums"),
        (
            lambda b: {**b, "lhs.sums": b["lhs.sums"][1:]},
            r"lhs\.sums must be int32 of shape \(37,\), got int32 of shape",
        ),
        (lambda b: {**b, "lhs.sums": b["lhs.sums"].astype(np.int64)}, r"must be int32 .* got int64"),
        (lambda b: {**b, "lhs.sums": b["lhs.sums"].astype(np.float32)}, r"must be int32 .* got float32"),
        (lambda b: {**b, "lhs.sums": np.zeros(74, np.int32)[::2]}, r"must be C-contiguous and aligned"),
        (lambda b: {**b, "lhs.sums": np.zeros(149, np.int8)[1:].view(np.int32)}, r"must be C-contiguous and aligned"),
        (lambda b: {**b, "lhs.sums": b["lhs.sums"].astype(">i4")}, r"must be int32 .* got >i4"),
        (
            lambda b: {
                **b,
                "lhs.sums": np.zeros(37, np.int32),
                "result.values": OVERLAPPING,
                "rhs.sums": OVERLAPPING[1],
            },
            r"buffer result\.values, which the program writes, overlaps buffer rhs\.sums",
        ),
        (lambda b: {**b, "result.values": read_only(np.zeros((37, 40), np.int32))}, r"result\.values .* is read-only"),
    ],
)
def test_buffers_that_do_not_fit_are_refused(product, change: Callable, message: str):
    program, buffers, _ = product
    with pytest.raises(InputError, match=message):
        program.bind(change(dict(buffers)))


def test_read_only_arguments_are_taken(product):
    program, buffers, expected = product
    result = program.run({name: read_only(array.copy()) for name, array in buffers.items()})
    np.testing.assert_array_equal(result["result.values"], expected)


@pytest.mark.parametrize("text", ["llvm.func @f(", "module {}"], ids=["no IR", "no kernel"])
def test_code_that_llvm_cannot_take_is_a_compile_error(product, text):
    program, _, _ = product
    with pytest.raises(CompileError, match="LLVM cannot compile 'product' for this CPU"):
        CpuProgram(text, program.plan)


def test_functions_beside_the_kernels_are_left_out():
    """The host function, which a plan stands for, and what bundles of before format 5 have for each kernel."""
    bundle = lower(product_text(SIZES, "bipolar", "bipolar"), get_target("cpu"))
    text = bundle.stages["cpu"].decode()
    assert "llvm.func @product(" in text
    (launch,) = bundle.plan.steps
    inside, _, _ = text.rpartition("}")
    wrapper = f"""
      llvm.func @never_defined()
      llvm.func @_mlir_ciface_{launch.kernel}(%x: !llvm.ptr) attributes {{llvm.emit_c_interface}} {{
        llvm.call @never_defined() : () -> ()
        llvm.return
      }}
    }}"""
    m, n, k = SIZES
    rng = np.random.default_rng(0)
    (x, lhs), (y, rhs) = random_matrix(rng, (m, k), "bipolar"), random_matrix(rng, (n, k), "bipolar")
    program = CpuProgram(inside + wrapper, bundle.plan)
    np.testing.assert_array_equal(run(program, {"lhs": lhs, "rhs": rhs})["result"], reference.matmul(x, y))
