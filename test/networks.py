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


def _groups() -> nn.Layer:
    """Groups from the first layer on, depthwise and then pointwise, with a shortcut beside them."""
    x = nn.Quantise(_norm(nn.Conv2d(nn.Input((10, 9, 4)), _weights(40, 3, 3, 2), padding=1, groups=2)), 2, 20.0)
    depthwise = nn.Conv2d(x, _weights(80, 3, 3, 1, low=-3, high=3), "bipolar2", 2, 1, groups=40)
    x = nn.Sign(_norm(depthwise))
    sums = nn.Conv2d(x, _weights(66, 1, 1, 80))
    x = nn.Conv2d(nn.Sign(_norm(sums)), _weights(66, 3, 3, 33, step=1), "ternary", 1, 2, 2, groups=2)
    return _norm(nn.Conv2d(nn.Sign(_norm(nn.Add(sums, x))), _weights(66, 5, 5, 1), groups=66))


def _vectors() -> nn.Layer:
    x: nn.Layer = nn.Flatten(nn.Input((7, 5, 2)))
    for outputs in (33, 130, 20):
        x = nn.Sign(_norm(nn.Linear(x, _weights(outputs, x.shape[0]))))
    return _norm(nn.Linear(x, _weights(10, 20, low=-3, high=3), "bipolar2"))


def _whole_residuals() -> nn.Layer:
    """Integers all the way: first sums past 16 bits, a shortcut that is pooled and padded, another one that is not."""
    sums: nn.Layer = nn.Conv2d(nn.Input((12, 10, 9)), _weights(64, 5, 5, 9), padding=2)
    codes = nn.Sign(_norm(sums))
    for channels, stride in ((64, 1), (100, 2), (100, 1)):
        shortcut = sums
        if stride > 1:
            shortcut = nn.PadChannels(nn.MaxPool2d(sums, stride), channels)
        x = nn.Sign(_norm(nn.Conv2d(codes, _weights(channels, 3, 3, codes.shape[2]), stride=stride, padding=1)))
        sums = nn.Add(nn.Conv2d(x, _weights(channels, 3, 3, channels), padding=1), shortcut)
        codes = nn.Quantise(_norm(sums), 2, 0.7) if stride > 1 else nn.Sign(_norm(sums))
    return nn.Linear(nn.Flatten(codes), _weights(10, 6 * 5 * 100))


def _real_residuals() -> nn.Layer:
    """Real numbers beside the codes, downsampled by a convolution of 8 bits; the mean of each channel in the end."""
    x = nn.MaxPool2d(
        _norm(nn.Conv2d(nn.Input((16, 14, 3)), _weights(33, 7, 7, 3, low=-8, high=7, step=1), "i4", 2, 3)), 3, 2, 1
    )
    for channels, stride in ((33, 1), (70, 2), (70, 1)):
        shortcut: nn.Layer = x
        if stride > 1:
            mean = nn.Quantise(nn.AvgPool2d(x, 2), 8, 0.01, signed=True)
            shortcut = _norm(nn.Conv2d(mean, _weights(channels, 1, 1, x.shape[2])))
        codes = nn.Sign(x) if channels < 70 else nn.Quantise(x, 3, 0.4, signed=True, narrow=True)
        weights = _weights(channels, 3, 3, x.shape[2])
        x = nn.Add(shortcut, _norm(nn.Conv2d(codes, weights, stride=stride, padding=1)))
    means = nn.Quantise(nn.Flatten(nn.AvgPool2d(x, x.shape[:2])), 8, 0.02, signed=True)
    return _norm(nn.Linear(means, _weights(10, 70, low=-100, high=100, step=1), "i8"))


def _several_ways() -> nn.Layer:
    """Numbers that many layers take: codes of two kinds, sums of sums, means at edges, the same twice."""
    sums = nn.Conv2d(nn.Input((8, 7, 2)), _weights(40, 3, 3, 2), padding=1)
    first = nn.Conv2d(nn.Sign(sums), _weights(40, 3, 3, 40), padding=1)
    second = nn.Conv2d(nn.Quantise(_norm(sums), 2, 0.5), _weights(40, 3, 3, 40), padding=1)
    both = nn.Add(nn.Add(first, second), nn.Add(sums, sums))
    mean = nn.AvgPool2d(both, 3, 1, 1)
    third = nn.Add(_norm(nn.Conv2d(nn.Sign(both), _weights(40, 1, 1, 40))), nn.Add(mean, _norm(both)))
    return nn.Add(third, nn.MaxPool2d(third, 3, 1, 1))


