"""DLPack capsules: what they say, who may read them, and when the memory behind them is let go."""

from __future__ import annotations

import ctypes
import gc
import weakref

import ml_dtypes
import numpy as np
import pytest

from bitmlir.dialects.errors import InputError
from bitmlir.runtime import dlpack

CPU = 1  # kDLCPU: what the capsules of these tests are changed to, for numpy to read them


class Owner:
    """Something that lives as long as the memory is in use."""


def export(array: np.ndarray, owner: object = None, device: int = dlpack.CUDA):
    capsule = dlpack.export(array.ctypes.data, 3, array.shape, array.dtype, (array, owner))
    dlpack._ManagedTensor.from_address(dlpack._pointer(capsule, b"dltensor")).tensor.device_type = device
    return capsule


class OnHost:
    """A producer whose memory is the host's, for libraries to take."""

    def __init__(self, array: np.ndarray, owner: object = None) -> None:
        self.capsule = export(array, owner, CPU)

    def __dlpack_device__(self):
        return CPU, 0

    def __dlpack__(self, **_):
        capsule, self.capsule = self.capsule, None
        return capsule


TYPES = [np.bool_, np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.float16, np.float32, np.float64]


@pytest.mark.parametrize("dtype", [*TYPES, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3, 4)])
def test_what_is_exported_is_borrowed_as_it_was(dtype, shape):
    array = np.zeros(shape, dtype)
    borrowed = dlpack.borrow(export(array))
    assert (borrowed.address, borrowed.shape, borrowed.dtype) == (array.ctypes.data, shape, array.dtype)
    assert borrowed.strides is None


@pytest.mark.parametrize("dtype", TYPES)
def test_numpy_reads_what_is_exported(dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    taken = np.from_dlpack(OnHost(array))
    assert taken.dtype == array.dtype
    assert taken.ctypes.data == array.ctypes.data
    np.testing.assert_array_equal(taken, array)


def test_torch_reads_bfloat16_and_lets_go_of_it():
    torch = pytest.importorskip("torch")
    owner = Owner()
    alive = weakref.ref(owner)
    tensor = torch.from_dlpack(export(np.array([1.5, -2], ml_dtypes.bfloat16), owner, CPU))
    del owner
    gc.collect()
    assert tensor.dtype == torch.bfloat16
    assert tensor.tolist() == [1.5, -2]
    assert alive() is not None
    del tensor
    assert alive() is None


def test_jax_copies_and_lets_go():
    jax = pytest.importorskip("jax")
    owner, array = Owner(), np.arange(6, dtype=np.float32).reshape(2, 3)
    alive = weakref.ref(owner)
    copy = jax.dlpack.from_dlpack(OnHost(array, owner), copy=True).block_until_ready()
    del owner
    gc.collect()
    array[...] = -1
    np.testing.assert_array_equal(copy, np.arange(6).reshape(2, 3))
    assert alive() is None


def test_memory_lives_until_the_taker_lets_go():
    owner, array = Owner(), np.arange(6, dtype=np.int32)
    alive = weakref.ref(owner)
    taken = np.from_dlpack(OnHost(array, owner))
    view = taken[2:]
    del owner, taken
    gc.collect()
    assert alive() is not None
    np.testing.assert_array_equal(view, [2, 3, 4, 5])
    del view
    assert alive() is None


def test_a_capsule_that_nobody_takes_lets_go_by_itself():
    owner = Owner()
    alive = weakref.ref(owner)
    capsule = export(np.zeros(3), owner)
    del owner
    assert alive() is not None
    del capsule
    assert alive() is None


def test_many_capsules_leave_no_references_behind():
    array, owner = np.zeros(3), Owner()
    for _ in range(1000):
        export(array, owner)
        np.from_dlpack(OnHost(array, owner))
    assert len(gc.get_referrers(owner)) <= 1  # this frame, where Python counts it


def test_borrowed_memory_lives_as_long_as_what_was_borrowed():
    class Source(np.ndarray):
        """An array that can be watched."""

    source = np.arange(12, dtype=np.int32).reshape(3, 4).view(Source)
    alive = weakref.ref(source)
    borrowed = dlpack.borrow(source.T.__dlpack__())
    del source
    gc.collect()
    assert (borrowed.shape, borrowed.strides, borrowed.dtype) == ((4, 3), (4, 16), np.int32)
    assert alive() is not None
    assert (ctypes.c_int32 * 12).from_address(borrowed.address)[5] == 5
    del borrowed
    assert alive() is None


def test_an_offset_counts():
    array = np.arange(4, dtype=np.int32)
    capsule = export(array)
    dlpack._ManagedTensor.from_address(dlpack._pointer(capsule, b"dltensor")).tensor.byte_offset = 8
    assert dlpack.borrow(capsule).address == array.ctypes.data + 8


def test_elements_that_numpy_lacks_are_refused():
    with pytest.raises(InputError, match="DLPack type 5 of 1 × 128 bits has no numpy type"):
        dlpack.borrow(np.zeros(2, np.complex128).__dlpack__())
