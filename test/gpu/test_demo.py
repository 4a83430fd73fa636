"""The demo's networks on the GPU: every held-out image, layer by layer."""

from __future__ import annotations

import network
import numpy as np
import pytest
from networks import equal
from stored_networks import held_out

from bitmlir import nn

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("target", ["auto", "sm_80", "sm_75"])
@pytest.mark.parametrize("name", network.WIDTHS)
def test_held_out_images_are_classified_as_numpy_and_the_cpu_do(name: str, target: str) -> None:
    images, _ = held_out(name)
    pixels = images.reshape(len(images), -1)
    layer = network.load(name)
    model = nn.compile(layer, len(pixels), target, every=True)
    computed = model(pixels)
    equal(computed, model.reference(pixels))
    np.testing.assert_array_equal(computed[-1], nn.compile(layer, len(pixels), "cpu")(pixels))
