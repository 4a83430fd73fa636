"""Calling a program: results written into what the caller gives, in its library, on its stream; on the CPU and, with a
driver made of Python, on a GPU.

`test/gpu/test_interop.py` does the same with torch and CuPy on a real one.
"""

from __future__ import annotations

import dataclasses
import gc
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_driver import MEMORY, FakeDriver

import bitmlir
from bitmlir.executable import Executable
from bitmlir.formats.packed import Packed, pack
from bitmlir.runtime.bundle import Bundle
from bitmlir.runtime.driver import DeviceArray
from bitmlir.runtime.plan import Buffer, Launch, Memset, Plan, Value

X = np.arange(12, dtype=np.int32).reshape(3, 4)
DOUBLE = Plan(
    name="double",
    target="sm_90",
    arguments=(Value("x", "array", (3, 4), {"values": "x.values"}, dtype="i32"),),
    results=(Value("y", "array", (3, 4), {"values": "y.values"}, dtype="i32"),),
    buffers=(Buffer("x.values", "i32", (3, 4)), Buffer("y.values", "i32", (3, 4))),
    steps=(Memset("y.values"), Launch("double", (3, 1, 1), (4, 1, 1), 0, ("y.values", "x.values"))),
)
PARTS = {"planes": "y.planes", "sums": "y.sums"}
ALL_MINUS_ONE = dataclasses.replace(
    DOUBLE,
    name="all_minus_one",
    results=(Value("y", "packed", (3, 40), PARTS, encoding="bipolar"),),
    buffers=(DOUBLE.buffers[0], Buffer("y.planes", "i32", (1, 3, 4)), Buffer("y.sums", "i32", (3,))),
    steps=(Memset("y.planes"), Memset("y.sums")),
)
BOTH = dataclasses.replace(
    DOUBLE,
    results=(*DOUBLE.results, *(dataclasses.replace(ALL_MINUS_ONE.results[0], name="z"),)),
    buffers=(*DOUBLE.buffers, *ALL_MINUS_ONE.buffers[1:]),
    steps=(*DOUBLE.steps, *ALL_MINUS_ONE.steps),
)


def gpu_program(plan: Plan = DOUBLE) -> Executable:
    return Executable(Bundle(plan, {"cubin": b"cubin"}))


def queued(fake: FakeDriver) -> list[tuple]:
    """What was queued, and on which stream."""
    return [(entry[0], entry[-1]) for entry in fake.log if entry[0] in ("fill", "launch", "replay")]


def on_device(array: np.ndarray) -> DeviceArray:
    return DeviceArray.from_numpy(array)


def random_packed(seed: int) -> Packed:
    return pack(np.random.default_rng(seed).choice([-1, 1], (3, 40)), "bipolar")


# --- out on a GPU -------------------------------------------------------------------------------------


def test_a_result_is_written_into_the_given_device_array_and_it_is_returned(fake):
    out = on_device(X - 99)
    assert gpu_program()(on_device(X), out=out) is out
    np.testing.assert_array_equal(out.numpy(), 2 * X)
    assert len(fake.memory) == 1  # the argument is freed, and no other result was made


def test_a_result_on_the_gpu_may_be_asked_for_in_host_memory(fake):
    out = X - 99
    assert gpu_program()(on_device(X), out=out) is out
    np.testing.assert_array_equal(out, 2 * X)


def test_a_result_on_the_gpu_may_be_asked_for_in_a_torch_tensor_on_the_host(fake):
    torch = pytest.importorskip("torch")
    out = torch.zeros(3, 4, dtype=torch.int32)
    assert gpu_program()(X, out=out) is out
    assert out.tolist() == (2 * X).tolist()


def test_each_call_writes_the_out_but_a_bare_run_does_not(fake):
    out = np.full((3, 4), -1, np.int32)
    bound = gpu_program().bind(on_device(X), out=out)
    for _ in range(2):
        out[...] = -1
        bound.run()
        assert (out == -1).all()
        assert bound() is out
        np.testing.assert_array_equal(out, 2 * X)


