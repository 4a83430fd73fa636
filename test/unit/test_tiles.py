"""Tile bitmaps: one bit for each plane and tile, against a loop over the tiles."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import EncodingError, InputError, ShapeError
from bitmlir.dialects.layout import TILE_BITS, TILE_ROWS
from bitmlir.formats import Packed, TileBitmap, pack, tile_bitmap

SHAPES = [(1, 1), (128, 1024), (129, 1025), (127, 1023), (300, 5000), (1, 33 * 1024)]


def sparse(shape: tuple[int, int], low: int, high: int) -> np.ndarray:
    """Integers in low..high, most of them 0, with some tiles wholly 0."""
    rng = np.random.default_rng(7)
    x = np.zeros(shape, np.int16)
    where = tuple(rng.integers(0, size, 6) for size in shape)
    x[where] = rng.integers(low, high + 1, 6)
    return x


def tiles_by_loop(x: np.ndarray, has_bit: Any) -> list[list[bool]]:
    rows, k = range(0, x.shape[0], TILE_ROWS), range(0, x.shape[1], TILE_BITS)
    return [[bool(has_bit(x[r : r + TILE_ROWS, t : t + TILE_BITS]).any()) for t in k] for r in rows]


def test_tiles_are_128_rows_of_1024_elements() -> None:
    assert (TILE_ROWS, TILE_BITS) == (128, 1024)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("encoding", ["u1", "u3", "i4", "ternary"])
def test_with_a_zero_a_tile_is_empty_exactly_when_all_its_elements_are_zero(
    encoding: str, shape: tuple[int, int]
) -> None:
    e = Encoding.parse(encoding)
    x = sparse(shape, e.minimum, e.maximum)
    bitmap = tile_bitmap(x, encoding)
    assert bitmap.to_array().any(axis=0).tolist() == tiles_by_loop(x, lambda tile: tile != 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_plane_has_its_own_bit(shape: tuple[int, int]) -> None:
    x = sparse(shape, 0, 7)
    for plane, bits in enumerate(tile_bitmap(x, "u3").to_array()):
        assert bits.tolist() == tiles_by_loop(x, lambda tile, plane=plane: tile >> plane & 1)


@pytest.mark.parametrize(
    ("encoding", "zeros", "smallest"), [("bipolar2", None, -3), ("u2@2", None, -2), ("u2@row", [1] * 300, -1)]
)
def test_without_a_zero_a_tile_is_empty_exactly_when_every_element_is_the_smallest(
    encoding: str, zeros: Any, smallest: int
) -> None:
    scale = Encoding.parse(encoding).scale
    x = scale * sparse((300, 5000), 0, 3) + smallest
    expected = tiles_by_loop(x, lambda tile: tile != smallest)
    assert tile_bitmap(x, encoding, zeros).to_array().any(axis=0).tolist() == expected


def test_the_bitmap_of_a_packed_matrix_is_that_of_its_integers() -> None:
    x = sparse((300, 5000), -8, 7)
    np.testing.assert_array_equal(tile_bitmap(pack(x, "i4")).words, tile_bitmap(x, "i4").words)


def test_tile_t_is_bit_t_mod_32_of_word_t_div_32() -> None:
    for t in (0, 31, 32, 33):
        x = np.zeros((200, 34 * 1024), np.int8)
        x[150, 1024 * t + 500] = 2
        words = tile_bitmap(x, "u2").words
        assert words.shape == (2, 2, 2)
        assert words.dtype == np.uint32
        assert words[1, 1, t // 32] == 1 << t % 32
        assert np.count_nonzero(words) == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_arrays_of_bits_come_back(shape: tuple[int, int]) -> None:
    row_tiles, k_tiles = -(-shape[0] // 128), -(-shape[1] // 1024)
    bits = np.random.default_rng(3).random((2, row_tiles, k_tiles)) < 0.5
    np.testing.assert_array_equal(TileBitmap.from_array(bits, shape, "u2").to_array(), bits)
    both = TileBitmap.from_array(bits[0], shape, "u2").to_array()
    np.testing.assert_array_equal(both, [bits[0], bits[0]])


def test_bits_past_the_last_tile_are_zero() -> None:
    assert TileBitmap.from_array(np.ones((1, 33), bool), (1, 33 * 1024), "u1").words.tolist() == [[[2**32 - 1, 1]]]


def test_bits_that_are_not_booleans_are_refused() -> None:
    with pytest.raises(InputError, match="bits must be booleans, got int64: pass bits != 0"):
        TileBitmap.from_array(np.ones((1, 1), np.int64), (1, 1), "u1")


def test_bits_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match=re.escape("bits must have shape (2, 1) or (3, 2, 1) for a 'u3' matrix")):
        TileBitmap.from_array(np.ones((1, 1), bool), (129, 1), "u3")


def test_words_of_another_shape_or_dtype_are_refused() -> None:
    with pytest.raises(ShapeError, match=re.escape("words must have shape (2, 1, 1), got (1, 1, 1)")):
        TileBitmap(np.zeros((1, 1, 1), np.uint32), (1, 1), Encoding.parse("u2"))
    with pytest.raises(InputError, match="words must have dtype uint32, got int32"):
        TileBitmap(np.zeros((1, 1, 1), np.int32), (1, 1), Encoding.parse("u1"))


def test_plain_integers_need_an_encoding_and_packed_ones_take_none() -> None:
    with pytest.raises(InputError, match="needs their encoding"):
        tile_bitmap([[1]])
    with pytest.raises(InputError, match="call tile_bitmap\\(packed\\) without them"):
        tile_bitmap(pack([[1]], "u1"), "u1")


class TestCheck:
    @pytest.fixture
    def packed(self) -> Packed:
        x = np.zeros((300, 3000), np.int8)
        x[290, 2999] = 2
        return pack(x, "u2")

    def test_the_true_bitmap_passes(self, packed: Packed) -> None:
        tile_bitmap(packed).check(packed)

    def test_calling_an_empty_tile_full_is_allowed(self, packed: Packed) -> None:
        TileBitmap.from_array(np.ones((3, 3), bool), packed.shape, "u2").check(packed)

    def test_calling_a_full_tile_empty_is_refused_by_name(self, packed: Packed) -> None:
        bits = tile_bitmap(packed).to_array()
        bits[1, 2, 2] = False
        message = (
            "calls tile [2, 2] of plane 1 empty, but rows 256..299, elements 2048..2999 hold a set bit: "
            "use tile_bitmap(matrix)"
        )
        with pytest.raises(InputError, match=re.escape(message)):
            TileBitmap.from_array(bits, packed.shape, "u2").check(packed)

    def test_another_shape_is_refused(self, packed: Packed) -> None:
        with pytest.raises(ShapeError, match=re.escape("covers shape (300, 3000), the matrix has (1, 1)")):
            tile_bitmap(packed).check(pack([[1]], "u2"))

    def test_another_encoding_is_refused(self, packed: Packed) -> None:
        other = Packed.from_planes(packed.planes, "i2", packed.k)
        with pytest.raises(EncodingError, match="is for 'u2', the matrix is 'i2'"):
            tile_bitmap(packed).check(other)


def test_a_shape_may_be_a_list() -> None:
    assert TileBitmap(np.zeros((2, 1, 1), np.uint32), [5, 100], "u2").shape == (5, 100)  # type: ignore[arg-type]
