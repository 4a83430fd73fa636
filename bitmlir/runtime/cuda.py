"""Running a bundle on an NVIDIA GPU: picking its image, binding its buffers, queueing the plan's steps, timing them.

Work is queued on the legacy default stream unless a stream is given.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import functools
import logging
import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from bitmlir.dialects.errors import BundleError, DeviceError, InputError
from bitmlir.runtime.buffers import complete_buffers, new_array_hint, read_only_error, require_type
from bitmlir.runtime.bundle import Bundle
from bitmlir.runtime.driver import Device, DeviceArray, Module, call, check, driver, release, release_with
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.runtime.libraries import LEGACY_STREAM
from bitmlir.runtime.memory import arena_bytes, buffer_bytes
from bitmlir.runtime.plan import ONE_BLOCK, Buffer, Launch, Memset, Plan, Step, TensorMap

if TYPE_CHECKING:
    import numpy as np

__all__ = ["BoundProgram", "CudaProgram", "Device", "DeviceArray", "Graph", "choose_image"]

_logger = logging.getLogger("bitmlir")

_LEAST_BLOCKS = 8  # of a persistent kernel, on however small a part of a device
_ALIGNMENT = 16  # kernels load 16 bytes at a time, and tensor maps start at multiples of it

_TENSOR_MAP_BYTES = 128
_TENSOR_MAP_ALIGNMENT = 128  # the driver asks for 64; its header says 128 since CUDA 13

_Prepared = tuple[str, Callable[[Any], Any]]
"""A driver function, and its call on a stream's handle, which returns a tuple of the status."""

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
        """Load the bundle's image and constants on the device (default: the current one), and do what depends on these
        alone.

        Raises:
            BundleError: the bundle is for another kind of GPU, or holds constants that cannot be read.
            DeviceError: no GPU, out of memory, or the driver refuses the image.
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
        self._fixed = self._fix(bundle.constant_arrays())

    def _fix(self, constants: Mapping[str, np.ndarray]) -> dict[str, DeviceArray]:
        """The buffers that hold the same in every run, filled."""
        made = self.plan.fixed_buffers - constants.keys()
        fixed = {name: DeviceArray.from_numpy(array, self.device) for name, array in constants.items()}
        fixed |= {name: self._new(self.plan.buffer(name)) for name in made}
        if self.plan.setup:
            with self.device.active():
                _queue_steps([self._prepare(step, fixed) for step in self.plan.setup], LEGACY_STREAM)
            self.device.synchronize()  # runs may come on streams that do not wait for this one
        return fixed

    def _new(self, buffer: Buffer) -> DeviceArray:
        return DeviceArray.empty(buffer.shape, numpy_dtype(buffer.dtype), self.device)

    def bind(self, buffers: Mapping[str, DeviceArray]) -> BoundProgram:
        """The program on these buffers, by the names of the plan; results that are not given, and scratch, are new.

        Raises:
            InputError: an argument's buffer is missing, a name is unknown, an array does not fit its buffer, or one
                that is written overlaps another.
            DeviceError: out of memory; nothing was run and nothing stays allocated.
        """

        def require(buffer: Buffer, array: DeviceArray, is_written: bool) -> None:
            _require_fit(buffer, array, self.device, is_written)

        try:
            bound = complete_buffers(
                self.plan,
                buffers,
                self._fixed,
                require=require,
                address=lambda array: array.address,
                new=self._new,
                part=_part,
            )
        except DeviceError as error:
            present = {*buffers, *self._fixed}
            apart = (b for b in self.plan.buffers if b.name not in present and b.offset is None)
            needed = arena_bytes(self.plan) + sum(map(buffer_bytes, apart))
            raise DeviceError(
                f"'{self.plan.name}' needs {needed:,} bytes on the GPU beside what it was given: {error}"
            ) from None
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

    def _prepare(self, step: Step, buffers: Mapping[str, DeviceArray]) -> _Prepared:
        """The step, with everything that does not change from run to run done."""
        cuda = driver()
        if isinstance(step, Memset):
            address, size = buffers[step.buffer].address, buffers[step.buffer].nbytes
            return "cuMemsetD8Async", lambda stream: cuda.cuMemsetD8Async(address, 0, size, stream)
        parameters = _Parameters([_parameter(argument, buffers) for argument in step.arguments])
        kernel = self._module.kernel(step.kernel, step.shared_bytes)
        grid = step.grid if step.persistent is None else step.grid_for(self._at_once(step, step.persistent, kernel))
        if step.cluster == ONE_BLOCK and not step.overlap_previous:
            launch = (kernel, *grid, *step.block, step.shared_bytes)
            return "cuLaunchKernel", lambda stream: cuda.cuLaunchKernel(*launch, stream, parameters.address, 0)
        config = _launch_config(step, grid)

        def launch_with_attributes(stream: Any) -> Any:
            config.hStream = stream
            return cuda.cuLaunchKernelEx(config, kernel, parameters.address, 0)

        return "cuLaunchKernelEx", launch_with_attributes

    def _at_once(self, launch: Launch, persistent: int, kernel: Any) -> int:
        """How many clusters of a launch the device runs at once; only the driver knows where they find room."""
        if launch.cluster == ONE_BLOCK:
            # Each column of tiles may need a block of its own; those that find no room run after others.
            return max(persistent * self.device.sm_count, _LEAST_BLOCKS)
        return call("cuOccupancyMaxActiveClusters", kernel, _launch_config(launch, launch.grid))


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

    def graph(self, runs: int = 1) -> Graph:
        """So many runs, recorded as a CUDA graph.

        Raises:
            DeviceError: the driver reported an error.
        """
        return Graph(self._program.device, functools.partial(self._queue, runs=runs))

    def alone(self, number: int) -> BoundProgram:
        """One step of the program, on the same buffers."""
        part = copy.copy(self)
        part._steps = [self._steps[number]]
        return part

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
            stream = own(_new_stream(), "cuStreamDestroy")
            start, stop = (own(call("cuEventCreate", 0), "cuEventDestroy") for _ in range(2))
            queue = self.graph(runs).launch if graph else functools.partial(self._queue, runs=runs)

            def measure() -> float:
                call("cuEventRecord", start, stream)
                queue(stream)
                call("cuEventRecord", stop, stream)
                call("cuEventSynchronize", stop)
                return call("cuEventElapsedTime", start, stop) * 1e-3 / runs

            return [measure() for _ in range(warmup + repeats)][warmup:]

    def _queue(self, stream: Any, runs: int = 1) -> None:
        for _ in range(runs):
            _queue_steps(self._steps, stream)


def _queue_steps(steps: list[_Prepared], stream: Any) -> None:
    for function, queue in steps:
        (status,) = queue(stream)
        check(function, status)


class Graph:
    """Work recorded as one CUDA graph, runs of a bound program say: the driver is called once for all its launches.

    It holds the addresses of the buffers, and reads and writes what they then hold.
    """

    def __init__(self, device: Device, queue: Callable[[Any], None]) -> None:
        """Record what `queue(stream)` puts on the stream.

        Raises:
            DeviceError: the driver reported an error.
        """
        self._device, self._queue = device, queue  # which keeps kernels and buffers
        with self._device.active(), contextlib.ExitStack() as stack:
            stream = _new_stream()  # the legacy default one cannot be recorded
            stack.callback(release, self._device, "cuStreamDestroy", stream)
            recorded = _record(stream, queue)
            stack.callback(release, self._device, "cuGraphDestroy", recorded)
            self._handle = call("cuGraphInstantiate", recorded, 0)
        release_with(self, self._device, "cuGraphExecDestroy", self._handle)

    def run(self, stream: Any = None) -> None:
        """Queue the recorded work on a stream (see `BoundProgram.run`).

        Raises:
            InputError: `stream` is none.
            DeviceError: the driver reported an error.
        """
        with self._device.active():
            self.launch(_stream_handle(stream))

    def launch(self, stream: Any) -> None:
        """As `run`, on a handle and with the device current already."""
        call("cuGraphLaunch", self._handle, stream)


def _new_stream() -> Any:
    """A stream that waits for no other."""
    return call("cuStreamCreate", driver().CUstream_flags.CU_STREAM_NON_BLOCKING.value)


def _record(stream: Any, queue: Callable[[Any], None]) -> Any:
    """A CUDA graph of what `queue` puts on the stream."""
    # Relaxed: memory that Python happens to free meanwhile must not spoil the recording.
    call("cuStreamBeginCapture", stream, driver().CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED)
    try:
        queue(stream)
    finally:
        graph = call("cuStreamEndCapture", stream)
    return graph


def _launch_config(launch: Launch, grid: tuple[int, int, int]) -> Any:
    """A launch of that grid with attributes, but for its stream (CUDA driver API: cuLaunchKernelEx)."""
    cuda = driver()
    config, attributes = cuda.CUlaunchConfig(), []
    config.gridDimX, config.gridDimY, config.gridDimZ = grid
    config.blockDimX, config.blockDimY, config.blockDimZ = launch.block
    config.sharedMemBytes = launch.shared_bytes
    if launch.cluster != ONE_BLOCK:
        cluster = cuda.CUlaunchAttribute()
        cluster.id = cuda.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
        size = cluster.value.clusterDim
        size.x, size.y, size.z = launch.cluster
        attributes.append(cluster)
    if launch.overlap_previous:
        overlap = cuda.CUlaunchAttribute()
        overlap.id = cuda.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
        overlap.value.programmaticStreamSerializationAllowed = 1
        attributes.append(overlap)
    config.attrs, config.numAttrs = attributes, len(attributes)
    return config


class _Parameters:
    """A kernel's parameters as a launch takes them: `address` of an array of pointers to the values."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values  # they must stay where the pointers say
        self._pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        self.address = ctypes.addressof(self._pointers)


