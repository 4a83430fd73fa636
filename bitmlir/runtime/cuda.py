"""Running a bundle on an NVIDIA GPU: picking its image, binding its buffers, queueing the plan's steps, timing them.

Work is queued on the legacy default stream unless a stream is given.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

from bitmlir.dialects.errors import BundleError, DeviceError, InputError
from bitmlir.runtime.bundle import Bundle
from bitmlir.runtime.driver import LEGACY_STREAM, Device, DeviceArray, Module, call, check, driver, release
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.runtime.plan import Buffer, Memset, Plan, Step, TensorMap

__all__ = ["BoundProgram", "CudaProgram", "Device", "DeviceArray", "choose_image"]

_logger = logging.getLogger("bitmlir")

_ALIGNMENT = 16  # kernels load 16 bytes at a time, and tensor maps start at multiples of it

_TENSOR_MAP_BYTES = 128
_TENSOR_MAP_ALIGNMENT = 128  # the driver asks for 64; its header says 128 since CUDA 13

_TARGET = re.compile(r"sm_(\d+)(\d)(a?)")
_GPU_CLASS = {(9, 0): "an H100/H200-class GPU", (10, 0): "a B200-class GPU"}


def choose_image(bundle: Bundle, device: Device) -> str:
    """Which stage of the bundle the device runs: `cubin`, or `ptx` for its driver to compile.

    A cubin for sm_XY runs on X.Y and later minors of X; PTX for sm_XY on X.Y and anything later; either for sm_XYa on
    X.Y alone (CUDA C++ Programming Guide, "Compute Capabilities", and PTX ISA, `.target`).

    Raises:
        BundleError: the device can run neither.
    """
    target = bundle.plan.target
    match = _TARGET.fullmatch(target)
    if match is None:
        raise BundleError(f"bundle made for {target} does not run on a GPU: recompile with target='auto'")
    needed, exact = (int(match[1]), int(match[2])), bool(match[3])
    runs_ptx = device.capability == needed if exact else device.capability >= needed
    runs_cubin = runs_ptx and device.capability[0] == needed[0]
    for stage, runs in (("cubin", runs_cubin), ("ptx", runs_ptx)):
        if runs and stage in bundle.stages:
            return stage
    if runs_ptx:
        raise BundleError(f"bundle made for {target} holds no image for {device}: recompile with target='auto'")
    capability = ".".join(map(str, needed)) + ("" if exact else " or later")
    raise BundleError(
        f"bundle made for {target} needs {_GPU_CLASS.get(needed, 'a GPU') if exact else 'a GPU'} "
        f"(compute capability {capability}); this device is {device}: recompile with target='auto'"
    )


class CudaProgram:
    """A bundle loaded on a GPU.

    Attributes:
        plan: what it runs.
        device: where it runs.
    """

    def __init__(self, bundle: Bundle, device: Device | None = None) -> None:
        """Load the bundle's image on the device (default: the current one).

        Raises:
            BundleError: the bundle is for another kind of GPU.
            DeviceError: no GPU, or the driver refuses the image.
        """
        self.plan: Plan = bundle.plan
        self.device: Device = device or Device.current()
        stage = choose_image(bundle, self.device)
        if stage == "ptx":
            _logger.warning(
                "program '%s' was made for %s: the driver recompiles its PTX for %s",
                self.plan.name,
                self.plan.target,
                self.device,
            )
        self._module = Module(bundle.stages[stage], self.device)

    def bind(self, buffers: Mapping[str, DeviceArray]) -> BoundProgram:
        """The program on these buffers, by the names of the plan; results that are not given, and scratch, are new.

        Raises:
            InputError: an argument's buffer is missing, a name is unknown, or an array does not fit its buffer.
            DeviceError: out of memory.
        """
        arguments = {name for value in self.plan.arguments for name in value.buffers.values()}
        known = {buffer.name for buffer in self.plan.buffers}
        if missing := arguments - buffers.keys():
            raise InputError(f"no array given for buffer {', '.join(sorted(missing))}")
        if unknown := buffers.keys() - known:
            raise InputError(f"unknown buffer {', '.join(sorted(unknown))}: expected {', '.join(sorted(known))}")
        bound: dict[str, DeviceArray] = {}
        for buffer in self.plan.buffers:
            if array := buffers.get(buffer.name):
                _require_fit(buffer, array, self.device)
            else:
                array = DeviceArray.empty(buffer.shape, numpy_dtype(buffer.dtype), self.device)
            bound[buffer.name] = array
        return BoundProgram(self, bound)

    def run(self, buffers: Mapping[str, DeviceArray], stream: Any = None) -> dict[str, DeviceArray]:
        """Bind and run once; every buffer by name, results included. Returns before the GPU is done.

        Raises:
            InputError: as `bind`.
            DeviceError: out of memory, or the driver reported an error.
        """
        bound = self.bind(buffers)
        bound.run(stream)
        return bound.buffers

    def _prepare(self, step: Step, buffers: Mapping[str, DeviceArray]) -> Callable[[Any], None]:
        """The step as a function of a stream's handle. Everything that does not change from run to run is done here."""
        if isinstance(step, Memset):
            array = buffers[step.buffer]
            return lambda stream: call("cuMemsetD8Async", array.address, 0, array.nbytes, stream)
        parameters = _Parameters([_parameter(argument, buffers) for argument in step.arguments])
        kernel = self._module.kernel(step.kernel, step.shared_bytes)
        launch = (kernel, *step.grid, *step.block, step.shared_bytes)
        return lambda stream: call("cuLaunchKernel", *launch, stream, parameters.address, 0)


