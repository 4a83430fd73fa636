"""The matrix instructions: their fragment layouts against the formulas of the PTX ISA, their meaning against numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bitmlir.formats.packed import words_to_bits
from bitmlir.lowering.instructions import (
    INSTRUCTIONS,
    LANES,
    FragmentLayout,
    MmaInstruction,
    get_instruction,
    wgmma,
)

LEGAL_N = [8, 16, 24, 32, *range(48, 257, 16)]  # PTX ISA, "Asynchronous wgmma: matrix shape", for .b1
RECORDS = [*INSTRUCTIONS.values(), *map(wgmma, LEGAL_N)]


def name_of(record: MmaInstruction) -> str:
    return f"{record.name}-n{record.n}"


# --- the PTX ISA's formulas ------------------------------------------------------------------------
#
# Each gives row and column of element i of a thread's fragment, i counting bits in the operands and registers in the
# accumulator; B's are given as (column n, row k), for the records hold B transposed. Source: PTX ISA, "Matrix
# fragments for mma.m8n8k128", "… for mma.m16n8k256", "Register fragments for wgmma.mma_async.m64nNk256".

Formula = Callable[[int, int], tuple[int, int]]


def group_and_thread(lane: int) -> tuple[int, int]:
    return lane >> 2, lane % 4


def m8n8k128_operand(lane: int, i: int) -> tuple[int, int]:
    group, thread = group_and_thread(lane)
    return group, thread * 32 + i


def m8n8k128_accumulator(lane: int, i: int) -> tuple[int, int]:
    group, thread = group_and_thread(lane)
    return group, thread * 2 + i


def m16n8k256_a(lane: int, i: int) -> tuple[int, int]:
    group, thread = group_and_thread(lane)
    row = group if i < 32 or 64 <= i < 96 else group + 8
    return row, thread * 32 + (i & 0x1F) + (128 if i >= 64 else 0)


def m16n8k256_b(lane: int, i: int) -> tuple[int, int]:
    group, thread = group_and_thread(lane)
    return group, thread * 32 + (i & 0x1F) + (128 if i >= 32 else 0)


def m16n8k256_accumulator(lane: int, i: int) -> tuple[int, int]:
    group, thread = group_and_thread(lane)
    return (group if i < 2 else group + 8), thread * 2 + (i & 0x1)


def wgmma_accumulator(thread: int, i: int) -> tuple[int, int]:
    warp, (group, in_group) = thread // 32, group_and_thread(thread % 32)
    return 16 * warp + group + 8 * (i // 2 % 2), 8 * (i // 4) + 2 * in_group + i % 2


def m16n8k32_a(lane: int, i: int) -> tuple[int, int]:
    group, thread = group_and_thread(lane)
    row = group if i < 4 or 8 <= i < 12 else group + 8
    return row, thread * 4 + (i & 0x3) + (16 if i >= 8 else 0)


def m16n8k32_b(lane: int, i: int) -> tuple[int, int]:
    group, thread = group_and_thread(lane)
    return group, thread * 4 + (i & 0x3) + (16 if i >= 4 else 0)


FORMULAS: dict[str, tuple[Formula, Formula, Formula]] = {
    "mma.m8n8k128": (m8n8k128_operand, m8n8k128_operand, m8n8k128_accumulator),
    "mma.m16n8k256": (m16n8k256_a, m16n8k256_b, m16n8k256_accumulator),
    "mma.m16n8k32.u8": (m16n8k32_a, m16n8k32_b, m16n8k256_accumulator),
}


# --- simulation ------------------------------------------------------------------------------------


def registers_of(bits: np.ndarray, layout: FragmentLayout) -> np.ndarray:
    """The registers [lane, register] that hold a matrix of bits, as the layout distributes it."""
    registers = np.zeros((LANES, len(layout.registers)), np.uint32)
    for lane in range(LANES):
        for register in range(len(layout.registers)):
            row, column = layout.position(0, lane, register)
            word = np.packbits(bits[row, column : column + 32], bitorder="little")
            registers[lane, register] = word.view("<u4")[0]
    return registers


def as_the_hardware_reads(registers: np.ndarray, shape: tuple[int, int], formula: Formula, bits: int = 1) -> np.ndarray:
    """The matrix of 0 and 1, in numbers of so many bits, that the PTX ISA sees in registers [lane, register]."""
    matrix = np.full((shape[0], shape[1] // bits), 2, np.uint8)
    for lane in range(LANES):
        held = words_to_bits(registers[lane], registers.shape[1] * 32).reshape(-1, bits)
        for i, number in enumerate(np.packbits(held, axis=1, bitorder="little")[:, 0]):
            matrix[formula(lane, i)] = number
    assert matrix.max() <= 1, "an element is in no register, or is no bit"
    return matrix


def gathered(registers: np.ndarray, layout: FragmentLayout) -> np.ndarray:
    """The matrix whose elements lie in registers [thread, register] by the layout."""
    matrix = np.empty((layout.rows, layout.columns), np.int64)
    for thread in range(layout.warps * LANES):
        for register in range(len(layout.registers)):
            matrix[layout.position(thread // LANES, thread % LANES, register)] = registers[thread, register]
    return matrix


def bit_products(lhs: np.ndarray, rhs: np.ndarray, operation: str) -> np.ndarray:
    """Σ_k lhs[m, k] ∘ rhs[n, k] by the operation's definition."""
    a, b = lhs[:, None, :], rhs[None, :, :]
    return (a & b if operation == "and" else a ^ b).sum(axis=2, dtype=np.int64)


