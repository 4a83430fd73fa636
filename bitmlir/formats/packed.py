"""The packed format: an integer matrix as bit planes, with the row sums that products need beside them.

Planes are stored one after the other, each row-major with K contiguous, in 32-bit words. Element j of a row is bit
j % 32 of word j // 32; rows are padded with zero bits to a multiple of 16 bytes.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bitmlir.arrays import as_integers, as_numpy, is_device_array, require_layout
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import EncodingError, InputError, ShapeError
from bitmlir.dialects.layout import BITS_PER_WORD, ROW_ALIGNMENT, words_per_row

__all__ = [
    "Packed",
    "bits_to_words",
    "pack",
    "require_clean_padding",
    "unpack",
    "whole_sizes",
    "words_to_bits",
]

_ALIGNMENT_WORDS = ROW_ALIGNMENT // BITS_PER_WORD
_BLOCK_ELEMENTS = 1 << 18  # converted at a time, so that the temporaries stay in cache
_WORD = np.dtype("<u4")  # a word as bytes, on any host
_INT32_MAX = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Packed:
    """A rows × k integer matrix as bit planes, or a batch of such matrices: then all arrays have one more dimension
    [batch], before that of the rows. Of images, and of filters, each pixel is a row, whose elements are its channels.

    An element with the planes P_i has the value scale·Σ_i weights[i]·P_i + offset − zeros[row], with weights, scale
    and offset those of `encoding`; the last term is there for `u<p>@row` only. The arrays are numpy arrays, or CUDA
    arrays (`__cuda_array_interface__`) of the same dtype and shape, all C-contiguous.

    Attributes:
        planes: uint32 [P, rows, words_per_row(k)]; bits past k are 0.
        sums: int32 [rows], Σ_k Σ_i weights[i]·P_i: without scale, offset and zeros (`row_sums` applies them).
        encoding: what the planes mean.
        shape: (rows, k), (batch, rows, k), or (images, height, width, channels).
        zeros: int32 [rows], 0 ≤ zeros < 2^p, for `u<p>@row`; else None.

    What `pack`, `from_planes` and programs make is sound. Of a matrix made by hand the contents are trusted: bits past
    k, an element in both planes of `ternary`, and wrong sums give wrong products. `check` finds all of these; programs
    look at the bits past k only, and only in host memory.

    Raises:
        InputError, ShapeError: arrays that do not fit `encoding` and `shape`. What planes and sums hold is for `check`.
        EncodingError: a zero point that is no code (looked at on the host only).

    Example:
        >>> planes, sums = np.array([[[0b101, 0, 0, 0]]], np.uint32), np.array([2], np.int32)
        >>> by_hand = Packed(planes, sums, "bipolar", (1, 3))
        >>> by_hand.check()
        >>> unpack(by_hand), by_hand.row_sums()
        (array([[ 1, -1,  1]], dtype=int8), array([1]))
    """

    planes: Any = field(repr=False)
    sums: Any = field(repr=False)
    encoding: Encoding
    shape: tuple[int, ...]
    zeros: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "encoding", Encoding.parse(self.encoding))  # a name will do
        object.__setattr__(self, "shape", whole_sizes(self.shape))  # and a list
        require_layout(self.planes, "planes", np.uint32, _planes_shape(self.shape, self.encoding))
        require_layout(self.sums, "sums", np.int32, self.shape[:-1])
        _require_zeros_iff_row(self.zeros, self.encoding)
        if self.zeros is not None:
            require_layout(self.zeros, "zeros", np.int32, self.shape[:-1])
        if len({is_device_array(a) for a in (self.planes, self.sums, self.zeros) if a is not None}) > 1:
            raise InputError("planes, sums and zeros must all be on the host or all on the device: copy some of them")
        if self.zeros is not None and not is_device_array(self.zeros):
            _require_codes(self.zeros, self.encoding)

    @classmethod
    def from_planes(cls, planes: Any, encoding: str | Encoding, k: int, zeros: Any = None) -> Packed:
        """The matrix whose planes are given, as uint32 [P, rows, words_per_row(k)] (or [P, batch, rows, …]); makes the
        sums and checks the rest.

        Planes in GPU memory are copied to the host.

        Raises:
            InputError, ShapeError, EncodingError: as `Packed`, `Packed.check` and `pack`.

        Example:
            >>> planes = np.array([[[0b011, 0, 0, 0]], [[0b100, 0, 0, 0]]], np.uint32)
            >>> unpack(Packed.from_planes(planes, "ternary", k=3))
            array([[ 1,  1, -1]], dtype=int8)
        """
        encoding, planes = Encoding.parse(encoding), np.ascontiguousarray(as_numpy(planes, "planes"))
        if planes.ndim not in (3, 4, 5):
            expected = "3 dimensions [planes, rows, words] or 4 [planes, batch, rows, words], of images 5"
            raise ShapeError(f"planes must have {expected}, got shape {planes.shape}")
        shape = (*planes.shape[1:-1], k)
        require_layout(planes, "planes", np.uint32, _planes_shape(shape, encoding))
        packed = cls(planes, _weighted_sums(planes, encoding), encoding, shape, _as_zeros(zeros, encoding, shape[:-1]))
        packed.check()
        return packed

    @property
    def rows(self) -> int:
        """Rows of the matrix, or of each in the batch."""
        return self.shape[-2]

    @property
    def k(self) -> int:
        """Elements in a row, without padding."""
        return self.shape[-1]

    def reshape(self, *rows: int | tuple[int, ...]) -> Packed:
        """The same rows in the same memory as one matrix, `reshape(rows)`, as a batch, `reshape(batch, rows)`, or as
        images, `reshape(images, height, width)`; as in numpy, a tuple will do as well.

        Raises:
            ShapeError: not so many rows, or sizes that are no whole numbers.

        Example:
            >>> pack([[1, -1], [1, 1], [-1, 1], [-1, -1]], "bipolar").reshape(2, 2).shape
            (2, 2, 2)
        """
        given = rows[0] if len(rows) == 1 and isinstance(rows[0], (tuple, list)) else rows
        try:
            sizes = tuple(map(operator.index, given))  # pyright: ignore[reportArgumentType]  # what is wrong is refused
        except TypeError:
            expected = "(rows), (batch, rows) or (images, height, width)"
            raise ShapeError(f"a packed matrix is reshaped to {expected}, got {given}") from None
        if math.prod(sizes) != math.prod(self.shape[:-1]):
            raise ShapeError(f"a packed matrix of shape {self.shape} cannot have the rows {sizes}")
        planes = self.planes.reshape(_planes_shape((*sizes, self.k), self.encoding))
        zeros = None if self.zeros is None else self.zeros.reshape(sizes)
        return Packed(planes, self.sums.reshape(sizes), self.encoding, (*sizes, self.k), zeros)

    def row_sums(self) -> np.ndarray:
        """Sum of the elements of each row: scale·sums + (offset − zeros)·k, as int64, of the shape of `sums`.

        Example:
            >>> pack([[1, -1, -1]], "bipolar").row_sums()
            array([-1])
        """
        offsets = _row_offsets(self.encoding, self.zeros, self.shape[:-1])[..., 0].astype(np.int64)
        return self.encoding.scale * as_numpy(self.sums, "sums").astype(np.int64) + offsets * self.k

    def check(self) -> None:
        """Check the contents: no bit past k, no ternary element of both signs, sums that match the planes.

        Raises:
            InputError: one of these does not hold, or the arrays are in GPU memory.
        """
        if is_device_array(self.planes):
            raise InputError("check() reads the contents and needs them on the host: copy the arrays first")
        require_clean_padding(self.planes, self.k)
        if self.encoding.kind == "ternary" and (both := self.planes[0] & self.planes[1]).any():
            place = ", ".join(map(str, _first(both != 0)))
            raise InputError(f"planes[:, {place}] has an element in both planes: ternary is +1 or -1, not both")
        expected = _weighted_sums(self.planes, self.encoding)
        if (wrong := np.not_equal(self.sums, expected)).any():
            row = _first(wrong)
            raise InputError(
                f"sums{list(row)} = {self.sums[row]}, but the planes add up to {expected[row]}: "
                f"make the matrix with Packed.from_planes"
            )


def pack(x: Any, encoding: str | Encoding, zeros: Any = None, *, name: str = "x") -> Packed:
    """The matrix x in bit planes: x = scale·Σ_i weights[i]·P_i + offset − zeros[row].

    Args:
        x: integers or booleans [rows, k], [batch, rows, k] or [images, height, width, channels], in any library that
            `bitmlir.arrays.as_numpy` reads.
        encoding: the encoding, or its name; every element must be one of its values.
        zeros: zero point of each row, integers [rows] or [batch, rows] in 0..2^p−1; for `u<p>@row`, and only then.
        name: what error messages call x.

    Raises:
        EncodingError: an unknown encoding, or a value outside it; the message names the first such element.
        ShapeError: not two or three dimensions, no elements, or rows too long for int32 sums.
        InputError: not integers, or zeros where the encoding has none (or none where it has).

    Example:
        >>> packed = pack([[3, 0, 1]], "u2")
        >>> packed.planes[:, 0, 0], packed.sums
        (array([5, 1], dtype=uint32), array([4], dtype=int32))
    """
    encoding, values = Encoding.parse(encoding), as_numpy(x, name)
    if values.ndim not in (2, 3, 4):
        expected = "2 dimensions [rows, k], 3 [batch, rows, k] or 4 [images, height, width, channels]"
        raise ShapeError(f"{name} must have {expected}, got shape {values.shape}")
    shape = values.shape
    planes = np.empty(_planes_shape(shape, encoding), np.uint32)
    values = as_integers(values, name)
    values = values.view(np.uint8) if values.dtype == bool else values
    row_zeros = _as_zeros(zeros, encoding, shape[:-1])
    offsets = _row_offsets(encoding, row_zeros, shape[:-1]).reshape(-1, 1)
    flat, plane_rows = values.reshape(len(offsets), -1), planes.reshape(encoding.bits, len(offsets), -1)
    for rows in _row_blocks(*flat.shape):
        _require_values(flat[rows], encoding, offsets[rows], name, shape[:-1], rows.start)
        codes = _codes(flat[rows], encoding, offsets[rows])
        for plane, i in zip(plane_rows, range(encoding.bits), strict=True):
            plane[rows] = bits_to_words(codes & np.uint8(1 << i), planes.shape[-1])
    return Packed(planes, _weighted_sums(planes, encoding), encoding, shape, row_zeros)


def unpack(packed: Packed) -> np.ndarray:
    """The elements of a packed matrix, in its shape: int8 if it holds every value of the encoding, else int16.

    int16 are `u8`, `u8@z` but for `u8@128`, `u8@row` and `bipolar8`; all others are int8. Matrices in GPU memory are
    copied to the host.

    Example:
        >>> unpack(pack([[-3, 3, 1]], "bipolar2"))
        array([[-3,  3,  1]], dtype=int8)
    """
    if not isinstance(packed, Packed):
        raise InputError(f"unpack takes a Packed matrix, got {type(packed).__name__}: pack it first")
    encoding, planes = packed.encoding, as_numpy(packed.planes, "planes")
    offsets = _row_offsets(encoding, packed.zeros, packed.shape[:-1]).reshape(-1, 1)
    int8 = np.iinfo(np.int8)
    fits = int8.min <= encoding.minimum and encoding.maximum <= int8.max
    values = np.empty((len(offsets), packed.k), np.int8 if fits else np.int16)
    plane_rows = planes.reshape(encoding.bits, len(offsets), -1)
    for rows in _row_blocks(*values.shape):
        total = np.zeros(values[rows].shape, np.int16)
        for plane, weight in zip(plane_rows, encoding.weights, strict=True):
            total += np.multiply(words_to_bits(plane[rows], packed.k), weight * encoding.scale, dtype=np.int16)
        values[rows] = total + offsets[rows]
    return values.reshape(packed.shape)


def require_clean_padding(planes: np.ndarray, k: int, name: str = "planes") -> None:
    """Check that no row of planes in host memory has a bit set past k; of each row the last 16 bytes are read.

    Raises:
        InputError: one has; the message names the first.
    """
    used = ROW_ALIGNMENT - (words_per_row(k) * BITS_PER_WORD - k)  # of the last bits
    padding = bits_to_words(np.arange(ROW_ALIGNMENT) >= used, _ALIGNMENT_WORDS)
    stray = np.logical_or.reduce(planes[..., -_ALIGNMENT_WORDS:] & padding, axis=-1)
    if stray.any():
        raise InputError(f"{name}{list(_first(stray))} has bits set past k = {k}: padding must be 0")


def whole_sizes(shape: Any) -> tuple[int, ...]:
    """A shape as a tuple of Python's integers.

    Raises:
        ShapeError: it is no list of whole numbers.

    Example:
        >>> whole_sizes([5, np.int64(100)])
        (5, 100)
    """
    try:
        return tuple(map(operator.index, shape))
    except TypeError:
        raise ShapeError(f"a shape is a tuple of whole numbers, such as (rows, k), got {shape!r}") from None


def bits_to_words(bits: np.ndarray, words: int) -> np.ndarray:
    """uint32 [..., words] whose bit j % 32 of word j // 32 is set where bits[..., j] is not 0.

    Example:
        >>> bits_to_words(np.array([True, False, True]), 2)
        array([5, 0], dtype=uint32)
    """
    packed = np.packbits(bits, axis=-1, bitorder="little")
    padded = np.zeros((*bits.shape[:-1], words * _WORD.itemsize), np.uint8)
    padded[..., : packed.shape[-1]] = packed
    return padded.view(_WORD).astype(np.uint32, copy=False)


def words_to_bits(words: np.ndarray, count: int) -> np.ndarray:
    """The first `count` bits along the last axis, as uint8 0 or 1: the inverse of `bits_to_words`.

    Example:
        >>> words_to_bits(np.array([5, 0], np.uint32), 3)
        array([1, 0, 1], dtype=uint8)
    """
    as_bytes = np.ascontiguousarray(words, _WORD).view(np.uint8)
    return np.unpackbits(as_bytes, axis=-1, count=count, bitorder="little")


def _row_offsets(encoding: Encoding, zeros: Any, rows: tuple[int, ...]) -> np.ndarray:
    """Value of an element of each row whose planes are all 0: int16 [rows, 1] or [batch, rows, 1]."""
    if zeros is None:
        return np.full((*rows, 1), encoding.offset, np.int16)
    return -as_numpy(zeros, "zeros").astype(np.int16)[..., None]


def _codes(values: np.ndarray, encoding: Encoding, offsets: np.ndarray) -> np.ndarray:
    """uint8 whose bit i is plane i; bits past the encoding's planes mean nothing."""
    if encoding.kind == "ternary":
        return (values == 1) + 2 * (values == -1).view(np.uint8)
    codes = (values.astype(np.int16) - offsets) >> (encoding.scale - 1)
    return codes.astype(np.uint8)