def _parameter(argument: str | TensorMap, buffers: Mapping[str, DeviceArray]) -> Any:
    if isinstance(argument, TensorMap):
        array = buffers[argument.buffer]
        return _tensor_map(array if argument.shape is None else array.reshape(argument.shape), argument)
    return ctypes.c_uint64(buffers[argument].address)


def _tensor_map(array: DeviceArray, map_: TensorMap) -> Any:
    """The descriptor of an array, which a kernel takes by value (PTX ISA, "Tensor-map")."""
    storage = bytearray(_TENSOR_MAP_BYTES + _TENSOR_MAP_ALIGNMENT)
    start = ctypes.addressof(ctypes.c_byte.from_buffer(storage))
    descriptor = (ctypes.c_byte * _TENSOR_MAP_BYTES).from_buffer(storage, -start % _TENSOR_MAP_ALIGNMENT)
    encode = _encode_boxes if map_.window is None else _encode_window
    function, status = encode(ctypes.addressof(descriptor), array, map_)
    check(f"{function} of {array.shape} in boxes {map_.box}", driver().CUresult(status))
    return descriptor


def _encode_boxes(descriptor: int, array: DeviceArray, map_: TensorMap) -> tuple[str, int]:
    """The descriptor of an array that is read or written in boxes. They have the sizes of the last dimensions first; an
    array of fewer dimensions has leading ones of 1."""
    rank, function = len(map_.box), "cuTensorMapEncodeTiled"
    sizes = [*reversed(array.shape), *[1] * (rank - len(array.shape))]
    shape = _tensor_map_shape(array, sizes)
    boxes = ((ctypes.c_uint32 * rank)(*map_.box), (ctypes.c_uint32 * rank)(*[1] * rank))
    encode = _tensor_map_encoder(function, [ctypes.c_void_p, ctypes.c_void_p])
    return function, encode(descriptor, *shape, *boxes, *_tensor_map_modes(array, map_))


