"""Layers of a network, each with what it computes, in plain numpy: integers exactly, real numbers in float64."""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from bitmlir import reference
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import EncodingError, InputError, ShapeError
from bitmlir.dialects.groups import group_encoding_fault, group_sizes_fault
from bitmlir.dialects.layout import LARGEST_SIZE
from bitmlir.dialects.window import Axis, Window
from bitmlir.formats.packed import whole_sizes
from bitmlir.spec_fields import require_sizes

__all__ = [
    "Add",
    "AvgPool2d",
    "BatchNorm",
    "Conv2d",
    "Flatten",
    "Input",
    "Layer",
    "Linear",
    "MaxPool2d",
    "PadChannels",
    "Quantise",
    "Sign",
]

Pair = int | tuple[int, int]

_MOST_BITS = 8  # of quantised activations


class Layer(ABC):
    """A layer: all but `Input` have sources, other ones whose numbers they take; most have one `source`."""

    @property
    def sources(self) -> tuple[Layer, ...]:
        """The layers whose numbers it takes."""
        source = getattr(self, "source", None)
        return () if source is None else (source,)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of what it yields, without the batch."""

    @property
    @abstractmethod
    def codes(self) -> Encoding | None:
        """The encoding of what it yields; None for sums and real numbers."""

    @property
    def is_real(self) -> bool:
        """Whether it yields real numbers, not integers."""
        return any(source.is_real for source in self.sources)

    @abstractmethod
    def apply(self, *x: np.ndarray) -> np.ndarray:
        """What it yields for a batch of what each of its sources does: integers as int64, real numbers as float64."""

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return type(self).__name__

    @property
    def title(self) -> str:
        """The same with its sizes, where a message is about one of a network's layers."""
        return f"{self.name}({'×'.join(map(str, self.shape))})"


