"""Compiling and calling: inputs, stages, the cache, the failure folder, and every complaint about arguments."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import bitmlir
from bitmlir import compiler
from bitmlir.build import matmul_module
from bitmlir.lowering.gpu.tiles import make_tile, parse_fields, tile_text
from bitmlir.lowering.targets import TARGETS, get_target

SPEC = bitmlir.MatmulSpec(m=3, n=5, k=70, lhs="bipolar", rhs="u2")
BIT_SPEC = bitmlir.MatmulSpec(m=3, n=5, k=70, lhs="bipolar", rhs="u2", out="bit")


@pytest.fixture
def operands(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.choice([-1, 1], (3, 70)), rng.integers(0, 4, (5, 70))


def _text(spec: bitmlir.MatmulSpec) -> str:
    from mlir import ir

    from bitmlir.dialects import bit

    with ir.Context() as context, ir.Location.unknown():
        bit.load(context)
        return str(matmul_module(spec))


# --- programs ---------------------------------------------------------------------------------------


def test_a_spec_its_text_and_its_module_compile_to_the_same_program(operands):
    from mlir import ir

    from bitmlir.dialects import bit

    x, w = operands
    with ir.Context() as context, ir.Location.unknown():
        bit.load(context)
        module = matmul_module(SPEC)
        from_module = bitmlir.compile(module, target="cpu")
    for exe in (bitmlir.compile(SPEC, target="cpu"), bitmlir.compile(_text(SPEC), target="cpu"), from_module):
        np.testing.assert_array_equal(exe(x, w), x @ w.T)


def test_something_else_than_a_program_is_refused():
    with pytest.raises(bitmlir.InputError, match="cannot compile a int: expected a MatmulSpec"):
        bitmlir.compile(3, target="cpu")  # type: ignore[arg-type]


def test_an_unknown_target_names_the_known_ones_and_a_close_one():
    with pytest.raises(bitmlir.TargetError, match=r"unknown target 'sm_90b': .*sm_120.*did you mean 'sm_90"):
        bitmlir.compile(SPEC, target="sm_90b")


def test_auto_without_a_gpu_is_the_cpu(monkeypatch: pytest.MonkeyPatch):
    from bitmlir.runtime.driver import Device

    monkeypatch.setattr(Device, "find", classmethod(lambda cls: None))
    assert compiler.resolve_target("auto").name == "cpu"


def test_ir_that_does_not_parse_is_reported_at_its_line():
    with pytest.raises(bitmlir.IRError, match=r"layer.mlir:2:3: error: "):
        bitmlir.compile("func.func @f() {\n  nonsense\n}", target="cpu", source="layer.mlir")


def test_ir_that_does_not_verify_is_reported_at_its_line():
    text = _text(SPEC).replace('tensor<5x70xi2, #bit.encoding<"u2">>', 'tensor<5x71xi2, #bit.encoding<"u2">>')
    with pytest.raises(bitmlir.IRError, match=r"layer.mlir:3:\d+: error: 'bit.matmul' op .*same K.*70 and 71"):
        bitmlir.compile(text, target="cpu", source="layer.mlir")


def test_a_product_that_turing_cannot_halve_is_refused_there_and_fine_elsewhere():
    spec = bitmlir.MatmulSpec(m=1, n=1, k=30000, lhs="u8", rhs="u8")
    with pytest.raises(bitmlir.IRError, match="only XOR and needs one bit more: split the product along K"):
        bitmlir.compile(spec, target="sm_75")
    assert bitmlir.compile(spec, target="sm_80").emit("ptx")


# --- stages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "stages"),
    [("cpu", ("bit", "planes", "vector", "cpu", "llvm")), ("sm_80", ("bit", "planes", "gpu", "nvvm", "llvm", "ptx"))],
)
def test_every_stage_is_there(target: str, stages: tuple[str, ...]):
    exe = bitmlir.compile(SPEC, target=target)
    for stage in stages:
        assert len(exe.emit(stage)) > 100


def test_an_unknown_stage_names_those_that_exist():
    with pytest.raises(bitmlir.InputError, match="program for 'cpu' has no stage 'ptx': expected one of bit, planes"):
        bitmlir.compile(SPEC, target="cpu").emit("ptx")


def test_a_cubin_is_made_without_a_gpu():
    assert bitmlir.compile(SPEC, target="sm_90a").emit("cubin")[:4] == b"\x7fELF"  # type: ignore[comparison-overlap]


# --- the cache and failures -------------------------------------------------------------------------


def test_the_second_compilation_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BITMLIR_CACHE_DIR", str(tmp_path))
    first = bitmlir.compile(SPEC, target="sm_80")
    monkeypatch.setattr(compiler, "lower", lambda *_: pytest.fail("compiled again"))
    assert bitmlir.compile(SPEC, target="sm_80").emit("ptx") == first.emit("ptx")


def test_a_failed_compilation_leaves_its_stages_and_a_command_that_reproduces_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BITMLIR_CACHE", "0")
    monkeypatch.setenv("BITMLIR_DUMP_DIR", str(tmp_path))

    def crashing(*_, **__):
        raise RuntimeError("something broke")

    monkeypatch.setattr("bitmlir.lowering.bit_to_gpu.build_resident_kernel", crashing)
    with pytest.raises(bitmlir.CompileError, match=r"lowering to 'gpu' failed: .*something broke") as caught:
        bitmlir.compile(SPEC, target="sm_80")
    folder = Path(caught.value.folder or "")
    assert folder.parent == tmp_path
    assert {"bit.mlir", "planes.mlir", "error.txt", "versions.txt", "repro.sh"} <= {f.name for f in folder.iterdir()}
    assert "something broke" in (folder / "error.txt").read_text()
    # The fault was planted in this process alone, so the command finds none.
    done = subprocess.run(["sh", str(folder / "repro.sh")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ".target sm_80" in done.stdout


# --- calls ------------------------------------------------------------------------------------------


def test_arguments_by_position_by_name_and_packed_give_the_same(operands):
    x, w = operands
    exe = bitmlir.compile(SPEC, target="cpu")
    expected = x @ w.T
    for result in (exe(x, w), exe(rhs=w, lhs=x), exe(x, bitmlir.pack(w, "u2")), exe(x.tolist(), w.astype(np.uint8))):
        np.testing.assert_array_equal(result, expected)
        assert result.dtype == np.int32


def test_results_of_calls_do_not_share_memory(operands):
    x, w = operands
    call = bitmlir.compile(SPEC, target="cpu").bind(x, w)
    first = call()
    first[:] = 0
    np.testing.assert_array_equal(call(), x @ w.T)


def test_a_packed_result_feeds_the_next_product(operands, rng: np.random.Generator):
    x, w = operands
    threshold = rng.integers(-9, 9, 5).astype(np.int32)
    hidden = bitmlir.compile(BIT_SPEC, target="cpu")(x, w, threshold=threshold)
    hidden.check()
    signs = np.where(x @ w.T >= threshold, 1, -1)
    np.testing.assert_array_equal(bitmlir.unpack(hidden), signs)
    v = rng.integers(-4, 4, (2, 5))
    spec = bitmlir.MatmulSpec(m=3, n=2, k=5, lhs="bipolar", rhs="i3")
    np.testing.assert_array_equal(bitmlir.compile(spec, target="cpu")(hidden, v), signs @ v.T)


def test_a_number_stands_for_an_array_of_it(operands):
    x, w = operands
    spec = bitmlir.MatmulSpec(m=3, n=5, k=70, lhs="bipolar", rhs="u2", out="f32", column_scale=True)
    result = bitmlir.compile(spec, target="cpu")(x, w, column_scale=0.5)
    np.testing.assert_array_equal(result, (x @ w.T).astype(np.float32) * np.float32(0.5))


def test_a_saved_program_gives_the_same_after_loading(operands, tmp_path: Path):
    x, w = operands
    path = tmp_path / "product.bitmlir"
    bitmlir.compile(SPEC, target="cpu").save(path)
    np.testing.assert_array_equal(bitmlir.load(path)(x, w), x @ w.T)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, w: ((x, w, w), {}), bitmlir.InputError, r"takes 2 arguments \(lhs, rhs\), got 3"),
        (lambda x, w: ((x,), {}), bitmlir.InputError, "needs its arguments rhs"),
        (lambda x, w: ((x, w), {"bias": 1}), bitmlir.InputError, "no argument 'bias': expected lhs, rhs"),
        (lambda x, w: ((x, w), {"lhs": x}), bitmlir.InputError, "'lhs' is given twice"),
        (lambda x, w: ((x[:2], w), {}), bitmlir.ShapeError, r"lhs must have the shape \(3, 70\), got \(2, 70\)"),
        (lambda x, w: ((x, w + 1), {}), bitmlir.EncodingError, "rhs.*u2"),
        (lambda x, w: ((x * 0, w), {}), bitmlir.EncodingError, "lhs.*bipolar"),
        (lambda x, w: ((x + 0.5, w), {}), bitmlir.InputError, "lhs.*integer"),
        (lambda x, w: ((x, bitmlir.pack(w, "u3")), {}), bitmlir.EncodingError, "encoding 'u2', got 'u3'"),
        (lambda x, w: ((x, bitmlir.pack(w[:2], "u2")), {}), bitmlir.ShapeError, r"\(5, 70\), got \(2, 70\)"),
    ],
)
def test_a_wrong_argument_is_named(operands, change, error: type[Exception], message: str):
    arguments, named = change(*operands)
    with pytest.raises(error, match=message):
        bitmlir.compile(SPEC, target="cpu")(*arguments, **named)


@pytest.mark.parametrize(
    ("named", "error", "message"),
    [
        ({}, bitmlir.InputError, "needs its arguments threshold"),
        ({"threshold": np.zeros(4, int)}, bitmlir.ShapeError, r"threshold must have the shape \(5,\), or be a number"),
        ({"threshold": np.zeros(5)}, bitmlir.InputError, "threshold must hold integers, got float64"),
        ({"threshold": 2**40}, bitmlir.InputError, "threshold must lie in -2147483648..2147483647"),
        ({"threshold": 0, "flip": 2}, bitmlir.InputError, "flip must hold booleans, or 0 and 1, but flip = 2: give fl"),
        ({"threshold": 0, "flip": [0, 1, -1, 1, 0]}, bitmlir.InputError, r"or 0 and 1, but flip\[2\] = -1: give flip"),
        ({"threshold": 0, "flip": 1.0}, bitmlir.InputError, "flip must hold booleans, or 0 and 1, got float64"),
    ],
)
def test_a_wrong_parameter_is_named(operands, named: dict, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        bitmlir.compile(BIT_SPEC, target="cpu")(*operands, **named)


def test_a_flip_may_be_of_booleans_or_of_zeros_and_ones(operands):
    exe = bitmlir.compile(BIT_SPEC, target="cpu")
    expected = bitmlir.unpack(exe(*operands, threshold=0, flip=[True, False, True, True, False]))
    np.testing.assert_array_equal(bitmlir.unpack(exe(*operands, threshold=0, flip=[1, 0, 1, 1, 0])), expected)
    assert len(np.unique(expected)) == 2


@pytest.mark.parametrize("name", ["lhs", "rhs"])
def test_bits_past_k_of_a_matrix_made_by_hand_are_refused(operands, name: str):
    given = {"lhs": bitmlir.pack(operands[0], "bipolar"), "rhs": bitmlir.pack(operands[1], "u2")}
    given[name].planes[0, 1, 2] |= np.uint32(1 << 31)
    with pytest.raises(bitmlir.InputError, match=rf"{name}.planes\[0, 1\] has bits set past k = 70: padding must be 0"):
        bitmlir.compile(SPEC, target="cpu")(**given)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda exe: pickle.loads(pickle.dumps(exe))])
def test_a_program_that_ran_can_be_copied_and_pickled(operands, copied):
    exe = bitmlir.compile(SPEC, target="cpu")
    expected = exe(*operands)
    again = copied(exe)
    assert again.plan == exe.plan
    np.testing.assert_array_equal(again(*operands), expected)
    np.testing.assert_array_equal(exe(*operands), expected)


@pytest.mark.parametrize(
    ("target", "tile", "message"),
    [
        (
            "sm_90a",
            "rows=64,columns=256,stages=400",
            r"argument tile: the tile rows=64,columns=256,stages=400 is not possible here: \d+ bytes of shared memory",
        ),
        (
            "sm_80",
            "rows=64,columns=250,warp_rows=32,warp_columns=32,stages=3",
            "argument tile: the tile .* is not possible here: rows and columns must divide 128",
        ),
        ("sm_90a", "64", "a tile is written rows=64,columns=256,stages=4,alternate, but here stands '64'"),
        ("sm_80", "64", r"a tile is written rows=\d+,columns=\d+,warp_rows=\d+,warp_columns=.*, but here stands '64'"),
        ("sm_80", "rows=64", r"needs its columns and .*, as in rows=\d+,columns=\d+,warp_rows=\d+,warp_columns="),
        ("sm_90a", "rows=64,rows=64", "the field 'rows' of a tile is given twice"),
        ("sm_90a", 64, "argument tile must be a text, NAME=NUMBER,…, got int"),
    ],
)
def test_a_tile_that_cannot_be_is_a_fault_of_the_argument(target: str, tile, message: str):
    with pytest.raises(bitmlir.InputError, match=message):
        bitmlir.compile(SPEC, target=target, tile=tile)


@pytest.mark.parametrize("target", [name for name, known in TARGETS.items() if known.is_gpu])
def test_the_tile_that_errors_show_can_be_asked_for(target: str):
    with pytest.raises(bitmlir.InputError) as raised:
        bitmlir.compile(SPEC, target=target, tile="?")
    (example,) = re.findall(r"a tile is written (\S+), but", str(raised.value))
    tile = make_tile(get_target(target), parse_fields(example))
    assert tile_text(tile) == example


def test_zero_points_of_rows_come_with_packed_operands(operands, rng: np.random.Generator):
    x, _ = operands
    exe = bitmlir.compile(bitmlir.MatmulSpec(m=3, n=5, k=70, lhs="bipolar", rhs="u4@row"), target="cpu")
    zeros = rng.integers(0, 16, 5)
    w = rng.integers(0, 16, (5, 70)) - zeros[:, None]
    np.testing.assert_array_equal(exe(x, bitmlir.pack(w, "u4@row", zeros)), x @ w.T)
    with pytest.raises(bitmlir.EncodingError, match=r"needs zero points: give pack\(x, encoding, zeros\)"):
        exe(x, w)


def test_tiles_must_be_a_bitmap_of_that_operand(operands):
    x, w = operands
    spec = bitmlir.MatmulSpec(m=3, n=5, k=70, lhs="bipolar", rhs="u2", rhs_tiles=True)
    exe = bitmlir.compile(spec, target="cpu")
    np.testing.assert_array_equal(exe(x, w, rhs_tiles=bitmlir.tile_bitmap(w, "u2")), x @ w.T)
    with pytest.raises(bitmlir.InputError, match="rhs_tiles must be a TileBitmap"):
        exe(x, w, rhs_tiles=np.ones((1, 1), bool))
    with pytest.raises(bitmlir.ShapeError, match="must cover a u2 matrix"):
        exe(x, w, rhs_tiles=bitmlir.tile_bitmap(x, "bipolar"))


EPILOGUE = """
func.func @f(%x: tensor<3x70xi1, #bit.encoding<"bipolar">> {{bit.name = "x"}}, %a: {array} {{bit.name = "flip"}})
    -> tensor<3x3xi32> {{
  %y = "bit.matmul"(%x, %x) ({{
  ^bb0(%acc: i32, %row: index, %col: index):
    {body}
    gpu.yield %v : i32
  }}) {{operandSegmentSizes = array<i32: 1, 1, 0, 0>}}
    : (tensor<3x70xi1, #bit.encoding<"bipolar">>, tensor<3x70xi1, #bit.encoding<"bipolar">>) -> tensor<3x3xi32>
  return %y : tensor<3x3xi32>
}}
"""


@pytest.mark.parametrize("index", ["%row", "%col", "%two"])
def test_an_epilogue_reads_bits_by_row_by_column_and_at_a_constant(operands, index: str):
    x, _ = operands
    body = f"""%two = arith.constant 2 : index
    %b = tensor.extract %a[{index}] : tensor<3xi1>
    %v = arith.extui %b : i1 to i32"""
    bits = np.array([True, False, True])
    expected = {"%row": bits[:, None], "%col": bits[None, :], "%two": bits[2]}[index]
    result = bitmlir.compile(EPILOGUE.format(array="tensor<3xi1>", body=body), target="cpu")(x, bits)
    np.testing.assert_array_equal(result, np.broadcast_to(expected, (3, 3)).astype(np.int32))


@pytest.mark.parametrize(
    ("array", "body", "message"),
    [
        (
            "tensor<3xi32>",
            "%b = tensor.extract %a[%col] : tensor<3xi32> %v = arith.divsi %acc, %b : i32",
            "arith.divsi in its region must divide by a constant other than 0 and -1",
        ),
        (
            "tensor<3xi32>",
            "%b = arith.constant 40 : i32 %v = arith.shli %acc, %b : i32",
            "arith.shli in its region must shift by a constant from 0 to 31",
        ),
        (
            "tensor<3xi32>",
            "%b = arith.sitofp %acc : i32 to f8E4M3FN %v = arith.fptosi %b : f8E4M3FN to i32",
            "must work on i1 to i64, index, f16, bf16, f32 or f64, but not on f8E4M3FN",
        ),
        (
            "tensor<3xi4>",
            "%b = tensor.extract %a[%col] : tensor<3xi4> %v = arith.extsi %b : i4 to i32",
            "'flip' must have elements of i1, i8",
        ),
    ],
)
def test_an_epilogue_that_not_every_target_can_compute_is_refused(array: str, body: str, message: str):
    with pytest.raises(bitmlir.IRError, match=message):
        bitmlir.compile(EPILOGUE.format(array=array, body=body), target="cpu")


def test_an_argument_of_ones_own_ir_has_no_default(operands):
    body = "%v = tensor.extract %a[%col] : tensor<3xi32>"
    with pytest.raises(bitmlir.InputError, match="needs its arguments flip"):
        bitmlir.compile(EPILOGUE.format(array="tensor<3xi32>", body=body), target="cpu")(operands[0])


def test_text_that_would_abort_the_parser_is_refused_at_its_line():
    text = 'module attributes {\n  a = "array<index: 1>", // array<index: 1>\n  a.b = array<index: 1>} {}'
    with pytest.raises(bitmlir.IRError, match=r"layer.mlir:3:9: error: array<index> is no array attribute"):
        bitmlir.compile(text, target="cpu", source="layer.mlir")


@pytest.mark.parametrize(
    "text",
    [
        "module {" * 100_000,
        f"module attributes {{\n  a = {'[' * 100_000}",
        f"module attributes {{ a = affine_map<(d0) -> ({'(' * 100_000}",
        f"func.func private @f({'tuple<' * 100_000}",
    ],
)
def test_text_nested_deeper_than_the_parser_can_is_refused_at_its_line(text: str):
    with pytest.raises(bitmlir.IRError, match=r"layer.mlir:\d+:\d+: error: brackets are nested more than 256 deep"):
        bitmlir.compile(text, target="cpu", source="layer.mlir")


def test_what_is_no_bracket_nests_nothing():
    attributes = ", ".join(f't.a{i} = affine_set<(d0) : (d0 - {i} >= 0)>, t.b{i} = "((("' for i in range(300))
    with pytest.raises(bitmlir.InputError, match="expected one function on packed matrices"):  # so it was parsed
        bitmlir.compile(f"module attributes {{{attributes}}} {{}} // {'(' * 300}", target="cpu")


def test_text_that_is_no_unicode_is_refused():
    with pytest.raises(bitmlir.IRError, match="no valid Unicode text"):
        bitmlir.compile("\udcff", target="cpu")


# --- specs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"m": 0}, bitmlir.ShapeError, "m must be a whole number from 1 to 134217728, got 0"),
        ({"n": 10**23}, bitmlir.ShapeError, "n must be a whole number from 1 to 134217728"),
        ({"k": 2.5}, bitmlir.ShapeError, "k must be a whole number"),
        ({"lhs": "u9"}, bitmlir.EncodingError, "unknown encoding 'u9'"),
        ({"out": "i64"}, bitmlir.InputError, "unknown result 'i64': expected one of i32, i16"),
        ({"bias": True}, bitmlir.InputError, "out='i32' takes no scales or bias"),
        ({"lhs": "u8", "rhs": "u8", "k": 33026}, bitmlir.ShapeError, "can leave int32: .* parts of at most 33025"),
    ],
)
def test_a_wrong_spec_is_refused(fields: dict, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        bitmlir.MatmulSpec(**{"m": 3, "n": 5, "k": 70, "lhs": "bipolar", "rhs": "u2", **fields})


def test_numpy_integers_are_sizes():
    spec = bitmlir.MatmulSpec(m=np.int64(3), n=5, k=70, lhs="bipolar", rhs="u2")  # type: ignore[arg-type]
    assert spec == SPEC
    assert type(spec.m) is int


def test_the_largest_sum_that_fits_is_exact():
    spec = bitmlir.MatmulSpec(m=1, n=1, k=33025, lhs="u8", rhs="u8")
    full = np.full((1, 33025), 255)
    assert bitmlir.compile(spec, target="cpu")(full, full)[0, 0] == 33025 * 255 * 255 == 2147450625


def test_the_targets_have_what_their_names_say():
    assert get_target("sm_90a").copy == "tma"
    assert get_target("cpu").is_gpu is False