def _encode_window(descriptor: int, array: DeviceArray, map_: TensorMap) -> tuple[str, int]:
    """The descriptor of planes of images, read as a window sees them. Corners bound where its first tap may lie."""
    window, function = map_.window, "cuTensorMapEncodeIm2col"
    assert window is not None
    axes, (words, places) = (window.columns, window.rows), map_.box
    planes, pixels, pixel_words = array.shape
    images = planes * pixels // window.pixels
    shape = _tensor_map_shape(array, [pixel_words, *(axis.size for axis in axes), images])
    lower, upper = ([-axis.before for axis in axes], [axis.after - axis.reach + 1 for axis in axes])
    corners = [(ctypes.c_int * 2)(*corner) for corner in (lower, upper)]
    strides = (ctypes.c_uint32 * 4)(1, *(axis.stride for axis in axes), 1)
    boxes = (ctypes.c_uint32(words), ctypes.c_uint32(places))
    kinds = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p]
    encode = _tensor_map_encoder(function, kinds)
    return function, encode(descriptor, *shape, *corners, *boxes, strides, *_tensor_map_modes(array, map_))


def _tensor_map_shape(array: DeviceArray, sizes: list[int]) -> tuple[Any, ...]:
    """Type, rank, address, sizes and strides, as encoders take them; sizes are those of the last dimension first."""
    rank, size = len(sizes), array.dtype.itemsize
    strides = [size * math.prod(sizes[:axis]) for axis in range(1, rank)]
    return (
        getattr(driver().CUtensorMapDataType, f"CU_TENSOR_MAP_DATA_TYPE_UINT{8 * size}").value,
        rank,
        array.address,
        (ctypes.c_uint64 * rank)(*sizes),
        (ctypes.c_uint64 * (rank - 1))(*strides),
    )


