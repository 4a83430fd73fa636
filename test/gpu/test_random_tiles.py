"""Random legal tiles on random odd shapes, on the GPU, every element against plain numpy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from support import random_planes, run_on_gpu

from bitmlir import compiler, reference
from bitmlir.dialects.errors import BundleError
from bitmlir.dialects.layout import BITS_PER_WORD, TILE_BITS, TILE_ROWS
from bitmlir.formats.packed import Packed, unpack
from bitmlir.formats.tiles import tile_bitmap
from bitmlir.lowering.targets import get_target
from bitmlir.runtime.cuda import Device, choose_image
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench.tune import candidates

pytestmark = pytest.mark.gpu

ENCODINGS = ["bipolar", "u2", "i3", "ternary", "u4@7"]
RESULTS = ["i32", "f16", "bit", "u4"]
SHAPES_TRIED = 40
TILES_A_SHAPE = 3


def random_spec(rng: np.random.Generator) -> MatmulSpec:
    """Few rows or many, and so large results that blocks take several tiles; depths with and without whole blocks."""
    m = int(rng.choice([rng.integers(1, 9), rng.integers(9, 65), rng.integers(65, 700), rng.integers(1000, 3000)]))
    n = int(rng.integers(1, 900) if m < 1000 else rng.integers(1000, 3000))
    k = int(rng.choice([rng.integers(1, 400), rng.integers(400, 6000 if m < 1000 else 1500)]))
    lhs, rhs, out = (str(rng.choice(names)) for names in (ENCODINGS, ENCODINGS, RESULTS))
    scaled = out not in ("i32", "bit")
    return MatmulSpec(m, n, k, lhs, rhs, out, row_scale=scaled, column_scale=scaled, lhs_tiles=bool(rng.integers(2)))


def emptied(rng: np.random.Generator, packed: Packed) -> Packed:
    """A matrix of whose tiles half have no bits."""
    planes = packed.planes.copy()
    words = TILE_BITS // BITS_PER_WORD
    for row, word in itertools.product(range(0, packed.rows, TILE_ROWS), range(0, planes.shape[-1], words)):
        if rng.integers(2):
            planes[:, row : row + TILE_ROWS, word : word + words] = 0
    return Packed.from_planes(planes, packed.encoding, packed.k)


def arguments(rng: np.random.Generator, spec: MatmulSpec) -> dict[str, Any]:
    spread = max(1, int(spec.k**0.5))
    if spec.out == "bit":
        limits = rng.integers(-spread, spread, spec.n).astype(np.int32)
        return {"threshold": limits, "flip": rng.integers(0, 2, spec.n).astype(np.int8)}
    if not spec.column_scale:
        return {}
    scale = {"f16": 1.0, "u4": 4.0}[spec.out] / spread
    sizes = {"row_scale": spec.m, "column_scale": spec.n}
    return {name: rng.uniform(0.5, scale + 0.5, size).astype(np.float32) for name, size in sizes.items()}


@pytest.mark.parametrize("target", ["sm_90a", "sm_90"])
@pytest.mark.parametrize("seed", range(SHAPES_TRIED))
def test_random_tiles_give_exact_results_on_random_shapes(seed: int, target: str) -> None:
    rng = np.random.default_rng([seed, 2026])
    spec, chip = random_spec(rng), get_target(target)
    given: dict[str, Any] = {
        "lhs": random_planes(rng, (spec.m, spec.k), str(spec.lhs)),
        "rhs": random_planes(rng, (spec.n, spec.k), str(spec.rhs)),
        **arguments(rng, spec),
    }
    if spec.lhs_tiles:
        given["lhs"] = emptied(rng, given["lhs"])
        given["lhs_tiles"] = tile_bitmap(given["lhs"])
    plain = {name: value for name, value in given.items() if name not in ("lhs", "rhs", "lhs_tiles")}
    if "flip" in plain:
        plain["flip"] = plain["flip"] != 0
    acc = reference.matmul(unpack(given["lhs"]), unpack(given["rhs"]))
    expected = reference.epilogue(acc, spec.out, **plain)
    _, ranked = candidates(spec, chip)
    for number in rng.choice(len(ranked), min(TILES_A_SHAPE, len(ranked)), replace=False):
        tile = ranked[number].text
        bundle = compiler.lower(spec, chip, tile=tile)
        try:
            choose_image(bundle, Device.current())
        except BundleError as error:
            pytest.skip(str(error))
        result = run_on_gpu(bundle, given)["result"]
        if isinstance(result, Packed):
            result.check()
            result = unpack(result)
        np.testing.assert_array_equal(result, expected, err_msg=f"{spec} with {tile}")
