"""Packed matrices and images as memrefs: what carries a tensor after `bit-decompose`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import memref

from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.layout import BITS_PER_WORD, ceil_div, words_per_row
from bitmlir.dialects.pixel_pairs import PAIR_WORDS
from bitmlir.lowering.emit import i32

__all__ = ["IMAGE_RANK", "PackedPlanes", "PackedRow", "Store", "part_types", "users_of"]

IMAGE_RANK = 4
"""Of a tensor of images, and of filters."""


@dataclass(frozen=True)
class PackedPlanes:
    """A packed matrix, or a batch of them, as memrefs."""

    encoding: Encoding
    shape: tuple[int, ...]
    planes: ir.Value
    sums: ir.Value
    zeros: ir.Value | None = None

    @property
    def tap_value(self) -> tuple[int, int]:
        """What makes a filter tap's sum of values of its weighted bits: a factor, and what is added."""
        return self.encoding.scale, self.encoding.offset * self.shape[-1]

    def row_at(self, row: ir.Value, number: Sequence[ir.Value]) -> PackedRow:
        """A row; of a batch, in the matrix of that number."""
        return PackedRow(self, [*number, row] if len(self.shape) == 3 else [row])


@dataclass(frozen=True)
class PackedRow:
    """A row of a packed matrix, and how it is indexed."""

    matrix: PackedPlanes
    indices: list[ir.Value]

    @property
    def encoding(self) -> Encoding:
        """The matrix's encoding."""
        return self.matrix.encoding

    @property
    def k(self) -> int:
        """Elements of the row."""
        return self.matrix.shape[-1]

    def sum(self) -> ir.Value:
        """The row's sum, read where it is needed."""
        return memref.load(self.matrix.sums, self.indices)

    def zero(self) -> ir.Value:
        """The row's zero point."""
        assert self.matrix.zeros is not None
        return memref.load(self.matrix.zeros, self.indices)


def part_types(
    type_: ir.Type, *, tiles: bool = False, is_filter: bool = False, by_pixel: bool = True, in_pairs: bool = False
) -> dict[str, ir.MemRefType]:
    """The memrefs that carry a tensor, by part. Pixels of images are rows; those of a filter are one row together.

    A plain tensor of as many dimensions has images if it is used `by_pixel`. Pixels `in_pairs` have no padding.
    """
    shaped = ir.RankedTensorType(type_)
    encoding = bit.encoding_of(type_)
    *rows, k = shaped.shape or [1]
    has_images = shaped.rank == IMAGE_RANK and (encoding is not None or by_pixel)
    if has_images:
        rows = [math.prod(rows)]
    if encoding is None:
        if not tiles:
            return {"values": ir.MemRefType.get([*rows, k] if has_images else shaped.shape, shaped.element_type)}
        planes, row_tiles, k_tiles = shaped.shape
        return {"tiles": ir.MemRefType.get([planes, row_tiles, ceil_div(k_tiles, BITS_PER_WORD)], i32())}
    words = PAIR_WORDS if in_pairs else words_per_row(k)
    filters = shaped.shape[0] if is_filter else 1
    whole = [filters, rows[0] // filters * words] if is_filter else [*rows, words]
    parts = {
        "planes": ir.MemRefType.get([encoding.bits, *whole], i32()),
        "sums": ir.MemRefType.get(rows, i32()),
    }
    if encoding.has_row_zeros:
        parts["zeros"] = ir.MemRefType.get(rows, i32())
    return parts


@dataclass(frozen=True)
class Store:
    """Where what an operation computes goes: a plain result; or planes and their sums, and perhaps numbers beside."""

    out: ir.Value
    sums: ir.Value | None
    kept: ir.Value | None
    encoding: Encoding | None

    @property
    def encoding_name(self) -> ir.Attribute:
        """The encoding as an attribute: "" of a plain result."""
        return ir.StringAttr.get("" if self.encoding is None else str(self.encoding))


def users_of(value: ir.Value) -> list[ir.OpView]:
    """The operations that take a value."""
    return [use.owner.opview if isinstance(use.owner, ir.Operation) else use.owner for use in value.uses]
