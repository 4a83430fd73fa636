"""Moving operands to the GPU once, to use them often."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from bitmlir.dialects.errors import InputError
from bitmlir.formats.packed import Packed
from bitmlir.formats.tiles import TileBitmap

__all__ = ["to_device"]

Operand = TypeVar("Operand", Packed, TileBitmap)


def to_device(operand: Operand) -> Operand:
    """A copy of a packed matrix or a tile bitmap whose arrays lie in the current GPU's memory.

    Raises:
        InputError: something else.
        DeviceError: no GPU, or not enough memory on it, in which case none of it stays in use.

    Example:
        >>> from bitmlir import pack
        >>> weights = to_device(pack([[1, -1, 1]], "bipolar"))  # doctest: +SKIP
        >>> type(weights.planes).__name__  # doctest: +SKIP
        'DeviceArray'
    """
    from bitmlir.runtime.driver import DeviceArray

    def moved(array: Any) -> Any:
        return None if array is None else DeviceArray.from_numpy(array)

    if not isinstance(operand, (Packed, TileBitmap)):
        raise InputError(f"to_device takes a Packed matrix or a TileBitmap, got {type(operand).__name__}")
    if isinstance(operand, TileBitmap):
        return dataclasses.replace(operand, words=moved(operand.words))
    return dataclasses.replace(operand, **{name: moved(getattr(operand, name)) for name in ("planes", "sums", "zeros")})
