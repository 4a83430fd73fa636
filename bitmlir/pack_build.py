"""From a `PackSpec` to a module in the `bit` dialect."""

from __future__ import annotations

from mlir import ir
from mlir.dialects import func

from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.pack_spec import PackSpec

__all__ = ["pack_module"]


def pack_module(spec: PackSpec) -> ir.Module:
    """The module of one packing: a function `pack` whose arguments carry their names (`bit.name`).

    Needs a current context with the `bit` dialect loaded.
    """
    arguments = _arguments(spec)
    packed = bit.packed_type([spec.rows, spec.k], spec.encoding)
    module = ir.Module.create()
    with ir.InsertionPoint(module.body):
        function = func.FuncOp("pack", ir.FunctionType.get(list(arguments.values()), [packed]))
        function.arg_attrs = [_named(name) for name in arguments]
        function.attributes["res_attrs"] = ir.ArrayAttr.get([_named("result")])
        values = dict(zip(arguments, function.add_entry_block().arguments, strict=True))
    with ir.InsertionPoint(function.entry_block):
        pack = bit.QuantiseOp if spec.is_rounded else bit.PackOp
        func.ReturnOp([pack(source=values.pop("x"), results=[packed], **values).result])
    return module


def _arguments(spec: PackSpec) -> dict[str, ir.Type]:
    """Name → type, in the order of the call; but for `x` they are named as the operation's operands."""
    arguments: dict[str, ir.Type] = {"x": ir.RankedTensorType.get([spec.rows, spec.k], ir.Type.parse(spec.source))}
    if spec.scale:
        arguments["scale"] = ir.RankedTensorType.get([spec.rows], ir.F32Type.get())
    if Encoding.parse(spec.encoding).has_row_zeros:
        arguments["zeros"] = ir.RankedTensorType.get([spec.rows], ir.IntegerType.get_signless(32))
    return arguments


def _named(name: str) -> ir.DictAttr:
    return ir.DictAttr.get({"bit.name": ir.StringAttr.get(name)})
