"""The CUDA runtime on a GPU, with kernels written by hand: arrays, launches, shared memory, tensor maps, timing."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from bitmlir.dialects.errors import BundleError, DeviceError, InputError
from bitmlir.runtime.bundle import Bundle
from bitmlir.runtime.cuda import CudaProgram, Device, DeviceArray
from bitmlir.runtime.driver import Module, call
from bitmlir.runtime.plan import Buffer, Launch, Memset, Plan, TensorMap, Value

pytestmark = pytest.mark.gpu

# y[i] += 2 x[i] for the thread's i: right only where y was filled with 0 before.
ADD_TWICE = b"""
.version 7.0
.target sm_75
.address_size 64
.visible .entry add_twice(.param .u64 p_y, .param .u64 p_x)
{
  .reg .b32 %r<6>;
  .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [p_y];
  ld.param.u64 %rd2, [p_x];
  cvta.to.global.u64 %rd1, %rd1;
  cvta.to.global.u64 %rd2, %rd2;
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %ntid.x;
  mov.u32 %r3, %tid.x;
  mad.lo.u32 %r1, %r1, %r2, %r3;
  mul.wide.u32 %rd3, %r1, 4;
  add.u64 %rd1, %rd1, %rd3;
  add.u64 %rd2, %rd2, %rd3;
  ld.global.u32 %r4, [%rd1];
  ld.global.u32 %r5, [%rd2];
  shl.b32 %r5, %r5, 1;
  add.u32 %r4, %r4, %r5;
  st.global.u32 [%rd1], %r4;
  ret;
}
"""

# y[i] = i ^ 31 through the last 256 words of dynamic shared memory of 60 KiB.
SHARED_BYTES = 60 * 1024
THROUGH_SHARED = b"""
.version 7.0
.target sm_75
.address_size 64
.extern .shared .align 16 .b8 smem[];
.visible .entry through_shared(.param .u64 p_y)
{
  .reg .b32 %r<6>;
  .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [p_y];
  cvta.to.global.u64 %rd1, %rd1;
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, smem;
  add.u32 %r2, %r2, 60416;
  shl.b32 %r3, %r1, 2;
  add.u32 %r4, %r2, %r3;
  st.shared.u32 [%r4], %r1;
  bar.sync 0;
  xor.b32 %r5, %r3, 124;
  add.u32 %r4, %r2, %r5;
  ld.shared.u32 %r5, [%r4];
  cvt.u64.u32 %rd2, %r3;
  add.u64 %rd1, %rd1, %rd2;
  st.global.u32 [%rd1], %r5;
  ret;
}
"""

# Block (x, y, z) copies the box of 32 words, 8 rows, 1 plane at (32x, 8y, z) to shared memory by TMA and from there, as
# it lies, to 256 words of the output.
COPY_BOXES = b"""
.version 8.0
.target sm_90
.address_size 64
.visible .entry copy_boxes(.param .align 64 .b8 p_map[128], .param .u64 p_y)
{
  .reg .pred %p<3>;
  .reg .b32 %r<12>;
  .reg .b64 %rd<6>;
  .shared .align 1024 .b8 box[1024];
  .shared .align 8 .b8 barrier[8];
  mov.b64 %rd1, p_map;
  cvta.param.u64 %rd1, %rd1;
  ld.param.u64 %rd2, [p_y];
  cvta.to.global.u64 %rd2, %rd2;
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, box;
  mov.u32 %r3, barrier;
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra STARTED;
  mbarrier.init.shared::cta.b64 [%r3], 1;
  fence.proxy.async;
  mbarrier.arrive.expect_tx.shared::cta.b64 %rd3, [%r3], 1024;
  mov.u32 %r4, %ctaid.x;
  shl.b32 %r4, %r4, 5;
  mov.u32 %r5, %ctaid.y;
  shl.b32 %r5, %r5, 3;
  mov.u32 %r6, %ctaid.z;
  cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes
    [%r2], [%rd1, {%r4, %r5, %r6}], [%r3];
STARTED:
  bar.sync 0;
WAIT:
  mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r3], 0;
  @!%p2 bra WAIT;
  mov.u32 %r4, %ctaid.z;
  mov.u32 %r5, %nctaid.y;
  mov.u32 %r6, %ctaid.y;
  mad.lo.u32 %r4, %r4, %r5, %r6;
  mov.u32 %r5, %nctaid.x;
  mov.u32 %r6, %ctaid.x;
  mad.lo.u32 %r4, %r4, %r5, %r6;
  shl.b32 %r4, %r4, 8;
  add.u32 %r4, %r4, %r1;
  mul.wide.u32 %rd4, %r4, 4;
  add.u64 %rd2, %rd2, %rd4;
  shl.b32 %r7, %r1, 2;
  add.u32 %r7, %r2, %r7;
  ld.shared.u32 %r8, [%r7];
  st.global.u32 [%rd2], %r8;
  ret;
}
"""

# Block b writes 100 · (blocks in its cluster) + (its rank there) to y[b].
CLUSTER_RANKS = b"""
.version 7.8
.target sm_90
.address_size 64
.visible .entry cluster_ranks(.param .u64 p_y)
{
  .reg .b32 %r<5>;
  .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [p_y];
  cvta.to.global.u64 %rd1, %rd1;
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %cluster_nctarank;
  mov.u32 %r3, %cluster_ctarank;
  mad.lo.u32 %r4, %r2, 100, %r3;
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd3, %rd1, %rd2;
  st.global.u32 [%rd3], %r4;
  ret;
}
"""

# The first kernel looks at a flag, up to a million times, which the second one sets: seen[0] is 1 only if the second
# started before the first had ended. The third adds 2 · seen[0] to total[0] after both.
FLAG = b"""
.version 7.8
.target sm_90
.address_size 64
.visible .entry await_flag(.param .u64 p_seen, .param .u64 p_flag)
{
  .reg .pred %p<3>;
  .reg .b32 %r<3>;
  .reg .b64 %rd<3>;
  griddepcontrol.launch_dependents;
  ld.param.u64 %rd1, [p_seen];
  ld.param.u64 %rd2, [p_flag];
  cvta.to.global.u64 %rd1, %rd1;
  cvta.to.global.u64 %rd2, %rd2;
  mov.u32 %r2, 0;
AGAIN:
  ld.volatile.global.u32 %r1, [%rd2];
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra DONE;
  add.u32 %r2, %r2, 1;
  setp.lt.u32 %p2, %r2, 1000000;
  @%p2 bra AGAIN;
DONE:
  st.global.u32 [%rd1], %r1;
  ret;
}
.visible .entry set_flag(.param .u64 p_flag)
{
  .reg .b32 %r<2>;
  .reg .b64 %rd<2>;
  ld.param.u64 %rd1, [p_flag];
  cvta.to.global.u64 %rd1, %rd1;
  mov.u32 %r1, 1;
  st.volatile.global.u32 [%rd1], %r1;
  membar.gl;
  griddepcontrol.wait;
  ret;
}
.visible .entry add_seen(.param .u64 p_total, .param .u64 p_seen)
{
  .reg .b32 %r<3>;
  .reg .b64 %rd<3>;
  griddepcontrol.wait;
  ld.param.u64 %rd1, [p_total];
  ld.param.u64 %rd2, [p_seen];
  cvta.to.global.u64 %rd1, %rd1;
  cvta.to.global.u64 %rd2, %rd2;
  ld.global.u32 %r1, [%rd1];
  ld.global.u32 %r2, [%rd2];
  shl.b32 %r2, %r2, 1;
  add.u32 %r1, %r1, %r2;
  st.global.u32 [%rd1], %r1;
  ret;
}
"""

N, THREADS = 4096, 256
ADD_PLAN = Plan(
    name="add_twice",
    target="sm_75",
    arguments=(Value("x", "array", (N,), {"values": "x"}, dtype="i32"),),
    results=(Value("y", "array", (N,), {"values": "y"}, dtype="i32"),),
    buffers=(Buffer("x", "i32", (N,)), Buffer("y", "i32", (N,))),
    steps=(Memset("y"), Launch("add_twice", (N // THREADS, 1, 1), (THREADS, 1, 1), 0, ("y", "x"))),
)
ADD = Bundle(ADD_PLAN, {"ptx": ADD_TWICE})


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).integers(-(2**29), 2**29, N, dtype=np.int32)


def run_in_new_process(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_device_says_what_it_is():
    device = Device.current()
    assert device.name
    assert device.capability >= (7, 5)
    assert device.sm_count > 0
    assert device.shared_bytes >= 48 * 1024
    assert Device.find() == device


@pytest.mark.parametrize(
    "dtype", [np.bool_, np.int8, np.int16, np.int32, np.uint32, np.int64, np.float16, np.float32, ml_dtypes.bfloat16]
)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5, 7)])
def test_arrays_come_back_as_they_were(dtype, shape):
    array = np.random.default_rng(1).integers(0, 2, shape).astype(dtype)
    copy = DeviceArray.from_numpy(array)
    assert (copy.shape, copy.dtype, copy.nbytes) == (array.shape, array.dtype, array.nbytes)
    np.testing.assert_array_equal(copy.numpy(), array)


def test_a_strided_array_is_copied_in_its_logical_order():
    array = np.arange(12, dtype=np.int32).reshape(3, 4).T
    np.testing.assert_array_equal(DeviceArray.from_numpy(array).numpy(), array)


def test_memory_freed_by_python_can_be_allocated_again():
    size = 1 << 30
    for _ in range(400):  # more than any GPU has, were it not freed
        DeviceArray.empty((size,), np.dtype(np.int8))


def test_out_of_memory_names_the_bytes_needed():
    message = r"cannot allocate 17,592,186,044,416 bytes on .*, which has [\d,]+ of [\d,]+ bytes free: .*OUT_OF_MEMORY"
    with pytest.raises(DeviceError, match=message):
        DeviceArray.empty((1 << 44,), np.dtype(np.int8))


def test_out_of_memory_frees_what_a_program_had_and_leaves_its_argument_alone(x):
    buffers = (*ADD_PLAN.buffers, Buffer("more", "i8", (1 << 30,)), Buffer("most", "i8", (1 << 44,)))
    program = CudaProgram(Bundle(dataclasses.replace(ADD_PLAN, buffers=buffers), ADD.stages))
    argument = DeviceArray.from_numpy(x)
    needed = f"{(1 << 44) + (1 << 30) + 4 * N:,}"
    for _ in range(400):  # times a gigabyte is more than any GPU has, were it not freed
        with pytest.raises(DeviceError, match=rf"'add_twice' needs {needed} bytes on the GPU .*OUT_OF_MEMORY"):
            program.bind({"x": argument})
    np.testing.assert_array_equal(argument.numpy(), x)
    np.testing.assert_array_equal(CudaProgram(ADD).run({"x": argument})["y"].numpy(), 2 * x)


@pytest.mark.parametrize("is_pinned", [False, True])
def test_host_memory_that_is_given_as_gpu_memory_is_refused(is_pinned):
    device = Device.current()
    with device.active():
        address = int(call("cuMemAllocHost", 64)) if is_pinned else np.zeros(16, np.int32).ctypes.data
        interface = {"version": 3, "shape": (16,), "typestr": "<i4", "data": (address, False), "strides": None}
        with pytest.raises(
            InputError, match=r"w \(.*\) says that it lies in GPU memory, but 0x\w+ is no address there"
        ):
            DeviceArray.share(SimpleNamespace(__cuda_array_interface__=interface), "w")
        if is_pinned:
            call("cuMemFreeHost", address)


def test_managed_memory_is_taken(x):
    from cuda.bindings import driver

    with Device.current().active():
        address = int(call("cuMemAllocManaged", x.nbytes, driver.CUmemAttach_flags.CU_MEM_ATTACH_GLOBAL.value))
        call("cuMemcpyHtoD", address, x.ctypes.data, x.nbytes)
    interface = {"version": 3, "shape": x.shape, "typestr": "<i4", "data": (address, False), "strides": None}
    managed = DeviceArray.share(SimpleNamespace(__cuda_array_interface__=interface))
    np.testing.assert_array_equal(CudaProgram(ADD).run({"x": managed})["y"].numpy(), 2 * x)
    with Device.current().active():
        call("cuMemFree", address)


class Foreign:
    """Another library's array."""

    def __init__(self, array: DeviceArray) -> None:
        self.array = array
        self.__cuda_array_interface__ = array.__cuda_array_interface__


