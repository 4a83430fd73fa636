"""What arrays must be to serve as the buffers of a plan, on the host and on a GPU alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import combinations
from typing import Any, Protocol, TypeVar

import numpy as np

from bitmlir.dialects.errors import InputError
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.runtime.memory import arena_bytes
from bitmlir.runtime.plan import Buffer, Plan

__all__ = [
    "complete_buffers",
    "is_dense",
    "new_array_hint",
    "read_only_error",
    "require_apart",
    "require_host_array",
    "require_type",
]


_ARENA = "(arena)"  # no buffer's name


class _HasSize(Protocol):
    @property
    def nbytes(self) -> int: ...


Array = TypeVar("Array", bound=_HasSize)  # np.ndarray or DeviceArray


def is_dense(shape: tuple[int, ...], strides: tuple[int, ...] | None, itemsize: int) -> bool:
    """Whether an array lies in memory row-major and without gaps; strides are in bytes, None if its library says so.

    Example:
        >>> is_dense((3, 4), (16, 4), 4), is_dense((3, 4), (4, 12), 4), is_dense((1, 4), (999, 4), 4)
        (True, False, True)
    """
    if strides is None or 0 in shape:
        return True
    expected = itemsize
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size > 1 and stride != expected:  # nobody steps along an axis of size 1
            return False
        expected *= size
    return True


def complete_buffers(
    plan: Plan,
    given: Mapping[str, Array],
    fixed: Mapping[str, Array],
    *,
    require: Callable[[Buffer, Array, bool], None],
    address: Callable[[Array], int],
    new: Callable[[Buffer], Array],
    part: Callable[[Array, Buffer], Array],
) -> dict[str, Array]:
    """An array for every buffer of the plan: arguments as given, results and scratch as given or else new, and those
    that the program has fixed.

    require(buffer, array, is_written) raises for a given array that will not do; address is where one starts;
    part(arena, buffer) is where a buffer lies in the memory that scratch shares. All that is given is checked before
    the first array is made.

    Raises:
        InputError: an argument's buffer is missing, a name is unknown, an array is refused, or one that the program
            writes overlaps another.
    """
    arguments = {name for value in plan.arguments for name in value.buffers.values()}
    own = [buffer for buffer in plan.buffers if buffer.name not in fixed]
    known = {buffer.name for buffer in own}
    if missing := arguments - given.keys():
        raise InputError(f"no array given for buffer {', '.join(sorted(missing))}")
    if unknown := given.keys() - known:
        raise InputError(f"unknown buffer {', '.join(sorted(unknown))}: expected {', '.join(sorted(known))}")
    for buffer in own:
        if buffer.name in given:
            require(buffer, given[buffer.name], buffer.name not in arguments)
    require_apart({name: (address(array), array.nbytes) for name, array in given.items()}, arguments)
    wanted = [buffer for buffer in own if buffer.name not in given]
    shared = [buffer for buffer in wanted if buffer.offset is not None]
    arena = [Buffer(_ARENA, "u8", (arena_bytes(plan),))] if shared else []
    # All at once: what was made before memory ran out must not stay alive with the error's traceback.
    made = {buffer.name: new(buffer) for buffer in (*arena, *wanted) if buffer.offset is None}
    placed = {buffer.name: part(made[_ARENA], buffer) for buffer in shared}
    made.pop(_ARENA, None)
    return {**fixed, **given, **made, **placed}


def require_type(buffer: Buffer, array: Any, is_written: bool = False) -> None:
    """Check element type and shape; packed words may be unsigned, and truth values may stand for i8.

    Raises:
        InputError: another type, byte order or shape.
    """
    expected = numpy_dtype(buffer.dtype)
    are_words = buffer.name.rpartition(".")[2] in ("planes", "tiles")
    kinds = "iu" if are_words else "ib" if buffer.dtype == "i8" else "i"
    same_bits = array.dtype.kind in kinds and expected.kind in kinds and array.dtype.itemsize == expected.itemsize
    fits = array.dtype == expected or (same_bits and array.dtype.isnative)
    if array.shape == buffer.shape and fits:
        return
    name, remedy = buffer.name.removesuffix(".values"), "give an array of that shape"
    if is_written:
        remedy = new_array_hint(buffer)
    elif not fits:
        remedy = f"convert it (numpy, CuPy: {name}.astype('{expected}'), torch: {name}.to(torch.{expected}))"
    came = f"{array.dtype} of shape {array.shape}"
    raise InputError(f"buffer {buffer.name} must be {expected} of shape {buffer.shape}, got {came}: {remedy}")


def new_array_hint(buffer: Buffer) -> str:
    """What to give for a buffer that the program writes, in words; a converted copy would take the result in its place.

    Example:
        >>> new_array_hint(Buffer("y.values", "i32", (3, 4)))
        "give a new array, such as numpy.empty((3, 4), 'int32') or torch.empty((3, 4), dtype=torch.int32)"
    """
    dtype = numpy_dtype(buffer.dtype)
    made = f"numpy.empty({buffer.shape}, '{dtype}') or torch.empty({buffer.shape}, dtype=torch.{dtype})"
    return f"give a new array, such as {made}"


def require_host_array(buffer: Buffer, array: np.ndarray, is_written: bool) -> None:
    """Check that a numpy array can serve as the buffer.

    Raises:
        InputError: another type or shape, strided, misaligned, or read-only though the program writes it.
    """
    require_type(buffer, array, is_written)
    if not (array.flags.c_contiguous and array.flags.aligned):
        remedy = new_array_hint(buffer) if is_written else "copy it with numpy.ascontiguousarray"
        raise InputError(f"buffer {buffer.name} must be C-contiguous and aligned: {remedy}")
    if is_written and not array.flags.writeable:
        raise read_only_error(buffer)


def read_only_error(buffer: Buffer) -> InputError:
    """What says that the program cannot write an array."""
    return InputError(
        f"buffer {buffer.name} is written by the program, but the array is read-only: {new_array_hint(buffer)}"
    )


def require_apart(spans: Mapping[str, tuple[int, int]], arguments: Collection[str] = ()) -> None:
    """Check that what the program writes shares memory with nothing else; arguments alone may share theirs.

    spans: address and bytes of each buffer.

    Raises:
        InputError: two overlap, and not both are arguments.
    """
    for first, second in combinations(sorted(spans), 2):
        (start, size), (other_start, other_size) = spans[first], spans[second]
        both_read = first in arguments and second in arguments
        if both_read or start + size <= other_start or other_start + other_size <= start:
            continue
        written, other = (second, first) if first in arguments else (first, second)
        raise InputError(
            f"buffer {written}, which the program writes, overlaps buffer {other}: give memory of its own for each"
        )
