"""Running a plan, with a driver made of Python: what is called, in which order, with which buffers, and what is freed.

`test/gpu/test_cuda.py` runs the same code on a GPU.
"""

from __future__ import annotations

import dataclasses
import gc
from types import SimpleNamespace

import numpy as np
import pytest
from fake_driver import MEMORY, Status

from bitmlir.dialects.errors import BundleError, DeviceError, InputError, ShapeError
from bitmlir.dialects.window import Axis, Window
from bitmlir.runtime.bundle import Bundle
from bitmlir.runtime.cuda import CudaProgram, Device, DeviceArray, choose_image
from bitmlir.runtime.plan import Buffer, Launch, Memset, Plan, TensorMap, Value

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


@pytest.mark.parametrize(
    ("shape", "box", "sizes", "strides"),
    [
        ((5, 8), (32, 16, 1), [8, 5, 1], [32, 160]),  # a plain result
        ((2, 3, 5, 8), (32, 64, 1, 2), [8, 5, 3, 2], [32, 160, 480]),  # planes of a batch
    ],
)
def test_a_tensor_map_has_as_many_dimensions_as_its_box(fake, shape, box, sizes, strides):
    launch = Launch("boxes", (1, 1, 1), (384, 1, 1), 0, (TensorMap("s", box), "y"))
    buffers = (*PLAN.buffers[:2], Buffer("s", "i32", shape))
    plan = dataclasses.replace(PLAN, buffers=buffers, steps=(launch,))
    CudaProgram(Bundle(plan, BUNDLE.stages)).run({"x": DeviceArray.from_numpy(X)})
    (made,) = fake.maps
    assert (made["sizes"], made["strides"], made["box"]) == (sizes, strides, list(box))


def test_a_tensor_map_may_see_a_buffer_in_another_shape(fake):
    launch = Launch("boxes", (1, 1, 1), (384, 1, 1), 0, (TensorMap("s", (32, 1, 64, 1), shape=(2, 5, 9, 20)), "y"))
    buffers = (*PLAN.buffers[:2], Buffer("s", "i32", (2, 5, 180)))
    plan = dataclasses.replace(PLAN, buffers=buffers, steps=(launch,))
    assert Plan.from_json(plan.to_json()) == plan
    CudaProgram(Bundle(plan, BUNDLE.stages)).run({"x": DeviceArray.from_numpy(X)})
    (made,) = fake.maps
    assert (made["sizes"], made["strides"]) == ([20, 9, 5, 2], [80, 720, 3600])
    assert made["box"] == [32, 1, 64, 1]


def test_a_tensor_map_with_a_window_describes_images(fake):
    window = Window(Axis(5, 3, 2, 1, 0), Axis(6, 2, 1, 0, 2, dilation=3))
    launch = Launch("boxes", (1, 1, 1), (384, 1, 1), 0, (TensorMap("s", (4, 64), window), "y"))
    buffers = (*PLAN.buffers[:2], Buffer("s", "i32", (2, 90, 12)))  # three images in two planes
    plan = dataclasses.replace(PLAN, buffers=buffers, steps=(launch,))
    assert Plan.from_json(plan.to_json()) == plan
    CudaProgram(Bundle(plan, BUNDLE.stages)).run({"x": DeviceArray.from_numpy(X)})
    (made,) = fake.maps
    assert made["sizes"] == [12, 6, 5, 6]
    assert made["strides"] == [12 * 4, 6 * 12 * 4, 5 * 6 * 12 * 4]
    # The first tap lies between a corner before the image and one that lets the last tap reach the padding's end.
    assert (made["lower"], made["upper"]) == ([0, -1], [2 - 3, 0 - 2])
    assert (made["box"], made["steps"]) == ([4, 64], [1, 1, 2, 1])
    assert made["swizzle"] == fake.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_NONE.value


