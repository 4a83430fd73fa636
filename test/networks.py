"""Small networks that tests on the CPU and on GPUs share: strides, encodings, few and many channels, poolings."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitmlir import nn
from bitmlir.formats.packed import Packed, unpack

__all__ = ["SMALL", "equal", "random_images"]

_RNG = np.random.default_rng(11)


def _norm(layer: nn.Layer) -> nn.BatchNorm:
    channels = layer.shape[-1]
    gamma = _RNG.normal(size=channels) * (_RNG.random(channels) > 0.1)
    return nn.BatchNorm(layer, gamma, *_RNG.normal(size=(2, channels)), _RNG.uniform(1, 50, channels))


def _weights(*shape: int, low: int = -1, high: int = 1, step: int = 2) -> np.ndarray:
    return _RNG.choice(np.arange(low, high + 1, step), shape)


def _images() -> nn.Layer:
    x: nn.Layer = nn.Input((13, 11, 3))
    x = nn.Sign(_norm(nn.Conv2d(x, _weights(40, 5, 3, 3), stride=(2, 1), padding=(2, 1, 1, 0))))
    x = nn.MaxPool2d(x, (2, 3), stride=(1, 2), padding=(1, 0))
    x = nn.Quantise(_norm(nn.Conv2d(x, _weights(33, 3, 3, 40), padding=1)), 2, 0.5)
    return nn.Linear(nn.Flatten(x), _weights(7, x.shape[0] * x.shape[1] * 33))


def _widths() -> nn.Layer:
    x: nn.Layer = nn.Input((9, 9, 1))
    x = nn.Quantise(_norm(nn.Conv2d(x, _weights(20, 3, 3, 1, low=-8, high=7, step=1), "i4", padding=1)), 3, 0.3)
    x = nn.Sign(_norm(nn.Conv2d(x, _weights(70, 1, 1, 20, step=1), "ternary", stride=2)))
    x = nn.Quantise(_norm(nn.Conv2d(x, _weights(130, 2, 2, 70, low=-2, step=1), "i2", dilation=2)), 1)
    return _norm(nn.Conv2d(x, _weights(9, 3, 3, 130)))


def _wide_images() -> nn.Layer:
    x = nn.Sign(nn.Conv2d(nn.Input((5, 5, 80)), _weights(140, 3, 3, 80), padding=1))
    return nn.Sign(nn.Conv2d(x, _weights(5, 5, 5, 140)))


def _dilated() -> nn.Layer:
    return nn.Conv2d(nn.Input((9, 8, 2)), _weights(10, 3, 3, 2), dilation=(2, 3))


def _vectors() -> nn.Layer:
    x: nn.Layer = nn.Flatten(nn.Input((7, 5, 2)))
    for outputs in (33, 130, 20):
        x = nn.Sign(_norm(nn.Linear(x, _weights(outputs, x.shape[0]))))
    return _norm(nn.Linear(x, _weights(10, 20, low=-3, high=3), "bipolar2"))


SMALL: dict[str, nn.Layer] = {
    "images": _images(),
    "widths": _widths(),
    "images of many channels": _wide_images(),
    "a first layer with dilation": _dilated(),
    "vectors": _vectors(),
}


def random_images(model: nn.Model, seed: int = 5) -> np.ndarray:
    """A batch of inputs."""
    shape = (model.batch, *model.program.layers[0].shape)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def equal(results: Any, expected: Any) -> None:
    """Compare what every step leaves with the reference, bit for bit."""
    results, expected = (x if isinstance(x, tuple) else (x,) for x in (results, expected))
    for result, right in zip(results, expected, strict=True):
        values = unpack(result) if isinstance(result, Packed) else np.asarray(result)
        if values.dtype.kind == "f":
            values, right = values.view(np.int32), right.astype(np.float32).view(np.int32)
        np.testing.assert_array_equal(values, right)