def test_a_packed_result_is_written_into_a_packed(fake):
    host, device = random_packed(0), bitmlir.to_device(random_packed(1))
    for out in (host, device):
        assert gpu_program(ALL_MINUS_ONE)(X, out=out) is out
        assert not np.asarray(out.planes).any()
        assert not np.asarray(out.sums).any()


def test_of_several_results_some_may_be_given(fake):
    out, packed = on_device(X - 99), random_packed(0)
    first, second = gpu_program(BOTH)(on_device(X), out=(out, None))
    assert first is out
    np.testing.assert_array_equal(out.numpy(), 2 * X)
    assert not np.asarray(second.planes).any()
    first, second = gpu_program(BOTH)(X, out=(None, packed))
    assert second is packed
    np.testing.assert_array_equal(first, 2 * X)
    assert not packed.planes.any()


NEW = r"give a new array, such as numpy.empty\(\(3, 4\), 'int32'\) or torch.empty\(\(3, 4\), dtype=torch.int32\)"


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (lambda: on_device(X.astype(np.int64)), rf"y.values must be int32 of shape \(3, 4\), got int64.*: {NEW}"),
        (lambda: on_device(X.T), r"buffer y.values must be int32 of shape \(3, 4\), got int32 of shape \(4, 3\)"),
        (lambda: X.astype(np.float32), rf"y.values must be int32 of shape \(3, 4\), got float32.*: {NEW}"),
        (lambda: X.astype(">i4"), r"buffer y.values must be int32 of shape \(3, 4\), got >i4"),
        (lambda: np.zeros((3, 8), np.int32)[:, ::2], f"y.values must be C-contiguous and aligned: {NEW}"),
        (lambda: np.broadcast_to(np.int32(0), (3, 4)), "buffer y.values must be C-contiguous"),
        (lambda: np.frombuffer(bytes(48), np.int32).reshape(3, 4), f"y.values .* is read-only: {NEW}"),
        (lambda: [[0] * 4] * 3, "y.values must be a numpy array, a torch tensor, or an array in GPU memory.*got list"),
        (lambda: random_packed(0), "y.values must be a numpy array, .*got bitmlir.formats.packed.Packed"),
        (lambda: shifted(on_device(np.zeros(20, np.int32))), f"y.values must start at a multiple of 16 bytes.*: {NEW}"),
    ],
)
def test_an_out_that_does_not_fit_is_refused_before_anything_runs(fake, out: Any, message: str):
    x = on_device(X)
    with pytest.raises(bitmlir.InputError, match=message):
        gpu_program()(x, out=out())
    assert queued(fake) == []


def shifted(array: DeviceArray) -> DeviceArray:
    """An array of 3 × 4 within another, at an odd address."""
    return dataclasses.replace(array, address=array.address + 4, shape=(3, 4), owner=array)


def test_an_argument_of_the_wrong_type_is_refused_with_what_to_write(fake):
    convert = r"convert it \(numpy, CuPy: x\.astype\('int32'\), torch: x\.to\(torch\.int32\)\)"
    with pytest.raises(bitmlir.InputError, match=f"buffer x.values must be int32 .*, got int64 .*: {convert}"):
        gpu_program()(on_device(X.astype(np.int64)))
    with pytest.raises(bitmlir.InputError, match=r"got int32 of shape \(4, 3\): give an array of that shape"):
        gpu_program()(on_device(X.T))


def test_an_out_that_is_the_argument_is_refused_and_the_argument_left_alone(fake):
    x = on_device(X)
    with pytest.raises(bitmlir.InputError, match=r"y\.values, which the program writes, overlaps buffer x\.values"):
        gpu_program()(x, out=x)
    np.testing.assert_array_equal(x.numpy(), X)