class BoundProgram:
    """A program with all its buffers on the GPU, prepared to run again and again.

    Attributes:
        buffers: every buffer of the plan by name: arguments, results, scratch.
    """

    def __init__(self, program: CudaProgram, buffers: dict[str, DeviceArray]) -> None:
        """Made by `CudaProgram.bind`."""
        self.buffers = buffers
        self._program = program  # keeps the kernels loaded
        with program.device.active():
            self._steps = [program._prepare(step, buffers) for step in program.plan.steps]

    def run(self, stream: Any = None) -> None:
        """Queue one run on a stream: None for the legacy default one, a handle, or anything with `__cuda_stream__`.

        Raises:
            InputError: `stream` is none of these.
            DeviceError: the driver reported an error.
        """
        with self._program.device.active():
            self._queue(_stream_handle(stream))

    def synchronize(self) -> None:
        """Wait until all runs are done.

        Raises:
            DeviceError: a kernel failed, now or earlier.
        """
        self._program.device.synchronize()

    def time(self, repeats: int = 20, warmup: int = 3, runs: int = 10, graph: bool = True) -> list[float]:
        """Seconds that one run takes on the GPU, measured `repeats` times.

        Each is the time between two events round `runs` runs, divided by `runs`. With `graph` these runs are one CUDA
        graph, so that what it takes the host to queue them does not count.

        Raises:
            DeviceError: the driver reported an error.
        """
        device = self._program.device
        with device.active(), contextlib.ExitStack() as stack:

            def own(handle: Any, destroy: str) -> Any:
                stack.callback(release, device, destroy, handle)
                return handle

            call("cuCtxSynchronize")  # the new stream does not wait for what other streams still do
            stream = own(
                call("cuStreamCreate", driver().CUstream_flags.CU_STREAM_NON_BLOCKING.value), "cuStreamDestroy"
            )
            start, stop = (own(call("cuEventCreate", 0), "cuEventDestroy") for _ in range(2))
            queue = functools.partial(self._queue, stream, runs)
            if graph:
                recorded = own(_record(stream, queue), "cuGraphDestroy")
                replay = own(call("cuGraphInstantiate", recorded, 0), "cuGraphExecDestroy")
                queue = functools.partial(call, "cuGraphLaunch", replay, stream)

            def measure() -> float:
                call("cuEventRecord", start, stream)
                queue()
                call("cuEventRecord", stop, stream)
                call("cuEventSynchronize", stop)
                return call("cuEventElapsedTime", start, stop) * 1e-3 / runs

            return [measure() for _ in range(warmup + repeats)][warmup:]

    def _queue(self, stream: Any, runs: int = 1) -> None:
        for _ in range(runs):
            for step in self._steps:
                step(stream)


