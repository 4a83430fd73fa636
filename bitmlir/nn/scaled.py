"""A layer with what makes real numbers of its own: a scale and an offset, which batch norms and quantisers change."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import numpy as np

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import EncodingError, InputError, ShapeError
from bitmlir.dialects.window import Axis, Window
from bitmlir.nn.layers import BatchNorm, Conv2d, Layer, Linear, MaxPool2d, Quantise, Sign
from bitmlir.nn.onnx_graph import Constant

__all__ = ["ONE", "ZERO", "Pool", "Quantiser", "Tensor", "as_sums", "code_range", "narrowest"]

ONE, ZERO = np.array(1.0), np.array(0.0)


@dataclass(frozen=True)
class Pool:
    """The window of a pooling. padding: top, left, bottom, right."""

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]

    def window(self, image: tuple[int, ...]) -> Window:
        """The window, as it moves over images of that shape."""
        top, left, bottom, right = self.padding
        rows = Axis(image[0], self.size[0], self.stride[0], top, bottom)
        return Window(rows, Axis(image[1], self.size[1], self.stride[1], left, right))

    def largest(self, layer: Layer) -> Layer:
        """The largest numbers it sees of a layer's images."""
        return MaxPool2d(layer, self.size, self.stride, self.padding)


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the graph: scale · number + offset, of the numbers a layer yields.

    scale, offset: float64, one for all or one a channel. is_cut_at_zero, pools: what is to be done to the real numbers
    still, a Relu and max poolings. They wait for a quantiser, with which they may trade places, since it never falls.
    is_flat: images are a vector. has_channels_last: images are so in the file, too.
    """

    layer: Layer
    scale: np.ndarray
    offset: np.ndarray
    is_cut_at_zero: bool = False
    pools: tuple[Pool, ...] = ()
    is_flat: bool = False
    has_channels_last: bool = False

    @property
    def image(self) -> tuple[int, ...]:
        """The shape as layers have it, after the poolings."""
        shape = self.layer.shape
        for pool in self.pools:
            shape = (*pool.window(shape).places, shape[2])
        return shape

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the file, with a batch of 1."""
        if len(self.image) == 1 or self.is_flat:
            return (1, math.prod(self.image))
        height, width, channels = self.image
        return (1, height, width, channels) if self.has_channels_last else (1, channels, height, width)

    @property
    def is_pending(self) -> bool:
        """Whether a quantiser is waited for."""
        return self.is_cut_at_zero or bool(self.pools)

    def by_channel(self, constant: Constant) -> np.ndarray:
        """A constant that meets each number of the tensor: one number, or one a channel.

        Raises:
            ShapeError: it does not fit. InputError: numbers of one channel meet different ones, or one is not finite.
        """
        value = constant.finite()
        if value.size == 1:
            return value.reshape(())
        try:
            value = np.broadcast_to(value, self.shape)
        except ValueError as error:
            raise ShapeError(f"'{constant.name}' of shape {value.shape} does not fit {self.shape}") from error
        channels = self.image[-1]
        value = value.reshape(-1, channels).T if self.has_channels_last else value.reshape(channels, -1)
        if (value != value[:, :1]).any():
            raise InputError(f"'{constant.name}' differs from place to place within a channel, which cannot be folded: "
                             f"give one number a channel")  # fmt: skip
        return value[:, 0]

    def times_plus(self, factor: np.ndarray, more: np.ndarray) -> Tensor:
        """factor · tensor + more."""
        if not (np.isfinite(factor).all() and np.isfinite(more).all()):
            raise InputError("the result is not finite: a constant is 0 or too large")
        if self.is_cut_at_zero and ((factor < 0).any() or (more != 0).any()):
            raise InputError(
                "it follows a Relu that no quantiser follows: put it before the Relu, or a Quant between them"
            )
        start = self.with_numbers() if self.pools and (factor < 0).any() else self
        return replace(start, scale=start.scale * factor, offset=start.offset * factor + more)

    def with_numbers(self) -> Tensor:
        """The same with a layer that yields the real numbers."""
        if self.is_cut_at_zero:
            raise InputError("a Relu needs a Quant without a sign after it")
        if not self.pools and (self.scale == 1).all() and (self.offset == 0).all():
            return self
        layer = functools.reduce(lambda layer, pool: pool.largest(layer), self.pools, self.affine())
        return replace(self, layer=layer, scale=ONE, offset=ZERO, pools=())

    def affine(self) -> Layer:
        """scale · number + offset as a layer that yields sums or real numbers."""
        layer = as_sums(self.layer)
        if (self.scale == 1).all() and (self.offset == 0).all():
            return layer
        channels = layer.shape[-1:]
        scale, offset = np.broadcast_to(self.scale, channels), np.broadcast_to(self.offset, channels)
        return BatchNorm(layer, scale, offset, np.zeros(channels), np.ones(channels), 0.0)

    def quantised(self, quantiser: Quantiser) -> Tensor:
        """The codes of a quantiser, as real numbers."""
        scale = np.array(quantiser.scale)
        if self.layer.codes is not None and not self.is_pending and self.scale.ndim == self.offset.ndim == 0:
            numbers = _numbers(self.layer.codes)
            shift = quantiser.codes_of(self.scale * numbers + self.offset) - numbers
            if (shift == shift[0]).all():  # the codes are there already
                return replace(self, scale=scale, offset=scale * shift[0])
        if self.is_cut_at_zero and quantiser.is_signed:
            raise InputError("after a Relu it needs no sign: export it with signed = 0")
        layer = functools.reduce(lambda layer, pool: pool.largest(layer), self.pools, quantiser.after(self.affine()))
        return replace(self, layer=layer, scale=scale, offset=ZERO, is_cut_at_zero=False, pools=())

    def is_like(self, other: Tensor) -> bool:
        """Whether the layer's numbers can be added to another one's as they are."""
        sides = (self, other)
        if any(side.is_pending or side.scale.ndim or side.offset.any() for side in sides):
            return False
        return bool(self.scale == other.scale)

    def codes(self) -> tuple[Layer, float, float]:
        """A layer of codes, and the scale and the offset of all of them.

        Raises:
            EncodingError: there are none. InputError: channels have scales of their own.
        """
        if self.layer.codes is None or self.is_pending:
            raise EncodingError(
                "it needs codes of a few bits, but gets real numbers: put a Quant or BipolarQuant before it"
            )
        for what, values in (("scales", self.scale), ("offsets", self.offset)):
            if (values != values.flat[0]).any():
                raise InputError(f"what it gets has {what} of its own in each channel, which cannot be "
                                 f"folded into sums over channels: use one a tensor")  # fmt: skip
        return self.layer, float(self.scale.flat[0]), float(self.offset.flat[0])