def test_parts_of_a_packed_out_that_overlap_are_refused(fake):
    out = bitmlir.to_device(random_packed(0))
    sums = dataclasses.replace(out.planes, shape=(3,), dtype=np.dtype(np.int32))
    with pytest.raises(
        bitmlir.InputError, match=r"buffer y\.planes, which the program writes, overlaps buffer y\.sums"
    ):
        gpu_program(ALL_MINUS_ONE)(X, out=dataclasses.replace(out, sums=sums))


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (X, bitmlir.InputError, "out for y must be a Packed in 'bipolar', got ndarray"),
        (
            pack(np.zeros((3, 40), int), "u1"),
            bitmlir.EncodingError,
            "out for y must be in encoding 'bipolar', got 'u1'",
        ),
        (pack(np.ones((3, 41), int), "bipolar"), bitmlir.ShapeError, r"out for y must have the shape \(3, 40\), got"),
    ],
)
def test_a_packed_out_must_be_of_the_results_kind(fake, out: Any, error: type, message: str):
    with pytest.raises(error, match=message):
        gpu_program(ALL_MINUS_ONE)(X, out=out)


@pytest.mark.parametrize("out", [X, (X,), (X, None, None)])
def test_several_results_take_as_many_outs(fake, out: Any):
    with pytest.raises(bitmlir.InputError, match="out must be a tuple of 2 for the results y, z, got"):
        gpu_program(BOTH)(X, out=out)


def test_one_host_array_cannot_take_two_results(fake):
    packed = random_packed(0)
    overlapping = packed.planes.reshape(3, 4).view(np.int32)
    with pytest.raises(bitmlir.InputError, match=r"buffer y\.planes, which the program writes, overlaps buffer y\.val"):
        gpu_program(BOTH)(X, out=(overlapping, packed))


def test_out_of_memory_frees_what_was_copied_to_the_gpu_already(fake):
    filler = DeviceArray.empty((MEMORY - 60,), np.dtype(np.int8))
    x = X.copy()
    with pytest.raises(bitmlir.DeviceError, match=r"'double' needs 48 bytes on the GPU .*which has 12 of") as error:
        gpu_program()(x)
    assert error.traceback
    np.testing.assert_array_equal(x, X)
    del error
    gc.collect()
    assert set(fake.memory) == {filler.address}


# --- out on the CPU -----------------------------------------------------------------------------------

SPEC = bitmlir.MatmulSpec(m=3, n=5, k=70, lhs="bipolar", rhs="u2")


@pytest.fixture
def operands() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    return rng.choice([-1, 1], (3, 70)), rng.integers(0, 4, (5, 70))


@pytest.fixture(scope="module")
def product() -> Executable:
    return bitmlir.compile(SPEC, target="cpu")


def test_on_the_cpu_the_kernels_write_the_given_array(product, operands):
    x, w = operands
    out = np.full((3, 5), 77, np.int32)
    assert product(x, w, out=out) is out
    np.testing.assert_array_equal(out, x @ w.T)


def test_on_the_cpu_a_torch_tensor_may_be_given(product, operands):
    torch = pytest.importorskip("torch")
    x, w = operands
    out = torch.zeros(3, 5, dtype=torch.int32)
    assert product(x, w, out=out) is out
    np.testing.assert_array_equal(out.numpy(), x @ w.T)


def test_on_the_cpu_a_bfloat16_tensor_may_be_given(operands):
    torch = pytest.importorskip("torch")
    x, w = operands
    out = torch.zeros(3, 5, dtype=torch.bfloat16)
    bitmlir.compile(dataclasses.replace(SPEC, out="bf16"), target="cpu")(x, w, out=out)
    np.testing.assert_array_equal(out.float().numpy(), x @ w.T)  # sums below 256 are exact


def test_on_the_cpu_a_packed_result_goes_into_a_packed(operands):
    x, w = operands
    exe = bitmlir.compile(dataclasses.replace(SPEC, out="bit"), target="cpu")
    out = pack(np.ones((3, 5), int), "bipolar")
    assert exe(x, w, threshold=3, out=out) is out
    out.check()
    np.testing.assert_array_equal(bitmlir.unpack(out), np.where(x @ w.T >= 3, 1, -1))