def test_the_array_interface_shares_the_memory():
    array = DeviceArray.from_numpy(np.arange(5).astype(ml_dtypes.bfloat16))
    shared = DeviceArray.share(Foreign(array))
    assert (shared.address, shared.dtype, shared.device) == (array.address, array.dtype, array.device)
    np.testing.assert_array_equal(shared.numpy(), array.numpy())


@pytest.mark.parametrize("dtype", ["int32", "float16", "bfloat16", "bool"])
def test_torch_reads_our_arrays_and_we_read_its(dtype):
    torch = pytest.importorskip("torch")
    theirs = torch.arange(6, device="cuda").remainder(2).to(getattr(torch, dtype)).reshape(2, 3)
    ours = DeviceArray.share(theirs)
    assert ours.address == theirs.data_ptr()
    np.testing.assert_array_equal(ours.numpy().astype(np.int32), theirs.int().cpu().numpy())
    assert torch.equal(torch.from_dlpack(ours), theirs)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint32, np.float16, np.float32])
def test_cupy_reads_our_arrays_and_we_read_its(dtype):
    cupy = pytest.importorskip("cupy")
    theirs = cupy.arange(6, dtype=dtype).reshape(2, 3)
    ours = DeviceArray.share(theirs)
    assert ours.address == theirs.data.ptr
    cupy.testing.assert_array_equal(cupy.asarray(ours), theirs)
    cupy.testing.assert_array_equal(cupy.from_dlpack(ours), theirs)


