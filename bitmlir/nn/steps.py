"""From a graph of layers to steps: each a program's operation, with all that is folded into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import InputError
from bitmlir.formats.packed import Packed, pack, unpack
from bitmlir.nn.fold import Thresholds, fold
from bitmlir.nn.layers import BatchNorm, Conv2d, Flatten, Input, Layer, Linear, MaxPool2d, Quantise, Sign

__all__ = ["Pool", "Product", "Program", "Start", "Step", "steps_of"]


@dataclass(frozen=True)
class Start:
    """Pack the input into planes. shape: of a vector or of an image that comes out.

    source: the shape of what goes in. size, stride, padding: of a window through which it is seen (see
    `bit.pack_patches`), if there is one.
    """

    shape: tuple[int, ...]
    codes: Encoding
    source: tuple[int, ...]
    size: tuple[int, int] | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True, eq=False)
class Product:
    """Multiply with weights, and make codes by thresholds, or numbers.

    shape: of a vector or of an image that comes out. weights: [O, K] of vectors, [O, R, S, C] of images. limits: int32
    [codes − 1, O]. signs: int32 [O] of −1 and 1, by which sums are multiplied first, where weights could not be. scale,
    bias: float32 [O], of real numbers. stride, padding, dilation: of images, as of `Conv2dSpec`.
    """

    shape: tuple[int, ...]
    weights: Packed
    codes: Encoding | None
    limits: np.ndarray | None = None
    signs: np.ndarray | None = None
    scale: np.ndarray | None = None
    bias: np.ndarray | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Pool:
    """Take the largest code that a window sees."""

    shape: tuple[int, ...]
    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]


Step = Start | Product | Pool

_FEW_CHANNELS = 64  # of images, of which words of bits would be mostly empty


@dataclass(frozen=True, eq=False)
class Program:
    """What computes a layer: steps, the layers on the way to it in order, and how many of them each step completes."""

    steps: list[Step]
    layers: list[Layer]
    completes: list[int]


def steps_of(output: Layer) -> Program:
    """The program that computes a layer.

    Raises:
        InputError: a layer cannot stand where it does.
    """
    layers: list[Layer] = [output]
    while (before := layers[-1].before) is not None:
        layers.append(before)
    layers.reverse()
    maker = _Maker(layers)
    return Program(maker.make(), layers, maker.completes)


class _Maker:
    """Goes through layers in order; a product takes those with it that follow and work on its sums."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers, self.at = layers, 0
        self.completes: list[int] = []

    def _next(self) -> Layer | None:
        return self.layers[self.at] if self.at < len(self.layers) else None

    def make(self) -> list[Step]:
        steps: list[Step] = []
        flat_from: tuple[int, ...] | None = None  # the shape of images that were flattened
        while (layer := self._next()) is not None:
            self.completes += [self.at] * (len(steps) - len(self.completes))
            self.at += 1
            if isinstance(layer, Input):
                flat = isinstance(self._next(), Flatten)  # which in memory they are already
                self.at += flat
                shape = self.layers[self.at - 1].shape
                steps.append(Start(shape, layer.codes, shape))
            elif isinstance(layer, Flatten):
                flat_from = steps[-1].shape
            elif isinstance(layer, MaxPool2d):
                size, stride, padding = layer.size, layer.stride, layer.padding
                steps.append(Pool(layer.shape, size, stride, padding))  # pyright: ignore[reportArgumentType]  # spread
            elif isinstance(layer, (Linear, Conv2d)):
                before, product = steps[-1], self._product(layer, steps[-1].shape, flat_from)
                if isinstance(before, Start) and isinstance(layer, Conv2d) and _is_narrow(layer):
                    steps[-1], product = _through_window(before, layer, product)
                steps.append(product)
                flat_from = None
            else:
                raise InputError(f"{layer.name} must follow a Linear or Conv2d, whose sums it works on")
        if flat_from is not None:
            raise InputError("a network cannot end in Flatten: leave it out")
        self.completes += [self.at] * (len(steps) - len(self.completes))
        return steps

    def _product(self, layer: Linear | Conv2d, shape: tuple[int, ...], flat_from: tuple[int, ...] | None) -> Product:
        followers: list[Layer] = []
        while isinstance(follower := self._next(), (BatchNorm, Sign, Quantise)) and (
            not followers or followers[-1].codes is None
        ):
            followers.append(follower)
            self.at += 1
        weights = layer.weights
        if isinstance(layer, Linear) and len(shape) == 3:  # images: a filter is as large as they are, or as a pixel
            weights = weights.reshape(-1, *(flat_from or shape))
        out_shape = layer.shape if isinstance(layer, Conv2d) or len(shape) == 1 else (1, 1, *layer.shape)
        steps = {}
        if isinstance(layer, Conv2d):
            steps = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
        encoding = Encoding.parse(layer.encoding)
        codes = followers[-1].codes if followers else None
        if codes is None:
            scale, bias = _affine(followers, layer)
            return Product(out_shape, pack(weights, encoding), None, scale=scale, bias=bias, **steps)
        assert layer.source.codes is not None
        largest = max(abs(layer.source.codes.minimum), abs(layer.source.codes.maximum))
        bounds = np.abs(weights).reshape(len(weights), -1).sum(1) * largest
        folded = fold(followers, bounds)
        weights, signs = _turned(weights, encoding, folded)
        limits = np.clip(folded.limits, -(2**31), 2**31 - 1).astype(np.int32)
        return Product(out_shape, pack(weights, encoding), codes, limits, signs, **steps)


def _is_narrow(layer: Conv2d) -> bool:
    """Whether patches of a convolution's images should be packed instead of pixels."""
    return layer.source.shape[2] < _FEW_CHANNELS and layer.dilation == (1, 1)


def _through_window(start: Start, layer: Conv2d, product: Product) -> tuple[Start, Product]:
    """A first convolution of few channels: patches are packed, and each is a pixel for filters of 1 × 1."""
    filters, rows, columns, channels = layer.weights.shape
    k = rows * columns * channels
    stride, padding = product.stride, product.padding
    seen = Start((*layer.window.places, k), start.codes, start.source, (rows, columns), stride, padding)
    weights = pack(unpack(product.weights).reshape(filters, 1, 1, k), product.weights.encoding)
    return seen, replace(product, weights=weights, stride=(1, 1), padding=(0, 0, 0, 0))


def _turned(weights: np.ndarray, encoding: Encoding, folded: Thresholds) -> tuple[np.ndarray, np.ndarray | None]:
    """Weights with their sign changed where channels fall; or signs for sums, if the encoding has no such weights."""
    if not folded.falls.any():
        return weights, None
    signs = np.where(folded.falls, -1, 1)
    if encoding.minimum == -encoding.maximum:
        return weights * signs.reshape(-1, *[1] * (weights.ndim - 1)), None
    return weights, signs.astype(np.int32)


def _affine(layers: Sequence[Layer], product: Layer) -> tuple[np.ndarray | None, np.ndarray | None]:
    """What batch norms make of sums in the end, as a scale and a bias in float32; None for the sums themselves."""
    if not layers:
        return None, None
    channels = product.shape[-1]
    scale, bias = np.ones(channels), np.zeros(channels)
    for layer in layers:
        assert isinstance(layer, BatchNorm)
        scale, bias = scale * layer.scale, (bias - layer.mean) * layer.scale + layer.beta
    return scale.astype(np.float32), bias.astype(np.float32)
