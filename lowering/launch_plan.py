"""Reading the launch plan off a host function after `bit-to-gpu` or `bit-to-cpu`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mlir import ir
from mlir.dialects import func, gpu, memref

from bitmlir.dialects import bit
from bitmlir.dialects.errors import InputError
from bitmlir.dialects.faults import is_dense
from bitmlir.lowering.kernels import WRITES
from bitmlir.runtime.plan import ONE_BLOCK, Buffer, Launch, Memset, Plan, Step, TensorMap, Value

__all__ = ["read_plan"]


def read_plan(module: ir.Module, target: str) -> Plan:
    """The plan of the one function in the module that carries packed matrices.

    Raises:
        InputError: there is no such function, or more than one.
    """
    hosts = [op for op in module.body.operations if isinstance(op, func.FuncOp) and _is_host(op)]
    if len(hosts) != 1:
        names = ", ".join(f"@{host.name.value}" for host in hosts) or "none"
        raise InputError(f"expected one function on packed matrices in the module, but found {names}")
    return _PlanReader(hosts[0], module, target).read()


def _is_host(function: func.FuncOp) -> bool:
    return "arg_attrs" in function.attributes and any("bit.value" in a for a in _argument_attributes(function))


def _argument_attributes(function: func.FuncOp) -> list[ir.DictAttr]:
    return [ir.DictAttr(attributes) for attributes in ir.ArrayAttr(function.arg_attrs)]


class _PlanReader:
    """One host function while it is read."""

    def __init__(self, function: func.FuncOp, module: ir.Module, target: str) -> None:
        self.function, self.module, self.target = function, module, target
        self.names: dict[ir.Value, str | TensorMap] = {}
        self.shapes: dict[ir.Value, tuple[int, ...]] = {}  # of buffers that are seen in another one
        self.buffers: list[Buffer] = []

    def read(self) -> Plan:
        values: dict[tuple[bool, str], dict[str, Any]] = {}
        for argument, attributes in zip(self.function.arguments, _argument_attributes(self.function), strict=True):
            name, part = (ir.StringAttr(attributes[f"bit.{key}"]).value for key in ("value", "part"))
            buffer = self._add_buffer(argument, f"{name}.{part}")
            value = values.setdefault(("bit.result" in attributes, name), _value_fields(name, part, attributes, buffer))
            value["buffers"][part] = buffer.name
        steps = [step for op in self.function.entry_block.operations if (step := self._step(op))]
        return Plan(
            name=self.function.name.value,
            target=self.target,
            arguments=tuple(Value(**fields) for (result, _), fields in values.items() if not result),
            results=tuple(Value(**fields) for (result, _), fields in values.items() if result),
            buffers=tuple(self.buffers),
            steps=tuple(steps),
        )

    def _add_buffer(self, value: ir.Value, name: str) -> Buffer:
        type_ = ir.MemRefType(value.type)
        buffer = Buffer(name, str(type_.element_type), tuple(type_.shape))
        self.buffers.append(buffer)
        self.names[value] = name
        return buffer

    def _step(self, op: ir.OpView) -> Step | None:
        if isinstance(op, memref.AllocOp):
            self._add_buffer(op.memref, f"scratch.{len(self.buffers)}")
        elif isinstance(op, memref.ReinterpretCastOp):
            self._require_whole(op)
            self.names[op.result] = self.names[op.source]
            self.shapes[op.result] = tuple(ir.MemRefType(op.result.type).shape)
        elif isinstance(op, bit.TensorMapOp):
            window, shape = None if op.window is None else bit.window_in(op.window), self.shapes.get(op.source)
            name, box = str(self.names[op.source]), tuple(ir.DenseI64ArrayAttr(op.box))
            self.names[op.result] = TensorMap(name, box, window, shape)
        elif isinstance(op, gpu.MemsetOp):
            return Memset(str(self.names[op.dst]))
        elif isinstance(op, gpu.LaunchFuncOp):
            return self._launch(op)
        elif isinstance(op, func.CallOp):
            return self._call(op)
        return None

    @staticmethod
    def _require_whole(op: memref.ReinterpretCastOp) -> None:
        """Refuse views but those of a whole buffer, in order: launches know where buffers begin, and nothing else."""
        source, seen = ir.MemRefType(op.source.type), ir.MemRefType(op.result.type)
        if not is_dense(source) or not is_dense(seen) or math.prod(source.shape) != math.prod(seen.shape):
            raise InputError(
                f"memref.reinterpret_cast must see all elements of a buffer in order, in another shape, but this one "
                f"makes {seen} of {source}"
            )

    def _launch(self, op: gpu.LaunchFuncOp) -> Launch:
        operands = list(op.operation.operands)
        sizes = list(ir.DenseI32ArrayAttr(op.attributes["operandSegmentSizes"]))
        before = sizes[0]  # asynchronous dependencies, of which there are none
        grid, block = _sizes(operands[before : before + 3]), _sizes(operands[before + 3 : before + 6])
        kernel = str(op.attributes["kernel"]).split("::@")[-1]
        shared = 0 if op.dynamicSharedMemorySize is None else _integer(op.dynamicSharedMemorySize)
        clusters = operands[before + 6 : before + sum(sizes[1:10])]  # three or none, after grid and block
        cluster = _sizes(clusters) if clusters else ONE_BLOCK
        arguments = tuple(self.names[v] for v in op.kernelOperands)
        overlaps = "bit.overlap_previous" in op.attributes
        persistent = (
            ir.IntegerAttr(op.attributes["bit.persistent"]).value if "bit.persistent" in op.attributes else None
        )
        return Launch(kernel, grid, block, shared, arguments, cluster, overlaps, persistent, _writes(op, arguments))

    def _call(self, op: func.CallOp) -> Launch:
        *arguments, _, last = op.operation.operands
        name = ir.FlatSymbolRefAttr(op.attributes["callee"]).value
        kernel = next(f for f in self.module.body.operations if isinstance(f, func.FuncOp) and f.name.value == name)
        row_block = ir.IntegerAttr(kernel.attributes["bit.row_block"]).value
        read, rows = tuple(self.names[v] for v in arguments), (_integer(last), 1, 1)
        return Launch(name, rows, (row_block, 1, 1), 0, read, writes=_writes(op, read))


def _writes(op: ir.OpView, arguments: Sequence[str | TensorMap]) -> tuple[str, ...]:
    """The buffers that a launch says it writes."""
    if WRITES not in op.attributes:
        return ()
    written = (arguments[number] for number in ir.DenseI64ArrayAttr(op.attributes[WRITES]))
    return tuple(argument if isinstance(argument, str) else argument.buffer for argument in written)


def _value_fields(name: str, part: str, attributes: ir.DictAttr, buffer: Buffer) -> dict[str, Any]:
    kinds = {"values": "array", "tiles": "tiles"}
    encoding = ir.StringAttr(attributes["bit.encoding"]).value if "bit.encoding" in attributes else None
    return {
        "name": name,
        "kind": kinds.get(part, "packed"),
        "shape": tuple(ir.DenseI64ArrayAttr(attributes["bit.shape"])),
        "buffers": {},
        "dtype": buffer.dtype if part == "values" else None,
        "encoding": encoding,
        "default": ir.IntegerAttr(attributes["bit.default"]).value if "bit.default" in attributes else None,
    }


def _sizes(values: Sequence[ir.Value]) -> tuple[int, int, int]:
    """The sizes along x, y and z."""
    x, y, z = map(_integer, values)
    return x, y, z


def _integer(value: ir.Value) -> int:
    """A constant that the host function was built with."""
    return ir.IntegerAttr(value.owner.attributes["value"]).value
