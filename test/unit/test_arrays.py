"""Arrays of other libraries, met through stand-ins that offer one protocol each, and torch where it is installed."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from support import OnDevice, WithGet

from bitmlir.arrays import as_integers, as_numpy, as_writable, is_device_array, like, require_layout
from bitmlir.dialects.errors import InputError, ShapeError

CUDA, CUDA_HOST, CUDA_MANAGED = 2, 3, 13  # DLDeviceType in dlpack.h


class WithInterface:
    def __init__(self, array: np.ndarray) -> None:
        self.keep = array
        self.__array_interface__ = array.__array_interface__


class WithArray:
    def __init__(self, array: np.ndarray) -> None:
        self.keep = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.keep


class WithDLPack:
    def __init__(self, array: np.ndarray) -> None:
        self.keep = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.keep.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.keep.__dlpack_device__()


class WithCpu:
    """A tensor as torch makes them: DLPack names the device, `.cpu()` copies."""

    def __init__(self, array: np.ndarray, device: int = CUDA) -> None:
        self.data, self.device = array, device

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0

    def cpu(self) -> np.ndarray:
        return self.data

    @property
    def __cuda_array_interface__(self) -> Any:
        raise RuntimeError("a tensor that requires a gradient has none")


class CopiesByArray(OnDevice):
    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.data


VALUES = np.array([[1, -2, 3], [4, 5, -6]], np.int16)


@pytest.mark.parametrize("wrap", [lambda a: a, WithInterface, WithArray, WithDLPack])
def test_host_arrays_of_any_library_are_read_without_a_copy(wrap: Any) -> None:
    values = VALUES.copy()
    array = as_numpy(wrap(values), "x")
    assert type(array) is np.ndarray
    assert array.dtype == np.int16
    np.testing.assert_array_equal(array, VALUES)
    assert np.shares_memory(array, values)


@pytest.mark.parametrize("wrap", [lambda a: a, WithInterface, WithArray, WithDLPack])
def test_strided_arrays_keep_their_elements(wrap: Any) -> None:
    strided = np.arange(48, dtype=np.int32).reshape(6, 8)[::2, 1::3]
    np.testing.assert_array_equal(as_numpy(wrap(strided), "x"), [[1, 4, 7], [17, 20, 23], [33, 36, 39]])


def test_nested_lists_and_scalars_are_arrays() -> None:
    np.testing.assert_array_equal(as_numpy([[1, 0], [0, 1]]), np.eye(2))
    assert as_numpy(3).shape == ()


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_every_kind_of_number_is_taken(dtype: Any) -> None:
    assert as_numpy(np.ones(3, dtype), "x").dtype == dtype


@pytest.mark.parametrize("x", ["text", object(), {1: 2}, [1, None], [1 + 2j], [2**70], np.array(["2020"], "M8[Y]")])
def test_what_is_no_array_of_numbers_is_refused(x: object) -> None:
    with pytest.raises(InputError, match=r"lhs \(.*is not an array of numbers .*: pass booleans, integers or floats"):
        as_numpy(x, "lhs")


def test_ragged_lists_are_refused() -> None:
    with pytest.raises(InputError, match=r"lhs \(list\) cannot be read as a numpy array"):
        as_numpy([[1, 2], [3]], "lhs")


def test_a_masked_array_is_refused_because_its_mask_would_be_lost() -> None:
    with pytest.raises(InputError, match=r"lhs is a masked array.*filled"):
        as_numpy(np.ma.masked_equal([1, 2], 2), "lhs")


def test_what_the_other_library_raises_becomes_an_input_error() -> None:
    class Broken:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            raise RuntimeError("detach me first")

    with pytest.raises(InputError, match=r"lhs .*Broken.*: detach me first"):
        as_numpy(Broken(), "lhs")


@pytest.mark.parametrize("values", [[[1.0, 2.0]], np.ones((1, 1), np.float32), np.ones((1, 1), ml_dtypes.bfloat16)])
def test_floats_that_hold_whole_numbers_are_refused_as_integers(values: Any) -> None:
    with pytest.raises(InputError, match=r"rhs must have an integer or boolean dtype, got .*float.*: round and cast"):
        as_integers(values, "rhs")


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int64, ">i4"])
def test_integers_and_booleans_are_taken_as_they_are(dtype: Any) -> None:
    assert as_integers(np.ones(2, dtype), "rhs").dtype == dtype


@pytest.mark.parametrize("wrap", [OnDevice, WithGet, CopiesByArray, WithCpu, lambda a: WithCpu(a, CUDA_MANAGED)])
def test_arrays_in_gpu_memory_are_recognised(wrap: Any) -> None:
    assert is_device_array(wrap(VALUES))


@pytest.mark.parametrize("wrap", [lambda a: a, list, WithInterface, WithArray, WithDLPack])
def test_arrays_in_host_memory_are_not_taken_for_device_arrays(wrap: Any) -> None:
    assert not is_device_array(wrap(VALUES))


def test_pinned_host_memory_is_host_memory() -> None:
    class Pinned(WithDLPack):
        def __dlpack_device__(self) -> tuple[int, int]:
            return CUDA_HOST, 0

    assert not is_device_array(Pinned(VALUES))


@pytest.mark.parametrize("wrap", [WithGet, WithCpu, CopiesByArray])
def test_device_arrays_come_to_the_host_by_their_own_library(wrap: Any) -> None:
    np.testing.assert_array_equal(as_numpy(wrap(VALUES), "x"), VALUES)


def test_a_device_array_that_cannot_be_copied_is_refused() -> None:
    with pytest.raises(InputError, match=r"lhs .*OnDevice\) lives in GPU memory .*: copy it to the host first"):
        as_numpy(OnDevice(VALUES), "lhs")


@pytest.mark.parametrize("example", [VALUES, [[1]], WithDLPack(VALUES), WithCpu(VALUES), 3])
def test_results_are_numpy_for_every_caller_but_torch(example: Any) -> None:
    assert like(VALUES, example) is VALUES


def test_only_arrays_that_share_their_memory_can_be_written_into() -> None:
    values = VALUES.copy()
    assert as_writable(values) is values
    for x in ([[1]], WithInterface(values), WithArray(values), WithDLPack(values), 3):
        with pytest.raises(
            InputError, match="y must be a numpy array, a torch tensor, or an array in GPU memory, to be"
        ):
            as_writable(x, "y")


def test_a_result_that_the_callers_library_cannot_take_is_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Array:
        """CuPy's, which has no bf16."""

    def refuse(array: Any) -> Any:
        raise TypeError("Unsupported type <V2")

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(ndarray=Array, asarray=refuse))
    message = r"the result \(bfloat16 of shape \(2,\)\) is no cupy array: Unsupported type <V2"
    with pytest.raises(InputError, match=message):
        like(np.zeros(2, ml_dtypes.bfloat16), Array())