def test_an_array_on_the_device_is_reshaped_in_place(fake):
    array = DeviceArray.from_numpy(X)
    again = array.reshape((2, 6))
    assert again.address == array.address
    np.testing.assert_array_equal(again.numpy(), X.reshape(2, 6))
    with pytest.raises(ShapeError, match=r"an array of shape \(3, 4\) cannot have the shape \(2, 5\)"):
        array.reshape((2, 5))


def test_clusters_and_overlap_are_attributes_of_the_launch(fake):
    launch = Launch("double", (4, 1, 1), (3, 1, 1), 64, ("y", "x"))
    steps = (
        dataclasses.replace(launch, cluster=(2, 1, 1), overlap_previous=True),
        dataclasses.replace(launch, cluster=(1, 4, 1)),
        dataclasses.replace(launch, overlap_previous=True),
    )
    bound = CudaProgram(Bundle(dataclasses.replace(PLAN, steps=(Memset("y"), *steps)), BUNDLE.stages)).bind(
        {"x": DeviceArray.from_numpy(X)}
    )
    fake.log.clear()
    bound.run(5)
    bound.run(6)
    shape = (4, 1, 1, 3, 1, 1, 64)
    attributes = [{"cluster": (2, 1, 1), "overlap": 1}, {"cluster": (1, 4, 1)}, {"overlap": 1}]
    queued = [entry for entry in fake.log if entry[0] == "launch"]
    assert queued == [("launch", b"double", shape, stream, a) for stream in (5, 6) for a in attributes]
    np.testing.assert_array_equal(bound.buffers["y"].numpy(), 2 * 3 * X)


def test_a_persistent_kernel_has_as_many_clusters_as_the_driver_says(fake):
    launch = Launch("double", (16, 1, 1), (3, 1, 1), 64, ("y", "x"), cluster=(2, 1, 1), persistent=1)
    steps = (launch, dataclasses.replace(launch, grid=(4, 1, 1)))
    bound = CudaProgram(Bundle(dataclasses.replace(PLAN, steps=steps), BUNDLE.stages)).bind(
        {"x": DeviceArray.from_numpy(X)}
    )
    fake.log.clear()
    bound.run(5)
    assert [entry[2][0] for entry in fake.log if entry[0] == "launch"] == [6, 4]


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


def test_a_graph_holds_the_launches_and_outlives_all_but_itself(fake):
    graph = CudaProgram(BUNDLE).bind({"x": DeviceArray.from_numpy(X)}).graph()
    gc.collect()
    assert sorted(fake.alive) == ["executable graph", "module"]
    assert len(fake.memory) == len(PLAN.buffers)
    fake.log.clear()
    graph.run()
    graph.run(7)
    assert fake.log == [("replay", 0), ("replay", 7)]
    del graph
    gc.collect()
    assert fake.alive == []
    assert fake.memory == {}


def test_a_graph_that_cannot_be_made_leaves_nothing_behind(fake):
    bound = CudaProgram(BUNDLE).bind({"x": DeviceArray.from_numpy(X)})
    fake.cuGraphInstantiate = lambda graph, flags: (Status.CUDA_ERROR_OUT_OF_MEMORY, None)
    with pytest.raises(DeviceError, match="cuGraphInstantiate failed: CUDA_ERROR_OUT_OF_MEMORY"):
        bound.graph()
    assert fake.alive == ["module"]


def test_a_launch_that_the_driver_refuses_is_named(fake):
    bound = CudaProgram(BUNDLE).bind({"x": DeviceArray.from_numpy(X)})
    fake.cuLaunchKernel = lambda *_: (Status.CUDA_ERROR_INVALID_VALUE,)
    with pytest.raises(DeviceError, match=r"cuLaunchKernel failed: CUDA_ERROR_INVALID_VALUE \(text of 1\)"):
        bound.run()


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
        ({"x": X.astype(">i4")}, r"must be int32 of shape \(3, 4\), got >i4"),
    ],
)
def test_buffers_that_do_not_fit_are_refused(fake, buffers, message):
    with pytest.raises(InputError, match=message):
        CudaProgram(BUNDLE).bind({name: DeviceArray.from_numpy(array) for name, array in buffers.items()})


