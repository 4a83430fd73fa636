"""What packing is to do: sizes, the elements it reads, the encoding."""

from __future__ import annotations

from dataclasses import dataclass

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import InputError, ShapeError
from bitmlir.spec_fields import require_names, require_sizes, require_switches

__all__ = ["PackSpec"]

_INTEGERS, _FLOATS = ("i8", "i16", "i32"), ("f32", "f16", "bf16")
_INT32_MAX = 2**31 - 1


@dataclass(frozen=True)
class PackSpec:
    """Packing a matrix of rows × k numbers on the target: a program from x to a `Packed`, ready to be an operand.

    | source               | result                                                                                 |
    |----------------------|----------------------------------------------------------------------------------------|
    | `f32`, `f16`, `bf16` | the values of the encoding nearest to x / scale[row], of two the even one; those past  |
    |                      | the ends become the smallest and the largest value, NaN the smallest                   |
    | `i8`, `i16`, `i32`   | x, which must hold values of the encoding: this is not checked, other codes are cut    |

    The quotient is rounded to f32 first: for `u<p>@z` and `u<p>@row` this is ONNX's QuantizeLinear, with code − zero
    point as the value. The bipolar encodings have odd values only: an even one goes away from 0, and 0 to 1, so that
    `bipolar` holds the signs.

    The program's arguments are x [rows, k], with `scale` also scale [rows] f32 (or a number for all rows), and for
    `u<p>@row` zeros [rows]. Scales are positive; they are brought into 2^-100 … 2^100, so that a row of zeros may have
    0. Those that are negative or NaN are refused in host memory, and not looked at on a GPU. A product of the result
    takes the same scales as its row_scale or column_scale.

    Raises:
        ShapeError: a size below 1, or rows too long for int32 sums.
        EncodingError: an unknown encoding.
        InputError: an unknown source, a scale for integers, or a field that is not of its type.

    Example:
        >>> import bitmlir
        >>> import numpy as np
        >>> pack = bitmlir.compile(PackSpec(rows=1, k=5, encoding="u4", scale=True), target="cpu")
        >>> bitmlir.unpack(pack(np.array([[-1, 0.24, 0.26, 0.75, 99]], np.float32), scale=0.5))
        array([[ 0,  0,  1,  2, 15]], dtype=int8)
    """

    rows: int
    k: int
    encoding: str | Encoding
    source: str = "f32"
    scale: bool = False

    def __post_init__(self) -> None:
        require_sizes(self, "rows", "k")
        require_switches(self, "scale")
        require_names(self, "encoding", "source")
        encoding = Encoding.parse(self.encoding)
        largest_sum = self.k * max(abs(sum(w for w in encoding.weights if w * sign > 0)) for sign in (1, -1))
        if largest_sum > _INT32_MAX:
            raise ShapeError(f"k = {self.k} is too long for '{encoding}': row sums up to {largest_sum} exceed int32")
        if self.source not in (*_INTEGERS, *_FLOATS):
            raise InputError(f"unknown source {self.source!r}: expected one of {', '.join((*_FLOATS, *_INTEGERS))}")
        if self.scale and not self.is_rounded:
            raise InputError(f"source={self.source!r} takes no scale: integers are packed as they are")

    @property
    def is_rounded(self) -> bool:
        """Whether the source holds floats, to be rounded to values of the encoding."""
        return self.source in _FLOATS