def test_what_speaks_dlpack_alone_is_shared_too():
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6, device="cuda").reshape(2, 3).to(torch.bfloat16)
    only_dlpack = SimpleNamespace(__dlpack__=tensor.__dlpack__, __dlpack_device__=tensor.__dlpack_device__)
    ours = DeviceArray.share(only_dlpack)
    assert (ours.address, ours.shape, ours.dtype) == (tensor.data_ptr(), (2, 3), ml_dtypes.bfloat16)
    np.testing.assert_array_equal(ours.numpy().astype(int), np.arange(6).reshape(2, 3))


def test_a_library_that_takes_our_memory_keeps_it():
    torch = pytest.importorskip("torch")
    n = 1 << 24
    tensor = torch.from_dlpack(DeviceArray.from_numpy(np.arange(n, dtype=np.int32)))
    DeviceArray.from_numpy(np.zeros(n, np.int32))  # where it would lie, had it been freed
    assert torch.equal(tensor.cpu(), torch.arange(n, dtype=torch.int32))


def test_memory_that_a_library_has_done_with_is_freed():
    torch = pytest.importorskip("torch")
    for _ in range(400):  # gigabytes: more than any GPU has
        torch.from_dlpack(DeviceArray.empty((1 << 30,), np.dtype(np.int8)))


