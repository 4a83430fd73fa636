"""`bit-decompose`: from packed tensors to planes: schedules, corrections, buffers, the target's bit operation."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from mlir import ir
from mlir.dialects import arith, func, gpu, memref

from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.faults import ELEMENTS
from bitmlir.dialects.layout import BITS_PER_WORD, ceil_div, words_per_row
from bitmlir.dialects.pixel_pairs import PAIR_CHANNELS, PAIR_WORDS, PairWindow
from bitmlir.dialects.window import Window
from bitmlir.lowering.byte_images import ByteLayout, suits_bytes
from bitmlir.lowering.passes import Pass, fail
from bitmlir.lowering.schedule import (
    Negate,
    Product,
    Shift,
    choose_operation,
    correction,
    plane_schedule,
    planes_side_by_side,
)
from bitmlir.lowering.targets import Target, get_target
from bitmlir.lowering.views import seen_as

__all__ = ["BitDecompose"]

_IMAGE_RANK = 4  # of a tensor of images, and of filters
_MOST_PATCH_BYTES = _MOST_FILTER_BYTES = 8 << 30
_MANY_WORDS, _MANY_PLACES = 1 << 12, 1 << 17


@dataclass(frozen=True)
class BitDecompose(Pass):
    """Turn bit operations on tensors into plane operations on memrefs.

    Before: functions from tensors to tensors whose bodies hold `bit.*` operations.
    After: functions on memrefs, results last, with `bit.plane_*` operations in order and an allocation for each
    intermediate. Attributes on the arguments (`bit.value`, `bit.part`, …) say what each memref carries.
    """

    name: ClassVar[str] = "bit-decompose"
    anchor: ClassVar[str] = "builtin.module"

    target: str = "cpu"

    def __post_init__(self) -> None:
        get_target(self.target)

    def run(self, op: ir.Operation) -> None:
        target = get_target(self.target)
        for function in [f for f in op.regions[0].blocks[0].operations if isinstance(f, func.FuncOp)]:
            if _holds_bit_operations(function):
                _Decomposition(function, target).run()
                function.operation.erase()


def _holds_bit_operations(function: func.FuncOp) -> bool:
    if function.is_external:
        return False
    typed = [*function.type.inputs, *function.type.results]
    if any(isinstance(t, ir.RankedTensorType) and t.encoding is not None for t in typed):
        return True
    return any(op.operation.name.startswith("bit.") for op in function.entry_block.operations)


@dataclass(frozen=True)
class _Packed:
    """A packed matrix, or a batch of them, as memrefs."""

    encoding: Encoding
    shape: tuple[int, ...]
    planes: ir.Value
    sums: ir.Value
    zeros: ir.Value | None = None

    def row_at(self, row: ir.Value, number: Sequence[ir.Value]) -> _Row:
        """A row; of a batch, in the matrix of that number."""
        return _Row(self, [*number, row] if len(self.shape) == 3 else [row])


@dataclass(frozen=True)
class _Row:
    """A row of a packed matrix, and how it is indexed."""

    matrix: _Packed
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


_Product = bit.MatmulOp | bit.GroupedMatmulOp | bit.SearchOp
_WithEpilogue = _Product | bit.Conv2dOp | bit.ReduceWindowOp
_OfImages = (bit.Conv2dOp, bit.ReduceWindowOp)


def _i32() -> ir.Type:
    return ir.IntegerType.get_signless(32)


def _part_types(
    type_: ir.Type, *, tiles: bool = False, is_filter: bool = False, by_pixel: bool = True, in_pairs: bool = False
) -> dict[str, ir.MemRefType]:
    """The memrefs that carry a tensor, by part. Pixels of images are rows; those of a filter are one row together.

    A plain tensor of as many dimensions has images if it is used `by_pixel`. Pixels `in_pairs` have no padding.
    """
    shaped = ir.RankedTensorType(type_)
    encoding = bit.encoding_of(type_)
    *rows, k = shaped.shape or [1]
    has_images = shaped.rank == _IMAGE_RANK and (encoding is not None or by_pixel)
    if has_images:
        rows = [math.prod(rows)]
    if encoding is None:
        if not tiles:
            return {"values": ir.MemRefType.get([*rows, k] if has_images else shaped.shape, shaped.element_type)}
        planes, row_tiles, k_tiles = shaped.shape
        return {"tiles": ir.MemRefType.get([planes, row_tiles, ceil_div(k_tiles, BITS_PER_WORD)], _i32())}
    words = PAIR_WORDS if in_pairs else words_per_row(k)
    filters = shaped.shape[0] if is_filter else 1
    whole = [filters, rows[0] // filters * words] if is_filter else [*rows, words]
    parts = {
        "planes": ir.MemRefType.get([encoding.bits, *whole], _i32()),
        "sums": ir.MemRefType.get(rows, _i32()),
    }
    if encoding.has_row_zeros:
        parts["zeros"] = ir.MemRefType.get(rows, _i32())
    return parts


class _Decomposition:
    """One function on its way from tensors to memrefs."""

    def __init__(self, function: func.FuncOp, target: Target) -> None:
        self.function = function
        self.target = target
        self.values: dict[ir.Value, _Packed | ir.Value] = {}
        self.returned: list[ir.Value] = []

    def run(self) -> None:
        block = self.function.entry_block
        if len(self.function.body.blocks) > 1:
            fail(self.function, "a function on packed tensors must have one block, but this one has several")
        operations = list(block.operations)
        returned = self.returned = list(operations[-1].operation.operands)
        self._check_returns(returned)
        types: list[ir.Type] = []
        attributes: list[ir.Attribute] = []
        entries = [(value, self._name(value.arg_number, "argument"), False) for value in block.arguments]
        entries += [(value, self._name(i, "result"), True) for i, value in enumerate(returned)]
        self._check_names([name for _, name, _ in entries])
        for value, name, is_result in entries:
            if not isinstance(value.type, ir.RankedTensorType) or not value.type.has_static_shape:
                fail(self.function, f"'{name}' must be a tensor of static shape, but is {value.type}")
            if value.type.encoding is None and str(value.type.element_type) not in ("i1", *ELEMENTS):
                fail(self.function, f"'{name}' must have elements of i1, {', '.join(ELEMENTS)}, but is {value.type}")
            covered = self._covered_by(value)
            for part, type_ in self._parts_of(value).items():
                types.append(type_)
                attributes.append(_part_attributes(name, part, covered or value, is_result, self._default(value)))
        location = self.function.location
        with ir.InsertionPoint(self.function), location:
            new = func.FuncOp(self.function.name.value, ir.FunctionType.get(types, []))
            new.arg_attrs = attributes
            memrefs = iter(new.add_entry_block().arguments)
        for value, _, _ in entries:
            parts = {part: next(memrefs) for part in self._parts_of(value)}
            self.values[value] = self._carried(value, parts)
        with ir.InsertionPoint(new.entry_block):
            for op in operations[:-1]:
                with op.operation.location:
                    self._lower(op)
            func.ReturnOp([], loc=operations[-1].operation.location)

    # --- the function's frame ---

    def _name(self, index: int, kind: str) -> str:
        """The name of an argument or result: its `bit.name` attribute, or its kind and number."""
        key = "arg_attrs" if kind == "argument" else "res_attrs"
        if key in self.function.attributes:
            named = ir.DictAttr(self.function.attributes[key][index])
            if "bit.name" in named:
                name = named["bit.name"]
                if not isinstance(name, ir.StringAttr):
                    fail(self.function, f"bit.name must be a string, but is {name}")
                return name.value
        return f"{kind}{index}"

    def _default(self, value: ir.Value) -> ir.Attribute | None:
        """What an argument stands for when a call leaves it out: its `bit.default`."""
        if not isinstance(value, ir.BlockArgument) or "arg_attrs" not in self.function.attributes:
            return None
        named = ir.DictAttr(self.function.arg_attrs[value.arg_number])
        return named["bit.default"] if "bit.default" in named else None  # noqa: SIM401  # its `get` makes attributes

    def _check_names(self, names: list[str]) -> None:
        for name in names:
            if names.count(name) > 1:
                fail(self.function, f"arguments and results must have different names, but '{name}' is there twice")

    def _check_returns(self, returned: list[ir.Value]) -> None:
        if not returned:
            fail(self.function, "a function on packed tensors must return its results, but this one returns none")
        for value in returned:
            if isinstance(value, ir.BlockArgument):
                fail(self.function, "a function must return results of operations, but this one returns an argument")
        if len(set(returned)) != len(returned):
            fail(self.function, "a function must return each value once, but this one returns one twice")

    def _covered_by(self, value: ir.Value) -> ir.Value | None:
        """The operand that a tile bitmap covers, if the value is used as one."""
        for owner in _users(value):
            if isinstance(owner, bit.MatmulOp):
                for tiles, operand in ((owner.lhs_tiles, owner.lhs), (owner.rhs_tiles, owner.rhs)):
                    if tiles is not None and tiles == value:
                        return operand
        return None

    def _parts_of(self, value: ir.Value) -> dict[str, ir.MemRefType]:
        """The memrefs that carry a value, by part."""
        return _part_types(
            value.type,
            tiles=self._covered_by(value) is not None,
            is_filter=self._is_filter(value),
            by_pixel=_is_image(value),
        )

    def _is_filter(self, value: ir.Value) -> bool:
        """Whether convolutions take a value as their filters."""
        users = _users(value)
        convolutions = [user for user in users if isinstance(user, bit.Conv2dOp) and user.rhs == value]
        if not convolutions:
            return False
        if len(convolutions) != len(users) or any(c.lhs == value for c in convolutions):
            fail(convolutions[0], "filters cannot be used for something else: give them as an argument of their own")
        return True

    def _carried(self, value: ir.Value, parts: dict[str, ir.Value]) -> _Packed | ir.Value:
        encoding = bit.encoding_of(value.type)
        if encoding is None:
            (memref_value,) = parts.values()
            return memref_value
        shape = tuple(ir.RankedTensorType(value.type).shape)
        return _Packed(encoding, shape, parts["planes"], parts["sums"], parts.get("zeros"))

    def _result(self, value: ir.Value) -> _Packed | ir.Value:
        """Where an operation's result goes: the function's own result, or a fresh allocation."""
        if value not in self.values:
            types = _part_types(value.type, in_pairs=self._in_pairs(value))
            parts = {part: memref.alloc(type_, [], []) for part, type_ in types.items()}
            self.values[value] = self._carried(value, parts)
        return self.values[value]

    def _in_pairs(self, value: ir.Value) -> bool:
        """Whether the pixels of images lie side by side in pairs (see `PairWindow`)."""
        maker = None if isinstance(value, ir.BlockArgument) else value.owner.opview
        if isinstance(maker, bit.PoolOp) and not self._in_pairs(maker.source):
            return False
        return isinstance(maker, (bit.Conv2dOp, bit.ReduceWindowOp, bit.PoolOp)) and self._can_pair(value)

    def _can_pair(self, value: ir.Value) -> bool:
        """Whether all that takes images can take their pixels in pairs."""
        encoding, shape = bit.encoding_of(value.type), ir.RankedTensorType(value.type).shape
        if encoding is None or encoding.has_row_zeros or len(shape) != _IMAGE_RANK or not self.target.is_gpu:
            return False
        if shape[3] != PAIR_CHANNELS or shape[2] % 2 or value in self.returned:
            return False
        users = _users(value)
        return all(
            (isinstance(user, bit.Conv2dOp) and user.lhs == value and self._over_pairs(user) is not None)
            or (isinstance(user, bit.PoolOp) and self._can_pair(user.result))
            for user in users
        )

    def _over_pairs(self, op: bit.Conv2dOp) -> PairWindow | None:
        """The window of a convolution over pairs of pixels, if it can take them."""
        pairs = PairWindow.of(op.window) if op.group_count == 1 else None
        if pairs is None or not (pairs.over_pairs.sees_pixels or self._gathers(pairs.over_pairs)):
            return None
        _, *pixel, _ = op.epilogue.arguments
        channels = ir.RankedTensorType(op.result.type).shape[3]
        is_whole = bit.encoding_of(op.result.type) is None or words_per_row(channels) * BITS_PER_WORD == channels
        is_whole = is_whole or (channels == PAIR_CHANNELS and self._in_pairs(op.result))
        computes = any(_is_arithmetic(use.owner) for value in pixel for use in value.uses)
        return None if pairs.beside > 1 and (computes or not is_whole) else pairs

    def _kept(self, op: bit.MatmulOp | bit.GroupedMatmulOp | bit.Conv2dOp | bit.ReduceWindowOp) -> ir.Value | None:
        """Where the numbers go that an operation keeps beside its result."""
        if op.kept is None:
            return None
        kept = self._result(op.kept)
        assert isinstance(kept, ir.Value)
        return kept

    # --- operations ---

    def _lower(self, op: ir.OpView) -> None:
        if isinstance(op, (bit.MatmulOp, bit.GroupedMatmulOp)):
            self._matmul(op)
        elif isinstance(op, bit.Conv2dOp):
            self._conv2d(op)
        elif isinstance(op, bit.PoolOp):
            source, out = self.values[op.source], self._result(op.result)
            bit.PlanePoolOp(
                planes=source.planes,
                out=out.planes,
                out_sums=out.sums,
                encoding=ir.RankedTensorType(op.source.type).encoding,
                window=bit.window_attribute(op.window),
            )
        elif isinstance(op, bit.ReduceWindowOp):
            self._reduce_window(op)
        elif isinstance(op, bit.PackPatchesOp) and self._feeds_bytes(op):
            pass  # the convolution takes the bytes themselves
        elif isinstance(op, bit.PackPatchesOp):
            out = self._result(op.result)
            bit.PlanePackPatchesOp(
                source=self.values[op.source],
                planes=out.planes,
                sums=out.sums,
                encoding=ir.RankedTensorType(op.result.type).encoding,
                window=bit.window_attribute(op.window),
            )
        elif isinstance(op, bit.SearchOp):
            self._search(op)
        elif isinstance(op, (bit.PackOp, bit.QuantiseOp)):
            out = self._result(op.result)
            scale = op.scale if isinstance(op, bit.QuantiseOp) else None
            bit.PlanePackOp(
                source=self.values[op.source],
                planes=out.planes,
                sums=out.sums,
                scale=None if scale is None else self.values[scale],
                zeros=None if op.zeros is None else self.values[op.zeros],
                out_zeros=out.zeros,
                encoding=ir.RankedTensorType(op.result.type).encoding,
            )
        elif isinstance(op, bit.UnpackOp):
            source, encoding = self.values[op.source], ir.RankedTensorType(op.source.type).encoding
            out = self._result(op.result)
            bit.PlaneUnpackOp(planes=source.planes, out=out, zeros=source.zeros, encoding=encoding)
        elif op.operation.name == "arith.constant" and not isinstance(op.result.type, ir.ShapedType):
            self.values[op.result] = op.operation.clone().operation.results[0]
        else:
            allowed = "beside bit.* only arith.constant and func.return can stand here"
            fail(op, f"'{op.operation.name}' cannot be decomposed: {allowed}")

    def _matmul(self, op: bit.MatmulOp | bit.GroupedMatmulOp) -> None:
        lhs, rhs = self.values[op.lhs], self.values[op.rhs]
        sparse = op.lhs_tiles is not None or op.rhs_tiles is not None
        operation = self._operation(op, sparse)
        out = self._result(op.result)
        packed = isinstance(out, _Packed)
        bit.plane_matmul(
            lhs.planes,
            rhs.planes,
            out.planes if packed else out,
            out_sums=out.sums if packed else None,
            kept=self._kept(op),
            out_encoding=out.encoding if packed else None,
            lhs_tiles=None if op.lhs_tiles is None else self.values[op.lhs_tiles],
            rhs_tiles=None if op.rhs_tiles is None else self.values[op.rhs_tiles],
            offsets=self.values[op.offsets] if isinstance(op, bit.GroupedMatmulOp) else None,
            k=lhs.shape[-1],
            bitwise=operation,
            body=functools.partial(self._body, op, operation),
        )

    def _search(self, op: bit.SearchOp) -> None:
        lhs, rhs = self.values[op.lhs], self.values[op.rhs]
        operation = self._operation(op, sparse=False)
        values, columns = self._result(op.values), self._result(op.columns)
        shape = ir.RankedTensorType(op.values.type).shape
        keys = memref.alloc(ir.MemRefType.get(shape, ir.IntegerType.get_signless(64)), [], [])
        bit.plane_search(
            lhs.planes,
            rhs.planes,
            keys,
            k=lhs.shape[1],
            bitwise=operation,
            order=op.order,
            body=functools.partial(self._body, op, operation),
        )
        bit.PlaneRanksOp(keys=keys, values=values, columns=columns, order=op.order)

    def _feeds_bytes(self, op: bit.PackPatchesOp) -> bool:
        """Whether all that takes packed patches is one convolution of pixels, which the int8 unit can do on bytes."""
        users = _users(op.result)
        if len(users) != 1 or not isinstance(users[0], bit.Conv2dOp) or users[0].lhs != op.result:
            return False
        if users[0].group_count > 1:
            return False
        images, channels = ir.RankedTensorType(op.source.type).shape[0], ir.RankedTensorType(op.source.type).shape[3]
        layout = ByteLayout(op.window, channels, ir.RankedTensorType(users[0].rhs.type).shape[0])
        is_bytes = str(bit.encoding_of(op.result.type)) == "u8" and users[0].window.sees_pixels
        return is_bytes and suits_bytes(self.target, layout, images, bit.require_encoding(users[0].rhs.type))

    def _byte_conv(self, op: bit.Conv2dOp, source: bit.PackPatchesOp) -> None:
        """A convolution of the bytes of images."""
        if not isinstance(op.rhs, ir.BlockArgument):
            fail(op, "filters must be an argument of the function, packed beforehand")
        out, rhs = self._result(op.result), self.values[op.rhs]
        packed = isinstance(out, _Packed)
        made = bit.PlaneByteConvOp(
            source=self.values[source.source],
            rhs=rhs.planes,
            out=out.planes if packed else out,
            out_sums=out.sums if packed else None,
            kept=self._kept(op),
            rhs_encoding=ir.RankedTensorType(op.rhs.type).encoding,
            out_encoding=ir.StringAttr.get(str(out.encoding) if packed else ""),
            window=bit.window_attribute(source.window),
        )
        with ir.InsertionPoint(made.body):
            acc = bit.PlaneProductOp(acc=_constant(0), lhs_planes=[0], rhs_planes=[0]).result
            gpu.YieldOp(self._epilogue(op, acc, *made.body.arguments))

    def _conv2d(self, op: bit.Conv2dOp) -> None:
        """Patches of the images times filters. By AND, to which what lies outside the images adds nothing.

        A window that sees each pixel by itself has the images for patches. Filters in groups become filters of all
        channels.
        """
        if not isinstance(op.rhs, ir.BlockArgument):
            fail(op, "filters must be an argument of the function, packed beforehand")
        if op.lhs not in self.values:
            patches = op.lhs.owner.opview
            assert isinstance(patches, bit.PackPatchesOp)
            self._byte_conv(op, patches)
            return
        lhs, rhs, window = self.values[op.lhs], self._filters(op), op.window
        assert isinstance(lhs, _Packed)
        self._check_range(op, lhs, rhs, "and")
        pairs = self._over_pairs(op) if self._in_pairs(op.lhs) else None
        beside = 1 if pairs is None else pairs.beside
        planes, filters, seen = lhs.planes, rhs, window
        if pairs is not None:
            bits, pixels, words = ir.MemRefType(planes.type).shape
            planes = seen_as(planes, bits, pixels // 2, 2 * words)
            filters, seen = self._pair_filters(rhs, pairs), pairs.over_pairs
        columns, row_words = ir.MemRefType(filters.planes.type).shape[1:]
        places, attribute = lhs.shape[0] * math.prod(window.places), bit.window_attribute(window)
        is_pixel = seen.sees_pixels
        gathers = self._gathers(seen) and not is_pixel  # by itself what it sees
        patches = planes
        if not gathers and not is_pixel:
            if places * row_words * lhs.encoding.bits * (BITS_PER_WORD // 8) >= _MOST_PATCH_BYTES:
                fail(op, "the patches of all images would take 8 GiB or more: take fewer images at a time")
            patches = memref.alloc(ir.MemRefType.get([lhs.encoding.bits, places, row_words], _i32()), [], [])
            bit.PlanePatchesOp(planes=lhs.planes, out=patches, window=attribute)
        corrections = self._corrections(lhs, rhs, filters, window, seen, gathers, columns * row_words)
        out = self._result(op.result)
        packed = isinstance(out, _Packed)
        kept = self._kept(op)
        bit.plane_matmul(
            patches,
            filters.planes,
            _beside(out.planes if packed else out, beside),
            out_sums=out.sums if packed else None,
            kept=None if kept is None else _beside(kept, beside),
            out_encoding=out.encoding if packed else None,
            k=row_words * BITS_PER_WORD,
            bitwise="and",
            window=bit.window_attribute(seen) if gathers else None,
            body=functools.partial(self._conv_body, op, rhs.encoding, corrections, beside),
        )

    def _corrections(
        self,
        lhs: _Packed,
        rhs: _Packed,
        filters: _Packed,
        window: Window,
        seen: Window,
        gathers: bool,
        words: int,
    ) -> _Corrections:
        """What the sums of products of images lack, and where it comes from. `seen` and `filters`: what products take,
        over pairs of pixels where those are side by side; `words`: that they count at a place."""
        sums = edges = None
        places, attribute = lhs.shape[0] * math.prod(window.places), bit.window_attribute(window)
        adds_itself = gathers and _adds_sums(places, words * lhs.encoding.bits * rhs.encoding.bits)
        if rhs.encoding.offset and (window.sees_pixels or adds_itself):
            sums = lhs.sums
        elif rhs.encoding.offset:
            sums = memref.alloc(ir.MemRefType.get([places], _i32()), [], [])
            bit.PlanePatchSumsOp(sums=lhs.sums, out=sums, window=attribute)
        if lhs.encoding.offset:
            columns = ir.MemRefType(filters.planes.type).shape[1]
            edges = memref.alloc(ir.MemRefType.get([len(seen.classes), columns], _i32()), [], [])
            scale, offset = (1, 0) if filters is not rhs else _tap_value(rhs)
            bit.PlaneEdgeSumsOp(
                sums=filters.sums, out=edges, scale=scale, offset=offset, window=bit.window_attribute(seen)
            )
        by_window = None if window.sees_pixels or not adds_itself else attribute
        return _Corrections(sums, by_window, edges, bit.window_attribute(seen))

    def _pair_filters(self, filters: _Packed, pairs: PairWindow) -> _Packed:
        """Filters for pairs of pixels; their sums are those of values."""
        bits, count, _ = ir.MemRefType(filters.planes.type).shape
        count, taps, words = count * pairs.beside, pairs.over_pairs.taps, words_per_row(PAIR_CHANNELS)
        planes = memref.alloc(ir.MemRefType.get([bits, count, taps * words], _i32()), [], [])
        sums = memref.alloc(ir.MemRefType.get([count * taps], _i32()), [], [])
        scale, offset = _tap_value(filters)
        bit.PlanePairFiltersOp(
            planes=filters.planes,
            sums=filters.sums,
            out=planes,
            out_sums=sums,
            scale=scale,
            offset=offset,
            window=bit.window_attribute(pairs.window),
        )
        return _Packed(filters.encoding, filters.shape, planes, sums)

    def _gathers(self, window: Window) -> bool:
        """Whether products gather what a window sees themselves."""
        return self.target.is_gpu and (self.target.copy != "tma" or window.im2col_fault is None)

    def _filters(self, op: bit.Conv2dOp) -> _Packed:
        """The filters of all channels that a convolution multiplies with."""
        filters, groups = self.values[op.rhs], op.group_count
        assert isinstance(filters, _Packed)
        if groups == 1:
            return filters
        channels = ir.RankedTensorType(op.lhs.type).shape[-1]
        encoding, shape = filters.encoding.with_zero, (*filters.shape[:-1], channels)
        row_words = math.prod(shape[1:-1]) * words_per_row(channels)
        if encoding.bits * shape[0] * row_words * (BITS_PER_WORD // 8) >= _MOST_FILTER_BYTES:
            fail(op, "filters of all channels would take 8 GiB or more: take fewer of them at a time")
        planes = memref.alloc(ir.MemRefType.get([encoding.bits, shape[0], row_words], _i32()), [], [])
        sums = memref.alloc(ir.MemRefType.get([math.prod(shape[:-1])], _i32()), [], [])
        bit.PlaneSpreadFiltersOp(
            planes=filters.planes,
            sums=filters.sums,
            out=planes,
            out_sums=sums,
            encoding=ir.RankedTensorType(op.rhs.type).encoding,
            groups=groups,
            channels=channels,
        )
        return _Packed(encoding, shape, planes, sums)

    def _reduce_window(self, op: bit.ReduceWindowOp) -> None:
        """The same on pixels as rows."""
        out = self._result(op.result)
        packed = isinstance(out, _Packed)
        made = bit.PlaneReduceWindowOp(
            source=self.values[op.source],
            out=out.planes if packed else out,
            out_sums=out.sums if packed else None,
            kept=self._kept(op),
            channels=ir.RankedTensorType(op.result.type).shape[3],
            reduction=op.reduction,
            out_encoding=ir.StringAttr.get(str(out.encoding) if packed else ""),
            window=bit.window_attribute(op.window),
        )
        with ir.InsertionPoint(made.body):
            acc = bit.WindowValueOp(results=[op.accumulator(op.source.type)]).result
            gpu.YieldOp(self._epilogue(op, acc, *made.body.arguments))

    def _conv_body(
        self, op: bit.Conv2dOp, filters: Encoding, corrections: _Corrections, beside: int, row: ir.Value, col: ir.Value
    ) -> list[ir.Value]:
        """One element of a convolution: as of a product, but for what taps outside the image would have added.

        filters: the encoding of those that it multiplies with. beside: places that a row has side by side.
        """
        images, channels = self.values[op.lhs].encoding, ir.RankedTensorType(op.result.type).shape[3]
        acc = _schedule(images, filters)
        c = correction(images, filters, "and", 0)
        by_row = by_edge = None
        if corrections.sums is not None:
            places = [row] if beside == 1 else [_moved(row, beside, number) for number in range(beside)]
            terms = [_times(functools.partial(corrections.sum_at, place), c.lhs_sums) for place in places]
            by_row = terms[0] if beside == 1 else _term_by_column(terms, col, channels)
        if corrections.edges is not None:
            number = bit.WindowClassOp(place=row, window=corrections.seen).result
            by_edge = _times(lambda: memref.load(corrections.edges, [number, col]), images.offset)
        acc = _plain(_sum(_times(lambda: acc, c.acc), by_row, by_edge))
        return self._epilogue(op, acc, row, col, beside=beside)

    def _operation(self, op: _Product, sparse: bool) -> str:
        """The bit operation by which the target computes a product."""
        lhs, rhs = self.values[op.lhs], self.values[op.rhs]
        operation = choose_operation(lhs.encoding, rhs.encoding, self.target.operations, sparse)
        self._check_range(op, lhs, rhs, operation)
        return operation

    def _body(self, op: _Product, operation: str, row: ir.Value, col: ir.Value, *number: ir.Value) -> list[ir.Value]:
        """One element: the plane schedule, the corrections and the epilogue. `number` is that of the matrix in a batch,
        or of the group."""
        lhs, rhs = self.values[op.lhs], self.values[op.rhs]
        sparse = isinstance(op, bit.MatmulOp) and (op.lhs_tiles is not None or op.rhs_tiles is not None)
        packed = isinstance(op, bit.SearchOp) or bit.encoding_of(op.result.type) is not None
        grouped = isinstance(op, bit.GroupedMatmulOp)
        alike = not sparse and not packed and not grouped and planes_side_by_side(lhs.encoding, lhs.shape[-2])
        if self.target.copy == "tma" and alike:
            acc = _schedule_by_plane(lhs.encoding, rhs.encoding)
        else:
            acc = _schedule(lhs.encoding, rhs.encoding)
        acc = _correct(acc, lhs.row_at(row, number), rhs.row_at(col, number), operation)
        return self._epilogue(op, acc, row, col, *number)

    def _check_range(self, op: _WithEpilogue, lhs: _Packed, rhs: _Packed, operation: str) -> None:
        """A unit that has only XOR yields twice the sum of ANDs, which must fit before it is halved."""
        k = math.prod(rhs.shape[1:]) if isinstance(op, bit.Conv2dOp) else lhs.shape[-1]
        emulated = operation not in self.target.operations
        if not emulated and not correction(lhs.encoding, rhs.encoding, operation, k).halve:
            return
        x, y = _largest_planes(lhs.encoding), _largest_planes(rhs.encoding)
        largest = 2 * k * (x * y + abs(lhs.encoding.offset) * y + abs(rhs.encoding.offset) * x)
        if largest >= 2**31:
            limit = k * (2**31 - 1) // largest
            fail(
                op,
                f"K = {k} with '{lhs.encoding}' times '{rhs.encoding}' can leave int32 on {self.target.name}, which "
                f"has only XOR and needs one bit more: split the product along K into parts of at most {limit}",
            )

    def _epilogue(self, op: _WithEpilogue, acc: ir.Value, *places: ir.Value, beside: int = 1) -> list[ir.Value]:
        """Clone the epilogue onto the corrected accumulator, reading memrefs instead of tensors; what it yields.

        beside: places of images that a row has side by side.
        """
        if isinstance(op, _OfImages):
            row, col = places
            _, *pixel, _ = op.epilogue.arguments
            channel = col
            if beside > 1:
                channels = ir.RankedTensorType(op.result.type).shape[3]
                channel = arith.remui(col, arith.constant(ir.IndexType.get(), channels))
            arguments = [acc, *_pixel(op.window, row, pixel), channel]
        else:
            arguments = [acc, *places]
        mapping: dict[ir.Value, ir.Value] = dict(zip(op.epilogue.arguments, arguments, strict=True))
        operations = list(op.epilogue.operations)
        for inner in operations[:-1]:
            operands = [mapping.get(v, self.values.get(v, v)) for v in inner.operation.operands]
            with inner.operation.location:
                if inner.operation.name == "tensor.extract":
                    if self._covered_by(inner.operation.operands[0]) is not None:
                        fail(inner, "an epilogue can read only plain tensors, but this is a tile bitmap")
                    if isinstance(operands[0], _Packed):
                        fail(inner, "an epilogue can read only plain tensors, but this is a packed matrix")
                    array = operands[0]
                    assert isinstance(array, ir.Value)
                    at = operands[1:]
                    if _reads_own_place(op, inner):
                        with ir.InsertionPoint(ir.InsertionPoint.current.block.owner):
                            array = _beside(array, beside)
                        at = list(places)
                    if len(at) != ir.MemRefType(array.type).rank:
                        fail(inner, "an array of images, read, made or packed by pixel, cannot be read otherwise")
                    mapping[inner.operation.results[0]] = memref.load(array, at)
                    continue
            clone = inner.operation.clone()
            for index, value in enumerate(operands):
                clone.operation.operands[index] = value
            mapping.update(zip(inner.operation.results, clone.operation.results, strict=True))
        return [mapping.get(v, self.values.get(v, v)) for v in operations[-1].operation.operands]


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

    def sum_at(self, place: ir.Value) -> ir.Value:
        """The sum of a place's patch."""
        if self.window is not None:
            return bit.WindowSumOp(sums=self.sums, place=place, window=self.window).result
        return memref.load(self.sums, [place])


