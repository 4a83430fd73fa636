"""The `bit` dialect's object, to which operations and attributes are added."""

from __future__ import annotations

from mlir import ir

from bitmlir.dialects.ops import Dialect, base, one_of

__all__ = ["dialect", "order_name"]

dialect = Dialect("bit", package="bitmlir.dialects")
dialect.attribute("encoding", name=base("#builtin.string"))
dialect.attribute("bitwise", name=one_of('"and"', '"xor"'))
dialect.attribute("order", name=one_of('"largest"', '"smallest"'))


def order_name(attribute: ir.Attribute) -> str:
    """The name in a `#bit.order` attribute: "largest" or "smallest"."""
    return str(attribute).split('"')[1]
