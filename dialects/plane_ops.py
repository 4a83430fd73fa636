"""Levels 1 and 2 of the `bit` dialect: operations on planes, and what the host needs to launch kernels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from mlir import ir
from mlir.dialects import gpu

from bitmlir.dialects.bit_dialect import dialect
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import EncodingError
from bitmlir.dialects.faults import body_fault, count_fault, memref_fault, tile_fault, yield_fault
from bitmlir.dialects.layout import (
    BITS_PER_WORD,
    LARGEST_SIZE,
    ROW_ALIGNMENT,
    SWIZZLES,
    ceil_div,
    tile_counts,
    words_per_row,
)
from bitmlir.dialects.ops import (
    Attr,
    DialectOp,
    Operand,
    OptionalAttr,
    OptionalOperand,
    Region,
    Result,
    attribute_named,
    base,
)
from bitmlir.dialects.plane_conv_ops import (
    PlaneEdgeSumsOp,
    PlanePackPatchesOp,
    PlanePairFiltersOp,
    PlanePatchesOp,
    PlanePatchSumsOp,
    PlanePoolOp,
    PlaneReduceWindowOp,
    PlaneSpreadFiltersOp,
    WindowClassOp,
    WindowSumOp,
    bytes_fault,
    images_fault,
    places_of,
    window_in,
)
from bitmlir.dialects.plane_results import Stored
from bitmlir.dialects.types import bitwise_name, constant_of, encoding_in

__all__ = [
    "COMPUTED_PLACES",
    "PlaneByteConvOp",
    "PlaneGroupedMatmulOp",
    "PlaneMatmulOp",
    "PlaneOp",
    "PlanePackOp",
    "PlaneProduct",
    "PlaneProductOp",
    "PlaneRanksOp",
    "PlaneSearchOp",
    "PlaneUnpackOp",
    "TensorMapOp",
    "plane_matmul",
    "plane_search",
]

_INTEGERS, _FLOATS = ("i8", "i16", "i32"), ("f16", "bf16", "f32")  # what matrices can be packed from


@dialect.op("plane_matmul")
class PlaneMatmulOp(DialectOp):
    """For each row and column, compute one element from products of planes and store it.

    out[m, n] = body(m, n), or, with out_sums, planes of the code that the body yields and
    out_sums[m] = Σ_n Σ_i weights[i] · bit i of the code.

    lhs: memref<PxMxWxi32>, rhs: memref<QxNxWxi32>; lhs_tiles: memref<PxRxVxi32>, rhs_tiles: memref<QxSxVxi32>, bit
    t%32 of word t//32 for the tile t of K; out: memref<MxNxT>, or memref<OxMxUxi32> with out_sums: memref<Mxi32>.
    `k` is the true K, `bitwise` the bit operation of every plane product in the body, `out_encoding` is "" for a
    plain result. Beside a packed one there may be kept: memref<MxNxT>, for which the body yields a number after the
    code. `tile`, if it is there, says how a GPU kernel divides the work: a dictionary of whole numbers and units with
    the fields of the target's kind of tile, such as {alternate, columns = 256 : i64, rows = 64 : i64, …}.

    The body is a block (row: index, col: index) of `arith`, `math`, `memref.load` (at the row, the column or both, what
    is computed from one of them by constants, or the row's `bit.window_class`), `bit.window_sum` and
    `bit.plane_product`: the plane schedule, the corrections and the epilogue in one.

    Rows of a packed result may stand for two pixels side by side: then out_sums: memref<(2·M)xi32> has a sum of each
    half. Those of 64 columns may do without padding, out: memref<OxMx2xi32> (see `PairWindow`).

    Of batches of B matrices, lhs, rhs, out and out_sums have a dimension B before that of the rows, and the body is a
    block (row, col, batch: index).

    With a `window` (see `window_attribute`) lhs are images, memref<Px(N·H·W)xVxi32>: its rows are the patches that
    `bit.plane_patches` would gather, of K = T·V·32 bits, which the kernel gathers itself (on GPUs).
    """

    lhs = Operand()
    rhs = Operand()
    lhs_tiles = OptionalOperand()
    rhs_tiles = OptionalOperand()
    out = Operand()
    out_sums = OptionalOperand()
    kept = OptionalOperand()
    k = Attr(base("#builtin.integer"))
    bitwise = Attr(attribute_named("bit", "bitwise"))
    out_encoding = Attr(base("#builtin.string"))
    window = OptionalAttr()
    tile = OptionalAttr()
    body = Region(("index", "index"), extensible=True)
    offsets = None  # which `bit.plane_grouped_matmul` has

    @property
    def stored(self) -> Stored:
        """What it stores."""
        return Stored(self.out, self.out_sums, self.kept, self.out_encoding, self.body)

    def check(self) -> str | None:
        if self.window is not None:
            return self._windowed_fault(self.window)
        is_batch = isinstance(self.lhs.type, ir.MemRefType) and ir.MemRefType(self.lhs.type).rank == 4
        if fault := _plane_factors_fault(self, ["B"] if is_batch else [], ["B"] if is_batch else []):
            return fault
        k = ir.IntegerAttr(self.attributes["k"]).value
        shapes = (ir.MemRefType(v.type).shape for v in (self.lhs, self.rhs))
        (planes, *batch, m, _), (rhs_planes, *rhs_batch, n, _) = shapes
        if batch != rhs_batch:
            return f"lhs and rhs must be batches of equally many matrices, but have {batch[0]} and {rhs_batch[0]}"
        if batch and (self.lhs_tiles is not None or self.rhs_tiles is not None):
            return f"tile bitmaps cover single matrices, but lhs and rhs are batches of {batch[0]}"
        return (
            self._tiles_fault("lhs_tiles", self.lhs_tiles, planes, m, k)
            or self._tiles_fault("rhs_tiles", self.rhs_tiles, rhs_planes, n, k)
            or self.stored.fault((*batch, m), n, may_have_halves=not batch)
            or _body_fault(self, (m, n, *batch))
            or self.stored.element_fault()
        )

    def _windowed_fault(self, attribute: ir.Attribute) -> str | None:
        """Why the op is no product of images' patches."""
        if fault := images_fault(self.lhs, attribute, name="lhs"):
            return fault
        (_, rows, words), window = ir.MemRefType(self.lhs.type).shape, window_in(attribute)
        if rows < 1 or words < 1 or words * BITS_PER_WORD % ROW_ALIGNMENT:
            return f"lhs must have pixels of whole {ROW_ALIGNMENT} bits, but is {self.lhs.type}"
        k, whole = ir.IntegerAttr(self.attributes["k"]).value, window.taps * words * BITS_PER_WORD
        if k != whole:
            return f"k must be the {whole} bits of a patch of {window.taps} taps, but is {k}"
        if bitwise_name(self.bitwise) != "and" or self.lhs_tiles is not None or self.rhs_tiles is not None:
            return 'a product with a window has the bit operation "and" and no tile bitmaps'
        if fault := memref_fault(self.rhs.type, "rhs", ("Q", "N", window.taps * words)):
            return fault
        m, n = places_of(rows, window), ir.MemRefType(self.rhs.type).shape[1]
        if max(m, rows) > LARGEST_SIZE:
            return f"lhs must have at most {LARGEST_SIZE} pixels, and places for its window, but has {rows} and {m}"
        if not 1 <= n <= LARGEST_SIZE:
            return f"rhs must have 1 to {LARGEST_SIZE} rows, but has {n}"
        return (
            self.stored.fault((m,), n, may_have_halves=True) or _body_fault(self, (m, n)) or self.stored.element_fault()
        )

    def _tiles_fault(self, name: str, tiles: ir.Value | None, planes: int, rows: int, k: int) -> str | None:
        if tiles is None:
            return None
        if bitwise_name(self.bitwise) != "and":
            return f'tile bitmaps need the bit operation "and", but it is "{bitwise_name(self.bitwise)}"'
        row_tiles, k_tiles = tile_counts((rows, k))
        return memref_fault(tiles.type, name, (planes, row_tiles, ceil_div(k_tiles, BITS_PER_WORD)))


@dialect.op("plane_grouped_matmul")
class PlaneGroupedMatmulOp(DialectOp):
    """As `bit.plane_matmul`, for groups of rows of lhs with a matrix of rhs each (see `bit.grouped_matmul`).

    lhs: memref<PxMxWxi32>, rhs: memref<QxGxNxWxi32>, offsets: memref<(G+1)xi32>, out and out_sums for M rows; the body
    is a block (row: index, col: index, group: index).
    """

    lhs = Operand()
    rhs = Operand()
    offsets = Operand()
    out = Operand()
    out_sums = OptionalOperand()
    k = Attr(base("#builtin.integer"))
    bitwise = Attr(attribute_named("bit", "bitwise"))
    out_encoding = Attr(base("#builtin.string"))
    tile = OptionalAttr()
    body = Region(("index", "index", "index"))
    # What `bit.plane_matmul`, whose kernels it shares, may have, but not this.
    lhs_tiles = rhs_tiles = window = kept = None

    @property
    def stored(self) -> Stored:
        """What it stores."""
        return Stored(self.out, self.out_sums, None, self.out_encoding, self.body)

    def check(self) -> str | None:
        if fault := _plane_factors_fault(self, [], ["G"]):
            return fault
        (_, m, _), (_, groups, n, _) = (ir.MemRefType(v.type).shape for v in (self.lhs, self.rhs))
        return (
            memref_fault(self.offsets.type, "offsets", (groups + 1,))
            or self.stored.fault((m,), n)
            or _body_fault(self, (m, n, groups))
            or self.stored.element_fault()
        )


def _plane_factors_fault(op: PlaneProduct, lhs_batch: Sequence[str] = (), rhs_batch: Sequence[str] = ()) -> str | None:
    """Why an op's lhs and rhs are not planes of that K, with or without a batch."""
    k = ir.IntegerAttr(op.attributes["k"]).value
    if k < 1:
        return f"k must be at least 1, but is {k}"
    for name, value, batch in (("lhs", op.lhs, lhs_batch), ("rhs", op.rhs, rhs_batch)):
        shape = ("P", *batch, "R", words_per_row(k))
        if fault := memref_fault(value.type, name, shape, context=f" for K = {k}"):
            return fault
        if math.prod(ir.MemRefType(value.type).shape[1:-1]) > LARGEST_SIZE:
            return f"{name} must have at most {LARGEST_SIZE} rows in all, but is {value.type}"
    return None


def _body_fault(op: PlaneProduct, sizes: Sequence[int]) -> str | None:
    """Why the body cannot compute elements at places in these sizes from the op's planes, or a tile is none."""
    planes, rhs_planes = (ir.MemRefType(value.type).shape[0] for value in (op.lhs, op.rhs))
    products = (inner for inner in op.body.operations if isinstance(inner, PlaneProductOp))
    seen = [inner for inner in op.body.operations if isinstance(inner, (WindowClassOp, WindowSumOp))]
    counts = _index_counts(op.body, dict(zip(op.body.arguments, sizes, strict=False)))
    faults = itertools.chain(
        (product.planes_fault(planes, rhs_planes) for product in products),
        (_seen_fault(inner, op.body, sizes[0]) for inner in seen),
    )
    return (
        body_fault(
            op.body,
            "memref.load",
            sizes,
            makers=("bit.plane_product", "bit.window_class", "bit.window_sum"),
            numbers={number: count for number, count in counts.items() if number not in op.body.arguments},
        )
        or next(filter(None, faults), None)
        or tile_fault(op.tile)
    )


COMPUTED_PLACES: Mapping[str, Callable[[int, int], int]] = MappingProxyType(
    {
        "arith.muli": lambda count, by: (count - 1) * by + 1,
        "arith.addi": lambda count, by: count + by,
        "arith.remui": lambda _, by: by,
    }
)
"""What places are computed by, with a constant, and how many different ones there can be then, of so many."""


def _index_counts(body: ir.Block, places: Mapping[ir.Value, int]) -> dict[ir.Value, int]:
    """How many different numbers an index can be, at most: places, and what is computed from them with constants."""
    counts = dict(places)
    for op in body.operations:
        operands, count_of = list(op.operation.operands), COMPUTED_PLACES.get(op.operation.name)
        if isinstance(op, WindowClassOp) and op.place in counts and op.check() is None:
            counts[op.result] = len(window_in(op.window).classes)
        elif count_of is not None and operands[0] in counts and (by := constant_of(operands[1]) or 0) > 0:
            counts[op.operation.results[0]] = count_of(counts[operands[0]], by)
    return counts


def _seen_fault(op: WindowClassOp | WindowSumOp, body: ir.Block, rows: int) -> str | None:
    """Why an operation does not tell of the windows at a product's rows."""
    if op.check() is not None:
        return None
    counts = _index_counts(body, {body.arguments[0]: rows})
    is_row, name = op.place == body.arguments[0], op.OPERATION_NAME
    if op.place not in counts or (not is_row and isinstance(op, WindowClassOp)):
        return f"{name} must be asked for the row"
    rows = counts[op.place]
    if isinstance(op, WindowSumOp):
        places = places_of(ir.MemRefType(op.sums.type).shape[0], window_in(op.window))
        fits = places == rows if is_row else places >= rows
    else:
        fits = rows % math.prod(window_in(op.window).places) == 0
    return None if fits else f"{name} in its region has a window whose places are not those of {rows} rows"


@dialect.op("plane_byte_conv")
class PlaneByteConvOp(DialectOp):
    """As `bit.plane_matmul` with a `window`, of images of bytes with the values 0 to 255, on the int8 unit (sm_80 and
    later): one element for each place of the window and each filter.

    source: memref<(N·H·W)xCxi8>; rhs: memref<QxOxVxi32>, filters of R·S·C numbers in `rhs_encoding`, taps by rows of
    the filter; out, out_sums and kept as there. The body has one `bit.plane_product`, of plane 0 with plane 0 on 0,
    which stands for the sum of products of numbers; places outside an image count as 0. The window has no dilation.
    """

    source = Operand()
    rhs = Operand()
    out = Operand()
    out_sums = OptionalOperand()
    kept = OptionalOperand()
    rhs_encoding = Attr(attribute_named("bit", "encoding"))
    out_encoding = Attr(base("#builtin.string"))
    window = Attr()
    body = Region(("index", "index"))

    @property
    def lhs(self) -> ir.Value:
        """The images, as of a product."""
        return self.source

    @property
    def places(self) -> int:
        """Rows of the result."""
        return places_of(ir.MemRefType(self.source.type).shape[0], window_in(self.window))

    @property
    def stored(self) -> Stored:
        """What it stores."""
        return Stored(self.out, self.out_sums, self.kept, self.out_encoding, self.body)

    def check(self) -> str | None:
        try:
            encoding = encoding_in(self.rhs_encoding)
        except EncodingError as error:
            return f"rhs_encoding: {error}"
        if encoding.has_row_zeros:
            return f"rhs_encoding '{encoding}' has a zero point a row, which filters cannot have"
        if fault := bytes_fault(self.source, self.window):
            return fault
        (_, channels), window = ir.MemRefType(self.source.type).shape, window_in(self.window)
        if (window.rows.dilation, window.columns.dilation) != (1, 1):
            return f"the window must have no dilation, but is {self.window}"
        words = words_per_row(window.taps * channels)
        if fault := memref_fault(self.rhs.type, "rhs", (encoding.bits, "O", words)):
            return fault
        filters = ir.MemRefType(self.rhs.type).shape[1]
        if not 1 <= filters <= LARGEST_SIZE or self.places > LARGEST_SIZE:
            return f"there must be 1 to {LARGEST_SIZE} filters and places, but are {filters} and {self.places}"
        products = [inner for inner in self.body.operations if isinstance(inner, PlaneProductOp)]
        if len(products) != 1 or products[0].pairs != [(0, 0)] or constant_of(products[0].acc) != 0:
            return "the body must have one bit.plane_product, of plane 0 with plane 0 on 0"
        return (
            self.stored.fault((self.places,), filters)
            or body_fault(self.body, "memref.load", (self.places, filters), makers=("bit.plane_product",))
            or self.stored.element_fault()
        )


@dialect.op("plane_search")
class PlaneSearchOp(DialectOp):
    """For each row, keep the largest or smallest of the scores that the body makes for its columns (see `bit.search`).

    out[m, i] = the i-th greatest key of row m; key = biased score · 2^32 + (2^32 − 2 − column), an unsigned number that
    is greater for a better score, and of two equal ones for the smaller column. 0 is no key.

    lhs: memref<PxMxWxi32>, rhs: memref<QxNxWxi32>; out: memref<MxCxi64>. `k`, `bitwise`, `tile` and the body are as of
    `bit.plane_matmul`; the body yields an i32.
    """

    lhs = Operand()
    rhs = Operand()
    out = Operand()
    k = Attr(base("#builtin.integer"))
    bitwise = Attr(attribute_named("bit", "bitwise"))
    order = Attr(attribute_named("bit", "order"))
    tile = OptionalAttr()
    body = Region(("index", "index"))
    # What `bit.plane_matmul`, whose kernels it shares, may have, but not a search.
    lhs_tiles = rhs_tiles = out_sums = kept = offsets = window = None

    def check(self) -> str | None:
        if fault := _plane_factors_fault(self):
            return fault
        (_, m, _), (_, n, _) = (ir.MemRefType(v.type).shape for v in (self.lhs, self.rhs))
        if fault := memref_fault(self.out.type, "out", (m, "C"), ("i64",)):
            return fault
        return (
            count_fault(self.count, n)
            or _body_fault(self, (m, n))
            or yield_fault(self.body, ir.IntegerType.get_signless(32), "body", "the score")
        )

    @property
    def count(self) -> int:
        """How many columns are kept for a row."""
        return ir.MemRefType(self.out.type).shape[1]


@dialect.op("plane_ranks")
class PlaneRanksOp(DialectOp):
    """Take the keys of a `bit.plane_search` apart: values[m, i] and columns[m, i] are the score and the column.

    keys: memref<MxCxi64>, each of a column; values, columns: memref<MxCxi32>.
    """

    keys = Operand()
    values = Operand()
    columns = Operand()
    order = Attr(attribute_named("bit", "order"))

    def check(self) -> str | None:
        if fault := memref_fault(self.keys.type, "keys", ("M", "C"), ("i64",)):
            return fault
        shape = ir.MemRefType(self.keys.type).shape
        return memref_fault(self.values.type, "values", shape) or memref_fault(self.columns.type, "columns", shape)


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
    """Fill planes and row sums from integers (see `bit.pack`) or floats (see `bit.quantise`).

    source: memref<MxKxT> of i8, i16, i32, f16, bf16 or f32; planes: memref<PxMxWxi32>, sums: memref<Mxi32>; of floats
    the scales, memref<Mxf32>; for `u<p>@row` also the zero points to use and where they go, memref<Mxi32> each.
    """

    source = Operand()
    planes = Operand()
    sums = Operand()
    scale = OptionalOperand()
    zeros = OptionalOperand()
    out_zeros = OptionalOperand()
    encoding = Attr(attribute_named("bit", "encoding"))

    def check(self) -> str | None:
        if fault := _planes_fault(self, self.source, "the source", (*_INTEGERS, *_FLOATS)):
            return fault
        source = ir.MemRefType(self.source.type)
        encoding, rows = encoding_in(self.encoding), source.shape[0]
        if self.scale is not None:
            if str(source.element_type) not in _FLOATS:
                return f"integers take no scale: only {', '.join(_FLOATS)} do"
            if fault := memref_fault(self.scale.type, "scale", (rows,), ("f32",)):
                return fault
        if encoding.has_row_zeros and (self.zeros is None or self.out_zeros is None):
            return f"encoding '{encoding}' needs zeros and out_zeros"
        named = (("sums", self.sums), ("zeros", self.zeros), ("out_zeros", self.out_zeros))
        faults = (memref_fault(value.type, name, (rows,)) for name, value in named if value is not None)
        return next(filter(None, faults), None) or _no_zeros_fault(encoding, self.zeros, self.out_zeros)


def _planes_fault(
    op: PlanePackOp | PlaneUnpackOp, matrix: ir.Value, name: str, elements: tuple[str, ...]
) -> str | None:
    """Why an op's planes are not those of that matrix in its encoding."""
    try:
        encoding = encoding_in(op.encoding)
    except EncodingError as error:
        return f"encoding: {error}"
    if fault := memref_fault(matrix.type, name, ("M", "K"), elements):
        return fault
    rows, k = ir.MemRefType(matrix.type).shape
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


PlaneProduct = PlaneMatmulOp | PlaneGroupedMatmulOp | PlaneSearchOp
PlaneOp = (
    PlaneProduct
    | PlaneByteConvOp
    | PlaneRanksOp
    | PlanePackOp
    | PlaneUnpackOp
    | PlanePackPatchesOp
    | PlanePatchesOp
    | PlanePatchSumsOp
    | PlaneEdgeSumsOp
    | PlaneSpreadFiltersOp
    | PlanePairFiltersOp
    | PlanePoolOp
    | PlaneReduceWindowOp
)


def plane_matmul(
    lhs: ir.Value,
    rhs: ir.Value,
    out: ir.Value,
    *,
    k: int,
    bitwise: str,
    body: Callable[..., list[ir.Value]],
    out_sums: ir.Value | None = None,
    kept: ir.Value | None = None,
    out_encoding: Encoding | None = None,
    lhs_tiles: ir.Value | None = None,
    rhs_tiles: ir.Value | None = None,
    offsets: ir.Value | None = None,
    window: ir.Attribute | None = None,
) -> PlaneMatmulOp | PlaneGroupedMatmulOp:
    """Build a `bit.plane_matmul`, or with offsets a `bit.plane_grouped_matmul`; `body(row, col)`, for batches and
    groups `body(row, col, number)`, builds the element or code to store, or code and number if some are kept."""
    fields: dict[str, Any] = {
        "lhs": lhs,
        "rhs": rhs,
        "out": out,
        "out_sums": out_sums,
        "k": k,
        "bitwise": ir.Attribute.parse(f'#bit.bitwise<"{bitwise}">'),
        "out_encoding": ir.StringAttr.get("" if out_encoding is None else str(out_encoding)),
    }
    if offsets is not None:
        op = PlaneGroupedMatmulOp(offsets=offsets, **fields)
    else:
        op = PlaneMatmulOp(lhs_tiles=lhs_tiles, rhs_tiles=rhs_tiles, kept=kept, window=window, **fields)
        if ir.MemRefType(lhs.type).rank == 4:
            op.body.add_argument(ir.IndexType.get(), op.location)
    with ir.InsertionPoint(op.body):
        gpu.YieldOp(body(*op.body.arguments))
    return op


def plane_search(
    lhs: ir.Value,
    rhs: ir.Value,
    out: ir.Value,
    *,
    k: int,
    bitwise: str,
    order: ir.Attribute,
    body: Callable[[ir.Value, ir.Value], list[ir.Value]],
) -> PlaneSearchOp:
    """Build a `bit.plane_search`; `body(row, col)` builds the score, as a list of one."""
    operation = ir.Attribute.parse(f'#bit.bitwise<"{bitwise}">')
    op = PlaneSearchOp(lhs=lhs, rhs=rhs, out=out, k=k, bitwise=operation, order=order)
    with ir.InsertionPoint(op.body):
        gpu.YieldOp(body(*op.body.arguments))
    return op


_LARGEST_BOX = 256
_PLACE_WORDS = (4, 8, 16, 32)  # of a place, that a box may have


@dialect.op("tensor_map")
class TensorMapOp(DialectOp):
    """A TMA descriptor over planes memref<PxRxWxi32>, read in boxes of (words, rows, planes); over a batch of them,
    memref<PxBxRxWxi32>, in boxes of (words, rows, matrices, planes), or over filters by tap, memref<PxOxTxVxi32>, of
    (words, taps, filters, planes); or over a result memref<MxNxT>, written in boxes of (columns, rows, 1). Boxes are
    swizzled over their width, unless that is 16 bytes; what they have outside reads as zeros.

    With a `window`, over planes of images memref<Px(N·H·W)xVxi32>, read in boxes of (words, places): what a tap of the
    window sees at places that follow each other, of which those of the second plane come after those of the first.

    Source: CUDA driver API, cuTensorMapEncodeTiled and cuTensorMapEncodeIm2col.
    """

    PURE = True
    source = Operand()
    box = Attr()
    window = OptionalAttr()
    result = Result()

    def check(self) -> str | None:
        if self.window is not None:
            return self._windowed_fault(self.window)
        if not isinstance(self.source.type, ir.MemRefType) or ir.MemRefType(self.source.type).rank not in (2, 3, 4):
            return f"the source must be a memref of two to four dimensions, but is {self.source.type}"
        count, sizes = 3, "three sizes (words, rows, planes)"
        if ir.MemRefType(self.source.type).rank == 4:
            count, sizes = 4, "four sizes (words, rows, matrices, planes)"
        if not isinstance(self.box, ir.DenseI64ArrayAttr) or len(self.box) != count:
            return f"box must be {sizes}, but is {self.box}"
        element = ir.MemRefType(self.source.type).element_type
        width = self.box[0] * (element.width if isinstance(element, (ir.IntegerType, ir.FloatType)) else 0) // 8
        if width not in SWIZZLES or not all(1 <= size <= _LARGEST_BOX for size in self.box):
            return (
                f"a box must be 32, 64 or 128 bytes wide and have sizes from 1 to {_LARGEST_BOX}, but is {self.box} of "
                f"{element}"
            )
        return None

    def _windowed_fault(self, attribute: ir.Attribute) -> str | None:
        """Why the op is no descriptor of what a window sees."""
        if fault := images_fault(self.source, attribute, name="source") or window_in(attribute).im2col_fault:
            return fault
        box = list(self.box) if isinstance(self.box, ir.DenseI64ArrayAttr) else []
        if len(box) != 2 or box[0] not in _PLACE_WORDS or not 1 <= box[1] <= _LARGEST_BOX:
            widths = ", ".join(map(str, _PLACE_WORDS))
            return (
                f"box must be (words, places), words one of {widths} and places from 1 to {_LARGEST_BOX}, but is "
                f"{self.box}"
            )
        return None

    @classmethod
    def infer(cls, **fields: Any) -> list[ir.Type]:
        """A pointer to the descriptor."""
        return [ir.Type.parse("!llvm.ptr")]
