"""Products whose columns' operand stays in shared memory, on the GPU, every element against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from support import lower_for_gpu, run_on_gpu

from bitmlir import MatmulSpec
from bitmlir.formats.packed import Packed, unpack
from bitmlir.tools.check import expected_results, random_operands

pytestmark = pytest.mark.gpu

CASES: dict[str, tuple[MatmulSpec, str]] = {
    "wide": (MatmulSpec(9000, 512, 2048, "bipolar", "bipolar"), "rows=64,columns=256,stages=3,alternate"),
    "a tile or two each": (MatmulSpec(64 * 133, 64, 1024, "u1", "u1"), "rows=64,columns=64,stages=4,alternate"),
    "odd sizes": (MatmulSpec(9001, 77, 1153, "u2", "i3"), "rows=64,columns=32,stages=4"),
    "columns that blocks do not divide": (MatmulSpec(9001, 150, 300, "i2", "ternary"), "rows=64,columns=32,stages=4"),
    "a short K": (MatmulSpec(9001, 40, 100, "bipolar", "bipolar", "bit"), "rows=64,columns=64,stages=8,alternate"),
    "padding behind several tiles": (
        MatmulSpec(17000, 200, 500, "bipolar", "u2", "u4", column_scale=True, bias=True),
        "rows=128,columns=96,stages=4",
    ),
    "negative planes": (
        MatmulSpec(9001, 70, 1400, "i3", "i3", "f16", row_scale=True, residual="f16"),
        "rows=64,columns=80,stages=4,alternate",
    ),
    "zero points": (MatmulSpec(17000, 33, 900, "u3@row", "u2@1"), "rows=128,columns=48,stages=4"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_stays_is_multiplied_with_every_tile(name: str) -> None:
    spec, tile = CASES[name]
    bundle = lower_for_gpu(spec, "sm_90a", f"{tile},stationary")
    operands = random_operands(bundle.plan, 7)
    results = run_on_gpu(bundle, operands.given)
    for value, expected in zip(bundle.plan.results, expected_results(bundle.plan, spec, operands.plain), strict=True):
        result = results[value.name]
        np.testing.assert_array_equal(unpack(result) if isinstance(result, Packed) else result, expected)
