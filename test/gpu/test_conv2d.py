"""Convolutions on the GPU, every element against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from convolutions import CASES
from support import lower_for_gpu, run_on_gpu

import bitmlir
from bitmlir import reference
from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.formats.packed import Packed, unpack
from bitmlir.tools.check import expected_results, random_operands

pytestmark = pytest.mark.gpu

LARGE = {
    "a layer of ResNet-18": Conv2dSpec(4, 56, 56, 64, 64, "bipolar", "bipolar", "bit", padding=1),
    "between its stages": Conv2dSpec(4, 56, 56, 64, 128, "u2", "bipolar", "u2", stride=2, padding=1, column_scale=True),
    "its last stage": Conv2dSpec(8, 7, 7, 512, 512, "bipolar", "bipolar", padding=1, residual="i16"),
}


@pytest.mark.parametrize("target", ["sm_90a", "sm_90", "sm_80"])
@pytest.mark.parametrize("case", [*CASES, *LARGE])
def test_every_element_is_exact(case: str, target: str) -> None:
    spec = {**CASES, **LARGE}[case]
    bundle = lower_for_gpu(spec, target)
    operands = random_operands(bundle.plan, seed=7)
    (value,) = bundle.plan.results
    result = run_on_gpu(bundle, operands.given)[value.name]
    (expected,) = expected_results(bundle.plan, spec, operands.plain)
    np.testing.assert_array_equal(unpack(result) if isinstance(result, Packed) else result, expected)


def test_device_arrays_go_in_and_come_out_as_images() -> None:
    torch = pytest.importorskip("torch")
    spec = Conv2dSpec(2, 6, 5, 40, 64, "bipolar", "bipolar", "bit", padding=1)
    rng = np.random.default_rng(3)
    x, w = rng.choice([-1, 1], (2, 6, 5, 40)), rng.choice([-1, 1], (64, 3, 3, 40))
    on_device = (bitmlir.to_device(bitmlir.pack(array, "bipolar")) for array in (x, w))
    hidden = bitmlir.compile(spec)(*on_device, threshold=3)
    assert hidden.shape == (2, 6, 5, 64)
    out = torch.empty((2, 6, 5, 8), dtype=torch.int32, device="cuda")
    second = bitmlir.compile(Conv2dSpec(2, 6, 5, 64, 8, "bipolar", "bipolar", padding=1))
    v = rng.choice([-1, 1], (8, 3, 3, 64))
    assert second(hidden, bitmlir.pack(v, "bipolar"), out=out) is out
    bits = np.where(reference.conv2d(x, w, spec.window) >= 3, 1, -1)
    np.testing.assert_array_equal(out.cpu().numpy(), reference.conv2d(bits, v, spec.window))
