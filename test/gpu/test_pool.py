"""Pools of packed images on the GPU, every element against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from pools import POOLS, pool_text
from support import lower_for_gpu, run_on_gpu

from bitmlir.formats.packed import Packed, unpack
from bitmlir.tools.check import expected_results, random_operands

pytestmark = pytest.mark.gpu

LARGE = {"the first pool of ResNet-18": ((4, 56, 56, 64), (3, 3), (2, 2), (1, 1, 1, 1))}


@pytest.mark.parametrize("target", ["sm_90a", "sm_80"])
@pytest.mark.parametrize("encoding", ["u2", "u8", "i3", "bipolar", "ternary"])
@pytest.mark.parametrize("case", [*POOLS, *LARGE])
def test_every_element_is_exact(case: str, encoding: str, target: str) -> None:
    text = pool_text(encoding, *{**POOLS, **LARGE}[case])
    bundle = lower_for_gpu(text, target)
    operands = random_operands(bundle.plan, seed=7)
    (value,) = bundle.plan.results
    result = run_on_gpu(bundle, operands.given)[value.name]
    assert isinstance(result, Packed)
    (expected,) = expected_results(bundle.plan, text, operands.plain)
    np.testing.assert_array_equal(unpack(result), expected)
