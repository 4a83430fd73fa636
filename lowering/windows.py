"""Where the taps of a window lie: what the kernels of convolutions and pools on all targets compute with."""

from __future__ import annotations

from collections.abc import Callable

from mlir import ir
from mlir.dialects import vector

from bitmlir.dialects.window import Axis, Window
from bitmlir.lowering.emit import Carried, Scalar, const, for_loop, i32, select
from bitmlir.lowering.targets import Target

__all__ = ["class_number", "class_taps", "gathers", "pixel_at", "place_in_image", "window_sum"]

_FEW_TAPS = 4  # of a row, which need no loop


def gathers(target: Target, window: Window) -> bool:
    """Whether products for a target gather what a window sees themselves."""
    return target.is_gpu and (target.copy != "tma" or window.im2col_fault is None)


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


def class_number(window: Window, place: ir.Value) -> ir.Value:
    """The number of the class that an output place is of, an index; of a vector of places, that of each."""
    if isinstance(place.type, ir.VectorType):
        (lanes,) = ir.VectorType(place.type).shape
        numbers = [class_number(window, vector.extract(place, [], [lane])) for lane in range(lanes)]
        return vector.from_elements(place.type, numbers)
    _, y, x = place_in_image(window, Scalar(place).to_i32())
    number = _class(window.rows, y) * len(window.columns.classes) + _class(window.columns, x)
    return number.to_index().value


def window_sum(window: Window, place: ir.Value, read: Callable[[Scalar], Scalar]) -> ir.Value:
    """The sum of the numbers of the pixels that a window sees at a place, an index; of a vector of places, of each.

    read(pixel): the number of a pixel.
    """
    if isinstance(place.type, ir.VectorType):
        (lanes,) = ir.VectorType(place.type).shape
        sums = [window_sum(window, vector.extract(place, [], [lane]), read) for lane in range(lanes)]
        return vector.from_elements(ir.VectorType.get([lanes], i32()), sums)
    where = place_in_image(window, Scalar(place).to_i32())

    def add(r: Scalar, s: Scalar, total: Carried) -> Carried:
        inside, pixel = pixel_at(window, where, r, s, outside=0)
        return [(Scalar(total[0]) + select(inside, read(pixel), 0)).value]

    def add_row(r: Scalar, total: Carried) -> Carried:
        if window.columns.taps > _FEW_TAPS:
            return for_loop(const(0), const(window.columns.taps), const(1), total, lambda s, so_far: add(r, s, so_far))
        for s in range(window.columns.taps):
            total = add(r, const(s), total)
        return total

    # Rows in a loop: warps that only prepare things have few registers.
    return for_loop(const(0), const(window.rows.taps), const(1), [const(0).value], add_row)[0]


def class_taps(axis: Axis, number: Scalar) -> tuple[Scalar, Scalar]:
    """The first of the taps that lie inside along an axis, for a class of that number, and the one past the last."""
    first, *others = axis.classes
    start, stop = const(first.start, number.value.type), const(first.stop, number.value.type)
    for other, taps in enumerate(others, start=1):
        reached = number.equals(other)
        start, stop = select(reached, taps.start, start), select(reached, taps.stop, stop)
    return start, stop


def _class(axis: Axis, place: Scalar) -> Scalar:
    """The number of the class of a place along an axis."""
    number = const(0)
    for first in axis.first_places[1:]:
        number = number + select(place < first, 0, const(1))
    return number
