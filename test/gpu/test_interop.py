"""Operands and results of other libraries on the GPU: torch, CuPy, and arrays that stay on the device."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import bitmlir
from bitmlir.runtime.driver import DeviceArray

pytestmark = pytest.mark.gpu

M, N, K = 33, 70, 500


@pytest.fixture
def operands() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.choice([-1, 1], (M, K)).astype(np.int8), rng.integers(0, 4, (N, K)).astype(np.uint8)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_torch_tensors_give_a_torch_tensor_on_their_device(operands, device: str):
    torch = pytest.importorskip("torch")
    x, w = (torch.from_numpy(array).to(device) for array in operands)
    result = bitmlir.compile(bitmlir.MatmulSpec(M, N, K, "bipolar", "u2"))(x, w)
    assert isinstance(result, torch.Tensor)
    assert result.device.type == device
    np.testing.assert_array_equal(result.cpu().numpy(), operands[0].astype(int) @ operands[1].T)


def test_torch_parameters_are_read_where_they_lie(operands):
    torch = pytest.importorskip("torch")
    x, w = (torch.from_numpy(array).cuda() for array in operands)
    bias = torch.rand(N, device="cuda")
    result = bitmlir.compile(bitmlir.MatmulSpec(M, N, K, "bipolar", "u2", out="f32", bias=True))(x, w, bias=bias)
    acc = (operands[0].astype(int) @ operands[1].T).astype(np.float32)
    np.testing.assert_array_equal(result.cpu().numpy(), acc + bias.cpu().numpy())


def test_cupy_arrays_give_a_cupy_array(operands):
    cupy = pytest.importorskip("cupy")
    x, w = map(cupy.asarray, operands)
    result = bitmlir.compile(bitmlir.MatmulSpec(M, N, K, "bipolar", "u2"))(x, w)
    assert isinstance(result, cupy.ndarray)
    np.testing.assert_array_equal(result.get(), operands[0].astype(int) @ operands[1].T)


def test_packed_operands_on_the_device_give_results_there(operands):
    x, w = bitmlir.pack(operands[0], "bipolar"), bitmlir.pack(operands[1], "u2")
    on_device = bitmlir.to_device(x), bitmlir.to_device(w)
    acc = operands[0].astype(int) @ operands[1].T
    result = bitmlir.compile(bitmlir.MatmulSpec(M, N, K, "bipolar", "u2"))(*on_device)
    assert hasattr(result, "__cuda_array_interface__")
    np.testing.assert_array_equal(np.asarray(result), acc)
    hidden = bitmlir.compile(bitmlir.MatmulSpec(M, N, K, "bipolar", "u2", out="bit"))(*on_device, threshold=0)
    assert hasattr(hidden.planes, "__cuda_array_interface__")
    np.testing.assert_array_equal(bitmlir.unpack(hidden), np.where(acc >= 0, 1, -1))


def test_packed_results_on_the_device_feed_the_next_product(operands):
    x, w = (bitmlir.to_device(bitmlir.pack(a, e)) for a, e in zip(operands, ("bipolar", "u2"), strict=True))
    hidden = bitmlir.compile(bitmlir.MatmulSpec(M, N, K, "bipolar", "u2", out="bit"))(x, w, threshold=3)
    v = np.random.default_rng(4).integers(-4, 4, (5, N))
    result = bitmlir.compile(bitmlir.MatmulSpec(M, 5, N, "bipolar", "i3"))(hidden, v)
    signs = np.where(operands[0].astype(int) @ operands[1].T >= 3, 1, -1)
    np.testing.assert_array_equal(np.asarray(result), signs @ v.T)


def test_a_bitmap_on_the_device_serves_too(operands):
    x, w = operands[0], operands[1] * 0
    spec = bitmlir.MatmulSpec(M, N, K, "bipolar", "u2", rhs_tiles=True)
    tiles = bitmlir.to_device(bitmlir.tile_bitmap(w, "u2"))
    np.testing.assert_array_equal(bitmlir.compile(spec)(x, w, rhs_tiles=tiles), np.zeros((M, N), np.int32))


# --- results in the caller's memory -------------------------------------------------------------------

SPEC = bitmlir.MatmulSpec(M, N, K, "bipolar", "u2")
SCALED = bitmlir.MatmulSpec(M, N, K, "bipolar", "u2", out="f32", bias=True)


def accumulators(operands: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return operands[0].astype(np.int32) @ operands[1].astype(np.int32).T


def packed_in_torch(torch: Any, values: np.ndarray, encoding: str) -> bitmlir.Packed:
    """A packed matrix whose arrays are torch's, on the GPU."""
    packed = bitmlir.pack(values, encoding)
    planes, sums = (torch.from_numpy(array).cuda() for array in (packed.planes, packed.sums))
    return bitmlir.Packed(planes, sums, packed.encoding, packed.shape)


