"""From a `SearchSpec` to a module in the `bit` dialect."""

from __future__ import annotations

from collections.abc import Callable

from mlir import ir
from mlir.dialects import arith

from bitmlir.dialects import bit
from bitmlir.entry_function import Values, module_of
from bitmlir.search_spec import SearchSpec

__all__ = ["search_module"]


def search_module(spec: SearchSpec) -> ir.Module:
    """The module of one search: a function `search` whose arguments and results carry their names (`bit.name`).

    Needs a current context with the `bit` dialect loaded.
    """
    arguments = {"lhs": bit.packed_type([spec.m, spec.k], spec.lhs), "rhs": bit.packed_type([spec.n, spec.k], spec.rhs)}
    list_ = ir.RankedTensorType.get([spec.m, spec.count], ir.IntegerType.get_signless(32))

    def search(values: Values) -> tuple[ir.Value, ir.Value]:
        score = None if spec.score == "dot" else _distance(spec.k)
        found = bit.search(values["lhs"], values["rhs"], spec.count, spec.order, score)
        return found.values, found.columns

    return module_of("search", arguments, {"values": list_, "columns": list_}, search)


def _distance(k: int) -> Callable[[ir.Value, ir.Value, ir.Value], ir.Value]:
    """(k − acc) / 2, the Hamming distance of ±1 codes."""

    def epilogue(acc: ir.Value, row: ir.Value, col: ir.Value) -> ir.Value:
        differing = arith.subi(arith.constant(acc.type, k), acc)
        return arith.shrsi(differing, arith.constant(acc.type, 1))

    return epilogue