def test_on_the_cpu_an_out_that_overlaps_an_argument_is_refused(operands):
    x, w = operands
    exe = bitmlir.compile(dataclasses.replace(SPEC, out="f32", bias=True), target="cpu")
    memory = np.arange(16, dtype=np.float32)
    bias, out = memory[:5], memory[1:].reshape(3, 5)
    with pytest.raises(
        bitmlir.InputError, match=r"result\.values, which the program writes, overlaps buffer bias\.val"
    ):
        exe(x, w, bias=bias, out=out)
    np.testing.assert_array_equal(memory, np.arange(16))


def test_on_the_cpu_an_out_in_gpu_memory_is_refused(fake, product, operands):
    with pytest.raises(bitmlir.InputError, match=r"result\.values is in GPU memory, but the program is for the CPU"):
        product(*operands, out=on_device(np.zeros((3, 5), np.int32)))


def test_on_the_cpu_there_is_no_stream_and_a_graph_is_the_call_itself(product, operands):
    bound = product.bind(*operands)
    assert bound.graph() is bound
    with pytest.raises(bitmlir.InputError, match="a program for the CPU takes no stream"):
        bound.run(3)


@pytest.mark.parametrize("repeats", [0, -1, 2.0, True, None, "3"])
def test_a_program_is_timed_a_whole_number_of_times(product, operands, repeats: Any):
    with pytest.raises(bitmlir.InputError, match="repeats must be a whole number above 0, got "):
        product.bind(*operands).time(repeats)
    assert len(product.bind(*operands).time(np.int64(3))) == 3


def test_a_strided_array_is_copied_and_logged(operands, caplog: pytest.LogCaptureFixture):
    x, w = operands
    exe = bitmlir.compile(dataclasses.replace(SPEC, out="f32", bias=True), target="cpu")
    bias = np.arange(10, dtype=np.float32)[::2]
    with caplog.at_level("DEBUG", "bitmlir"):
        np.testing.assert_array_equal(exe(x, w, bias=bias), x @ w.T + bias)
    assert "bias is not C-contiguous, and is copied" in caplog.text


INF, NAN, LARGE = float("inf"), float("nan"), 3.4e38  # of bf16 the last is, too


@pytest.mark.parametrize(
    ("out", "changed", "message"),
    [
        (
            "f16",
            {"residual": [[0] * 5, [0, 0, 1e6, 0, INF], [0] * 5]},
            r"residual\[1, 2\] = 1000000.0 .* float16, .* ±65504",
        ),
        ("f16", {"residual": 70_000}, r"residual = 70000 is too large for float16, which ends at ±65504"),
        ("f16", {"residual": np.full((3, 5), -1e5)}, r"residual\[0, 0\] = -100000.0 is too large for float16"),
        ("bf16", {"residual": LARGE}, r"residual = 3.4e\+38 is too large for bfloat16, which ends at ±3.3895314e\+38"),
        (
            "f32",
            {"column_scale": 1e300},
            r"column_scale = 1e\+300 is too large for float32, which ends at ±3.4028235e\+38",
        ),
        ("f32", {"column_scale": [1, 2, 3, 4, -1e39]}, r"column_scale\[4\] = -1e\+39 is too large for float32"),
    ],
)
def test_a_finite_number_that_would_become_infinite_is_refused(operands, out: str, changed: dict, message: str):
    spec = dataclasses.replace(SPEC, out=out, residual=out, column_scale=True)
    with pytest.raises(bitmlir.InputError, match=message):
        bitmlir.compile(spec, target="cpu")(*operands, **{"column_scale": 1.0, "residual": 0.0} | changed)


@pytest.mark.parametrize("out", ["f16", "bf16", "f32"])
def test_numbers_that_are_infinite_or_none_stay_as_they_are(operands, out: str):
    spec = dataclasses.replace(SPEC, out=out, residual=out)
    residual = np.array([[INF, -INF, NAN, 1e-300, 3.0]] * 3)
    result = bitmlir.compile(spec, target="cpu")(*operands, residual=residual)
    expected = (operands[0] @ operands[1].T) + np.where(residual == 1e-300, 0, residual)
    np.testing.assert_array_equal(result.astype(np.float64), expected)


