"""What all CPU kernels are made of: the function, its loops over rows and words, reads and writes of arrays.

A kernel is a function on memrefs that computes the rows [first, last) of its result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import func, memref

from bitmlir.dialects.layout import ceil_div
from bitmlir.lowering.emit import Carried, Scalar, const, for_loop, i64, index

__all__ = [
    "Arrays",
    "Index",
    "Kernel",
    "as_index",
    "kernel_function",
    "loop",
    "loop_with",
    "read",
    "task_rows",
    "write",
]

# Work that is worth handing to a thread: about 100 µs, as a core counts ten words in a nanosecond.
_TASK_WORDS = 1 << 20

Arrays = dict[ir.Value, ir.Value]  # memref of the host function -> the kernel's parameter that carries it
Index = Scalar | int


@dataclass(frozen=True)
class Kernel:
    """A kernel in the module and how the host calls it: with these memrefs of its own, on that many rows."""

    name: str
    arguments: tuple[ir.Value, ...]
    rows: int


def task_rows(words_per_row: int, rows: int, step: int = 1) -> int:
    """The fewest rows that make a task worth a thread: a multiple of `step`, and no more than there are.

    `words_per_row` is the work in a row: 32-bit words to count, or as much.

    Example:
        >>> task_rows(words_per_row=2048 * 64, rows=2048, step=2)
        8
    """
    wanted = min(ceil_div(_TASK_WORDS, max(words_per_row, 1)), rows)
    return ceil_div(wanted, step) * step


def kernel_function(
    name: str,
    arguments: Sequence[ir.Value | None],
    rows: int,
    row_block: int,
    body: Callable[[Arrays, Scalar, Scalar], None],
) -> Kernel:
    """Emit a kernel at the insertion point; `body` receives its arrays, the first row and the row past the last.

    Absent arguments are left out, repeated ones are passed once. `row_block` becomes the attribute `bit.row_block`.
    """
    hosts = tuple(dict.fromkeys(value for value in arguments if value is not None))
    function = func.FuncOp(name, ir.FunctionType.get([*(v.type for v in hosts), index(), index()], []))
    function.operation.attributes["bit.row_block"] = ir.IntegerAttr.get(i64(), row_block)
    with ir.InsertionPoint(function.add_entry_block()):
        *parameters, first, last = function.arguments
        body(dict(zip(hosts, parameters, strict=True)), Scalar(first), Scalar(last))
        func.ReturnOp([])
    return Kernel(name, hosts, rows)


def as_index(value: Index) -> Scalar:
    """A number as a value of type index."""
    return const(value, index()) if isinstance(value, int) else value


def read(array: ir.Value, *indices: Index) -> Scalar:
    """An element of an array."""
    return Scalar(memref.load(array, [as_index(i).value for i in indices]))


def write(value: Scalar, array: ir.Value, *indices: Index) -> None:
    """Set an element of an array."""
    memref.store(value.value, array, [as_index(i).value for i in indices])


def loop(lower: Index, upper: Index, step: int, body: Callable[[Scalar], None]) -> None:
    """for i in lower..upper by step: body(i)."""

    def run(i: Scalar, carried: Carried) -> Carried:
        body(i)
        return carried

    loop_with([], lower, upper, step, run)


def loop_with(
    initial: Carried, lower: Index, upper: Index, step: int, body: Callable[[Scalar, Carried], Carried]
) -> Carried:
    """for i in lower..upper by step: carried = body(i, carried). Returns what is carried out."""
    return for_loop(as_index(lower), as_index(upper), as_index(step), initial, body)