def test_a_plan_fills_and_launches_in_order(x):
    y = DeviceArray.from_numpy(np.full(N, -1, np.int32))
    buffers = CudaProgram(ADD).run({"x": DeviceArray.from_numpy(x), "y": y})
    assert buffers["y"] is y
    np.testing.assert_array_equal(y.numpy(), 2 * x)


def test_a_bound_program_runs_again_on_changed_data_and_on_a_stream_of_its_own(x):
    from cuda.bindings import driver

    program = CudaProgram(ADD)
    first = DeviceArray.from_numpy(x)
    bound = program.bind({"x": first})
    with program.device.active():
        _, stream = driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING.value)
    bound.run()
    np.testing.assert_array_equal(bound.buffers["y"].numpy(), 2 * x)
    program.bind({"x": DeviceArray.from_numpy(x), "y": first}).run()  # now x holds 2x
    bound.synchronize()
    bound.run(int(stream))
    np.testing.assert_array_equal(bound.buffers["y"].numpy(), 4 * x)
    with program.device.active():
        driver.cuStreamDestroy(stream)


@pytest.mark.parametrize("graph", [True, False])
def test_timing_gives_as_many_times_as_asked_for_and_leaves_the_right_result(x, graph):
    bound = CudaProgram(ADD).bind({"x": DeviceArray.from_numpy(x)})
    times = bound.time(repeats=5, warmup=1, runs=3, graph=graph)
    assert len(times) == 5
    assert min(times) > 0
    np.testing.assert_array_equal(bound.buffers["y"].numpy(), 2 * x)


