"""Running a plan, with a driver made of Python: what is called, in which order, with which buffers, and what is freed.

`test/gpu/test_cuda.py` runs the same code on a GPU.
"""

from __future__ import annotations

import ctypes
import dataclasses
import enum
import gc
import importlib
from types import SimpleNamespace

import numpy as np
import pytest

from bitmlir.dialects.errors import BundleError, DeviceError, InputError
from bitmlir.runtime import cuda, driver
from bitmlir.runtime.bundle import Bundle
from bitmlir.runtime.cuda import CudaProgram, Device, DeviceArray, choose_image
from bitmlir.runtime.plan import Buffer, Launch, Memset, Plan, TensorMap, Value


class Status(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_NOT_FOUND = 500


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

    def __init__(self) -> None:
        self.contexts: list[int] = []
        self.memory: dict[int, object] = {}
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

        self._encode = encode

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
        if size > MEMORY:
            return Status.CUDA_ERROR_OUT_OF_MEMORY, None
        block = (ctypes.c_uint8 * (size + 256))()
        address = -(-ctypes.addressof(block) // 256) * 256
        ctypes.memset(block, 0xAA, size + 256)
        self.memory[address] = block
        return Status.CUDA_SUCCESS, address

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

    def cuPointerGetAttribute(self, attribute, address):
        return Status.CUDA_SUCCESS, 0

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

    def cuGetProcAddress(self, name, version, flags):
        assert name == b"cuTensorMapEncodeTiled"
        return Status.CUDA_SUCCESS, ctypes.cast(self._encode, ctypes.c_void_p).value, None

    def cuStreamCreate(self, flags):
        return self._made("stream")

    def cuEventCreate(self, flags):
        return self._made("event")

    def cuEventRecord(self, event, stream):
        return self._done("record", stream)

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


PLAN = Plan(
    name="double",
    target="sm_90",
    arguments=(Value("x", "array", (3, 4), {"values": "x"}, dtype="i32"),),
    results=(Value("y", "array", (3, 4), {"values": "y"}, dtype="i32"),),
    buffers=(Buffer("x", "i32", (3, 4)), Buffer("y", "i32", (3, 4)), Buffer("s", "i32", (2, 5, 8))),
    steps=(
        Memset("y"),
        Launch("double", (3, 1, 1), (4, 1, 1), 0, ("y", "x")),
        Launch("boxes", (1, 2, 3), (384, 1, 1), 196_672, (TensorMap("s", (32, 64, 1)), "y")),
    ),
)
BUNDLE = Bundle(PLAN, {"cubin": b"cubin", "ptx": b"ptx"})
X = np.arange(12, dtype=np.int32).reshape(3, 4)


def forget_driver() -> None:
    gc.collect()  # what was made with one driver is freed with it
    for cached in (driver.driver, driver._initialize, driver._device, cuda._tensor_map_encoder):
        cached.cache_clear()


@pytest.fixture
def fake(monkeypatch):
    forget_driver()
    fake = FakeDriver()
    load = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda name: fake if name == "cuda.bindings.driver" else load(name))
    yield fake
    forget_driver()
    assert fake.contexts == []


def test_the_plan_runs_in_order_and_the_result_is_right(fake):
    buffers = CudaProgram(BUNDLE).run({"x": DeviceArray.from_numpy(X)})
    queued = [entry for entry in fake.log if entry[0] in ("fill", "launch")]
    assert queued == [
        ("fill", 48, 0),
        ("launch", b"double", (3, 1, 1, 4, 1, 1, 0), 0),
        ("launch", b"boxes", (1, 2, 3, 384, 1, 1, 196_672), 0),
    ]
    np.testing.assert_array_equal(buffers["y"].numpy(), 2 * X)


def test_a_tensor_map_describes_the_whole_buffer_words_first(fake):
    buffers = CudaProgram(BUNDLE).run({"x": DeviceArray.from_numpy(X)})
    assert fake.maps == [
        {
            "address": buffers["s"].address,
            "sizes": [8, 5, 2],
            "strides": [8 * 4, 5 * 8 * 4],
            "box": [32, 64, 1],
            "steps": [1, 1, 1],
        }
    ]


def test_only_a_kernel_with_more_than_48_kib_of_shared_memory_asks_for_it(fake):
    CudaProgram(BUNDLE).bind({"x": DeviceArray.from_numpy(X)})
    assert [entry for entry in fake.log if entry[0] == "allow"] == [("allow", b"boxes", 196_672)]


def test_a_stream_may_be_a_handle_or_any_object_that_has_one(fake):
    bound = CudaProgram(BUNDLE).bind({"x": DeviceArray.from_numpy(X)})
    fake.log.clear()
    bound.run(7)
    bound.run(SimpleNamespace(__cuda_stream__=lambda: (0, 9)))
    assert {entry[-1] for entry in fake.log} == {7, 9}
    with pytest.raises(InputError, match=r"stream must be None, a handle .* got str"):
        bound.run("main")


def test_device_memory_and_kernels_are_freed_with_their_owners(fake):
    buffers = CudaProgram(BUNDLE).run({"x": DeviceArray.from_numpy(X)})
    assert len(fake.memory) == len(PLAN.buffers)
    del buffers
    gc.collect()
    assert fake.memory == {}
    assert fake.alive == []


def test_a_bound_program_keeps_its_kernels_and_buffers(fake):
    bound = CudaProgram(BUNDLE).bind({"x": DeviceArray.from_numpy(X)})
    gc.collect()
    assert fake.alive == ["module"]
    assert len(fake.memory) == len(PLAN.buffers)
    bound.run()
    np.testing.assert_array_equal(bound.buffers["y"].numpy(), 2 * X)


def test_a_result_may_be_given_and_is_written_in_place(fake):
    y = DeviceArray.from_numpy(np.full((3, 4), 99, np.int32))
    assert CudaProgram(BUNDLE).run({"x": DeviceArray.from_numpy(X), "y": y})["y"] is y
    np.testing.assert_array_equal(y.numpy(), 2 * X)


def test_a_graph_is_recorded_once_and_replayed_for_each_measurement(fake):
    bound = CudaProgram(BUNDLE).bind({"x": DeviceArray.from_numpy(X)})
    fake.log.clear()
    assert bound.time(repeats=3, warmup=2, runs=5) == [1.5e-3 / 5] * 3
    names = [entry[0] for entry in fake.log]
    assert names[0] == "synchronize"
    assert names[1 : names.index("end") + 1] == ["begin", *["fill", "launch", "launch"] * 5, "end"]
    assert names[names.index("end") + 1 :] == ["record", "replay", "record", "wait for event"] * 5
    assert fake.alive == ["module"]


def test_without_a_graph_every_measurement_queues_the_runs(fake):
    bound = CudaProgram(BUNDLE).bind({"x": DeviceArray.from_numpy(X)})
    fake.log.clear()
    assert len(bound.time(repeats=3, warmup=0, runs=2, graph=False)) == 3
    names = [entry[0] for entry in fake.log[1:]]
    assert names == ["record", *["fill", "launch", "launch"] * 2, "record", "wait for event"] * 3
    assert fake.alive == ["module"]


@pytest.mark.parametrize(
    ("buffers", "message"),
    [
        ({}, "no array given for buffer x"),
        ({"x": X, "z": X}, "unknown buffer z: expected s, x, y"),
        ({"x": X.T}, r"buffer x must be int32 of shape \(3, 4\), got int32 of shape \(4, 3\)"),
        ({"x": X.astype(np.float32)}, r"must be int32 of shape \(3, 4\), got float32"),
        ({"x": X.astype(np.int64)}, r"must be int32 of shape \(3, 4\), got int64"),
    ],
)
def test_buffers_that_do_not_fit_are_refused(fake, buffers, message):
    with pytest.raises(InputError, match=message):
        CudaProgram(BUNDLE).bind({name: DeviceArray.from_numpy(array) for name, array in buffers.items()})


def test_unsigned_words_fit_a_buffer_of_signed_ones(fake):
    buffers = CudaProgram(BUNDLE).run({"x": DeviceArray.from_numpy(X.view(np.uint32))})
    np.testing.assert_array_equal(buffers["y"].numpy(), 2 * X)


def test_a_buffer_at_an_odd_address_is_refused(fake):
    x = DeviceArray.from_numpy(X)
    with pytest.raises(InputError, match="must start at a multiple of 16 bytes"):
        CudaProgram(BUNDLE).bind({"x": dataclasses.replace(x, address=x.address + 4)})


def test_a_buffer_on_another_gpu_is_refused(fake):
    x = DeviceArray.from_numpy(X)
    elsewhere = dataclasses.replace(x, device=dataclasses.replace(x.device, ordinal=1))
    with pytest.raises(InputError, match="buffer x is on GPU 1, the program on GPU 0"):
        CudaProgram(BUNDLE).bind({"x": elsewhere})


def bundle_with(step: Launch) -> Bundle:
    return Bundle(dataclasses.replace(PLAN, steps=(step,)), BUNDLE.stages)


def test_a_kernel_that_the_image_lacks_is_named(fake):
    with pytest.raises(BundleError, match=r"no kernel 'missing' .*CUDA_ERROR_NOT_FOUND \(text of 500\)"):
        CudaProgram(bundle_with(Launch("missing", (1, 1, 1), (1, 1, 1), 0, ()))).run({"x": DeviceArray.from_numpy(X)})


def test_a_kernel_that_needs_more_shared_memory_than_there_is_is_refused(fake):
    program = CudaProgram(bundle_with(Launch("k", (1, 1, 1), (1, 1, 1), 300_000, ())))
    with pytest.raises(BundleError, match=r"'k' needs 300,000 bytes of shared memory, NVIDIA H200 .* has 232,448"):
        program.bind({"x": DeviceArray.from_numpy(X)})


def test_out_of_memory_names_the_bytes_needed(fake):
    with pytest.raises(DeviceError, match=r"cannot allocate 4,194,304 bytes on NVIDIA H200: .*OUT_OF_MEMORY"):
        DeviceArray.empty((1024, 1024), np.dtype(np.int32))


def test_no_device_names_the_way_out(fake):
    fake.cuInit = lambda flags: (Status.CUDA_ERROR_NO_DEVICE,)
    message = r"no usable GPU \(cuInit failed: CUDA_ERROR_NO_DEVICE .*\): compile with target='cpu'"
    with pytest.raises(DeviceError, match=message):
        Device.current()
    assert Device.find() is None


class Foreign:
    """Another library's array."""

    def __init__(self, array: DeviceArray, **changes: object) -> None:
        self.array = array  # owns the memory
        self.__cuda_array_interface__ = {**array.__cuda_array_interface__, **changes}


def test_another_librarys_array_is_used_in_place_and_kept_alive(fake):
    shared = DeviceArray.share(Foreign(DeviceArray.from_numpy(X), strides=(16, 4)))
    gc.collect()
    np.testing.assert_array_equal(shared.numpy(), X)
    del shared
    gc.collect()
    assert fake.memory == {}


@pytest.mark.parametrize(("stream", "waits"), [(None, []), (1, []), (2, [2]), (0x77, [0x77])])
def test_the_stream_of_another_librarys_array_is_waited_for(fake, stream, waits):
    foreign = Foreign(DeviceArray.from_numpy(X), stream=stream)
    fake.log.clear()
    DeviceArray.share(foreign)
    assert [entry[1] for entry in fake.log] == waits


@pytest.mark.parametrize("changes", [{"strides": (4, 16)}, {"mask": object()}])
def test_a_strided_or_masked_array_is_refused(fake, changes):
    with pytest.raises(InputError, match="w must be a dense, C-contiguous array without a mask: copy it first"):
        DeviceArray.share(Foreign(DeviceArray.from_numpy(X), **changes), "w")


def test_what_is_no_device_array_is_refused(fake):
    with pytest.raises(InputError, match="w must have __cuda_array_interface__, got ndarray"):
        DeviceArray.share(X, "w")


def device(major: int, minor: int) -> Device:
    return Device(0, "NVIDIA Test", (major, minor), 100, 100_000, 0)


CUBIN_AND_PTX = ("cubin", "ptx")


@pytest.mark.parametrize(
    ("target", "capability", "stages", "image"),
    [
        ("sm_80", (8, 0), CUBIN_AND_PTX, "cubin"),
        ("sm_80", (8, 9), CUBIN_AND_PTX, "cubin"),
        ("sm_80", (9, 0), CUBIN_AND_PTX, "ptx"),
        ("sm_80", (12, 0), CUBIN_AND_PTX, "ptx"),
        ("sm_80", (8, 6), ("ptx",), "ptx"),
        ("sm_75", (8, 0), CUBIN_AND_PTX, "ptx"),
        ("sm_90", (9, 0), CUBIN_AND_PTX, "cubin"),
        ("sm_90a", (9, 0), CUBIN_AND_PTX, "cubin"),
        ("sm_90a", (9, 0), ("ptx",), "ptx"),
        ("sm_100a", (10, 0), CUBIN_AND_PTX, "cubin"),
        ("sm_120", (12, 1), CUBIN_AND_PTX, "cubin"),
    ],
)
def test_the_cubin_is_taken_where_it_runs_else_the_ptx(target, capability, stages, image):
    bundle = Bundle(dataclasses.replace(PLAN, target=target), dict.fromkeys(stages, b""))
    assert choose_image(bundle, device(*capability)) == image


@pytest.mark.parametrize(
    ("target", "capability", "message"),
    [
        ("sm_90a", (8, 0), r"needs an H100/H200-class GPU \(compute capability 9\.0\); this device is NVIDIA Test \("),
        ("sm_90a", (10, 0), r"\(compute capability 9\.0\); .* \(compute capability 10\.0\): recompile with target="),
        ("sm_100a", (12, 0), r"needs a B200-class GPU \(compute capability 10\.0\)"),
        ("sm_86", (8, 0), r"needs a GPU \(compute capability 8\.6 or later\); .*8\.0\)"),
        ("sm_120", (9, 0), r"needs a GPU \(compute capability 12\.0 or later\)"),
        ("cpu", (9, 0), "does not run on a GPU"),
    ],
)
def test_a_bundle_for_another_gpu_says_what_it_needs_and_what_is_here(target, capability, message):
    bundle = Bundle(dataclasses.replace(PLAN, target=target), BUNDLE.stages)
    with pytest.raises(BundleError, match=message) as error:
        choose_image(bundle, device(*capability))
    assert str(error.value).startswith(f"bundle made for {target} ")


def test_a_cubin_of_an_older_generation_without_ptx_is_refused():
    bundle = Bundle(dataclasses.replace(PLAN, target="sm_80"), {"cubin": b""})
    with pytest.raises(BundleError, match="made for sm_80 holds no image for NVIDIA Test"):
        choose_image(bundle, device(9, 0))


def test_recompiling_by_the_driver_is_logged_and_ends_the_ptx_with_a_zero(fake, caplog):
    CudaProgram(Bundle(dataclasses.replace(PLAN, target="sm_80"), BUNDLE.stages))
    assert "made for sm_80: the driver recompiles its PTX for NVIDIA H200 (compute capability 9.0)" in caplog.text
    assert ("load", b"ptx\0") in fake.log