@pytest.mark.parametrize("operation", ["and", "xor"])
@pytest.mark.parametrize("record", INSTRUCTIONS.values(), ids=name_of)
def test_a_warp_that_follows_the_layouts_multiplies(record: MmaInstruction, operation: str) -> None:
    """Operands by our layouts, the instruction by the PTX ISA, the result by our layout again."""
    assert record.lhs is not None
    assert record.rhs is not None
    if record.bits > 1 and operation != "and":
        pytest.skip("numbers have products alone")
    rng = np.random.default_rng(5)
    lhs = rng.integers(0, 2, (record.m, record.k), np.uint8)
    rhs = rng.integers(0, 2, (record.n, record.k), np.uint8)
    start = rng.integers(-(2**20), 2**20, (record.m, record.n))
    a_formula, b_formula, d_formula = FORMULAS[record.name]

    d = start.copy()
    for bit in range(record.bits):
        a, b = (
            as_the_hardware_reads(
                (registers_of(matrix, layout) >> bit) & record.mask, matrix.shape, formula, record.bits
            )
            for matrix, layout, formula in ((lhs, record.lhs, a_formula), (rhs, record.rhs, b_formula))
        )
        d += bit_products(a, b, operation)
    count = len(record.accumulator.registers)
    registers = np.array([[d[d_formula(lane, i)] for i in range(count)] for lane in range(LANES)])

    result = gathered(registers, record.accumulator)
    np.testing.assert_array_equal(result, start + bit_products(lhs, rhs, operation))
    np.testing.assert_array_equal(result, record.reference(lhs, rhs, start, operation))


@pytest.mark.parametrize("n", LEGAL_N)
def test_a_warp_group_finds_its_accumulators_where_the_ptx_isa_puts_them(n: int) -> None:
    record = wgmma(n)
    matrix = np.arange(record.m * record.n).reshape(record.m, record.n)
    count = record.m * record.n // (4 * LANES)
    registers = np.array([[matrix[wgmma_accumulator(t, i)] for i in range(count)] for t in range(4 * LANES)])
    np.testing.assert_array_equal(gathered(registers, record.accumulator), matrix)


# --- records ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", RECORDS, ids=name_of)
def test_layouts_have_the_shapes_of_the_instruction_and_cover_them_once(record: MmaInstruction) -> None:
    shapes = {"lhs": (record.m, record.k), "rhs": (record.n, record.k), "accumulator": (record.m, record.n)}
    for name, shape in shapes.items():
        layout = getattr(record, name)
        if layout is None:
            assert record.name == "wgmma.k256"
            continue
        assert (layout.rows, layout.columns) == shape
        held = layout.warps * LANES * len(layout.registers) * layout.elements
        assert held == layout.rows * layout.columns


@pytest.mark.parametrize("record", RECORDS, ids=name_of)
def test_registers_are_the_product_of_row_and_column_offsets(record: MmaInstruction) -> None:
    """What kernels rely on when they see a thread's registers as a grid."""
    layout = record.accumulator
    grid = {(row, column) for row in layout.row_offsets for column in layout.column_offsets}
    assert set(layout.registers) == grid
    assert len(layout.registers) == len(grid)


def test_the_reference_adds_to_the_accumulator() -> None:
    record = get_instruction("mma.m8n8k128")
    ones, zeros = np.ones((8, 128), np.int8), np.zeros((8, 128), np.int8)
    start = np.arange(64).reshape(8, 8)
    np.testing.assert_array_equal(record.reference(ones, ones, start, "and"), start + 128)
    np.testing.assert_array_equal(record.reference(ones, ones, start, "xor"), start)
    np.testing.assert_array_equal(record.reference(ones, zeros, start, "xor"), start + 128)


@pytest.mark.parametrize("record", RECORDS, ids=name_of)
def test_the_ptx_name_spells_the_shape(record: MmaInstruction) -> None:
    assert f".m{record.m}n{record.n}k{record.k // record.bits}." in record.ptx
    assert (".b1.b1" if record.bits == 1 else f".u{record.bits}.u{record.bits}") in record.ptx


# --- legality --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [-8, 0, 1, 7, 9, 12, 40, 47, 56, 100, 255, 257, 264, 272])
def test_wgmma_refuses_other_n(n: int) -> None:
    with pytest.raises(
        ValueError, match=f"wgmma has no n of {n}: expected 8, 16, 24, 32 or a multiple of 16 up to 256"
    ):
        wgmma(n)


def test_records_are_found_by_name() -> None:
    for name, record in INSTRUCTIONS.items():
        assert get_instruction(name) is record
        assert record.name == name


@pytest.mark.parametrize(
    "registers",
    [((0, 0),), ((0, 0), (0, 0)), ((0, 0), (0, 2)), ((0, 0), (8, 0), (0, 1))],
    ids=["too few", "one twice", "past the end", "past the last row"],
)
def test_a_layout_that_does_not_cover_each_element_once_is_refused(registers: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="does not cover each element exactly once"):
        FragmentLayout(8, 8, registers, lane_columns=2, elements=1)


def test_the_right_layout_of_the_same_shape_is_taken() -> None:
    layout = FragmentLayout(8, 8, ((0, 0), (0, 1)), lane_columns=2, elements=1)
    assert layout.position(0, 31, 1) == (7, 7)
