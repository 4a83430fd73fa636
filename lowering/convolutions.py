"""How `bit-decompose` lowers convolutions and what else sees images through windows: products of patches, corrections
at their edges, filters for pairs of pixels and of all channels."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Protocol

from mlir import ir
from mlir.dialects import gpu, memref

from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.layout import BITS_PER_WORD, words_per_row
from bitmlir.dialects.pixel_pairs import PAIR_CHANNELS, PairWindow
from bitmlir.dialects.window import Window
from bitmlir.lowering.byte_images import ByteLayout, suits_bytes
from bitmlir.lowering.element_sums import constant, moved, plain, schedule, term_by_column, times, total
from bitmlir.lowering.emit import i32
from bitmlir.lowering.packed_planes import PackedPlanes, Store, users_of
from bitmlir.lowering.passes import fail
from bitmlir.lowering.schedule import correction
from bitmlir.lowering.targets import Target
from bitmlir.lowering.views import beside as side_by_side
from bitmlir.lowering.views import seen_as
from bitmlir.lowering.windows import gathers

__all__ = ["Frame", "conv2d", "feeds_bytes", "reduce_window"]

_MOST_BYTES = 8 << 30  # of patches, and of filters of all channels
_MANY_WORDS, _MANY_PLACES = 1 << 12, 1 << 17


class Frame(Protocol):
    """The function that an operation is lowered in."""

    target: Target
    values: dict[ir.Value, PackedPlanes | ir.Value]
    paired: frozenset[ir.Value]
    filters_for_pairs: dict[tuple[ir.Value, ir.Attribute], PackedPlanes]

    def packed(self, value: ir.Value) -> PackedPlanes:
        """What carries a packed value."""
        ...

    def store(self, op: bit.Conv2dOp | bit.ReduceWindowOp) -> Store:
        """Where the result of an operation goes, and the numbers that it keeps."""
        ...

    def check_range(self, op: bit.Conv2dOp, lhs: PackedPlanes, rhs: PackedPlanes, operation: str) -> None:
        """Refuse sums that the target's bit operation cannot hold on the way."""
        ...

    def epilogue(
        self, op: bit.Conv2dOp | bit.ReduceWindowOp, acc: ir.Value, *places: ir.Value, beside: int = 1
    ) -> list[ir.Value]:
        """What the epilogue yields for an accumulator; `beside` places of images lie side by side in a row."""
        ...


