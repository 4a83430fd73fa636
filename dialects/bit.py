"""The `bit` dialect: bit-matrix operations, their decomposition into planes, and what the host needs to launch them.

Level 0, on tensors: `bit.pack`, `bit.unpack`, `bit.matmul`. A packed matrix of M rows and K elements is a
`tensor<MxKxi<p>, #bit.encoding<"name">>` with p planes; its row sums and zero points travel with it unseen.

Level 1, on memrefs: `bit.plane_matmul` with `bit.plane_product`, `bit.plane_pack`, `bit.plane_unpack`. A packed matrix
is planes `memref<PxMxWxi32>` (W words a row, a multiple of 4), sums `memref<Mxi32>` and, for `u<p>@row`, zeros
`memref<Mxi32>`.

Level 2, in host functions: `bit.tensor_map`.

Regions end in `gpu.yield`: operations defined by IRDL cannot be terminators, and that one checks no parent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlir import ir
from mlir.dialects import arith, gpu, tensor

from bitmlir.dialects.encoding import Encoding, range_fault
from bitmlir.dialects.errors import EncodingError
from bitmlir.dialects.faults import (
    array_fault,
    body_fault,
    element_fault,
    memref_fault,
    packed_fault,
    zeros_fault,
)
from bitmlir.dialects.layout import BITS_PER_WORD, tile_counts, words_per_row
from bitmlir.dialects.ops import (
    Attr,
    Dialect,
    DialectOp,
    Operand,
    OptionalOperand,
    Region,
    Result,
    attribute_named,
    base,
    one_of,
)
from bitmlir.dialects.types import bitwise_name, encoding_in, encoding_of, packed_type, require_encoding, tiles_shape

__all__ = [
    "MatmulOp",
    "PackOp",
    "PlaneMatmulOp",
    "PlaneOp",
    "PlanePackOp",
    "PlaneProductOp",
    "PlaneUnpackOp",
    "TensorMapOp",
    "UnpackOp",
    "bitwise_name",
    "dialect",
    "encoding_in",
    "encoding_of",
    "load",
    "matmul",
    "packed_type",
    "plane_matmul",
    "require_encoding",
    "tiles_shape",
]

dialect = Dialect("bit", package="bitmlir.dialects")
dialect.attribute("encoding", name=base("#builtin.string"))
dialect.attribute("bitwise", name=one_of('"and"', '"xor"'))


def load(context: ir.Context) -> None:
    """Make the dialect known to a context."""
    dialect.load(context)


# --- level 0 --------------------------------------------------------------------------------------


@dialect.op("pack")
class PackOp(DialectOp):
    """Split a matrix of integers into bit planes and row sums.

    result[r, k] = code(source[r, k]), where code is the result's encoding, and for zero points that of
    source[r, k] + zero; codes of values outside the encoding keep their low bits.

    source: tensor<MxKxi8|i16|i32>; zeros: tensor<Mxi32>, only for `u<p>@row`; result: a packed MxK matrix.

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
        if fault := packed_fault(self.result.type, "the result"):
            return fault
        result = ir.RankedTensorType(self.result.type)
        if fault := array_fault(self.source.type, "the source", result.shape, ("i8", "i16", "i32")):
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

    lhs: packed MxK; rhs: packed NxK; lhs_tiles, rhs_tiles: optional bitmaps tensor<PxRxTxi1> over the planes and tiles
    of 128 rows by 1024 elements (0 = no plane bit is set there: the tile costs neither loads nor products).

    The epilogue is a block (acc: i32, row: index, col: index) of `arith`, `math` and `tensor.extract` operations; it
    may read any tensor at [row], [col] or [row, col]. It yields the element of a plain result, or the code (an i<p>)
    of a packed one.

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
    epilogue = Region(("i32", "index", "index"))
    result = Result()

    @classmethod
    def infer(cls, **fields: Any) -> list[ir.Type]:
        """int32, M rows by N columns."""
        m, n = (ir.RankedTensorType(fields[side].type).shape[0] for side in ("lhs", "rhs"))
        return [ir.RankedTensorType.get([m, n], ir.IntegerType.get_signless(32))]

    def check(self) -> str | None:
        lhs, rhs = self.lhs.type, self.rhs.type
        if fault := packed_fault(lhs, "lhs") or packed_fault(rhs, "rhs"):
            return fault
        (m, k), (n, rhs_k) = ir.RankedTensorType(lhs).shape, ir.RankedTensorType(rhs).shape
        if k != rhs_k:
            return f"lhs and rhs must have the same K (their second size), but have {k} and {rhs_k}"
        sides = {"lhs": require_encoding(lhs), "rhs": require_encoding(rhs)}
        if fault := range_fault(sides["lhs"], sides["rhs"], k):
            return fault
        for side, tiles, rows in (("lhs", self.lhs_tiles, m), ("rhs", self.rhs_tiles, n)):
            if tiles is not None:
                shape = tiles_shape(rows, k, sides[side])
                if fault := array_fault(tiles.type, f"{side}_tiles", shape, ("i1",)):
                    return fault
        return self._result_fault(m, n) or body_fault(self.epilogue, "tensor.extract", (m, n)) or self._yield_fault()

    def _result_fault(self, m: int, n: int) -> str | None:
        type_ = self.result.type
        if not isinstance(type_, ir.RankedTensorType) or list(type_.shape) != [m, n]:
            return f"the result must be a {m}x{n} tensor, but is {type_}"
        if type_.encoding is None:
            return element_fault(type_)
        if fault := packed_fault(type_, "the result"):
            return fault
        if require_encoding(type_).has_row_zeros:
            return "the result cannot have a zero point for each row: no epilogue makes one"
        return None

    def _yield_fault(self) -> str | None:
        return _yield_fault(
            self.epilogue, ir.RankedTensorType(self.result.type).element_type, "epilogue", "the result's element"
        )


