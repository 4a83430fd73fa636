"""Networks of TCBNN (Li and Su, 2020), at 1-bit weights and activations of a few bits (as in APNN-TC), and ResNet-18
with real shortcuts (Bi-Real Net, Liu et al., 2018)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from bitmlir.dialects.errors import BitmlirError, InputError, ShapeError
from bitmlir.nn.layers import (
    Add,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Flatten,
    Input,
    Layer,
    Linear,
    MaxPool2d,
    PadChannels,
    Quantise,
    Sign,
)

__all__ = ["NETWORKS", "GivenParameters", "Parameters", "RandomParameters", "network", "parameter_shapes"]


class Parameters(Protocol):
    """Where a network takes its numbers from."""

    def get(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The array of that name, such as conv1.weights (of −1 and 1), conv1.weights8 (of −127 to 127), norm1.gamma or
        means1.scale (one number)."""
        ...


@dataclass(frozen=True)
class RandomParameters:
    """Weights of both signs, and batch norms that rise, fall and are flat; the same for the same seed."""

    seed: int

    def get(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        rng = np.random.default_rng([self.seed, *name.encode()])
        if name.endswith(".weights"):
            return rng.integers(0, 2, shape, np.int8) * 2 - 1
        if name.endswith(".weights8"):
            # Small, as most are: so real shortcuts fit in f16, as those of trained networks do.
            return rng.integers(-8, 9, shape, np.int16)
        if name.endswith(".scale"):
            return np.array(2.0**-6)
        if name.endswith(".gamma"):
            return rng.normal(size=shape) * (rng.random(shape) > 0.02)
        if name.endswith(".variance"):
            return rng.uniform(0.5, 2, shape) * 100
        return rng.normal(size=shape)


@dataclass(frozen=True)
class GivenParameters:
    """Arrays by name, as from a file (see `load_weights`).

    Weights of −1 and 1 may be packed, as `np.packbits(weights > 0, axis=-1)`.

    Raises:
        InputError: an array is missing, or holds other than finite numbers. ShapeError: one has another shape.
    """

    arrays: Mapping[str, np.ndarray]

    def get(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name not in self.arrays:
            raise InputError(f"the network needs an array '{name}' of shape {shape}, which is missing")
        array = np.asarray(self.arrays[name])
        if name.endswith(".weights") and array.dtype == np.uint8 and array.shape == _packed(shape) != shape:
            return np.unpackbits(array, axis=-1, count=shape[-1]).astype(np.int8) * 2 - 1
        if array.shape != shape:
            raise ShapeError(f"'{name}' must have the shape {shape}, got {array.shape}")
        if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
            raise InputError(f"'{name}' must hold numbers, got {array.dtype}")
        if not (finite := np.isfinite(array)).all():
            place = tuple(map(int, np.argwhere(~finite)[0]))
            raise InputError(f"'{name}' must be finite, but {name}{list(place)} is {array[place]}")
        return array


def _packed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of bytes that hold eight numbers of the last axis each."""
    return (*shape[:-1], -(-shape[-1] // 8))


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors from within say which array they are about."""
    try:
        yield
    except BitmlirError as error:
        raise type(error)(f"{name}: {error}") from error


@dataclass
class _Maker:
    """Puts layers on each other, and numbers them."""

    layer: Layer
    parameters: Parameters
    bits: int
    count: int = 0

    def normed(self, layer: Layer) -> BatchNorm:
        """A batch norm behind a layer, of its number."""
        names = ("gamma", "beta", "mean", "variance")
        gamma, beta, mean, variance = (
            self.parameters.get(f"norm{self.count}.{name}", layer.shape[-1:]) for name in names
        )
        with _named(f"norm{self.count}"):
            return BatchNorm(layer, gamma, beta, mean, variance)

    def activated(self, numbers: Layer) -> Layer:
        """The codes of numbers."""
        return Sign(numbers) if self.bits == 1 else Quantise(numbers, self.bits)

    def sums(self, layer: Layer, filters: int, size: int, stride: int = 1, padding: int | None = None) -> Conv2d:
        """A convolution alone; padding keeps the image's size if it is not given."""
        self.count += 1
        weights = self.parameters.get(f"conv{self.count}.weights", (filters, size, size, layer.shape[2]))
        with _named(f"conv{self.count}.weights"):
            return Conv2d(layer, weights, stride=stride, padding=size // 2 if padding is None else padding)

    def conv(self, filters: int, size: int, stride: int = 1, padding: int | None = None) -> None:
        """A convolution with its batch norm and activation."""
        self.layer = self.activated(self.normed(self.sums(self.layer, filters, size, stride, padding)))

    def whole_blocks(self, stem: Conv2d, stages: Sequence[int]) -> None:
        """Residual blocks, two a stage of so many filters. The shortcuts are sums of integers; from stage to stage the
        largest of 2 × 2, with zeros for the channels that are new."""
        sums: Layer = stem
        self.layer = self.activated(self.normed(stem))
        for filters in stages:
            for _ in range(2):
                stride = 1 if sums.shape[2] == filters else 2
                shortcut = sums if stride == 1 else PadChannels(MaxPool2d(sums, 2), filters)
                self.conv(filters, 3, stride)
                sums = Add(self.sums(self.layer, filters, 3), shortcut)
                self.layer = self.activated(self.normed(sums))

    def real_blocks(self, numbers: Layer, stages: Sequence[int]) -> Layer:
        """Residual blocks, two a stage, with a shortcut around each convolution, of real numbers; from stage to stage
        the mean of 2 × 2 in 8 bits, through a convolution of 1 × 1."""
        for filters in stages:
            for _ in range(4):
                stride = 1 if numbers.shape[2] == filters else 2
                convolved = self.normed(self.sums(self.activated(numbers), filters, 3, stride))
                shortcut = numbers
                if stride == 2:
                    shortcut = self.normed(self.sums(self._means(numbers, 2), filters, 1))
                numbers = Add(convolved, shortcut)
        return numbers

    def _means(self, numbers: Layer, size: int) -> Quantise:
        """Means of size × size, in 8 bits."""
        scale = float(self.parameters.get(f"means{self.count}.scale", ()))
        with _named(f"means{self.count}.scale"):
            return Quantise(AvgPool2d(numbers, size), 8, scale, signed=True)

    def classify(self, numbers: Layer, classes: int) -> None:
        """The means of images, and what a linear layer of 8 bits makes of them."""
        means = Flatten(self._means(numbers, numbers.shape[0]))
        self.count += 1
        weights = self.parameters.get(f"linear{self.count}.weights8", (classes, means.shape[0]))
        with _named(f"linear{self.count}.weights8"):
            layer = Linear(means, weights, "i8")
        self.layer = self.normed(layer)

    def pool(self) -> None:
        """The largest of 2 × 2."""
        self.layer = MaxPool2d(self.layer, 2)

    def linear(self, outputs: int, last: bool = False) -> None:
        """A linear layer with its batch norm, and activation unless it is the last."""
        self.count += 1
        if len(self.layer.shape) == 3:
            self.layer = Flatten(self.layer)
        weights = self.parameters.get(f"linear{self.count}.weights", (outputs, self.layer.shape[0]))
        with _named(f"linear{self.count}.weights"):
            layer = Linear(self.layer, weights)
        if last:
            self.layer = self.normed(layer)
        else:
            self.layer = self.activated(self.normed(layer))


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


def _cifar10_resnet14(make: _Maker) -> None:
    make.whole_blocks(make.sums(make.layer, 128, 3), (128, 256, 512))
    make.linear(512)
    make.linear(10, last=True)


def _resnet18(make: _Maker) -> None:
    make.whole_blocks(make.sums(make.layer, 64, 7, stride=4), (64, 128, 256, 512))
    make.linear(512)
    make.linear(1000, last=True)


def _resnet18_bireal(make: _Maker) -> None:
    make.count += 1
    weights = make.parameters.get(f"conv{make.count}.weights8", (64, 7, 7, 3))
    with _named(f"conv{make.count}.weights8"):
        sums = Conv2d(make.layer, weights, "i8", stride=2, padding=3)
    make.classify(make.real_blocks(MaxPool2d(make.normed(sums), 3, 2, 1), (64, 128, 256, 512)), 1000)


NETWORKS: Mapping[str, tuple[tuple[int, ...], Callable[[_Maker], None]]] = MappingProxyType(
    {
        "mnist-mlp": ((28, 28, 1), _mnist_mlp),
        "cifar10-vgg": ((32, 32, 3), _cifar10_vgg),
        "cifar10-resnet14": ((32, 32, 3), _cifar10_resnet14),
        "alexnet": ((224, 224, 3), _alexnet),
        "vgg16": ((224, 224, 3), _vgg16),
        "resnet18": ((224, 224, 3), _resnet18),
        "resnet18-bireal": ((224, 224, 3), _resnet18_bireal),
    }
)
"""Name → the shape of its images, and what puts its layers on each other."""


@dataclass
class _Listed:
    """Parameters that remember what was asked for."""

    shapes: dict[str, tuple[int, ...]]

    def get(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        self.shapes[name] = shape
        return np.ones(shape, np.int8)


def parameter_shapes(name: str, bits: int = 1) -> dict[str, tuple[int, ...]]:
    """The arrays that a network needs, by name, with their shapes: weights of −1 and 1, weights8 of 8 bits with a sign,
    and numbers of batch norms.

    Filters are [filters, rows, columns, channels]; rows of weights behind a Flatten go through an image row by row,
    with channels last.

    Raises:
        InputError: as of `network`.

    Example:
        >>> shapes = parameter_shapes("mnist-mlp")
        >>> shapes["linear1.weights"], shapes["norm1.gamma"], len(shapes)
        ((1024, 784), (1024,), 20)
    """
    listed = _Listed({})
    network(name, listed, bits)
    return listed.shapes


def network(name: str, parameters: Parameters, bits: int = 1, *, mean: Any = None, std: Any = None) -> Layer:
    """The last layer of a network: its logits.

    bits: of activations: ±1, or numbers from 0 to 2^bits − 1. mean, std: if images come normalised (see `Input`).

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
    start: Layer = Input(shape, mean=mean, std=std)
    if name == "mnist-mlp":
        start = Flatten(start)
    maker = _Maker(start, parameters, bits)
    make(maker)
    return maker.layer
