"""What tests of programs share: random matrices, products as IR text, and running programs between guard bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitmlir.compiler import Spec, lower
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.layout import BITS_PER_WORD, tile_counts, words_per_row
from bitmlir.formats.packed import Packed, bits_to_words, pack
from bitmlir.formats.tiles import TileBitmap
from bitmlir.jit import CpuProgram
from bitmlir.lowering.targets import get_target
from bitmlir.runtime.bundle import Bundle
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.runtime.plan import Plan

POISON = 0xA5  # what results hold before a run
GUARD_BYTES = 256  # before and after each result, to be left alone
RUNS_ON_GPU = 2  # a second run finds what the first one left in results and scratch


class OnDevice:
    """An array in GPU memory that only says so; `data` never leaves it."""

    def __init__(self, array: np.ndarray, strides: tuple[int, ...] | None = None) -> None:
        self.data = array
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "strides": strides,
            "data": (0, False),
            "version": 3,
        }


class WithGet(OnDevice):
    """One that copies itself to the host, as CuPy's do."""

    def get(self) -> np.ndarray:
        return self.data


def random_matrix(rng: np.random.Generator, shape: tuple[int, int], encoding: str) -> tuple[np.ndarray, Packed]:
    """Values of an encoding, int64, and the same packed; for `u<p>@row` each row has its own zero point."""
    known = Encoding.parse(encoding)
    codes = rng.integers(0, 2**known.bits, shape)
    zeros = None
    if known.has_row_zeros:
        zeros = rng.integers(0, 2**known.bits, shape[0])
        values = codes - zeros[:, None]
    elif known.kind == "ternary":
        values = codes % 3 - 1
    else:
        values = known.minimum + known.scale * codes
    return values, pack(values, encoding, zeros)


def random_planes(rng: np.random.Generator, shape: tuple[int, int], encoding: str) -> Packed:
    """A random matrix made of random words: quick, for large ones. Values of ternary are less often not 0."""
    known, (rows, k) = Encoding.parse(encoding), shape
    planes = rng.integers(0, 2**32, (known.bits, rows, words_per_row(k)), np.uint32)
    columns = np.arange(planes.shape[2] * BITS_PER_WORD)
    planes &= bits_to_words(columns < k, planes.shape[2])
    if known.kind == "ternary":
        planes[1] &= ~planes[0]
    zeros = rng.integers(0, 2**known.bits, rows) if known.has_row_zeros else None
    return Packed.from_planes(planes, known, k, zeros)


def product_text(
    sizes: tuple[int, int, int],
    lhs: str,
    rhs: str,
    result: str = "i32",
    epilogue: str = "",
    *,
    packed: bool = False,
    reads: Mapping[str, str] | None = None,
    tiles: tuple[str, ...] = (),
) -> str:
    """A function `@product(lhs, rhs, reads…, tiles…) -> result` with one `bit.matmul` of sizes (m, n, k).

    result: an element type, or with `packed` the encoding of a packed result. epilogue: operations that make %out
    from %acc, %row and %col; none for the accumulator itself. reads: the types of more arguments. tiles: "lhs_tiles",
    "rhs_tiles".
    """
    m, n, k = sizes
    types = {"lhs": packed_type(m, k, lhs), "rhs": packed_type(n, k, rhs), **(reads or {})}
    for name, rows, encoding in (("lhs_tiles", m, lhs), ("rhs_tiles", n, rhs)):
        if name in tiles:
            counts = "x".join(map(str, (Encoding.parse(encoding).bits, *tile_counts((rows, k)))))
            types[name] = f"tensor<{counts}xi1>"
    result_type = packed_type(m, n, result) if packed else f"tensor<{m}x{n}x{result}>"
    element = f"i{Encoding.parse(result).bits}" if packed else result
    operands = ["lhs", "rhs", *(name for name in ("lhs_tiles", "rhs_tiles") if name in tiles)]
    segments = ", ".join("1" if name in operands else "0" for name in ("lhs", "rhs", "lhs_tiles", "rhs_tiles"))
    arguments = ", ".join(f'%{name}: {type_} {{bit.name = "{name}"}}' for name, type_ in types.items())
    return f"""
func.func @product({arguments}) -> ({result_type} {{bit.name = "result"}}) {{
  %y = "bit.matmul"({", ".join(f"%{name}" for name in operands)}) ({{
  ^bb0(%acc: i32, %row: index, %col: index):
    {epilogue}
    gpu.yield {"%out" if epilogue else "%acc"} : {element}
  }}) {{operandSegmentSizes = array<i32: {segments}>}}
    : ({", ".join(types[name] for name in operands)}) -> {result_type}
  return %y : {result_type}
}}
"""