def _require_values(
    values: np.ndarray, encoding: Encoding, offsets: np.ndarray, name: str, shape: tuple[int, ...], start: int
) -> None:
    """Check that every element of these rows is a value of the encoding; `start` is the first one's place in shape."""
    low, high = (offsets + encoding.scale * reach for reach in _reach(encoding))
    bad = (values < low) | (values > high)
    if encoding.kind == "bipolar":
        bad |= (values & 1) == 0
    if not bad.any():
        return
    row, column = _first(bad)
    held, fix = f"{low[row, 0]}..{high[row, 0]}", "clip it, or use a wider encoding"
    if encoding.kind == "bipolar":
        held = f"the odd integers in {held}"
        fix = "bring it to an odd value in range, or use 'ternary' or i<p>, which have a zero"
    if encoding.has_row_zeros:
        held += f" in this row, whose zero point is {-offsets[row, 0]}"
    place = [*map(int, np.unravel_index(start + row, shape)), column]
    raise EncodingError(
        f"{name}{place} = {values[row, column]} is not a value of '{encoding}', which holds {held}: {fix}"
    )


def _reach(encoding: Encoding) -> tuple[int, int]:
    """Smallest and largest Σ_i weights[i]·P_i."""
    return sum(w for w in encoding.weights if w < 0), sum(w for w in encoding.weights if w > 0)