@dataclass(frozen=True, eq=False)
class Input(Layer):
    """Images or vectors of pixels, numbers from 0 to 255: as uint8, or as float32 that a training has normalised.

    sizes: (height, width, channels), or (features,). mean, std: given both, the network takes float32 instead of uint8,
    (pixel/255 − mean)/std, as torchvision's ToTensor and Normalize make it; one number for all, or one a channel.

    Raises:
        ShapeError: another number of sizes, or a size below 1; mean or std of another shape.
        InputError: one of mean and std alone, or numbers that are not finite, or of std not positive, in float32.

    Example:
        >>> Input((28, 28, 1)).shape
        (28, 28, 1)
        >>> Input((3,), mean=0.5, std=0.25).apply(np.array([[-2, 0, 2.1]], np.float32))
        array([[  0, 128, 255]])
    """

    sizes: tuple[int, ...]
    mean: Any = field(default=None, kw_only=True, repr=False)
    std: Any = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", whole_sizes(self.sizes))
        if len(self.sizes) not in (1, 3) or min(self.sizes) < 1:
            raise ShapeError(f"an input has the shape (height, width, channels) or (features,), got {self.sizes}")
        if (self.mean is None) != (self.std is None):
            raise InputError("an input that is normalised has a mean and a std: give both, or none for uint8")
        if self.is_normalised:
            for name in ("mean", "std"):
                object.__setattr__(self, name, _per_channel(getattr(self, name), f"{name} of Input", self.sizes[-1]))
            if not (self.std > 0).all():
                raise InputError(f"the std of Input must be positive, got {self.std.min():g}")

    @property
    def is_normalised(self) -> bool:
        """Whether it takes float32."""
        return self.mean is not None

    @property
    def dtype(self) -> np.dtype:
        """The type of what it takes."""
        return np.dtype(np.float32 if self.is_normalised else np.uint8)

    def normalised(self, pixels: np.ndarray) -> np.ndarray:
        """What it takes for these pixels, uint8: themselves, or (pixel/255 − mean)/std."""
        return ((pixels / np.float32(255) - self.mean) / self.std).astype(np.float32) if self.is_normalised else pixels

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes."""
        return self.sizes

    @property
    def codes(self) -> Encoding:
        return Encoding.parse("u8")

    def apply(self, *x: np.ndarray) -> np.ndarray:
        (images,) = x
        if images.dtype != self.dtype:
            raise InputError(f"the input must be of type {self.dtype}, got {images.dtype}: convert it")
        if images.shape[1:] != self.shape:
            expected = f"(batch, {', '.join(map(str, self.shape))})"
            raise ShapeError(f"the input must have the shape {expected}, got {images.shape}")
        if not self.is_normalised:
            return images.astype(np.int64)
        with np.errstate(over="ignore", invalid="ignore"):
            pixels = (images * self.std + self.mean) * np.float32(255)
        return np.rint(np.fmin(np.fmax(pixels, np.float32(0)), np.float32(255))).astype(np.int64)  # NaN becomes 0


@dataclass(frozen=True, eq=False)
class Linear(Layer):
    """Sums of products with rows of weights: y[o] = Σ_k x[k]·weights[o, k].

    weights: integers [outputs, features], values of the encoding.

    Raises:
        ShapeError: weights of other features than the source has.
        EncodingError: weights outside the encoding; a source that yields no codes.
    """

    source: Layer = field(repr=False)
    weights: np.ndarray = field(repr=False)
    encoding: str | Encoding = "bipolar"

    def __post_init__(self) -> None:
        _adopt_weights(self)
        features = _require_codes(self).shape
        if self.weights.ndim != 2 or (self.weights.shape[1],) != features or not len(self.weights):
            raise ShapeError(f"weights of {self.name} must have the shape (outputs, {features[-1]}), got "
                             f"{self.weights.shape}: flatten what has several sizes")  # fmt: skip

    @property
    def shape(self) -> tuple[int, ...]:
        """(outputs,)"""
        return (self.weights.shape[0],)

    @property
    def title(self) -> str:
        return f"{self.name}({self.source.shape[-1]}→{self.shape[-1]})"

    @property
    def codes(self) -> None:
        return None

    def apply(self, *x: np.ndarray) -> np.ndarray:
        return reference.matmul(x[0], self.weights)


@dataclass(frozen=True, eq=False)
class Conv2d(Layer):
    """Sums of products with filters, channels last; what lies outside an image counts as 0 (see `Conv2dSpec`).

    weights: integers [filters, R, S, channels/groups], values of the encoding. padding: one number, (down, across) or
    (top, left, bottom, right). groups: of channels, and of filters, each of which sees the channels of its own alone.

    Raises:
        ShapeError: filters of other channels than a group of the source has, or that reach farther than the padded
            image; channels or filters that are no multiples of groups.
        EncodingError: weights outside the encoding, or in groups in `bipolar8`; a source that yields no codes.
    """

    source: Layer = field(repr=False)
    weights: np.ndarray = field(repr=False)
    encoding: str | Encoding = "bipolar"
    stride: Pair = 1
    padding: int | tuple[int, ...] = 0
    dilation: Pair = 1
    groups: int = 1

    def __post_init__(self) -> None:
        _adopt_weights(self)
        shape = _require_images(_require_codes(self), self.name)
        require_sizes(self, "groups")
        if self.weights.ndim == 4 and (fault := group_sizes_fault(self.groups, shape[2], len(self.weights))):
            raise ShapeError(f"{self.name}: {fault}")
        if fault := group_encoding_fault(self.groups, Encoding.parse(self.encoding)):
            raise EncodingError(f"{self.name}: {fault}")
        if self.weights.ndim != 4 or self.weights.shape[3] != shape[2] // self.groups or not self.weights.size:
            expected = f"(filters, R, S, {shape[2] // self.groups})"
            raise ShapeError(f"weights of {self.name} must have the shape {expected}, got {self.weights.shape}")
        for name, count in (("stride", 2), ("padding", 4), ("dilation", 2)):
            object.__setattr__(self, name, _spread(getattr(self, name), count, name, self.name))
        if min(self.window.places) < 1:
            raise ShapeError(f"filters of {self.weights.shape[1:3]} reach farther than padded images of {shape[:2]}")

    @cached_property
    def window(self) -> Window:
        """The window that moves over an image."""
        (height, width, _), (_, rows, columns, _) = self.source.shape, self.weights.shape
        (down, across), (dy, dx) = self.stride, self.dilation  # pyright: ignore[reportGeneralTypeIssues]  # spread
        top, left, bottom, right = self.padding  # pyright: ignore[reportGeneralTypeIssues]
        return Window(Axis(height, rows, down, top, bottom, dy), Axis(width, columns, across, left, right, dx))

    @property
    def shape(self) -> tuple[int, ...]:
        """(height, width, filters)"""
        return (*self.window.places, self.weights.shape[0])

    @property
    def title(self) -> str:
        return f"{self.name}({self.source.shape[-1]}→{self.shape[-1]})"

    @property
    def codes(self) -> None:
        return None

    def apply(self, *x: np.ndarray) -> np.ndarray:
        return reference.conv2d(x[0], self.weights, self.window, self.groups)


@dataclass(frozen=True, eq=False)
class BatchNorm(Layer):
    """gamma·(x − mean)/√(variance + epsilon) + beta, by channel, in float64.

    Raises:
        ShapeError: parameters that are not one number a channel.
        InputError: NaN or infinite parameters, or a variance that is not positive even with epsilon.
    """

    source: Layer = field(repr=False)
    gamma: np.ndarray = field(repr=False)
    beta: np.ndarray = field(repr=False)
    mean: np.ndarray = field(repr=False)
    variance: np.ndarray = field(repr=False)
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        _require_numbers(self, self.source)
        channels = self.source.shape[-1:]
        for name in ("gamma", "beta", "mean", "variance"):
            values = _array(getattr(self, name), f"{name} of {self.name}").astype(np.float64)
            if values.shape != channels:
                raise ShapeError(f"{name} of {self.name} must have the shape {channels}, got {values.shape}")
            if not np.isfinite(values).all():
                raise InputError(f"{name} of {self.name} must be finite, but of channel {_first_bad(values)} it is not")
            object.__setattr__(self, name, values)
        if not _is_number(self.epsilon):
            raise InputError(f"epsilon of {self.name} must be a number, got {self.epsilon!r}")
        if not (self.variance + self.epsilon > 0).all():
            bad = int(np.argmin(self.variance))
            found = f"of channel {bad} it is {self.variance[bad]:g}"
            raise InputError(f"the variance of {self.name} must be positive, but {found}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The source's."""
        return self.source.shape

    @property
    def codes(self) -> None:
        return None

    @property
    def is_real(self) -> bool:
        return True

    @cached_property
    def scale(self) -> np.ndarray:
        """gamma/√(variance + epsilon)"""
        return self.gamma / np.sqrt(self.variance + self.epsilon)

    def apply(self, *x: np.ndarray) -> np.ndarray:
        return (x[0] - self.mean) * self.scale + self.beta


