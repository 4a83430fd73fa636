"""GPU kernels that pack, interpreted without a GPU: exact on floats that are hard to round, and on integers."""

from __future__ import annotations

import numpy as np
import pytest
from support import awkward_floats, packing_arguments, run
from warp_interpreter import InterpretedProgram

from bitmlir import PackSpec
from bitmlir.compiler import lower
from bitmlir.formats.packed import Packed, pack
from bitmlir.lowering.targets import get_target
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.spec import FLOATS
from bitmlir.tools.evaluate import evaluate

SPECS = [
    PackSpec(3, 65, "u4", "f32"),
    PackSpec(5, 300, "bipolar", "f16"),
    PackSpec(4, 70, "ternary", "f32", scale=True),
    PackSpec(5, 300, "u4@row", "f32", scale=True),
    PackSpec(2, 2049, "i8", "f32", scale=True),
    PackSpec(3, 1100, "bipolar3", "f16", scale=True),
    PackSpec(3, 200, "i3", "i8"),
    PackSpec(2, 1030, "u8@128", "i32"),
]


def packed_by_interpreter(spec: PackSpec, target: str, given: dict[str, np.ndarray]) -> tuple[Packed, Packed]:
    """The kernel's matrix, and that of the oracle's values."""
    bundle = lower(spec, get_target(target))
    (values,) = evaluate(bundle.stages["bit"].decode(), "pack", list(given.values()))
    return run(InterpretedProgram(bundle), given)["result"], pack(values, spec.encoding, given.get("zeros"))


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_kernels_pack_what_the_oracle_says(spec: PackSpec, target: str, rng: np.random.Generator) -> None:
    shape = (spec.rows, spec.k)
    whole = rng.integers(-128, 128, shape).astype(numpy_dtype(spec.source))
    x = awkward_floats(rng, shape, spec.source) if spec.source in FLOATS else whole
    result, expected = packed_by_interpreter(spec, target, packing_arguments(rng, spec, x))
    np.testing.assert_array_equal(result.planes, expected.planes)
    np.testing.assert_array_equal(result.sums, expected.sums)
