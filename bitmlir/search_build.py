"""From a `SearchSpec` to a module in the `bit` dialect."""

from __future__ import annotations

from collections.abc import Callable

from mlir import ir
from mlir.dialects import arith, func

from bitmlir.dialects import bit
from bitmlir.search_spec import SearchSpec

__all__ = ["search_module"]


def search_module(spec: SearchSpec) -> ir.Module:
    """The module of one search: a function `search` whose arguments and results carry their names (`bit.name`).

    Needs a current context with the `bit` dialect loaded.
    """
    operands = [bit.packed_type([spec.m, spec.k], spec.lhs), bit.packed_type([spec.n, spec.k], spec.rhs)]
    result = ir.RankedTensorType.get([spec.m, spec.count], ir.IntegerType.get_signless(32))
    module = ir.Module.create()
    with ir.InsertionPoint(module.body):
        function = func.FuncOp("search", ir.FunctionType.get(operands, [result, result]))
        function.arg_attrs = [_named("lhs"), _named("rhs")]
        function.attributes["res_attrs"] = ir.ArrayAttr.get([_named("values"), _named("columns")])
        lhs, rhs = function.add_entry_block().arguments
    with ir.InsertionPoint(function.entry_block):
        found = bit.search(lhs, rhs, spec.count, spec.order, None if spec.score == "dot" else _distance(spec.k))
        func.ReturnOp([found.values, found.columns])
    return module


def _distance(k: int) -> Callable[[ir.Value, ir.Value, ir.Value], ir.Value]:
    """(k − acc) / 2, the Hamming distance of ±1 codes."""

    def epilogue(acc: ir.Value, row: ir.Value, col: ir.Value) -> ir.Value:
        differing = arith.subi(arith.constant(acc.type, k), acc)
        return arith.shrsi(differing, arith.constant(acc.type, 1))

    return epilogue


def _named(name: str) -> ir.DictAttr:
    return ir.DictAttr.get({"bit.name": ir.StringAttr.get(name)})
