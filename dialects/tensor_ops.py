"""Level 0 of the `bit` dialect: operations on tensors, and functions that build them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mlir import ir
from mlir.dialects import arith, gpu, tensor

from bitmlir.dialects.bit_dialect import dialect
from bitmlir.dialects.encoding import range_fault
from bitmlir.dialects.errors import EncodingError
from bitmlir.dialects.faults import (
    array_fault,
    body_fault,
    count_fault,
    element_fault,
    kept_fault,
    packed_fault,
    yield_fault,
    zeros_fault,
)
from bitmlir.dialects.ops import (
    Attr,
    DialectOp,
    Operand,
    OptionalOperand,
    OptionalResult,
    Region,
    Result,
    attribute_named,
    base,
)
from bitmlir.dialects.types import encoding_of, require_encoding, tiles_shape

__all__ = [
    "GroupedMatmulOp",
    "MatmulOp",
    "PackOp",
    "QuantiseOp",
    "SearchOp",
    "UnpackOp",
    "extract",
    "grouped_matmul",
    "matmul",
    "search",
    "threshold",
]

_INTEGERS, _FLOATS = ("i8", "i16", "i32"), ("f16", "bf16", "f32")  # what matrices can be packed from


@dialect.op("pack")
class PackOp(DialectOp):
    """Split a matrix of integers, or images of them, into bit planes and row sums.

    result[r, k] = code(source[r, k]), where code is the result's encoding, and for zero points that of
    source[r, k] + zero; codes of values outside the encoding keep their low bits. (So i8 may hold the bits of u8.)

    source: tensor<MxKxi8|i16|i32>; zeros: tensor<Mxi32>, only for `u<p>@row`; result: a packed MxK matrix. Of images
    both are NxHxWxC, and each pixel is a row.

        %p = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"bipolar">>
    """

    PURE = True
    source = Operand()
    zeros = OptionalOperand()
    result = Result()

    @classmethod
    def infer(cls, **fields: Any) -> list[ir.Type]:
        raise TypeError("bit.pack: the encoding is in the result type; give it with results=[packed_type(...)]")

    def check(self) -> str | None:
        if fault := packed_fault(self.result.type, "the result", ranks=(2, 4)):
            return fault
        result = ir.RankedTensorType(self.result.type)
        if fault := array_fault(self.source.type, "the source", result.shape, _INTEGERS):
            return fault
        if result.rank == 4 and require_encoding(result).has_row_zeros:
            return "images cannot have a zero point for each pixel: use one for all, u<p>@z"
        return zeros_fault(self.zeros, require_encoding(result), result.shape[0])


@dialect.op("quantise")
class QuantiseOp(DialectOp):
    """Round a matrix of floats to the values of an encoding, and split it into bit planes and row sums.

    result[r, k] = the value nearest to source[r, k] / scale[r], of two the even one; of two odd ones (the bipolar
    encodings have no others) the one farther from 0, and of −1 and 1 the latter. What lies past the ends becomes the
    smallest or the largest value, NaN the smallest.

    The quotient is rounded to f32 first: for `u<p>@z`, `u<p>@row` and `i8` this is QuantizeLinear of ONNX.

    source: tensor<MxKxf16|bf16|f32>; scale: tensor<Mxf32>, 1 if it is left out; zeros: tensor<Mxi32>, only for
    `u<p>@row`; result: a packed MxK matrix. Scales are first brought into 2^-100 … 2^100: a row of zeros may have 0.

        %q = "bit.quantise"(%x, %scale) {operandSegmentSizes = array<i32: 1, 1, 0>}
          : (tensor<4x40xf32>, tensor<4xf32>) -> tensor<4x40xi4, #bit.encoding<"i4">>
    """

    PURE = True
    source = Operand()
    scale = OptionalOperand()
    zeros = OptionalOperand()
    result = Result()

    @classmethod
    def infer(cls, **fields: Any) -> list[ir.Type]:
        raise TypeError("bit.quantise: the encoding is in the result type; give it with results=[packed_type(...)]")

    def check(self) -> str | None:
        if fault := packed_fault(self.result.type, "the result"):
            return fault
        result = ir.RankedTensorType(self.result.type)
        if fault := array_fault(self.source.type, "the source", result.shape, _FLOATS):
            return fault
        if self.scale is not None and (fault := array_fault(self.scale.type, "scale", result.shape[:1], ("f32",))):
            return fault
        return zeros_fault(self.zeros, require_encoding(result), result.shape[0])


@dialect.op("unpack")
class UnpackOp(DialectOp):
    """Put bit planes together into integers: the inverse of `bit.pack`.

    result[r, k] = value(source[r, k]); result: tensor<MxKxi16> (i8 where the encoding fits), see `infer`.
    """

    PURE = True
    source = Operand()
    result = Result()

    @classmethod
    def infer(cls, **fields: Any) -> list[ir.Type]:
        source = ir.RankedTensorType(fields["source"].type)
        encoding = encoding_of(source)
        if encoding is None:
            raise EncodingError(f"bit.unpack takes a packed matrix, not {source}")
        width = 8 if -128 <= encoding.minimum and encoding.maximum <= 127 else 16
        return [ir.RankedTensorType.get(source.shape, ir.IntegerType.get_signless(width))]

    def check(self) -> str | None:
        if fault := packed_fault(self.source.type, "the source"):
            return fault
        (expected,) = self.infer(source=self.source)
        return None if self.result.type == expected else f"the result must be {expected}, but is {self.result.type}"


@dialect.op("matmul")
class MatmulOp(DialectOp):
    """The exact product of a packed matrix with the transpose of another, and an epilogue on each element.

    acc[m, n] = Σ_k value(lhs[m, k]) · value(rhs[n, k])  in int32
    result[m, n] = epilogue(acc[m, n], m, n)

    Both operands may be batches of B matrices, BxMxK and BxNxK: then acc, result and epilogue have b as well, and
    result[b] is the product of lhs[b] and rhs[b].

    lhs: packed MxK; rhs: packed NxK; lhs_tiles, rhs_tiles: optional bitmaps tensor<PxRxTxi1> over the planes and tiles
    of 128 rows by 1024 elements (0 = no plane bit is set there: the tile costs neither loads nor products); not for
    batches.

    The epilogue is a block (acc: i32, row: index, col: index), for batches (acc, row, col, batch: index), of `arith`,
    `math` and `tensor.extract` operations; it may read any tensor at these places, such as [col], [row, col] or
    [batch, row]. It yields the element of a plain result, or the code (an i<p>) of a packed one.

    Beside a packed result there may be `kept`, a plain one of the same sizes: then the epilogue yields the code and the
    number to keep.

        %y = "bit.matmul"(%x, %w) ({
        ^bb0(%acc: i32, %row: index, %col: index):
          %t = tensor.extract %threshold[%col] : tensor<64xi32>
          %bit = arith.cmpi sge, %acc, %t : i32
          gpu.yield %bit : i1
        }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>}
          : (tensor<8x40xi1, #bit.encoding<"bipolar">>, tensor<64x40xi2, #bit.encoding<"u2">>)
          -> tensor<8x64xi1, #bit.encoding<"bipolar">>
    """

    PURE = True
    lhs = Operand()
    rhs = Operand()
    lhs_tiles = OptionalOperand()
    rhs_tiles = OptionalOperand()
    epilogue = Region(("i32", "index", "index"), extensible=True)
    result = Result()
    kept = OptionalResult()

    @classmethod
    def infer(cls, **fields: Any) -> list[ir.Type]:
        """int32, M rows by N columns, B times for batches."""
        lhs, rhs = (ir.RankedTensorType(fields[side].type).shape for side in ("lhs", "rhs"))
        return [ir.RankedTensorType.get([*lhs[:-1], rhs[-2]], ir.IntegerType.get_signless(32))]

    def check(self) -> str | None:
        if fault := _factors_fault(self.lhs.type, self.rhs.type, may_be_batches=True):
            return fault
        (*batch, m, k), (*_, n, _) = (ir.RankedTensorType(side.type).shape for side in (self.lhs, self.rhs))
        sides = (("lhs", self.lhs, self.lhs_tiles, m), ("rhs", self.rhs, self.rhs_tiles, n))
        for side, operand, tiles, rows in sides:
            if tiles is not None:
                if batch:
                    return f"{side}_tiles: tile bitmaps cover single matrices, but {side} is a batch of {batch[0]}"
                shape = tiles_shape(rows, k, require_encoding(operand.type))
                if fault := array_fault(tiles.type, f"{side}_tiles", shape, ("i1",)):
                    return fault
        return _product_fault(self, (*batch, m, n), (m, n, *batch))


@dialect.op("grouped_matmul")
class GroupedMatmulOp(DialectOp):
    """The products of groups of rows of a packed matrix with the transposes of as many others (mixture of experts).

    acc[m, n] = Σ_k value(lhs[m, k]) · value(rhs[g, n, k])  in int32, g being the group of row m
    result[m, n] = epilogue(acc[m, n], m, n, g)

    Group g has the rows from offsets[g] to offsets[g + 1]; offsets rise from 0 to M, and a group may have no rows. Of
    other offsets the first counts as 0, the last as M, and one that is less than one before it as that one.

    lhs: packed MxK; rhs: packed GxNxK; offsets: tensor<(G+1)xi32>. The epilogue is a block (acc: i32, row: index,
    col: index, group: index), else as of `bit.matmul`.

        %y = "bit.grouped_matmul"(%x, %w, %offsets) ({
        ^bb0(%acc: i32, %row: index, %col: index, %group: index):
          gpu.yield %acc : i32
        }) : (tensor<100x64xi1, #bit.encoding<"bipolar">>, tensor<8x32x64xi2, #bit.encoding<"u2">>, tensor<9xi32>)
          -> tensor<100x32xi32>
    """

    PURE = True
    lhs = Operand()
    rhs = Operand()
    offsets = Operand()
    epilogue = Region(("i32", "index", "index", "index"))
    result = Result()
    # What `bit.matmul`, with which it is lowered, may have, but not this.
    lhs_tiles = rhs_tiles = kept = None

    @classmethod
    def infer(cls, **fields: Any) -> list[ir.Type]:
        """int32, M rows by N columns."""
        lhs, rhs = (ir.RankedTensorType(fields[side].type).shape for side in ("lhs", "rhs"))
        return [ir.RankedTensorType.get([lhs[0], rhs[-2]], ir.IntegerType.get_signless(32))]

    def check(self) -> str | None:
        if fault := packed_fault(self.lhs.type, "lhs") or packed_fault(self.rhs.type, "rhs", may_be_batch=True):
            return fault
        (m, k), (*groups, n, rhs_k) = (ir.RankedTensorType(side.type).shape for side in (self.lhs, self.rhs))
        if not groups:
            return f"rhs must have three sizes (groups, N, K), but is {self.rhs.type}: use bit.matmul for one group"
        return (
            _same_k_fault(k, rhs_k)
            or range_fault(require_encoding(self.lhs.type), require_encoding(self.rhs.type), k)
            or array_fault(self.offsets.type, "offsets", [groups[0] + 1], ("i32",))
            or _product_fault(self, (m, n), (m, n, *groups))
        )


def _product_fault(op: MatmulOp | GroupedMatmulOp, shape: Sequence[int], places: Sequence[int]) -> str | None:
    """What is wrong with the result, which must have that shape, or with the epilogue, for so many rows and so on."""
    type_ = op.result.type
    if not isinstance(type_, ir.RankedTensorType) or list(type_.shape) != list(shape):
        return f"the result must be a {'x'.join(map(str, shape))} tensor, but is {type_}"
    if type_.encoding is None:
        fault = element_fault(type_)
    elif not (fault := packed_fault(type_, "the result", may_be_batch=True)) and require_encoding(type_).has_row_zeros:
        fault = "the result cannot have a zero point for each row: no epilogue makes one"
    return (
        fault
        or kept_fault(op.kept, type_)
        or body_fault(op.epilogue, "tensor.extract", places)
        or yield_fault(op.epilogue, type_.element_type, "epilogue", "the result's element", op.kept)
    )


def _factors_fault(lhs: ir.Type, rhs: ir.Type, may_be_batches: bool = False) -> str | None:
    """Why two types are not those of packed matrices, or batches of them, whose product fits in int32."""
    if fault := packed_fault(lhs, "lhs", may_be_batches) or packed_fault(rhs, "rhs", may_be_batches):
        return fault
    (*lhs_batch, _, k), (*rhs_batch, _, rhs_k) = (ir.RankedTensorType(side).shape for side in (lhs, rhs))
    if bool(lhs_batch) != bool(rhs_batch):
        return (
            f"lhs and rhs must both be batches or both be matrices, but are {lhs} and {rhs}: where all matrices of lhs "
            f"meet the same rhs, make one matrix of their rows"
        )
    if lhs_batch != rhs_batch:
        return f"lhs and rhs must be batches of equally many matrices, but have {lhs_batch[0]} and {rhs_batch[0]}"
    return _same_k_fault(k, rhs_k) or range_fault(require_encoding(lhs), require_encoding(rhs), k)


def _same_k_fault(lhs: int, rhs: int) -> str | None:
    """Why rows of so many elements cannot be multiplied."""
    return None if lhs == rhs else f"lhs and rhs must have the same K (their last size), but have {lhs} and {rhs}"


def matmul(
    lhs: ir.Value,
    rhs: ir.Value,
    *,
    result: ir.Type | None = None,
    epilogue: Callable[..., ir.Value] | None = None,
    lhs_tiles: ir.Value | None = None,
    rhs_tiles: ir.Value | None = None,
) -> ir.Value:
    """Build a `bit.matmul`; `epilogue(acc, row, col)`, for batches `epilogue(acc, row, col, batch)`, builds the element
    of the result (by default acc itself).

    Example:
        >>> from bitmlir.dialects import bit
        >>> with ir.Context() as context, ir.Location.unknown():
        ...     bit.load(context)
        ...     x, w = bit.packed_type([4, 40], "bipolar"), bit.packed_type([8, 40], "u2")
        ...     module = ir.Module.create()
        ...     with ir.InsertionPoint(module.body):
        ...         from mlir.dialects import func
        ...         @func.FuncOp.from_py_func(x, w)
        ...         def product(x, w):
        ...             return bit.matmul(x, w)
        ...     print(product.func_op.type.results[0])
        tensor<4x8xi32>
    """
    results = None if result is None else [result]
    op = MatmulOp(lhs=lhs, rhs=rhs, lhs_tiles=lhs_tiles, rhs_tiles=rhs_tiles, results=results)
    if ir.RankedTensorType(lhs.type).rank == 3:
        op.epilogue.add_argument(ir.IndexType.get(), op.location)
    with ir.InsertionPoint(op.epilogue):
        acc, *places = op.epilogue.arguments
        gpu.YieldOp([acc if epilogue is None else epilogue(acc, *places)])
    return op.result


def grouped_matmul(
    lhs: ir.Value,
    rhs: ir.Value,
    offsets: ir.Value,
    *,
    result: ir.Type | None = None,
    epilogue: Callable[..., ir.Value] | None = None,
) -> ir.Value:
    """Build a `bit.grouped_matmul`; `epilogue(acc, row, col, group)` builds the element of the result."""
    op = GroupedMatmulOp(lhs=lhs, rhs=rhs, offsets=offsets, results=None if result is None else [result])
    with ir.InsertionPoint(op.epilogue):
        acc, *places = op.epilogue.arguments
        gpu.YieldOp([acc if epilogue is None else epilogue(acc, *places)])
    return op.result


def extract(array: ir.Value, *indices: ir.Value) -> ir.Value:
    """Read an array in an epilogue at [row], [col] or [row, col]."""
    return tensor.extract(array, list(indices))


def threshold(acc: ir.Value, limit: ir.Value, flip: ir.Value | None = None) -> ir.Value:
    """The bit (acc ≥ limit), turned round where `flip` (an i1) is set."""
    bit = arith.cmpi(arith.CmpIPredicate.sge, acc, limit)
    return bit if flip is None else arith.xori(bit, flip)


@dialect.op("search")
class SearchOp(DialectOp):
    """For each row of lhs, the rows of rhs whose products with it are the largest or the smallest.

    score[m, n] = epilogue(acc[m, n], m, n), with acc and the epilogue as of `bit.matmul`
    values[m, i], columns[m, i] = the i-th best score of row m and its n; of equal ones the smaller n comes first

    lhs: packed MxK; rhs: packed NxK; count: how many, 1 to 32 and at most N; order: `largest` or `smallest` is best;
    values, columns: tensor<Mx(count)xi32>. The epilogue yields an i32.

    Hamming distances of ±1 codes fall as products rise: distance = (K − acc) / 2.

        %v, %c = "bit.search"(%queries, %database) ({
        ^bb0(%acc: i32, %row: index, %col: index):
          gpu.yield %acc : i32
        }) {count = 5 : i64, order = #bit.order<"largest">}
          : (tensor<8x256xi1, #bit.encoding<"bipolar">>, tensor<1000x256xi1, #bit.encoding<"bipolar">>)
          -> (tensor<8x5xi32>, tensor<8x5xi32>)
    """

    PURE = True
    lhs = Operand()
    rhs = Operand()
    count = Attr(base("#builtin.integer"))
    order = Attr(attribute_named("bit", "order"))
    epilogue = Region(("i32", "index", "index"))
    values = Result()
    columns = Result()

    @classmethod
    def infer(cls, **fields: Any) -> list[ir.Type]:
        """int32 twice, M rows of `count`."""
        rows = ir.RankedTensorType(fields["lhs"].type).shape[0]
        return [ir.RankedTensorType.get([rows, fields["count"]], ir.IntegerType.get_signless(32))] * 2

    def check(self) -> str | None:
        if fault := _factors_fault(self.lhs.type, self.rhs.type):
            return fault
        m, n = (ir.RankedTensorType(side.type).shape[0] for side in (self.lhs, self.rhs))
        count = ir.IntegerAttr(self.attributes["count"]).value
        results = (("values", self.values), ("columns", self.columns))
        faults = (array_fault(value.type, name, (m, count), ("i32",)) for name, value in results)
        return (
            count_fault(count, n)
            or next(filter(None, faults), None)
            or body_fault(self.epilogue, "tensor.extract", (m, n))
            or yield_fault(self.epilogue, ir.IntegerType.get_signless(32), "epilogue", "the score")
        )


def search(
    lhs: ir.Value,
    rhs: ir.Value,
    count: int,
    order: str = "largest",
    epilogue: Callable[[ir.Value, ir.Value, ir.Value], ir.Value] | None = None,
) -> SearchOp:
    """Build a `bit.search`; `epilogue(acc, row, col)` builds the score (by default acc itself)."""
    op = SearchOp(lhs=lhs, rhs=rhs, count=count, order=_order(order))
    with ir.InsertionPoint(op.epilogue):
        acc, row, col = op.epilogue.arguments
        gpu.YieldOp([acc if epilogue is None else epilogue(acc, row, col)])
    return op


def _order(name: str) -> ir.Attribute:
    return ir.Attribute.parse(f'#bit.order<"{name}">')
