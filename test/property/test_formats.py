"""The formats over all encodings and odd sizes: what goes in comes out, and products follow from what is packed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bitmlir import reference
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import EncodingError, InputError
from bitmlir.dialects.layout import words_per_row
from bitmlir.formats import Packed, TileBitmap, pack, tile_bitmap, unpack

PLAIN = (
    [f"u{p}" for p in range(1, 9)]
    + [f"i{p}" for p in range(2, 9)]
    + ["bipolar", *(f"bipolar{p}" for p in range(2, 9)), "ternary"]
)
ENCODINGS = st.one_of(
    st.sampled_from(PLAIN),
    st.integers(1, 8).flatmap(lambda p: st.integers(1, 2**p - 1).map(lambda z: f"u{p}@{z}")),
    st.integers(1, 8).map(lambda p: f"u{p}@row"),
)
LENGTHS = st.one_of(st.sampled_from([1, 31, 32, 33, 127, 128, 129, 255, 257, 1023, 1025]), st.integers(1, 300))


@dataclass
class Matrix:
    """An integer matrix drawn by its codes, with its values by the encoding's definition."""

    encoding: Encoding
    codes: np.ndarray
    zeros: np.ndarray | None

    @property
    def values(self) -> np.ndarray:
        codes, p = self.codes.astype(np.int64), self.encoding.bits
        if self.encoding.kind == "bipolar":
            return 2 * codes - (2**p - 1)
        if self.encoding.kind == "ternary":
            return np.array([0, 1, -1])[codes]
        if self.encoding.kind == "i":
            return np.where(codes >= 2 ** (p - 1), codes - 2**p, codes)
        return codes - (self.encoding.zero if self.zeros is None else self.zeros[:, None])

    def packed(self) -> Packed:
        return pack(self.values, self.encoding, self.zeros)


@st.composite
def matrices(draw: st.DrawFn, k: int | None = None, encoding: str | None = None) -> Matrix:
    e = Encoding.parse(draw(ENCODINGS) if encoding is None else encoding)
    shape = (draw(st.integers(1, 6)), draw(LENGTHS) if k is None else k)
    last = 2 if e.kind == "ternary" else 2**e.bits - 1
    # A seed rather than an element at a time: long rows stay cheap, and extreme codes are drawn on purpose.
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    codes = draw(
        st.sampled_from(
            [
                rng.integers(0, last + 1, shape).astype(np.uint8),
                np.zeros(shape, np.uint8),
                np.full(shape, last, np.uint8),
                (rng.integers(0, 2, shape) * last).astype(np.uint8),
            ]
        )
    )
    zeros = draw(hnp.arrays(np.int32, shape[0], elements=st.integers(0, last))) if e.has_row_zeros else None
    return Matrix(e, codes, zeros)


@given(matrices())
def test_unpack_gives_back_what_was_packed(m: Matrix) -> None:
    unpacked = unpack(m.packed())
    np.testing.assert_array_equal(unpacked, m.values)
    assert unpacked.dtype in (np.int8, np.int16)


