"""Reads and writes of 16 neighbouring elements of a row, up to the matrix's edge."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from mlir import ir
from mlir.dialects import arith, builtin, memref, vector

from bitmlir.lowering.emit import Scalar, i1, if_then, index
from bitmlir.lowering.vectors import splat, vector_of

__all__ = ["LANES", "lanes_below", "load", "load_element", "store"]

_SAFE_WIDTH = 32  # bits of an element from which on masked stores can be trusted, see `_store_lanes`
LANES = 16  # 32-bit lanes of AVX-512, the widest vectors there are; LLVM splits them for CPUs with narrower ones


def lanes_below(first: Scalar, bound: int) -> ir.Value:
    """A mask of the lanes whose number, counted from `first`, is less than the bound."""
    lanes_left = arith.subi(arith.constant(index(), bound), first.value)  # negative ones count as 0
    return vector.create_mask(vector_of(i1(), LANES), [lanes_left])


def load(array: ir.Value, indices: Sequence[ir.Value], mask: ir.Value | None) -> ir.Value:
    """Read neighbours along the array's last axis; lanes outside the mask are 0 and are not touched."""
    element = ir.MemRefType(array.type).element_type
    if stored := _stored_as(element):
        value = load(_reinterpreted(array, stored), indices, mask)
        convert = arith.trunci if element == i1() else arith.bitcast
        return convert(vector_of(element, LANES), value)
    type_ = vector_of(element, LANES)
    if mask is None:
        return vector.load(type_, array, indices)
    return vector.maskedload(type_, array, indices, mask, splat(0, type_))


def load_element(array: ir.Value, indices: Sequence[ir.Value]) -> ir.Value:
    """Read one element."""
    element = ir.MemRefType(array.type).element_type
    if stored := _stored_as(element):
        value = memref.load(_reinterpreted(array, stored), indices)
        return (arith.trunci if element == i1() else arith.bitcast)(element, value)
    return memref.load(array, indices)


def store(value: ir.Value, array: ir.Value, indices: Sequence[ir.Value], mask: ir.Value | None) -> None:
    """Write neighbours along the array's last axis, those in the mask; not for arrays of i1."""
    if stored := _stored_as(ir.MemRefType(array.type).element_type):
        value, array = arith.bitcast(vector_of(stored, LANES), value), _reinterpreted(array, stored)
    if mask is None:
        vector.store(value, array, indices)
    elif _width(ir.MemRefType(array.type).element_type) >= _SAFE_WIDTH:
        vector.maskedstore(array, indices, mask, value)
    else:
        _store_lanes(value, array, indices, mask)


def _store_lanes(value: ir.Value, array: ir.Value, indices: Sequence[ir.Value], mask: ir.Value) -> None:
    """A masked store lane by lane.

    LLVM 22 turns a masked store of which one lane is known to be left, and whose value was narrowed, into a store of
    the wide element: it writes past the end.
    """
    *outer, last = indices
    for lane in range(LANES):
        at = [*outer, (Scalar(last) + lane).value]
        element = vector.extract(value, [], [lane])
        if_then(Scalar(vector.extract(mask, [], [lane])), functools.partial(memref.store, element, array, at))


def _width(type_: ir.Type) -> int:
    return ir.IntegerType(type_).width if isinstance(type_, ir.IntegerType) else ir.FloatType(type_).width


def _stored_as(element: ir.Type) -> ir.Type | None:
    """What vectors of an element type are read and written as, if not as they are.

    i1: a byte an element, where vectors of i1 would take a bit. bf16: CPUs without AVX-512 BF16 have no such vectors,
    and LLVM makes calls of a library function out of them, which is not there.
    """
    bits = 8 if element == i1() else 16 if element == ir.BF16Type.get() else None
    return None if bits is None else ir.IntegerType.get_signless(bits)


def _reinterpreted(array: ir.Value, element: ir.Type) -> ir.Value:
    """The same memory as an array of another element type.

    Both types become the same descriptor, so that `reconcile-unrealized-casts` removes the cast.
    """
    type_ = ir.MemRefType.get(ir.MemRefType(array.type).shape, element)
    return builtin.unrealized_conversion_cast([type_], [array])
