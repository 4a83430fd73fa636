"""One small kernel of each family on the GPU against plain numpy; `make sanitize` runs them under compute-sanitizer.

Results and scratch are poisoned and every buffer lies between guard bytes (`support.run_on_gpu`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import SMALL as NETWORKS
from networks import equal, random_images
from pixel_pairs import CHAINS
from support import lower_for_gpu, run_on_gpu

from bitmlir import nn, reference
from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.formats.packed import Packed, unpack
from bitmlir.grouped_spec import GroupedSpec
from bitmlir.pack_spec import PackSpec
from bitmlir.search_spec import SearchSpec
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench.operands import packing_source
from bitmlir.tools.check import expected_results, random_operands

pytestmark = [pytest.mark.gpu, pytest.mark.sanitize]

Spec = MatmulSpec | GroupedSpec | SearchSpec | Conv2dSpec

SMALL, FEW_ROWS = (300, 200, 2100), (9, 300, 2100)
MANY_TILES = (2300, 128, 1100)  # of 64 × 32: more than there are multiprocessors
SCALED: dict[str, Any] = {"row_scale": True, "column_scale": True, "bias": True, "relu": True}

# Name → target, problem, tile; None leaves the tile to tables and the cost model.
FAMILIES: dict[str, tuple[str, Spec, str | None]] = {
    "wgmma-shared": ("sm_90a", MatmulSpec(*SMALL, "u2", "bipolar"), "rows=128,columns=64,stages=3"),
    "wgmma-alternate": ("sm_90a", MatmulSpec(*MANY_TILES, "u2", "i2"), "rows=64,columns=32,stages=3,alternate"),
    "wgmma-swapped": ("sm_90a", MatmulSpec(*FEW_ROWS, "u3", "i2"), "rows=64,columns=16,stages=4,swapped"),
    "wgmma-side-by-side": ("sm_90a", MatmulSpec(*FEW_ROWS, "u3", "i2"), "rows=64,columns=16,stages=4,swapped,planes=3"),
    "wgmma-cluster": ("sm_90a", MatmulSpec(*SMALL, "u2", "bipolar"), "rows=64,columns=64,stages=3,cluster=2"),
    "wgmma-split": ("sm_90a", MatmulSpec(100, 100, 9000, "u2", "bipolar"), "rows=64,columns=64,stages=3,split=4"),
    "wgmma-bits": ("sm_90a", MatmulSpec(*MANY_TILES, "u2", "i2", "bit"), "rows=64,columns=32,stages=3,alternate"),
    "wgmma-quantised": ("sm_90a", MatmulSpec(*SMALL, "u2", "i2", "u4", **SCALED), "rows=64,columns=64,stages=3"),
    "wgmma-floats": ("sm_90a", MatmulSpec(*SMALL, "u2", "i2", "f16", residual="f32", **SCALED), None),
    "wgmma-bitmaps": ("sm_90a", MatmulSpec(*SMALL, "u2", "i2", lhs_tiles=True, rhs_tiles=True), None),
    "wgmma-batch": ("sm_90a", MatmulSpec(70, 136, 1100, "u2", "i2", batch=3), None),
    "wgmma-groups": ("sm_90a", GroupedSpec(5, 300, 136, 1100, "u2", "i2", "bit"), None),
    "wgmma-stationary": (
        "sm_90a",
        MatmulSpec(9001, 50, 1100, "u2", "i2", "bit"),
        "rows=64,columns=64,stages=3,alternate,stationary",
    ),
    "wgmma-window": (
        "sm_90a",
        Conv2dSpec(3, 9, 11, 64, 40, "bipolar", "bipolar", "bit", padding=1, stride=2),
        "rows=128,columns=64,stages=3",
    ),
    "wgmma-window-stationary": (
        "sm_90a",
        Conv2dSpec(40, 15, 15, 64, 100, "bipolar", "bipolar", padding=1),
        "rows=128,columns=64,stages=3,stationary",
    ),
    "wgmma-window-padded": (
        "sm_90a",
        Conv2dSpec(3, 9, 11, 1152, 40, "bipolar", "bipolar", "bit", padding=1, stride=2),
        "rows=64,columns=64,stages=3,padded",
    ),
    "mma-patches": ("sm_90", Conv2dSpec(3, 9, 11, 64, 40, "bipolar", "u2", "bit", padding=1), None),
    "wgmma-window-groups": (
        "sm_90a",
        Conv2dSpec(3, 9, 11, 66, 40, "bipolar", "bipolar", "bit", padding=1, groups=2),
        None,
    ),
    "wgmma-search": ("sm_90a", SearchSpec(70, 1001, 1100, "bipolar", "bipolar", count=5), None),
    "mma-persistent": (
        "sm_90",
        MatmulSpec(1100, 1100, 300, "u2", "bipolar"),
        "rows=64,columns=64,warp_rows=32,warp_columns=32,stages=3",
    ),
    "mma-bits": ("sm_90", MatmulSpec(*SMALL, "u2", "i2", "bit"), None),
    "mma-floats": ("sm_90", MatmulSpec(*SMALL, "u2", "i2", "bf16", residual="i8", **SCALED), None),
    "mma-batch": ("sm_90", MatmulSpec(70, 136, 1100, "u2", "i2", batch=3), None),
    "mma-groups": ("sm_90", GroupedSpec(5, 300, 136, 1100, "u2", "i2"), None),
    "resident": ("sm_90a", MatmulSpec(70, 90, 700, "u2", "i2"), "rows=64,columns=16,warp_rows=16,warp_columns=16"),
    "resident-bits": (
        "sm_90",
        MatmulSpec(70, 90, 700, "u2", "i2", "bit"),
        "rows=32,columns=64,warp_rows=16,warp_columns=32",
    ),
    # Tiles of nothing but a row's padding, which reach past the last column's data.
    "resident-padding": (
        "sm_90a",
        MatmulSpec(70, 64, 700, "u2", "i2", "bit"),
        "rows=32,columns=32,warp_rows=16,warp_columns=32",
    ),
    "mma-padding": (
        "sm_90",
        MatmulSpec(300, 192, 2100, "u2", "i2", "bit"),
        "rows=64,columns=64,warp_rows=32,warp_columns=32,stages=3",
    ),
    "mma-search": ("sm_90", SearchSpec(70, 1001, 1100, "u2", "i2", count=5), None),
}


def same(result: Any, expected: np.ndarray) -> None:
    """Equal bit by bit."""
    values = unpack(result) if isinstance(result, Packed) else result
    if values.dtype.kind not in "iu":
        values, expected = (array.view(f"u{array.dtype.itemsize}") for array in (values, expected))
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_products_and_searches_are_exact(family: str) -> None:
    target, spec, tile = FAMILIES[family]
    bundle = lower_for_gpu(spec, target, tile)
    operands = random_operands(bundle.plan, seed=4)
    results = run_on_gpu(bundle, operands.given)
    expected = expected_results(bundle.plan, spec, operands.plain)
    for value, right in zip(bundle.plan.results, expected, strict=True):
        same(results[value.name], right)


@pytest.mark.parametrize("target", ["sm_90a", "sm_90"])
@pytest.mark.parametrize(("encoding", "source"), [("u4", "f32"), ("bipolar", "f16"), ("i3", "i8")])
def test_packing_is_exact(encoding: str, source: str, target: str) -> None:
    spec = PackSpec(70, 1100, encoding, source)
    values = packing_source(np.random.default_rng(4), spec)
    result = run_on_gpu(lower_for_gpu(spec, target), {"x": values})["result"]
    same(result, reference.quantised(values, encoding) if spec.is_rounded else values)


@pytest.mark.parametrize("tile", [None, "rows=64,columns=64,stages=3", "rows=64,columns=128,stages=3,split=2"])
@pytest.mark.parametrize("case", ["to bits", "pooled", "two bits, a zero point", "strides along the rows alone"])
def test_pixels_in_pairs_are_exact(case: str, tile: str | None) -> None:
    text = CHAINS[case].text(images=5)
    bundle = lower_for_gpu(text, "sm_90a", tile)
    operands = random_operands(bundle.plan, seed=4)
    results = run_on_gpu(bundle, operands.given)
    for value, right in zip(bundle.plan.results, expected_results(bundle.plan, text, operands.plain), strict=True):
        same(results[value.name], right)


@pytest.mark.parametrize("target", ["auto", "sm_80"])
@pytest.mark.parametrize(
    "name", ["images", "whole residuals", "real residuals", "pixels in pairs", "normalised images"]
)
def test_networks_are_exact(name: str, target: str) -> None:
    """First layers of bytes, reductions, poolings, and all of them in memory that they share."""
    model = nn.compile(NETWORKS[name], batch=5, target=target)
    images = random_images(model)
    equal(model(images), model.reference(images))
