"""From a `MatmulSpec` to a module in the `bit` dialect."""

from __future__ import annotations

from mlir import ir
from mlir.dialects import arith, func

from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.spec import FLOATS, MatmulSpec

__all__ = ["matmul_module"]


def matmul_module(spec: MatmulSpec) -> ir.Module:
    """The module of one product: a function `matmul` whose arguments carry their names (`bit.name`).

    Needs a current context with the `bit` dialect loaded.
    """
    arguments = _arguments(spec)
    result = _result_type(spec)
    module = ir.Module.create()
    with ir.InsertionPoint(module.body):
        function = func.FuncOp("matmul", ir.FunctionType.get(list(arguments.values()), [result]))
        function.arg_attrs = [_named(name, default=0 if name == "flip" else None) for name in arguments]
        function.attributes["res_attrs"] = ir.ArrayAttr.get([_named("result")])
        values = dict(zip(arguments, function.add_entry_block().arguments, strict=True))
    with ir.InsertionPoint(function.entry_block):

        def epilogue(acc: ir.Value, row: ir.Value, col: ir.Value) -> ir.Value:
            if spec.out == "bit":
                return _threshold(values, acc, col)
            return acc if spec.out == "i32" else _scaled(spec, values, acc, row, col)

        product = bit.matmul(
            values["lhs"],
            values["rhs"],
            result=result,
            epilogue=epilogue,
            lhs_tiles=values.get("lhs_tiles"),
            rhs_tiles=values.get("rhs_tiles"),
        )
        func.ReturnOp([product])
    return module


def _named(name: str, default: int | None = None) -> ir.DictAttr:
    """What an argument or result is called, and what it stands for when it is left out."""
    attributes: dict[str, ir.Attribute] = {"bit.name": ir.StringAttr.get(name)}
    if default is not None:
        attributes["bit.default"] = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), default)
    return ir.DictAttr.get(attributes)


def _tensor(shape: list[int], element: str) -> ir.Type:
    return ir.RankedTensorType.get(shape, ir.Type.parse(element))


def _arguments(spec: MatmulSpec) -> dict[str, ir.Type]:
    """Name → type, in the order of the call."""
    lhs, rhs = Encoding.parse(spec.lhs), Encoding.parse(spec.rhs)
    arguments: dict[str, ir.Type] = {
        "lhs": bit.packed_type([spec.m, spec.k], lhs),
        "rhs": bit.packed_type([spec.n, spec.k], rhs),
    }
    if spec.row_scale:
        arguments["row_scale"] = _tensor([spec.m], "f32")
    if spec.column_scale:
        arguments["column_scale"] = _tensor([spec.n], "f32")
    if spec.bias:
        arguments["bias"] = _tensor([spec.n], "f32")
    if spec.out == "bit":
        arguments["threshold"] = _tensor([spec.n], "i32")
        arguments["flip"] = _tensor([spec.n], "i8")
    if spec.lhs_tiles:
        arguments["lhs_tiles"] = _tensor(bit.tiles_shape(spec.m, spec.k, lhs), "i1")
    if spec.rhs_tiles:
        arguments["rhs_tiles"] = _tensor(bit.tiles_shape(spec.n, spec.k, rhs), "i1")
    return arguments


def _result_type(spec: MatmulSpec) -> ir.Type:
    if spec.out == "bit":
        return bit.packed_type([spec.m, spec.n], "bipolar")
    return _tensor([spec.m, spec.n], spec.out)


def _threshold(values: dict[str, ir.Value], acc: ir.Value, col: ir.Value) -> ir.Value:
    """(acc ≥ threshold[col]) ≠ flip[col]"""
    limit, flip = (bit.extract(values[name], col) for name in ("threshold", "flip"))
    return bit.threshold(acc, limit, arith.cmpi(arith.CmpIPredicate.ne, flip, arith.constant(flip.type, 0)))


def _scaled(spec: MatmulSpec, values: dict[str, ir.Value], acc: ir.Value, row: ir.Value, col: ir.Value) -> ir.Value:
    """f32(acc) · row_scale[row] · column_scale[col] + bias[col], in the result's type."""
    value = arith.sitofp(ir.F32Type.get(), acc)
    if spec.row_scale:
        value = arith.mulf(value, bit.extract(values["row_scale"], row))
    if spec.column_scale:
        value = arith.mulf(value, bit.extract(values["column_scale"], col))
    if spec.bias:
        value = arith.addf(value, bit.extract(values["bias"], col))
    assert spec.out in FLOATS
    return value if spec.out == "f32" else arith.truncf(ir.Type.parse(spec.out), value)
