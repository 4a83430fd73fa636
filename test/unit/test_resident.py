"""Kernels that keep their operands in registers, interpreted: exact on odd shapes, and what they are refused for."""

from __future__ import annotations

import numpy as np
import pytest
from support import run
from warp_interpreter import InterpretedProgram

from bitmlir import compiler
from bitmlir.dialects.errors import InputError
from bitmlir.formats.packed import Packed, unpack
from bitmlir.grouped_spec import GroupedSpec
from bitmlir.lowering.targets import get_target
from bitmlir.search_spec import SearchSpec
from bitmlir.spec import MatmulSpec
from bitmlir.tools.check import expected_results, random_operands

CASES: dict[str, tuple[str, MatmulSpec, str]] = {
    "one element": ("sm_90a", MatmulSpec(1, 1, 1, "bipolar", "bipolar"), "16,8,16,8"),
    "planes": ("sm_90a", MatmulSpec(17, 20, 128, "u2", "i2"), "32,16,16,16"),
    "many planes, K past a chunk": ("sm_90", MatmulSpec(9, 33, 520, "u8", "i3"), "16,16,16,8"),
    "deep": ("sm_90a", MatmulSpec(20, 24, 2000, "bipolar", "u2"), "16,24,16,8"),
    "by XOR": ("sm_80", MatmulSpec(40, 50, 300, "bipolar", "bipolar"), "64,16,32,16"),
    "zero points": ("sm_80", MatmulSpec(40, 64, 640, "ternary", "u3@2"), "32,16,32,16"),
    "Turing": ("sm_75", MatmulSpec(33, 70, 300, "bipolar", "bipolar"), "16,16,8,8"),
    "scaled floats": (
        "sm_80",
        MatmulSpec(33, 70, 300, "u2", "i2", "f16", column_scale=True, bias=True, relu=True),
        "16,8,16,8",
    ),
    "a row scale and a residual": (
        "sm_90a",
        MatmulSpec(19, 40, 200, "u4", "i2", "f32", row_scale=True, residual="i8"),
        "16,16,16,16",
    ),
    "packed bits": ("sm_90a", MatmulSpec(33, 70, 300, "bipolar", "u2", "bit"), "32,64,16,32"),
    "packed bits of a batch": ("sm_75", MatmulSpec(33, 70, 300, "bipolar", "bipolar", "bit", batch=3), "16,32,8,32"),
    "packed planes": ("sm_90a", MatmulSpec(33, 70, 1000, "u2", "bipolar", "u4", column_scale=True), "16,32,16,32"),
    "eight packed planes": ("sm_80", MatmulSpec(35, 40, 200, "u2", "bipolar", "u8", column_scale=True), "64,32,32,32"),
    "three groups of columns": ("sm_90a", MatmulSpec(20, 48, 128, "bipolar", "u2"), "16,24,16,24"),
    "five, of halves": ("sm_80", MatmulSpec(20, 96, 300, "u2", "i2", "f16", column_scale=True), "16,40,16,40"),
    "six, of int16": ("sm_90a", MatmulSpec(20, 96, 300, "u2", "i2", "i16"), "32,48,16,48"),
    "a batch": ("sm_90a", MatmulSpec(20, 30, 300, "u2", "bipolar", batch=3), "16,16,16,16"),
}


def tile_text(sizes: str) -> str:
    names = ("rows", "columns", "warp_rows", "warp_columns")
    return ",".join(f"{name}={size}" for name, size in zip(names, sizes.split(","), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_results_are_exact(case: str) -> None:
    target, spec, sizes = CASES[case]
    bundle = compiler.lower(spec, get_target(target), tile=tile_text(sizes))
    operands = random_operands(bundle.plan, seed=5)
    results = run(InterpretedProgram(bundle), operands.given)
    for value, expected in zip(bundle.plan.results, expected_results(bundle.plan, spec, operands.plain), strict=True):
        result = results[value.name]
        np.testing.assert_array_equal(unpack(result) if isinstance(result, Packed) else result, expected)


SMALL = MatmulSpec(20, 30, 300, "u2", "bipolar")


@pytest.mark.parametrize(
    ("target", "spec", "sizes", "message"),
    [
        ("sm_90a", SMALL, "24,16,16,16", "24×16 cannot be cut into parts of 16×16"),
        ("sm_90a", SMALL, "24,16,24,16", "a warp's part must be a multiple of 16×8"),
        (
            "sm_90a",
            MatmulSpec(20, 30, 300, "u2", "i2", "bit"),
            "16,16,16,16",
            "a warp's part must be a multiple of 16×32",
        ),
        ("sm_90a", SMALL, "256,16,16,16", "a block would have 16 warps, of at most 8"),
        (
            "sm_90a",
            MatmulSpec(20, 30, 9000, "u2", "i2"),
            "16,16,16,16",
            "a thread would hold .* registers .*: give stages",
        ),
        (
            "sm_90a",
            GroupedSpec(3, 20, 30, 300, "u2", "i2"),
            "16,16,16,16",
            "groups of rows and bitmaps need a tile with stages",
        ),
        ("sm_90a", SearchSpec(20, 30, 300, "u2", "i2"), "16,16,16,16", "searches, .* need a tile with stages"),
        ("sm_100a", SMALL, "16,16,16,16", "sm_100a has no instruction that multiplies these bits in registers"),
    ],
)
def test_what_cannot_be_is_refused(
    target: str, spec: MatmulSpec | GroupedSpec | SearchSpec, sizes: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        compiler.lower(spec, get_target(target), tile=tile_text(sizes))