def _yield_fault(block: ir.Block, element: ir.Type, what: str, of: str) -> str | None:
    """Why what a block yields is not one element."""
    yielded = [value.type for value in block.operations[len(block.operations) - 1].operands]
    if yielded == [element]:
        return None
    came = ", ".join(map(str, yielded)) or "nothing"
    return f"the {what} must yield one {element}, {of}, but yields {came}"


def matmul(
    lhs: ir.Value,
    rhs: ir.Value,
    *,
    result: ir.Type | None = None,
    epilogue: Callable[[ir.Value, ir.Value, ir.Value], ir.Value] | None = None,
    lhs_tiles: ir.Value | None = None,
    rhs_tiles: ir.Value | None = None,
) -> ir.Value:
    """Build a `bit.matmul`; `epilogue(acc, row, col)` builds the element of the result (by default acc itself).

    Example:
        >>> with ir.Context() as context, ir.Location.unknown():
        ...     load(context)
        ...     x, w = packed_type([4, 40], "bipolar"), packed_type([8, 40], "u2")
        ...     module = ir.Module.create()
        ...     with ir.InsertionPoint(module.body):
        ...         from mlir.dialects import func
        ...         @func.FuncOp.from_py_func(x, w)
        ...         def product(x, w):
        ...             return matmul(x, w)
        ...     print(product.func_op.type.results[0])
        tensor<4x8xi32>
    """
    results = None if result is None else [result]
    op = MatmulOp(lhs=lhs, rhs=rhs, lhs_tiles=lhs_tiles, rhs_tiles=rhs_tiles, results=results)
    with ir.InsertionPoint(op.epilogue):
        acc, row, col = op.epilogue.arguments
        gpu.YieldOp([acc if epilogue is None else epilogue(acc, row, col)])
    return op.result


def extract(array: ir.Value, *indices: ir.Value) -> ir.Value:
    """Read an array in an epilogue at [row], [col] or [row, col]."""
    return tensor.extract(array, list(indices))


