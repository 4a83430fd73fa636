"""Convolutions on the GPU, every element against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from convolutions import CASES, GROUPED
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
    "pixels of 32 bytes": Conv2dSpec(3, 9, 11, 200, 40, "bipolar", "bipolar", padding=1),
    "of 48": Conv2dSpec(3, 9, 11, 384, 40, "u2", "i2", size=(2, 3), padding=(0, 1, 1, 0)),
    "of 64": Conv2dSpec(2, 15, 7, 512, 72, "bipolar", "bipolar", "bit", stride=(3, 1), padding=2, dilation=(1, 2)),
    "of 128": Conv2dSpec(2, 6, 5, 1024, 24, "bipolar", "ternary", padding=1),
    "of 144, one by one": Conv2dSpec(2, 6, 5, 1100, 24, "u1", "u2", size=1),
    "strides of one by one": Conv2dSpec(2, 15, 14, 256, 24, "bipolar", "bipolar", size=1, stride=2),
    "a window that TMA cannot read": Conv2dSpec(1, 30, 30, 64, 8, "bipolar", "bipolar", size=2, stride=9),
    "a layer of ResNeXt": Conv2dSpec(
        4, 28, 28, 256, 256, "u2", "bipolar", "u2", padding=1, column_scale=True, groups=32
    ),
    "depthwise, as in MobileNet": Conv2dSpec(
        2, 14, 14, 512, 512, "u4", "i4", "u4", stride=2, padding=1, column_scale=True, groups=512
    ),
    "groups of 100": Conv2dSpec(3, 9, 11, 300, 36, "bipolar", "u3@5", "bit", padding=1, groups=3),
}

TILES = [
    "rows=64,columns=8,stages=2",
    "rows=64,columns=64,stages=4,alternate",
    "rows=128,columns=128,stages=3,band=4",
    "rows=192,columns=32,stages=5",
    "rows=64,columns=64,stages=4,split=2",
]


def require_exact(spec: Conv2dSpec, target: str, tile: str | None = None, *, seed: int) -> None:
    """Compare every element that a convolution yields with plain numpy's."""
    bundle = lower_for_gpu(spec, target, tile)
    operands = random_operands(bundle.plan, seed)
    (value,) = bundle.plan.results
    result = run_on_gpu(bundle, operands.given)[value.name]
    (expected,) = expected_results(bundle.plan, spec, operands.plain)
    np.testing.assert_array_equal(unpack(result) if isinstance(result, Packed) else result, expected)


@pytest.mark.parametrize("target", ["sm_90a", "sm_90", "sm_80", "sm_75"])
@pytest.mark.parametrize("case", [*CASES, *GROUPED, *LARGE])
def test_every_element_is_exact(case: str, target: str) -> None:
    require_exact({**CASES, **GROUPED, **LARGE}[case], target, seed=7)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("case", ["pixels of 32 bytes", "of 48", "of 128", "its last stage"])
def test_every_tile_gathers_what_the_window_sees(case: str, tile: str) -> None:
    bundle = lower_for_gpu(LARGE[case], "sm_90a", tile=tile)
    operands = random_operands(bundle.plan, seed=11)
    (value,) = bundle.plan.results
    result = run_on_gpu(bundle, operands.given)[value.name]
    (expected,) = expected_results(bundle.plan, LARGE[case], operands.plain)
    np.testing.assert_array_equal(result, expected)


STAYING = {
    "±1 to bits": Conv2dSpec(40, 15, 15, 64, 64, "bipolar", "bipolar", "bit", padding=1),
    "bits of several tiles": Conv2dSpec(41, 15, 15, 200, 200, "bipolar", "bipolar", "bit", padding=1),
    "codes, padded far": Conv2dSpec(40, 15, 15, 64, 40, "u2", "bipolar", "u2", padding=1, column_scale=True, relu=True),
    "planes of both": Conv2dSpec(20, 29, 31, 256, 72, "u2", "i2", size=(2, 3), stride=(2, 1), residual="i16"),
    "many K blocks": Conv2dSpec(200, 7, 7, 512, 64, "bipolar", "bipolar", padding=1),
    "groups": Conv2dSpec(40, 15, 15, 64, 64, "bipolar", "bipolar", "bit", padding=1, groups=4),
}


