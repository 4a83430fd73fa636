"""Elementwise work on short vectors: what the kernels of all targets do with the elements of neighbouring columns."""

from __future__ import annotations

from collections.abc import Sequence

from mlir import ir
from mlir.dialects import arith, vector

from bitmlir.lowering.emit import Scalar, index

__all__ = ["apply", "as_vector", "joined", "lane_numbers", "splat", "vector_of"]


def vector_of(element: ir.Type, lanes: int) -> ir.VectorType:
    """A vector type."""
    return ir.VectorType.get([lanes], element)


def splat(value: float, type_: ir.VectorType) -> ir.Value:
    """The same number in every lane."""
    element = type_.element_type
    is_float = isinstance(element, ir.FloatType)
    number = ir.FloatAttr.get(element, value) if is_float else ir.IntegerAttr.get(element, int(value))
    return arith.constant(type_, ir.DenseElementsAttr.get_splat(type_, number))


def as_vector(value: ir.Value, lanes: int) -> ir.Value:
    """A scalar in every lane; a vector as it is."""
    return value if isinstance(value.type, ir.VectorType) else vector.broadcast(vector_of(value.type, lanes), value)


def joined(parts: Sequence[ir.Value]) -> ir.Value:
    """Vectors of the same type, one after the other, as one vector."""
    if len(parts) == 1:
        return parts[0]
    type_ = ir.VectorType(parts[0].type)
    elements = [vector.extract(part, [], [lane]) for part in parts for lane in range(type_.shape[0])]
    return vector.from_elements(vector_of(type_.element_type, len(elements)), elements)


def lane_numbers(first: Scalar, lanes: int) -> ir.Value:
    """first, first + 1, …: a vector of index."""
    return arith.addi(as_vector(first.value, lanes), vector.step(vector_of(index(), lanes)))


def apply(op: ir.OpView, operands: list[ir.Value], lanes: int | None) -> ir.Value:
    """The result of an arith or math operation on other operands: vectors of so many lanes, or scalars for None."""
    if lanes is None:
        clone = op.operation.clone()
        for number, value in enumerate(operands):
            clone.operation.operands[number] = value
        return clone.operation.results[0]
    result = vector_of(op.operation.results[0].type, lanes)
    attributes = {name: op.operation.attributes[name] for name in op.operation.attributes}
    vectors = [as_vector(value, lanes) for value in operands]
    return ir.Operation.create(op.operation.name, [result], vectors, attributes).results[0]