def conv2d(frame: Frame, op: bit.Conv2dOp) -> None:
    """Patches of the images times filters. By AND, to which what lies outside the images adds nothing.

    A window that sees each pixel by itself has the images for patches. Filters in groups become filters of all
    channels, and those for images in pairs filters for pairs.
    """
    if not isinstance(op.rhs, ir.BlockArgument):
        fail(op, "filters must be an argument of the function, packed beforehand")
    if op.lhs not in frame.values:
        patches = op.lhs.owner.opview
        assert isinstance(patches, bit.PackPatchesOp)
        _byte_conv(frame, op, patches)
        return
    lhs, rhs, window = frame.packed(op.lhs), _filters(frame, op), op.window
    frame.check_range(op, lhs, rhs, "and")
    pairs = PairWindow.of(op.window) if op.lhs in frame.paired else None
    beside = 1 if pairs is None else pairs.beside
    planes, filters, seen = lhs.planes, rhs, window
    if pairs is not None:
        bits, pixels, words = ir.MemRefType(planes.type).shape
        planes = seen_as(planes, bits, pixels // 2, 2 * words)
        filters, seen = _pair_filters(frame, rhs, pairs), pairs.over_pairs
    columns, row_words = ir.MemRefType(filters.planes.type).shape[1:]
    sees_pixels = seen.sees_pixels
    gathers_itself = gathers(frame.target, seen) and not sees_pixels
    if not gathers_itself and not sees_pixels:
        planes = _patches(op, lhs, row_words)
    adds_itself = gathers_itself and _adds_sums(
        lhs.shape[0] * math.prod(window.places), columns * row_words * lhs.encoding.bits * rhs.encoding.bits
    )
    corrections = _Corrections.of(lhs, rhs.encoding, filters, window, seen, adds_itself)
    stored = frame.store(op)
    bit.plane_matmul(
        planes,
        filters.planes,
        side_by_side(stored.out, beside),
        out_sums=stored.sums,
        kept=None if stored.kept is None else side_by_side(stored.kept, beside),
        out_encoding=stored.encoding,
        k=row_words * BITS_PER_WORD,
        bitwise="and",
        window=bit.window_attribute(seen) if gathers_itself else None,
        body=functools.partial(_body, frame, op, rhs.encoding, corrections, beside),
    )


def _patches(op: bit.Conv2dOp, images: PackedPlanes, row_words: int) -> ir.Value:
    """The planes of what a window sees, written out."""
    bits, places = images.encoding.bits, images.shape[0] * math.prod(op.window.places)
    if places * row_words * bits * (BITS_PER_WORD // 8) >= _MOST_BYTES:
        fail(op, "the patches of all images would take 8 GiB or more: take fewer images at a time")
    patches = memref.alloc(ir.MemRefType.get([bits, places, row_words], i32()), [], [])
    bit.PlanePatchesOp(planes=images.planes, out=patches, window=bit.window_attribute(op.window))
    return patches


def _body(
    frame: Frame,
    op: bit.Conv2dOp,
    filters: Encoding,
    corrections: _Corrections,
    beside: int,
    row: ir.Value,
    col: ir.Value,
) -> list[ir.Value]:
    """One element of a convolution: as of a product, but for what taps outside the image would have added.

    filters: the encoding of those that it multiplies with. beside: places that a row has side by side.
    """
    images, channels = frame.packed(op.lhs).encoding, ir.RankedTensorType(op.result.type).shape[3]
    acc = schedule(images, filters)
    c = correction(images, filters, "and", 0)
    by_row = by_edge = None
    if corrections.sums is not None:
        places = [row] if beside == 1 else [moved(row, beside, number) for number in range(beside)]
        terms = [times(functools.partial(corrections.sum_at, place), c.lhs_sums) for place in places]
        by_row = terms[0] if beside == 1 else term_by_column(terms, col, channels)
    if corrections.edges is not None:
        number = bit.WindowClassOp(place=row, window=corrections.seen).result
        by_edge = times(lambda: memref.load(corrections.edges, [number, col]), images.offset)
    acc = plain(total(times(lambda: acc, c.acc), by_row, by_edge))
    return frame.epilogue(op, acc, row, col, beside=beside)


# --- corrections ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Corrections:
    """What is added to the sums of a convolution's products.

    sums: of patches; or if there is a window, of pixels, of which those that it sees are added up. edges: of filters'
    taps that lie inside images, by class of the window that the product `seen` has.
    """

    sums: ir.Value | None
    window: ir.Attribute | None
    edges: ir.Value | None
    seen: ir.Attribute

    @staticmethod
    def of(
        images: PackedPlanes, rhs: Encoding, filters: PackedPlanes, window: Window, seen: Window, adds_itself: bool
    ) -> _Corrections:
        """Those of images times filters in an encoding. `filters` and `seen`: what the product takes, over pairs of
        pixels where those lie side by side. adds_itself: whether the product adds up sums of pixels."""
        sums = edges = None
        attribute = bit.window_attribute(window)
        if rhs.offset and (window.sees_pixels or adds_itself):
            sums = images.sums
        elif rhs.offset:
            places = images.shape[0] * math.prod(window.places)
            sums = memref.alloc(ir.MemRefType.get([places], i32()), [], [])
            bit.PlanePatchSumsOp(sums=images.sums, out=sums, window=attribute)
        if images.encoding.offset:
            columns = ir.MemRefType(filters.planes.type).shape[1]
            edges = memref.alloc(ir.MemRefType.get([len(seen.classes), columns], i32()), [], [])
            scale, offset = filters.tap_value if seen is window else (1, 0)
            seen_attribute = bit.window_attribute(seen)
            bit.PlaneEdgeSumsOp(sums=filters.sums, out=edges, scale=scale, offset=offset, window=seen_attribute)
        by_window = attribute if adds_itself and not window.sees_pixels else None
        return _Corrections(sums, by_window, edges, bit.window_attribute(seen))

    def sum_at(self, place: ir.Value) -> ir.Value:
        """The sum of a place's patch."""
        if self.window is not None:
            return bit.WindowSumOp(sums=self.sums, place=place, window=self.window).result
        return memref.load(self.sums, [place])


def _adds_sums(places: int, words_of_row: int) -> bool:
    """Whether a product of so many places should add up the sums of pixels itself, beside the words that it counts for
    a row: on an H200 it takes no time, unless there are few words and many places."""
    return words_of_row >= _MANY_WORDS or places < _MANY_PLACES


# --- filters ----------------------------------------------------------------------------------------


def _filters(frame: Frame, op: bit.Conv2dOp) -> PackedPlanes:
    """The filters of all channels that a convolution multiplies with."""
    filters, groups = frame.packed(op.rhs), op.group_count
    if groups == 1:
        return filters
    channels = ir.RankedTensorType(op.lhs.type).shape[-1]
    encoding, shape = filters.encoding.with_zero, (*filters.shape[:-1], channels)
    row_words = math.prod(shape[1:-1]) * words_per_row(channels)
    if encoding.bits * shape[0] * row_words * (BITS_PER_WORD // 8) >= _MOST_BYTES:
        fail(op, "filters of all channels would take 8 GiB or more: take fewer of them at a time")
    planes = memref.alloc(ir.MemRefType.get([encoding.bits, shape[0], row_words], i32()), [], [])
    sums = memref.alloc(ir.MemRefType.get([math.prod(shape[:-1])], i32()), [], [])
    bit.PlaneSpreadFiltersOp(
        planes=filters.planes,
        sums=filters.sums,
        out=planes,
        out_sums=sums,
        encoding=ir.RankedTensorType(op.rhs.type).encoding,
        groups=groups,
        channels=channels,
    )
    return PackedPlanes(encoding, shape, planes, sums)


def _pair_filters(frame: Frame, filters: PackedPlanes, pairs: PairWindow) -> PackedPlanes:
    """Filters for pairs of pixels, made once for all that need them; their sums are those of values."""
    window = bit.window_attribute(pairs.window)
    if (filters.planes, window) in frame.filters_for_pairs:
        return frame.filters_for_pairs[filters.planes, window]
    bits, count, _ = ir.MemRefType(filters.planes.type).shape
    count, taps, words = count * pairs.beside, pairs.over_pairs.taps, words_per_row(PAIR_CHANNELS)
    planes = memref.alloc(ir.MemRefType.get([bits, count, taps * words], i32()), [], [])
    sums = memref.alloc(ir.MemRefType.get([count * taps], i32()), [], [])
    (scale, offset), (source, source_sums) = filters.tap_value, (filters.planes, filters.sums)
    bit.PlanePairFiltersOp(
        planes=source, sums=source_sums, out=planes, out_sums=sums, scale=scale, offset=offset, window=window
    )
    made = PackedPlanes(filters.encoding, filters.shape, planes, sums)
    return frame.filters_for_pairs.setdefault((filters.planes, window), made)


# --- bytes and plain numbers ------------------------------------------------------------------------


def feeds_bytes(target: Target, op: bit.PackPatchesOp) -> bool:
    """Whether all that takes packed patches is one convolution of pixels, which the int8 unit can do on bytes."""
    users = users_of(op.result)
    if len(users) != 1 or not isinstance(users[0], bit.Conv2dOp) or users[0].lhs != op.result:
        return False
    if users[0].group_count > 1:
        return False
    images, *_, channels = ir.RankedTensorType(op.source.type).shape
    layout = ByteLayout(op.window, channels, ir.RankedTensorType(users[0].rhs.type).shape[0])
    is_bytes = str(bit.encoding_of(op.result.type)) == "u8" and users[0].window.sees_pixels
    return is_bytes and suits_bytes(target, layout, images, bit.require_encoding(users[0].rhs.type))


def _byte_conv(frame: Frame, op: bit.Conv2dOp, source: bit.PackPatchesOp) -> None:
    """A convolution of the bytes of images."""
    stored = frame.store(op)
    made = bit.PlaneByteConvOp(
        source=frame.values[source.source],
        rhs=frame.packed(op.rhs).planes,
        out=stored.out,
        out_sums=stored.sums,
        kept=stored.kept,
        rhs_encoding=ir.RankedTensorType(op.rhs.type).encoding,
        out_encoding=stored.encoding_name,
        window=bit.window_attribute(source.window),
    )
    with ir.InsertionPoint(made.body):
        acc = bit.PlaneProductOp(acc=constant(0), lhs_planes=[0], rhs_planes=[0]).result
        gpu.YieldOp(frame.epilogue(op, acc, *made.body.arguments))


def reduce_window(frame: Frame, op: bit.ReduceWindowOp) -> None:
    """The same on pixels as rows."""
    stored = frame.store(op)
    made = bit.PlaneReduceWindowOp(
        source=frame.values[op.source],
        out=stored.out,
        out_sums=stored.sums,
        kept=stored.kept,
        channels=ir.RankedTensorType(op.result.type).shape[3],
        reduction=op.reduction,
        out_encoding=stored.encoding_name,
        window=bit.window_attribute(op.window),
    )
    with ir.InsertionPoint(made.body):
        acc = bit.WindowValueOp(results=[op.accumulator(op.source.type)]).result
        gpu.YieldOp(frame.epilogue(op, acc, *made.body.arguments))