def test_an_array_of_a_wider_type_of_this_library_is_looked_at_too(operands):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    spec = dataclasses.replace(SPEC, out="f16", residual="f16")
    residual = np.full((3, 5), 1e30, ml_dtypes.bfloat16)
    with pytest.raises(bitmlir.InputError, match=r"residual\[0, 0\] = 1.00026e\+30 is too large for float16"):
        bitmlir.compile(spec, target="cpu")(*operands, residual=residual)


# --- streams and graphs -------------------------------------------------------------------------------


class Tensor:
    """A torch tensor in GPU memory, as far as we look at one."""

    def __init__(self, memory: DeviceArray) -> None:
        self.memory, self.device = memory, SimpleNamespace(index=0)
        self.__cuda_array_interface__ = {**memory.__cuda_array_interface__, "version": 2}
        del self.__cuda_array_interface__["stream"]

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.memory.__dlpack_device__()


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """torch with a current stream, 7 at first."""
    torch = SimpleNamespace(Tensor=Tensor, current=7, bfloat16=None, from_dlpack=Tensor)
    torch.cuda = SimpleNamespace(current_stream=lambda device: SimpleNamespace(cuda_stream=torch.current))
    monkeypatch.setitem(sys.modules, "torch", torch)
    return torch


def test_work_goes_to_the_stream_that_is_current_in_torch_when_it_runs(fake, torch):
    bound = gpu_program().bind(Tensor(on_device(X)))
    fake.log.clear()
    result = bound()
    torch.current = 8
    assert bound() is result
    assert [stream for _, stream in queued(fake)] == [7, 7, 8, 8]
    assert isinstance(result, Tensor)
    np.testing.assert_array_equal(result.memory.numpy(), 2 * X)
    assert all(entry[0] in ("fill", "launch") for entry in fake.log[:4])  # and the host waited for nothing


def test_binding_waits_for_nothing_on_the_stream_that_will_run(fake, torch):
    x = Tensor(on_device(X))
    fake.log.clear()
    gpu_program().bind(x)
    assert [entry for entry in fake.log if entry[0] == "wait"] == []


@pytest.mark.parametrize("argument", [X, "on the device"], ids=["numpy", "device"])
def test_work_goes_to_the_stream_of_the_library_whose_array_is_the_out(fake, torch, argument: Any):
    x, out = on_device(X) if isinstance(argument, str) else argument, Tensor(on_device(X - 99))
    bound = gpu_program().bind(x, out=out)
    fake.log.clear()
    assert bound() is out
    assert [stream for _, stream in queued(fake)] == [7, 7]
    np.testing.assert_array_equal(out.memory.numpy(), 2 * X)


def test_what_other_streams_do_to_an_argument_is_waited_for_when_it_is_bound(fake, torch):
    x, out = on_device(X), Tensor(on_device(X))
    fake.log.clear()
    gpu_program().bind(x, out=out)
    assert [entry for entry in fake.log if entry[0] == "wait"] == [("wait", 0)]


def test_arrays_of_no_library_run_on_the_legacy_stream(fake, torch):
    bound = gpu_program().bind(on_device(X))
    fake.log.clear()
    bound()
    bound.run(9)
    assert [stream for _, stream in queued(fake)] == [0, 0, 9, 9]


def test_the_result_of_a_torch_tensor_is_the_same_tensor_each_time(fake, torch):
    bound = gpu_program().bind(Tensor(on_device(X)))
    assert bound() is bound()


def test_a_graph_replays_all_launches_at_once_on_the_current_stream(fake, torch):
    recorded = gpu_program().bind(Tensor(on_device(X))).graph()
    fake.log.clear()
    result = recorded()
    torch.current = 8
    recorded.run()
    assert queued(fake) == [("replay", 7), ("replay", 8)]
    assert isinstance(result, Tensor)


def test_a_graph_serves_host_arrays_too(fake):
    replay = fake.cuGraphLaunch
    bound = gpu_program().bind(X)

    def launch(graph, stream):
        bound.run(stream)
        return replay(graph, stream)

    fake.cuGraphLaunch = launch
    np.testing.assert_array_equal(bound.graph()(), 2 * X)