def test_a_result_goes_into_a_torch_tensor(operands):
    torch = pytest.importorskip("torch")
    out = torch.full((M, N), 7, dtype=torch.int32, device="cuda")
    assert bitmlir.compile(SPEC)(*operands, out=out) is out
    np.testing.assert_array_equal(out.cpu().numpy(), accumulators(operands))


def test_a_result_goes_into_a_cupy_array(operands):
    cupy = pytest.importorskip("cupy")
    out = cupy.full((M, N), 7, dtype=cupy.int32)
    assert bitmlir.compile(SPEC)(*operands, out=out) is out
    np.testing.assert_array_equal(out.get(), accumulators(operands))


def test_a_result_goes_into_a_numpy_array(operands):
    out = np.full((M, N), 7, np.int32)
    assert bitmlir.compile(SPEC)(*operands, out=out) is out
    np.testing.assert_array_equal(out, accumulators(operands))


def test_a_packed_result_goes_into_a_packed_of_torch_tensors(operands):
    torch = pytest.importorskip("torch")
    out = packed_in_torch(torch, np.ones((M, N), np.int8), "bipolar")
    exe = bitmlir.compile(bitmlir.MatmulSpec(M, N, K, "bipolar", "u2", out="bit"))
    assert exe(*operands, threshold=3, out=out) is out
    host = bitmlir.Packed(out.planes.cpu().numpy(), out.sums.cpu().numpy(), out.encoding, out.shape)
    host.check()
    np.testing.assert_array_equal(bitmlir.unpack(host), np.where(accumulators(operands) >= 3, 1, -1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: t.empty(M, N, device="cuda"), "must be int32 of shape .*, got float32"),
        (lambda t: t.empty(N, M, dtype=t.int32, device="cuda"), r"must be int32 of shape \(33, 70\), got .*\(70, 33\)"),
        (lambda t: t.empty(N, M, dtype=t.int32, device="cuda").T, r"dense, C-contiguous .*torch: x\.contiguous"),
        (
            lambda t: t.empty(M * N + 1, dtype=t.int32, device="cuda")[1:].view(M, N),
            r"multiple of 16 .*torch\.empty\(\(33, 70\)",
        ),
    ],
)
def test_a_torch_tensor_that_does_not_fit_the_result_is_refused(operands, make: Callable, message: str):
    torch = pytest.importorskip("torch")
    with pytest.raises(bitmlir.InputError, match=f"result.values.* {message}"):
        bitmlir.compile(SPEC)(*operands, out=make(torch))


