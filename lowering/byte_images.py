"""How bytes of images are laid out for the int8 unit: rows of a filter's taps, four bytes at a time."""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir

from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.layout import ceil_div
from bitmlir.dialects.window import Window
from bitmlir.lowering.targets import Target

__all__ = ["GROUP_BYTES", "STEP_BYTES", "ByteLayout", "Slab", "suits_bytes"]

GROUP_BYTES = 4  # of a register
STEP_BYTES = 32  # of K, that one matrix instruction multiplies
_MOST_COLUMNS = 128
_TILE_PLACES = 128
_ALIGNMENT = 16
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


@dataclass(frozen=True)
class Slab:
    """The rows of an image that one tile of the result sees, in shared memory, with zeros around them where windows
    reach outside. A tile has whole rows of the result, so many `tile_rows`.

    Example:
        >>> from bitmlir.dialects.window import Axis
        >>> slab = Slab.of(ByteLayout(Window(Axis(224, 7, 4, 3, 3), Axis(224, 7, 4, 3, 3)), 3, 64))
        >>> slab.tile_rows, slab.rows, slab.lead, slab.pitch, slab.unit
        (2, 11, 16, 704, 16)
    """

    layout: ByteLayout
    tile_rows: int

    @staticmethod
    def of(layout: ByteLayout) -> Slab:
        """That of tiles of as many places as warps of a block have rows at most."""
        height, width = layout.window.places
        return Slab(layout, max(1, min(height, _TILE_PLACES // width)))

    @property
    def places(self) -> int:
        """Places of a tile."""
        return self.tile_rows * self.layout.window.places[1]

    @property
    def rows(self) -> int:
        """Rows of the image."""
        axis = self.layout.window.rows
        return (self.tile_rows - 1) * axis.stride + axis.taps

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of the image."""
        return self.layout.window.columns.size * self.layout.channels

    @property
    def unit(self) -> int:
        """Bytes that are copied at once."""
        return next(size for size in (_ALIGNMENT, 8, GROUP_BYTES, 1) if self.row_bytes % size == 0)

    @property
    def lead(self) -> int:
        """Zeros before a row."""
        return ceil_div(self.layout.window.columns.before * self.layout.channels, _ALIGNMENT) * _ALIGNMENT

    @property
    def first(self) -> int:
        """Where in a row the first place begins to see."""
        return self.lead - self.layout.window.columns.before * self.layout.channels

    @property
    def step(self) -> int:
        """From place to place along a row."""
        return self.layout.window.columns.stride * self.layout.channels

    @property
    def pitch(self) -> int:
        """Bytes from row to row: a place's groups may end behind its taps, and are read as two words."""
        seen = self.first + (self.layout.window.places[1] - 1) * self.step + (self.layout.row_groups + 1) * GROUP_BYTES
        return ceil_div(max(self.lead + self.row_bytes, seen), _ALIGNMENT) * _ALIGNMENT

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.rows * self.pitch


def suits_bytes(target: Target, layout: ByteLayout, images: int, weights: Encoding) -> bool:
    """Whether the int8 unit can multiply images of bytes with filters: they must fit, as bytes and in shared memory."""
    has_unit = target.capability is not None and target.capability >= (8, 0)
    shared = layout.weight_bytes + layout.columns * GROUP_BYTES + 2 * Slab.of(layout).bytes
    fits = layout.columns <= _MOST_COLUMNS and shared <= target.shared_bytes
    as_bytes = -128 <= weights.minimum and weights.maximum <= 127
    columns = layout.window.columns
    reach = (columns.size + columns.before + columns.after) * layout.channels
    small = max(images * layout.window.pixels * layout.channels, reach) < _MOST_BYTES
    return has_unit and fits and as_bytes and small
