"""DLPack: device memory handed to other libraries, and borrowed from them, as Python capsules.

The structures are those of dlpack.h in its unversioned form, which every library reads and writes
(https://dmlc.github.io/dlpack/latest/c_api.html).
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from bitmlir.dialects.errors import InputError
from bitmlir.runtime.dtypes import numpy_dtype

__all__ = ["CUDA", "CUDA_DEVICES", "PROTOCOL_LEGACY_STREAM", "Borrowed", "borrow", "export"]

CUDA = 2
"""kDLCUDA of DLDeviceType."""

CUDA_DEVICES = (CUDA, 13)
"""kDLCUDA and kDLCUDAManaged; pinned host memory (3) is host memory."""

PROTOCOL_LEGACY_STREAM = 1
"""What the protocols of arrays (DLPack and the CUDA array interface) call the stream whose handle is 0."""

_NAME, _BF16 = b"dltensor", 4
_KINDS = {"i": 0, "u": 1, "f": 2, "b": 6}  # DLDataTypeCode by the kind of a numpy dtype


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _ManagedTensor(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


@dataclass(frozen=True)
class Borrowed:
    """Memory that a capsule describes; it stays valid while the capsule, in `owner`, is alive. Strides in bytes."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    dtype: np.dtype
    owner: Any


def export(address: int, ordinal: int, shape: tuple[int, ...], dtype: np.dtype, owner: object) -> Any:
    """A capsule for dense, row-major memory on a GPU; `owner` lives until whoever takes the capsule lets go of it."""
    code = _BF16 if dtype.name == "bfloat16" else _KINDS[dtype.kind]
    managed = _ManagedTensor(deleter=ctypes.cast(_release, ctypes.c_void_p))
    sizes = (ctypes.c_int64 * len(shape))(*shape)
    managed.tensor = _Tensor(address, CUDA, ordinal, len(shape), code, 8 * dtype.itemsize, 1, sizes)
    kept = (managed, sizes, owner)
    managed.context = id(kept)
    _increase(kept)  # until _release is called
    return _new_capsule(ctypes.addressof(managed), _NAME, ctypes.cast(_drop, ctypes.c_void_p))


def borrow(capsule: Any) -> Borrowed:
    """What a capsule describes, without taking it: its destructor gives the memory back.

    Raises:
        InputError: elements that numpy has no type for.
    """
    tensor = _ManagedTensor.from_address(_pointer(capsule, _NAME)).tensor
    kinds = {code: kind for kind, code in _KINDS.items()}
    if tensor.code == _BF16:
        dtype = numpy_dtype("bf16")
    elif tensor.code in kinds and tensor.lanes == 1:
        dtype = np.dtype(f"{kinds[tensor.code]}{tensor.bits // 8}")
    else:
        raise InputError(f"DLPack type {tensor.code} of {tensor.lanes} × {tensor.bits} bits has no numpy type")
    shape = tuple(tensor.shape[: tensor.rank])
    strides = tuple(dtype.itemsize * s for s in tensor.strides[: tensor.rank]) if tensor.strides else None
    return Borrowed((tensor.data or 0) + tensor.byte_offset, shape, strides, dtype, capsule)


# Prototypes of our own: those in ctypes.pythonapi are shared with every other package.
_new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_increase = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_IncRef", ctypes.pythonapi))
_decrease = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(("Py_DecRef", ctypes.pythonapi))
# The destructor meets a capsule that nobody refers to any more: an address, never an object.
_is_untaken = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_untaken_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def _release(address: int) -> None:
    """The deleter of what we export; its new owner calls it from any thread."""
    _decrease(_ManagedTensor.from_address(address).context)


@ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
def _drop(capsule: int) -> None:
    """The destructor of a capsule: one that was taken has another name and another owner."""
    if _is_untaken(capsule, _NAME):
        _decrease(_ManagedTensor.from_address(_untaken_pointer(capsule, _NAME)).context)