@dataclass(frozen=True)
class Quantiser:
    """The nearest whole number to x/scale, clipped to what the bits hold; or the sign of x."""

    bits: int
    scale: float
    is_signed: bool
    is_narrow: bool
    is_sign: bool

    def codes_of(self, real: np.ndarray) -> np.ndarray:
        """The codes of real numbers."""
        if self.is_sign:
            return np.where(real >= 0, 1, -1)
        return np.clip(np.rint(real / self.scale), *code_range(self.bits, self.is_signed, self.is_narrow)).astype(
            np.int64
        )

    def after(self, sums: Layer) -> Layer:
        """The layer that makes codes of real numbers."""
        if self.is_sign:
            return Sign(sums)
        return Quantise(sums, self.bits, self.scale, self.is_signed, self.is_narrow)


def code_range(bits: int, is_signed: bool, is_narrow: bool) -> tuple[int, int]:
    """The least and the largest code."""
    if is_signed:
        return -(2 ** (bits - 1)) + is_narrow, 2 ** (bits - 1) - 1
    return 0, 2**bits - 1 - is_narrow


_ENCODINGS = ("bipolar", "u1", "ternary", *(f"{kind}{bits}" for bits in range(2, 9) for kind in ("i", "u", "bipolar")))


def narrowest(weights: np.ndarray) -> Encoding:
    """The encoding of the fewest bits that has all of these numbers."""
    low, high = int(weights.min()), int(weights.max())
    for encoding in map(Encoding.parse, _ENCODINGS):
        if encoding.minimum <= low and high <= encoding.maximum and np.isin(weights, _numbers(encoding)).all():
            return encoding
    raise EncodingError(f"its weights go from {low} to {high}, which 8 bits do not hold: quantise them to fewer")


def _numbers(encoding: Encoding) -> np.ndarray:
    """All numbers of an encoding, in order."""
    return np.arange(encoding.minimum, encoding.maximum + 1, encoding.scale)


def as_sums(layer: Layer) -> Layer:
    """Codes as sums of themselves alone, which can be scaled and quantised anew: products with an identity matrix."""
    if layer.codes is None:
        return layer
    channels = layer.shape[-1]
    identity = np.eye(channels, dtype=np.int64)
    encoding = narrowest(identity)
    if len(layer.shape) == 1:
        return Linear(layer, identity, encoding)
    return Conv2d(layer, identity.reshape(channels, 1, 1, channels), encoding)
