"""What can be wrong with operations of the `bit` dialect: each function returns the fault as a sentence, or None."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from mlir import ir

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import InputError
from bitmlir.dialects.layout import LARGEST_COUNT, LARGEST_SIZE
from bitmlir.dialects.types import constant_of, encoding_of

__all__ = [
    "array_fault",
    "body_fault",
    "count_fault",
    "element_fault",
    "is_dense",
    "kept_fault",
    "memref_fault",
    "packed_fault",
    "tile_fault",
    "yield_fault",
    "zeros_fault",
]

ELEMENTS = ("i8", "i16", "i32", "i64", "f16", "bf16", "f32", "f64")  # of plain results

# The math operations that every target computes alike and exactly; transcendental functions would differ between them.
_ELEMENTWISE_MATH = tuple(
    f"math.{name}"
    for name in (
        "absf", "absi", "ceil", "copysign", "ctlz", "ctpop", "cttz", "floor", "fma", "round", "roundeven", "sqrt",
        "trunc",
    )
)  # fmt: skip


_DIVISIONS = tuple(
    f"arith.{name}" for name in ("ceildivsi", "ceildivui", "divsi", "divui", "floordivsi", "remsi", "remui")
)
_SHIFTS = ("arith.shli", "arith.shrsi", "arith.shrui")
_LOWER_BOUNDS = ("arith.maximumf", "arith.maxnumf")
_UPPER_BOUNDS = ("arith.minimumf", "arith.minnumf")


_RANKS = {2: "two", 3: "three", 4: "four"}


def packed_fault(
    type_: ir.Type, name: str, may_be_batch: bool = False, ranks: tuple[int, ...] | None = None
) -> str | None:
    """What keeps a type from being that of a packed matrix, or a batch of them, or one of as many sizes as in ranks."""
    ranks = ranks or ((2, 3) if may_be_batch else (2,))
    try:
        encoding = encoding_of(type_)
    except InputError as error:
        return f"{name}: {error}"
    if encoding is None:
        return f'{name} must be a packed matrix, tensor<MxKxi<p>, #bit.encoding<"name">>, but is {type_}'
    shaped = ir.RankedTensorType(type_)
    sizes = f"{' or '.join(_RANKS[rank] for rank in ranks)} static sizes"
    if shaped.rank not in ranks or not shaped.has_static_shape or min(shaped.shape) < 1:
        return f"{name} must have {sizes} of at least 1, but is {type_}"
    if max(shaped.shape) > LARGEST_SIZE:
        return f"{name} must have sizes of at most {LARGEST_SIZE}, but is {type_}"
    if math.prod(shaped.shape[:-1]) > LARGEST_SIZE:
        return f"{name} must have at most {LARGEST_SIZE} rows in all, but is {type_}"
    if shaped.element_type != ir.IntegerType.get_signless(encoding.bits):
        return f"{name} in encoding '{encoding}' must have elements of type i{encoding.bits}, but is {type_}"
    return None


def array_fault(type_: ir.Type, name: str, shape: Sequence[int], elements: Sequence[str]) -> str | None:
    """What keeps a type from being a plain tensor of that shape with one of these element types."""
    if (
        not isinstance(type_, ir.RankedTensorType)
        or type_.encoding is not None
        or list(type_.shape) != list(shape)
        or str(type_.element_type) not in elements
    ):
        sizes = "x".join(map(str, shape))
        return f"{name} must be tensor<{sizes}x{'|'.join(elements)}>, but is {type_}"
    return None


def is_dense(type_: ir.MemRefType) -> bool:
    """Whether the elements of a memref are known to follow each other in memory, row by row."""
    return type_.has_static_shape and type_.affine_map == ir.AffineMap.get_identity(type_.rank)


def memref_fault(
    type_: ir.Type, name: str, shape: Sequence[int | str], elements: Sequence[str] = ("i32",), context: str = ""
) -> str | None:
    """What keeps a type from being a memref of that shape; a size may be a letter, which stands for any."""
    sizes = type_.shape if isinstance(type_, ir.MemRefType) and is_dense(type_) else []
    if (
        not isinstance(type_, ir.MemRefType)
        or len(sizes) != len(shape)
        or any(isinstance(want, int) and want != size for want, size in zip(shape, sizes, strict=True))
        or str(type_.element_type) not in elements
    ):
        return f"{name} must be memref<{'x'.join(map(str, shape))}x{'|'.join(elements)}>{context}, but is {type_}"
    return None


def element_fault(type_: ir.Type) -> str | None:
    """What keeps a tensor from being a plain result."""
    if str(ir.RankedTensorType(type_).element_type) in ELEMENTS:
        return None
    return f"the result must have elements of {', '.join(ELEMENTS[:-1])} or {ELEMENTS[-1]}, but is {type_}"


def zeros_fault(zeros: ir.Value | None, encoding: Encoding, rows: int) -> str | None:
    """What is wrong with the zero points of a `bit.pack`."""
    if not encoding.has_row_zeros:
        return None if zeros is None else f"encoding '{encoding}' takes no zeros: only u<p>@row does"
    if zeros is None:
        return f"encoding '{encoding}' needs its zeros, a tensor<{rows}xi32>"
    return array_fault(zeros.type, "zeros", [rows], ("i32",))


def count_fault(count: int, n: int) -> str | None:
    """Why a search cannot return so many of n columns."""
    if 1 <= count <= min(n, LARGEST_COUNT):
        return None
    return f"count must lie in 1..{min(n, LARGEST_COUNT)} ({LARGEST_COUNT} at most, of {n} columns), but is {count}"


def tile_fault(tile: ir.Attribute | None) -> str | None:
    """Why an attribute is not a tile; which fields a tile has is up to the target."""
    example = "{alternate, columns = 256 : i64, rows = 64 : i64}"
    if tile is None:
        return None
    if not isinstance(tile, ir.DictAttr):
        return f"tile must be a dictionary such as {example}, but is {tile}"
    for item in tile:
        value = item.attr
        if isinstance(value, ir.UnitAttr):
            continue
        if not isinstance(value, ir.IntegerAttr) or str(value.type) != "i64" or value.value < 0:
            return f"tile must hold whole numbers and units, as in {example}, but its {item.name} is {value}"
    return None


_PLACES = ("row", "column", "batch")


def body_fault(
    block: ir.Block,
    reads: str,
    sizes: Sequence[int],
    acc: str = "i32",
    makers: Sequence[str] = (),
    words: Sequence[str] = _PLACES,
    numbers: Mapping[ir.Value, int] = MappingProxyType({}),
) -> str | None:
    """Why a block does not compute one element of a result.

    reads: the operation by which it may read arrays. sizes: how many rows and columns there are, and matrices if it is
    a batch; the block's arguments are the places in these, after an accumulator of type acc. makers: operations that
    may stand in the block and make it, so that it is no argument. words: what the places are called. numbers: what a
    read may be indexed by, too, and how many different ones each can be.
    """
    expected = [*([] if makers else [acc]), *["index"] * len(sizes)]
    if (types := [str(argument.type) for argument in block.arguments]) != expected:
        return f"its region must have the arguments ({', '.join(expected)}), but has ({', '.join(types)})"
    operations = list(block.operations)
    if not operations or operations[-1].operation.name != "gpu.yield":
        return "its region must end in gpu.yield"
    for op in operations[:-1]:
        name = op.operation.name
        if name == reads:
            if fault := _read_fault(op, block, sizes, words, numbers):
                return fault
        elif name in _ELEMENTWISE_MATH or name.startswith("arith."):
            if fault := _element_operation_fault(op) or _operand_fault(op):
                return fault
        elif name not in makers:
            return f"{name} cannot stand in its region: only arith.*, {reads} and {', '.join(_ELEMENTWISE_MATH)} can"
    return None


def _read_fault(
    op: ir.OpView, block: ir.Block, sizes: Sequence[int], words: Sequence[str], numbers: Mapping[ir.Value, int]
) -> str | None:
    """What is wrong with reading an array: the kind of index, or elements that are not there."""
    name, (array, *indices) = op.operation.name, op.operation.operands
    axes = list(zip(block.arguments[-len(sizes) :], words, sizes, strict=False))
    for index, size in zip(indices, ir.ShapedType(array.type).shape, strict=True):
        axis = next(((word, count) for argument, word, count in axes if index == argument), None)
        most = next((count for number, count in numbers.items() if index == number), None)
        constant = constant_of(index)
        if axis is not None:
            word, count = axis
            if size != count:
                return f"{name} in its region reads {array.type} by the {word}, of which there are {count}"
        elif most is not None:
            if size < most:
                return f"{name} in its region reads {array.type} by a number of which there are {most}"
        elif constant is None:
            known = ", ".join(f"the {word}" for word, _ in zip(words, sizes, strict=False))
            return f"{name} in its region may index only by {known} or a constant"
        elif not 0 <= constant < size:
            return f"{name} in its region reads {array.type} at {constant}"
    return None


def _element_operation_fault(op: ir.OpView) -> str | None:
    """Why an operation is not arithmetic on single elements."""
    name, results = op.operation.name, list(op.operation.results)
    if len(results) != 1:
        return f"{name} in its region must have one result, but has {len(results)}"
    for value in [*op.operation.operands, *results]:
        if not isinstance(value.type, (ir.IntegerType, ir.IndexType, ir.FloatType)):
            return f"{name} in its region must work on single elements, but takes or makes a {value.type}"
        if not _is_computable(value.type):
            return f"{name} in its region must work on i1 to i64, index, f16, bf16, f32 or f64, but not on {value.type}"
    return None


def _is_computable(type_: ir.Type) -> bool:
    """Whether every target computes with numbers of that type."""
    if isinstance(type_, ir.IntegerType):
        return type_.is_signless and type_.width <= 64
    return isinstance(type_, ir.IndexType) or str(type_) in ELEMENTS


def _operand_fault(op: ir.OpView) -> str | None:
    """Operations that targets do not compute alike.

    Divisions and shifts are undefined for some operands: a CPU would trap, a GPU return anything; so are integers made
    of floats that they cannot hold. From f64 to 16 bits CPUs would need a library function.
    """
    name = op.operation.name
    if name == "arith.truncf":
        wide, narrow = op.operation.operands[0].type, op.operation.results[0].type
        if _width(wide) == 64 and _width(narrow) == 16:
            return f"{name} in its region must not go from {wide} to {narrow} at once: go through f32"
    if name in _DIVISIONS:
        divisor = constant_of(op.operation.operands[1])
        if divisor is None or divisor in (0, -1):
            return f"{name} in its region must divide by a constant other than 0 and -1"
    if name in _SHIFTS:
        by, width = constant_of(op.operation.operands[1]), _width(op.operation.operands[0].type)
        if by is None or not 0 <= by < width:
            return f"{name} in its region must shift by a constant from 0 to {width - 1}"
    if name in ("arith.fptosi", "arith.fptoui"):
        width = _width(op.operation.results[0].type)
        low, high = (-(2 ** (width - 1)), 2 ** (width - 1) - 1) if name == "arith.fptosi" else (0, 2**width - 1)
        if not _is_clamped(op.operation.operands[0], low, high):
            return (
                f"{name} in its region must take what arith.maxnumf and arith.minnumf have just clamped to constants "
                f"in {low}..{high}"
            )
    return None


def _is_clamped(value: ir.Value, low: int, high: int) -> bool:
    """Whether a float is the minimum and the maximum, in either order, of constants that lie between those numbers."""
    bounds: set[tuple[str, ...]] = set()
    for _ in range(2):
        if isinstance(value.owner, ir.Block):
            return False
        op = value.owner
        kind = next((kind for kind in (_LOWER_BOUNDS, _UPPER_BOUNDS) if op.name in kind), None)
        ends = [_float_constant(operand) for operand in op.operands]
        if kind is None or not any(end is not None and low <= end <= high for end in ends):
            return False
        bounds.add(kind)
        value = op.operands[0 if ends[0] is None else 1]
    return len(bounds) == 2


def _float_constant(value: ir.Value) -> float | None:
    if isinstance(value.owner, ir.Block) or value.owner.name != "arith.constant":
        return None
    attribute = value.owner.attributes["value"]
    return attribute.value if isinstance(attribute, ir.FloatAttr) else None


def _width(type_: ir.Type) -> int:
    return type_.width if isinstance(type_, (ir.IntegerType, ir.FloatType)) else 64


def yield_fault(block: ir.Block, element: ir.Type, what: str, of: str, kept: ir.Value | None = None) -> str | None:
    """Why what a block yields is not one element, or with an array that is kept beside the result one of that, too."""
    yielded = [value.type for value in block.operations[len(block.operations) - 1].operands]
    kept_element = None if kept is None else ir.ShapedType(kept.type).element_type
    if yielded == [element, *([] if kept_element is None else [kept_element])]:
        return None
    came = ", ".join(map(str, yielded)) or "nothing"
    beside = "" if kept_element is None else f", and one {kept_element}, that of kept"
    return f"the {what} must yield one {element}, {of}{beside}, but yields {came}"


def kept_fault(kept: ir.Value | None, result: ir.Type) -> str | None:
    """Why an array does not go beside a packed result, with a number for each of its elements."""
    if kept is None:
        return None
    if encoding_of(result) is None:
        return "kept goes beside a packed result: a plain one holds the numbers itself"
    return array_fault(kept.type, "kept", ir.RankedTensorType(result).shape, ELEMENTS)