def _users(value: ir.Value) -> list[ir.OpView]:
    """The operations that take a value."""
    return [use.owner.opview if isinstance(use.owner, ir.Operation) else use.owner for use in value.uses]


def _beside(array: ir.Value, places: int) -> ir.Value:
    """An array whose rows have so many of its own side by side."""
    *planes, rows, columns = ir.MemRefType(array.type).shape
    return array if places == 1 else seen_as(array, *planes, rows // places, columns * places)


def _tap_value(filters: _Packed) -> tuple[int, int]:
    """What makes a tap's sum of values of its weighted bits: a factor, and what is added."""
    return filters.encoding.scale, filters.encoding.offset * filters.shape[-1]


def _moved(index: ir.Value, factor: int, distance: int) -> ir.Value:
    """index · factor + distance"""
    type_ = ir.IndexType.get()
    product = arith.muli(index, arith.constant(type_, factor))
    return arith.addi(product, arith.constant(type_, distance)) if distance else product


def _adds_sums(places: int, words_per_place: int) -> bool:
    """Whether a product of so many places should add up the sums of pixels itself, beside the words that it counts for
    each: on an H200 it takes no time, unless there are few words and many places."""
    return words_per_place >= _MANY_WORDS or places < _MANY_PLACES


def _reads_own_place(op: ir.OpView, read: ir.OpView) -> bool:
    """Whether a read in an operation's region is at a convolution's own pixel and channel."""
    return isinstance(op, _OfImages) and list(read.operation.operands)[1:] == list(op.epilogue.arguments)[1:]


def _is_image(value: ir.Value) -> bool:
    """Whether an operation on images makes a plain tensor, or reads it by pixel, or pixels are packed."""
    if not isinstance(value, ir.BlockArgument) and isinstance(value.owner.opview, _OfImages):
        return True
    for user in _users(value):
        if isinstance(user, (bit.PackOp, bit.PackPatchesOp, bit.ReduceWindowOp)):
            return True
        around = user.operation.parent
        if user.operation.name == "tensor.extract" and around is not None and _reads_own_place(around.opview, user):
            return True
    return False


def _pixel(window: Window, row: ir.Value, wanted: Sequence[ir.Value]) -> list[ir.Value]:
    """Image, y and x of a row of the result, where something uses them."""
    height, width = window.places
    index = ir.IndexType.get()

    def part(divisor: int, size: int | None) -> ir.Value:
        value = arith.divui(row, arith.constant(index, divisor)) if divisor > 1 else row
        return value if size is None else arith.remui(value, arith.constant(index, size))

    parts = ((height * width, None), (width, height), (1, width))
    is_used = [any(_is_arithmetic(use.owner) for use in value.uses) for value in wanted]
    return [part(*given) if used else row for given, used in zip(parts, is_used, strict=True)]


def _is_arithmetic(op: ir.Operation | ir.OpView) -> bool:
    return op.operation.name != "tensor.extract"


def _largest_planes(encoding: Encoding) -> int:
    """The largest absolute value of Σ weights[i]·P_i."""
    return max(sum(w for w in encoding.weights if w > 0), -sum(w for w in encoding.weights if w < 0))


def _part_attributes(
    name: str, part: str, value: ir.Value, is_result: bool, default: ir.Attribute | None
) -> ir.DictAttr:
    """What a memref argument carries; `value` is the tensor, or for a tile bitmap the operand it covers."""
    shaped = ir.RankedTensorType(value.type)
    encoding = bit.encoding_of(value.type)
    attributes: dict[str, ir.Attribute] = {
        "bit.value": ir.StringAttr.get(name),
        "bit.part": ir.StringAttr.get(part),
        "bit.shape": ir.DenseI64ArrayAttr.get(list(shaped.shape)),
    }
    if encoding is not None:
        attributes["bit.encoding"] = ir.StringAttr.get(str(encoding))
    if is_result:
        attributes["bit.result"] = ir.UnitAttr.get()
    if default is not None:
        attributes["bit.default"] = default
    return ir.DictAttr.get(attributes)


# --- arithmetic on one element ---------------------------------------------------------------------


def _constant(value: int) -> ir.Value:
    wrapped = (value + 2**31) % 2**32 - 2**31  # all arithmetic is modulo 2^32; the final value fits
    return arith.constant(_i32(), wrapped)


def _schedule_by_plane(lhs: Encoding, rhs: Encoding) -> ir.Value:
    """The plane schedule with an accumulator for each plane of lhs, so that each plane of rhs is read once."""
    sums = [_times(functools.partial(_schedule, lhs, rhs, number), weight) for number, weight in enumerate(lhs.weights)]
    return _plain(_sum(*sums))


def _schedule(lhs: Encoding, rhs: Encoding, lhs_plane: int | None = None) -> ir.Value:
    """The plane schedule as operations on one accumulator; of a single plane of lhs, taken with weight 1, if asked."""
    acc = _constant(0)
    for step in plane_schedule(lhs, rhs, lhs_plane):
        match step:
            case Shift():
                acc = arith.shli(acc, _constant(step.by))
            case Negate():
                acc = arith.subi(_constant(0), acc)
            case Product():
                sides = [list(side) for side in zip(*step.pairs, strict=True)]
                acc = bit.PlaneProductOp(acc=acc, lhs_planes=sides[0], rhs_planes=sides[1]).result
    return acc


@dataclass(frozen=True)
class _Term:
    """A value to be added, or subtracted."""

    value: ir.Value
    negative: bool = False


def _times(value: Callable[[], ir.Value], factor: int) -> _Term | None:
    """value · factor; None for zero, so that what is not needed is not even read.

    By shifts where that is possible: LLVM 22 takes quadratic time over straight-line code with many multiplications.
    """
    size = abs(factor)
    if size == 0:
        return None
    if size & (size - 1):
        return _Term(arith.muli(value(), _constant(size)), factor < 0)
    exponent = size.bit_length() - 1
    return _Term(arith.shli(value(), _constant(exponent)) if exponent else value(), factor < 0)


def _term_by_column(terms: Sequence[_Term | None], column: ir.Value, width: int) -> _Term | None:
    """Of terms that are alike, the one whose run of so many columns a column lies in."""
    present = [term for term in terms if term is not None]
    if not present:
        return None
    value = present[-1].value
    for number in range(len(present) - 2, -1, -1):
        end = arith.constant(ir.IndexType.get(), (number + 1) * width)
        value = arith.select(arith.cmpi(arith.CmpIPredicate.ult, column, end), present[number].value, value)
    return _Term(value, present[0].negative)


def _sum(*terms: _Term | None) -> _Term | None:
    """The sum of terms; it begins with a positive one if there is one."""
    present = sorted((term for term in terms if term is not None), key=lambda term: term.negative)
    if not present:
        return None
    total, all_negative = present[0].value, present[0].negative
    for term in present[1:]:
        add = arith.subi if term.negative and not all_negative else arith.addi
        total = add(total, term.value)
    return _Term(total, all_negative)


def _plain(term: _Term | None) -> ir.Value:
    """A term as a value."""
    assert term is not None
    return arith.subi(_constant(0), term.value) if term.negative else term.value


def _correct(acc: ir.Value, lhs: _Row, rhs: _Row, operation: str) -> ir.Value:
    """The product of two rows from the schedule's accumulator: see `bitmlir.lowering.schedule`.

    With a zero point a row, value = stored − zeros[row], the product gains
    − zeros_x·rowsum(Y) − zeros_y·rowsum(X) + zeros_x·zeros_y·K, rowsum being that of the values before their zeros.
    """
    k = lhs.k
    c = correction(lhs.encoding, rhs.encoding, operation, k)
    constant = None if c.constant == 0 else _Term(_constant(c.constant))
    by_row, by_col = _times(lhs.sum, c.lhs_sums), _times(rhs.sum, c.rhs_sums)
    scaled = _times(lambda: acc, c.acc)
    if c.halve:
        value = _sum(_Term(arith.shrsi(_plain(_sum(scaled, by_row, by_col)), _constant(1))), constant)
    else:
        value = _sum(scaled, by_row, _sum(by_col, constant))

    def zero_times(row: _Row, other: _Row) -> _Term | None:
        """− the row's zero point · the other row's sum"""
        if not row.encoding.has_row_zeros:
            return None
        offset = None if other.encoding.offset == 0 else _Term(_constant(other.encoding.offset * k))
        other_sum = _plain(_sum(_times(other.sum, other.encoding.scale), offset))
        return _Term(arith.muli(row.zero(), other_sum), negative=True)

    both = None
    if lhs.encoding.has_row_zeros and rhs.encoding.has_row_zeros:
        product = arith.muli(lhs.zero(), rhs.zero())
        both = _times(lambda: product, k)
    by_lhs_zeros = zero_times(lhs, rhs)
    by_rhs_zeros = zero_times(rhs, lhs)
    return _plain(_sum(value, by_lhs_zeros, by_rhs_zeros, both))