def search_text(
    sizes: tuple[int, int, int],
    lhs: str,
    rhs: str,
    count: int,
    order: str,
    epilogue: str = "",
    reads: Mapping[str, str] | None = None,
) -> str:
    """A function `@search(lhs, rhs, reads…) -> values, columns` with one `bit.search`: see `product_text`."""
    m, n, k = sizes
    types = {"lhs": packed_type(m, k, lhs), "rhs": packed_type(n, k, rhs), **(reads or {})}
    arguments = ", ".join(f'%{name}: {type_} {{bit.name = "{name}"}}' for name, type_ in types.items())
    result = f"tensor<{m}x{count}xi32>"
    return f"""
func.func @search({arguments}) -> ({result} {{bit.name = "values"}}, {result} {{bit.name = "columns"}}) {{
  %v, %c = "bit.search"(%lhs, %rhs) ({{
  ^bb0(%acc: i32, %row: index, %col: index):
    {epilogue}
    gpu.yield {"%out" if epilogue else "%acc"} : i32
  }}) {{count = {count} : i64, order = #bit.order<"{order}">}}
    : ({types["lhs"]}, {types["rhs"]}) -> ({result}, {result})
  return %v, %c : {result}, {result}
}}
"""


def packed_type(rows: int, k: int, encoding: str) -> str:
    """The type of a packed matrix in IR."""
    return f'tensor<{rows}x{k}xi{Encoding.parse(encoding).bits}, #bit.encoding<"{encoding}">>'


def compile_for_cpu(program: Spec | str, threads: int | None = None) -> CpuProgram:
    """A program from a spec or IR, without the compile cache."""
    bundle: Bundle = lower(program, get_target("cpu"))
    return CpuProgram(bundle.stages["cpu"].decode(), bundle.plan, threads)


def run(program: CpuProgram, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Run once with arrays, `Packed` and `TileBitmap` by name; the results by name, packed ones checked."""
    plan = program.plan
    guarded = {name: _guarded(plan, name) for value in plan.results for name in value.buffers.values()}
    program.run(_given(plan, arguments) | {name: array for name, (array, _) in guarded.items()})
    for name, (_, guards) in guarded.items():
        assert all((guard == POISON).all() for guard in guards), f"{name} was written past its ends"
    return _results(plan, {name: array for name, (array, _) in guarded.items()})


def run_on_gpu(bundle: Bundle, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """As `run`, on the GPU and twice. Every buffer lies between guard bytes; results and scratch begin poisoned."""
    from bitmlir.runtime.cuda import CudaProgram, DeviceArray

    program, plan = CudaProgram(bundle), bundle.plan
    given = _given(plan, arguments)
    before: dict[str, np.ndarray] = {}
    memories: dict[str, DeviceArray] = {}
    buffers: dict[str, DeviceArray] = {}
    for name in (buffer.name for buffer in plan.buffers):
        array, guards = _guarded(plan, name)
        if name in given:
            array[...] = given[name]
        before[name] = np.concatenate([guards[0], array.reshape(-1).view(np.uint8), guards[1]])
        memory = memories[name] = DeviceArray.from_numpy(before[name])
        buffers[name] = DeviceArray(memory.device, memory.address + GUARD_BYTES, array.shape, array.dtype, owner=memory)
    bound = program.bind(buffers)
    for _ in range(RUNS_ON_GPU):
        bound.run()
    for name, memory in memories.items():
        changed = memory.numpy() != before[name]
        assert not changed[:GUARD_BYTES].any(), f"{name} was written before its start"
        assert not changed[-GUARD_BYTES:].any(), f"{name} was written past its end"
        assert name not in given or not changed.any(), f"{name} is an argument, but was written to"
    return _results(plan, {name: array.numpy() for name, array in buffers.items()})


def _given(plan: Plan, arguments: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arguments' buffers by name."""
    return {name: array for value in plan.arguments for name, array in _parts(value.buffers, arguments[value.name])}


def _results(plan: Plan, buffers: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The results by name, packed ones checked."""
    results = {}
    for value in plan.results:
        parts = {part: buffers[name] for part, name in value.buffers.items()}
        if value.kind == "packed":
            planes, encoding = parts["planes"].view(np.uint32), Encoding.parse(str(value.encoding))
            packed = Packed(planes, parts["sums"], encoding, tuple(value.shape), parts.get("zeros"))
            packed.check()
            results[value.name] = packed
        else:
            results[value.name] = parts["values"]
    return results


def _parts(buffers: Mapping[str, str], given: Any) -> list[tuple[str, np.ndarray]]:
    if isinstance(given, Packed):
        parts = {"planes": given.planes, "sums": given.sums, "zeros": given.zeros}
    else:
        parts = {"tiles": given.words} if isinstance(given, TileBitmap) else {"values": given}
    return [(name, parts[part]) for part, name in buffers.items()]


def _guarded(plan: Plan, name: str) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """A poisoned array for a buffer, and what lies before and after it."""
    buffer = plan.buffer(name)
    dtype = numpy_dtype(buffer.dtype)
    size = int(np.prod(buffer.shape)) * dtype.itemsize
    memory = np.full(size + 2 * GUARD_BYTES, POISON, np.uint8)
    array = memory[GUARD_BYTES : GUARD_BYTES + size].view(dtype).reshape(buffer.shape)
    return array, (memory[:GUARD_BYTES], memory[GUARD_BYTES + size :])
