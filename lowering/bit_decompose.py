"""`bit-decompose`: from packed tensors to planes: schedules, corrections, buffers, the target's bit operation."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from mlir import ir
from mlir.dialects import arith, func, memref

from bitmlir.dialects import bit
from bitmlir.dialects.faults import ELEMENTS
from bitmlir.dialects.window import Window
from bitmlir.lowering.convolutions import conv2d, feeds_bytes, reduce_window
from bitmlir.lowering.element_sums import corrected, schedule, schedule_by_plane
from bitmlir.lowering.image_pairs import computes_with_pixels, images_in_pairs
from bitmlir.lowering.packed_planes import PackedPlanes, Store, part_types, users_of
from bitmlir.lowering.passes import Pass, fail
from bitmlir.lowering.schedule import choose_operation, correction, planes_side_by_side
from bitmlir.lowering.targets import Target, get_target
from bitmlir.lowering.views import beside as side_by_side

__all__ = ["BitDecompose"]


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


_Product = bit.MatmulOp | bit.GroupedMatmulOp | bit.SearchOp
_WithEpilogue = _Product | bit.Conv2dOp | bit.ReduceWindowOp
_Storing = bit.MatmulOp | bit.GroupedMatmulOp | bit.Conv2dOp | bit.ReduceWindowOp
_OfImages = (bit.Conv2dOp, bit.ReduceWindowOp)


class _Decomposition:
    """One function on its way from tensors to memrefs: its values, and what operations on them become."""

    def __init__(self, function: func.FuncOp, target: Target) -> None:
        self.function = function
        self.target = target
        self.values: dict[ir.Value, PackedPlanes | ir.Value] = {}
        self.paired: frozenset[ir.Value] = frozenset()
        self.filters_for_pairs: dict[tuple[ir.Value, ir.Attribute], PackedPlanes] = {}

    def run(self) -> None:
        block = self.function.entry_block
        if len(self.function.body.blocks) > 1:
            fail(self.function, "a function on packed tensors must have one block, but this one has several")
        operations = list(block.operations)
        returned = list(operations[-1].operation.operands)
        self._check_returns(returned)
        self.paired = images_in_pairs(operations[:-1], returned, self.target)
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
        for owner in users_of(value):
            if isinstance(owner, bit.MatmulOp):
                for tiles, operand in ((owner.lhs_tiles, owner.lhs), (owner.rhs_tiles, owner.rhs)):
                    if tiles is not None and tiles == value:
                        return operand
        return None

    def _parts_of(self, value: ir.Value) -> dict[str, ir.MemRefType]:
        """The memrefs that carry a value, by part."""
        return part_types(
            value.type,
            tiles=self._covered_by(value) is not None,
            is_filter=self._is_filter(value),
            by_pixel=_is_image(value),
        )

    def _is_filter(self, value: ir.Value) -> bool:
        """Whether convolutions take a value as their filters."""
        users = users_of(value)
        convolutions = [user for user in users if isinstance(user, bit.Conv2dOp) and user.rhs == value]
        if not convolutions:
            return False
        if len(convolutions) != len(users) or any(c.lhs == value for c in convolutions):
            fail(convolutions[0], "filters cannot be used for something else: give them as an argument of their own")
        return True

    def _carried(self, value: ir.Value, parts: dict[str, ir.Value]) -> PackedPlanes | ir.Value:
        encoding = bit.encoding_of(value.type)
        if encoding is None:
            (memref_value,) = parts.values()
            return memref_value
        shape = tuple(ir.RankedTensorType(value.type).shape)
        return PackedPlanes(encoding, shape, parts["planes"], parts["sums"], parts.get("zeros"))

    def result(self, value: ir.Value) -> PackedPlanes | ir.Value:
        """Where an operation's result goes: the function's own result, or a fresh allocation."""
        if value not in self.values:
            types = part_types(value.type, in_pairs=value in self.paired)
            parts = {part: memref.alloc(type_, [], []) for part, type_ in types.items()}
            self.values[value] = self._carried(value, parts)
        return self.values[value]

    def packed(self, value: ir.Value) -> PackedPlanes:
        """What carries a packed value."""
        packed = self.values[value]
        assert isinstance(packed, PackedPlanes)
        return packed

    def store(self, op: _Storing) -> Store:
        """Where the result of an operation goes, and the numbers that it keeps."""
        out, kept = self.result(op.result), None if op.kept is None else self.result(op.kept)
        assert not isinstance(kept, PackedPlanes)
        if isinstance(out, PackedPlanes):
            return Store(out.planes, out.sums, kept, out.encoding)
        return Store(out, None, None, None)

    # --- operations ---

    def _lower(self, op: ir.OpView) -> None:
        if isinstance(op, (bit.MatmulOp, bit.GroupedMatmulOp)):
            self._matmul(op)
        elif isinstance(op, bit.Conv2dOp):
            conv2d(self, op)
        elif isinstance(op, bit.PoolOp):
            source, out = self.values[op.source], self.result(op.result)
            bit.PlanePoolOp(
                planes=source.planes,
                out=out.planes,
                out_sums=out.sums,
                encoding=ir.RankedTensorType(op.source.type).encoding,
                window=bit.window_attribute(op.window),
            )
        elif isinstance(op, bit.ReduceWindowOp):
            reduce_window(self, op)
        elif isinstance(op, bit.PackPatchesOp) and feeds_bytes(self.target, op):
            pass  # the convolution takes the bytes themselves
        elif isinstance(op, bit.PackPatchesOp):
            out = self.result(op.result)
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
            out = self.result(op.result)
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
            out = self.result(op.result)
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
        stored = self.store(op)
        bit.plane_matmul(
            lhs.planes,
            rhs.planes,
            stored.out,
            out_sums=stored.sums,
            kept=stored.kept,
            out_encoding=stored.encoding,
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
        values, columns = self.result(op.values), self.result(op.columns)
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

    def _operation(self, op: _Product, sparse: bool) -> str:
        """The bit operation by which the target computes a product."""
        lhs, rhs = self.values[op.lhs], self.values[op.rhs]
        operation = choose_operation(lhs.encoding, rhs.encoding, self.target.operations, sparse)
        self.check_range(op, lhs, rhs, operation)
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
            acc = schedule_by_plane(lhs.encoding, rhs.encoding)
        else:
            acc = schedule(lhs.encoding, rhs.encoding)
        acc = corrected(acc, lhs.row_at(row, number), rhs.row_at(col, number), operation)
        return self.epilogue(op, acc, row, col, *number)

    def check_range(self, op: _WithEpilogue, lhs: PackedPlanes, rhs: PackedPlanes, operation: str) -> None:
        """A unit that has only XOR yields twice the sum of ANDs, which must fit before it is halved."""
        k = math.prod(rhs.shape[1:]) if isinstance(op, bit.Conv2dOp) else lhs.shape[-1]
        emulated = operation not in self.target.operations
        if not emulated and not correction(lhs.encoding, rhs.encoding, operation, k).halve:
            return
        x, y = lhs.encoding.largest_planes, rhs.encoding.largest_planes
        largest = 2 * k * (x * y + abs(lhs.encoding.offset) * y + abs(rhs.encoding.offset) * x)
        if largest >= 2**31:
            limit = k * (2**31 - 1) // largest
            fail(
                op,
                f"K = {k} with '{lhs.encoding}' times '{rhs.encoding}' can leave int32 on {self.target.name}, which "
                f"has only XOR and needs one bit more: split the product along K into parts of at most {limit}",
            )

    def epilogue(self, op: _WithEpilogue, acc: ir.Value, *places: ir.Value, beside: int = 1) -> list[ir.Value]:
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
                    if isinstance(operands[0], PackedPlanes):
                        fail(inner, "an epilogue can read only plain tensors, but this is a packed matrix")
                    array = operands[0]
                    assert isinstance(array, ir.Value)
                    at = operands[1:]
                    if _reads_own_place(op, inner):
                        with ir.InsertionPoint(ir.InsertionPoint.current.block.owner):
                            array = side_by_side(array, beside)
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


def _reads_own_place(op: ir.OpView, read: ir.OpView) -> bool:
    """Whether a read in an operation's region is at a convolution's own pixel and channel."""
    return isinstance(op, _OfImages) and list(read.operation.operands)[1:] == list(op.epilogue.arguments)[1:]


def _is_image(value: ir.Value) -> bool:
    """Whether an operation on images makes a plain tensor, or reads it by pixel, or pixels are packed."""
    if not isinstance(value, ir.BlockArgument) and isinstance(value.owner.opview, _OfImages):
        return True
    for user in users_of(value):
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
    is_used = [computes_with_pixels([value]) for value in wanted]
    return [part(*given) if used else row for given, used in zip(parts, is_used, strict=True)]


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