def _as_zeros(zeros: Any, encoding: Encoding, rows: tuple[int, ...]) -> np.ndarray | None:
    _require_zeros_iff_row(zeros, encoding)
    if zeros is None:
        return None
    array = as_integers(zeros, "zeros")
    if array.shape != rows:
        raise ShapeError(f"zeros must have shape {rows}, a zero point a row, got {array.shape}")
    _require_codes(array, encoding)
    return array.astype(np.int32)


def _require_codes(zeros: np.ndarray, encoding: Encoding) -> None:
    bad = (zeros < 0) | (zeros > encoding.maximum)
    if bad.any():
        row = _first(bad)
        raise EncodingError(
            f"zeros{list(row)} = {zeros[row]} is not a code of '{encoding}': zero points lie in 0..{encoding.maximum}"
        )


def _require_zeros_iff_row(zeros: Any, encoding: Encoding) -> None:
    if encoding.has_row_zeros and zeros is None:
        raise InputError(f"encoding '{encoding}' needs zeros: pass the zero point of each row")
    if not encoding.has_row_zeros and zeros is not None:
        raise InputError(f"encoding '{encoding}' takes no zeros: drop them, or use u<p>@row")


def _planes_shape(shape: tuple[int, ...], encoding: Encoding) -> tuple[int, ...]:
    """Shape of the planes of matrices of that shape, once it is sure that their row sums fit in int32."""
    if len(shape) not in (2, 3, 4) or min(shape) < 1:
        raise ShapeError(
            f"a packed matrix has at least one row and one column, got shape {shape}: "
            f"pass (rows, k), (batch, rows, k) or (images, height, width, channels)"
        )
    *rows, k = shape
    largest_sum = k * max(map(abs, _reach(encoding)))
    if largest_sum > _INT32_MAX:
        raise ShapeError(f"k = {k} is too long for '{encoding}': row sums up to {largest_sum} exceed int32; split K")
    return encoding.bits, *rows, words_per_row(k)


def _weighted_sums(planes: np.ndarray, encoding: Encoding) -> np.ndarray:
    counts = np.bitwise_count(planes).sum(axis=-1, dtype=np.int64)
    return np.tensordot(np.array(encoding.weights), counts, axes=1).astype(np.int32)


def _row_blocks(rows: int, k: int) -> Iterator[slice]:
    step = max(1, _BLOCK_ELEMENTS // k)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def _first(mask: np.ndarray) -> tuple[int, ...]:
    """Index of the first True, in row-major order."""
    return tuple(int(i) for i in np.unravel_index(mask.argmax(), mask.shape))
