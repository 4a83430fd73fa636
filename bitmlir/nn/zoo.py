"""Networks of TCBNN (Li and Su, 2020), at 1-bit weights and activations of a few bits (as in APNN-TC)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np

from bitmlir.dialects.errors import InputError, ShapeError
from bitmlir.nn.layers import BatchNorm, Conv2d, Flatten, Input, Layer, Linear, MaxPool2d, Quantise, Sign

__all__ = ["NETWORKS", "GivenParameters", "Parameters", "RandomParameters", "network"]


class Parameters(Protocol):
    """Where a network takes its numbers from."""

    def get(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The array of that name, such as conv1.weights (of −1 and 1) or norm1.gamma."""
        ...


@dataclass(frozen=True)
class RandomParameters:
    """Weights of both signs, and batch norms that rise, fall and are flat; the same for the same seed."""

    seed: int

    def get(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        rng = np.random.default_rng([self.seed, *name.encode()])
        if name.endswith(".weights"):
            return rng.integers(0, 2, shape, np.int8) * 2 - 1
        if name.endswith(".gamma"):
            return rng.normal(size=shape) * (rng.random(shape) > 0.02)
        if name.endswith(".variance"):
            return rng.uniform(0.5, 2, shape) * 100
        return rng.normal(size=shape)


@dataclass(frozen=True)
class GivenParameters:
    """Arrays by name, as from a file.

    Raises:
        InputError: an array is missing. ShapeError: one has another shape.
    """

    arrays: Mapping[str, np.ndarray]

    def get(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name not in self.arrays:
            raise InputError(f"the network needs an array '{name}' of shape {shape}, which is missing")
        array = np.asarray(self.arrays[name])
        if array.shape != shape:
            raise ShapeError(f"'{name}' must have the shape {shape}, got {array.shape}")
        return array


@dataclass
class _Maker:
    """Puts layers on each other, and numbers them."""

    layer: Layer
    parameters: Parameters
    bits: int
    count: int = 0

    def _normed(self, layer: Layer) -> BatchNorm:
        names = ("gamma", "beta", "mean", "variance")
        gamma, beta, mean, variance = (
            self.parameters.get(f"norm{self.count}.{name}", layer.shape[-1:]) for name in names
        )
        return BatchNorm(layer, gamma, beta, mean, variance)

    def _activated(self, layer: Layer) -> None:
        normed = self._normed(layer)
        self.layer = Sign(normed) if self.bits == 1 else Quantise(normed, self.bits)

    def conv(self, filters: int, size: int, stride: int = 1, padding: int | None = None) -> None:
        """A convolution with its batch norm and activation; padding keeps the image's size if it is not given."""
        self.count += 1
        weights = self.parameters.get(f"conv{self.count}.weights", (filters, size, size, self.layer.shape[2]))
        around = size // 2 if padding is None else padding
        self._activated(Conv2d(self.layer, weights, stride=stride, padding=around))

    def pool(self) -> None:
        """The largest of 2 × 2."""
        self.layer = MaxPool2d(self.layer, 2)

    def linear(self, outputs: int, last: bool = False) -> None:
        """A linear layer with its batch norm, and activation unless it is the last."""
        self.count += 1
        if len(self.layer.shape) == 3:
            self.layer = Flatten(self.layer)
        weights = self.parameters.get(f"linear{self.count}.weights", (outputs, self.layer.shape[0]))
        layer = Linear(self.layer, weights)
        if last:
            self.layer = self._normed(layer)
        else:
            self._activated(layer)


def _mnist_mlp(make: _Maker) -> None:
    for _ in range(3):
        make.linear(1024)
    make.linear(10, last=True)


def _cifar10_vgg(make: _Maker) -> None:
    for filters in (128, 256, 512):
        make.conv(filters, 3)
        make.conv(filters, 3)
        make.pool()
    make.linear(1024)
    make.linear(1024)
    make.linear(10, last=True)


def _alexnet(make: _Maker) -> None:
    make.conv(64, 11, stride=4, padding=2)
    make.pool()
    make.conv(192, 5)
    make.pool()
    for filters in (384, 256, 256):
        make.conv(filters, 3)
    make.pool()
    make.linear(4096)
    make.linear(4096)
    make.linear(1000, last=True)


def _vgg16(make: _Maker) -> None:
    for filters, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            make.conv(filters, 3)
        make.pool()
    make.linear(4096)
    make.linear(4096)
    make.linear(1000, last=True)


NETWORKS: Mapping[str, tuple[tuple[int, ...], Callable[[_Maker], None]]] = MappingProxyType(
    {
        "mnist-mlp": ((28, 28, 1), _mnist_mlp),
        "cifar10-vgg": ((32, 32, 3), _cifar10_vgg),
        "alexnet": ((224, 224, 3), _alexnet),
        "vgg16": ((224, 224, 3), _vgg16),
    }
)
"""Name → the shape of its images, and what puts its layers on each other."""


def network(name: str, parameters: Parameters, bits: int = 1) -> Layer:
    """The last layer of a network: its logits.

    bits: of activations: ±1, or numbers from 0 to 2^bits − 1.

    Raises:
        InputError: an unknown name, bits that `Quantise` does not have, or an array that is missing.
        ShapeError: an array of another shape.

    Example:
        >>> network("mnist-mlp", RandomParameters(0)).shape
        (10,)
    """
    if name not in NETWORKS:
        raise InputError(f"unknown network {name!r}: expected one of {', '.join(NETWORKS)}")
    shape, make = NETWORKS[name]
    start: Layer = Input(shape)
    if name == "mnist-mlp":
        start = Flatten(start)
    maker = _Maker(start, parameters, bits)
    make(maker)
    return maker.layer
