"""A CUDA driver made of Python: host memory stands for device memory, and a log says what was queued."""

from __future__ import annotations

import contextlib
import ctypes
import enum
import gc
import importlib
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from bitmlir.runtime import cuda, driver


class Status(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_NOT_FOUND = 500


class MemoryType(enum.IntEnum):
    CU_MEMORYTYPE_HOST = 1
    CU_MEMORYTYPE_DEVICE = 2


ATTRIBUTES = {
    "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR": 9,
    "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR": 0,
    "CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT": 132,
    "CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN": 232_448,
}
MEMORY = 1 << 20


class Names:
    """An enum of which only the names matter."""

    def __getattr__(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, value=len(name))


class FakeDriver:
    """`cuda.bindings.driver` with host memory for device memory, and a log of what is queued."""

    CUresult = Status
    CUdevice_attribute = CUfunction_attribute = CUpointer_attribute = Names()
    CUtensorMapDataType = CUtensorMapInterleave = CUtensorMapSwizzle = Names()
    CUtensorMapL2promotion = CUtensorMapFloatOOBfill = CUstream_flags = CUstreamCaptureMode = Names()
    CUlaunchAttributeID = CUevent_flags = Names()
    CUmemorytype = MemoryType
    CUlaunchConfig = SimpleNamespace

    def __init__(self) -> None:
        self.contexts: list[int] = []
        self.memory: dict[int, ctypes.Array] = {}
        self.pinned: list[int] = []  # addresses of host memory that the driver knows
        self.alive: list[str] = []  # handles made and not destroyed
        self.log: list[tuple] = []
        self.maps: list[dict] = []

        @ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_uint64] * 12)
        def encode(descriptor, dtype, rank, address, sizes, strides, box, steps, *_):
            if descriptor % 64:
                return Status.CUDA_ERROR_INVALID_VALUE
            ctypes.memmove(descriptor, b"descriptor", 10)
            self.maps.append(
                {
                    "address": address,
                    "sizes": list((ctypes.c_uint64 * rank).from_address(sizes)),
                    "strides": list((ctypes.c_uint64 * (rank - 1)).from_address(strides)),
                    "box": list((ctypes.c_uint32 * rank).from_address(box)),
                    "steps": list((ctypes.c_uint32 * rank).from_address(steps)),
                }
            )
            return Status.CUDA_SUCCESS

        @ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_uint64] * 15)
        def encode_im2col(descriptor, _type, rank, address, sizes, strides, lower, upper, words, places, steps, *modes):
            ctypes.memmove(descriptor, b"descriptor", 10)
            self.maps.append(
                {
                    "address": address,
                    "sizes": list((ctypes.c_uint64 * rank).from_address(sizes)),
                    "strides": list((ctypes.c_uint64 * (rank - 1)).from_address(strides)),
                    "lower": list((ctypes.c_int * (rank - 2)).from_address(lower)),
                    "upper": list((ctypes.c_int * (rank - 2)).from_address(upper)),
                    "box": [number & 0xFFFFFFFF for number in (words, places)],
                    "steps": list((ctypes.c_uint32 * rank).from_address(steps)),
                    "swizzle": modes[1] & 0xFFFFFFFF,
                }
            )
            return Status.CUDA_SUCCESS

        self._encoders = {b"cuTensorMapEncodeTiled": encode, b"cuTensorMapEncodeIm2col": encode_im2col}

    def _in_context(self) -> None:
        assert self.contexts, "called without a current context"

    def _made(self, kind: str):
        self._in_context()
        self.alive.append(kind)
        return Status.CUDA_SUCCESS, kind

    def _destroyed(self, kind: str):
        self._in_context()
        self.alive.remove(kind)
        return (Status.CUDA_SUCCESS,)

    def _done(self, *entry):
        self._in_context()
        self.log.append(entry)
        return (Status.CUDA_SUCCESS,)

    def cuInit(self, flags):
        return (Status.CUDA_SUCCESS,)

    def cuGetErrorString(self, status):
        return Status.CUDA_SUCCESS, f"text of {int(status)}".encode()

    def cuCtxGetCurrent(self):
        return Status.CUDA_SUCCESS, self.contexts[-1] if self.contexts else 0

    def cuCtxGetDevice(self):
        return Status.CUDA_SUCCESS, 0

    def cuCtxPushCurrent(self, context):
        self.contexts.append(context)
        return (Status.CUDA_SUCCESS,)

    def cuCtxPopCurrent(self):
        return Status.CUDA_SUCCESS, self.contexts.pop()

    def cuCtxSynchronize(self):
        return self._done("synchronize")

    def cuDeviceGet(self, ordinal):
        return Status.CUDA_SUCCESS, ordinal

    def cuDeviceGetName(self, length, device):
        return Status.CUDA_SUCCESS, b"NVIDIA H200\0".ljust(length)

    def cuDeviceGetAttribute(self, attribute, device):
        return Status.CUDA_SUCCESS, ATTRIBUTES[attribute.name]

    def cuDevicePrimaryCtxRetain(self, device):
        return Status.CUDA_SUCCESS, 0xC0

    def cuMemAlloc(self, size):
        self._in_context()
        if size > self._free():
            return Status.CUDA_ERROR_OUT_OF_MEMORY, None
        block = (ctypes.c_uint8 * (size + 256))()
        address = -(-ctypes.addressof(block) // 256) * 256
        ctypes.memset(block, 0xAA, size + 256)
        self.memory[address] = block
        return Status.CUDA_SUCCESS, address

    def _free(self) -> int:
        return MEMORY - sum(len(block) - 256 for block in self.memory.values())

    def cuMemGetInfo(self):
        self._in_context()
        return Status.CUDA_SUCCESS, self._free(), MEMORY

    def cuMemFree(self, address):
        self._in_context()
        del self.memory[address]
        return (Status.CUDA_SUCCESS,)

    def cuMemcpyHtoD(self, to, source, size):
        ctypes.memmove(to, source, size)
        return self._done("to device")

    def cuMemcpyDtoH(self, to, source, size):
        ctypes.memmove(to, source, size)
        return self._done("to host")

    def cuPointerGetAttributes(self, count, attributes, address):
        self._in_context()
        is_ours = any(start <= address < start + len(block) for start, block in self.memory.items())
        memory_type = MemoryType.CU_MEMORYTYPE_DEVICE if is_ours else int(address in self.pinned)
        known = {"MEMORY_TYPE": int(memory_type), "IS_MANAGED": False, "DEVICE_ORDINAL": 0 if is_ours else -2}
        assert count == len(attributes)
        return Status.CUDA_SUCCESS, [known[a.name.removeprefix("CU_POINTER_ATTRIBUTE_")] for a in attributes]

    def cuStreamSynchronize(self, stream):
        return self._done("wait", stream)

    def cuModuleLoadDataEx(self, image, n, options, values):
        self.log.append(("load", image))
        return self._made("module")

    def cuModuleUnload(self, module):
        return self._destroyed(module)

    def cuModuleGetFunction(self, module, name):
        return (Status.CUDA_SUCCESS, name) if name != b"missing" else (Status.CUDA_ERROR_NOT_FOUND, None)

    def cuFuncSetAttribute(self, function, attribute, value):
        return self._done("allow", function, value)

    def cuMemsetD8Async(self, address, value, size, stream):
        ctypes.memset(address, value, size)
        return self._done("fill", size, stream)

    def cuLaunchKernel(self, kernel, *rest):
        *shape, stream, parameters, _ = rest
        pointers = (ctypes.c_void_p * 2).from_address(parameters)
        if kernel == b"double":
            to, source = (ctypes.c_uint64.from_address(p).value for p in pointers)
            array = np.ctypeslib.as_array((ctypes.c_int32 * 12).from_address(to))
            array += 2 * np.ctypeslib.as_array((ctypes.c_int32 * 12).from_address(source))
        if kernel == b"boxes":
            assert ctypes.string_at(pointers[0], 10) == b"descriptor"
        return self._done("launch", kernel, tuple(shape), stream)

    @staticmethod
    def CUlaunchAttribute():
        return SimpleNamespace(id=None, value=SimpleNamespace(clusterDim=SimpleNamespace()))

    def cuOccupancyMaxActiveClusters(self, kernel, config):
        return Status.CUDA_SUCCESS, 3

    def cuLaunchKernelEx(self, config, kernel, parameters, extra):
        assert config.numAttrs == len(config.attrs)
        attributes = {}
        for attribute in config.attrs:
            if attribute.id.name == "CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION":
                size = attribute.value.clusterDim
                attributes["cluster"] = (size.x, size.y, size.z)
            else:
                assert attribute.id.name == "CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION"
                attributes["overlap"] = attribute.value.programmaticStreamSerializationAllowed
        grid = config.gridDimX, config.gridDimY, config.gridDimZ
        block = config.blockDimX, config.blockDimY, config.blockDimZ
        status = self.cuLaunchKernel(kernel, *grid, *block, config.sharedMemBytes, config.hStream, parameters, extra)
        self.log[-1] = (*self.log[-1], attributes)
        return status

    def cuGetProcAddress(self, name, version, flags):
        return Status.CUDA_SUCCESS, ctypes.cast(self._encoders[name], ctypes.c_void_p).value, None

    def cuStreamCreate(self, flags):
        return self._made("stream")

    def cuEventCreate(self, flags):
        return self._made("event")

    def cuEventRecord(self, event, stream):
        return self._done("record", stream)

    def cuStreamWaitEvent(self, stream, event, flags):
        return self._done("wait for event", stream)

    def cuEventSynchronize(self, event):
        return self._done("wait for event")

    def cuEventElapsedTime(self, start, stop):
        return Status.CUDA_SUCCESS, 1.5

    def cuStreamBeginCapture(self, stream, mode):
        return self._done("begin", stream)

    def cuStreamEndCapture(self, stream):
        self._done("end", stream)
        return self._made("graph")

    def cuGraphInstantiate(self, graph, flags):
        return self._made("executable graph")

    def cuGraphLaunch(self, graph, stream):
        return self._done("replay", stream)

    def _destroy(self, handle):
        return self._destroyed(handle)

    cuStreamDestroy = cuEventDestroy = cuGraphDestroy = cuGraphExecDestroy = _destroy


def _forget_driver() -> None:
    gc.collect()  # what was made with one driver is freed with it
    for cached in (driver.driver, driver._initialize, driver._device, cuda._driver_function):
        cached.cache_clear()


@contextlib.contextmanager
def faked_driver() -> Iterator[FakeDriver]:
    """A new fake in the place of cuda-python's driver; contexts that were made current must have been put back."""
    _forget_driver()
    fake = FakeDriver()
    load = importlib.import_module
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib, "import_module", lambda n: fake if n == "cuda.bindings.driver" else load(n))
        yield fake
        _forget_driver()
    assert fake.contexts == []
