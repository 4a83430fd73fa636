"""Random legal tiles on random odd shapes, on the GPU, every element against plain numpy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from support import by_structure, lower_for_gpu, run_on_gpu

from bitmlir import reference
from bitmlir.dialects.layout import BITS_PER_WORD, TILE_BITS, TILE_ROWS
from bitmlir.formats.packed import Packed, unpack
from bitmlir.formats.tiles import tile_bitmap
from bitmlir.lowering.targets import get_target
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.spec import FLOATS, RESIDUALS, MatmulSpec
from bitmlir.tools.bench.operands import random_packed
from bitmlir.tools.bench.tune import candidates

pytestmark = pytest.mark.gpu

ENCODINGS = ["bipolar", "u2", "i3", "ternary", "u4@7"]
RESULTS = ["i32", "f16", "bit", "u4"]
WHOLE_RESIDUALS = [name for name in RESIDUALS if name not in FLOATS]
SHAPES_TRIED = 40
TILES_A_SHAPE = 3


def random_spec(rng: np.random.Generator) -> MatmulSpec:
    """Few rows or many, and so large results that blocks take several tiles; depths with and without whole blocks.

    A third of those that are not so large are batches; of the others operands may have bitmaps.
    """
    m = int(rng.choice([rng.integers(1, 9), rng.integers(9, 65), rng.integers(65, 700), rng.integers(1000, 3000)]))
    n = int(rng.integers(1, 900) if m < 1000 else rng.integers(1000, 3000))
    k = int(rng.choice([rng.integers(1, 400), rng.integers(400, 6000 if m < 1000 else 1500)]))
    lhs, rhs, out = (str(rng.choice(names)) for names in (ENCODINGS, ENCODINGS, RESULTS))
    scaled = out not in ("i32", "bit")
    residuals = [None, *(RESIDUALS if scaled else WHOLE_RESIDUALS)]
    residual = residuals[rng.integers(len(residuals))]
    is_batch = m < 1000 and rng.integers(3) == 0
    more: dict[str, Any] = {"batch": int(rng.integers(2, 6))} if is_batch else {}
    more |= {} if is_batch else {name: bool(rng.integers(2)) for name in ("lhs_tiles", "rhs_tiles")}
    return MatmulSpec(m, n, k, lhs, rhs, out, row_scale=scaled, column_scale=scaled, residual=residual, **more)


def emptied(rng: np.random.Generator, packed: Packed) -> Packed:
    """A matrix of whose tiles half have no bits."""
    planes = packed.planes.copy()
    words = TILE_BITS // BITS_PER_WORD
    for row, word in itertools.product(range(0, packed.rows, TILE_ROWS), range(0, planes.shape[-1], words)):
        if rng.integers(2):
            planes[:, row : row + TILE_ROWS, word : word + words] = 0
    return Packed.from_planes(planes, packed.encoding, packed.k)


def arguments(rng: np.random.Generator, spec: MatmulSpec, acc: np.ndarray) -> dict[str, Any]:
    """What the epilogue reads: thresholds where sums are, scales that bring sums into the result's range."""
    given: dict[str, Any] = {}
    reach = {"u4": 20, "f16": 1000}.get(spec.out, 100)
    if spec.residual is not None:
        most = min(reach, 127)
        given["residual"] = rng.integers(-most, most + 1, acc.shape, np.int8).astype(numpy_dtype(spec.residual))
    if spec.out == "bit":
        given["threshold"] = rng.integers(acc.min(), acc.max() + 1, spec.n, np.int32)
        given["flip"] = rng.integers(0, 2, spec.n).astype(np.int8)
    if spec.column_scale:
        unit = reach / max(1, int(abs(acc).max()))
        given["row_scale"] = rng.uniform(0.5, 1.5, acc.shape[:-1]).astype(np.float32)
        given["column_scale"] = rng.uniform(0.5 * unit, 1.5 * unit, spec.n).astype(np.float32)
    return given


def random_problem(seed: int) -> tuple[np.random.Generator, MatmulSpec, dict[str, Any], np.ndarray]:
    """A product, its arguments and its result; the generator goes on."""
    rng = np.random.default_rng([seed, 2026])
    spec = random_spec(rng)
    batch = () if spec.batch is None else (spec.batch,)
    operands = {
        "lhs": random_packed(rng, (*batch, spec.m, spec.k), spec.lhs),
        "rhs": random_packed(rng, (*batch, spec.n, spec.k), spec.rhs),
    }
    bitmaps = {}
    for name in operands:
        if getattr(spec, f"{name}_tiles"):
            operands[name] = emptied(rng, operands[name])
            bitmaps[f"{name}_tiles"] = tile_bitmap(operands[name])
    acc = reference.matmul(unpack(operands["lhs"]), unpack(operands["rhs"]))
    plain = arguments(rng, spec, acc)
    decided = {name: value != 0 if name == "flip" else value for name, value in plain.items()}
    return rng, spec, {**operands, **bitmaps, **plain}, reference.epilogue(acc, spec.out, **decided)


@pytest.mark.parametrize("target", ["sm_90a", "sm_90"])
@pytest.mark.parametrize("seed", range(SHAPES_TRIED))
def test_random_tiles_give_exact_results_on_random_shapes(seed: int, target: str) -> None:
    rng, spec, given, expected = random_problem(seed)
    _, ranked = candidates(spec, get_target(target))
    structures = by_structure(ranked)
    for number in rng.choice(len(structures), min(TILES_A_SHAPE, len(structures)), replace=False):
        tile = structures[number][rng.integers(len(structures[number]))].text
        result = run_on_gpu(lower_for_gpu(spec, target, tile), given)["result"]
        if isinstance(result, Packed):
            result.check()
            result = unpack(result)
        np.testing.assert_array_equal(result, expected, err_msg=f"{spec} with {tile}")
