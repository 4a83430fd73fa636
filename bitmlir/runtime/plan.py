"""The launch plan: what a compiled module does, in order, with which buffers.

It is read off the host function after lowering and is the heart of a bundle's manifest. It holds plain data only.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from bitmlir.dialects.window import Axis, Window

__all__ = ["ONE_BLOCK", "Buffer", "Launch", "Memset", "Plan", "Step", "TensorMap", "Value"]

ONE_BLOCK = (1, 1, 1)
"""The cluster of a launch without clusters."""

Kind = Literal["array", "packed", "tiles"]


@dataclass(frozen=True)
class Buffer:
    """A dense, C-contiguous array; `dtype` is one of i1 (a byte each), i8, u8, i16, i32, i64, f16, bf16, f32, f64.

    offset: where it begins in the memory that scratch shares (see `bitmlir.runtime.memory`); None if it has its own.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int | None = None


@dataclass(frozen=True)
class Value:
    """An argument or result of the module, as a user sees it, and the buffers that carry it.

    kind "array": `dtype` and `shape` are the array's; buffers: values.
    kind "packed": `encoding` names the encoding, `shape` is (rows, k), or as of `Packed`; buffers: planes, sums, and
    zeros for u<p>@row.
    `default` is what an argument that is left out stands for: a number for all its elements.
    kind "tiles": `shape` is the (rows, k) of the operand the bitmap covers, `encoding` that operand's; buffers: tiles.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    buffers: dict[str, str]
    dtype: str | None = None
    encoding: str | None = None
    default: float | None = None


@dataclass(frozen=True)
class TensorMap:
    """A TMA descriptor over a buffer, read or written in boxes whose sizes stand last dimension first: of planes
    (words, rows, planes), of a batch (words, rows, matrices, planes), of results (columns, rows, 1).

    Swizzled over the width of the box, unless that is 16 bytes; what it has outside the array reads as 0 and is not
    written (CUDA driver API: cuTensorMapEncodeTiled). With a `window`, over planes of images, read in boxes of (words,
    places): what a tap of the window sees at places that follow each other (cuTensorMapEncodeIm2col). `shape`: that of
    the array for this purpose, if it is not the buffer's own.
    """

    buffer: str
    box: tuple[int, ...]
    window: Window | None = None
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Memset:
    """Fill a buffer with zero bytes."""

    buffer: str

    @property
    def buffers(self) -> tuple[str, ...]:
        """The buffer, as of `Launch`."""
        return (self.buffer,)

    @property
    def writes(self) -> tuple[str, ...]:
        """The buffer, as of `Launch`."""
        return (self.buffer,)


@dataclass(frozen=True)
class Launch:
    """Run a kernel. Each argument is a buffer's name or a tensor map over one.

    cluster: blocks along x, y and z that run together and see each other's shared memory (sm_90 and later).
    writes: the buffers among them that it writes; empty where that is not known (bundles up to format 3).
    overlap_previous: the kernel may start before the launch queued ahead of it has ended; it waits by itself
    (`griddepcontrol.wait`) before it touches what that one writes (CUDA C++ Programming Guide, "Programmatic Dependent
    Launch").

    persistent: of a kernel that works with however many blocks there are, those that a multiprocessor has room for;
    `grid` is then the most that have work, and no more are launched than the device runs at once.

    On the CPU `grid` is (rows, 1, 1) and `block` (rows that must stay together, 1, 1): the runtime splits the rows
    among threads and calls the kernel with two more arguments, the first row and the row past the last.
    """

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int
    arguments: tuple[str | TensorMap, ...]
    cluster: tuple[int, int, int] = ONE_BLOCK
    overlap_previous: bool = False
    persistent: int | None = None
    writes: tuple[str, ...] = ()

    @property
    def buffers(self) -> tuple[str, ...]:
        """The names of all that it reads and writes."""
        return tuple(a if isinstance(a, str) else a.buffer for a in self.arguments)

    def grid_for(self, at_once: int) -> tuple[int, int, int]:
        """The grid to launch on a device that runs so many of the kernel's clusters at once.

        Example:
            >>> Launch("k", (100, 1, 1), (128, 1, 1), 0, (), cluster=(2, 1, 1), persistent=1).grid_for(7)
            (14, 1, 1)
        """
        if self.persistent is None:
            return self.grid
        return (min(self.grid[0], max(at_once, 1) * self.cluster[0]), *self.grid[1:])


Step = Memset | Launch


@dataclass(frozen=True)
class Plan:
    """Arguments, results, buffers and steps of one compiled module. Buffers that are neither arguments, results nor
    constants are scratch, to be allocated by the runtime.

    constants: what were arguments and is now part of the program; a bundle holds their contents.
    setup: steps that read nothing but constants. They run once, when the program is loaded, and what they write stays.
    """

    name: str
    target: str
    arguments: tuple[Value, ...]
    results: tuple[Value, ...]
    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    constants: tuple[Value, ...] = ()
    setup: tuple[Step, ...] = ()

    @property
    def constant_buffers(self) -> frozenset[str]:
        """The names of the buffers that carry constants."""
        return frozenset(name for value in self.constants for name in value.buffers.values())

    @property
    def fixed_buffers(self) -> frozenset[str]:
        """The names of the buffers that hold the same in every run: constants, and what setup makes of them."""
        return self.constant_buffers | {name for step in self.setup for name in step.buffers}

    def holding(self, names: Collection[str]) -> Plan:
        """The plan with these arguments as constants, and with the steps that depend on constants alone as setup.

        Such a step reads only constants and what others like it write, and nothing else writes what it writes. Steps
        that write results are none: the memory of results is not the program's.

        Example:
            >>> double = Launch("double", (1, 1, 1), (32, 1, 1), 0, ("w", "2w"), writes=("2w",))
            >>> times = Launch("times", (1, 1, 1), (32, 1, 1), 0, ("x", "2w", "y"), writes=("y",))
            >>> x, w, y = (Value(name, "array", (4,), {"values": name}, "i32") for name in "xwy")
            >>> buffers = tuple(Buffer(name, "i32", (4,)) for name in ("x", "w", "y", "2w"))
            >>> held = Plan("f", "sm_80", (x, w), (y,), buffers, (double, times)).holding({"w"})
            >>> [step.kernel for step in held.setup], [step.kernel for step in held.steps]
            (['double'], ['times'])
        """
        held = tuple(value for value in self.arguments if value.name in names)
        arguments = tuple(value for value in self.arguments if value.name not in names)
        steps = (*self.setup, *self.steps)
        changing = _changing(steps, {n for value in (*arguments, *self.results) for n in value.buffers.values()})
        return replace(
            self,
            arguments=arguments,
            constants=(*self.constants, *held),
            setup=tuple(step for step in steps if step not in changing),
            steps=tuple(step for step in steps if step in changing),
        )

    def seeing(self, name: str, dtype: str, shape: tuple[int, ...]) -> Plan:
        """The plan with a plain argument, in the same memory, of another type and shape of as many bytes."""
        arguments = tuple(replace(v, dtype=dtype, shape=shape) if v.name == name else v for v in self.arguments)
        carriers = {n for value in arguments if value.name == name for n in value.buffers.values()}
        buffers = tuple(replace(b, dtype=dtype) if b.name in carriers else b for b in self.buffers)
        return replace(self, arguments=arguments, buffers=buffers)

    def buffer(self, name: str) -> Buffer:
        """The buffer of that name."""
        return next(b for b in self.buffers if b.name == name)

    def to_json(self) -> dict[str, Any]:
        """Plain lists, dicts, strings and numbers; `from_json` reads them back."""
        plan = asdict(self)
        for name in ("steps", "setup"):
            plan[name] = [{type(step).__name__.lower(): asdict(step)} for step in getattr(self, name)]
        return plan

    @classmethod
    def from_json(cls, plan: dict[str, Any]) -> Plan:
        """The plan that `to_json` wrote.

        Raises:
            KeyError, TypeError: fields are missing or of another kind.
        """
        return cls(
            name=plan["name"],
            target=plan["target"],
            arguments=tuple(_value(v) for v in plan["arguments"]),
            results=tuple(_value(v) for v in plan["results"]),
            buffers=tuple(Buffer(**{**b, "shape": tuple(b["shape"])}) for b in plan["buffers"]),
            steps=tuple(_step(s) for s in plan["steps"]),
            constants=tuple(_value(v) for v in plan.get("constants", ())),  # this and the next are new in format 4
            setup=tuple(_step(s) for s in plan.get("setup", ())),
        )


def _changing(steps: Sequence[Step], given: Collection[str]) -> list[Step]:
    """The steps whose work depends on these buffers, or is done on them."""
    touched = set(given)
    while True:
        changing = [step for step in steps if not step.writes or touched.intersection(step.buffers)]
        more = touched.union(*(step.writes for step in changing))
        if more == touched:
            return changing
        touched = more


def _value(value: dict[str, Any]) -> Value:
    return Value(**{**value, "shape": tuple(value["shape"])})


def _tensor_map(fields: dict[str, Any]) -> TensorMap:
    window = fields.get("window")  # new in format 3
    axes = None if window is None else Window(Axis(**window["rows"]), Axis(**window["columns"]))
    shape = fields.get("shape")  # new in format 4
    return TensorMap(fields["buffer"], tuple(fields["box"]), axes, None if shape is None else tuple(shape))


def _step(step: dict[str, Any]) -> Step:
    ((kind, fields),) = step.items()
    if kind == "memset":
        return Memset(**fields)
    arguments = tuple(a if isinstance(a, str) else _tensor_map(a) for a in fields["arguments"])
    grid, block = tuple(fields["grid"]), tuple(fields["block"])
    cluster = tuple(fields.get("cluster", ONE_BLOCK))  # this and the next are new in format 2
    overlaps, persistent = fields.get("overlap_previous", False), fields.get("persistent")
    writes = tuple(fields.get("writes", ()))  # new in format 4
    shared_bytes = fields["shared_bytes"]
    return Launch(fields["kernel"], grid, block, shared_bytes, arguments, cluster, overlaps, persistent, writes)