def _record(stream: Any, queue: Callable[[], None]) -> Any:
    """A CUDA graph of what `queue` puts on the stream."""
    # Relaxed: memory that Python happens to free meanwhile must not spoil the recording.
    call("cuStreamBeginCapture", stream, driver().CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED)
    try:
        queue()
    finally:
        graph = call("cuStreamEndCapture", stream)
    return graph


class _Parameters:
    """A kernel's parameters as a launch takes them: `address` of an array of pointers to the values."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values  # they must stay where the pointers say
        self._pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        self.address = ctypes.addressof(self._pointers)


def _parameter(argument: str | TensorMap, buffers: Mapping[str, DeviceArray]) -> Any:
    if isinstance(argument, TensorMap):
        return _tensor_map(buffers[argument.buffer], argument.box)
    return ctypes.c_uint64(buffers[argument].address)


def _tensor_map(array: DeviceArray, box: tuple[int, int, int]) -> Any:
    """The descriptor of 32-bit words [planes][rows][words], which a kernel takes by value (PTX ISA, "Tensor-map").

    128-byte swizzle; the part of a box outside the array reads as 0.
    """
    cuda = driver()
    planes, rows, words = array.shape
    row_bytes = words * array.dtype.itemsize
    storage = bytearray(_TENSOR_MAP_BYTES + _TENSOR_MAP_ALIGNMENT)
    start = ctypes.addressof(ctypes.c_byte.from_buffer(storage))
    descriptor = (ctypes.c_byte * _TENSOR_MAP_BYTES).from_buffer(storage, -start % _TENSOR_MAP_ALIGNMENT)
    status = _tensor_map_encoder()(
        ctypes.addressof(descriptor),
        cuda.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_UINT32.value,
        3,
        array.address,
        (ctypes.c_uint64 * 3)(words, rows, planes),
        (ctypes.c_uint64 * 2)(row_bytes, rows * row_bytes),
        (ctypes.c_uint32 * 3)(*box),
        (ctypes.c_uint32 * 3)(1, 1, 1),
        cuda.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE.value,
        cuda.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B.value,
        cuda.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B.value,
        cuda.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE.value,
    )
    check(f"cuTensorMapEncodeTiled of {array.shape} in boxes {box}", cuda.CUresult(status))
    return descriptor


@functools.cache
def _tensor_map_encoder() -> Any:
    """The driver's cuTensorMapEncodeTiled.

    cuda-python's own wrapper writes into a Python object, which does not lie at the multiple of 64 bytes that the
    driver asks for.
    """
    since_cuda = 12000
    address = call("cuGetProcAddress", b"cuTensorMapEncodeTiled", since_cuda, 0)
    if not address:
        raise DeviceError("the NVIDIA driver has no cuTensorMapEncodeTiled: update it")
    pointers = [ctypes.c_void_p] * 5
    enums = [ctypes.c_int] * 4
    return ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, *pointers, *enums)(address)


def _require_fit(buffer: Buffer, array: DeviceArray, device: Device) -> None:
    expected = numpy_dtype(buffer.dtype)
    same_bits = array.dtype.kind in "iu" and expected.kind in "iu" and array.dtype.itemsize == expected.itemsize
    if array.shape != buffer.shape or not (array.dtype == expected or same_bits):
        raise InputError(
            f"buffer {buffer.name} must be {expected} of shape {buffer.shape}, got {array.dtype} of shape {array.shape}"
        )
    if array.device.ordinal != device.ordinal:
        raise InputError(f"buffer {buffer.name} is on GPU {array.device.ordinal}, the program on GPU {device.ordinal}")
    if array.address % _ALIGNMENT:
        raise InputError(f"buffer {buffer.name} must start at a multiple of {_ALIGNMENT} bytes: copy it first")


def _stream_handle(stream: Any) -> int:
    if stream is None:
        return LEGACY_STREAM
    if isinstance(stream, int):
        return stream
    if hasattr(stream, "__cuda_stream__"):
        _version, handle = stream.__cuda_stream__()
        return int(handle)
    raise InputError(
        f"stream must be None, a handle (torch: stream.cuda_stream, CuPy: stream.ptr) or have __cuda_stream__, "
        f"got {type(stream).__name__}"
    )