def _vectors_with_residuals() -> nn.Layer:
    sums: nn.Layer = nn.Linear(nn.Flatten(nn.Input((5, 4, 2))), _weights(70, 40))
    for _ in range(2):
        sums = nn.Add(sums, nn.Linear(nn.Sign(_norm(sums)), _weights(70, 70)))
    return nn.Linear(nn.Quantise(_norm(sums), 5, 0.1), _weights(9, 70))


def _reduced_vectors() -> nn.Layer:
    """Vectors that are read where they are stored: codes of two kinds, the same numbers twice, Flatten twice."""
    sums = nn.Linear(nn.Flatten(nn.Flatten(nn.Input((5, 4, 2)))), _weights(40, 40))
    both = nn.Add(nn.Linear(nn.Sign(sums), _weights(40, 40)), nn.Linear(nn.Quantise(sums, 2, 30.0), _weights(40, 40)))
    return nn.Add(nn.Add(both, both), _norm(sums))


def _flat_numbers() -> nn.Layer:
    """Numbers that are made flat before their codes."""
    sums = _norm(nn.Conv2d(nn.Input((6, 5, 3)), _weights(33, 3, 3, 3)))
    return nn.Linear(nn.Sign(nn.Flatten(sums)), _weights(7, 4 * 3 * 33))


def _pairs() -> nn.Layer:
    """Pixels of 64 channels in rows of even length, which lie in memory two by two: made and taken in every way."""
    x: nn.Layer = nn.Sign(_norm(nn.Conv2d(nn.Input((10, 12, 3)), _weights(64, 3, 3, 3), padding=1)))
    sums = nn.Conv2d(x, _weights(64, 3, 3, 64), padding=1)
    x = nn.Sign(_norm(nn.Conv2d(nn.Sign(_norm(sums)), _weights(64, 5, 5, 64, step=1), "ternary", padding=2)))
    sums = nn.Add(nn.Conv2d(x, _weights(64, 1, 1, 64)), sums)
    x = nn.MaxPool2d(nn.Quantise(_norm(sums), 2, 0.7), 2)
    sums = nn.Conv2d(nn.MaxPool2d(nn.Sign(sums), 2), _weights(64, 3, 3, 64), padding=1)
    x = nn.Sign(_norm(nn.Conv2d(x, _weights(128, 2, 3, 64, low=-3, high=3), "bipolar2", padding=(0, 1, 1, 1))))
    x = nn.Sign(_norm(nn.Add(nn.Conv2d(x, _weights(64, 1, 1, 128)), sums)))
    return nn.Add(nn.Conv2d(x, _weights(9, 3, 3, 64)), nn.Conv2d(x, _weights(9, 3, 4, 64), padding=(0, 0, 0, 1)))


def _strides_over_pairs() -> nn.Layer:
    x: nn.Layer = nn.Sign(_norm(nn.Conv2d(nn.Input((17, 20, 5)), _weights(64, 3, 3, 5), padding=1)))
    wide = _norm(nn.Conv2d(x, _weights(64, 7, 7, 64, low=-2, high=1, step=1), "i2", (2, 1), (3, 3, 2, 3)))
    x = nn.Quantise(wide, 3, 0.4, signed=True)
    shortcut = _norm(nn.Conv2d(x, _weights(70, 1, 1, 64), stride=2))
    x = nn.Sign(_norm(nn.Conv2d(x, _weights(64, 3, 3, 64), stride=2, padding=1)))
    x = nn.Add(_norm(nn.Conv2d(x, _weights(70, 3, 3, 64), padding=1)), shortcut)
    x = nn.Sign(_norm(nn.Conv2d(nn.Sign(x), _weights(64, 2, 2, 70), padding=(0, 0, 1, 1))))
    return _norm(nn.Conv2d(x, _weights(10, 2, 4, 64), stride=(3, 2), padding=(1, 2, 0, 0)))


def _small_residuals() -> nn.Layer:
    """Integers of 8 bits: sums, what is added to them, pooled and padded; and sums that need an origin to fit."""
    codes = nn.Sign(_norm(nn.Conv2d(nn.Input((10, 8, 3)), _weights(42, 3, 3, 3), padding=1)))
    sums = nn.Conv2d(codes, _weights(42, 1, 1, 42))
    sums = nn.Add(nn.Conv2d(nn.Sign(_norm(sums)), _weights(42, 1, 1, 42)), sums)
    strided = nn.Conv2d(nn.Sign(_norm(sums)), _weights(51, 1, 1, 42), stride=2)
    x = nn.Quantise(_norm(nn.Add(strided, nn.PadChannels(nn.MaxPool2d(sums, 2), 51))), 1, 9.0)
    above = nn.Conv2d(x, np.abs(_weights(47, 2, 2, 51)))  # from 0 to 204
    return nn.Add(nn.MaxPool2d(above, 2, 1), nn.Conv2d(nn.Sign(_norm(above)), _weights(47, 2, 2, 47)))


