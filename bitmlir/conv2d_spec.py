"""What a convolution of packed images is to compute."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import EncodingError, ShapeError
from bitmlir.dialects.groups import group_encoding_fault, group_sizes_fault
from bitmlir.dialects.layout import LARGEST_SIZE
from bitmlir.dialects.window import Axis, Window
from bitmlir.spec import MatmulSpec
from bitmlir.spec_fields import adopt_fields, require_sizes

__all__ = ["Conv2dSpec"]

Pair = int | tuple[int, int]


@dataclass(frozen=True)
class Conv2dSpec:
    """A convolution of images with filters, channels last.

    acc[n, p, q, o] = Σ_{r, s, c} lhs[n, p·sy − top + r·dy, q·sx − left + s·dx, c]·rhs[o, r, s, c], in int32

    lhs is images×height×width×channels, rhs filters×R×S×channels and the result images×P×Q×filters. Places outside an
    image are left out of the sum: they count as 0 in every encoding, for ±1 too.

    groups: channels and filters are parted into so many groups, in order. A filter sees the channels of its group
    alone, so that rhs is filters×R×S×(channels/groups); with a group for each channel the convolution is depthwise. It
    is computed with filters that are 0 in all other channels, and takes as long as one without groups; in `bipolar<p>`,
    which has no 0, as one with i<p+1>.

    size: (R, S), or one number for both; stride, dilation: down and across, or one number; padding: one number for all
    sides, (down, across), or (top, left, bottom, right). Numbers are kept as tuples of all.

    The other fields are those of `MatmulSpec`: what is given by column is given by filter there, a residual has the
    result's shape, and encodings cannot be `u<p>@row`.

    Raises:
        ShapeError: a size below 1, a filter that reaches farther than the padded image, too many pixels or taps,
            channels or filters that are no multiples of the groups, or sums that could leave int32, or int16 for `i16`.
            (Where a target has no kernel that gathers patches itself, they lie in memory, and compiling refuses 8 GiB
            of them or more; likewise of filters in groups, once they have all channels.)
        EncodingError: an unknown encoding, or one that no operand or no result can have; `bipolar8` for filters in
            groups.
        InputError: as of `MatmulSpec`.

    Example:
        >>> import bitmlir
        >>> spec = Conv2dSpec(1, height=2, width=2, channels=1, filters=1, lhs="bipolar", rhs="bipolar", padding=1)
        >>> spec.out_shape
        (1, 2, 2, 1)
        >>> convolve = bitmlir.compile(spec, target="cpu")
        >>> convolve([[[[1], [1]], [[-1], [1]]]], [[[[1]] * 3] * 3])[0, ..., 0]
        array([[2, 2],
               [2, 2]], dtype=int32)
    """

    images: int
    height: int
    width: int
    channels: int
    filters: int
    lhs: str | Encoding
    rhs: str | Encoding
    out: str = "i32"
    size: Pair = 3
    stride: Pair = 1
    padding: int | tuple[int, ...] = 0
    dilation: Pair = 1
    groups: int = 1
    column_scale: bool = False
    bias: bool = False
    residual: str | None = None
    relu: bool = False

    def __post_init__(self) -> None:
        require_sizes(self, "images", "height", "width", "channels", "filters", "groups")
        for name in ("size", "stride", "dilation"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name), (2,), least=1))
        padding = _numbers("padding", self.padding, (2, 4), least=0)
        object.__setattr__(self, "padding", padding if len(padding) == 4 else padding * 2)
        if min(self.window.places) < 1:
            reach = f"{self.window.rows.reach}×{self.window.columns.reach}"
            raise ShapeError(
                f"the filter reaches over {reach}, farther than images of {self.height}×{self.width} with padding "
                f"{self.padding}: pad them, or take a smaller size or dilation"
            )
        height, width = self.window.places
        for count, what, rows, columns in (
            (self.images, "images", self.height, self.width),
            (self.images, "results", height, width),
            (self.filters, "filters", self.window.rows.taps, self.window.columns.taps),
        ):
            if count * rows * columns > LARGEST_SIZE:
                raise ShapeError(f"{count} {what} of {rows}×{columns} have more than {LARGEST_SIZE} pixels")
        if self.window.taps * self.channels > LARGEST_SIZE:
            taps = f"{self.window.rows.taps}×{self.window.columns.taps}"
            raise ShapeError(f"filters of {taps}×{self.channels} are too large: {LARGEST_SIZE} numbers are the limit")
        if fault := group_sizes_fault(self.groups, self.channels, self.filters):
            raise ShapeError(fault)
        adopt_fields(self, self.product)
        for name in ("lhs", "rhs"):
            if Encoding.parse(getattr(self, name)).has_row_zeros:
                raise EncodingError(
                    f"{name}={getattr(self, name)!r} would need a zero point for each pixel: use u<p>@z"
                )

        if fault := group_encoding_fault(self.groups, Encoding.parse(self.rhs)):
            raise EncodingError(fault)

    @property
    def filter_shape(self) -> tuple[int, int, int, int]:
        """The shape of the filters: how many, height, width, channels of a group."""
        return (self.filters, self.window.rows.taps, self.window.columns.taps, self.channels // self.groups)

    @cached_property
    def window(self) -> Window:
        """The window that moves over an image."""
        (rows, columns), (down, across), (dy, dx) = self._pairs
        top, left, bottom, right = self._padding
        return Window(
            Axis(self.height, rows, down, top, bottom, dy), Axis(self.width, columns, across, left, right, dx)
        )

    @property
    def _pairs(self) -> tuple[tuple[int, int], ...]:
        return tuple(getattr(self, name) for name in ("size", "stride", "dilation"))

    @property
    def _padding(self) -> tuple[int, int, int, int]:
        return self.padding  # pyright: ignore[reportReturnType]  # four numbers once the spec is made

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        """The shape of the result: images, height, width, filters."""
        return (self.images, *self.window.places, self.filters)

    @cached_property
    def product(self) -> MatmulSpec:
        """The product of as many rows as the result has places, and as many elements a row as a filter has."""
        images, height, width, filters = self.out_shape
        return MatmulSpec(
            images * height * width,
            filters,
            math.prod(self.filter_shape[1:]),
            self.lhs,
            self.rhs,
            self.out,
            column_scale=self.column_scale,
            bias=self.bias,
            residual=self.residual,
            relu=self.relu,
        )

    @property
    def operations(self) -> int:
        """2·places·filters·taps·channels of a group, what speeds are counted in; taps outside an image count."""
        return self.product.operations


def _numbers(name: str, value: Any, counts: tuple[int, ...], least: int) -> tuple[int, ...]:
    """A field as so many numbers; one stands for two.

    Raises:
        ShapeError: other numbers, or others than `counts` of them.
    """
    given = tuple(value) if isinstance(value, (tuple, list)) else (value,) * 2
    try:
        numbers = tuple(operator.index(number) for number in given if not isinstance(number, bool))
    except TypeError:
        numbers = ()
    if len(numbers) != len(given) or len(numbers) not in counts or not all(least <= n <= LARGEST_SIZE for n in numbers):
        expected = f"a whole number from {least} on, or {' or '.join(map(str, counts))} of them"
        raise ShapeError(f"{name} must be {expected}, got {value!r}")
    return numbers
