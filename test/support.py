"""What tests of programs share: random arguments, products as IR text, and running programs between guard bytes."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from bitmlir import assembler
from bitmlir.assembler import Assembled
from bitmlir.compiler import Spec, lower
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import BundleError
from bitmlir.dialects.layout import BITS_PER_WORD, tile_counts, words_per_row
from bitmlir.formats.packed import Packed, bits_to_words, pack
from bitmlir.formats.tiles import TileBitmap
from bitmlir.jit import CpuProgram
from bitmlir.lowering.targets import get_target
from bitmlir.pack_spec import PackSpec
from bitmlir.runtime.bundle import Bundle
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.runtime.plan import Plan
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench.tune import Candidate

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


def epilogue_parts(rng: np.random.Generator, spec: MatmulSpec) -> dict[str, np.ndarray]:
    """What the epilogue reads. Scales are powers of two, so that many results lie between two codes."""
    parts: dict[str, np.ndarray] = {}
    if spec.row_scale:
        parts["row_scale"] = (2.0 ** rng.integers(-6, 1, spec.m)).astype(np.float32)
    if spec.column_scale:
        parts["column_scale"] = (rng.choice([-1, 1], spec.n) * 2.0 ** rng.integers(-2, 1, spec.n)).astype(np.float32)
    if spec.bias:
        parts["bias"] = (rng.integers(-9, 9, spec.n) / 2).astype(np.float32)
    if spec.residual is not None:
        whole = rng.integers(-100, 100, (spec.m, spec.n))
        parts["residual"] = (whole / (1 if spec.residual[0] == "i" else 2)).astype(numpy_dtype(spec.residual))
    if spec.out == "bit":
        parts["threshold"] = rng.integers(-9, 9, spec.n).astype(np.int32)
        parts["flip"] = rng.integers(0, 2, spec.n).astype(np.int8)
    return parts


def awkward_floats(rng: np.random.Generator, shape: tuple[int, int], source: str) -> np.ndarray:
    """Floats about as large as values are, a third of them halves and whole numbers; infinities, NaNs, zeros, tiny."""
    ties = rng.integers(-600, 600, shape) / 2
    rare = rng.choice([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38, 65504.0, -1e-8], shape)
    kind = rng.integers(0, 12, shape)
    x = np.select([kind < 4, kind == 4], [ties, rare], rng.normal(0, 20, shape)).astype(np.float32)
    with np.errstate(over="ignore"):
        return x.astype(numpy_dtype(source))


def packing_arguments(rng: np.random.Generator, spec: PackSpec, x: np.ndarray) -> dict[str, np.ndarray]:
    """x, with scales and zero points if the program takes them."""
    given, encoding = {"x": x}, Encoding.parse(spec.encoding)
    if spec.scale:
        given["scale"] = rng.choice([0.5, 1.0, 2.0, 0.1, 3.7, 1 / 3, 0.0, 1e-30, 1e30], spec.rows).astype(np.float32)
    if encoding.has_row_zeros:
        given["zeros"] = rng.integers(0, 2**encoding.bits, spec.rows).astype(np.int32)
    return given


def by_structure(found: Sequence[Candidate]) -> list[list[Candidate]]:
    """The tiles of each structure, in the order in which they come; a structure is more than the sizes of a kernel."""
    names = ("rows", "warp_rows", "blocks", "alternate", "cluster", "split", "swapped", "padded")
    groups: dict[Hashable, list[Candidate]] = {}
    for candidate in found:
        structure = tuple(item for item in candidate.tile.items() if item[0] in names)
        groups.setdefault(("stages" in candidate.tile, structure), []).append(candidate)
    return list(groups.values())


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


@functools.lru_cache(maxsize=64)
def lower_for_gpu(program: Spec | str, target: str, tile: str | None = None) -> Bundle:
    """A program for a target, each once; skips the test if this GPU cannot run it."""
    from bitmlir.runtime.cuda import Device, choose_image

    bundle = lower(program, get_target(target), tile=tile)
    try:
        choose_image(bundle, Device.current())
    except BundleError as error:
        pytest.skip(str(error))
    return bundle


def assembled(program: Spec | str, target: str, tile: str | None = None) -> tuple[Bundle, Assembled]:
    """A program for a target, and what the assembler made of it on the way: its log tells of registers and spills."""
    made: list[Assembled] = []

    def assemble(ptx: bytes, chip: str) -> Assembled:
        made.append(assembler_of_the_project(ptx, chip))
        return made[-1]

    assembler_of_the_project = assembler.assemble
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembler, "assemble", assemble)
        bundle = lower(program, get_target(target), tile=tile)
    (only,) = made
    return bundle, only


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
    parts = (part for value in plan.arguments for part in _parts(value.buffers, arguments[value.name]))
    return {name: array.reshape(plan.buffer(name).shape) for name, array in parts}


def _results(plan: Plan, buffers: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The results by name, packed ones checked."""
    results = {}
    for value in plan.results:
        parts = {part: buffers[name] for part, name in value.buffers.items()}
        if value.kind == "packed":
            planes, encoding = parts["planes"].view(np.uint32), Encoding.parse(str(value.encoding))
            *rows, _ = value.shape  # pixels of images are rows in a plan's buffers
            planes, sums = planes.reshape(len(planes), *rows, -1), parts["sums"].reshape(rows)
            packed = Packed(planes, sums, encoding, tuple(value.shape), parts.get("zeros"))
            packed.check()
            results[value.name] = packed
        else:
            results[value.name] = parts["values"].reshape(value.shape)
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
