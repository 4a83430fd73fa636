"""The CUDA driver: devices, arrays in their memory, and loaded kernels.

Everything goes through `cuda.bindings.driver` of cuda-python, which is loaded when a device is first asked for.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import math
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bitmlir.dialects.errors import BundleError, DeviceError, InputError
from bitmlir.runtime.dtypes import numpy_dtype

__all__ = ["LEGACY_STREAM", "Device", "DeviceArray", "Module", "call", "check", "driver", "release", "release_with"]

LEGACY_STREAM = 0
"""The handle of the default stream that orders itself with all blocking streams; CuPy's and torch's default too."""

_logger = logging.getLogger("bitmlir")

_INTERFACE_LEGACY_STREAM = 1  # what the CUDA array interface calls it

_DEFAULT_SHARED_BYTES = 48 * 1024  # a kernel must ask for more (CUDA C++ Programming Guide, "Compute Capabilities")


@functools.cache
def driver() -> Any:
    """The module `cuda.bindings.driver`.

    Raises:
        DeviceError: cuda-python is not installed.
    """
    try:
        return importlib.import_module("cuda.bindings.driver")
    except ImportError:
        raise DeviceError("running on a GPU needs cuda-python: pip install 'bitmlir[cuda]'") from None


def call(function: str, *arguments: Any) -> Any:
    """Call a driver function by name; its first result, if it has one, without the status.

    Raises:
        DeviceError: the driver reported an error, or there is no driver.
    """
    try:
        status, *results = getattr(driver(), function)(*arguments)
    except RuntimeError as error:  # cuda-python found no driver, or one too old to have the function
        raise DeviceError(f"no usable NVIDIA driver: {error}") from None
    check(function, status)
    return results[0] if results else None


def check(function: str, status: Any) -> None:
    """Check the status that a driver function returned.

    Raises:
        DeviceError: it is not success; the message has the error's name and description.
    """
    if status != driver().CUresult.CUDA_SUCCESS:
        _, text = driver().cuGetErrorString(status)
        raise DeviceError(f"{function} failed: {status.name} ({text.decode() if text else 'no description'})")


@functools.cache
def _initialize() -> None:
    driver()
    try:
        call("cuInit", 0)
    except DeviceError as error:
        raise DeviceError(f"no usable GPU ({error}): compile with target='cpu' to run without one") from None


@dataclass(frozen=True)
class Device:
    """A GPU: its place among the visible ones, name, compute capability, multiprocessors, and shared bytes a block."""

    ordinal: int
    name: str
    capability: tuple[int, int]
    sm_count: int
    shared_bytes: int
    context: int = field(repr=False)  # the primary one, which the CUDA runtime, torch and CuPy use too

    @classmethod
    def current(cls) -> Device:
        """The device of the calling thread's current context; the first one if no context is current.

        Raises:
            DeviceError: no GPU, no driver or no cuda-python.
        """
        _initialize()
        has_context = int(call("cuCtxGetCurrent")) != 0
        return _device(int(call("cuCtxGetDevice")) if has_context else 0)

    @classmethod
    def find(cls) -> Device | None:
        """`current`, or None where there is no usable GPU."""
        try:
            return cls.current()
        except DeviceError as error:
            _logger.debug("%s", error)
            return None

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """While the block runs, the device is the calling thread's current one."""
        call("cuCtxPushCurrent", self.context)
        try:
            yield
        finally:
            call("cuCtxPopCurrent")

    def synchronize(self) -> None:
        """Wait until all work on the device is done.

        Raises:
            DeviceError: a kernel failed, now or earlier.
        """
        with self.active():
            call("cuCtxSynchronize")

    def __str__(self) -> str:
        return f"{self.name} (compute capability {'.'.join(map(str, self.capability))})"


