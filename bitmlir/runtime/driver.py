"""The CUDA driver: devices, arrays in their memory, and loaded kernels.

Everything goes through `cuda.bindings.driver` of cuda-python, which is loaded when a device is first asked for.
"""

from __future__ import annotations

import functools
import importlib
import logging
import math
import weakref
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bitmlir.dialects.errors import BitmlirError, BundleError, DeviceError, InputError, ShapeError
from bitmlir.runtime import dlpack
from bitmlir.runtime.buffers import is_dense
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.runtime.libraries import LEGACY_STREAM, library_of, stream_of

__all__ = ["Device", "DeviceArray", "Module", "call", "check", "driver", "release", "release_with"]

_logger = logging.getLogger("bitmlir")

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
    """Call a driver function by name; what it returns beside the status: nothing, a value, or a list of them.

    Raises:
        DeviceError: the driver reported an error, or there is no driver.
    """
    try:
        status, *results = getattr(driver(), function)(*arguments)
    except RuntimeError as error:  # cuda-python found no driver, or one too old to have the function
        raise DeviceError(f"no usable NVIDIA driver: {error}") from None
    check(function, status)
    return results if len(results) > 1 else results[0] if results else None


def check(function: str, status: Any) -> None:
    """Check the status that a driver function returned.

    Raises:
        DeviceError: it is not success; the message has the error's name and description.
    """
    if status != 0:  # CUDA_SUCCESS; this runs at every launch
        _, text = driver().cuGetErrorString(status)
        raise DeviceError(f"{function} failed: {status.name} ({text.decode() if text else 'no description'})")


@functools.cache
def _initialize() -> None:
    driver()
    try:
        call("cuInit", 0)
    except DeviceError as error:
        raise DeviceError(f"no usable GPU ({error}): compile with target='cpu' to run without one") from None