def test_a_graph_reads_what_the_buffers_hold_when_it_is_replayed(x):
    argument, y = DeviceArray.from_numpy(x), DeviceArray.from_numpy(np.full(N, -1, np.int32))
    program = CudaProgram(ADD)
    graph = program.bind({"x": argument, "y": y}).graph(runs=3)
    np.testing.assert_array_equal(y.numpy(), -1)  # recording ran nothing
    graph.run()
    np.testing.assert_array_equal(y.numpy(), 2 * x)
    program.run({"x": y, "y": argument})  # now x holds 4x
    graph.run()
    np.testing.assert_array_equal(y.numpy(), 8 * x)


def require_hopper() -> None:
    if Device.current().capability < (9, 0):
        pytest.skip("needs compute capability 9.0")


@pytest.mark.parametrize("by_graph", [False, True])
@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_blocks_run_in_clusters_of_the_size_asked_for(size, by_graph):
    require_hopper()
    launch = Launch("cluster_ranks", (16, 1, 1), (32, 1, 1), 0, ("y",), cluster=(size, 1, 1))
    result = Value("y", "array", (16,), {"values": "y"}, dtype="i32")
    plan = Plan("cluster_ranks", "sm_90", (), (result,), (Buffer("y", "i32", (16,)),), (Memset("y"), launch))
    bound = CudaProgram(Bundle(plan, {"ptx": CLUSTER_RANKS})).bind({})
    (bound.graph() if by_graph else bound).run()
    np.testing.assert_array_equal(bound.buffers["y"].numpy(), 100 * size + np.arange(16) % size)


@pytest.mark.parametrize("by_graph", [False, True])
@pytest.mark.parametrize("overlaps", [False, True])
def test_a_launch_that_may_overlap_the_one_before_does_and_no_other(overlaps, by_graph):
    require_hopper()
    results = tuple(Value(name, "array", (1,), {"values": name}, dtype="i32") for name in ("seen", "total"))
    one = (1, 1, 1)
    steps = (
        Memset("flag"),
        Launch("await_flag", one, one, 0, ("seen", "flag")),
        Launch("set_flag", one, one, 0, ("flag",), overlap_previous=overlaps),
        Launch("add_seen", one, one, 0, ("total", "seen"), overlap_previous=overlaps),
    )
    buffers = tuple(Buffer(name, "i32", (1,)) for name in ("seen", "total", "flag"))
    program = CudaProgram(Bundle(Plan("flag", "sm_90", (), results, buffers, steps), {"ptx": FLAG}))
    bound = program.bind({"total": DeviceArray.from_numpy(np.zeros(1, np.int32))})
    repeated = bound.graph() if by_graph else bound
    for _ in range(3):
        repeated.run()
    assert bound.buffers["seen"].numpy() == [overlaps]
    assert bound.buffers["total"].numpy() == [2 * 3 * overlaps]


def test_a_result_that_overlaps_the_argument_is_refused(x):
    argument = DeviceArray.from_numpy(x)
    with pytest.raises(InputError, match="buffer y, which the program writes, overlaps buffer x"):
        CudaProgram(ADD).bind({"x": argument, "y": argument})
    np.testing.assert_array_equal(argument.numpy(), x)


def test_the_callers_context_is_left_as_it_was(x):
    from cuda.bindings import driver

    Device.current()
    before = int(driver.cuCtxGetCurrent()[1])
    CudaProgram(ADD).bind({"x": DeviceArray.from_numpy(x)}).time(1, 1)
    assert int(driver.cuCtxGetCurrent()[1]) == before


def test_more_than_48_kib_of_shared_memory_can_be_used():
    plan = Plan(
        name="through_shared",
        target="sm_75",
        arguments=(),
        results=(Value("y", "array", (256,), {"values": "y"}, dtype="i32"),),
        buffers=(Buffer("y", "i32", (256,)),),
        steps=(Launch("through_shared", (1, 1, 1), (256, 1, 1), SHARED_BYTES, ("y",)),),
    )
    buffers = CudaProgram(Bundle(plan, {"ptx": THROUGH_SHARED})).run({})
    np.testing.assert_array_equal(buffers["y"].numpy(), np.arange(256) ^ 31)


def unswizzled(box: np.ndarray) -> np.ndarray:
    """The rows of a box as it lies in shared memory with 128-byte swizzle: 16-byte chunk c of row r is at c ^ r % 8."""
    rows = np.arange(box.shape[0])[:, None]
    chunks = box.reshape(box.shape[0], 8, 4)
    return chunks[rows, np.arange(8) ^ rows % 8].reshape(box.shape)