def test_each_step_runs_alone_on_the_buffers_of_the_whole(fake):
    bound = gpu_program().bind(on_device(X))
    (fill, clear), (launch, double) = bound.steps()
    assert (fill, launch) == DOUBLE.steps
    result = bound()
    clear.run(3)
    np.testing.assert_array_equal(result.numpy(), 0 * X)
    double.run()
    np.testing.assert_array_equal(result.numpy(), 2 * X)
    assert queued(fake)[2:] == [("fill", 3), ("launch", 0)]
    assert [step for step, _ in clear.steps()] == [fill]
    assert len(double.time(repeats=2)) == 2


def test_on_the_cpu_the_steps_one_by_one_are_the_whole():
    program = bitmlir.compile(bitmlir.Conv2dSpec(1, 4, 4, 70, 5, "u2", "bipolar", padding=1), target="cpu")
    rng, out = np.random.default_rng(5), np.full((1, 4, 4, 5), 99, np.int32)
    bound = program.bind(rng.integers(0, 4, (1, 4, 4, 70)), rng.choice([-1, 1], (5, 3, 3, 70)), out=out)
    steps = bound.steps()
    assert tuple(step for step, _ in steps) == program.plan.steps
    assert len(steps) > 2
    for _, alone in steps:
        alone.run()
    one_by_one = out.copy()
    np.testing.assert_array_equal(bound(), one_by_one)


def test_a_call_frees_all_it_made_when_its_results_are_dropped(fake):
    gc.disable()
    try:
        result = gpu_program()(on_device(X))
        assert len(fake.memory) == 1
        del result
        assert fake.memory == {}
    finally:
        gc.enable()


# --- JAX ----------------------------------------------------------------------------------------------


class JaxArray:
    """A JAX array in GPU memory, which speaks DLPack alone (as those of bf16 do)."""

    def __init__(self, memory: DeviceArray) -> None:
        self.memory, self.streams = memory, []
        self.is_ready = False

    def block_until_ready(self) -> JaxArray:
        self.is_ready = True
        return self

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.memory.__dlpack_device__()

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        assert self.is_ready
        self.streams.append(stream)
        return self.memory.__dlpack__()


@pytest.fixture
def jax(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    def from_dlpack(array: DeviceArray) -> JaxArray:
        array.__dlpack__(stream=0x55)  # JAX's own
        return JaxArray(array)

    def copy(array: JaxArray) -> JaxArray:
        return JaxArray(DeviceArray.from_numpy(array.memory.numpy()))

    # JAX on GPUs refuses from_dlpack(…, copy=True).
    modules = {"dlpack": SimpleNamespace(from_dlpack=from_dlpack), "numpy": SimpleNamespace(copy=copy)}
    jax = SimpleNamespace(Array=JaxArray, **modules)
    monkeypatch.setitem(sys.modules, "jax", jax)
    return jax


def test_jax_arrays_are_read_in_place_and_give_new_jax_arrays(fake, jax):
    x = JaxArray(on_device(X))
    bound = gpu_program().bind(x)
    assert x.streams == [1]
    fake.log.clear()
    first, second = bound(), bound()
    assert first.memory.address != second.memory.address  # JAX arrays never change
    for result in (first, second):
        assert result.is_ready
        np.testing.assert_array_equal(result.memory.numpy(), 2 * X)
    assert ("wait for event", 0x55) in fake.log  # its stream came after ours


def test_a_jax_array_is_no_place_for_a_result(fake, jax):
    with pytest.raises(bitmlir.InputError, match="out for y is a JAX array, which never changes: leave it out"):
        gpu_program()(X, out=JaxArray(on_device(X)))


def test_a_jax_array_is_read_by_dlpack_though_its_interface_fails(fake, jax):
    class OfBf16(JaxArray):
        @property
        def __cuda_array_interface__(self) -> Any:
            raise RuntimeError("no such type there")

    out = np.zeros((3, 4), np.int32)
    gpu_program()(OfBf16(on_device(X)), out=out)
    np.testing.assert_array_equal(out, 2 * X)