@dataclass(frozen=True, eq=False)
class Add(Layer):
    """The sum of two layers that yield numbers, as at the end of a residual block.

    Raises:
        ShapeError: layers of different shapes.
        EncodingError: a layer that yields codes.
    """

    first: Layer = field(repr=False)
    second: Layer = field(repr=False)

    def __post_init__(self) -> None:
        for source in self.sources:
            _require_numbers(self, source)
        if self.first.shape != self.second.shape:
            raise ShapeError(
                f"Add needs layers of one shape, got {self.first.shape} and {self.second.shape}: see AvgPool2d, "
                f"MaxPool2d and PadChannels"
            )

    @property
    def sources(self) -> tuple[Layer, ...]:
        return self.first, self.second

    @property
    def shape(self) -> tuple[int, ...]:
        """That of both."""
        return self.first.shape

    @property
    def codes(self) -> None:
        return None

    def apply(self, *x: np.ndarray) -> np.ndarray:
        return x[0] + x[1]


@dataclass(frozen=True, eq=False)
class PadChannels(Layer):
    """Numbers of images with channels of zeros behind their own, up to so many (a shortcut of type A).

    Raises:
        ShapeError: a source without images, or with more channels. EncodingError: one that yields codes.
    """

    source: Layer = field(repr=False)
    channels: int

    def __post_init__(self) -> None:
        _require_numbers(self, self.source)
        _, _, channels = _require_images(self.source, self.name)
        more = _index(self.channels)
        if more is None or more < channels:
            raise ShapeError(f"PadChannels must reach {channels} channels at least, got {self.channels!r}")
        object.__setattr__(self, "channels", more)

    @property
    def shape(self) -> tuple[int, ...]:
        """(height, width, channels)"""
        return (*self.source.shape[:2], self.channels)

    @property
    def codes(self) -> None:
        return None

    def apply(self, *x: np.ndarray) -> np.ndarray:
        return np.pad(x[0], ((0, 0), (0, 0), (0, 0), (0, self.channels - x[0].shape[-1])))