@pytest.mark.parametrize("wrap", [lambda a: a, OnDevice])
def test_a_layout_that_fits_is_accepted(wrap: Any) -> None:
    require_layout(wrap(VALUES), "x", np.int16, (2, 3))


def test_device_strides_of_a_contiguous_array_are_accepted() -> None:
    require_layout(OnDevice(VALUES, strides=(6, 2)), "x", np.int16, (2, 3))
    require_layout(OnDevice(VALUES[:1], strides=(2, 2)), "x", np.int16, (1, 3))  # one row: its stride says nothing


@pytest.mark.parametrize("wrap", [lambda a: a, OnDevice])
def test_another_dtype_or_shape_is_refused(wrap: Any) -> None:
    with pytest.raises(InputError, match="x must have dtype int32, got int16"):
        require_layout(wrap(VALUES), "x", np.int32, (2, 3))
    with pytest.raises(ShapeError, match=r"x must have shape \(3, 2\), got \(2, 3\)"):
        require_layout(wrap(VALUES), "x", np.int16, (3, 2))


@pytest.mark.parametrize("x", [np.asfortranarray(VALUES), OnDevice(VALUES, strides=(2, 4))])
def test_a_strided_layout_is_refused(x: Any) -> None:
    with pytest.raises(InputError, match="x must be C-contiguous"):
        require_layout(x, "x", np.int16, (2, 3))


def test_a_list_has_no_layout() -> None:
    with pytest.raises(InputError, match=r"x must be a numpy array or a CUDA array .*, got list"):
        require_layout([1], "x", np.int16, (1,))


def test_using_the_formats_loads_neither_other_array_libraries_nor_the_compiler() -> None:
    program = """
import sys, numpy as np, bitmlir.arrays, bitmlir.formats
result = bitmlir.formats.unpack(bitmlir.formats.pack([[1, -1]], "bipolar"))
bitmlir.arrays.like(result, result)
print(sorted({"torch", "cupy", "jax", "mlir", "cuda", "bitmlir.lowering"} & set(sys.modules)))
"""
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