def _large_residuals() -> nn.Layer:
    """Real numbers past what f16 holds, stored by a product, by poolings and by an addition; then small ones again."""
    sums = nn.Conv2d(nn.Input((9, 8, 3)), _weights(34, 3, 3, 3), padding=1)
    large = nn.BatchNorm(sums, _RNG.choice([-60.0, 90.0], 34), *np.ones((3, 34)))
    shortcut = nn.MaxPool2d(large, 2)
    codes = nn.Sign(nn.BatchNorm(shortcut, *_RNG.normal(size=(3, 34)), np.ones(34)))
    x = nn.Add(_norm(nn.Conv2d(codes, _weights(34, 3, 3, 34), padding=1)), shortcut)
    x = nn.Add(x, nn.AvgPool2d(x, 3, 1, 1))
    small = nn.BatchNorm(nn.AvgPool2d(x, 2), np.full(34, 1e-3), *np.zeros((2, 34)), np.ones(34))
    return nn.Add(small, _norm(nn.Conv2d(nn.Quantise(small, 3, 9.0, signed=True), _weights(34, 1, 1, 34))))


def _normalised_images() -> nn.Layer:
    """Floats in, of an odd number of channels, into patches and with a second layer that takes them."""
    start = nn.Input((11, 9, 3), mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    return nn.Linear(nn.Flatten(nn.Sign(_norm(nn.Conv2d(start, _weights(36, 5, 5, 3), padding=2)))), _weights(7, 3564))


def _normalised_pixels() -> nn.Layer:
    """Floats of many channels, which are packed as they are."""
    return nn.Conv2d(nn.Input((5, 6, 70), mean=0.1, std=_RNG.uniform(0.5, 2, 70)), _weights(9, 3, 3, 70))


def _normalised_vectors() -> nn.Layer:
    """Images of floats that are flat, whose means are those of channels."""
    start = nn.Flatten(nn.Input((6, 7, 3), mean=[0.5, 0.25, 0.1], std=[1, 0.3, 0.2]))
    return nn.Linear(nn.Sign(_norm(nn.Linear(start, _weights(40, 126)))), _weights(5, 40))


SMALL: dict[str, nn.Layer] = {
    "images": _images(),
    "widths": _widths(),
    "images of many channels": _wide_images(),
    "a first layer with dilation": _dilated(),
    "groups": _groups(),
    "vectors": _vectors(),
    "whole residuals": _whole_residuals(),
    "real residuals": _real_residuals(),
    "several ways": _several_ways(),
    "pixels in pairs": _pairs(),
    "strides over pairs": _strides_over_pairs(),
    "vectors with residuals": _vectors_with_residuals(),
    "reduced vectors": _reduced_vectors(),
    "flat numbers": _flat_numbers(),
    "small residuals": _small_residuals(),
    "large residuals": _large_residuals(),
    "normalised images": _normalised_images(),
    "normalised pixels": _normalised_pixels(),
    "normalised vectors": _normalised_vectors(),
}


def random_images(model: nn.Model, seed: int = 5) -> np.ndarray:
    """A batch of inputs; of normalised ones some are no pixels' numbers, far away or NaN."""
    shape = (model.batch, *model.program.input.shape)
    rng = np.random.default_rng(seed)
    images = model.program.input.normalised(rng.integers(0, 256, shape, dtype=np.uint8))
    if model.program.input.is_normalised:
        stray = np.array([np.nan, np.inf, -np.inf, 1e30, -0.0, 0.5 / 255], np.float32)
        images = np.where(rng.random(shape) < 0.2, rng.choice(stray, shape), images)
        images += rng.normal(0, 0.01, shape).astype(np.float32)
    return images


def equal(results: Any, expected: Any) -> None:
    """Compare what every step leaves with the reference, bit for bit."""
    results, expected = (x if isinstance(x, tuple) else (x,) for x in (results, expected))
    for result, right in zip(results, expected, strict=True):
        values = unpack(result) if isinstance(result, Packed) else np.asarray(result)
        if values.dtype.kind == "f":
            assert values.dtype == right.dtype
            bits = f"i{values.dtype.itemsize}"
            values, right = values.view(bits), right.view(bits)
        np.testing.assert_array_equal(values, right)
