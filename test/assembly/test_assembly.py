"""Every family of GPU kernels, assembled for every chip: registers, spills, shared memory, inner loops."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import assembled, product_text

from bitmlir.assembler import Resources, find_assembler, resources
from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.dialects.errors import InputError
from bitmlir.grouped_spec import GroupedSpec
from bitmlir.lowering.gpu.mma_tile import MmaTile, mma_tiles
from bitmlir.lowering.gpu.tiles import tile_text
from bitmlir.lowering.instructions import get_instruction
from bitmlir.lowering.targets import TARGETS, Target, get_target
from bitmlir.runtime.plan import Launch
from bitmlir.spec import MatmulSpec

CHIPS = [name for name, target in TARGETS.items() if target.is_gpu]
TILES = [(name, tile) for name in CHIPS if name != "sm_90a" for tile in mma_tiles(get_target(name))]
REGISTERS_A_BLOCK, REGISTERS_A_THREAD = 1 << 16, 255  # CUDA C++ Programming Guide, "Technical Specifications"

# Where warps multiply large parts, registers are left for products alone: what a tile needs once, such as masks for a
# matrix's edge, is kept in memory meanwhile. That it is not between products, a test with a disassembler says.
SPILLED = 512

SCALES = {"row_scale": True, "column_scale": True, "bias": True}
LARGE, WIDE, TALL = (16384, 16384, 8192), (2048, 2048, 4096), (2048, 1024, 4096)  # what the larger tiles are chosen for
ODD, ODD_LARGE = (255, 257, 4095), (9999, 9999, 1023)

QUANTISE = """
    %f = arith.sitofp %acc : i32 to f32
    %s = tensor.extract %scale[%row] : tensor<255xf32>
    %scaled = arith.mulf %f, %s : f32
    %rounded = math.roundeven %scaled : f32
    %zero = arith.constant 0.0 : f32
    %top = arith.constant 3.0 : f32
    %low = arith.maximumf %rounded, %zero : f32
    %inside = arith.minimumf %low, %top : f32
    %out = arith.fptoui %inside : f32 to i2"""
RESIDUAL = """
    %f = arith.sitofp %acc : i32 to f32
    %r = tensor.extract %residual[%row, %col] : tensor<255x257xf16>
    %wide = arith.extf %r : f16 to f32
    %out = arith.addf %f, %wide : f32"""
INTEGER_OPERATIONS = [
    *(f"math.{name} %acc : i32" for name in ("absi", "ctlz", "ctpop", "cttz")),
    *(f"arith.{name} %acc, %five : i32" for name in ("floordivsi", "ceildivsi", "remsi", "divui", "shrsi", "shli")),
    *(f"arith.{name} %acc, %col32 : i32" for name in ("maxsi", "minui", "andi", "xori", "muli", "subi")),
    "arith.addi %acc, %row32 : i32",
]
FLOAT_OPERATIONS = [
    *(f"math.{name} %f : f32" for name in ("absf", "ceil", "floor", "round", "roundeven", "sqrt", "trunc")),
    "math.copysign %g, %f : f32",
    "math.fma %f, %g, %g : f32",
    *(f"arith.{name} %f, %g : f32" for name in ("maximumf", "minnumf", "divf", "remf", "subf")),
]


def sum_of(operations: list[str], kind: str, name: str) -> str:
    """Operations whose results are added up in %name<last>, beginning with %name0."""
    lines = []
    for i, operation in enumerate(operations):
        lines += [
            f"%{name}_{i} = {operation}",
            f"%{name}{i + 1} = arith.add{kind} %{name}{i}, %{name}_{i} : {kind}32",
        ]
    return "\n".join(lines)


ALL_OPERATIONS = f"""
    %row32 = arith.index_cast %row : index to i32
    %col32 = arith.index_cast %col : index to i32
    %i0 = arith.constant 0 : i32
    %five = arith.constant 5 : i32
    {sum_of(INTEGER_OPERATIONS, "i", "i")}
    %f = arith.sitofp %acc : i32 to f32
    %g = arith.sitofp %i{len(INTEGER_OPERATIONS)} : i32 to f32
    %f0 = arith.constant 0.0 : f32
    {sum_of(FLOAT_OPERATIONS, "f", "f")}
    %half = arith.truncf %f{len(FLOAT_OPERATIONS)} : f32 to f16
    %brain = arith.truncf %f{len(FLOAT_OPERATIONS)} : f32 to bf16
    %more = arith.cmpf ogt, %f, %g : f32
    %a = arith.extf %half : f16 to f64
    %b = arith.extf %brain : bf16 to f64
    %out = arith.select %more, %a, %b : f64"""

PACKING = """
!packed = tensor<255x1023xi8, #bit.encoding<"u8@row">>
!result = tensor<255x255xi2, #bit.encoding<"ternary">>
func.func @packing(%x: tensor<255x1023xi16>, %zeros: tensor<255xi32>) -> tensor<255x255xi8> {
  %p = "bit.pack"(%x, %zeros) : (tensor<255x1023xi16>, tensor<255xi32>) -> !packed
  %q = "bit.matmul"(%p, %p) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %code = arith.trunci %acc : i32 to i2
    gpu.yield %code : i2
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!packed, !packed) -> !result
  %y = "bit.unpack"(%q) : (!result) -> tensor<255x255xi8>
  return %y : tensor<255x255xi8>
}
"""

POOL = """
!images = tensor<4x14x14x200xi3, #bit.encoding<"i3">>
!pooled = tensor<4x7x7x200xi3, #bit.encoding<"i3">>
!filters = tensor<255x3x3x200xi1, #bit.encoding<"bipolar">>
func.func @pool(%x: !images, %w: !filters) -> tensor<4x5x5x255xi32> {
  %p = "bit.pool"(%x) {size = array<i64: 3, 3>, stride = array<i64: 2, 2>, padding = array<i64: 1, 1, 1, 1>}
    : (!images) -> !pooled
  %y = "bit.conv2d"(%p, %w) ({
  ^bb0(%acc: i32, %image: index, %row: index, %col: index, %channel: index):
    gpu.yield %acc : i32
  }) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>}
    : (!pooled, !filters) -> tensor<4x5x5x255xi32>
  return %y : tensor<4x5x5x255xi32>
}
"""

PROGRAMS: dict[str, MatmulSpec | GroupedSpec | Conv2dSpec | str] = {
    "one plane": MatmulSpec(*LARGE, "bipolar", "bipolar"),
    "64 plane pairs": MatmulSpec(*LARGE, "i8", "i8"),
    "zero points, bf16": MatmulSpec(*LARGE, "u4@row", "i3", out="bf16", **SCALES),
    "bits": MatmulSpec(*LARGE, "bipolar", "bipolar", out="bit"),
    "bitmaps": MatmulSpec(*LARGE, "u2", "ternary", out="bit", lhs_tiles=True, rhs_tiles=True),
    "wide tiles, f32": MatmulSpec(*WIDE, "u1", "u4@7", out="f32", **SCALES),
    "tall tiles, f16": MatmulSpec(*TALL, "bipolar3", "ternary", out="f16", **SCALES),
    "odd": MatmulSpec(*ODD, "bipolar2", "ternary", out="f16", **SCALES),
    "odd, large": MatmulSpec(*ODD_LARGE, "i4", "bipolar", out="bf16", **SCALES, rhs_tiles=True),
    "odd bits": MatmulSpec(*ODD_LARGE, "bipolar", "u2", out="bit"),
    "one element": MatmulSpec(1, 1, 1, "u1", "i2"),
    "codes": product_text(ODD, "u2", "i2", "u2", QUANTISE, packed=True, reads={"scale": "tensor<255xf32>"}),
    "residual": product_text(ODD, "u2", "i2", "f32", RESIDUAL, reads={"residual": "tensor<255x257xf16>"}),
    "all operations": product_text(ODD, "u2", "u1", "f64", ALL_OPERATIONS),
    "packing": PACKING,
    "batch": MatmulSpec(255, 257, 1023, "u2@row", "i3", out="f16", **SCALES, batch=40),
    "batch of few rows": MatmulSpec(8, 1024, 4096, "u2", "i2", batch=16),
    "pool": POOL,
    "convolution": Conv2dSpec(4, 14, 14, 200, 100, "bipolar", "u2", "bit", padding=1),
    "convolution in groups": Conv2dSpec(4, 14, 14, 200, 100, "u2", "bipolar2", "bit", padding=1, groups=4),
    "groups": GroupedSpec(8, 4096, 1000, 1023, "bipolar", "u2", out="f16", **SCALES),
}


@dataclass(frozen=True)
class Program:
    """A program that went through every stage for a chip."""

    target: Target
    launches: dict[str, Launch]
    ptx: dict[str, str]
    used: dict[str, Resources]
    cubin: bytes


@functools.cache
def program(name: str, chip: str, tile: MmaTile | None = None) -> Program:
    """A program of the table, compiled and assembled once, with a tile that is given or chosen."""
    bundle, made = assembled(PROGRAMS[name], chip, tile and tile_text(tile))
    _, *parts = re.split(r"\.entry (\w+)\(", bundle.stages["ptx"].decode())
    launches = {step.kernel: step for step in bundle.plan.steps if isinstance(step, Launch)}
    ptx = dict(zip(parts[::2], parts[1::2], strict=True))
    return Program(get_target(chip), launches, ptx, resources(made.log), made.cubin)


@pytest.fixture(autouse=True)
def _needs_an_assembler() -> None:
    try:
        found = find_assembler()
    except InputError as error:
        pytest.fail(str(error))
    if found is None:
        pytest.skip("no PTX assembler: pip install 'bitmlir[cuda]'")


def loops(ptx: str) -> list[str]:
    """The text of every loop of a kernel: from a label to a branch back to it."""
    labels = {match[1]: match.end() for match in re.finditer(r"^(\$\w+):", ptx, re.MULTILINE)}
    branches = re.finditer(r"\bbra(?:\.uni)?\s+(\$\w+);", ptx)
    return [ptx[labels[b[1]] : b.end()] for b in branches if labels[b[1]] < b.end()]


def product_instruction(target: Target) -> str:
    """What the products of a target are called in PTX."""
    if target.name == "sm_90a":
        return r"wgmma\.mma_async"
    return re.escape(get_instruction(target.instruction or "").ptx)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_kernels_assemble_with_the_registers_of_their_launch_and_spill_none(name: str, chip: str) -> None:
    compiled = program(name, chip)
    assert compiled.used.keys() == compiled.launches.keys() == compiled.ptx.keys()
    for kernel, launch in compiled.launches.items():
        used = compiled.used[kernel]
        assert used.spill_bytes <= (0 if chip == "sm_90a" else SPILLED)
        assert used.registers <= REGISTERS_A_THREAD
        assert used.registers * launch.block[0] <= REGISTERS_A_BLOCK
        assert used.shared_bytes + launch.shared_bytes <= compiled.target.shared_bytes
        assert launch.block[1:] == (1, 1)


def product_kernel(compiled: Program) -> str:
    """The kernel that multiplies: another may zero what it adds to."""
    (kernel,) = (text for name, text in compiled.ptx.items() if "matmul" in name)
    return kernel


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "packing"])
def test_all_products_of_a_kernel_are_in_one_inner_loop(name: str, chip: str) -> None:
    """No iteration is peeled off and no loop unrolled, either of which would multiply the code.

    A kernel that keeps its operands in registers has no loop at all.
    """
    compiled = program(name, chip)
    kernel = product_kernel(compiled)
    if name in ("one element", "pool") and not any(launch.shared_bytes for launch in compiled.launches.values()):
        assert "mma.sync" in kernel
        assert loops(kernel) == []
        return
    instruction = product_instruction(compiled.target)
    count = len(re.findall(instruction, kernel))
    assert count > 0
    inner = min((loop for loop in loops(kernel) if re.search(instruction, loop)), key=len)
    assert len(re.findall(instruction, inner)) == count


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", ["one plane", "bitmaps", "wide tiles, f32"])
def test_products_use_the_bit_operation_of_the_chip(name: str, chip: str) -> None:
    compiled = program(name, chip)
    kernel = product_kernel(compiled)
    operations = set(re.findall(r"\.(and|xor)\.popc", kernel))
    if not compiled.target.instruction or compiled.target.instruction.endswith(".u8"):  # products of bytes, 0 and 1
        assert operations == set()
    elif name == "one plane":  # two bipolar matrices: XOR saves the row sums
        assert operations == {compiled.target.operations[0]}
    else:
        assert operations == ({"xor"} if chip == "sm_75" else {"and"})


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", ["wide tiles, f32", "odd", "residual"])
def test_float_results_are_rounded_step_by_step(name: str, chip: str) -> None:
    (kernel,) = program(name, chip).ptx.values()
    assert "fma." not in kernel
    assert "add.rn.f32" in kernel
    assert not re.search(r"\b(?:add|mul)\.f32", kernel), "without a rounding mode the assembler may fuse"


def test_loops_are_found() -> None:
    ptx = "$a:\n x;\n$b:\n y;\n @%p1 bra $b;\n bra.uni $c;\n$c:\n @%p2 bra \t$a;\n"
    assert [re.findall(r"[xy];", loop) for loop in loops(ptx)] == [["y;"], ["x;", "y;"]]


# --- tiles of mma.sync -----------------------------------------------------------------------------


@pytest.mark.parametrize(("chip", "tile"), TILES, ids=str)
def test_every_tile_that_may_be_chosen_assembles_within_its_registers(chip: str, tile: MmaTile) -> None:
    compiled = program("odd", chip, tile)
    ((kernel, launch),) = compiled.launches.items()
    used = compiled.used[kernel]
    assert launch.block == (tile.threads, 1, 1)
    assert used.registers <= tile.registers
    assert launch.shared_bytes <= compiled.target.shared_bytes
    assert used.spill_bytes <= SPILLED


@pytest.fixture
def disassembler() -> str:
    """Where nvdisasm is; skips the test, before it compiles anything, if there is none."""
    tool = os.environ.get("BITMLIR_NVDISASM") or shutil.which("nvdisasm")
    if tool is None:
        pytest.skip("no nvdisasm: it comes with the CUDA toolkit")
    return tool


def disassembled(disassembler: str, cubin: bytes, folder: Path) -> str:
    """What a program looks like to the chip."""
    file = folder / "program.cubin"
    file.write_bytes(cubin)
    return subprocess.run(
        [disassembler, "-c", str(file)], capture_output=True, text=True, check=True, timeout=60
    ).stdout


@pytest.mark.parametrize(("chip", "tile"), TILES, ids=str)
def test_the_chip_multiplies_by_itself_and_from_registers(
    chip: str, tile: MmaTile, disassembler: str, tmp_path: Path
) -> None:
    """Products are instructions of the matrix unit, not calls; between them next to nothing is spilled."""
    compiled = program("one plane", chip, tile)
    code = disassembled(disassembler, compiled.cubin, tmp_path)
    count = sum(len(re.findall(product_instruction(compiled.target), kernel)) for kernel in compiled.ptx.values())
    instruction = r"\bIMMA\.\S*U8" if (compiled.target.instruction or "").endswith(".u8") else r"\bBMMA\."
    products = list(re.finditer(instruction, code))
    assert len(products) % count == 0  # the assembler may unroll loops
    assert not re.search(r"\bCALL\S*\s+`\(\$", code), "a routine of the assembler is called"
    spills = re.findall(r"\b(?:LDL|STL)\b", code[products[0].start() : products[-1].end()])
    assert len(spills) <= len(products) // 16
