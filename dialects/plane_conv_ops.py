"""Level 1 of the `bit` dialect: what makes a convolution a product of planes, and pools.

A convolution is the product of patches, a row for each output place with the planes of all taps one after the other,
with filters, whose rows have the same order. Outside the image a patch has no bits, which is neutral for AND. Patches
lie in memory, or a product gathers them itself (see `bit.plane_matmul`).
"""

from __future__ import annotations

import math
from typing import Any

from mlir import ir

from bitmlir.dialects.bit_dialect import dialect
from bitmlir.dialects.errors import EncodingError
from bitmlir.dialects.faults import body_fault, memref_fault
from bitmlir.dialects.groups import group_sizes_fault
from bitmlir.dialects.layout import LARGEST_SIZE, ROW_ALIGNMENT, words_per_row
from bitmlir.dialects.ops import (
    Attr,
    DialectOp,
    Operand,
    OptionalOperand,
    Region,
    Result,
    attribute_named,
    base,
    one_of,
)
from bitmlir.dialects.pixel_pairs import PAIR_CHANNELS, PAIR_WORDS, PairWindow
from bitmlir.dialects.plane_results import Stored
from bitmlir.dialects.types import encoding_in
from bitmlir.dialects.window import Axis, Window

__all__ = [
    "PlaneEdgeSumsOp",
    "PlanePackPatchesOp",
    "PlanePairFiltersOp",
    "PlanePatchSumsOp",
    "PlanePatchesOp",
    "PlanePoolOp",
    "PlaneReduceWindowOp",
    "PlaneSpreadFiltersOp",
    "WindowClassOp",
    "WindowSumOp",
    "WindowValueOp",
    "bytes_fault",
    "images_fault",
    "places_of",
    "window_attribute",
    "window_fault",
    "window_in",
]

_AXIS = ("size", "taps", "stride", "before", "after", "dilation")


def window_attribute(window: Window) -> ir.Attribute:
    """A window as an attribute: the fields of its axis down the rows, then of that along the columns."""
    numbers = [getattr(axis, name) for axis in (window.rows, window.columns) for name in _AXIS]
    return ir.DenseI64ArrayAttr.get(numbers)


def window_in(attribute: ir.Attribute) -> Window:
    """The window in an attribute that `window_attribute` made."""
    numbers = list(ir.DenseI64ArrayAttr(attribute))
    return Window(Axis(*numbers[: len(_AXIS)]), Axis(*numbers[len(_AXIS) :]))


def window_fault(attribute: ir.Attribute) -> str | None:
    """Why an attribute is no window that fits, or None."""
    numbers = list(ir.DenseI64ArrayAttr(attribute)) if isinstance(attribute, ir.DenseI64ArrayAttr) else []
    if len(numbers) != 2 * len(_AXIS):
        return f"window must be array<i64: …> of {', '.join(_AXIS)} for rows and for columns, but is {attribute}"
    axes = (numbers[: len(_AXIS)], numbers[len(_AXIS) :])
    least = (1, 1, 1, 0, 0, 1)
    if any(not low <= number <= LARGEST_SIZE for axis in axes for number, low in zip(axis, least, strict=True)):
        known = f"sizes, taps, strides and dilations from 1 to {LARGEST_SIZE}, and padding up to that"
        return f"window must have {known}, but is {attribute}"
    if min(window_in(attribute).places) < 1:
        return f"the window must fit into the padded image, but is {attribute}"
    return None


@dialect.op("plane_patches")
class PlanePatchesOp(DialectOp):
    """Gather what a window sees at each of its places.

    out[i, m, t·V + v] = planes[i, the pixel of tap t at place m, v], and 0 outside the image

    The places of an image follow each other by rows, images by number; taps by rows of the filter.

    planes: memref<Px(N·H·W)xVxi32>; out: memref<PxMx(T·V)xi32>. `window`: see `window_attribute`.
    """

    planes = Operand()
    out = Operand()
    window = Attr()

    def check(self) -> str | None:
        if fault := images_fault(self.planes, self.window):
            return fault
        (planes, rows, words), window = ir.MemRefType(self.planes.type).shape, window_in(self.window)
        if words < 1 or words % words_per_row(1):
            return f"planes must have pixels of whole {ROW_ALIGNMENT} bits, but are {self.planes.type}"
        return memref_fault(self.out.type, "out", (planes, places_of(rows, window), window.taps * words))


