"""Where the taps of a window lie: what the kernels of convolutions and pools on all targets compute with."""

from __future__ import annotations

from bitmlir.dialects.window import Axis, Window
from bitmlir.lowering.emit import Scalar, select

__all__ = ["pixel_at", "place_in_image"]


def place_in_image(window: Window, place: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """The image, row and column of an output place, which are numbered through all images."""
    height, width = window.places
    return place // (height * width), place // width % height, place % width


def pixel_at(
    window: Window, place: tuple[Scalar, Scalar, Scalar], r: Scalar, s: Scalar, outside: Scalar | int
) -> tuple[Scalar, Scalar]:
    """Whether a tap lies inside the image at an output place, and the number of the pixel there, else `outside`."""
    image, y, x = place
    row, column = _position(window.rows, y, r), _position(window.columns, x, s)
    inside = (row < window.rows.size) & (column < window.columns.size)
    pixel = image * (window.rows.size * window.columns.size) + row * window.columns.size + column
    return inside, select(inside, pixel, outside)


def _position(axis: Axis, place: Scalar, tap: Scalar) -> Scalar:
    """Where a tap lies in the image; outside it, a number past its end, since numbers are unsigned."""
    return place * axis.stride + tap * axis.dilation - axis.before
