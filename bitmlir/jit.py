"""Running a program on the CPU: its kernels are compiled in memory, and threads share the rows of each launch."""

from __future__ import annotations

import copy
import ctypes
import itertools
import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from types import MappingProxyType

import numpy as np
from mlir import ir
from mlir.dialects import llvm
from mlir.execution_engine import ExecutionEngine

from bitmlir.dialects.errors import CompileError, InputError
from bitmlir.runtime.buffers import complete_buffers, require_host_array
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.runtime.plan import Buffer, Launch, Memset, Plan, Step

__all__ = ["BoundProgram", "CpuProgram", "row_ranges"]

_Function = Callable[[ctypes.Array], None]
_PROTOTYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_FIELD_BYTES = 8
_OPTIMIZATION_LEVEL = 2  # -O3 takes twice as long and unrolls the copying of panels into slower code


def row_ranges(rows: int, row_block: int, threads: int) -> list[tuple[int, int]]:
    """0 to rows in at most one range a thread, cut at multiples of row_block.

    Example:
        >>> row_ranges(100, 8, 2), row_ranges(100, 128, 2)
        ([(0, 48), (48, 100)], [(0, 100)])
    """
    blocks = -(-rows // row_block)
    ranges = min(threads, blocks)
    bounds = [blocks * i // ranges * row_block for i in range(ranges)]
    return list(zip(bounds, [*bounds[1:], rows], strict=True))


class CpuProgram:
    """A program compiled for the CPU it runs on.

    Attributes:
        plan: what it runs.
        threads: how many threads share a launch's rows.
    """

    def __init__(
        self,
        text: str,
        plan: Plan,
        threads: int | None = None,
        constants: Mapping[str, np.ndarray] = MappingProxyType({}),
    ) -> None:
        """Compile a module in LLVM's dialect, and do what depends on the plan's constants alone.

        threads: by default the number of CPUs this process may use. constants: an array for each buffer of a constant.

        Raises:
            CompileError: LLVM refuses the module.
        """
        self.plan = plan
        self.threads = threads or _available_cpus()
        context = ir.Context()
        context.allow_unregistered_dialects = True  # what the plan was read from is still there: bit.* attributes
        with context, ir.Location.unknown():
            try:
                names = {step.kernel for step in (*plan.setup, *plan.steps) if isinstance(step, Launch)}
                module = ir.Module.parse(text)
                _leave_kernels(module, names)
                self._engine = ExecutionEngine(module, opt_level=_OPTIMIZATION_LEVEL)
                self._kernels = {name: _found(self._engine, name) for name in names}
            except (ir.MLIRError, RuntimeError) as error:  # pyright: ignore[reportAttributeAccessIssue]
                raise CompileError(f"LLVM cannot compile '{plan.name}' for this CPU: {error}") from error
        made = {name: _new(plan.buffer(name)) for name in plan.fixed_buffers - constants.keys()}
        self._fixed = {**constants, **made}
        for step in plan.setup:
            self._prepare(step, self._fixed)()

    def bind(self, buffers: Mapping[str, np.ndarray]) -> BoundProgram:
        """The program on these buffers, by the names of the plan; results that are not given, and scratch, are new.

        Raises:
            InputError: an argument's buffer is missing, a name is unknown, an array does not fit its buffer, or one
                that is written overlaps another.
        """
        bound = complete_buffers(
            self.plan,
            buffers,
            self._fixed,
            require=require_host_array,
            address=lambda array: array.ctypes.data,
            new=_new,
            part=_part,
        )
        return BoundProgram(self, bound)

    def run(self, buffers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Bind and run once; every buffer by name, results included.

        Raises:
            InputError: as `bind`.
        """
        bound = self.bind(buffers)
        bound.run()
        return bound.buffers

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        """Threads beside the caller's, started when first needed."""
        return ThreadPoolExecutor(self.threads - 1, thread_name_prefix="bitmlir")

    def _prepare(self, step: Step, buffers: Mapping[str, np.ndarray]) -> Callable[[], None]:
        """The step as a function. Everything that does not change from run to run is done here."""
        if isinstance(step, Memset):
            array = buffers[step.buffer]
            return lambda: array.fill(0)
        arrays = [buffers[str(name)] for name in step.arguments]
        ranges = row_ranges(step.grid[0], step.block[0], self.threads)
        calls = [_KernelCall(self._kernels[step.kernel], arrays, *rows) for rows in ranges]
        return calls[0] if len(calls) == 1 else lambda: self._run_together(calls)

    def _run_together(self, calls: list[_KernelCall]) -> None:
        """Run the calls at the same time, the first one on this thread; ctypes lets go of Python's lock meanwhile."""
        others = [self._pool.submit(call) for call in calls[1:]]
        calls[0]()
        for other in others:
            other.result()


class BoundProgram:
    """A program with all its buffers in place, prepared to run again and again.

    Attributes:
        buffers: every buffer of the plan by name: arguments, results, scratch.
    """

    def __init__(self, program: CpuProgram, buffers: dict[str, np.ndarray]) -> None:
        """Made by `CpuProgram.bind`."""
        self.buffers = buffers
        self._program = program  # keeps the kernels in memory
        self._steps = [program._prepare(step, buffers) for step in program.plan.steps]

    def run(self, stream: None = None) -> None:
        """Run once. There are no streams here: it is done when this returns.

        Raises:
            InputError: a stream is given.
        """
        if stream is not None:
            raise InputError("a program for the CPU takes no stream: leave it out")
        for step in self._steps:
            step()

    def alone(self, number: int) -> BoundProgram:
        """One step of the program, on the same buffers."""
        part = copy.copy(self)
        part._steps = [self._steps[number]]
        return part


class _KernelCall:
    """A kernel with its arguments: memrefs, the first row, and the row past the last.

    MLIR's calling convention (packed): an array of pointers to the arguments, of which a memref has one for each field
    of its descriptor.
    """

    def __init__(self, kernel: _Function, arrays: list[np.ndarray], first: int, last: int) -> None:
        fields = [*itertools.chain.from_iterable(map(_descriptor, arrays)), first, last]
        values = (ctypes.c_int64 * len(fields))(*fields)
        places = range(ctypes.addressof(values), ctypes.addressof(values) + ctypes.sizeof(values), _FIELD_BYTES)
        self._kernel = kernel
        self._arguments = (ctypes.c_void_p * len(fields))(*places)
        self._referenced = (arrays, values)  # they must stay where the pointers say

    def __call__(self) -> None:
        self._kernel(self._arguments)


def _new(buffer: Buffer) -> np.ndarray:
    return np.empty(buffer.shape, numpy_dtype(buffer.dtype))


def _part(arena: np.ndarray, buffer: Buffer) -> np.ndarray:
    """Where a buffer lies in the memory that scratch shares."""
    return np.ndarray(buffer.shape, numpy_dtype(buffer.dtype), arena, buffer.offset or 0)


def _descriptor(array: np.ndarray) -> list[int]:
    """The fields of the memref descriptor: two pointers, an offset, sizes and strides in elements."""
    strides = [stride // array.itemsize for stride in array.strides]
    return [array.ctypes.data, array.ctypes.data, 0, *array.shape, *strides]


def _leave_kernels(module: ir.Module, names: Collection[str]) -> None:
    """Remove all functions with a body but the kernels of those names. These go into what the engine wraps around each
    function, and nothing is left of them beside it: LLVM would compile a kernel twice else."""
    for op in list(module.body.operations):
        if isinstance(op, llvm.LLVMFuncOp) and list(op.regions[0].blocks):
            if ir.StringAttr(op.attributes["sym_name"]).value not in names:
                op.erase()
                continue
            op.attributes["always_inline"] = ir.UnitAttr.get()
            op.attributes["linkage"] = ir.Attribute.parse("#llvm.linkage<linkonce_odr>")


def _found(engine: ExecutionEngine, name: str) -> _Function:
    address = engine.raw_lookup(name)
    if not address:
        raise RuntimeError(f"there is no kernel {name}")
    return _PROTOTYPE(address)


def _available_cpus() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
