"""How bytes of images are laid out for the int8 unit: rows of a filter's taps, four bytes at a time."""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir

from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.layout import ceil_div
from bitmlir.dialects.window import Window
from bitmlir.lowering.targets import Target

__all__ = ["GROUP_BYTES", "STEP_BYTES", "ByteLayout", "suits_bytes"]

GROUP_BYTES = 4  # of a register
STEP_BYTES = 32  # of K, that one matrix instruction multiplies
_MOST_COLUMNS = 128
_MOST_BYTES = 1 << 31  # of images, and of a row with what windows reach beside it: counted in 32 bits


@dataclass(frozen=True)
class ByteLayout:
    """K as the kernel sees it: each row of taps, whose channels lie side by side in the image, in whole groups of four
    bytes; what is too much meets weights of 0.

    window, channels: of the images. filters: as many columns.
    """

    window: Window
    channels: int
    filters: int

    @staticmethod
    def of(op: bit.PlaneByteConvOp) -> ByteLayout:
        """That of an operation."""
        channels, filters = (ir.MemRefType(operand.type).shape[1] for operand in (op.source, op.rhs))
        return ByteLayout(bit.window_in(op.window), channels, filters)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of taps."""
        return self.window.columns.taps * self.channels

    @property
    def row_groups(self) -> int:
        """Groups of a row of taps."""
        return ceil_div(self.row_bytes, GROUP_BYTES)

    @property
    def steps(self) -> int:
        """Matrix instructions along K."""
        return ceil_div(self.window.rows.taps * self.row_groups * GROUP_BYTES, STEP_BYTES)

    @property
    def columns(self) -> int:
        """Columns of a tile, which has all filters: a whole number of words."""
        return ceil_div(self.filters, 32) * 32

    @property
    def weight_bytes(self) -> int:
        """Bytes of all filters in shared memory."""
        return self.columns * self.steps * STEP_BYTES


def suits_bytes(target: Target, layout: ByteLayout, images: int, weights: Encoding) -> bool:
    """Whether the int8 unit can multiply images of bytes with filters: they must fit, as bytes and in shared memory."""
    has_unit = target.capability is not None and target.capability >= (8, 0)
    fits = layout.columns <= _MOST_COLUMNS and layout.weight_bytes * 2 <= target.shared_bytes
    as_bytes = -128 <= weights.minimum and weights.maximum <= 127
    columns = layout.window.columns
    reach = (columns.size + columns.before + columns.after) * layout.channels
    small = max(images * layout.window.pixels * layout.channels, reach) < _MOST_BYTES
    return has_unit and fits and as_bytes and small
