"""The networks that docs/demo stores, their record, and the images that they were not trained on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import data
import numpy as np
import pytest

__all__ = ["DEMO", "held_out", "record"]

DEMO = Path(__file__).parents[1] / "docs" / "demo"


def held_out(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The images that the network of that name was not trained on, [images, height, width, 1], and their classes.

    Skips the test if they are MNIST's, unless the environment variable BITMLIR_MNIST says in which folder its t10k
    files lie; those of others come with scikit-learn.
    """
    folder = os.environ.get("BITMLIR_MNIST")
    if name == "mnist" and folder is None:
        pytest.skip("BITMLIR_MNIST does not say in which folder MNIST's t10k files lie")
    parts = data.load(name.partition("-")[0], folder)
    side = int(parts.test_images.shape[1] ** 0.5)
    return parts.test_images.reshape(-1, side, side, 1), parts.test_labels


def record(file: str) -> dict[str, Any]:
    """What is noted of a stored network: how it was trained, and what it scores."""
    return json.loads((DEMO / "networks.json").read_text())[file]