@dataclass(frozen=True, eq=False)
class Sign(Layer):
    """1 where x ≥ 0, else −1."""

    source: Layer = field(repr=False)

    def __post_init__(self) -> None:
        _require_numbers(self, self.source)

    @property
    def shape(self) -> tuple[int, ...]:
        """The source's."""
        return self.source.shape

    @property
    def codes(self) -> Encoding:
        return Encoding.parse("bipolar")

    @property
    def is_real(self) -> bool:
        return False

    def apply(self, *x: np.ndarray) -> np.ndarray:
        return np.where(x[0] >= 0, 1, -1).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Quantise(Layer):
    """The whole number nearest to x/scale, of two the even one, from 0 to 2^bits − 1; with a sign from −2^(bits−1) to
    2^(bits−1) − 1, or if `narrow` from −(2^(bits−1) − 1).

    Raises:
        InputError: bits other than 1 to 8 (2 to 8 with a sign), narrow without a sign, or a scale that is not positive.

    Example:
        >>> numbers = Linear(Input((2,)), np.array([[1, 1], [-1, -1], [1, -1]]))
        >>> Quantise(numbers, 3, scale=2.0, signed=True).apply(np.array([[-9.0, 3.0, 5.1]]))
        array([[-4,  2,  3]])
    """

    source: Layer = field(repr=False)
    bits: int
    scale: float = 1.0
    signed: bool = False
    narrow: bool = False

    def __post_init__(self) -> None:
        _require_numbers(self, self.source)
        least, bits = 2 if self.signed else 1, _index(self.bits)
        if bits is None or not least <= bits <= _MOST_BITS:
            raise InputError(f"bits of {self.name} must be from {least} to {_MOST_BITS}, got {self.bits!r}")
        object.__setattr__(self, "bits", bits)
        if self.narrow and not self.signed:
            raise InputError(f"{self.name} is narrow with a sign alone: give signed=True, too")
        if not (_is_number(self.scale) and self.scale > 0):
            raise InputError(f"the scale of {self.name} must be a positive number, got {self.scale!r}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The source's."""
        return self.source.shape

    @property
    def codes(self) -> Encoding:
        return Encoding.parse(f"{'i' if self.signed else 'u'}{self.bits}")

    @property
    def is_real(self) -> bool:
        return False

    @property
    def ends(self) -> tuple[int, int]:
        """The smallest and the largest number."""
        return self.codes.minimum + self.narrow, self.codes.maximum

    def apply(self, *x: np.ndarray) -> np.ndarray:
        low, high = self.ends
        return np.rint(np.fmin(np.fmax(x[0] / self.scale, low), high)).astype(np.int64)  # NaN becomes the smallest


@dataclass(frozen=True, eq=False)
class _Pool2d(Layer):
    """What pools share. stride: the window's size if it is not given."""

    source: Layer = field(repr=False)
    size: Pair
    stride: Pair | None = None
    padding: int | tuple[int, ...] = 0

    def __post_init__(self) -> None:
        _require_layer(self)
        shape = _require_images(self.source, self.name)
        stride = self.size if self.stride is None else self.stride
        for name, value, count in (("size", self.size, 2), ("stride", stride, 2), ("padding", self.padding, 4)):
            object.__setattr__(self, name, _spread(value, count, name, self.name))
        if min(self.window.places) < 1 or not self.window.always_sees:
            raise ShapeError(f"a window of {self.size} with padding {self.padding} does not fit images of {shape[:2]}")

    @cached_property
    def window(self) -> Window:
        """The window that moves over an image."""
        height, width, _ = self.source.shape
        (rows, columns), (down, across) = self.size, self.stride  # pyright: ignore[reportGeneralTypeIssues]  # spread
        top, left, bottom, right = self.padding  # pyright: ignore[reportGeneralTypeIssues]
        return Window(Axis(height, rows, down, top, bottom), Axis(width, columns, across, left, right))

    @property
    def shape(self) -> tuple[int, ...]:
        """(height, width, channels)"""
        return (*self.window.places, self.source.shape[2])


class MaxPool2d(_Pool2d):
    """The largest number of each channel that a window sees; places outside the image are left out.

    stride: the window's size if it is not given.

    Raises:
        ShapeError: a source without images, or a window that does not fit.
    """

    @property
    def codes(self) -> Encoding | None:
        return self.source.codes

    def apply(self, *x: np.ndarray) -> np.ndarray:
        return reference.reduce_window(x[0], self.window, "max")


class AvgPool2d(_Pool2d):
    """The mean of the numbers of each channel that a window sees; places outside the image count as 0.

    stride: the window's size if it is not given.

    Raises:
        ShapeError: a source without images, or a window that does not fit. EncodingError: one that yields codes.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_numbers(self, self.source)

    @property
    def codes(self) -> None:
        return None

    @property
    def is_real(self) -> bool:
        return True

    def apply(self, *x: np.ndarray) -> np.ndarray:
        return reference.reduce_window(x[0], self.window, "sum") / self.window.taps


@dataclass(frozen=True, eq=False)
class Flatten(Layer):
    """All numbers of an image in a row, channels last."""

    source: Layer = field(repr=False)

    def __post_init__(self) -> None:
        _require_layer(self)

    @property
    def shape(self) -> tuple[int, ...]:
        """(features,)"""
        return (math.prod(self.source.shape),)

    @property
    def codes(self) -> Encoding | None:
        return self.source.codes

    def apply(self, *x: np.ndarray) -> np.ndarray:
        return x[0].reshape(x[0].shape[0], -1)


def _adopt_weights(layer: Linear | Conv2d) -> None:
    """Take weights as int16, which holds all that an encoding has, and the encoding as one."""
    _require_layer(layer)
    encoding, weights = Encoding.parse(layer.encoding), _array(layer.weights, f"weights of {layer.name}")
    if encoding.has_row_zeros:
        raise EncodingError(f"weights of {layer.name} cannot be '{encoding}': they have no zero point a row")
    is_whole = weights.dtype.kind in "iub" or (weights.dtype.kind == "f" and (weights == np.rint(weights)).all())
    if not is_whole:
        raise InputError(f"weights of {layer.name} must be whole numbers: scale them in a BatchNorm instead")
    if not _holds(encoding, weights):
        values = range(encoding.minimum, encoding.maximum + 1, encoding.scale)
        stray = weights[~np.isin(weights, values)][0]
        raise EncodingError(f"weights of {layer.name} must be values of '{encoding}', but {stray} is none")
    object.__setattr__(layer, "weights", weights.astype(np.int16))
    object.__setattr__(layer, "encoding", encoding)


def _holds(encoding: Encoding, whole: np.ndarray) -> bool:
    """Whether all of these whole numbers are values of an encoding."""
    if whole.size and not encoding.minimum <= whole.min() <= whole.max() <= encoding.maximum:
        return False
    steps = whole.astype(np.int16) - encoding.minimum
    return encoding.scale == 1 or not (steps & (encoding.scale - 1)).any()


def _require_layer(layer: Layer) -> None:
    for source in layer.sources or (None,):
        if not isinstance(source, Layer):
            raise InputError(f"{layer.name} follows a layer, got {type(source).__name__}")


def _require_numbers(layer: Layer, source: Layer) -> None:
    """Refuse a source that yields codes."""
    if not isinstance(source, Layer):
        raise InputError(f"{layer.name} follows a layer, got {type(source).__name__}")
    if source.codes is not None:
        raise EncodingError(f"{layer.name} needs numbers, but {source.name} yields codes: take what it is made of")


def _require_codes(layer: Linear | Conv2d) -> Layer:
    """The source of a layer that needs codes."""
    _require_layer(layer)
    if layer.source.codes is None:
        raise EncodingError(
            f"{layer.name} needs codes of a few bits, but {layer.source.name} yields sums: put a Sign or Quantise "
            f"between them"
        )
    return layer.source


def _require_images(source: Layer, name: str) -> tuple[int, int, int]:
    if len(source.shape) != 3:
        raise ShapeError(f"{name} needs images (height, width, channels), but {source.name} yields {source.shape}")
    height, width, channels = source.shape
    return height, width, channels


def _spread(value: Any, count: int, name: str, layer: str) -> tuple[int, ...]:
    """A number, or some, as `count` of them: (down, across) stand for both sides each."""
    least = 0 if name == "padding" else 1
    given = value if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    numbers = [_index(number) for number in given]
    if len(numbers) == 2 < count:
        numbers *= 2
    whole = tuple(number for number in numbers if number is not None and least <= number <= LARGEST_SIZE)
    if len(numbers) != count or len(whole) != count:
        some = "2 or 4" if count == 4 else count
        raise ShapeError(
            f"{name} of {layer} must be a whole number from {least} to {LARGEST_SIZE}, or {some} of them, got {value!r}"
        )
    return whole


def _index(value: Any) -> int | None:
    """A whole number of any type as one of Python's; None for anything else, truth values too."""
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _is_number(value: Any) -> bool:
    """Whether a value is one finite real number."""
    return isinstance(value, (int, float, np.integer, np.floating)) and math.isfinite(value)


def _array(values: Any, what: str) -> np.ndarray:
    """An array of real numbers."""
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{what} must be an array of numbers, got {type(values).__name__} of {array.dtype}")
    return array


def _per_channel(values: Any, what: str, channels: int) -> np.ndarray:
    """Numbers as float32, one a channel."""
    with np.errstate(over="ignore"):
        array = _array(values, what).astype(np.float32)
    if array.shape not in ((), (channels,)):
        raise ShapeError(f"{what} must be one number, or have the shape ({channels},), got {array.shape}")
    if not np.isfinite(array).all():
        raise InputError(f"{what} must be finite in float32")
    return np.broadcast_to(array, channels)


def _first_bad(values: np.ndarray) -> int:
    return int(np.flatnonzero(~np.isfinite(values))[0])