def _tensor_map_modes(array: DeviceArray, map_: TensorMap) -> tuple[int, ...]:
    """Interleaving, swizzle, how much L2 fetches, and what lies outside an array, as encoders take them."""
    cuda, width = driver(), map_.box[0] * array.dtype.itemsize
    swizzle = "NONE" if width == _ALIGNMENT else f"{width}B"
    return (
        cuda.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE.value,
        getattr(cuda.CUtensorMapSwizzle, f"CU_TENSOR_MAP_SWIZZLE_{swizzle}").value,
        cuda.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B.value,
        cuda.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE.value,
    )


def _tensor_map_encoder(function: str, boxes: list[Any]) -> Any:
    """One of the driver's functions that encode tensor maps, by the types of what it takes about boxes.

    cuda-python's own wrappers write into a Python object, which does not lie at the multiple of 64 bytes that the
    driver asks for.
    """
    shape = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, *[ctypes.c_void_p] * 3]
    return ctypes.CFUNCTYPE(ctypes.c_int, *shape, *boxes, *[ctypes.c_int] * 4)(_driver_function(function))


@functools.cache
def _driver_function(name: str) -> int:
    """The address of a function of the driver."""
    since_cuda = 12000
    address, _ = call("cuGetProcAddress", name.encode(), since_cuda, 0)
    if not address:
        raise DeviceError(f"the NVIDIA driver has no {name}: update it")
    return address


def _require_fit(buffer: Buffer, array: DeviceArray, device: Device, is_written: bool) -> None:
    require_type(buffer, array, is_written)
    if array.device.ordinal != device.ordinal:
        raise InputError(
            f"buffer {buffer.name} is on GPU {array.device.ordinal}, the program on GPU {device.ordinal}: copy it "
            f"there (torch: x.to('cuda:{device.ordinal}')), or load the program anew while GPU {array.device.ordinal} "
            f"is the current one"
        )
    if array.address % _ALIGNMENT:
        remedy = new_array_hint(buffer) if is_written else "copy it first (torch: x.clone(), CuPy: x.copy())"
        raise InputError(
            f"buffer {buffer.name} must start at a multiple of {_ALIGNMENT} bytes, but starts at {array.address:#x}: "
            f"{remedy}"
        )
    if is_written and array.read_only:
        raise read_only_error(buffer)


def _part(arena: DeviceArray, buffer: Buffer) -> DeviceArray:
    """Where a buffer lies in the memory that scratch shares."""
    address, dtype = arena.address + (buffer.offset or 0), numpy_dtype(buffer.dtype)
    return DeviceArray(arena.device, address, buffer.shape, dtype, owner=arena)


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