class _Active:
    """A class, not a generator: every launch passes here, and this takes a third of the time."""

    def __init__(self, context: int) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._is_pushed = int(call("cuCtxGetCurrent")) != self._context
        if self._is_pushed:
            call("cuCtxPushCurrent", self._context)

    def __exit__(self, *_: object) -> None:
        if self._is_pushed:
            call("cuCtxPopCurrent")


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

    def active(self) -> _Active:
        """A context manager: while its block runs, the device is the calling thread's current one."""
        return _Active(self.context)

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

    Other libraries read it in place through DLPack (torch, CuPy, JAX) or `__cuda_array_interface__` (CuPy, Numba), in
    order with what was queued on the legacy default stream.
    """

    device: Device
    address: int
    shape: tuple[int, ...]
    dtype: np.dtype
    owner: object = field(default=None, repr=False)  # whose memory it is, if another library's
    read_only: bool = False

    @classmethod
    def empty(cls, shape: tuple[int, ...], dtype: np.dtype, device: Device | None = None) -> DeviceArray:
        """A new array with undefined contents.

        Raises:
            DeviceError: no GPU, or out of memory; the message has the bytes needed and those free.
        """
        device = device or Device.current()
        n_bytes = math.prod(shape) * dtype.itemsize
        with device.active():
            try:
                address = int(call("cuMemAlloc", max(n_bytes, 1)))
            except DeviceError as error:
                raise DeviceError(
                    f"cannot allocate {n_bytes:,} bytes on {device.name}, which has {_free_memory()}: {error}"
                ) from None
        array = cls(device, address, shape, dtype)
        release_with(array, device, "cuMemFree", address)
        return array

    @classmethod
    def from_numpy(cls, array: np.ndarray, device: Device | None = None) -> DeviceArray:
        """A copy of a numpy array.

        Raises:
            DeviceError: no GPU, or out of memory.
        """
        copy = cls.empty(array.shape, array.dtype, device)
        copy.copy_from(array)
        return copy

    @classmethod
    def share(cls, array: Any, name: str = "array", stream: int = LEGACY_STREAM) -> DeviceArray:
        """The memory of another library's array, kept alive; taken by `__cuda_array_interface__` or DLPack.

        stream: the one that is going to use it. What the array's library has queued on another one is waited for.

        Raises:
            InputError: it is not a dense, C-contiguous array in GPU memory; the message starts with `name`.
            DeviceError: no GPU.
        """
        shared = array if isinstance(array, DeviceArray) else _borrow(array, name)
        source = stream_of(array)
        if source != stream:
            with shared.device.active():
                call("cuStreamSynchronize", source)
        return shared

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def view(self, dtype: Any) -> DeviceArray:
        """The same memory read as another type of the same size."""
        return replace(self, dtype=np.dtype(dtype), owner=self)

    def reshape(self, shape: tuple[int, ...]) -> DeviceArray:
        """The same memory as an array of another shape with as many elements."""
        if math.prod(shape) != math.prod(self.shape):
            raise ShapeError(f"an array of shape {self.shape} cannot have the shape {shape}")
        return replace(self, shape=shape, owner=self)

    def numpy(self) -> np.ndarray:
        """A copy in host memory, once all work on the device is done.

        Raises:
            DeviceError: a kernel failed, now or earlier.
        """
        copy = np.empty(self.shape, self.dtype)
        self.copy_to(copy)
        return copy

    def copy_to(self, array: np.ndarray) -> None:
        """Copy into a C-contiguous numpy array of the same shape and element size, once all work is done.

        Raises:
            DeviceError: a kernel failed, now or earlier.
        """
        self.device.synchronize()
        with self.device.active():
            call("cuMemcpyDtoH", array.ctypes.data, self.address, self.nbytes)

    def copy_from(self, array: np.ndarray) -> None:
        """Copy a numpy array of the same shape and type into this one, after what the legacy default stream holds.

        Raises:
            DeviceError: the driver reported an error.
        """
        array = np.asarray(array, order="C")
        with self.device.active():
            call("cuMemcpyHtoD", self.address, array.ctypes.data, self.nbytes)
            call("cuStreamSynchronize", LEGACY_STREAM)  # the last part may still be under way

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
            "data": (self.address, self.read_only),
            "strides": None,
            "stream": dlpack.PROTOCOL_LEGACY_STREAM,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self.device.ordinal

    def __dlpack__(self, *, stream: int | None = None, **_: Any) -> Any:
        """A capsule with this memory. `stream` waits for the legacy one: -1 says that it need not, None is the same."""
        if stream not in (None, -1, LEGACY_STREAM, dlpack.PROTOCOL_LEGACY_STREAM):
            with self.device.active():
                _let_wait(stream)
        return dlpack.export(self.address, self.device.ordinal, self.shape, self.dtype, self)


def _let_wait(stream: int) -> None:
    """What is queued on a stream from now on begins after what the legacy default stream holds."""
    event = call("cuEventCreate", driver().CUevent_flags.CU_EVENT_DISABLE_TIMING.value)
    try:
        call("cuEventRecord", event, LEGACY_STREAM)
        call("cuStreamWaitEvent", stream, event, 0)
    finally:
        call("cuEventDestroy", event)


def _free_memory() -> str:
    """How much memory the current device has left, in words."""
    free, total = call("cuMemGetInfo")
    return f"{free:,} of {total:,} bytes free"


def _borrow(array: Any, name: str) -> DeviceArray:
    """Another library's array, in place."""
    type_name = f"{type(array).__module__}.{type(array).__qualname__}".removeprefix("builtins.")
    given = f"{name} ({type_name})"
    if callable(wait := getattr(array, "block_until_ready", None)):
        wait()  # JAX: its arrays come before their contents, and its streams are its own
    try:
        # JAX's interface lacks some types, which its DLPack has.
        interface = None if library_of(array) == "jax" else getattr(array, "__cuda_array_interface__", None)
        if interface is not None:
            address, read_only = interface["data"]
            shape, strides = tuple(interface["shape"]), interface.get("strides")
            dtype, is_masked, owner = _dtype(interface["typestr"]), interface.get("mask") is not None, array
        elif hasattr(array, "__dlpack__"):
            if (kind := int(array.__dlpack_device__()[0])) not in dlpack.CUDA_DEVICES:
                raise InputError(
                    f"{given} must lie in GPU memory, but its DLPack device is {kind}: copy it there first"
                )
            borrowed = dlpack.borrow(array.__dlpack__(stream=dlpack.PROTOCOL_LEGACY_STREAM))
            address, shape, strides, dtype = borrowed.address, borrowed.shape, borrowed.strides, borrowed.dtype
            read_only, is_masked, owner = False, False, (array, borrowed.owner)
        else:
            raise InputError(f"{given} must lie in GPU memory, and have __cuda_array_interface__ or __dlpack__")
    except BitmlirError:
        raise
    except Exception as error:  # whatever the other library raises, the user gave an array we cannot read
        raise InputError(f"{given} cannot be read in GPU memory: {error}") from error
    if is_masked or not is_dense(shape, strides, dtype.itemsize):
        raise InputError(
            f"{given} must be a dense, C-contiguous array without a mask: copy it first "
            f"(torch: x.contiguous(), CuPy: cupy.ascontiguousarray(x)), or give a new one to be written into"
        )
    device = _device_of(int(address), given) if address else Device.current()  # an empty array may have no address
    return DeviceArray(device, int(address or 0), shape, dtype, owner, bool(read_only))


def _dtype(typestr: str) -> np.dtype:
    return numpy_dtype("bf16") if typestr.endswith("V2") else np.dtype(typestr)


def _device_of(address: int, given: str) -> Device:
    """The GPU whose memory an address is in."""
    names = ("MEMORY_TYPE", "IS_MANAGED", "DEVICE_ORDINAL")
    attributes = [getattr(driver().CUpointer_attribute, f"CU_POINTER_ATTRIBUTE_{name}") for name in names]
    with Device.current().active():
        memory_type, is_managed, ordinal = call("cuPointerGetAttributes", len(attributes), attributes, address)
    if int(memory_type) != driver().CUmemorytype.CU_MEMORYTYPE_DEVICE.value and not is_managed:
        raise InputError(
            f"{given} says that it lies in GPU memory, but {address:#x} is no address there: give host arrays as numpy "
            f"arrays, or copy them to the GPU first"
        )
    return _device(int(ordinal))


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
