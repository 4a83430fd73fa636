"""Random operands, made as packed words: large matrices take milliseconds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.layout import BITS_PER_WORD, TILE_BITS, TILE_ROWS, tile_counts, words_per_row
from bitmlir.formats.packed import Packed, bits_to_words
from bitmlir.formats.tiles import TileBitmap
from bitmlir.grouped_spec import GroupedSpec
from bitmlir.pack_spec import PackSpec
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.runtime.plan import Plan, Value
from bitmlir.search_spec import SearchSpec
from bitmlir.spec import FLOATS, MatmulSpec
from bitmlir.tools.bench.networks import NetworkSpec
from bitmlir.tools.bench.problems import Problem

__all__ = ["packing_source", "random_operands", "random_packed", "random_tiles"]

_FLOAT_REACH = 1024.0  # what scales make of common sums: well inside the range of f16


def random_operands(
    rng: np.random.Generator, problem: Problem, plan: Plan, made: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Arguments of a program by name, on the host: `Packed` matrices, `TileBitmap`s and arrays; `made`: those there."""
    spec = problem.spec
    if isinstance(spec, PackSpec):
        return {"x": packing_source(rng, spec)}
    assert not isinstance(spec, NetworkSpec), "a network has operands of its own"
    spec = spec.product if isinstance(spec, Conv2dSpec) else spec
    given = dict(made or {})
    by_name = {value.name: value for value in plan.arguments if value.name not in given}
    for name, value in by_name.items():
        if value.kind == "tiles":
            given[name] = random_tiles(rng, value, problem.empty_tiles)
    for name, value in by_name.items():
        if value.kind == "packed":
            given[name] = random_packed(rng, value.shape, value.encoding or "", given.get(f"{name}_tiles"))
        elif value.kind == "array":
            given[name] = _array(rng, spec, value)
    return given


def random_packed(
    rng: np.random.Generator, shape: tuple[int, ...], encoding: str | Encoding, tiles: TileBitmap | None = None
) -> Packed:
    """A matrix, or a batch of them, of random bits, but for 0 in the tiles that a bitmap calls empty.

    Every code is equally likely, but for ternary, where 0 is likelier.
    """
    encoding = Encoding.parse(encoding)
    *rows, k = shape
    words = words_per_row(k)
    planes = rng.integers(0, 2**BITS_PER_WORD, (encoding.bits, *rows, words), np.uint32)
    if words * BITS_PER_WORD != k:  # padding is 0
        planes &= bits_to_words(np.arange(words * BITS_PER_WORD) < k, words)
    if encoding.kind == "ternary":
        planes[1] &= ~planes[0]
    if tiles is not None:
        covered = tiles.to_array().repeat(TILE_ROWS, axis=1).repeat(TILE_BITS // BITS_PER_WORD, axis=2)
        planes *= covered[:, : rows[-1], :words]
    zeros = rng.integers(0, 2**encoding.bits, rows) if encoding.has_row_zeros else None
    return Packed.from_planes(planes, encoding, k, zeros)


def random_tiles(rng: np.random.Generator, value: Value, empty: float) -> TileBitmap:
    """A bitmap that calls that share of the tiles empty."""
    shape = (value.shape[0], value.shape[1])
    counts = tile_counts(shape)
    bits = rng.permutation(math.prod(counts)) >= round(empty * math.prod(counts))
    return TileBitmap.from_array(bits.reshape(counts), shape, value.encoding or "")


def packing_source(rng: np.random.Generator, spec: PackSpec) -> np.ndarray:
    """What is to be packed: floats of which a few lie past the ends of the encoding, or integers that it holds."""
    known, shape = Encoding.parse(spec.encoding), (spec.rows, spec.k)
    if spec.is_rounded:
        middle, reach = (known.minimum + known.maximum) / 2, (known.maximum - known.minimum) / 2
        floats = (rng.random(shape, np.float32) - np.float32(0.5)) * np.float32(2.5 * reach)
        return (floats + np.float32(middle)).astype(numpy_dtype(spec.source))
    codes = rng.integers(0, 3 if known.kind == "ternary" else 2**known.bits, shape, np.int16)
    return (np.int16(known.minimum) + np.int16(known.scale) * codes).astype(numpy_dtype(spec.source))


def _array(rng: np.random.Generator, spec: MatmulSpec | GroupedSpec | SearchSpec, value: Value) -> np.ndarray:
    """An argument beside the operands.

    Thresholds lie where sums of random elements do, scales bring these sums inside the range of the result, and offsets
    divide the rows at random.
    """
    shape, dtype = value.shape, numpy_dtype(value.dtype or "")
    spread = math.sqrt(spec.k) * Encoding.parse(spec.lhs).magnitude * Encoding.parse(spec.rhs).magnitude
    reach = _reach(spec.out) if isinstance(spec, (MatmulSpec, GroupedSpec)) else _FLOAT_REACH
    if value.name == "threshold":
        return rng.integers(-math.ceil(spread), math.ceil(spread), shape, dtype)
    if value.name == "flip":
        return rng.integers(0, 2, shape, dtype)
    if value.name == "offsets":
        groups = shape[0] - 1
        sizes = rng.multinomial(spec.m, np.full(groups, 1 / groups))
        return np.concatenate([[0], np.cumsum(sizes)]).astype(dtype)
    if value.name == "residual":
        return rng.integers(-int(min(reach, 127)), int(min(reach, 127)) + 1, shape, np.int16).astype(dtype)
    row_scale = 1.0 if getattr(spec, "column_scale", False) else reach / spread
    sizes = {"column_scale": reach / spread, "row_scale": row_scale, "bias": reach / 4}
    return (rng.uniform(0.5, 1.5, shape) * sizes[value.name]).astype(dtype)


def _reach(out: str) -> float:
    """How large the numbers of a result are to be."""
    if out in FLOATS or out in ("i32", "i16", "bit"):
        return _FLOAT_REACH
    return float(Encoding.parse(out).maximum)