class TestTorch:
    @pytest.fixture
    def torch(self) -> Any:
        return pytest.importorskip("torch")

    def test_a_cpu_tensor_is_read_without_a_copy(self, torch: Any) -> None:
        tensor = torch.tensor(VALUES.tolist(), dtype=torch.int16)
        array = as_numpy(tensor, "x")
        tensor[0, 0] = 9
        assert array.dtype == np.int16
        assert array[0, 0] == 9

    def test_a_transposed_tensor_keeps_its_elements(self, torch: Any) -> None:
        np.testing.assert_array_equal(as_numpy(torch.tensor(VALUES.tolist()).T, "x"), VALUES.T)

    def test_a_cpu_tensor_is_not_a_device_array(self, torch: Any) -> None:
        assert not is_device_array(torch.zeros(2))
        assert not is_device_array(torch.zeros(2, requires_grad=True))

    def test_a_tensor_numpy_cannot_read_is_refused(self, torch: Any) -> None:
        for tensor in (torch.ones(2, requires_grad=True), torch.ones(2, device="meta")):
            with pytest.raises(InputError, match=r"bias \(torch.Tensor\) cannot be read as a numpy array"):
                as_numpy(tensor, "bias")

    @pytest.mark.parametrize("dtype", ["int8", "int32", "float16", "float32"])
    def test_results_come_back_as_tensors_that_share_memory(self, torch: Any, dtype: str) -> None:
        result = np.arange(6).reshape(2, 3).astype(dtype)
        tensor = like(result, torch.zeros(1))
        assert tensor.dtype == getattr(torch, dtype)
        assert tensor.data_ptr() == result.ctypes.data

    def test_bfloat16_results_come_back_as_bfloat16(self, torch: Any) -> None:
        tensor = like(np.array([1.5, -2.0], ml_dtypes.bfloat16), torch.zeros(1))
        assert tensor.dtype == torch.bfloat16
        assert tensor.tolist() == [1.5, -2.0]

    def test_bfloat16_is_read_without_a_copy(self, torch: Any) -> None:
        tensor = torch.tensor([[1.5, -2.0], [3.0, 4.0]], dtype=torch.bfloat16)
        array = as_writable(tensor.T)
        assert array.dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(array.astype(float), [[1.5, 3], [-2, 4]])
        array[1, 0] = 7
        assert tensor[0, 1] == 7


class TestJax:
    @pytest.fixture
    def jax(self) -> Any:
        return pytest.importorskip("jax")

    def test_arrays_on_the_host_are_read(self, jax: Any) -> None:
        x = jax.numpy.asarray(VALUES)
        assert not is_device_array(x)
        np.testing.assert_array_equal(as_integers(x, "x"), VALUES)

    @pytest.mark.parametrize("dtype", ["int32", "float16", "bfloat16", "float32"])
    def test_results_come_back_as_jax_arrays_on_the_same_device(self, jax: Any, dtype: str) -> None:
        example = jax.numpy.zeros(1)
        result = like(np.array([[1.5, -2.0]]).astype(getattr(ml_dtypes, dtype, dtype)), example)
        assert isinstance(result, jax.Array)
        assert result.dtype == dtype
        assert result.devices() == example.devices()
        np.testing.assert_array_equal(np.asarray(result, float), [[1.5, -2.0]] if dtype != "int32" else [[1, -2]])

    def test_jax_arrays_never_change(self, jax: Any) -> None:
        with pytest.raises(InputError, match="must be a numpy array, a torch tensor"):
            as_writable(jax.numpy.zeros(3))

    def test_an_array_that_is_being_traced_is_refused(self, jax: Any) -> None:
        with pytest.raises(InputError, match="cannot be read as a numpy array"):
            jax.jit(lambda x: as_numpy(x, "x").sum())(jax.numpy.zeros(3))

    def test_a_product_of_jax_arrays_is_a_jax_array(self, jax: Any) -> None:
        import bitmlir

        rng = np.random.default_rng(0)
        x, w = rng.choice([-1, 1], (3, 70)), rng.integers(0, 4, (5, 70))
        exe = bitmlir.compile(bitmlir.MatmulSpec(m=3, n=5, k=70, lhs="bipolar", rhs="u2"), target="cpu")
        result = exe(*map(jax.numpy.asarray, (x, w)))
        assert isinstance(result, jax.Array)
        np.testing.assert_array_equal(result, x @ w.T)
