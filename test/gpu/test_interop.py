"""Operands and results of other libraries on the GPU: torch, CuPy, and arrays that stay on the device."""

from __future__ import annotations

import numpy as np
import pytest

import bitmlir

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
