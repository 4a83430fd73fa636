"""Networks that Brevitas trained, on the GPU: every held-out image against what QONNX's executor made of it."""

from __future__ import annotations

import numpy as np
import pytest
from qonnx_graphs import NETWORKS, stored_logits
from stored_networks import DEMO, held_out

from bitmlir import nn

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("target", ["auto", "sm_80"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_prediction_is_that_of_the_executor(name: str, target: str) -> None:
    images, _ = held_out(name)
    expected = stored_logits(name)
    model = nn.compile(nn.from_qonnx(DEMO / f"{name}.onnx"), batch=len(images), target=target)
    logits = np.asarray(model(images)).reshape(expected.shape)
    assert (logits.argmax(axis=1) == expected.argmax(axis=1)).all()
    np.testing.assert_allclose(logits, expected, atol=NETWORKS[name])