@functools.cache
def _device(ordinal: int) -> Device:
    """The device of that ordinal, its primary context retained until the process ends."""
    handle = call("cuDeviceGet", ordinal)

    def attribute(name: str) -> int:
        kind = getattr(driver().CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return call("cuDeviceGetAttribute", kind, handle)

    return Device(
        ordinal=ordinal,
        name=call("cuDeviceGetName", 256, handle).partition(b"\0")[0].decode(),
        capability=(attribute("COMPUTE_CAPABILITY_MAJOR"), attribute("COMPUTE_CAPABILITY_MINOR")),
        sm_count=attribute("MULTIPROCESSOR_COUNT"),
        shared_bytes=attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"),
        context=int(call("cuDevicePrimaryCtxRetain", handle)),
    )


def release(device: Device, function: str, handle: Any) -> None:
    """Free something when it is no longer used; an error (the context is gone, say) has nobody left to tell."""
    try:
        with device.active():
            call(function, handle)
    except DeviceError as error:
        _logger.debug("%s", error)


def release_with(owner: object, device: Device, function: str, handle: Any) -> None:
    """Free something together with its Python owner, or at the process's end along with everything else."""
    weakref.finalize(owner, release, device, function, handle).atexit = False


@dataclass(frozen=True, eq=False)
class DeviceArray:
    """A dense, C-contiguous array in GPU memory, which is freed with it unless another library's array owns it.

    CuPy, torch and Numba read it in place through `__cuda_array_interface__`.
    """

    device: Device
    address: int
    shape: tuple[int, ...]
    dtype: np.dtype
    owner: object = field(default=None, repr=False)  # whose memory it is, if another library's

    @classmethod
    def empty(cls, shape: tuple[int, ...], dtype: np.dtype, device: Device | None = None) -> DeviceArray:
        """A new array with undefined contents.

        Raises:
            DeviceError: no GPU, or out of memory.
        """
        device = device or Device.current()
        n_bytes = math.prod(shape) * dtype.itemsize
        with device.active():
            try:
                address = int(call("cuMemAlloc", max(n_bytes, 1)))
            except DeviceError as error:
                raise DeviceError(f"cannot allocate {n_bytes:,} bytes on {device.name}: {error}") from None
        array = cls(device, address, shape, dtype)
        release_with(array, device, "cuMemFree", address)
        return array

    @classmethod
    def from_numpy(cls, array: np.ndarray, device: Device | None = None) -> DeviceArray:
        """A copy of a numpy array.

        Raises:
            DeviceError: no GPU, or out of memory.
        """
        array = np.asarray(array, order="C")
        copy = cls.empty(array.shape, array.dtype, device)
        with copy.device.active():
            call("cuMemcpyHtoD", copy.address, array.ctypes.data, copy.nbytes)
            call("cuStreamSynchronize", LEGACY_STREAM)  # the last part may still be under way
        return copy

    @classmethod
    def share(cls, array: Any, name: str = "array") -> DeviceArray:
        """The memory of another library's array, taken through `__cuda_array_interface__` and kept alive.

        Work that the array's library queued on a stream of its own is waited for.

        Raises:
            InputError: it is not a dense, C-contiguous array in GPU memory; the message starts with `name`.
            DeviceError: no GPU.
        """
        if isinstance(array, DeviceArray):
            return array
        interface = getattr(array, "__cuda_array_interface__", None)
        if interface is None:
            raise InputError(f"{name} must have __cuda_array_interface__, got {type(array).__name__}")
        dtype = _dtype(interface["typestr"])
        shape = tuple(interface["shape"])
        if interface.get("mask") is not None or interface.get("strides") not in (None, _strides(shape, dtype)):
            raise InputError(f"{name} must be a dense, C-contiguous array without a mask: copy it first")
        address = int(interface["data"][0])
        device = _device_of(address) if address else Device.current()  # an empty array may have no address
        stream = interface.get("stream")
        if stream not in (None, _INTERFACE_LEGACY_STREAM):
            with device.active():
                call("cuStreamSynchronize", stream)
        return cls(device, address, shape, dtype, array)

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def view(self, dtype: Any) -> DeviceArray:
        """The same memory read as another type of the same size."""
        return replace(self, dtype=np.dtype(dtype), owner=self)

    def numpy(self) -> np.ndarray:
        """A copy in host memory, once all work on the device is done.

        Raises:
            DeviceError: a kernel failed, now or earlier.
        """
        copy = np.empty(self.shape, self.dtype)
        self.device.synchronize()
        with self.device.active():
            call("cuMemcpyDtoH", copy.ctypes.data, self.address, self.nbytes)
        return copy

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """A copy in host memory, as numpy asks for it."""
        return self.numpy() if dtype is None else self.numpy().astype(dtype)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3 of the protocol; bf16, which has no name there, is `<V2`, as torch has it."""
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "stream": _INTERFACE_LEGACY_STREAM,
        }


def _dtype(typestr: str) -> np.dtype:
    return numpy_dtype("bf16") if typestr.endswith("V2") else np.dtype(typestr)


def _strides(shape: tuple[int, ...], dtype: np.dtype) -> tuple[int, ...]:
    return tuple(math.prod(shape[i + 1 :]) * dtype.itemsize for i in range(len(shape)))


def _device_of(address: int) -> Device:
    attribute = driver().CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    with Device.current().active():
        return _device(call("cuPointerGetAttribute", attribute, address))


class Module:
    """Kernels on a device, loaded from a cubin, or from PTX that the driver compiles."""

    def __init__(self, image: bytes, device: Device | None = None) -> None:
        """Load the image.

        Raises:
            DeviceError: the driver refuses it, or there is no GPU.
        """
        self.device = device or Device.current()
        with self.device.active():
            # PTX ends at a zero byte; a cubin knows its own length.
            self._handle = call("cuModuleLoadDataEx", image + b"\0", 0, [], [])
        release_with(self, self.device, "cuModuleUnload", self._handle)

    def kernel(self, name: str, shared_bytes: int = 0) -> Any:
        """The driver's handle of a kernel, allowed to be launched with that much dynamic shared memory.

        Raises:
            BundleError: there is no such kernel, or it needs more shared memory than the device has.
        """
        if shared_bytes > self.device.shared_bytes:
            raise BundleError(
                f"kernel '{name}' needs {shared_bytes:,} bytes of shared memory, {self.device} has "
                f"{self.device.shared_bytes:,}: recompile with target='auto'"
            )
        with self.device.active():
            try:
                function = call("cuModuleGetFunction", self._handle, name.encode())
            except DeviceError as error:
                raise BundleError(f"the image has no kernel '{name}' ({error}): recompile") from None
            if shared_bytes > _DEFAULT_SHARED_BYTES:
                attribute = driver().CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                call("cuFuncSetAttribute", function, attribute, shared_bytes)
        return function