def test_unsigned_numbers_do_not_pass_for_signed_ones(fake):
    with pytest.raises(InputError, match="must be int32 of shape"):
        CudaProgram(BUNDLE).run({"x": DeviceArray.from_numpy(X.view(np.uint32))})


def test_a_buffer_at_an_odd_address_is_refused(fake):
    x = DeviceArray.from_numpy(X)
    with pytest.raises(InputError, match=r"must start at a multiple of 16 bytes, but starts at 0x\w+: copy it first"):
        CudaProgram(BUNDLE).bind({"x": dataclasses.replace(x, address=x.address + 4)})


def test_a_buffer_on_another_gpu_is_refused(fake):
    x = DeviceArray.from_numpy(X)
    elsewhere = dataclasses.replace(x, device=dataclasses.replace(x.device, ordinal=1))
    with pytest.raises(InputError, match=r"buffer x is on GPU 1, the program on GPU 0: copy it there .*'cuda:0'"):
        CudaProgram(BUNDLE).bind({"x": elsewhere})


@pytest.mark.parametrize("offset", [0, 16, -32])
def test_a_result_that_overlaps_an_argument_is_refused(fake, offset):
    memory = DeviceArray.from_numpy(np.zeros((7, 4), np.int32))
    x = dataclasses.replace(memory, address=memory.address + 32, shape=(3, 4), owner=memory)
    y = dataclasses.replace(x, address=x.address + offset)
    with pytest.raises(InputError, match="buffer y, which the program writes, overlaps buffer x: give memory of its"):
        CudaProgram(BUNDLE).bind({"x": x, "y": y})


def test_a_result_may_lie_right_beside_an_argument(fake):
    memory = DeviceArray.from_numpy(np.concatenate([X, X - X]))
    x, y = (dataclasses.replace(memory, address=memory.address + at, shape=(3, 4), owner=memory) for at in (0, 48))
    CudaProgram(BUNDLE).run({"x": x, "y": y})
    np.testing.assert_array_equal(memory.numpy(), np.concatenate([X, 2 * X]))


def test_a_result_in_memory_that_must_not_change_is_refused(fake):
    memory = DeviceArray.from_numpy(X)
    y = DeviceArray.share(Foreign(memory, data=(memory.address, True)))
    with pytest.raises(InputError, match="buffer y is written by the program, but the array is read-only"):
        CudaProgram(BUNDLE).bind({"x": DeviceArray.from_numpy(X), "y": y})


def bundle_with(step: Launch) -> Bundle:
    return Bundle(dataclasses.replace(PLAN, steps=(step,)), BUNDLE.stages)


def test_a_kernel_that_the_image_lacks_is_named(fake):
    with pytest.raises(BundleError, match=r"no kernel 'missing' .*CUDA_ERROR_NOT_FOUND \(text of 500\)"):
        CudaProgram(bundle_with(Launch("missing", (1, 1, 1), (1, 1, 1), 0, ()))).run({"x": DeviceArray.from_numpy(X)})


def test_a_kernel_that_needs_more_shared_memory_than_there_is_is_refused(fake):
    program = CudaProgram(bundle_with(Launch("k", (1, 1, 1), (1, 1, 1), 300_000, ())))
    with pytest.raises(BundleError, match=r"'k' needs 300,000 bytes of shared memory, NVIDIA H200 .* has 232,448"):
        program.bind({"x": DeviceArray.from_numpy(X)})


def test_out_of_memory_names_the_bytes_needed_and_free(fake):
    kept = DeviceArray.from_numpy(X)
    free = rf"{MEMORY - kept.nbytes:,} of {MEMORY:,} bytes free"
    message = (
        rf"cannot allocate 4,194,304 bytes on NVIDIA H200, which has {free}: cuMemAlloc .*CUDA_ERROR_OUT_OF_MEMORY"
    )
    with pytest.raises(DeviceError, match=message):
        DeviceArray.empty((1024, 1024), np.dtype(np.int32))


