"""From a `PackSpec` to a module in the `bit` dialect."""

from __future__ import annotations

from mlir import ir

from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.entry_function import Values, module_of
from bitmlir.pack_spec import PackSpec

__all__ = ["pack_module"]


def pack_module(spec: PackSpec) -> ir.Module:
    """The module of one packing: a function `pack` whose arguments carry their names (`bit.name`).

    Needs a current context with the `bit` dialect loaded.
    """
    packed = bit.packed_type([spec.rows, spec.k], spec.encoding)

    def pack(values: Values) -> tuple[ir.Value]:
        operation = bit.QuantiseOp if spec.is_rounded else bit.PackOp
        return (operation(source=values.pop("x"), results=[packed], **values).result,)

    return module_of("pack", _arguments(spec), {"result": packed}, pack)


def _arguments(spec: PackSpec) -> dict[str, ir.Type]:
    """Name → type, in the order of the call; but for `x` they are named as the operation's operands."""
    arguments: dict[str, ir.Type] = {"x": ir.RankedTensorType.get([spec.rows, spec.k], ir.Type.parse(spec.source))}
    if spec.scale:
        arguments["scale"] = ir.RankedTensorType.get([spec.rows], ir.F32Type.get())
    if Encoding.parse(spec.encoding).has_row_zeros:
        arguments["zeros"] = ir.RankedTensorType.get([spec.rows], ir.IntegerType.get_signless(32))
    return arguments
