"""Level 0 of the `bit` dialect: convolutions and pools of packed images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mlir import ir
from mlir.dialects import gpu

from bitmlir.dialects.bit_dialect import dialect
from bitmlir.dialects.encoding import range_fault
from bitmlir.dialects.faults import body_fault, element_fault, kept_fault, packed_fault, yield_fault
from bitmlir.dialects.groups import group_encoding_fault, group_sizes_fault
from bitmlir.dialects.layout import LARGEST_SIZE
from bitmlir.dialects.ops import Attr, DialectOp, Operand, OptionalAttr, OptionalResult, Region, Result, one_of
from bitmlir.dialects.types import require_encoding
from bitmlir.dialects.window import Axis, Window

__all__ = ["Conv2dOp", "PackPatchesOp", "PoolOp", "ReduceWindowOp", "conv2d"]


@dialect.op("conv2d")
class Conv2dOp(DialectOp):
    """The exact convolution of packed images with packed filters, and an epilogue on each element.

    acc[n, p, q, o] = Σ_{r, s, c} value(lhs[n, p·sy − top + r·dy, q·sx − left + s·dx, g·D + c]) · value(rhs[o, r, s, c])
    result[n, p, q, o] = epilogue(acc[n, p, q, o], n, p, q, o)

    Places outside the image are left out of the sum, in every encoding: they count as 0, also where an encoding has
    no 0. The channels are packed, each pixel by itself; encodings with zero points a row cannot be.

    Channels and filters may be parted into G groups: filter o sees the D = C/G channels of group g = ⌊o·G/O⌋ alone.
    Filters in groups cannot be `bipolar8`.

    lhs: packed NxHxWxC; rhs: packed OxRxSxD; result: NxPxQxO, plain or packed by O. stride = array<i64: sy, sx>;
    padding = array<i64: top, left, bottom, right>; dilation = array<i64: dy, dx>; groups = G : i64, or not there for 1.

    The epilogue is a block (acc: i32, image, y, x, channel: index), else as of `bit.matmul`: it may read tensors at
    [image, y, x, channel], and others at the channel and at constants. Beside a packed result there may be `kept`.

        %y = "bit.conv2d"(%images, %filters) ({
        ^bb0(%acc: i32, %image: index, %y: index, %x: index, %channel: index):
          gpu.yield %acc : i32
        }) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>}
          : (tensor<8x16x16x64xi1, #bit.encoding<"bipolar">>, tensor<32x3x3x64xi1, #bit.encoding<"bipolar">>)
          -> tensor<8x16x16x32xi32>
    """

    PURE = True
    lhs = Operand()
    rhs = Operand()
    stride = Attr()
    padding = Attr()
    dilation = Attr()
    groups = OptionalAttr()
    epilogue = Region(("i32", "index", "index", "index", "index"))
    result = Result()
    kept = OptionalResult()

    @classmethod
    def infer(cls, **fields: Any) -> list[ir.Type]:
        """int32, N images of P by Q places and O channels."""
        images, filters = (ir.RankedTensorType(fields[side].type).shape for side in ("lhs", "rhs"))
        window = _window(images, filters, *(fields[name] for name in ("stride", "padding", "dilation")))
        shape = [images[0], *window.places, filters[0]]
        return [ir.RankedTensorType.get(shape, ir.IntegerType.get_signless(32))]

    @property
    def window(self) -> Window:
        """The window that moves over an image."""
        images, filters = (ir.RankedTensorType(side.type).shape for side in (self.lhs, self.rhs))
        return _window(images, filters, *(list(ir.DenseI64ArrayAttr(a)) for a in self._steps))

    @property
    def _steps(self) -> tuple[ir.Attribute, ir.Attribute, ir.Attribute]:
        return self.stride, self.padding, self.dilation

    @property
    def group_count(self) -> int:
        """Groups of channels, and of filters."""
        return 1 if self.groups is None else ir.IntegerAttr(self.groups).value

    def check(self) -> str | None:
        for name, side in (("lhs", self.lhs), ("rhs", self.rhs)):
            if fault := packed_fault(side.type, name, ranks=(4,)):
                return fault
            if require_encoding(side.type).has_row_zeros:
                return f"{name} cannot have a zero point for each pixel: use one for all, u<p>@z"
        if fault := _steps_fault(self, ("stride", 2, 1), ("padding", 4, 0), ("dilation", 2, 1)):
            return fault
        (n, *_, c), (o, r, s, filter_c) = (ir.RankedTensorType(side.type).shape for side in (self.lhs, self.rhs))
        if fault := self._groups_fault(c, o, filter_c):
            return fault
        if fault := range_fault(require_encoding(self.lhs.type), require_encoding(self.rhs.type), r * s * filter_c):
            return fault
        places = self.window.places
        if min(places) < 1:
            return (
                f"the filter reaches {self._reach()}, farther than the padded images: pad them, or take a smaller one"
            )
        if n * places[0] * places[1] > LARGEST_SIZE:
            return (
                f"the result must have at most {LARGEST_SIZE} places in all images, but has {n}x{places[0]}x{places[1]}"
            )
        return _images_result_fault(self, (n, *places, o), "i32")

    def _groups_fault(self, channels: int, filters: int, filter_channels: int) -> str | None:
        """Why so many channels and filters cannot be parted into its groups, or filters do not have those of one."""
        is_number = isinstance(self.groups, ir.IntegerAttr) and str(self.groups.type) == "i64"
        if self.groups is not None and not (is_number and 1 <= self.group_count <= LARGEST_SIZE):
            return f"groups must be a number of type i64, from 1 on, but is {self.groups}"
        groups = self.group_count
        if fault := group_sizes_fault(groups, channels, filters):
            return fault
        if groups == 1 and channels != filter_channels:
            return (
                f"lhs and rhs must have the same channels (their last size), but have {channels} and {filter_channels}"
            )
        if channels // groups != filter_channels:
            return (
                f"rhs must have the {channels // groups} channels (its last size) of one of {groups} groups, but has "
                f"{filter_channels}"
            )
        return group_encoding_fault(groups, require_encoding(self.rhs.type))

    def _reach(self) -> str:
        return f"{self.window.rows.reach}x{self.window.columns.reach}"


@dialect.op("pool")
class PoolOp(DialectOp):
    """The largest number of each channel that a window sees, in packed images.

    value(result[n, p, q, c]) = max_{r, s} value(source[n, p·sy − top + r, q·sx − left + s, c])

    Places outside the image are left out; every window must see a place inside. The result has the source's encoding.

    source: packed NxHxWxC; result: packed NxPxQxC. size = array<i64: R, S>; stride = array<i64: sy, sx>;
    padding = array<i64: top, left, bottom, right>.

        %y = "bit.pool"(%images) {size = array<i64: 2, 2>, stride = array<i64: 2, 2>, padding = array<i64: 0, 0, 0, 0>}
          : (tensor<8x16x16x64xi1, #bit.encoding<"bipolar">>) -> tensor<8x8x8x64xi1, #bit.encoding<"bipolar">>
    """

    PURE = True
    source = Operand()
    size = Attr()
    stride = Attr()
    padding = Attr()
    result = Result()

    @classmethod
    def infer(cls, **fields: Any) -> list[ir.Type]:
        """N images of P by Q places, of the source's channels and encoding."""
        source = ir.RankedTensorType(fields["source"].type)
        n, *_, c = source.shape
        places = _pool_window(source.shape, *(fields[name] for name in ("size", "stride", "padding"))).places
        return [ir.RankedTensorType.get([n, *places, c], source.element_type, source.encoding)]

    @property
    def window(self) -> Window:
        """The window that moves over an image."""
        numbers = (list(ir.DenseI64ArrayAttr(a)) for a in (self.size, self.stride, self.padding))
        return _pool_window(ir.RankedTensorType(self.source.type).shape, *numbers)

    def check(self) -> str | None:
        if fault := packed_fault(self.source.type, "source", ranks=(4,)):
            return fault
        if require_encoding(self.source.type).has_row_zeros:
            return "source cannot have a zero point for each pixel: use one for all, u<p>@z"
        if fault := _steps_fault(self, ("size", 2, 1), ("stride", 2, 1), ("padding", 4, 0)):
            return fault
        window, source = self.window, ir.RankedTensorType(self.source.type)
        if min(window.places) < 1:
            reach = f"{window.rows.reach}x{window.columns.reach}"
            return f"the window of {reach} does not fit into the padded images: pad them, or take a smaller one"
        if not window.always_sees:
            return "every window must see a place inside the image: take less padding than the window's size"
        (n, *_, c), places = source.shape, window.places
        expected = ir.RankedTensorType.get([n, *places, c], source.element_type, source.encoding)
        if self.result.type != expected:
            return f"the result must be {expected}, but is {self.result.type}"
        return packed_fault(self.result.type, "the result", ranks=(4,))


@dialect.op("pack_patches")
class PackPatchesOp(DialectOp):
    """Pack what a window sees of images of integers: at each of its places the channels of all taps, as one pixel.

    value(result[n, p, q, (r·S + s)·C + c]) = source[n, p·sy − top + r, q·sx − left + s, c], and 0 outside the image

    So images of few channels, such as photographs, fill words of bits: their convolution is one of filters of 1 × 1.
    Codes of values outside the encoding keep their low bits, as in `bit.pack`.

    source: tensor<NxHxWxCxi8>; result: packed NxPxQx(R·S·C), in `u<p>` or `i<p>`. size = array<i64: R, S>;
    stride = array<i64: sy, sx>; padding = array<i64: top, left, bottom, right>.

        %p = "bit.pack_patches"(%x) {size = array<i64: 3, 3>, stride = array<i64: 1, 1>,
            padding = array<i64: 1, 1, 1, 1>} : (tensor<8x16x16x3xi8>) -> tensor<8x16x16x27xi8, #bit.encoding<"u8">>
    """

    PURE = True
    source = Operand()
    size = Attr()
    stride = Attr()
    padding = Attr()
    result = Result()

    @classmethod
    def infer(cls, **_: Any) -> list[ir.Type]:
        raise TypeError("bit.pack_patches: the encoding is in the result type; give it with results=[packed_type(...)]")

    @property
    def window(self) -> Window:
        """The window that moves over an image."""
        numbers = (list(ir.DenseI64ArrayAttr(a)) for a in (self.size, self.stride, self.padding))
        return _pool_window(ir.RankedTensorType(self.source.type).shape, *numbers)

    def check(self) -> str | None:
        if not _is_images(self.source.type, ("i8",)):
            return f"the source must be a tensor<NxHxWxCxi8> of static sizes, but is {self.source.type}"
        images, height, width, _ = ir.RankedTensorType(self.source.type).shape
        if images * height * width > LARGEST_SIZE:
            return f"the source must have at most {LARGEST_SIZE} pixels in all, but is {self.source.type}"
        if fault := packed_fault(self.result.type, "the result", ranks=(4,)):
            return fault
        encoding = require_encoding(self.result.type)
        if encoding.kind not in ("u", "i") or encoding.zero != 0:
            return f"the result must be in u<p> or i<p>, in which 0 is code 0, but is in '{encoding}'"
        if fault := _steps_fault(self, ("size", 2, 1), ("stride", 2, 1), ("padding", 4, 0)):
            return fault
        window, (n, *_, c) = self.window, ir.RankedTensorType(self.source.type).shape
        if min(window.places) < 1:
            return "the window does not fit into the padded images: pad them, or take a smaller one"
        expected = [n, *window.places, window.taps * c]
        if list(ir.RankedTensorType(self.result.type).shape) != expected:
            return f"the result must have the sizes {'x'.join(map(str, expected))}, but is {self.result.type}"
        return None


@dialect.op("reduce_window")
class ReduceWindowOp(DialectOp):
    """The largest number of each channel that a window sees in plain images, or their sum, and an epilogue on it.

    acc[n, p, q, c] = max_{r, s} or Σ_{r, s} source[n, p·sy − top + r, q·sx − left + s, c]
    result[n, p, q, c] = epilogue(acc[n, p, q, c], n, p, q, c)

    Places outside the image are left out; every window must see a place inside. Floats are added in f32, row by row.
    The result may have more channels than the source, for which acc is 0. A window of 1 × 1 sees each pixel by itself.

    source: tensor<NxHxWxCxT> of i8, i16, i32, f16, bf16 or f32; reduction: "max" or "sum"; result: NxPxQxC', plain or
    packed by C', beside a packed one perhaps `kept`. size = array<i64: R, S>; stride = array<i64: sy, sx>;
    padding = array<i64: top, left, bottom, right>. The epilogue is a block (acc: i32, or f32 of floats, image, y, x,
    channel: index), else as of `bit.conv2d`.

        %y = "bit.reduce_window"(%x) ({
        ^bb0(%acc: f32, %image: index, %y: index, %x: index, %channel: index):
          %h = arith.truncf %acc : f32 to f16
          gpu.yield %h : f16
        }) {reduction = "max", size = array<i64: 2, 2>, stride = array<i64: 2, 2>, padding = array<i64: 0, 0, 0, 0>}
          : (tensor<8x16x16x64xf16>) -> tensor<8x8x8x64xf16>
    """

    PURE = True
    source = Operand()
    reduction = Attr(one_of('"max"', '"sum"'))
    size = Attr()
    stride = Attr()
    padding = Attr()
    epilogue = Region(("i32", "index", "index", "index", "index"), extensible=True)
    result = Result()
    kept = OptionalResult()

    @property
    def window(self) -> Window:
        """The window that moves over an image."""
        numbers = (list(ir.DenseI64ArrayAttr(a)) for a in (self.size, self.stride, self.padding))
        return _pool_window(ir.RankedTensorType(self.source.type).shape, *numbers)

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.epilogue.arguments[0].set_type(self.accumulator(self.source.type))

    @classmethod
    def accumulator(cls, source: ir.Type) -> ir.Type:
        """The type in which a source's numbers are reduced.

        Example:
            >>> with ir.Context():
            ...     print(ReduceWindowOp.accumulator(ir.Type.parse("tensor<1x2x2x8xi16>")))
            i32
        """
        is_float = isinstance(ir.ShapedType(source).element_type, ir.FloatType)
        return ir.F32Type.get() if is_float else ir.IntegerType.get_signless(32)

    def check(self) -> str | None:
        if fault := _plain_images_fault(self.source.type):
            return fault
        if fault := _steps_fault(self, ("size", 2, 1), ("stride", 2, 1), ("padding", 4, 0)):
            return fault
        window, (n, *_, channels) = self.window, ir.RankedTensorType(self.source.type).shape
        if min(window.places) < 1 or not window.always_sees:
            return "every window must fit into the padded images, and see a place inside the image"
        result = self.result.type
        has_channels = isinstance(result, ir.RankedTensorType) and result.rank == 4 and result.has_static_shape
        more = max(channels, ir.RankedTensorType(result).shape[3]) if has_channels else channels
        return _images_result_fault(self, (n, *window.places, more), str(self.accumulator(self.source.type)))


_NUMBERS = ("i8", "i16", "i32", "f16", "bf16", "f32")


def _plain_images_fault(type_: ir.Type) -> str | None:
    """Why a type is not that of plain images."""
    if not _is_images(type_, _NUMBERS):
        return f"the source must be tensor<NxHxWxCx{'|'.join(_NUMBERS)}> of static sizes, but is {type_}"
    images, height, width, _ = ir.RankedTensorType(type_).shape
    if images * height * width > LARGEST_SIZE:
        return f"the source must have at most {LARGEST_SIZE} pixels in all, but is {type_}"
    return None


def _images_result_fault(op: Conv2dOp | ReduceWindowOp, shape: tuple[int, ...], acc: str) -> str | None:
    """What is wrong with a result of images, which must have that shape, or with the epilogue that makes it of acc."""
    type_ = op.result.type
    if not isinstance(type_, ir.RankedTensorType) or list(type_.shape) != list(shape):
        return f"the result must be a {'x'.join(map(str, shape))} tensor, but is {type_}"
    if type_.encoding is None:
        fault = element_fault(type_)
    elif not (fault := packed_fault(type_, "the result", ranks=(4,))) and require_encoding(type_).has_row_zeros:
        fault = "the result cannot have a zero point for each pixel: no epilogue makes one"
    return (
        fault
        or kept_fault(op.kept, type_)
        or body_fault(op.epilogue, "tensor.extract", shape, acc=acc, words=("image", "y", "x", "channel"))
        or _places_fault(op.epilogue)
        or yield_fault(op.epilogue, type_.element_type, "epilogue", "the result's element", op.kept)
    )


def _places_fault(epilogue: ir.Block) -> str | None:
    """Why an array is read at places that the result's rows and columns do not have: an image's y alone, say."""
    _, *pixel, channel = epilogue.arguments
    for op in epilogue.operations:
        if op.operation.name == "tensor.extract":
            indices = list(op.operation.operands)[1:]
            if indices != [*pixel, channel] and any(index in pixel for index in indices):
                known = "[image, y, x, channel], or at the channel and constants"
                return f"tensor.extract in its region may read at {known}, and in no other order"
    return None


def _is_images(type_: ir.Type, elements: Sequence[str]) -> bool:
    """Whether a type is that of plain images with one of these element types."""
    if not isinstance(type_, ir.RankedTensorType) or type_.rank != 4 or not type_.has_static_shape:
        return False
    return str(type_.element_type) in elements and type_.encoding is None and min(type_.shape) >= 1


def _pool_window(images: Sequence[int], size: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> Window:
    return _window(images, (1, *size, 1), stride, padding, (1, 1))


def _steps_fault(op: DialectOp, *steps: tuple[str, int, int]) -> str | None:
    """Why an attribute is not so many numbers of at least some size: name, count and least of each."""
    for name, count, least in steps:
        attribute = op.attributes[name]
        numbers = list(ir.DenseI64ArrayAttr(attribute)) if isinstance(attribute, ir.DenseI64ArrayAttr) else []
        if len(numbers) != count or not all(least <= number <= LARGEST_SIZE for number in numbers):
            return f"{name} must be array<i64: …> of {count} numbers from {least} on, but is {attribute}"
    return None


def _window(
    images: Sequence[int],
    filters: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Window:
    (_, height, width, _), (_, rows, columns, _) = images, filters
    top, left, bottom, right = padding
    return Window(
        Axis(height, rows, stride[0], top, bottom, dilation[0]),
        Axis(width, columns, stride[1], left, right, dilation[1]),
    )


def conv2d(
    lhs: ir.Value,
    rhs: ir.Value,
    *,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    result: ir.Type | None = None,
    epilogue: Callable[..., ir.Value] | None = None,
) -> ir.Value:
    """Build a `bit.conv2d`; `epilogue(acc, image, y, x, channel)` builds the element of the result (by default acc).

    padding: top, left, bottom, right.
    """
    steps: dict[str, Any] = {"stride": list(stride), "padding": list(padding), "dilation": list(dilation)}
    steps["groups"] = groups if groups != 1 else None
    op = Conv2dOp(lhs=lhs, rhs=rhs, **steps, results=None if result is None else [result])
    with ir.InsertionPoint(op.epilogue):
        acc, *places = op.epilogue.arguments
        gpu.YieldOp([acc if epilogue is None else epilogue(acc, *places)])
    return op.result
