"""Networks that Brevitas trained, on the GPU: every held-out image against what QONNX's executor made of it."""

from __future__ import annotations

import os

import numpy as np
import pytest
from qonnx_graphs import DEMO, NETWORKS, held_out, stored_logits

from bitmlir import nn

pytestmark = pytest.mark.gpu


def _require_equal_predictions(name: str, images: np.ndarray, target: str, tolerance: float) -> None:
    expected = stored_logits(name)
    model = nn.compile(nn.from_qonnx(DEMO / f"{name}.onnx"), batch=len(images), target=target)
    logits = np.asarray(model(images)).reshape(expected.shape)
    assert (logits.argmax(axis=1) == expected.argmax(axis=1)).all()
    np.testing.assert_allclose(logits, expected, atol=tolerance)


@pytest.mark.parametrize("target", ["auto", "sm_80"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_prediction_is_that_of_the_executor(name: str, target: str) -> None:
    _require_equal_predictions(name, held_out(name)[0], target, 1e-5)


def test_every_prediction_on_mnist_is_that_of_the_executor() -> None:
    folder = os.environ.get("BITMLIR_MNIST")
    if folder is None:
        pytest.skip("BITMLIR_MNIST does not say in which folder MNIST's t10k files lie")
    _require_equal_predictions("mnist", held_out("mnist", folder)[0], "auto", 1e-4)
