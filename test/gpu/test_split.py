"""Products whose K is split among the blocks of a cluster, on the GPU, every element against plain numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import lower_for_gpu, run_on_gpu

import bitmlir
from bitmlir.formats.packed import Packed, unpack
from bitmlir.tools.check import expected_results, random_operands

pytestmark = pytest.mark.gpu

Spec = bitmlir.MatmulSpec | bitmlir.GroupedSpec | bitmlir.SearchSpec

SCALES: dict[str, Any] = {"row_scale": True, "column_scale": True, "bias": True}
CASES: dict[str, tuple[Spec, str]] = {
    "wide": (bitmlir.MatmulSpec(500, 512, 20000, "bipolar", "bipolar"), "rows=64,columns=256,stages=3,split=4"),
    "odd sizes": (bitmlir.MatmulSpec(77, 333, 9001, "u2", "i3"), "rows=64,columns=64,stages=4,split=4"),
    "two groups of warps": (bitmlir.MatmulSpec(200, 100, 9000, "i3", "u2"), "rows=128,columns=64,stages=4,split=4"),
    "fewer steps than blocks": (
        bitmlir.MatmulSpec(40, 50, 1500, "bipolar", "u2"),
        "rows=64,columns=64,stages=3,split=4",
    ),
    "bits": (bitmlir.MatmulSpec(300, 260, 9000, "bipolar", "u2", "bit"), "rows=128,columns=128,stages=3,split=4"),
    "codes": (bitmlir.MatmulSpec(65, 130, 7000, "u2@row", "i3", "u4", **SCALES), "rows=64,columns=64,stages=3,split=2"),
    "scaled": (
        bitmlir.MatmulSpec(65, 128, 7000, "u2", "i3", "f16", residual="f16", **SCALES),
        "rows=64,columns=64,stages=4,split=2",
    ),
    "swapped": (bitmlir.MatmulSpec(7, 1000, 9000, "bipolar", "i3"), "rows=128,columns=8,stages=6,swapped,split=4"),
    "planes side by side": (
        bitmlir.MatmulSpec(1, 500, 16000, "u8", "i4", "f16", column_scale=True),
        "rows=64,columns=8,stages=6,swapped,planes=8,split=4",
    ),
    "batch": (bitmlir.MatmulSpec(60, 70, 9000, "bipolar", "i2", batch=5), "rows=64,columns=64,stages=4,split=4"),
    "groups of rows": (bitmlir.GroupedSpec(4, 200, 70, 9000, "bipolar", "u2"), "rows=64,columns=64,stages=4,split=2"),
    "search": (bitmlir.SearchSpec(60, 500, 9000, "bipolar", "u2", count=3), "rows=64,columns=128,stages=3,split=4"),
}


@pytest.mark.parametrize("name", CASES)
def test_blocks_that_share_a_tile_add_up_to_the_product(name: str) -> None:
    spec, tile = CASES[name]
    bundle = lower_for_gpu(spec, "sm_90a", tile)
    operands = random_operands(bundle.plan, 7)
    results = run_on_gpu(bundle, operands.given)
    for value, expected in zip(bundle.plan.results, expected_results(bundle.plan, spec, operands.plain), strict=True):
        result = results[value.name]
        np.testing.assert_array_equal(unpack(result) if isinstance(result, Packed) else result, expected)