@pytest.mark.parametrize("shape", [(1, 1, 4), (1, 8, 32), (2, 17, 36), (3, 9, 100)])
def test_a_tensor_map_reads_swizzled_boxes_with_zeros_outside(shape):
    if Device.current().capability < (9, 0):
        pytest.skip("tensor maps need compute capability 9.0")
    words = np.random.default_rng(2).integers(1, 2**31, shape, dtype=np.int32)
    planes, rows, width = shape
    grid = (-(-width // 32), -(-rows // 8), planes)
    boxes = (planes, grid[1], grid[0], 8, 32)
    plan = Plan(
        name="copy_boxes",
        target="sm_90",
        arguments=(Value("x", "array", shape, {"values": "x"}, dtype="i32"),),
        results=(Value("y", "array", boxes, {"values": "y"}, dtype="i32"),),
        buffers=(Buffer("x", "i32", shape), Buffer("y", "i32", boxes)),
        steps=(Launch("copy_boxes", grid, (256, 1, 1), 0, (TensorMap("x", (32, 8, 1)), "y")),),
    )
    buffers = CudaProgram(Bundle(plan, {"ptx": COPY_BOXES})).run({"x": DeviceArray.from_numpy(words)})
    padded = np.zeros((planes, grid[1] * 8, grid[0] * 32), np.int32)
    padded[:, :rows, :width] = words
    copied = buffers["y"].numpy()
    for plane in range(planes):
        for row in range(grid[1]):
            for column in range(grid[0]):
                expected = padded[plane, 8 * row : 8 * row + 8, 32 * column : 32 * column + 32]
                np.testing.assert_array_equal(unswizzled(copied[plane, row, column]), expected)


def test_a_bundle_for_another_gpu_is_refused():
    with pytest.raises(BundleError, match=r"bundle made for sm_999a needs a GPU \(compute capability 99\.9\)"):
        CudaProgram(Bundle(Plan("f", "sm_999a", (), (), (), ()), {"ptx": ADD_TWICE}))


def test_ptx_that_the_driver_refuses_is_a_device_error():
    with pytest.raises(DeviceError, match="cuModuleLoadDataEx failed: CUDA_ERROR_INVALID_PTX"):
        Module(b".version 7.0\n.target sm_75\n.address_size 64\nnonsense")


def test_a_kernel_that_the_image_lacks_is_named():
    with pytest.raises(BundleError, match="no kernel 'missing'"):
        Module(ADD_TWICE).kernel("missing")


def test_a_fault_on_the_gpu_is_reported_by_name_and_the_process_ends_in_order():
    # In a process of its own: a fault leaves the context unusable.
    fault = f"""
import numpy as np
from bitmlir.dialects.errors import DeviceError
from bitmlir.runtime.cuda import *
from bitmlir.runtime.driver import Module, call
import ctypes
array = DeviceArray.from_numpy(np.zeros(1, np.int32))
module = Module({ADD_TWICE!r})
values = [ctypes.c_uint64(64), ctypes.c_uint64(64)]
pointers = (ctypes.c_void_p * 2)(*map(ctypes.addressof, values))
with array.device.active():
    call("cuLaunchKernel", module.kernel("add_twice"), 1, 1, 1, 1, 1, 1, 0, 0, ctypes.addressof(pointers), 0)
try:
    array.numpy()
except DeviceError as error:
    print(error)
"""
    run = run_in_new_process(fault)
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in run.stdout
    assert (run.returncode, run.stderr) == (0, "")


def test_arrays_that_are_alive_when_python_ends_do_no_harm():
    alive = "import numpy as np; from bitmlir.runtime.cuda import *; x = DeviceArray.from_numpy(np.zeros(9))"
    run = run_in_new_process(alive)
    assert (run.returncode, run.stderr) == (0, "")


def test_tensors_that_share_our_memory_when_python_ends_do_no_harm():
    pytest.importorskip("torch")
    alive = """
import numpy as np, torch
from bitmlir.runtime.cuda import *
x = torch.from_dlpack(DeviceArray.from_numpy(np.arange(9)))
cycle = [torch.from_dlpack(DeviceArray.from_numpy(np.arange(9)))]
cycle.append(cycle)
print(int(x.sum()))
"""
    run = run_in_new_process(alive)
    assert (run.returncode, run.stdout, run.stderr) == (0, "36\n", "")
