"""The one function of a module that a spec makes: arguments and results by their names (`bit.name`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mlir import ir
from mlir.dialects import func

__all__ = ["Values", "module_of"]

Values = dict[str, ir.Value]  # arguments by name


def module_of(
    name: str,
    arguments: Mapping[str, ir.Type],
    results: Mapping[str, ir.Type],
    body: Callable[[Values], Sequence[ir.Value]],
    defaults: Mapping[str, int] | None = None,
) -> ir.Module:
    """A module with that function; `body` makes the results from the arguments, and `defaults` are what arguments stand
    for that a caller leaves out.

    Needs a current context with the `bit` dialect loaded.
    """
    module = ir.Module.create()
    with ir.InsertionPoint(module.body):
        function = func.FuncOp(name, ir.FunctionType.get(list(arguments.values()), list(results.values())))
        function.arg_attrs = [_named(argument, (defaults or {}).get(argument)) for argument in arguments]
        function.attributes["res_attrs"] = ir.ArrayAttr.get([_named(result) for result in results])
        values = dict(zip(arguments, function.add_entry_block().arguments, strict=True))
    with ir.InsertionPoint(function.entry_block):
        func.ReturnOp(list(body(values)))
    return module


def _named(name: str, default: int | None = None) -> ir.DictAttr:
    attributes: dict[str, ir.Attribute] = {"bit.name": ir.StringAttr.get(name)}
    if default is not None:
        attributes["bit.default"] = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), default)
    return ir.DictAttr.get(attributes)
