"""Runs GPU kernels whose warps share no memory, without a GPU: block by block, each value an array over threads.

It is an error to read or write outside the buffers, or at addresses that are not aligned, or different values at one
place without an atomic operation. Matrix instructions mean what their records say (`bitmlir.lowering.instructions`).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from mlir import ir

from bitmlir.dialects import bit
from bitmlir.lowering.instructions import LANES, FragmentLayout, get_instruction
from bitmlir.runtime.bundle import Bundle
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.runtime.plan import Launch, Plan

__all__ = ["InterpretedProgram"]

_BUFFER_BITS = 40  # of an address, behind the number of its buffer
_INSTRUCTIONS = {(8, 8, 128): "mma.m8n8k128", (16, 8, 256): "mma.m16n8k256"}
_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "arith.addi": operator.add,
    "arith.subi": operator.sub,
    "arith.muli": operator.mul,
    "arith.divui": operator.floordiv,
    "arith.remui": operator.mod,
    "arith.andi": operator.and_,
    "arith.ori": operator.or_,
    "arith.xori": operator.xor,
    "arith.minui": np.minimum,
    "arith.maxui": np.maximum,
    "arith.addf": operator.add,
    "arith.subf": operator.sub,
    "arith.mulf": operator.mul,
    "arith.divf": operator.truediv,
    "arith.maxnumf": np.fmax,
    "arith.minnumf": np.fmin,
}
_COMPARED = (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge)
_NOTHING = {"nvvm.griddepcontrol", "nvvm.bar.warp.sync", "llvm.return"}


class InterpretedProgram:
    """A bundle's GPU stage, to be run on numpy arrays."""

    def __init__(self, bundle: Bundle) -> None:
        self.plan: Plan = bundle.plan
        context = ir.Context()
        with context, ir.Location.unknown():
            bit.load(context)
            self._module = ir.Module.parse(bundle.stages["gpu"].decode())
        self._kernels = dict(_kernels(self._module))

    def run(self, buffers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run all steps on these buffers; the others begin poisoned."""
        every = {b.name: _poisoned(b.shape, numpy_dtype(b.dtype)) for b in self.plan.buffers} | dict(buffers)
        for step in self.plan.steps:
            if not isinstance(step, Launch):
                every[step.buffer].fill(0)
                continue
            arrays = [every[str(name)] for name in step.arguments]
            written = [np.zeros(array.nbytes, bool) for array in arrays]
            for number in range(step.grid[0]):
                _Block(arrays, written, number, step.grid[0], step.block[0]).run(self._kernels[step.kernel])
        return every


def _kernels(module: ir.Module) -> Any:
    for container in module.body.operations:
        if container.operation.name == "gpu.module":
            for function in container.regions[0].blocks[0].operations:
                if function.operation.name == "llvm.func":
                    yield ir.StringAttr(function.operation.attributes["sym_name"]).value, function.operation


def _poisoned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    array = np.empty(shape, dtype)
    array.view(np.uint8).fill(0xA5)
    return array


def _element(type_: ir.Type) -> ir.Type:
    return ir.VectorType(type_).element_type if isinstance(type_, ir.VectorType) else type_


def _dtype(type_: ir.Type) -> np.dtype:
    """Integers are unsigned here."""
    name = str(_element(type_))
    if name == "index":
        name = "i64"
    known = {"i1": "bool", "f16": "float16", "f32": "float32"}
    if name.startswith("i") and int(name[1:]) < 8:
        name = "i1" if name == "i1" else "i8"  # of which the high bits are 0
    return np.dtype(known.get(name) or f"uint{name[1:]}")


def _signed(values: np.ndarray) -> np.ndarray:
    return values.view(f"i{values.itemsize}")


@dataclass
class _Block:
    """One block of a launch while it runs."""

    arrays: list[np.ndarray]
    written: list[np.ndarray]  # bytes of them, by plain stores of this launch
    number: int
    count: int
    threads: int

    def run(self, kernel: ir.Operation) -> None:
        self.values: dict[ir.Value, Any] = {}
        self.bytes = [array.reshape(-1).view(np.uint8) for array in self.arrays]
        body = kernel.regions[0].blocks[0]
        for position, argument in enumerate(body.arguments):
            self.values[argument] = np.full(self.threads, position + 1 << _BUFFER_BITS, np.uint64)
        self._visit(body, np.ones(self.threads, bool))

    def _visit(self, block: ir.Block, active: np.ndarray) -> list[Any]:
        """Run the operations for the threads that are active; what the block yields."""
        for view in block.operations:
            op = view.operation
            operands = [self.values[value] for value in op.operands]
            if op.name in ("scf.yield", "scf.condition"):
                return operands
            if op.name in _NOTHING:
                continue
            with np.errstate(all="ignore"):
                results = self._evaluate(op, operands, active)
            self.values.update(zip(op.results, results, strict=True))
        return []

    def _evaluate(self, op: ir.Operation, x: list[Any], active: np.ndarray) -> list[Any]:
        name = op.name
        if name in _BINARY:
            if name in ("arith.divui", "arith.remui"):
                x[1] = np.where(x[1] == 0, 1, x[1]).astype(x[1].dtype)
            return [_BINARY[name](*x)]
        if (method := getattr(self, "_" + name.replace(".", "_"), None)) is None:
            raise NotImplementedError(f"the interpreter has no {name}")
        result = method(op, *x, active=active) if name in _MASKED else method(op, *x)
        return list(result) if isinstance(result, tuple) else [] if result is None else [result]

    # --- numbers ---

    def _arith_constant(self, op: ir.Operation) -> np.ndarray:
        type_, attribute = op.results[0].type, op.attributes["value"]
        dtype = _dtype(type_)
        if isinstance(type_, ir.VectorType):
            attribute = ir.DenseElementsAttr(attribute).get_splat_value()
            shape = (self.threads, ir.VectorType(type_).shape[0])
        else:
            shape = (self.threads,)
        if dtype.kind == "f":
            return np.full(shape, ir.FloatAttr(attribute).value, dtype)
        value = ir.IntegerAttr(attribute).value
        return np.full(shape, value % (1 << 8 * dtype.itemsize) if dtype.kind == "u" else bool(value), dtype)

    def _arith_shli(self, op: ir.Operation, value: np.ndarray, by: np.ndarray) -> np.ndarray:
        return np.where(by < 8 * value.itemsize, value << by, 0).astype(value.dtype)

    def _arith_shrui(self, op: ir.Operation, value: np.ndarray, by: np.ndarray) -> np.ndarray:
        return np.where(by < 8 * value.itemsize, value >> by, 0).astype(value.dtype)

    def _arith_cmpi(self, op: ir.Operation, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        predicate = ir.IntegerAttr(op.attributes["predicate"]).value
        if 2 <= predicate <= 5 and left.dtype.kind == "u":  # slt, sle, sgt, sge; the unsigned ones come after
            return _COMPARED[predicate](_signed(left), _signed(right))
        return _COMPARED[predicate if predicate < 2 else (predicate - 2) % 4 + 2](left, right)

    def _arith_cmpf(self, op: ir.Operation, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        predicate = ir.IntegerAttr(op.attributes["predicate"]).value
        assert 0 < predicate < 15, "always false, or always true"
        unordered = np.isnan(left) | np.isnan(right)
        by_number = {1: operator.eq, 2: operator.gt, 3: operator.ge, 4: operator.lt, 5: operator.le, 6: operator.ne}
        if predicate in (7, 14):  # whether both are numbers, or one is none
            return unordered == (predicate == 14)
        compared = by_number[predicate if predicate < 7 else predicate - 7](left, right)
        return compared & ~unordered if predicate < 7 else compared | unordered

    def _arith_select(self, op: ir.Operation, condition: np.ndarray, yes: np.ndarray, no: np.ndarray) -> np.ndarray:
        return _chosen(condition, yes, no)

    def _arith_maxsi(self, op: ir.Operation, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.maximum(_signed(x), _signed(y)).view(x.dtype)

    def _arith_minsi(self, op: ir.Operation, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.minimum(_signed(x), _signed(y)).view(x.dtype)

    def _cast(self, op: ir.Operation, value: np.ndarray) -> np.ndarray:
        return value.astype(_dtype(op.results[0].type))

    def _arith_trunci(self, op: ir.Operation, value: np.ndarray) -> np.ndarray:
        dtype, width = _dtype(op.results[0].type), ir.IntegerType(_element(op.results[0].type)).width
        return (value & value.dtype.type((1 << width) - 1)).astype(dtype)

    _arith_extui = _arith_uitofp = _arith_truncf = _arith_extf = _arith_index_castui = _cast

    def _arith_extsi(self, op: ir.Operation, value: np.ndarray) -> np.ndarray:
        wide = _dtype(op.results[0].type)
        return (-value.astype(wide) if value.dtype == bool else _signed(value).astype(wide)).astype(wide)

    _arith_index_cast = _arith_extsi

    def _arith_sitofp(self, op: ir.Operation, value: np.ndarray) -> np.ndarray:
        return _signed(value).astype(_dtype(op.results[0].type))

    def _arith_fptosi(self, op: ir.Operation, value: np.ndarray) -> np.ndarray:
        unsigned = _dtype(op.results[0].type)
        return value.astype(f"i{unsigned.itemsize}").view(unsigned)

    def _arith_bitcast(self, op: ir.Operation, value: np.ndarray) -> np.ndarray:
        return value.view(_dtype(op.results[0].type))

    _vector_bitcast = _arith_bitcast

    def _llvm_intr_ctpop(self, op: ir.Operation, value: np.ndarray) -> np.ndarray:
        return np.unpackbits(value[:, None].view(np.uint8), axis=1).sum(1).astype(value.dtype)

    _math_ctpop = _llvm_intr_ctpop

    def _llvm_intr_fshl(self, op: ir.Operation, high: np.ndarray, low: np.ndarray, by: np.ndarray) -> np.ndarray:
        both = high.astype(np.uint64) << np.uint64(32) | low.astype(np.uint64)
        return (both << by.astype(np.uint64) % np.uint64(32) >> np.uint64(32)).astype(np.uint32)

    def _arith_negf(self, op: ir.Operation, value: np.ndarray) -> np.ndarray:
        return -value

    def _math_fma(self, op: ir.Operation, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        assert a.dtype == np.float32
        # Exact in extended precision: a product of 48 bits, and a sum that is rounded twice only beyond 64.
        return (a.astype(np.longdouble) * b + c).astype(np.float32)

    # --- vectors ---

    def _vector_extract(self, op: ir.Operation, value: np.ndarray) -> np.ndarray:
        (position,) = ir.DenseI64ArrayAttr(op.attributes["static_position"])
        return value[:, position]

    def _vector_from_elements(self, op: ir.Operation, *values: np.ndarray) -> np.ndarray:
        return np.stack(values, axis=1)

    def _vector_broadcast(self, op: ir.Operation, value: np.ndarray) -> np.ndarray:
        return np.repeat(value.reshape(self.threads, -1)[:, :1], ir.VectorType(op.results[0].type).shape[0], axis=1)

    def _vector_step(self, op: ir.Operation) -> np.ndarray:
        lanes = ir.VectorType(op.results[0].type).shape[0]
        return np.tile(np.arange(lanes, dtype=np.uint64), (self.threads, 1))

    def _llvm_extractvalue(self, op: ir.Operation, struct: list[np.ndarray]) -> np.ndarray:
        (position,) = ir.DenseI64ArrayAttr(op.attributes["position"])
        return struct[position]

    # --- threads ---

    def _nvvm_read_ptx_sreg_tid_x(self, op: ir.Operation) -> np.ndarray:
        return np.arange(self.threads, dtype=np.uint32)

    def _nvvm_read_ptx_sreg_ctaid_x(self, op: ir.Operation) -> np.ndarray:
        return np.full(self.threads, self.number, np.uint32)

    def _nvvm_read_ptx_sreg_nctaid_x(self, op: ir.Operation) -> np.ndarray:
        return np.full(self.threads, self.count, np.uint32)

    def _nvvm_shfl_sync(self, op: ir.Operation, mask: Any, value: np.ndarray, lane: np.ndarray, clamp: Any) -> Any:
        assert "bfly" in str(op.attributes["kind"])
        return value[np.arange(self.threads) ^ lane.astype(np.int64)]

    def _nvvm_mma_sync(self, op: ir.Operation, *registers: np.ndarray) -> tuple[list[np.ndarray]]:
        sizes = [int(n) for n in re.findall(r"= (\d+)", str(op.attributes["shape"]))]
        mma = get_instruction(_INSTRUCTIONS[sizes[0], sizes[1], sizes[2]])
        operation = re.search(r"<(\w+)_popc>", str(op.attributes["b1Op"]))
        assert operation
        counts = list(ir.DenseI32ArrayAttr(op.attributes["operandSegmentSizes"]))
        a, b, c = (registers[sum(counts[:i]) : sum(counts[: i + 1])] for i in range(3))
        result = [np.empty(self.threads, np.uint32) for _ in c]
        for start in range(0, self.threads, LANES):
            lhs, rhs = (_bits(layout, side, start) for layout, side in ((mma.lhs, a), (mma.rhs, b)))
            acc, places = mma.accumulator, [(lane, r) for lane in range(LANES) for r in range(len(c))]
            sums = np.zeros((mma.m, mma.n), np.int64)
            for lane, r in places:
                sums[acc.position(0, lane, r)] = c[r][start + lane]
            sums = mma.reference(lhs, rhs, sums, operation[1])
            for lane, r in places:
                result[r][start + lane] = sums[acc.position(0, lane, r)] % (1 << 32)
        return (result,)

    # --- memory ---

    def _llvm_getelementptr(self, op: ir.Operation, base: np.ndarray, *indices: np.ndarray) -> np.ndarray:
        assert str(op.attributes["elem_type"]) == "i8"
        (static,) = ir.DenseI32ArrayAttr(op.attributes["rawConstantIndices"])
        distance = _signed(indices[0]).astype(np.int64) if indices else np.int64(static)
        return (base.view(np.int64) + distance).view(np.uint64)

    def _places(self, address: np.ndarray, size: int, active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The buffer and the byte in it, of each active thread."""
        buffers = (address[active] >> _BUFFER_BITS).astype(np.int64) - 1
        places = (address[active] & ((1 << _BUFFER_BITS) - 1)).astype(np.int64)
        for buffer in np.unique(buffers):
            mine = places[buffers == buffer]
            assert 0 <= buffer < len(self.bytes), f"an address in no buffer: {buffer}"
            assert mine.max() + size <= self.bytes[buffer].size, f"past the end of argument {buffer}"
            assert not (mine % size).any(), f"{size} bytes at an address that is no multiple of that"
        return buffers, places

    def _load_bytes(self, address: np.ndarray, size: int, active: np.ndarray) -> np.ndarray:
        loaded = np.full((self.threads, size), 0xA5, np.uint8)
        buffers, places = self._places(address, size, active)
        for buffer in np.unique(buffers):
            threads = np.flatnonzero(active)[buffers == buffer]
            loaded[threads] = self.bytes[buffer][places[buffers == buffer][:, None] + np.arange(size)]
        return loaded

    def _store_bytes(self, address: np.ndarray, data: np.ndarray, active: np.ndarray) -> None:
        size = data.shape[1]
        buffers, places = self._places(address, size, active)
        for buffer in np.unique(buffers):
            at, new = places[buffers == buffer][:, None] + np.arange(size), data[active][buffers == buffer]
            stays = ~self.written[buffer][at] | (self.bytes[buffer][at] == new)
            self.bytes[buffer][at], self.written[buffer][at] = new, True
            assert stays.all(), "warps or blocks store different values"
            assert (self.bytes[buffer][at] == new).all(), "threads store different values"

    def _llvm_load(self, op: ir.Operation, address: np.ndarray, active: np.ndarray) -> np.ndarray:
        type_ = op.results[0].type
        dtype, lanes = _dtype(type_), ir.VectorType(type_).shape[0] if isinstance(type_, ir.VectorType) else 1
        loaded = self._load_bytes(address, lanes * dtype.itemsize, active).view(dtype)
        return loaded if isinstance(type_, ir.VectorType) else loaded[:, 0]

    def _llvm_store(self, op: ir.Operation, value: np.ndarray, address: np.ndarray, active: np.ndarray) -> None:
        data = np.ascontiguousarray(value.reshape(self.threads, -1)).view(np.uint8)
        self._store_bytes(address, data, active)

    def _llvm_inline_asm(self, op: ir.Operation, address: np.ndarray, *words: Any, active: np.ndarray) -> None:
        text = ir.StringAttr(op.attributes["asm_string"]).value
        if text == "griddepcontrol.wait;":
            return
        assert text.startswith("st.global.L1::no_allocate.v4.b32"), text
        self._store_bytes(address, np.stack(words, axis=1).view(np.uint8), active)

    def _llvm_atomicrmw(self, op: ir.Operation, address: np.ndarray, value: Any, active: np.ndarray) -> np.ndarray:
        assert ir.IntegerAttr(op.attributes["bin_op"]).value == 1, "of atomic operations only add is known"
        buffers, places = self._places(address, value.itemsize, active)
        for buffer in np.unique(buffers):
            mine = buffers == buffer
            np.add.at(self.bytes[buffer].view(value.dtype), places[mine] // value.itemsize, value[active][mine])
        return value

    # --- control ---

    def _scf_if(self, op: ir.Operation, condition: np.ndarray, active: np.ndarray) -> tuple[Any, ...]:
        branches = [region.blocks[0] for region in op.regions if len(region.blocks)]
        yielded = [self._visit(b, active & where) for b, where in zip(branches, (condition, ~condition), strict=False)]
        return tuple(_chosen(condition, *both) for both in zip(*yielded, strict=True)) if op.results else ()

    def _scf_for(
        self, op: ir.Operation, first: Any, end: Any, step: Any, *carried: Any, active: Any
    ) -> tuple[Any, ...]:
        body, number, values = op.regions[0].blocks[0], first.copy(), list(carried)
        while (going := active & (_signed(number) < _signed(end))).any():
            self.values.update(zip(body.arguments, [number, *values], strict=True))
            following = self._visit(body, going)
            values = [_chosen(going, new, old) for new, old in zip(following, values, strict=True)]
            number = np.where(going, number + step, number)
        return tuple(values)


_MASKED = {
    "llvm.load",
    "llvm.store",
    "llvm.inline_asm",
    "llvm.atomicrmw",
    "scf.if",
    "scf.for",
}


def _chosen(condition: np.ndarray, yes: np.ndarray, no: np.ndarray) -> np.ndarray:
    """yes for threads of which the condition holds, else no; vectors whole."""
    return np.where(condition[:, None] if yes.ndim > condition.ndim else condition, yes, no)


def _bits(layout: FragmentLayout | None, registers: Any, start: int) -> np.ndarray:
    """The matrix of a warp's fragment, a bit each."""
    assert layout is not None
    matrix = np.zeros((layout.rows, layout.columns), np.int64)
    for register, values in enumerate(registers):
        for lane in range(LANES):
            row, column = layout.position(0, lane, register)
            matrix[row, column : column + 32] = int(values[start + lane]) >> np.arange(32) & 1
    return matrix
