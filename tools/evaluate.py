"""The oracle for programs in IR: a function of the `bit` dialect evaluated in numpy, op by op, without bit planes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from mlir import ir
from mlir.dialects import func

from bitmlir import reference
from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import InputError
from bitmlir.dialects.layout import LARGEST_SCALE, SMALLEST_SCALE
from bitmlir.lowering.diagnostics import Position
from bitmlir.lowering.parsing import parse_module
from bitmlir.runtime.dtypes import numpy_dtype

__all__ = ["UnknownOperationError", "evaluate"]


class UnknownOperationError(InputError):
    """An operation that the oracle has no meaning for."""


def evaluate(text: str, name: str, arguments: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """What the function of that name in a module at level 0 must return.

    Packed matrices, given and returned, are the integers [M, K] or [B, M, K] that they hold. A tile bitmap is given as
    None: it changes no result.

    Raises:
        UnknownOperationError: an operation that is not exact on every target, or that is seldom used.

    Example:
        >>> text = '''func.func @f(%x: tensor<1x3xi2, #bit.encoding<"u2">>) -> tensor<1x1xi32> {
        ...   %y = "bit.matmul"(%x, %x) ({
        ...   ^bb0(%acc: i32, %row: index, %col: index):
        ...     %twice = arith.addi %acc, %acc : i32
        ...     gpu.yield %twice : i32
        ...   }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>}
        ...     : (tensor<1x3xi2, #bit.encoding<"u2">>, tensor<1x3xi2, #bit.encoding<"u2">>) -> tensor<1x1xi32>
        ...   return %y : tensor<1x1xi32>
        ... }'''
        >>> evaluate(text, "f", [np.array([[3, 0, 1]])])
        [array([[20]], dtype=int32)]
    """
    context = ir.Context()
    with context, ir.Location.unknown():
        bit.load(context)
        module = parse_module(text)
        function = next(op for op in module.body.operations if isinstance(op, func.FuncOp) and op.name.value == name)
        block = function.entry_block
        values = {
            argument: _given(array, argument.type)
            for argument, array in zip(block.arguments, arguments, strict=True)
            if array is not None
        }
        *operations, last = block.operations
        for op in operations:
            made = _WHOLE.get(op.operation.name, _element)(op, values)
            values.update(zip(op.operation.results, made if isinstance(made, tuple) else (made,), strict=True))
        return [_result(values[value], value.type) for value in last.operation.operands]


_TINY = np.finfo(np.float32).smallest_subnormal

# A value is an array of floats of its own type, or of int64 that holds any integer with its sign: i1 is 0 or −1.
_Values = dict[ir.Value, np.ndarray]


def _pack(op: Any, values: _Values) -> np.ndarray:
    zeros = 0 if op.zeros is None else values[op.zeros][:, None]
    encoding = _encoding(op.result)
    return _decoded(_encoded(values[op.source] + zeros, encoding), encoding) - zeros


def _quantise(op: Any, values: _Values) -> np.ndarray:
    x, encoding = values[op.source].astype(np.float32), _encoding(op.result)
    quotient = x
    if op.scale is not None:
        scale = np.fmin(np.fmax(values[op.scale], np.float32(SMALLEST_SCALE)), np.float32(LARGEST_SCALE))
        with np.errstate(all="ignore"):  # too large is inf, too small 0
            quotient = np.where(x < 0, np.fmin(x / scale[:, None], -_TINY), x / scale[:, None])  # negative stays so
    rounded = reference.quantised(quotient, encoding).astype(np.int64)
    if op.zeros is None:
        return rounded
    zeros = values[op.zeros][:, None]
    return np.clip(rounded, -zeros, encoding.maximum - zeros)


def _unpack(op: Any, values: _Values) -> np.ndarray:
    return values[op.source]


def _matmul(op: Any, values: _Values) -> tuple[np.ndarray, ...]:
    element, *kept = _elements(op, values)
    element = element if op.result.type.encoding is None else _decoded(element, _encoding(op.result))
    return element, *kept


def _pool(op: Any, values: _Values) -> np.ndarray:
    return reference.max_pool(values[op.source], op.window)


def _search(op: Any, values: _Values) -> tuple[np.ndarray, np.ndarray]:
    (scores,) = _elements(op, values)
    return reference.search(scores, op.attributes["count"].value, bit.order_name(op.order))


def _elements(op: Any, values: _Values) -> tuple[np.ndarray, ...]:
    """What the epilogue of a product yields, for all its elements."""
    lhs, rhs = values[op.lhs], values[op.rhs]
    if isinstance(op, bit.Conv2dOp):
        acc = reference.conv2d(lhs, rhs, op.window, op.group_count)
        return _yielded(op, values, (acc, *np.ogrid[tuple(map(slice, acc.shape))]))
    if isinstance(op, bit.GroupedMatmulOp):
        acc = reference.grouped_matmul(lhs, rhs, values[op.offsets])
        numbers = reference.row_groups(lhs.shape[0], values[op.offsets])[:, None]
    else:
        acc = reference.matmul(lhs, rhs)
        numbers = np.arange(acc.shape[0])[:, None, None]  # of the matrices in a batch
    *_, m, n = acc.shape
    return _yielded(op, values, (acc, np.arange(m)[:, None], np.arange(n)[None, :], numbers))


def _yielded(op: Any, values: _Values, places: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """What an epilogue yields at all places, elements and perhaps what is kept beside them; the first of the places is
    the accumulator."""
    inside = values | dict(zip(op.epilogue.arguments, places, strict=False))
    *operations, last = op.epilogue.operations
    for inner in operations:
        inside[inner.operation.results[0]] = _element(inner, inside)
    return tuple(np.broadcast_to(inside[value], places[0].shape) for value in last.operation.operands)


_WHOLE: dict[str, Callable[[Any, _Values], np.ndarray | tuple[np.ndarray, ...]]] = {
    "bit.pack": _pack,
    "bit.quantise": _quantise,
    "bit.unpack": _unpack,
    "bit.matmul": _matmul,
    "bit.conv2d": _matmul,
    "bit.pool": _pool,
    "bit.grouped_matmul": _matmul,
    "bit.search": _search,
}


def _element(op: Any, values: _Values) -> np.ndarray:
    """The result of a scalar operation, for all elements at once."""
    name, type_ = op.operation.name, op.operation.results[0].type
    if name == "arith.constant":
        return _number(np.array(op.operation.attributes["value"].value), type_)
    operands = [values[operand] for operand in op.operation.operands]
    if name == "tensor.extract":
        array, *indices = operands
        return array[tuple(indices)]
    if name in ("arith.cmpi", "arith.cmpf"):
        compute = _comparison(op)
    elif name in _OF_UNSIGNED:
        compute = _OF_UNSIGNED[name]
        operands = [_unsigned(a, v.type) for a, v in zip(operands, op.operation.operands, strict=True)]
    elif name == "arith.bitcast":
        return _bitcast(operands[0], op.operation.operands[0].type, type_)
    elif name in _OPERATIONS:
        compute = _OPERATIONS[name]
    else:
        raise _unknown(op)
    with np.errstate(all="ignore"):  # too large for a float is inf, as on every target
        return _number(compute(*operands), type_)


# --- integers and floats --------------------------------------------------------------------------


def _width(type_: ir.Type) -> int:
    return 64 if isinstance(type_, ir.IndexType) else ir.IntegerType(type_).width


def _is_integer(type_: ir.Type) -> bool:
    return isinstance(type_, (ir.IntegerType, ir.IndexType))


def _number(array: np.ndarray, type_: ir.Type) -> np.ndarray:
    """An array as values of a type: floats are rounded, integers cut to their width."""
    if not _is_integer(type_):
        return array.astype(numpy_dtype(str(type_)))
    array, width = array.astype(np.int64), _width(type_)
    half = 1 << (width - 1)
    return array if width == 64 else ((array + half) & (2 * half - 1)) - half


def _unsigned(array: np.ndarray, type_: ir.Type) -> np.ndarray:
    """Integers of a type, read without sign."""
    return array.view(np.uint64) if _width(type_) == 64 else array & ((1 << _width(type_)) - 1)


def _given(array: np.ndarray, type_: ir.RankedTensorType) -> np.ndarray:
    """An argument as a value."""
    return array.astype(np.int64) if type_.encoding is not None else _number(array, type_.element_type)


def _result(array: np.ndarray, type_: ir.RankedTensorType) -> np.ndarray:
    """A value as the caller gets it: packed matrices as int64, all else in its own type."""
    return array if type_.encoding is not None else array.astype(numpy_dtype(str(type_.element_type)))


def _bitcast(array: np.ndarray, of: ir.Type, to: ir.Type) -> np.ndarray:
    """The bits of numbers of one type as numbers of another of that width."""
    stored = array.astype(f"i{_width(of) // 8}") if _is_integer(of) else array
    return _number(stored.view(numpy_dtype(str(to))), to)


# --- codes ----------------------------------------------------------------------------------------


def _encoding(value: ir.Value) -> Encoding:
    encoding = bit.encoding_of(value.type)
    assert encoding is not None
    return encoding


def _encoded(values: np.ndarray, encoding: Encoding) -> np.ndarray:
    """The codes of values; those outside the encoding keep their low bits, as `bit.pack` says."""
    if encoding.kind == "ternary":
        return (values == 1) + 2 * (values == -1)
    return (values - encoding.offset) >> (encoding.scale - 1)


def _decoded(codes: np.ndarray, encoding: Encoding) -> np.ndarray:
    """offset + scale · Σ_i weights[i] · (bit i of the code)"""
    bits = ((codes >> i & 1) * weight for i, weight in enumerate(encoding.weights))
    return encoding.offset + encoding.scale * sum(bits, np.zeros(codes.shape, np.int64))


# --- operations -----------------------------------------------------------------------------------


def _same(array: np.ndarray) -> np.ndarray:
    """What a conversion does before `_number` brings the value to its new type."""
    return array


def _maximum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IEEE 754-2019 maximum: NaN wins, and +0 is greater than −0, which numpy leaves open."""
    return np.where((a == 0) & (b == 0), a + b, np.maximum(a, b))


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "arith.addi": np.add,
    "arith.subi": np.subtract,
    "arith.muli": np.multiply,
    "arith.andi": np.bitwise_and,
    "arith.ori": np.bitwise_or,
    "arith.xori": np.bitwise_xor,
    "arith.shli": np.left_shift,
    "arith.shrsi": np.right_shift,
    "arith.maxsi": np.maximum,
    "arith.minsi": np.minimum,
    "arith.select": lambda condition, a, b: np.where(condition != 0, a, b),
    "arith.extsi": _same,
    "arith.trunci": _same,
    "arith.index_cast": _same,
    "arith.sitofp": _same,
    "arith.fptosi": np.trunc,
    "arith.extf": _same,
    "arith.truncf": _same,
    "arith.addf": np.add,
    "arith.subf": np.subtract,
    "arith.mulf": np.multiply,
    "arith.divf": np.divide,
    "arith.negf": np.negative,
    "arith.maximumf": _maximum,
    "arith.minimumf": lambda a, b: -_maximum(-a, -b),
    "arith.maxnumf": np.fmax,
    "arith.minnumf": np.fmin,
    "math.absf": np.abs,
    "math.absi": np.abs,
    "math.ceil": np.ceil,
    "math.floor": np.floor,
    "math.roundeven": np.rint,
    "math.sqrt": np.sqrt,
    "math.trunc": np.trunc,
}

