"""Kernels that measure what no product can beat: the matrix unit's rate with nothing else to do, and an empty launch.

    fill the operands with pseudo-random bits          wgmma: tiles in shared memory; mma.sync: registers
    `repeats` times
        the matrix instruction, on several accumulators
    store the sum of each thread's accumulators        so that no instruction can be left out

They are programs at the level that `bit-to-gpu` makes, and go through all later stages as a product does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from mlir import ir
from mlir.dialects import func, llvm, nvvm

from bitmlir.dialects import bit
from bitmlir.dialects.errors import TargetError
from bitmlir.dialects.layout import BITS_PER_WORD, TILE_BITS
from bitmlir.lowering.emit import Scalar, const, for_loop, i32
from bitmlir.lowering.gpu.copies import CHUNKS
from bitmlir.lowering.gpu.launch import launch
from bitmlir.lowering.gpu.memory import (
    GLOBAL,
    SHARED,
    Kernel,
    barrier,
    block_index,
    container,
    kernel_function,
    offset,
    shared_memory,
    store,
    thread_index,
)
from bitmlir.lowering.gpu.product import BLOCK_BYTES
from bitmlir.lowering.gpu.warp_group import (
    GROUP_THREADS,
    accumulator_type,
    descriptor,
    issue_wgmma,
    split_registers,
    wait_for_groups,
)
from bitmlir.lowering.gpu.warp_mma import issue_mma
from bitmlir.lowering.instructions import LANES, FragmentLayout, MmaInstruction, get_instruction, wgmma
from bitmlir.lowering.targets import Target

__all__ = ["Ceiling", "empty_program", "expected_sums", "instruction_ceiling"]

RESULT = "sums"  # what the programs call their result

_WORDS = TILE_BITS // BITS_PER_WORD  # of a row of a tile
_WORD_BYTES = BITS_PER_WORD // 8
_CHUNK_WORDS = _WORDS // CHUNKS
_WGMMA_COLUMNS, _GROUPS = 256, 2  # the widest instruction; two warp groups issue in turn
_MMA_WARPS, _MMA_BLOCKS = 8, 2  # a block, and blocks a multiprocessor
_MMA_ROWS, _MMA_COLUMNS = 2, 4  # fragments of each operand in a warp's registers: accumulators for every pair


@dataclass(frozen=True)
class Ceiling:
    """A program that only issues the target's matrix instruction.

    text: its IR, for `bitmlir.compile`. instruction: its name, for people. operations: 1-bit operations that a run
    does, two for each product of bits. blocks, threads: the shape of its result `sums`, int32.
    """

    text: str
    instruction: str
    operations: int
    blocks: int
    threads: int


def instruction_ceiling(target: Target, multiprocessors: int, repeats: int) -> Ceiling:
    """The program for a target, with work for that many multiprocessors.

    Raises:
        TargetError: the target has no matrix instruction.
    """
    if target.instruction is None:
        raise TargetError(f"{target.name} has no matrix instruction whose rate could be measured")
    if target.copy == "tma":
        mma, emit = wgmma(_WGMMA_COLUMNS), _emit_wgmma
        blocks, threads, shared = multiprocessors, _GROUPS * GROUP_THREADS, _wgmma_shared_bytes(mma)
        name, issued = mma.ptx.removesuffix(".s32.b1.b1"), _GROUPS * TILE_BITS // mma.k
    else:
        mma, emit = get_instruction(target.instruction), _emit_mma
        blocks, threads, shared = _MMA_BLOCKS * multiprocessors, _MMA_WARPS * LANES, 0
        name, issued = mma.ptx.partition(".row.")[0], _MMA_WARPS * _MMA_ROWS * _MMA_COLUMNS
    operation = _operation(target)

    def body(module: ir.Block, out: ir.Value) -> None:
        total = emit(module, mma, operation, repeats)
        number = block_index() * threads + thread_index()
        store(total.value, offset(out, number.to_i64() * _WORD_BYTES, GLOBAL))

    text = _program(target, "ceiling", (blocks, threads), shared, body)
    operations = 2 * mma.m * mma.n * (mma.k // mma.bits) * issued * repeats * blocks
    instruction = f"{name} {operation}.popc" if mma.bits == 1 else name
    return Ceiling(text, instruction, operations, blocks, threads)


def empty_program(target: Target) -> str:
    """A program whose kernel does nothing: a run takes what a launch takes."""
    return _program(target, "empty", (1, LANES), 0, lambda _module, _out: None)


def _operation(target: Target) -> str:
    return "and" if "and" in target.operations else target.operations[0]


def _program(
    target: Target, name: str, shape: tuple[int, int], shared_bytes: int, body: Callable[[ir.Block, ir.Value], None]
) -> str:
    """IR with one kernel, of that many blocks and threads, and the host function that launches it."""
    context = ir.Context()
    with context, ir.Location.unknown():
        bit.load(context)
        module = ir.Module.create()
        kernels = container(module.operation, "kernels", target.name, target.ptx_features)
        with ir.InsertionPoint(module.body):
            host = func.FuncOp(name, ir.FunctionType.get([ir.MemRefType.get(list(shape), i32())], []))
            host.arg_attrs = [_result_attributes(shape)]
            (out,) = host.add_entry_block().arguments
        with ir.InsertionPoint(kernels):
            kernel_function(f"{name}_0", shape[1], (out,), {}, lambda pointer: body(kernels, pointer))
        with ir.InsertionPoint(host.entry_block):
            launch("kernels", Kernel(f"{name}_0", (shape[0], 1, 1), shape[1], shared_bytes, (out,)), (out,))
            func.ReturnOp([])
        return str(module)


def _result_attributes(shape: tuple[int, int]) -> ir.DictAttr:
    """What the launch plan reads of a result (see `bit-decompose`)."""
    return ir.DictAttr.get(
        {
            "bit.value": ir.StringAttr.get(RESULT),
            "bit.part": ir.StringAttr.get("values"),
            "bit.shape": ir.DenseI64ArrayAttr.get(list(shape)),
            "bit.result": ir.UnitAttr.get(),
        }
    )


def _opaque(count: int) -> Scalar:
    """A count that the assembler cannot know: it would unroll the loop, which takes it half a minute for wgmma."""
    zero = Scalar(nvvm.read_ptx_sreg_ctaid_y(i32()))  # grids have one dimension
    return zero + count


def _total(registers: list[ir.Value]) -> Scalar:
    return reduce(Scalar.__add__, map(Scalar, registers))


# --- wgmma: operands in shared memory -------------------------------------------------------------


def _wgmma_shared_bytes(mma: MmaInstruction) -> int:
    """A tile of lhs for each warp group, and one of rhs for all."""
    return (_GROUPS * mma.m + mma.n) * BLOCK_BYTES


def _emit_wgmma(module: ir.Block, mma: MmaInstruction, _operation: str, repeats: int) -> Scalar:
    """Each warp group multiplies its 64 rows by all columns, over and over; the sum of a thread's accumulators."""
    shared, thread = shared_memory(module), thread_index()
    rows, threads = _GROUPS * mma.m + mma.n, _GROUPS * GROUP_THREADS

    def fill(number: Scalar, _: list[ir.Value]) -> list[ir.Value]:
        row, word = number // _WORDS, number % _WORDS
        swizzled = (word // _CHUNK_WORDS) ^ (row % CHUNKS)
        place = row * _WORDS + swizzled * _CHUNK_WORDS + word % _CHUNK_WORDS
        store(_mixed(number).value, offset(shared, place * _WORD_BYTES, SHARED))
        return []

    for_loop(thread, const(rows * _WORDS), const(threads), [], fill)
    nvvm.fence_proxy(nvvm.ProxyKind.async_shared, space=nvvm.SharedSpace.shared_cta)  # wgmma reads by that proxy
    barrier()
    start = Scalar(llvm.ptrtoint(i32(), shared))
    lhs = descriptor(start + thread // GROUP_THREADS * (mma.m * BLOCK_BYTES))
    rhs = descriptor(start + _GROUPS * mma.m * BLOCK_BYTES)

    def multiply(_: Scalar, carried: list[ir.Value]) -> list[ir.Value]:
        (accumulators,) = carried
        nvvm.wgmma_fence_aligned()
        for k in range(0, TILE_BITS, mma.k):
            units = k // 8 >> 4  # 16-byte units, as descriptors count
            accumulators = issue_wgmma(mma, accumulators, lhs + units, rhs + units)
        nvvm.wgmma_commit_group_sync_aligned()
        wait_for_groups(1)
        return [accumulators]

    zeros = llvm.mlir_zero(accumulator_type(mma))
    (accumulators,) = for_loop(const(0), _opaque(repeats), const(1), [zeros], multiply)
    wait_for_groups(0)
    return _total(split_registers(mma, accumulators))


# --- mma.sync: operands in registers --------------------------------------------------------------


def _emit_mma(_module: ir.Block, mma: MmaInstruction, operation: str, repeats: int) -> Scalar:
    """Each warp multiplies every pair of its fragments, over and over; the sum of a thread's accumulators."""
    assert mma.lhs is not None
    assert mma.rhs is not None
    lane = thread_index() % LANES

    def fragments(count: int, registers: int, first: int) -> list[list[ir.Value]]:
        numbers = [[first + i * registers + r for r in range(registers)] for i in range(count)]
        words = [[_mixed(lane + number * LANES) for number in fragment] for fragment in numbers]
        if mma.bits > 1:  # of numbers that hold bits, each has one
            words = [[word & mma.mask for word in fragment] for fragment in words]
        return [[word.value for word in fragment] for fragment in words]

    lhs = fragments(_MMA_ROWS, len(mma.lhs.registers), 0)
    rhs = fragments(_MMA_COLUMNS, len(mma.rhs.registers), _MMA_ROWS * len(mma.lhs.registers))
    size = len(mma.accumulator.registers)

    def multiply(_: Scalar, carried: list[ir.Value]) -> list[ir.Value]:
        pairs = [(a, b) for a in lhs for b in rhs]
        accumulators = [carried[i * size : (i + 1) * size] for i in range(len(pairs))]
        products = [issue_mma(mma, a, b, c, operation) for (a, b), c in zip(pairs, accumulators, strict=True)]
        return [register for product in products for register in product]

    zeros = [const(0).value] * (len(lhs) * len(rhs) * size)
    return _total(for_loop(const(0), _opaque(repeats), const(1), zeros, multiply))


# --- the bits, and what must come out -------------------------------------------------------------

# Multiplications by odd numbers and shifted XORs: a permutation of the words in which all bits look random.
_FACTORS, _SHIFT = (0x7FEB352D, 0x46CA68B), 15


def _mixed(number: Scalar) -> Scalar:
    """A pseudo-random word for each number."""
    for factor in _FACTORS:
        number = number ^ (number >> _SHIFT)
        number = number * factor
    return number ^ (number >> _SHIFT)


def _mixed_words(count: int) -> np.ndarray:
    """The words of the numbers 0 … count − 1, as `_mixed` makes them on the device."""
    number = np.arange(count, dtype=np.uint32)
    for factor in _FACTORS:
        number = (number ^ (number >> np.uint32(_SHIFT))) * np.uint32(factor)
    return number ^ (number >> np.uint32(_SHIFT))


def expected_sums(target: Target, repeats: int) -> np.ndarray:
    """What each thread of a block must store, int32 [threads], by the meaning of the instruction (modulo 2^32)."""
    if target.copy == "tma":
        return _expected_of_wgmma(wgmma(_WGMMA_COLUMNS), repeats)
    return _expected_of_mma(get_instruction(target.instruction or ""), _operation(target), repeats)


def _expected_of_wgmma(mma: MmaInstruction, repeats: int) -> np.ndarray:
    rows = _GROUPS * mma.m
    bits = _bits(_mixed_words((rows + mma.n) * _WORDS).reshape(-1, _WORDS))
    sums = []
    for group in range(_GROUPS):
        product = bits[group * mma.m : (group + 1) * mma.m] @ bits[rows:].T
        sums += _thread_sums(mma, product)
    return (np.array(sums) * repeats).astype(np.int32)


def _expected_of_mma(mma: MmaInstruction, operation: str, repeats: int) -> np.ndarray:
    assert mma.lhs is not None
    assert mma.rhs is not None
    a_registers, b_registers = len(mma.lhs.registers), len(mma.rhs.registers)
    words = _mixed_words((_MMA_ROWS * a_registers + _MMA_COLUMNS * b_registers) * LANES).reshape(-1, LANES)
    words &= np.uint32(mma.mask)

    def matrix(first: int, layout: FragmentLayout) -> np.ndarray:
        result = np.zeros((layout.rows, layout.columns), np.int64)
        for register in range(len(layout.registers)):
            for lane in range(LANES):
                row, column = layout.position(0, lane, register)
                result[row, column : column + BITS_PER_WORD] = _bits(words[first + register, lane : lane + 1])
        return result

    total = np.zeros(LANES, np.int64)
    for i in range(_MMA_ROWS):
        for j in range(_MMA_COLUMNS):
            a = matrix(i * a_registers, mma.lhs)
            b = matrix(_MMA_ROWS * a_registers + j * b_registers, mma.rhs)
            total += _thread_sums(mma, mma.reference(a, b, np.zeros((mma.m, mma.n), np.int64), operation))
    return np.tile(total * repeats, _MMA_WARPS).astype(np.int32)


def _bits(words: np.ndarray) -> np.ndarray:
    little = np.ascontiguousarray(words, "<u4").view(np.uint8)
    return np.unpackbits(little, axis=-1, bitorder="little").astype(np.int64)


def _thread_sums(mma: MmaInstruction, product: np.ndarray) -> list[int]:
    """For each thread the sum of the elements that its accumulators hold."""
    layout = mma.accumulator
    places = [
        [layout.position(warp, lane, register) for register in range(len(layout.registers))]
        for warp in range(layout.warps)
        for lane in range(LANES)
    ]
    return [int(sum(product[place] for place in of_thread)) for of_thread in places]