def threshold(acc: ir.Value, limit: ir.Value, flip: ir.Value | None = None) -> ir.Value:
    """The bit (acc ≥ limit), turned round where `flip` (an i1) is set."""
    bit = arith.cmpi(arith.CmpIPredicate.sge, acc, limit)
    return bit if flip is None else arith.xori(bit, flip)


# --- level 1 --------------------------------------------------------------------------------------


@dialect.op("plane_matmul")
class PlaneMatmulOp(DialectOp):
    """For each row and column, compute one element from products of planes and store it.

    out[m, n] = body(m, n), or, with out_sums, planes of the code that the body yields and
    out_sums[m] = Σ_n Σ_i weights[i] · bit i of the code.

    lhs: memref<PxMxWxi32>, rhs: memref<QxNxWxi32>; lhs_tiles: memref<PxRxVxi32>, rhs_tiles: memref<QxSxVxi32>, bit
    t%32 of word t//32 for the tile t of K; out: memref<MxNxT>, or memref<OxMxUxi32> with out_sums: memref<Mxi32>.
    `k` is the true K, `bitwise` the bit operation of every plane product in the body, `out_encoding` is "" for a
    plain result.

    The body is a block (row: index, col: index) of `arith`, `math`, `memref.load` (at the row, the column or both) and
    `bit.plane_product`: the plane schedule, the corrections and the epilogue in one.
    """

    lhs = Operand()
    rhs = Operand()
    lhs_tiles = OptionalOperand()
    rhs_tiles = OptionalOperand()
    out = Operand()
    out_sums = OptionalOperand()
    k = Attr(base("#builtin.integer"))
    bitwise = Attr(attribute_named("bit", "bitwise"))
    out_encoding = Attr(base("#builtin.string"))
    body = Region(("index", "index"))

    def check(self) -> str | None:
        k = ir.IntegerAttr(self.attributes["k"]).value
        if k < 1:
            return f"k must be at least 1, but is {k}"
        words = words_per_row(k)
        for name, value in (("lhs", self.lhs), ("rhs", self.rhs)):
            if fault := memref_fault(value.type, name, ("P", "R", words), context=f" for K = {k}"):
                return fault
        (planes, m, _), (rhs_planes, n, _) = (ir.MemRefType(v.type).shape for v in (self.lhs, self.rhs))
        return (
            self._tiles_fault("lhs_tiles", self.lhs_tiles, planes, m, k)
            or self._tiles_fault("rhs_tiles", self.rhs_tiles, rhs_planes, n, k)
            or self._out_fault(m, n)
            or body_fault(self.body, "memref.load", (m, n), products=True)
            or self._products_fault(planes, rhs_planes)
            or self._yield_fault()
        )

    def _tiles_fault(self, name: str, tiles: ir.Value | None, planes: int, rows: int, k: int) -> str | None:
        if tiles is None:
            return None
        if bitwise_name(self.bitwise) != "and":
            return f'tile bitmaps need the bit operation "and", but it is "{bitwise_name(self.bitwise)}"'
        row_tiles, k_tiles = tile_counts((rows, k))
        return memref_fault(tiles.type, name, (planes, row_tiles, -(-k_tiles // BITS_PER_WORD)))

    @property
    def _packed_as(self) -> str:
        return ir.StringAttr(self.attributes["out_encoding"]).value

    def _out_fault(self, m: int, n: int) -> str | None:
        if bool(self._packed_as) != (self.out_sums is not None):
            return "out_sums and out_encoding belong together: a packed result has both, a plain one neither"
        if not isinstance(self.out.type, ir.MemRefType):
            return f"out must be a memref, but is {self.out.type}"
        expected = [m, n]
        if self.out_sums is not None:
            try:
                expected = [Encoding.parse(self._packed_as).bits, m, words_per_row(n)]
            except EncodingError as error:
                return f"out_encoding: {error}"
            if fault := memref_fault(self.out_sums.type, "out_sums", (m,)):
                return fault
        if list(self.out.type.shape) != expected:
            return f"out must have the sizes {expected}, but is {self.out.type}"
        return None

    def _products_fault(self, planes: int, rhs_planes: int) -> str | None:
        faults = (op.planes_fault(planes, rhs_planes) for op in self.body.operations if isinstance(op, PlaneProductOp))
        return next(filter(None, faults), None)

    def _yield_fault(self) -> str | None:
        element = ir.MemRefType(self.out.type).element_type
        if self._packed_as:
            element = ir.IntegerType.get_signless(Encoding.parse(self._packed_as).bits)
        return _yield_fault(self.body, element, "body", "the element of out")


@dialect.op("plane_product")
class PlaneProductOp(DialectOp):
    """Add the products of pairs of planes to an accumulator.

    result = acc + Σ_t Σ_k popc(lhs plane lhs_planes[t] ∘ rhs plane rhs_planes[t]), ∘ being the bit operation of the
    enclosing `bit.plane_matmul`.
    """

    PURE = True
    acc = Operand()
    lhs_planes = Attr()
    rhs_planes = Attr()
    result = Result()

    @classmethod
    def infer(cls, **fields: Any) -> list[ir.Type]:
        """The accumulator's type."""
        return [fields["acc"].type]

    def check(self) -> str | None:
        sides = (self.lhs_planes, self.rhs_planes)
        if not all(isinstance(side, ir.DenseI64ArrayAttr) for side in sides):
            return f"lhs_planes and rhs_planes must be array<i64: …>, but are {sides[0]} and {sides[1]}"
        if {str(self.acc.type), str(self.result.type)} != {"i32"}:
            return f"the accumulator and the result must be i32, but are {self.acc.type} and {self.result.type}"
        return None

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The pairs of planes (of lhs, of rhs)."""
        lhs, rhs = (list(ir.DenseI64ArrayAttr(self.attributes[name])) for name in ("lhs_planes", "rhs_planes"))
        return list(zip(lhs, rhs, strict=True))

    def planes_fault(self, lhs: int, rhs: int) -> str | None:
        """Why the planes do not exist in operands of so many planes, or None."""
        sides = [list(ir.DenseI64ArrayAttr(self.attributes[name])) for name in ("lhs_planes", "rhs_planes")]
        if not sides[0] or len(sides[0]) != len(sides[1]):
            return f"bit.plane_product needs equally many planes of both sides, at least one, but has {sides}"
        if not (0 <= min(sides[0]) and max(sides[0]) < lhs and 0 <= min(sides[1]) and max(sides[1]) < rhs):
            return f"bit.plane_product names planes {sides} of operands that have {lhs} and {rhs}"
        return None


@dialect.op("plane_pack")
class PlanePackOp(DialectOp):
    """Fill planes and row sums from integers (see `bit.pack`).

    source: memref<MxKxi8|i16|i32>, planes: memref<PxMxWxi32>, sums: memref<Mxi32>; for `u<p>@row` also the zero points
    to use and where they go, memref<Mxi32> each.
    """

    source = Operand()
    planes = Operand()
    sums = Operand()
    zeros = OptionalOperand()
    out_zeros = OptionalOperand()
    encoding = Attr(attribute_named("bit", "encoding"))

    def check(self) -> str | None:
        if fault := _planes_fault(self, self.source, "the source", ("i8", "i16", "i32")):
            return fault
        encoding, rows = encoding_in(self.encoding), ir.MemRefType(self.source.type).shape[0]
        if encoding.has_row_zeros and (self.zeros is None or self.out_zeros is None):
            return f"encoding '{encoding}' needs zeros and out_zeros"
        named = (("sums", self.sums), ("zeros", self.zeros), ("out_zeros", self.out_zeros))
        faults = (memref_fault(value.type, name, (rows,)) for name, value in named if value is not None)
        return next(filter(None, faults), None) or _no_zeros_fault(encoding, self.zeros, self.out_zeros)


def _planes_fault(
    op: PlanePackOp | PlaneUnpackOp, integers: ir.Value, name: str, elements: tuple[str, ...]
) -> str | None:
    """Why an op's planes are not those of a matrix of integers in its encoding."""
    try:
        encoding = encoding_in(op.encoding)
    except EncodingError as error:
        return f"encoding: {error}"
    if fault := memref_fault(integers.type, name, ("M", "K"), elements):
        return fault
    rows, k = ir.MemRefType(integers.type).shape
    return memref_fault(op.planes.type, "planes", (encoding.bits, rows, words_per_row(k)))


def _no_zeros_fault(encoding: Encoding, *zeros: ir.Value | None) -> str | None:
    """Zero points that the encoding has no use for."""
    if encoding.has_row_zeros or all(value is None for value in zeros):
        return None
    return f"encoding '{encoding}' takes no zeros: only u<p>@row does"


@dialect.op("plane_unpack")
class PlaneUnpackOp(DialectOp):
    """Fill integers from planes (see `bit.unpack`).

    planes: memref<PxMxWxi32>, zeros: memref<Mxi32> for `u<p>@row`, out: memref<MxKxi8|i16>.
    """

    planes = Operand()
    out = Operand()
    zeros = OptionalOperand()
    encoding = Attr(attribute_named("bit", "encoding"))

    def check(self) -> str | None:
        if fault := _planes_fault(self, self.out, "out", ("i8", "i16")):
            return fault
        encoding = encoding_in(self.encoding)
        if encoding.has_row_zeros and self.zeros is None:
            return f"encoding '{encoding}' needs zeros"
        return _no_zeros_fault(encoding, self.zeros)


PlaneOp = PlaneMatmulOp | PlanePackOp | PlaneUnpackOp


def plane_matmul(
    lhs: ir.Value,
    rhs: ir.Value,
    out: ir.Value,
    *,
    k: int,
    bitwise: str,
    body: Callable[[ir.Value, ir.Value], ir.Value],
    out_sums: ir.Value | None = None,
    out_encoding: Encoding | None = None,
    lhs_tiles: ir.Value | None = None,
    rhs_tiles: ir.Value | None = None,
) -> PlaneMatmulOp:
    """Build a `bit.plane_matmul`; `body(row, col)` builds the element or code to store."""
    op = PlaneMatmulOp(
        lhs=lhs,
        rhs=rhs,
        lhs_tiles=lhs_tiles,
        rhs_tiles=rhs_tiles,
        out=out,
        out_sums=out_sums,
        k=k,
        bitwise=ir.Attribute.parse(f'#bit.bitwise<"{bitwise}">'),
        out_encoding=ir.StringAttr.get("" if out_encoding is None else str(out_encoding)),
    )
    with ir.InsertionPoint(op.body):
        gpu.YieldOp([body(*op.body.arguments)])
    return op


# --- level 2 --------------------------------------------------------------------------------------


@dialect.op("tensor_map")
class TensorMapOp(DialectOp):
    """A TMA descriptor over planes memref<PxRxWxi32>, read in boxes of (words, rows, planes) with a 128-byte swizzle.

    Source: CUDA driver API, cuTensorMapEncodeTiled.
    """

    PURE = True
    source = Operand()
    box = Attr()
    result = Result()

    def check(self) -> str | None:
        if fault := memref_fault(self.source.type, "the source", ("P", "R", "W")):
            return fault
        if not isinstance(self.box, ir.DenseI64ArrayAttr) or len(self.box) != 3:
            return f"box must be three sizes (words, rows, planes), but is {self.box}"
        return None

    @classmethod
    def infer(cls, **fields: Any) -> list[ir.Type]:
        """A pointer to the descriptor."""
        return [ir.Type.parse("!llvm.ptr")]