_OF_UNSIGNED: dict[str, Callable[..., Any]] = {
    "arith.extui": _same,
    "arith.index_castui": _same,
    "arith.uitofp": _same,
    "arith.maxui": np.maximum,
    "arith.minui": np.minimum,
    "arith.shrui": np.right_shift,
    "math.ctpop": np.bitwise_count,
}

_SIGNED_PREDICATES = (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal)

# Of arith.cmpf by number, those that numpy has: oeq, ogt, oge, olt, ole, une.
_FLOAT_PREDICATES = {
    1: np.equal,
    2: np.greater,
    3: np.greater_equal,
    4: np.less,
    5: np.less_equal,
    13: np.not_equal,
}


def _comparison(op: Any) -> Callable[..., np.ndarray]:
    predicate = ir.IntegerAttr(op.operation.attributes["predicate"]).value
    if op.operation.name == "arith.cmpf":
        if predicate not in _FLOAT_PREDICATES:
            raise _unknown(op)
        return _FLOAT_PREDICATES[predicate]
    if predicate < len(_SIGNED_PREDICATES):
        return _SIGNED_PREDICATES[predicate]
    type_ = op.operation.operands[0].type
    compare = _SIGNED_PREDICATES[predicate - 4]  # ult … uge follow the signed ones in the same order
    return lambda a, b: compare(_unsigned(a, type_), _unsigned(b, type_))


def _unknown(op: Any) -> UnknownOperationError:
    position = Position.of(op.operation.location)
    where = f" in line {position.line}" if position else ""
    return UnknownOperationError(f"'{op.operation.name}'{where} is none of the operations that the oracle knows")
