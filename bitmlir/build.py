"""From a `MatmulSpec`, a `GroupedSpec` or a `Conv2dSpec` to a module in the `bit` dialect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith

from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.entry_function import Values, module_of
from bitmlir.grouped_spec import GroupedSpec
from bitmlir.lowering.codes import Quantiser, code_of
from bitmlir.spec import FLOATS, MatmulSpec

__all__ = ["conv2d_module", "grouped_module", "matmul_module"]


def matmul_module(spec: MatmulSpec) -> ir.Module:
    """The module of one product: a function `matmul` whose arguments carry their names (`bit.name`).

    Needs a current context with the `bit` dialect loaded.
    """
    batch = [] if spec.batch is None else [spec.batch]
    shapes = _Shapes(rows=[*batch, spec.m], rhs_rows=[*batch, spec.n], columns=[spec.n])

    def product(values: Values, result: ir.Type) -> ir.Value:
        def epilogue(acc: ir.Value, row: ir.Value, col: ir.Value, *batch: ir.Value) -> ir.Value:
            return _element(spec, values, acc, _Places([*batch, row], [col], [*batch, row, col]))

        tiles = {name: values.get(name) for name in ("lhs_tiles", "rhs_tiles")}
        return bit.matmul(values["lhs"], values["rhs"], result=result, epilogue=epilogue, **tiles)

    return _module("matmul", _arguments(spec, shapes), _result_type(spec, shapes), product)


def grouped_module(spec: GroupedSpec) -> ir.Module:
    """The module of one grouped product: a function `grouped_matmul` whose arguments carry their names (`bit.name`).

    Needs a current context with the `bit` dialect loaded.
    """
    shapes = _Shapes(rows=[spec.m], rhs_rows=[spec.groups, spec.n], columns=[spec.groups, spec.n])
    arguments = _arguments(spec.product, shapes)
    operands = {name: arguments.pop(name) for name in ("lhs", "rhs")}
    arguments = {**operands, "offsets": _tensor([spec.groups + 1], "i32"), **arguments}

    def product(values: Values, result: ir.Type) -> ir.Value:
        def epilogue(acc: ir.Value, row: ir.Value, col: ir.Value, group: ir.Value) -> ir.Value:
            return _element(spec.product, values, acc, _Places([row], [group, col], [row, col]))

        operands = (values[name] for name in ("lhs", "rhs", "offsets"))
        return bit.grouped_matmul(*operands, result=result, epilogue=epilogue)

    return _module("grouped_matmul", arguments, _result_type(spec.product, shapes), product)


def conv2d_module(spec: Conv2dSpec) -> ir.Module:
    """The module of one convolution: a function `conv2d` whose arguments carry their names (`bit.name`).

    Needs a current context with the `bit` dialect loaded.
    """
    images, height, width, _ = spec.out_shape
    shapes = _Shapes(rows=[images, height, width], rhs_rows=[], columns=[spec.filters])
    arguments = _arguments(spec.product, shapes)
    arguments["lhs"] = bit.packed_type([images, spec.height, spec.width, spec.channels], spec.lhs)
    arguments["rhs"] = bit.packed_type(spec.filter_shape, spec.rhs)

    def convolution(values: Values, result: ir.Type) -> ir.Value:
        def epilogue(acc: ir.Value, *places: ir.Value) -> ir.Value:
            return _element(spec.product, values, acc, _Places([], [places[-1]], list(places)))

        steps = {name: getattr(spec, name) for name in ("stride", "padding", "dilation", "groups")}
        return bit.conv2d(values["lhs"], values["rhs"], result=result, epilogue=epilogue, **steps)

    return _module("conv2d", arguments, _result_type(spec.product, shapes), convolution)


@dataclass(frozen=True)
class _Shapes:
    """Shapes of what has an element for each row of the result, row of rhs, and column of the result."""

    rows: list[int]
    rhs_rows: list[int]
    columns: list[int]


@dataclass(frozen=True)
class _Places:
    """Where an element of the result finds its own among what is given by row, by column, and by element."""

    row: list[ir.Value]
    column: list[ir.Value]
    element: list[ir.Value]


def _module(
    name: str, arguments: dict[str, ir.Type], result: ir.Type, product: Callable[[Values, ir.Type], ir.Value]
) -> ir.Module:
    """A module of one function, whose body `product` builds from the arguments."""
    return module_of(name, arguments, {"result": result}, lambda values: [product(values, result)], {"flip": 0})


def _tensor(shape: list[int], element: str) -> ir.Type:
    return ir.RankedTensorType.get(shape, ir.Type.parse(element))


def _arguments(spec: MatmulSpec, shapes: _Shapes) -> dict[str, ir.Type]:
    """Name → type, in the order of the call."""
    lhs, rhs = Encoding.parse(spec.lhs), Encoding.parse(spec.rhs)
    arguments: dict[str, ir.Type] = {
        "lhs": bit.packed_type([*shapes.rows, spec.k], lhs),
        "rhs": bit.packed_type([*shapes.rhs_rows, spec.k], rhs),
    }
    if spec.row_scale:
        arguments["row_scale"] = _tensor(shapes.rows, "f32")
    if spec.column_scale:
        arguments["column_scale"] = _tensor(shapes.columns, "f32")
    if spec.bias:
        arguments["bias"] = _tensor(shapes.columns, "f32")
    if spec.residual is not None:
        arguments["residual"] = _tensor([*shapes.rows, spec.n], spec.residual)
    if spec.out == "bit":
        arguments["threshold"] = _tensor(shapes.columns, "i32")
        arguments["flip"] = _tensor(shapes.columns, "i8")
    if spec.lhs_tiles:
        arguments["lhs_tiles"] = _tensor(bit.tiles_shape(spec.m, spec.k, lhs), "i1")
    if spec.rhs_tiles:
        arguments["rhs_tiles"] = _tensor(bit.tiles_shape(spec.n, spec.k, rhs), "i1")
    return arguments


def _result_type(spec: MatmulSpec, shapes: _Shapes) -> ir.Type:
    encoding = spec.result_encoding
    shape = [*shapes.rows, spec.n]
    return _tensor(shape, spec.out) if encoding is None else bit.packed_type(shape, encoding)


# --- one element ----------------------------------------------------------------------------------


def _element(spec: MatmulSpec, values: Values, acc: ir.Value, places: _Places) -> ir.Value:
    """The result's element, or its code: what `reference.epilogue` computes."""
    residual = bit.extract(values["residual"], *places.element) if spec.residual is not None else None
    if not spec.uses_floats:
        total = acc if residual is None else _clamped_sum(spec, acc, residual)
        if spec.out == "bit":
            return _threshold(values, total, places)
        if spec.relu:
            total = arith.maxsi(total, arith.constant(total.type, 0))
        return _narrowed(total, ir.Type.parse(spec.out))
    value = _scaled(spec, values, acc, places)
    if residual is not None:
        value = arith.addf(value, _as_f32(residual))
    if spec.relu:
        zero = arith.constant(value.type, 0.0)
        # Not maximumf, which leaves open what becomes of −0.
        value = arith.select(arith.cmpf(arith.CmpFPredicate.OLE, value, zero), zero, value)
    if spec.out in FLOATS:
        return value if spec.out == "f32" else arith.truncf(ir.Type.parse(spec.out), value)
    return _quantised(value, Encoding.parse(spec.out))


