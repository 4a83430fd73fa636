"""Every tile of the kernels by mma.sync on the GPU, against plain numpy: odd shapes, packed results, bitmaps, bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support import random_planes, run_on_gpu

from bitmlir import compiler, reference
from bitmlir.formats.packed import unpack
from bitmlir.formats.tiles import tile_bitmap
from bitmlir.lowering import targets
from bitmlir.lowering.gpu.mma_tile import MmaTile, mma_tiles
from bitmlir.lowering.gpu.tiles import tile_text
from bitmlir.lowering.targets import get_target
from bitmlir.runtime.cuda import Device
from bitmlir.spec import MatmulSpec

pytestmark = pytest.mark.gpu

SPECS = {
    "integers": MatmulSpec(300, 130, 3001, "i3", "u2"),
    "many tiles": MatmulSpec(1500, 2100, 1025, "bipolar", "bipolar"),
    "floats": MatmulSpec(130, 999, 2049, "u4@row", "i3", out="bf16", row_scale=True, column_scale=True, bias=True),
    "bits": MatmulSpec(515, 390, 5000, "u2", "ternary", out="bit", lhs_tiles=True, rhs_tiles=True),
}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(80)


@pytest.fixture(autouse=True)
def _needs_hopper() -> None:
    if Device.current().capability < (9, 0):
        pytest.skip("sm_90 needs a GPU of compute capability 9.0")


def check(rng: np.random.Generator, spec: MatmulSpec, tile: MmaTile | None = None) -> None:
    """Run a product of random operands, and compare the whole result."""
    packed = {
        "lhs": random_planes(rng, (spec.m, spec.k), str(spec.lhs)),
        "rhs": random_planes(rng, (spec.n, spec.k), str(spec.rhs)),
    }
    numbers: dict[str, Any] = {
        name: rng.standard_normal(size).astype(np.float32)
        for name, size in (("row_scale", spec.m), ("column_scale", spec.n), ("bias", spec.n))
        if getattr(spec, name)
    }
    if spec.out == "bit":
        numbers["threshold"] = rng.integers(-40, 40, spec.n).astype(np.int32)
        numbers["flip"] = rng.integers(0, 2, spec.n).astype(bool)
    bitmaps = {f"{side}_tiles": tile_bitmap(packed[side]) for side in packed if getattr(spec, f"{side}_tiles")}
    bundle = compiler.lower(spec, get_target("sm_90"), tile=tile and tile_text(tile))
    result = run_on_gpu(bundle, {**packed, **numbers, **bitmaps})["result"]
    acc = unpack(packed["lhs"]).astype(np.float64) @ unpack(packed["rhs"]).astype(np.float64).T  # exact: below 2^53
    expected = reference.epilogue(acc.astype(np.int64), spec.out, **numbers)
    values = unpack(result).astype(expected.dtype) if spec.out == "bit" else result
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("tile", mma_tiles(get_target("sm_90")), ids=str)
@pytest.mark.parametrize("name", SPECS)
def test_every_tile_that_may_be_chosen_is_exact(rng: np.random.Generator, name: str, tile: MmaTile) -> None:
    check(rng, SPECS[name], tile)


@pytest.mark.parametrize("band", [1, 3, 100])
def test_tiles_may_be_walked_over_any_number_of_rows(rng: np.random.Generator, band: int) -> None:
    check(rng, SPECS["many tiles"], MmaTile(128, 128, 64, 64, 3, producers=2, blocks=2, band=band))


@pytest.mark.parametrize("name", SPECS)
def test_products_of_bytes_are_exact(rng: np.random.Generator, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What chips without a 1-bit unit do: Hopper multiplies bytes too, so that its chip can stand in for theirs."""
    by_bytes = replace(get_target("sm_90"), instruction=get_target("sm_120").instruction)
    monkeypatch.setitem(targets.TARGETS, "sm_90", by_bytes)
    check(rng, SPECS[name], MmaTile(128, 128, 64, 32, stages=3))
    check(rng, SPECS[name], MmaTile(64, 64, 32, 32, stages=2))