def test_a_result_that_shares_memory_with_an_argument_is_refused(operands):
    torch = pytest.importorskip("torch")
    memory = torch.zeros(N * (M + 2), device="cuda")
    bias, out = memory[:N], memory[N // 4 * 4 - 4 :][: M * N].view(M, N)
    with pytest.raises(bitmlir.InputError, match=r"result\.values, which the program writes, overlaps buffer bias"):
        bitmlir.compile(SCALED)(*operands, bias=bias, out=out)
    assert not memory.any()


def test_a_strided_parameter_is_refused_with_the_fix(operands):
    torch = pytest.importorskip("torch")
    with pytest.raises(bitmlir.InputError, match=r"bias.values \(torch.Tensor\) must be a dense.* x\.contiguous"):
        bitmlir.compile(SCALED)(*operands, bias=torch.zeros(2 * N, device="cuda")[::2])


def test_a_parameter_on_another_gpu_is_refused_with_the_fix(operands):
    torch = pytest.importorskip("torch")
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    with pytest.raises(bitmlir.InputError, match=r"bias.values is on GPU 1, the program on GPU 0: copy it .*'cuda:0'"):
        bitmlir.compile(SCALED)(*operands, bias=torch.zeros(N, device="cuda:1"))


@pytest.mark.parametrize("out", ["f16", "bf16"])
def test_half_precision_results_are_torchs(operands, out: str):
    torch = pytest.importorskip("torch")
    x, w = (torch.from_numpy(array).cuda() for array in operands)
    result = bitmlir.compile(bitmlir.MatmulSpec(M, N, K, "bipolar", "u2", out=out))(x, w)
    dtype = {"f16": torch.float16, "bf16": torch.bfloat16}[out]
    assert (result.dtype, result.device.type) == (dtype, "cuda")
    assert torch.equal(result.cpu(), torch.from_numpy(accumulators(operands)).float().to(dtype))


# --- streams and graphs -------------------------------------------------------------------------------

LONG = 200_000_000  # clock cycles, a tenth of a second: whoever does not wait is too early


def test_a_run_waits_for_torchs_current_stream_and_torch_for_the_run(operands):
    torch = pytest.importorskip("torch")
    x, w = (packed_in_torch(torch, a, e) for a, e in zip(operands, ("bipolar", "u2"), strict=True))
    bias = torch.zeros(N, device="cuda")
    bound = bitmlir.compile(SCALED).bind(x, w, bias=bias)
    side = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(LONG)
        bias.fill_(3)
        result = bound() + 1
    side.synchronize()
    assert isinstance(result, torch.Tensor)
    np.testing.assert_array_equal(result.cpu().numpy(), accumulators(operands).astype(np.float32) + 4)


def test_arguments_of_torch_beside_others_are_waited_for_when_they_are_bound(operands):
    torch = pytest.importorskip("torch")
    exe = bitmlir.compile(SCALED)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(LONG)
        bias = torch.full((N,), 3.0, device="cuda")
        result = exe(*operands, bias=bias)  # numpy first: on the legacy default stream
    np.testing.assert_array_equal(result, accumulators(operands) + np.float32(3))


def test_a_run_waits_for_cupys_current_stream_and_cupy_for_the_run(operands):
    cupy = pytest.importorskip("cupy")
    packed = [bitmlir.pack(a, e) for a, e in zip(operands, ("bipolar", "u2"), strict=True)]
    x, w = (bitmlir.Packed(cupy.asarray(p.planes), cupy.asarray(p.sums), p.encoding, p.shape) for p in packed)
    bias = cupy.zeros(N, cupy.float32)
    bound = bitmlir.compile(SCALED).bind(x, w, bias=bias)
    cupy.cuda.Device().synchronize()
    spin = cupy.RawKernel(
        'extern "C" __global__ void spin(long long n) { long long t = clock64(); while (clock64() - t < n); }', "spin"
    )
    with cupy.cuda.Stream(non_blocking=True) as side:
        spin((1,), (1,), (cupy.int64(LONG),))
        bias.fill(3)
        result = bound() + 1
        side.synchronize()
    assert isinstance(result, cupy.ndarray)
    np.testing.assert_array_equal(result.get(), accumulators(operands).astype(np.float32) + 4)


def test_a_run_can_be_part_of_torchs_own_graph(operands):
    torch = pytest.importorskip("torch")
    x, w = (packed_in_torch(torch, a, e) for a, e in zip(operands, ("bipolar", "u2"), strict=True))
    bias = torch.zeros(N, device="cuda")
    bound = bitmlir.compile(SCALED).bind(x, w, bias=bias)
    bound()  # kernels are loaded at their first launch, which a recording does not allow
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = bound() * 2
    for value in (3, 5):
        bias.fill_(value)
        graph.replay()
        expected = 2 * (accumulators(operands).astype(np.float32) + value)
        np.testing.assert_array_equal(result.cpu().numpy(), expected)


def test_a_recorded_call_gives_what_the_call_gives(operands):
    x, w = (bitmlir.to_device(bitmlir.pack(a, e)) for a, e in zip(operands, ("bipolar", "u2"), strict=True))
    recorded = bitmlir.compile(SPEC).bind(x, w).graph()
    for _ in range(2):
        np.testing.assert_array_equal(np.asarray(recorded()), accumulators(operands))
    assert min(recorded.time(3)) > 0


def test_many_calls_leave_no_memory_behind(operands):
    torch = pytest.importorskip("torch")
    exe = bitmlir.compile(bitmlir.MatmulSpec(M, 1 << 17, K, "bipolar", "u1"))
    w = bitmlir.to_device(bitmlir.pack(np.ones((1 << 17, K), np.uint8), "u1"))
    x = torch.from_numpy(operands[0]).cuda()
    for _ in range(1 << 14):  # whose results, 17 MB each, are more than any GPU has
        exe(x, w)


# --- JAX, as far as it can be had without it ----------------------------------------------------------


def test_jax_arrays_give_jax_arrays(operands):
    jax = pytest.importorskip("jax")
    if jax.default_backend() != "gpu":
        pytest.skip("JAX sees no GPU")
    x, w = map(jax.numpy.asarray, operands)
    bias = jax.numpy.arange(N, dtype=jax.numpy.float32)
    bound = bitmlir.compile(SCALED).bind(x, w, bias=bias)
    first, second = bound(), bound()
    for result in (first, second):
        assert isinstance(result, jax.Array)
        assert result.devices() == x.devices()
        np.testing.assert_array_equal(result, accumulators(operands) + np.arange(N, dtype=np.float32))


def test_an_array_that_speaks_dlpack_alone_is_read_in_place(operands):
    torch = pytest.importorskip("torch")
    bias = torch.arange(N, dtype=torch.float32, device="cuda")
    other = SimpleNamespace(__dlpack__=bias.__dlpack__, __dlpack_device__=bias.__dlpack_device__)
    result = bitmlir.compile(SCALED)(*operands, bias=other)
    np.testing.assert_array_equal(result, accumulators(operands) + np.arange(N, dtype=np.float32))


def test_bundles_run_with_numpy_and_cuda_python_alone(tmp_path, operands):
    bitmlir.compile(SPEC).save(tmp_path / "product.bitmlir")
    np.savez(tmp_path / "operands.npz", x=operands[0], w=operands[1], y=accumulators(operands))
    code = f"""
import sys
for name in ("torch", "cupy", "jax", "mlir"):
    sys.modules[name] = None
import bitmlir, numpy as np
given = np.load({str(tmp_path / "operands.npz")!r})
out = np.zeros_like(given["y"])
bitmlir.load({str(tmp_path / "product.bitmlir")!r})(given["x"], given["w"], out=out)
print((out == given["y"]).all())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("True\n", "")


def test_results_shared_with_torch_outlive_the_program(operands):
    torch = pytest.importorskip("torch")
    x, w = (torch.from_numpy(array).cuda() for array in operands)
    results = [bitmlir.compile(SPEC)(x, w) for _ in range(3)]
    DeviceArray.from_numpy(np.zeros((M, N), np.int32))  # what was freed would be used again
    for result in results:
        np.testing.assert_array_equal(result.cpu().numpy(), accumulators(operands))
