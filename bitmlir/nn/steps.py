"""Steps of a network: each one operation of its program, with all layers that are folded into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bitmlir.dialects.encoding import Encoding
from bitmlir.formats.packed import Packed
from bitmlir.nn.layers import Input, Layer

__all__ = [
    "Affine",
    "Codes",
    "Epilogue",
    "Limits",
    "Numbers",
    "Plus",
    "Pool",
    "Product",
    "Program",
    "Reduce",
    "Rounding",
    "Start",
    "Step",
]


@dataclass(frozen=True, eq=False)
class Codes:
    """Packed vectors or images that a step leaves: those of a layer."""

    shape: tuple[int, ...]
    encoding: Encoding
    layer: Layer


@dataclass(frozen=True, eq=False)
class Numbers:
    """Plain vectors or images that a step leaves: those of a layer, integers less `origin`.

    element: i8, i16, i32, f16 or f32. bounds: the least and the greatest number of each channel, int64 [channels],
    float32 of real numbers. origin: int64 [channels]; None for zeros.
    """

    shape: tuple[int, ...]
    element: str
    layer: Layer
    bounds: tuple[np.ndarray, np.ndarray]
    origin: np.ndarray | None = None

    @property
    def is_real(self) -> bool:
        """Whether they are floats."""
        return self.element.startswith("f")


@dataclass(frozen=True, eq=False)
class Affine:
    """x·scale + bias, in float32, by channel."""

    scale: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True, eq=False)
class Plus:
    """x + what lies at the same place."""

    numbers: Numbers


@dataclass(frozen=True, eq=False)
class Limits:
    """Codes by comparison: see `bitmlir.nn.fold.Thresholds`.

    limits: int32 or float32 [codes − 1, channels]. signs: of −1 and 1, int32 or float32 [channels], by which numbers
    are multiplied first. lowest: the first code, as a number of two's complement.
    """

    limits: np.ndarray
    signs: np.ndarray | None
    lowest: int


@dataclass(frozen=True)
class Rounding:
    """Codes by rounding in float32: the whole number nearest to x/scale, clipped to the ends."""

    scale: float
    ends: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Epilogue:
    """What becomes of a number: terms are applied to it in turn, then it is stored, or codes are made of it, or both.

    is_real: whether it becomes a float32 first. shift: int32 [channels], which is taken from integers first; None for
    zeros. numbers, codes: what is stored. coding: how codes are made. coders: the layers that say how.
    """

    is_real: bool = False
    shift: np.ndarray | None = None
    terms: tuple[Affine | Plus, ...] = ()
    numbers: Numbers | None = None
    codes: Codes | None = None
    coding: Limits | Rounding | None = None
    coders: tuple[Layer, ...] = ()

    @property
    def results(self) -> list[Codes | Numbers]:
        """What is stored: codes, then numbers."""
        return [value for value in (self.codes, self.numbers) if value is not None]


@dataclass(frozen=True)
class Start:
    """Pack the input into planes.

    source: the shape of what goes in. size, stride, padding: of a window through which it is seen (see
    `bit.pack_patches`), if there is one.
    """

    codes: Codes
    source: tuple[int, ...]
    layers: tuple[Layer, ...]
    size: tuple[int, int] | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def results(self) -> list[Codes | Numbers]:
        """The codes."""
        return [self.codes]


@dataclass(frozen=True, eq=False)
class Product:
    """Multiply with weights: [O, K] of vectors, [O, R, S, C/groups] of images.

    layers: those that it computes, the product first. stride, padding, dilation, groups: of images, as of `Conv2dSpec`.
    """

    source: Codes
    shape: tuple[int, ...]
    weights: Packed
    epilogue: Epilogue
    layers: tuple[Layer, ...]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def results(self) -> list[Codes | Numbers]:
        """What it leaves."""
        return self.epilogue.results


@dataclass(frozen=True, eq=False)
class Pool:
    """Take the largest code that a window sees."""

    source: Codes
    codes: Codes
    layers: tuple[Layer, ...]
    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]

    @property
    def results(self) -> list[Codes | Numbers]:
        """The codes."""
        return [self.codes]


@dataclass(frozen=True, eq=False)
class Reduce:
    """Take the largest number that a window sees, or add them up; one of 1 × 1 takes each number as it is."""

    source: Numbers
    shape: tuple[int, ...]
    reduction: str
    epilogue: Epilogue
    layers: tuple[Layer, ...]
    size: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def results(self) -> list[Codes | Numbers]:
        """What it leaves."""
        return self.epilogue.results


Step = Start | Product | Pool | Reduce


@dataclass(frozen=True, eq=False)
class Program:
    """What computes a layer: steps in order, and what the last of them leaves for it."""

    steps: Sequence[Step]
    output: Codes | Numbers
    input: Input = field(repr=False)