@dialect.op("plane_spread_filters")
class PlaneSpreadFiltersOp(DialectOp):
    """Make filters of all C channels from filters in G groups, which have only the D = C/G channels of their own.

    value(out[o, t, c]) = value(planes[o, t, c − g·D]) for the channels of group g = ⌊o·G/O⌋, and 0 for others
    out_sums[o·T + t] = Σ_c of the weighted bits of out[o, t, c]

    The result is in the encoding `with_zero` of the filters' own (see `Encoding`).

    planes: memref<PxOx(T·V)xi32> of V words for D channels, sums: memref<(O·T)xi32>; out: memref<P'xOx(T·W)xi32> of W
    words for C channels, out_sums: memref<(O·T)xi32>. `encoding`: the filters' own.
    """

    planes = Operand()
    sums = Operand()
    out = Operand()
    out_sums = Operand()
    encoding = Attr(attribute_named("bit", "encoding"))
    groups = Attr(base("#builtin.integer"))
    channels = Attr(base("#builtin.integer"))

    def check(self) -> str | None:
        try:
            encoding = encoding_in(self.encoding)
            if encoding.has_row_zeros:
                return f"encoding '{encoding}' has a zero point for each tap: use one for all, u<p>@z"
            result = encoding.with_zero
        except EncodingError as error:
            return f"encoding: {error}"
        if fault := memref_fault(self.planes.type, "planes", (encoding.bits, "O", "K")):
            return fault
        _, filters, words = ir.MemRefType(self.planes.type).shape
        groups, channels = (ir.IntegerAttr(a).value for a in (self.groups, self.channels))
        if not (1 <= groups <= channels <= LARGEST_SIZE):
            return f"there must be 1 to {LARGEST_SIZE} channels, and no more groups, but are {channels} and {groups}"
        if fault := group_sizes_fault(groups, channels, filters):
            return fault
        tap_words = words_per_row(channels // groups)
        taps = words // tap_words
        if words % tap_words or not 1 <= filters * taps <= LARGEST_SIZE:
            return (
                f"planes must have filters of taps of {tap_words} words, 1 to {LARGEST_SIZE} taps in all, but are "
                f"{self.planes.type}"
            )
        return (
            memref_fault(self.sums.type, "sums", (filters * taps,))
            or memref_fault(self.out.type, "out", (result.bits, filters, taps * words_per_row(channels)))
            or memref_fault(self.out_sums.type, "out_sums", (filters * taps,))
        )


@dialect.op("plane_pair_filters")
class PlanePairFiltersOp(DialectOp):
    """Make filters for pairs of pixels of 64 channels from filters for pixels (see `PairWindow`).

    out[i, p·O + o, r, t, 64·h + c] = planes[i, o, r, s, c] where 2·t + h is the half that tap s is at place p of a run,
    else 0; out_sums[p·O + o, r, t] = Σ_s (scale·sums[o, r, s] + offset), over the taps s whose half is one of t's

    planes: memref<PxOx(R·S·4)xi32>, sums: memref<(O·R·S)xi32>; out: memref<Px(B·O)x(R·T·4)xi32>, out_sums:
    memref<(B·O·R·T)xi32>, of T taps that see B places beside each other. `window`: over pixels; scale, offset: of a
    tap's sum of values, from its weighted bits.
    """

    planes = Operand()
    sums = Operand()
    out = Operand()
    out_sums = Operand()
    scale = Attr()
    offset = Attr()
    window = Attr()

    @property
    def pairs(self) -> PairWindow:
        """The window over pairs."""
        pairs = PairWindow.of(window_in(self.window))
        assert pairs is not None
        return pairs

    def check(self) -> str | None:
        if fault := window_fault(self.window) or _tap_value_fault(self.scale, self.offset):
            return fault
        window = window_in(self.window)
        if PairWindow.of(window) is None:
            return f"the window must see whole pairs of pixels along the columns, but is {self.window}"
        words, pairs = words_per_row(PAIR_CHANNELS), self.pairs
        if fault := memref_fault(self.planes.type, "planes", ("P", "O", window.taps * words)):
            return fault
        planes, filters, _ = ir.MemRefType(self.planes.type).shape
        beside, taps = pairs.beside * filters, pairs.over_pairs.taps
        if filters < 1 or beside * max(taps, window.taps) > LARGEST_SIZE:
            return f"there must be filters, of up to {LARGEST_SIZE} taps in all, but are {filters} of {window.taps}"
        return (
            memref_fault(self.sums.type, "sums", (filters * window.taps,))
            or memref_fault(self.out.type, "out", (planes, beside, taps * words))
            or memref_fault(self.out_sums.type, "out_sums", (beside * taps,))
        )


def _tap_value_fault(scale: ir.Attribute, offset: ir.Attribute) -> str | None:
    """Why these do not say what a tap's sum of values is, from its weighted bits."""
    if all(isinstance(a, ir.IntegerAttr) for a in (scale, offset)):
        return None
    return f"scale and offset must be whole numbers, but are {scale} and {offset}"


@dialect.op("plane_pack_patches")
class PlanePackPatchesOp(DialectOp):
    """Fill planes and row sums from what a window sees of images of integers (see `bit.pack_patches`).

    source: memref<(N·H·W)xCxi8>; planes: memref<PxMxVxi32>, sums: memref<Mxi32>. `window`: see `window_attribute`.
    """

    source = Operand()
    planes = Operand()
    sums = Operand()
    encoding = Attr(attribute_named("bit", "encoding"))
    window = Attr()

    def check(self) -> str | None:
        try:
            encoding = encoding_in(self.encoding)
        except EncodingError as error:
            return f"encoding: {error}"
        if encoding.kind not in ("u", "i") or encoding.zero != 0:
            return f"encoding '{encoding}' must be u<p> or i<p>, in which 0 is code 0"
        if fault := bytes_fault(self.source, self.window):
            return fault
        (rows, channels), window = ir.MemRefType(self.source.type).shape, window_in(self.window)
        places, words = places_of(rows, window), words_per_row(window.taps * channels)
        return memref_fault(self.planes.type, "planes", (encoding.bits, places, words)) or memref_fault(
            self.sums.type, "sums", (places,)
        )


@dialect.op("plane_patch_sums")
class PlanePatchSumsOp(DialectOp):
    """Add up the row sums of the pixels that a window sees at each of its places.

    out[m] = Σ_t sums[the pixel of tap t at place m], over taps inside the image

    sums: memref<(N·H·W)xi32>; out: memref<Mxi32>. `window`: see `window_attribute`.
    """

    sums = Operand()
    out = Operand()
    window = Attr()

    def check(self) -> str | None:
        if fault := window_fault(self.window):
            return fault
        if fault := memref_fault(self.sums.type, "sums", ("R",)):
            return fault
        (rows,) = ir.MemRefType(self.sums.type).shape
        return _pixels_fault("sums", rows, self.window) or memref_fault(
            self.out.type, "out", (places_of(rows, window_in(self.window)),)
        )


def images_fault(planes: ir.Value, window: ir.Attribute, count: int | str = "P", name: str = "planes") -> str | None:
    """Why these are not planes, of any number or of `count`, of whole images that a window moves over."""
    if fault := window_fault(window) or memref_fault(planes.type, name, (count, "R", "V")):
        return fault
    return _pixels_fault(name, ir.MemRefType(planes.type).shape[1], window)


def bytes_fault(source: ir.Value, window: ir.Attribute) -> str | None:
    """Why a memref is not one of whole images of channels, of no more pixels than rows of an operand can be."""
    if fault := window_fault(window) or memref_fault(source.type, "source", ("R", "C"), ("i8",)):
        return fault
    rows, channels = ir.MemRefType(source.type).shape
    if not 1 <= rows <= LARGEST_SIZE or channels < 1:
        return f"source must have 1 to {LARGEST_SIZE} pixels, and channels, but is {source.type}"
    return _pixels_fault("source", rows, window)


def _pixels_fault(name: str, rows: int, window: ir.Attribute) -> str | None:
    pixels = window_in(window).pixels
    return f"{name} must have whole images of {pixels} pixels, but have {rows} rows" if rows % pixels else None


def places_of(rows: int, window: Window) -> int:
    """Output places of as many images as have so many pixels."""
    return rows // window.pixels * math.prod(window.places)


@dialect.op("plane_pool")
class PlanePoolOp(DialectOp):
    """Take the largest number of each channel that a window sees (see `bit.pool`).

    planes: memref<Px(N·H·W)xVxi32>; out: memref<PxMxVxi32>, out_sums: memref<Mxi32>. `window`: see `window_attribute`.
    """

    planes = Operand()
    out = Operand()
    out_sums = Operand()
    encoding = Attr(attribute_named("bit", "encoding"))
    window = Attr()

    def check(self) -> str | None:
        try:
            encoding = encoding_in(self.encoding)
        except EncodingError as error:
            return f"encoding: {error}"
        if encoding.has_row_zeros:
            return f"encoding '{encoding}' has a zero point for each pixel: numbers of different pixels do not compare"
        if fault := images_fault(self.planes, self.window, encoding.bits):
            return fault
        window = window_in(self.window)
        if not window.always_sees:
            return "every window must see a place inside the image: take less padding than the window's size"
        planes, rows, words = ir.MemRefType(self.planes.type).shape
        if words != PAIR_WORDS and (words < 1 or words % words_per_row(1)):
            return (
                f"planes must have pixels of whole {ROW_ALIGNMENT} bits, or of {PAIR_CHANNELS}, but are "
                f"{self.planes.type}"
            )
        places = places_of(rows, window)
        return memref_fault(self.out.type, "out", (planes, places, words)) or memref_fault(
            self.out_sums.type, "out_sums", (places,)
        )


@dialect.op("plane_reduce_window")
class PlaneReduceWindowOp(DialectOp):
    """Reduce what a window sees of plain images, and compute elements from that (see `bit.reduce_window`).

    source: memref<(N·H·W)xCxT> of i8, i16, i32, f16, bf16 or f32; `channels`: columns of the result, C or more; out:
    memref<MxC'xT>, or planes with out_sums and out_encoding, and kept: memref<MxC'xT>, as of `bit.plane_matmul`.
    `window`: see `window_attribute`. The body is a block (row: index, col: index) of `arith`, `math`, `memref.load` (at
    the row, the column or both) and one `bit.window_value`.
    """

    source = Operand()
    out = Operand()
    out_sums = OptionalOperand()
    kept = OptionalOperand()
    channels = Attr(base("#builtin.integer"))
    reduction = Attr(one_of('"max"', '"sum"'))
    out_encoding = Attr(base("#builtin.string"))
    window = Attr()
    body = Region(("index", "index"))

    @property
    def places(self) -> int:
        """Rows of the result."""
        return places_of(ir.MemRefType(self.source.type).shape[0], window_in(self.window))

    @property
    def value(self) -> WindowValueOp:
        """The number in its body that the window yields."""
        return next(inner for inner in self.body.operations if isinstance(inner, WindowValueOp))

    @property
    def stored(self) -> Stored:
        """What it stores."""
        return Stored(self.out, self.out_sums, self.kept, self.out_encoding, self.body)

    def check(self) -> str | None:
        numbers = ("i8", "i16", "i32", "f16", "bf16", "f32")
        if fault := window_fault(self.window) or memref_fault(self.source.type, "source", ("R", "C"), numbers):
            return fault
        (rows, source_channels), window = ir.MemRefType(self.source.type).shape, window_in(self.window)
        if not 1 <= rows <= LARGEST_SIZE or source_channels < 1:
            return f"source must have 1 to {LARGEST_SIZE} pixels, and channels, but is {self.source.type}"
        if fault := _pixels_fault("source", rows, self.window):
            return fault
        if not window.always_sees:
            return "every window must see a place inside the image: take less padding than the window's size"
        channels = ir.IntegerAttr(self.attributes["channels"]).value
        if not source_channels <= channels <= LARGEST_SIZE or self.places > LARGEST_SIZE:
            return (
                f"there must be {source_channels} to {LARGEST_SIZE} channels, and as many places at most, but are "
                f"{channels} and {self.places}"
            )
        values = [inner for inner in self.body.operations if isinstance(inner, WindowValueOp)]
        if len(values) != 1:
            return f"the body must have one bit.window_value, but has {len(values)}"
        is_float = isinstance(ir.MemRefType(self.source.type).element_type, ir.FloatType)
        if str(values[0].result.type) != (expected := "f32" if is_float else "i32"):
            return f"bit.window_value must be {expected} for {self.source.type}, but is {values[0].result.type}"
        return (
            self.stored.fault((self.places,), channels)
            or body_fault(self.body, "memref.load", (self.places, channels), makers=("bit.window_value",))
            or self.stored.element_fault()
        )


@dialect.op("window_value")
class WindowValueOp(DialectOp):
    """What the window of the enclosing `bit.plane_reduce_window` sees of the channel at the body's column, reduced: i32
    of integers, f32 of floats."""

    PURE = True
    result = Result()


@dialect.op("window_class")
class WindowClassOp(DialectOp):
    """The number of the class (see `Window.classes`) that a place is of, in the body of a product of planes whose rows
    are the places of a window. A read there may be indexed by it.

    place: index, the body's row; result: index.
    """

    PURE = True
    place = Operand()
    window = Attr()
    result = Result()

    def check(self) -> str | None:
        if fault := window_fault(self.window):
            return fault
        if {str(self.place.type), str(self.result.type)} != {"index"}:
            return f"the place and the result must be index, but are {self.place.type} and {self.result.type}"
        return None

    @classmethod
    def infer(cls, **_: Any) -> list[ir.Type]:
        """A number."""
        return [ir.IndexType.get()]


@dialect.op("window_sum")
class WindowSumOp(DialectOp):
    """The sum of the row sums of the pixels that a window sees at a place, in the body of a product of planes whose
    rows are the places of a window, or runs of them: what `bit.plane_patch_sums` computes for all of them.

    sums: memref<(N·H·W)xi32>; place: index, the body's row or computed from it; result: i32.
    """

    PURE = True
    sums = Operand()
    place = Operand()
    window = Attr()
    result = Result()

    def check(self) -> str | None:
        if fault := window_fault(self.window) or memref_fault(self.sums.type, "sums", ("R",)):
            return fault
        (rows,) = ir.MemRefType(self.sums.type).shape
        if (str(self.place.type), str(self.result.type)) != ("index", "i32"):
            return f"the place must be index and the result i32, but are {self.place.type} and {self.result.type}"
        return _pixels_fault("sums", rows, self.window)

    @classmethod
    def infer(cls, **_: Any) -> list[ir.Type]:
        """A number."""
        return [ir.IntegerType.get_signless(32)]


@dialect.op("plane_edge_sums")
class PlaneEdgeSumsOp(DialectOp):
    """Add up the sums of a filter's taps that lie inside the image, for every way in which a window lies at its edges.

    out[j, o] = Σ_t (scale·sums[o·T + t] + offset), over the taps t of the window's class j (see `Window.classes`)

    sums: memref<(O·T)xi32>; out: memref<JxOxi32>; scale, offset: of a tap's sum of values, from its weighted bits.
    """

    sums = Operand()
    out = Operand()
    scale = Attr()
    offset = Attr()
    window = Attr()

    def check(self) -> str | None:
        if fault := window_fault(self.window):
            return fault
        if fault := memref_fault(self.out.type, "out", ("J", "O")):
            return fault
        window, (classes, filters) = window_in(self.window), ir.MemRefType(self.out.type).shape
        if classes != len(window.classes):
            return f"out must have a row for each of the window's {len(window.classes)} classes, but has {classes}"
        sums_fault = memref_fault(self.sums.type, "sums", (filters * window.taps,))
        return _tap_value_fault(self.scale, self.offset) or sums_fault
