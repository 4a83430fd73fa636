"""Types and attributes of the `bit` dialect, made and read."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mlir import ir

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import EncodingError
from bitmlir.dialects.layout import tile_counts

__all__ = [
    "bitwise_name",
    "constant_of",
    "encoding_in",
    "encoding_of",
    "packed_type",
    "require_encoding",
    "tiles_shape",
]


def packed_type(shape: Sequence[int], encoding: Encoding | str) -> ir.RankedTensorType:
    """The type of a packed matrix: `tensor<MxKxi<p>, #bit.encoding<"name">>`."""
    encoding = Encoding.parse(encoding)
    element = ir.IntegerType.get_signless(encoding.bits)
    attribute = ir.Attribute.parse(f'#bit.encoding<"{encoding}">')
    return ir.RankedTensorType.get(list(shape), element, attribute)


def encoding_in(attribute: ir.Attribute) -> Encoding:
    """The encoding that a `#bit.encoding` attribute names.

    Raises:
        EncodingError: another attribute, or a name that is not known.
    """
    match = re.fullmatch(r'#bit\.encoding<"(.*)">', str(attribute))
    if match is None:
        raise EncodingError(f'unknown tensor encoding {attribute}: expected #bit.encoding<"name">')
    return Encoding.parse(match[1])


def encoding_of(type_: ir.Type) -> Encoding | None:
    """The encoding of a packed matrix's type; None for any other type.

    Raises:
        EncodingError: the type carries an encoding that is not known.
    """
    if not isinstance(type_, ir.RankedTensorType) or type_.encoding is None:
        return None
    return encoding_in(type_.encoding)


def require_encoding(type_: ir.Type) -> Encoding:
    """The encoding of a packed matrix's type.

    Raises:
        EncodingError: the type is not that of a packed matrix.
    """
    encoding = encoding_of(type_)
    if encoding is None:
        raise EncodingError(f'expected a packed matrix, tensor<MxKxi<p>, #bit.encoding<"name">>, but got {type_}')
    return encoding


def tiles_shape(rows: int, k: int, encoding: Encoding) -> list[int]:
    """Shape of an operand's tile bitmap, one bit an element: planes, tiles of 128 rows, tiles of 1024 bits."""
    return [encoding.bits, *tile_counts((rows, k))]


def bitwise_name(attribute: ir.Attribute) -> str:
    """The name in a `#bit.bitwise` attribute: "and" or "xor"."""
    return str(attribute).split('"')[1]


def constant_of(value: ir.Value) -> int | None:
    """The number that a value is known to be."""
    if isinstance(value.owner, ir.Block) or value.owner.operation.name != "arith.constant":
        return None
    attribute = value.owner.operation.attributes["value"]
    return attribute.value if isinstance(attribute, ir.IntegerAttr) else None