def _clamped_sum(spec: MatmulSpec, acc: ir.Value, residual: ir.Value) -> ir.Value:
    """acc + residual, clamped to what the result holds; in i64 if i32 could overflow."""
    limit = 2 ** (15 if spec.out == "i16" else 31)
    largest = spec.largest_sum + 2 ** (ir.IntegerType(residual.type).width - 1)
    type_ = ir.IntegerType.get_signless(32 if largest < 2**31 else 64)
    total = arith.addi(*(value if value.type == type_ else arith.extsi(type_, value) for value in (acc, residual)))
    if largest >= limit:
        total = arith.maxsi(total, arith.constant(type_, -limit))
        total = arith.minsi(total, arith.constant(type_, limit - 1))
    return _narrowed(total, acc.type)


def _narrowed(value: ir.Value, type_: ir.Type) -> ir.Value:
    return value if value.type == type_ else arith.trunci(type_, value)


def _threshold(values: Values, acc: ir.Value, places: _Places) -> ir.Value:
    """(acc ≥ threshold[col]) ≠ flip[col]"""
    limit, flip = (bit.extract(values[name], *places.column) for name in ("threshold", "flip"))
    return bit.threshold(acc, limit, arith.cmpi(arith.CmpIPredicate.ne, flip, arith.constant(flip.type, 0)))


def _scaled(spec: MatmulSpec, values: Values, acc: ir.Value, places: _Places) -> ir.Value:
    """f32(acc) · row_scale[row] · column_scale[col] + bias[col]"""
    value = _as_f32(acc)
    if spec.row_scale:
        value = arith.mulf(value, bit.extract(values["row_scale"], *places.row))
    if spec.column_scale:
        value = arith.mulf(value, bit.extract(values["column_scale"], *places.column))
    if spec.bias:
        value = arith.addf(value, bit.extract(values["bias"], *places.column))
    return value


def _as_f32(value: ir.Value) -> ir.Value:
    f32 = ir.F32Type.get()
    if isinstance(value.type, ir.IntegerType):
        return arith.sitofp(f32, value)
    return value if value.type == f32 else arith.extf(f32, value)


def _quantised(value: ir.Value, encoding: Encoding) -> ir.Value:
    """The code of the encoding's value nearest to an f32; see `reference.quantised`."""
    code = code_of(Quantiser(encoding).values(value), encoding, None)
    return arith.trunci(ir.IntegerType.get_signless(encoding.bits), code.value)