@pytest.mark.parametrize("tile", ["rows=64,columns=64,stages=6,alternate", "rows=128,columns=32,stages=3"])
@pytest.mark.parametrize("case", STAYING)
def test_filters_may_stay_in_shared_memory(case: str, tile: str) -> None:
    require_exact(STAYING[case], "sm_90a", f"{tile},stationary", seed=13)


PADDED = {
    "pixels of 48 bytes": Conv2dSpec(3, 9, 11, 384, 40, "u2", "i2", size=(2, 3), padding=(0, 1, 1, 0)),
    "a stride": Conv2dSpec(3, 15, 14, 320, 72, "u1", "u2", stride=2, padding=1),
    "of 80": Conv2dSpec(1, 16, 16, 640, 130, "u2", "bipolar", padding=1),
    "of 80, channels that do not fill them": Conv2dSpec(3, 7, 9, 601, 66, "bipolar", "bipolar", padding=1),
    "of 96": Conv2dSpec(2, 9, 8, 700, 64, "bipolar", "ternary", "bit", padding=1),
    "of 112": Conv2dSpec(2, 8, 9, 896, 64, "u2", "bipolar", "u2", padding=1, column_scale=True, relu=True),
    "of 144": Conv2dSpec(2, 6, 5, 1152, 40, "bipolar", "bipolar", padding=1),
    "of 176, far outside": Conv2dSpec(1, 7, 6, 1408, 24, "u1", "i2", size=5, padding=4, dilation=(1, 2)),
    "of 192": Conv2dSpec(2, 5, 6, 1500, 33, "bipolar", "u2@1", stride=(1, 2), padding=1, residual="i16"),
    "of 288": Conv2dSpec(2, 5, 6, 2300, 24, "bipolar", "bipolar", size=(3, 1)),
    "one by one": Conv2dSpec(2, 15, 14, 640, 24, "bipolar", "bipolar", size=1, stride=2),
}
PADDED_TILES = [
    "rows=64,columns=32,stages=4",
    "rows=64,columns=64,stages=3,alternate",
    "rows=128,columns=64,stages=2,band=4",
    "rows=192,columns=32,stages=5",
    "rows=64,columns=64,stages=4,split=4",
    "rows=128,columns=32,stages=4,split=2",
]


@pytest.mark.parametrize("tile", PADDED_TILES)
@pytest.mark.parametrize("case", PADDED)
def test_taps_may_be_padded(case: str, tile: str) -> None:
    require_exact(PADDED[case], "sm_90a", f"{tile},padded", seed=17)


PADDED_STAYING = {
    "pixels of 48 bytes": Conv2dSpec(40, 15, 15, 384, 64, "bipolar", "bipolar", "bit", padding=1),
    "of 80": Conv2dSpec(40, 15, 15, 640, 64, "u2", "bipolar", "u2", padding=1, column_scale=True, relu=True),
    "of 144, several tiles": Conv2dSpec(40, 15, 15, 1152, 40, "bipolar", "bipolar", padding=1),
    "planes of both": Conv2dSpec(41, 29, 31, 640, 40, "u2", "i2", size=(2, 2), stride=(2, 1), residual="i16"),
}


@pytest.mark.parametrize("tile", ["rows=64,columns=32,stages=3,alternate", "rows=128,columns=32,stages=3"])
@pytest.mark.parametrize("case", PADDED_STAYING)
def test_padded_filters_may_stay_in_shared_memory(case: str, tile: str) -> None:
    require_exact(PADDED_STAYING[case], "sm_90a", f"{tile},stationary,padded", seed=19)


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
