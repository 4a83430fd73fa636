"""Arrays of other libraries: into numpy, and back into the library the caller used.

Nothing but numpy is imported here. Other libraries are met through the protocols they share (the array interface,
`__array__`, DLPack, the CUDA array interface); torch, CuPy and JAX are touched only when an array given to us has
already loaded them.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from bitmlir.dialects.errors import BitmlirError, InputError, ShapeError
from bitmlir.runtime.buffers import is_dense
from bitmlir.runtime.dlpack import CUDA_DEVICES
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.runtime.libraries import library_of

__all__ = ["as_integers", "as_numpy", "as_writable", "is_device_array", "like", "require_layout"]

_BFLOAT16 = "bfloat16"  # numpy knows it through ml_dtypes only, whose types report the kind of raw bytes


def is_device_array(x: Any) -> bool:
    """Whether x lives in GPU memory: a DLPack device of kind CUDA, or `__cuda_array_interface__`.

    Example:
        >>> is_device_array([1, 2, 3])
        False
    """
    # DLPack first: torch answers it for every tensor, but raises on the other for tensors that require a gradient.
    if hasattr(x, "__dlpack_device__") and int(x.__dlpack_device__()[0]) in CUDA_DEVICES:
        return True
    return hasattr(x, "__cuda_array_interface__")


def as_numpy(x: Any, name: str = "array") -> np.ndarray:
    """x as a numpy array of booleans, integers or floats; without a copy where its library allows.

    Taken: numpy arrays, nested lists, and anything with `__array_interface__`, `__array__` or DLPack. Arrays in GPU
    memory are copied to the host by their own library (`.cpu()`, `.get()` or `__array__`). The result may be
    read-only or strided: it shares memory with x when it can.

    Raises:
        InputError: x is no array of numbers, or cannot be brought to the host; the message starts with `name`.

    Example:
        >>> as_numpy([[1, -1], [0, 1]], "x").shape
        (2, 2)
    """
    if isinstance(x, np.ma.MaskedArray):
        raise InputError(f"{name} is a masked array, whose mask would be lost: fill it first (x.filled(value))")
    try:
        array = _to_numpy(_to_host(x, name))
    except BitmlirError:
        raise
    except Exception as error:  # whatever the other library raises, the user gave an array we cannot read
        raise InputError(f"{name} ({_type_name(x)}) cannot be read as a numpy array: {error}") from error
    if array.dtype.kind not in "biuf" and array.dtype.name != _BFLOAT16:
        raise InputError(
            f"{name} ({_type_name(x)}) is not an array of numbers (numpy dtype {array.dtype}): "
            f"pass booleans, integers or floats"
        )
    return array


def as_integers(x: Any, name: str = "array") -> np.ndarray:
    """`as_numpy`, for arrays that must hold integers: of integer or boolean dtype.

    Raises:
        InputError: as `as_numpy`, and for floats, even those that hold whole numbers.

    Example:
        >>> as_integers([[True, False]], "x").dtype
        dtype('bool')
    """
    array = as_numpy(x, name)
    if array.dtype.kind not in "biu":
        raise InputError(f"{name} must have an integer or boolean dtype, got {array.dtype}: round and cast it first")
    return array


def as_writable(x: Any, name: str = "out") -> np.ndarray:
    """x as a numpy array that shares its memory, so that what is written there is written to x.

    Raises:
        InputError: x is neither a numpy array nor a torch tensor on the CPU, or one that numpy cannot read.

    Example:
        >>> x = np.zeros(2)
        >>> as_writable(x) is x
        True
    """
    if not isinstance(x, np.ndarray) and library_of(x) != "torch":
        raise InputError(
            f"{name} must be a numpy array, a torch tensor, or an array in GPU memory, to be written into; "
            f"got {_type_name(x)}"
        )
    return as_numpy(x, name)


def like(result: Any, example: Any) -> Any:
    """`result`, a numpy or device array, in the library and on the device of `example`: torch, CuPy or JAX.

    For any other example it is the result itself. Memory is shared, but in two cases: results that have to move to
    another device, and results on a GPU for JAX, whose arrays never change, while the next run would change these.

    Raises:
        InputError: that library cannot take the result.

    Example:
        >>> like(np.zeros(2), [1, 2])
        array([0., 0.])
    """
    library = library_of(example)
    if library is None:
        return result
    deliver = {"torch": _to_torch, "cupy": _to_cupy, "jax": _to_jax}[library]
    try:
        return deliver(sys.modules[library], result, example)
    except Exception as error:  # a type that the library lacks, say: CuPy has no bf16
        raise InputError(
            f"the result ({result.dtype} of shape {result.shape}) is no {library} array: {error}"
        ) from error


def _to_torch(torch: Any, result: Any, example: Any) -> Any:
    if not isinstance(result, np.ndarray):
        return torch.from_dlpack(result)
    if result.dtype.name == _BFLOAT16:  # torch.from_numpy knows numpy's own types only
        return torch.from_numpy(result.view(np.int16)).view(torch.bfloat16).to(example.device)
    return torch.from_numpy(result).to(example.device)


def _to_cupy(cupy: Any, result: Any, example: Any) -> Any:
    return cupy.asarray(result) if isinstance(result, np.ndarray) else cupy.from_dlpack(result)


def _to_jax(jax: Any, result: Any, example: Any) -> Any:
    if isinstance(result, np.ndarray):
        return jax.device_put(result, min(example.devices(), key=lambda device: device.id))
    # Copied before this returns: JAX's own stream does not wait for the next run, or hold it up.
    return jax.numpy.copy(jax.dlpack.from_dlpack(result)).block_until_ready()


def require_layout(x: Any, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    """Check dtype, shape and C-contiguity of a numpy or device array without reading its data.

    Raises:
        InputError: neither a numpy array nor one with `__cuda_array_interface__`, another dtype, or strided.
        ShapeError: another shape.
    """
    if isinstance(x, np.ndarray):
        actual, actual_shape, contiguous = x.dtype, x.shape, x.flags.c_contiguous
    elif (interface := getattr(x, "__cuda_array_interface__", None)) is not None:
        actual, actual_shape = np.dtype(interface["typestr"]), tuple(interface["shape"])
        contiguous = is_dense(actual_shape, interface.get("strides"), actual.itemsize)
    else:
        raise InputError(
            f"{name} must be a numpy array or a CUDA array (__cuda_array_interface__), got {_type_name(x)}: "
            f"convert it with numpy.asarray"
        )
    if actual != dtype:
        raise InputError(f"{name} must have dtype {np.dtype(dtype)}, got {actual}: convert it first")
    if actual_shape != shape:
        raise ShapeError(f"{name} must have shape {shape}, got {actual_shape}")
    if not contiguous:
        raise InputError(f"{name} must be C-contiguous: copy it first (numpy.ascontiguousarray)")


def _to_host(x: Any, name: str) -> Any:
    if not is_device_array(x):
        return x
    for method in ("cpu", "get"):  # torch, CuPy
        if callable(copy := getattr(x, method, None)):
            return copy()
    if hasattr(x, "__array__"):  # JAX and Numba copy here
        return x
    raise InputError(
        f"{name} ({_type_name(x)}) lives in GPU memory and has none of .cpu(), .get() and __array__: "
        f"copy it to the host first"
    )


def _to_numpy(x: Any) -> np.ndarray:
    if library_of(x) == "torch" and x.dtype == sys.modules["torch"].bfloat16:
        return x.view(sys.modules["torch"].int16).numpy().view(numpy_dtype("bf16"))
    only_dlpack = hasattr(x, "__dlpack__") and not (hasattr(x, "__array__") or hasattr(x, "__array_interface__"))
    return np.from_dlpack(x) if only_dlpack else np.asarray(x)


def _type_name(x: Any) -> str:
    return f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")
