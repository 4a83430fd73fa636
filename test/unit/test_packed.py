"""The packed format: its bits word by word, and every way to hold it wrong."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from support import WithGet, random_matrix

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import EncodingError, InputError, ShapeError
from bitmlir.dialects.layout import BITS_PER_WORD, ROW_ALIGNMENT, words_per_row
from bitmlir.formats import Packed, pack, tile_bitmap, unpack


def on_device(packed: Packed) -> Packed:
    zeros = None if packed.zeros is None else WithGet(packed.zeros)
    return Packed(WithGet(packed.planes), WithGet(packed.sums), packed.encoding, packed.shape, zeros)


def test_rows_are_padded_to_sixteen_bytes() -> None:
    assert (BITS_PER_WORD, ROW_ALIGNMENT) == (32, 128)
    assert [words_per_row(k) for k in (1, 31, 127, 128, 129, 256, 257, 1024)] == [4, 4, 4, 4, 8, 8, 12, 32]


@pytest.mark.parametrize("k", [1, 32, 33, 127, 128, 129, 300])
def test_element_j_is_bit_j_mod_32_of_word_j_div_32(k: int) -> None:
    planes = pack(np.eye(k, dtype=np.int8), "u1").planes[0]
    assert planes.shape == (k, words_per_row(k))
    for j in range(k):
        assert planes[j, j // 32] == 1 << (j % 32)
        assert np.count_nonzero(planes[j]) == 1


@pytest.mark.parametrize(
    ("encoding", "values", "planes", "sums"),
    [
        ("u3", [[0, 1, 2, 4, 7]], [0b10010, 0b10100, 0b11000], 14),
        ("u3@5", [[-5, -4, -3, -1, 2]], [0b10010, 0b10100, 0b11000], 14),
        ("i3", [[0, 1, 2, -4, -1]], [0b10010, 0b10100, 0b11000], -2),
        ("bipolar", [[-1, 1, 1, -1, 1]], [0b10110], 3),
        ("bipolar2", [[-3, -1, 1, 3, 3]], [0b11010, 0b11100], 9),
        ("ternary", [[0, 1, -1, 1, 0]], [0b01010, 0b00100], 1),
    ],
)
def test_planes_and_sums_are_those_the_format_defines(encoding: str, values: Any, planes: list, sums: int) -> None:
    packed = pack(values, encoding)
    assert packed.planes[:, 0, 0].tolist() == planes
    assert packed.sums.tolist() == [sums]
    assert not packed.planes[:, :, 1:].any()
    assert (packed.planes.dtype, packed.sums.dtype) == (np.uint32, np.int32)
    assert packed.row_sums().tolist() == [sum(values[0])]


def test_row_zeros_are_kept_beside_codes_that_have_them_added() -> None:
    packed = pack([[-3, 0], [0, 3]], "u2@row", zeros=[3, 0])
    assert packed.planes[:, :, 0].tolist() == [[0b10, 0b10], [0b10, 0b10]]
    assert packed.zeros.tolist() == [3, 0]
    assert packed.zeros.dtype == np.int32
    assert packed.row_sums().tolist() == [-3, 3]
    np.testing.assert_array_equal(unpack(packed), [[-3, 0], [0, 3]])


@pytest.mark.parametrize(
    ("encoding", "dtype"),
    [
        ("u7", np.int8),
        ("u8", np.int16),
        ("u8@127", np.int16),
        ("u8@128", np.int8),
        ("u8@129", np.int16),
        ("u7@127", np.int8),
        ("u7@row", np.int8),
        ("u8@row", np.int16),
        ("i8", np.int8),
        ("bipolar7", np.int8),
        ("bipolar8", np.int16),
        ("ternary", np.int8),
    ],
)
def test_unpacked_elements_take_the_smallest_integer_that_holds_the_encoding(encoding: str, dtype: type) -> None:
    e = Encoding.parse(encoding)
    zeros = [0, 2**e.bits - 1] if e.has_row_zeros else None
    extremes = [[e.maximum], [e.minimum]]
    unpacked = unpack(pack(extremes, e, zeros))
    assert unpacked.dtype == dtype
    assert unpacked.tolist() == extremes


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.uint16, np.int32, np.uint32, np.int64, np.uint64, ">i2"])
def test_every_integer_dtype_packs_alike(dtype: Any) -> None:
    bits = np.random.default_rng(0).integers(0, 2, (3, 130)).astype(dtype)
    np.testing.assert_array_equal(pack(bits, "u1").planes, pack(bits.astype(np.int8), "u1").planes)
    np.testing.assert_array_equal(unpack(pack(bits, "u2@row", zeros=[1, 2, 0])), bits)


def test_lists_and_strided_arrays_pack_as_copies_do() -> None:
    x = np.random.default_rng(1).integers(-8, 8, (40, 90)).astype(np.int8)
    for view in (x.T, x[::2, ::3], x[::-1, ::-1], np.asfortranarray(x), np.broadcast_to(x[0], (4, 90))):
        np.testing.assert_array_equal(unpack(pack(view, "i4")), view)
    np.testing.assert_array_equal(unpack(pack(x.tolist(), "i4")), x)


def test_a_matrix_of_many_row_blocks_comes_back_whole() -> None:
    x = np.random.default_rng(2).integers(-128, 128, (300, 2001)).astype(np.int8)
    np.testing.assert_array_equal(unpack(pack(x, "i8")), x)


def test_packing_leaves_its_input_alone() -> None:
    x, zeros = np.array([[1, 2]], np.int32), np.array([1], np.int32)
    packed = pack(x, "u2@row", zeros)
    assert (x.tolist(), zeros.tolist()) == ([[1, 2]], [1])
    zeros[0] = 3
    assert packed.zeros.tolist() == [1]


@pytest.mark.parametrize(
    ("values", "encoding", "message"),
    [
        ([[0, 3], [1, -1]], "u2", "x[1, 1] = -1 is not a value of 'u2', which holds 0..3: clip it"),
        ([[4, 9]], "u2", "x[0, 0] = 4 is not a value of 'u2', which holds 0..3"),
        ([[8]], "i4", "x[0, 0] = 8 is not a value of 'i4', which holds -8..7"),
        ([[0, -9]], "i4", "x[0, 1] = -9 is not a value of 'i4'"),
        ([[1, 0]], "bipolar", "x[0, 1] = 0 is not a value of 'bipolar', which holds the odd integers in -1..1: bring"),
        ([[3]], "bipolar", "x[0, 0] = 3 is not a value of 'bipolar'"),
        ([[1, 3, 2]], "bipolar2", "x[0, 2] = 2 is not a value of 'bipolar2', which holds the odd integers in -3..3"),
        ([[0, 2]], "ternary", "x[0, 1] = 2 is not a value of 'ternary', which holds -1..1"),
        ([[-3]], "u4@2", "x[0, 0] = -3 is not a value of 'u4@2', which holds -2..13"),
        ([[14]], "u4@2", "x[0, 0] = 14 is not a value of 'u4@2'"),
        ([[2**63 - 1]], "u8", "x[0, 0] = 9223372036854775807 is not a value of 'u8'"),
        ([[-(2**63)]], "bipolar8", "x[0, 0] = -9223372036854775808 is not a value of 'bipolar8'"),
    ],
)
def test_the_first_value_outside_the_encoding_is_named_with_the_range(values: Any, encoding: str, message: str) -> None:
    with pytest.raises(EncodingError, match=re.escape(message)):
        pack(values, encoding)


@pytest.mark.parametrize("value", [2**64 - 1, 2**63, 2**32 + 1, 2**16 + 1, 256])
def test_unsigned_values_that_wrap_to_a_code_are_refused(value: int) -> None:
    with pytest.raises(EncodingError, match=f"= {value} is not a value of 'i2'"):
        pack(np.array([[1, value]], np.uint64), "i2")


def test_the_first_bad_value_is_named_beyond_the_first_row_block() -> None:
    x = np.ones((700, 1001), np.int8)
    x[[613, 650], [5, 1]] = 2
    with pytest.raises(EncodingError, match=re.escape("lhs[613, 5] = 2")):
        pack(x, "u1", name="lhs")


@pytest.mark.parametrize(("value", "row"), [(-3, 1), (2, 1)])
def test_the_range_of_a_row_follows_its_zero_point(value: int, row: int) -> None:
    x = np.zeros((3, 5), np.int8)
    x[row, 4] = value
    held = "which holds -2..1 in this row, whose zero point is 2"
    with pytest.raises(EncodingError, match=re.escape(f"x[1, 4] = {value} is not a value of 'u2@row', {held}")):
        pack(x, "u2@row", zeros=[1, 2, 3])


@pytest.mark.parametrize("shape", [(), (3,), (1, 2, 3, 4, 5)])
def test_only_matrices_batches_of_them_and_images_are_packed(shape: tuple[int, ...]) -> None:
    dimensions = "2 dimensions [rows, k], 3 [batch, rows, k] or 4 [images, height, width, channels]"
    expected = f"x must have {dimensions}, got shape {shape}"
    with pytest.raises(ShapeError, match=re.escape(expected)):
        pack(np.zeros(shape, np.int8), "u1")


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (0, 2, 3), (2, 0, 3)])
def test_an_empty_matrix_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=re.escape(f"at least one row and one column, got shape {shape}")):
        pack(np.zeros(shape, np.int8), "u1")


def test_floats_are_refused_with_the_name_of_the_argument() -> None:
    with pytest.raises(InputError, match="rhs must have an integer or boolean dtype, got float64"):
        pack([[1.0]], "u1", name="rhs")


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(EncodingError, match="unknown encoding 'u9'"):
        pack([[1]], "u9")


@pytest.mark.parametrize("encoding", ["u8", "i8", "ternary"])
def test_rows_whose_sums_int32_cannot_hold_are_refused(encoding: str) -> None:
    e = Encoding.parse(encoding)
    longest = (2**31 - 1) // max(sum(w for w in e.weights if w > 0), -sum(w for w in e.weights if w < 0))
    too_long = np.broadcast_to(np.int8(0), (1, longest + 1))
    with pytest.raises(ShapeError, match=rf"k = {longest + 1} is too long for '{encoding}': .* exceed int32; split K"):
        pack(too_long, encoding)


def test_zeros_are_wanted_by_row_encodings_and_only_by_them() -> None:
    with pytest.raises(InputError, match="encoding 'u4@row' needs zeros"):
        pack([[1]], "u4@row")
    for encoding in ("u4", "u4@3", "bipolar"):
        with pytest.raises(InputError, match=f"encoding '{encoding}' takes no zeros: drop them, or use u<p>@row"):
            pack([[1]], encoding, zeros=[0])


@pytest.mark.parametrize(("zeros", "bad"), [([0, 16], "zeros[1] = 16"), ([-1, 99], "zeros[0] = -1")])
def test_a_zero_point_past_the_codes_is_named(zeros: list, bad: str) -> None:
    with pytest.raises(EncodingError, match=re.escape(f"{bad} is not a code of 'u4@row': zero points lie in 0..15")):
        pack([[1], [1]], "u4@row", zeros)


@pytest.mark.parametrize("zeros", [3, [1], [1, 2, 3], [[1, 2]]])
def test_zeros_of_another_shape_are_refused(zeros: Any) -> None:
    with pytest.raises(ShapeError, match=r"zeros must have shape \(2,\), a zero point a row, got"):
        pack([[1], [1]], "u4@row", zeros)


def test_zeros_that_are_floats_are_refused() -> None:
    with pytest.raises(InputError, match="zeros must have an integer or boolean dtype, got float64"):
        pack([[1]], "u4@row", [1.0])


# --- batches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["bipolar", "u3@2", "i2", "ternary", "u2@row"])
def test_a_batch_is_its_matrices_packed_one_by_one(encoding: str) -> None:
    rng = np.random.default_rng(3)
    values, _ = random_matrix(rng, (12, 200), encoding.replace("@row", ""))
    zeros = rng.integers(0, 2, 12) if encoding.endswith("@row") else None
    values = (values.reshape(3, 4, 200) - (0 if zeros is None else zeros.reshape(3, 4, 1))).astype(np.int16)
    batch = pack(values, encoding, None if zeros is None else zeros.reshape(3, 4))
    assert (batch.shape, batch.rows, batch.k) == ((3, 4, 200), 4, 200)
    for b in range(3):
        single = pack(values[b], encoding, None if zeros is None else zeros.reshape(3, 4)[b])
        np.testing.assert_array_equal(batch.planes[:, b], single.planes)
        np.testing.assert_array_equal(batch.sums[b], single.sums)
    np.testing.assert_array_equal(unpack(batch), values)
    np.testing.assert_array_equal(batch.row_sums(), values.sum(axis=2))
    again = Packed.from_planes(batch.planes, encoding, 200, batch.zeros)
    np.testing.assert_array_equal(again.sums, batch.sums)


def test_a_batch_names_the_matrix_in_which_something_is_wrong() -> None:
    x = np.zeros((2, 3, 4), np.int8)
    x[1, 2, 3] = 7
    with pytest.raises(EncodingError, match=re.escape("x[1, 2, 3] = 7 is not a value of 'u2'")):
        pack(x, "u2")
    batch = pack(np.zeros((2, 3, 4), np.int8), "u2")
    batch.sums[1, 0] = 5
    with pytest.raises(InputError, match=re.escape("sums[1, 0] = 5, but the planes add up to 0")):
        batch.check()
    batch.planes[1, 0, 2, 0] = 16
    with pytest.raises(InputError, match=re.escape("planes[1, 0, 2] has bits set past k = 4")):
        batch.check()


def test_rows_are_regrouped_without_a_copy() -> None:
    values, packed = random_matrix(np.random.default_rng(4), (12, 200), "u2@row")
    batch = packed.reshape(3, 4)
    batch.check()
    assert np.shares_memory(batch.planes, packed.planes)
    np.testing.assert_array_equal(unpack(batch), values.reshape(3, 4, 200))
    np.testing.assert_array_equal(unpack(batch.reshape(12)), values)
    for sizes in ((3, 4), [3, 4], (np.int64(3), np.int32(4))):
        assert packed.reshape(sizes).planes.base is packed.planes
        assert packed.reshape(sizes).shape == (3, 4, 200)
    assert batch.reshape((12,)).shape == (12, 200)
    with pytest.raises(ShapeError, match=re.escape("of shape (12, 200) cannot have the rows (3, 5)")):
        packed.reshape(3, 5)
    with pytest.raises(ShapeError, match="or \\(images, height, width, channels\\)"):
        packed.reshape(3, 2, 2, 1)
    for wrong in (("3", 4), ((3, 4), 1), (3.0, 4), ((3.0, 4),)):
        with pytest.raises(ShapeError, match=r"matrix is reshaped to \(rows\), \(batch, rows\) or \(images, h"):
            packed.reshape(*wrong)


def test_images_are_packed_pixel_by_pixel() -> None:
    values, rows = random_matrix(np.random.default_rng(5), (24, 130), "i3")
    images = pack(values.reshape(2, 3, 4, 130), "i3")
    assert images.planes.shape == (3, 2, 3, 4, 8)
    np.testing.assert_array_equal(images.planes.reshape(3, 24, 8), rows.planes)
    np.testing.assert_array_equal(images.sums, rows.sums.reshape(2, 3, 4))
    np.testing.assert_array_equal(unpack(images), values.reshape(2, 3, 4, 130))
    again = Packed.from_planes(images.planes, "i3", 130)
    assert again.shape == images.shape == rows.reshape(2, 3, 4).shape
    images.check()


def test_a_batch_has_no_tile_bitmap() -> None:
    with pytest.raises(ShapeError, match=r"cover single matrices, but this one has the shape \(2, 3, 4\)"):
        tile_bitmap(pack(np.zeros((2, 3, 4), np.int8), "u2"))


class TestPacked:
    @pytest.fixture
    def packed(self) -> Packed:
        return pack([[0, 1, 2], [3, 0, 0]], "u2@row", zeros=[1, 0])

    def test_it_tells_rows_and_k(self, packed: Packed) -> None:
        assert (packed.rows, packed.k) == (2, 3)

    def test_its_repr_is_short(self) -> None:
        assert repr(pack([[1]], "u1")) == "Packed(encoding=Encoding(kind='u', bits=1, zero=0), shape=(1, 1))"

    def test_an_encoding_may_be_given_by_name(self, packed: Packed) -> None:
        assert dataclasses.replace(packed, encoding="u2@row").encoding == Encoding("u", 2, "row")

    @pytest.mark.parametrize("field", ["planes", "sums", "zeros"])
    def test_arrays_of_another_dtype_are_refused(self, packed: Packed, field: str) -> None:
        with pytest.raises(InputError, match=f"{field} must have dtype u?int32, got int64"):
            dataclasses.replace(packed, **{field: getattr(packed, field).astype(np.int64)})

    @pytest.mark.parametrize("field", ["planes", "sums", "zeros"])
    def test_arrays_of_another_shape_are_refused(self, packed: Packed, field: str) -> None:
        with pytest.raises(ShapeError, match=f"{field} must have shape"):
            dataclasses.replace(packed, **{field: getattr(packed, field)[..., :1].copy()})

    @pytest.mark.parametrize("field", ["planes", "sums", "zeros"])
    def test_device_arrays_of_another_shape_are_refused(self, packed: Packed, field: str) -> None:
        with pytest.raises(ShapeError, match=f"{field} must have shape"):
            dataclasses.replace(on_device(packed), **{field: WithGet(np.zeros((9, 9), getattr(packed, field).dtype))})

    def test_strided_planes_are_refused(self, packed: Packed) -> None:
        with pytest.raises(InputError, match="planes must be C-contiguous"):
            dataclasses.replace(packed, planes=np.asfortranarray(packed.planes))

    def test_lists_are_refused(self, packed: Packed) -> None:
        with pytest.raises(InputError, match="sums must be a numpy array or a CUDA array"):
            dataclasses.replace(packed, sums=[6, 3])

    def test_a_shape_without_elements_is_refused(self, packed: Packed) -> None:
        with pytest.raises(ShapeError, match=r"at least one row and one column, got shape \(0, 3\)"):
            dataclasses.replace(packed, shape=(0, 3))

    def test_zeros_must_fit_the_encoding(self, packed: Packed) -> None:
        with pytest.raises(InputError, match="needs zeros"):
            dataclasses.replace(packed, zeros=None)
        with pytest.raises(InputError, match="takes no zeros"):
            dataclasses.replace(packed, encoding="u2")

    def test_zeros_past_the_codes_are_refused(self, packed: Packed) -> None:
        with pytest.raises(EncodingError, match=re.escape("zeros[1] = 4 is not a code of 'u2@row'")):
            dataclasses.replace(packed, zeros=np.array([0, 4], np.int32))

    def test_host_and_device_arrays_do_not_mix(self, packed: Packed) -> None:
        with pytest.raises(InputError, match="all be on the host or all on the device"):
            dataclasses.replace(packed, sums=WithGet(packed.sums))

    def test_a_device_matrix_unpacks_and_sums_through_its_own_library(self, packed: Packed) -> None:
        device = on_device(packed)
        np.testing.assert_array_equal(unpack(device), [[0, 1, 2], [3, 0, 0]])
        assert device.row_sums().tolist() == [3, 3]

    def test_check_wants_host_arrays(self, packed: Packed) -> None:
        with pytest.raises(InputError, match=r"check\(\) reads the contents and needs them on the host"):
            on_device(packed).check()

    def test_check_accepts_what_pack_makes(self, packed: Packed) -> None:
        packed.check()
        pack([[1] * 128], "u1").check()

    @pytest.mark.parametrize("bit", [3, 31, 32, 127])
    def test_check_refuses_bits_past_k(self, packed: Packed, bit: int) -> None:
        planes = packed.planes.copy()
        planes[1, 0, bit // 32] |= np.uint32(1 << bit % 32)
        with pytest.raises(InputError, match=re.escape("planes[1, 0] has bits set past k = 3: padding must be 0")):
            dataclasses.replace(packed, planes=planes).check()

    def test_check_refuses_sums_that_are_not_those_of_the_planes(self, packed: Packed) -> None:
        with pytest.raises(InputError, match=re.escape("sums[1] = 4, but the planes add up to 3")):
            dataclasses.replace(packed, sums=packed.sums + np.array([0, 1], np.int32)).check()

    def test_check_refuses_a_ternary_element_of_both_signs(self) -> None:
        planes = pack([[1, 0], [1, 1]], "ternary").planes
        planes[1, 1, 0] = 0b10
        with pytest.raises(InputError, match=re.escape("planes[:, 1, 0] has an element in both planes")):
            Packed.from_planes(planes, "ternary", 2)


class TestFromPlanes:
    planes = pack([[1, -1, 5], [-8, 0, 7]], "i4").planes

    def test_it_makes_the_sums(self) -> None:
        packed = Packed.from_planes(self.planes, "i4", k=3)
        np.testing.assert_array_equal(unpack(packed), [[1, -1, 5], [-8, 0, 7]])
        assert packed.sums.tolist() == [5, -1]

    def test_it_takes_strided_and_device_planes(self) -> None:
        for planes in (np.asfortranarray(self.planes), WithGet(self.planes)):
            assert Packed.from_planes(planes, "i4", k=3).sums.tolist() == [5, -1]

    def test_it_takes_zeros(self) -> None:
        packed = Packed.from_planes(self.planes, "u4@row", k=3, zeros=[1, 15])
        np.testing.assert_array_equal(unpack(packed), [[0, 14, 4], [-7, -15, -8]])

    def test_it_refuses_bits_past_k(self) -> None:
        with pytest.raises(InputError, match=re.escape("planes[0, 0] has bits set past k = 2")):
            Packed.from_planes(self.planes, "i4", k=2)

    @pytest.mark.parametrize(("encoding", "k"), [("u5", 3), ("i4", 129)])
    def test_it_refuses_planes_that_do_not_fit(self, encoding: str, k: int) -> None:
        with pytest.raises(ShapeError, match="planes must have shape"):
            Packed.from_planes(self.planes, encoding, k)

    def test_it_refuses_another_number_of_dimensions_or_dtype(self) -> None:
        with pytest.raises(ShapeError, match=r"3 dimensions \[planes, rows, words\] or 4 .*, got shape \(2, 4\)"):
            Packed.from_planes(self.planes[0], "u1", 3)
        with pytest.raises(InputError, match="planes must have dtype uint32, got int32"):
            Packed.from_planes(self.planes.view(np.int32), "i4", 3)


# --- made by hand ------------------------------------------------------------------------------------


def test_a_shape_may_be_any_list_of_whole_numbers() -> None:
    packed = pack(np.ones((5, 100), int), "u2")
    again = Packed(packed.planes, packed.sums, packed.encoding, [5, np.int64(100)])  # type: ignore[arg-type]
    assert again.shape == (5, 100)
    assert [type(size) for size in again.shape] == [int, int]
    assert hash(again.shape) == hash(packed.shape)


@pytest.mark.parametrize("shape", [5, (5.0, 100), None, "5x100"])
def test_a_shape_that_is_none_is_refused(shape: Any) -> None:
    packed = pack(np.ones((5, 100), int), "u2")
    with pytest.raises(ShapeError, match="a shape is a tuple of whole numbers, such as"):
        Packed(packed.planes, packed.sums, packed.encoding, shape)


@pytest.mark.parametrize("k", [1, 31, 32, 33, 96, 100, 127, 129, 255])
def test_a_bit_past_k_is_found_wherever_it_is(k: int) -> None:
    for bit in range(k, 32 * words_per_row(k)):
        packed = pack(np.ones((2, 3, k), int), "u2")
        packed.planes[1, 0, 2, bit // 32] |= np.uint32(1 << bit % 32)
        with pytest.raises(InputError, match=rf"planes\[1, 0, 2\] has bits set past k = {k}: padding must be 0"):
            packed.check()
    pack(np.ones((2, 3, k), int), "u2").check()
