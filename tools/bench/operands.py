"""Random operands, made as packed words: large matrices take milliseconds."""

from __future__ import annotations

import math

import numpy as np

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.layout import BITS_PER_WORD, words_per_row
from bitmlir.formats.packed import Packed, bits_to_words
from bitmlir.pack_spec import PackSpec
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.runtime.plan import Plan
from bitmlir.spec import MatmulSpec

__all__ = ["epilogue_arguments", "packing_source", "random_packed"]


def random_packed(rng: np.random.Generator, rows: int, k: int, encoding: str | Encoding) -> Packed:
    """A matrix of random bits; every code is equally likely, but for ternary, where 0 is likelier."""
    encoding = Encoding.parse(encoding)
    words = words_per_row(k)
    planes = rng.integers(0, 2**BITS_PER_WORD, (encoding.bits, rows, words), np.uint32)
    if k % BITS_PER_WORD or words * BITS_PER_WORD != k:  # padding is 0
        planes &= bits_to_words(np.arange(words * BITS_PER_WORD) < k, words)
    if encoding.kind == "ternary":
        planes[1] &= ~planes[0]
    zeros = rng.integers(0, 2**encoding.bits, rows) if encoding.has_row_zeros else None
    return Packed.from_planes(planes, encoding, k, zeros)


def packing_source(rng: np.random.Generator, spec: PackSpec) -> np.ndarray:
    """What is to be packed: floats of which a few lie past the ends of the encoding, or integers that it holds."""
    known, shape = Encoding.parse(spec.encoding), (spec.rows, spec.k)
    if spec.is_rounded:
        middle, reach = (known.minimum + known.maximum) / 2, (known.maximum - known.minimum) / 2
        floats = rng.standard_normal(shape, np.float32) * np.float32(reach / 2) + np.float32(middle)
        return floats.astype(numpy_dtype(spec.source))
    codes = rng.integers(0, 3 if known.kind == "ternary" else 2**known.bits, shape, np.int16)
    return (np.int16(known.minimum) + np.int16(known.scale) * codes).astype(numpy_dtype(spec.source))


def epilogue_arguments(rng: np.random.Generator, spec: MatmulSpec, plan: Plan) -> dict[str, np.ndarray]:
    """The arrays that the result of a product depends on beside its operands, by name.

    Thresholds lie where sums of random elements do, and scales bring these sums well inside the range of f16.
    """
    lhs, rhs = Encoding.parse(spec.lhs), Encoding.parse(spec.rhs)
    spread = math.sqrt(spec.k) * lhs.magnitude * rhs.magnitude
    makers = {
        "threshold": lambda shape: rng.integers(-math.ceil(spread), math.ceil(spread), shape, np.int32),
        "flip": lambda shape: rng.integers(0, 2, shape, np.int8),
        "column_scale": lambda shape: (rng.uniform(0.5, 1.5, shape) * (1024 / spread)).astype(np.float32),
    }
    return {value.name: makers[value.name](value.shape) for value in plan.arguments if value.name in makers}