@pytest.mark.parametrize("fits", ["nothing", "the result"])
def test_out_of_memory_says_what_the_program_needs_frees_the_rest_and_leaves_arguments_alone(fake, fits):
    x = DeviceArray.from_numpy(X)
    bundle = bundle_of_scratch(MEMORY)
    filler = DeviceArray.empty((MEMORY - 48 - (48 if fits == "the result" else 0),), np.dtype(np.int8))
    fake.log.clear()
    with pytest.raises(DeviceError) as error:
        CudaProgram(bundle).bind({"x": x})
    assert f"'double' needs {MEMORY + 48:,} bytes on the GPU beside what it was given: cannot" in str(error.value)
    assert set(fake.memory) == {x.address, filler.address}  # though the error still has its traceback
    assert [entry for entry in fake.log if entry[0] in ("fill", "launch")] == []
    np.testing.assert_array_equal(x.numpy(), X)


def bundle_of_scratch(size: int) -> Bundle:
    """The program with that many bytes of scratch."""
    buffers = (*PLAN.buffers[:2], Buffer("s", "i8", (size,)))
    return Bundle(dataclasses.replace(PLAN, buffers=buffers, steps=PLAN.steps[:2]), BUNDLE.stages)


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


@pytest.mark.parametrize(
    ("theirs", "ours", "waits"),
    [(None, 0, []), (1, 0, []), (2, 0, [2]), (0x77, 0, [0x77]), (0x77, 0x77, []), (1, 0x77, [0])],
)
def test_what_another_library_queued_on_another_stream_is_waited_for(fake, theirs, ours, waits):
    foreign = Foreign(DeviceArray.from_numpy(X), stream=theirs)
    fake.log.clear()
    DeviceArray.share(foreign, stream=ours)
    assert [entry[1] for entry in fake.log] == waits


def test_an_array_whose_contents_come_later_is_waited_for(fake):
    foreign = Foreign(DeviceArray.from_numpy(X))
    waited = []
    foreign.block_until_ready = lambda: waited.append(True)
    DeviceArray.share(foreign)
    assert waited == [True]


@pytest.mark.parametrize("changes", [{"strides": (4, 16)}, {"mask": object()}])
def test_a_strided_or_masked_array_is_refused(fake, changes):
    message = r"w \(.*Foreign\) must be a dense, C-contiguous array without a mask: copy it first \(torch: x.contiguous"
    with pytest.raises(InputError, match=message):
        DeviceArray.share(Foreign(DeviceArray.from_numpy(X), **changes), "w")


def test_what_is_no_device_array_is_refused(fake):
    with pytest.raises(InputError, match=r"w \(list\) must lie in GPU memory, and have __cuda_array_interface__ or"):
        DeviceArray.share([1], "w")
    with pytest.raises(InputError, match=r"w \(numpy.ndarray\) must lie in GPU memory, but its DLPack device is 1"):
        DeviceArray.share(X, "w")


@pytest.mark.parametrize("is_pinned", [False, True])
def test_host_memory_given_as_gpu_memory_is_refused(fake, is_pinned):
    address = X.ctypes.data
    fake.pinned = [address] if is_pinned else []
    with pytest.raises(InputError, match=rf"w \(.*Foreign\) says that it lies in GPU memory, but {address:#x} is no"):
        DeviceArray.share(Foreign(DeviceArray.from_numpy(X), data=(address, False)), "w")


def test_what_the_other_library_raises_becomes_an_input_error(fake):
    class NeedsGradient:
        @property
        def __cuda_array_interface__(self):
            raise RuntimeError("use tensor.detach()")

    with pytest.raises(InputError, match=r"w \(.*NeedsGradient\) cannot be read in GPU memory: use tensor.detach"):
        DeviceArray.share(NeedsGradient(), "w")


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