@given(matrices())
def test_plane_i_holds_bit_i_of_the_code_little_end_first(m: Matrix) -> None:
    packed = m.packed()
    row, j = m.codes.shape[0] - 1, m.codes.shape[1] - 1
    for i in range(m.encoding.bits):
        assert packed.planes[i, row, j // 32] >> (j % 32) & 1 == m.codes[row, j] >> i & 1
        in_order = packed.planes[i].astype("<u4").tobytes()
        bits = int.from_bytes(in_order, "little")
        row_bits = 32 * words_per_row(packed.k)
        assert bits == sum(1 << (r * row_bits + c) for r, c in np.argwhere(m.codes >> i & 1).tolist())


@given(matrices())
def test_padding_is_zero_and_the_contents_pass_their_check(m: Matrix) -> None:
    packed = m.packed()
    packed.check()
    whole = np.unpackbits(packed.planes.astype("<u4").view(np.uint8), axis=-1, bitorder="little")
    assert whole.shape[-1] % 128 == 0
    assert not whole[..., packed.k :].any()


@given(matrices())
def test_sums_are_those_of_the_rows(m: Matrix) -> None:
    packed, values = m.packed(), m.values
    np.testing.assert_array_equal(packed.row_sums(), reference.row_sums(values))
    offsets = m.encoding.offset if m.zeros is None else -m.zeros.astype(np.int64)
    np.testing.assert_array_equal(m.encoding.scale * packed.sums.astype(np.int64) + offsets * packed.k, values.sum(1))


@given(matrices())
def test_a_matrix_is_rebuilt_from_its_planes(m: Matrix) -> None:
    packed = m.packed()
    rebuilt = Packed.from_planes(packed.planes, m.encoding.name, packed.k, packed.zeros)
    np.testing.assert_array_equal(rebuilt.sums, packed.sums)
    np.testing.assert_array_equal(unpack(rebuilt), m.values)


@given(matrices(), st.data())
def test_a_value_next_to_the_encoding_is_refused_by_place(m: Matrix, data: st.DataObject) -> None:
    values = m.values
    row, column = (data.draw(st.integers(0, size - 1)) for size in values.shape)
    zero = 0 if m.zeros is None else int(m.zeros[row])
    low = -zero if m.encoding.has_row_zeros else m.encoding.minimum
    bad = [low - 1, m.encoding.maximum - zero + 1, 2**40, -(2**40) - 1]
    bad += [0, low + 1] if m.encoding.kind == "bipolar" else []
    values[row, column] = data.draw(st.sampled_from(bad))
    place = re.escape(f"x[{row}, {column}] = {values[row, column]} is not a value of '{m.encoding}', which holds")
    with pytest.raises(EncodingError, match=place):
        pack(values, m.encoding, m.zeros)


@given(matrices(), st.data())
def test_a_bit_past_k_is_refused(m: Matrix, data: st.DataObject) -> None:
    packed = m.packed()
    row_bits = 32 * words_per_row(packed.k)
    if packed.k == row_bits:
        return
    bit, plane = data.draw(st.integers(packed.k, row_bits - 1)), data.draw(st.integers(0, m.encoding.bits - 1))
    packed.planes[plane, -1, bit // 32] |= np.uint32(1 << bit % 32)
    with pytest.raises(InputError, match=rf"planes\[{plane}, {packed.rows - 1}\] has bits set past k = {packed.k}"):
        packed.check()


def product_from_planes(x: Packed, y: Packed) -> np.ndarray:
    """X·Yᵀ from what is packed alone: AND-popcounts of planes, and corrections from the sums."""
    ones = [[np.bitwise_count(p[:, None] & q[None]).sum(axis=2, dtype=np.int64) for q in y.planes] for p in x.planes]
    weighted = sum(
        v * w * ones[i][j] for (i, v), (j, w) in product(enumerate(x.encoding.weights), enumerate(y.encoding.weights))
    )
    s_x, s_y = x.encoding.scale, y.encoding.scale
    z_x, z_y = (np.full(m.rows, m.encoding.offset) if m.zeros is None else -m.zeros.astype(np.int64) for m in (x, y))
    return (
        s_x * s_y * weighted
        + z_y[None, :] * (s_x * x.sums.astype(np.int64))[:, None]
        + z_x[:, None] * (s_y * y.sums.astype(np.int64))[None, :]
        + z_x[:, None] * z_y[None, :] * x.k
    )


@given(LENGTHS.flatmap(lambda k: st.tuples(matrices(k), matrices(k))))
@settings(max_examples=200)
def test_a_product_follows_from_planes_and_sums(pair: tuple[Matrix, Matrix]) -> None:
    x, y = pair
    expected = x.values @ y.values.T
    np.testing.assert_array_equal(product_from_planes(x.packed(), y.packed()), expected)
    np.testing.assert_array_equal(reference.matmul(x.values, y.values), expected)


def test_a_product_follows_from_planes_and_sums_for_every_pair_of_encodings() -> None:
    rng = np.random.default_rng(5)
    operands = []
    for name in [*PLAIN, "u1@1", "u4@3", "u8@255", *(f"u{p}@row" for p in range(1, 9))]:
        e = Encoding.parse(name)
        last = 2 if e.kind == "ternary" else 2**e.bits - 1
        codes = rng.integers(0, last + 1, (3, 131)).astype(np.uint8)
        operands.append(Matrix(e, codes, rng.integers(0, last + 1, 3) if e.has_row_zeros else None))
    packed = [m.packed() for m in operands]
    for (m, x), (n, y) in product(zip(operands, packed, strict=True), repeat=2):
        np.testing.assert_array_equal(product_from_planes(x, y), m.values @ n.values.T, f"{m.encoding} x {n.encoding}")


@given(matrices())
def test_leaving_out_the_tiles_a_bitmap_calls_empty_loses_nothing(m: Matrix) -> None:
    packed = m.packed()
    bitmap = tile_bitmap(packed)
    bitmap.check(packed)
    kept = np.repeat(np.repeat(bitmap.to_array(), 128, axis=1), 32, axis=2)
    np.testing.assert_array_equal(
        np.where(kept[:, : packed.rows, : packed.planes.shape[2]], packed.planes, 0), packed.planes
    )
    if bitmap.to_array().any():
        with pytest.raises(InputError, match=r"calls tile .* empty"):
            TileBitmap.from_array(np.zeros_like(bitmap.to_array()), packed.shape, m.encoding).check(packed)
