"""Encodings: how an integer matrix is a weighted sum of bit planes plus an offset.

An element with planes P_0 … P_{p−1} in {0, 1} has the value

    scale · Σ_i weights[i] · P_i + offset

where every weight is plus or minus a power of two. For the encodings that have a zero (`u`, `i`, `ternary`) the planes
of a zero are all 0 and the offset is 0: a tile of zeros is a tile of empty planes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from bitmlir.dialects.errors import EncodingError

__all__ = ["Encoding", "range_fault"]

Kind = Literal["u", "i", "bipolar", "ternary"]

_NAME = re.compile(r"(?P<kind>u|i|bipolar|ternary)(?P<bits>\d*)(?:@(?P<zero>\d+|row))?")
_BITS: dict[str, range] = {"u": range(1, 9), "i": range(2, 9), "bipolar": range(1, 9), "ternary": range(2, 3)}
_KNOWN = "u1…u8, i2…i8, bipolar (±1), bipolar2…bipolar8, ternary, and u<p>@z or u<p>@row for zero points"


@dataclass(frozen=True)
class Encoding:
    """One of the integer encodings that are sums of bit planes.

    | name          | planes | value of the planes P                          |
    |---------------|--------|------------------------------------------------|
    | `u<p>`        | 1..8   | Σ 2^i·P_i                                      |
    | `u<p>@z`      | 1..8   | Σ 2^i·P_i − z, with 0 ≤ z < 2^p                |
    | `u<p>@row`    | 1..8   | the same with a zero point for each row        |
    | `i<p>`        | 2..8   | two's complement: the top plane weighs −2^(p−1)|
    | `bipolar`     | 1      | 2·P − 1, that is −1 or +1                      |
    | `bipolar<p>`  | 2..8   | 2·Σ 2^i·P_i − (2^p − 1): the odd integers      |
    | `ternary`     | 2      | P_0 − P_1, that is −1, 0 or +1                 |

    Example:
        >>> e = Encoding.parse("bipolar2")
        >>> e.minimum, e.maximum, e.scale, e.weights, e.offset
        (-3, 3, 2, (1, 2), -3)
    """

    kind: Kind
    bits: int
    zero: int | Literal["row"] = 0

    def __post_init__(self) -> None:
        if self.kind not in _BITS or type(self.bits) is not int or self.bits not in _BITS[self.kind]:
            raise EncodingError(f"unknown encoding '{self.kind}{self.bits}': expected one of {_KNOWN}")
        if self.zero != 0 and self.kind != "u":
            raise EncodingError(f"encoding '{self.kind}' takes no zero point: use u<p>@z")
        if self.zero != "row" and type(self.zero) is not int:
            raise EncodingError(f"zero point {self.zero!r} must be a whole number or 'row'")
        if self.zero != "row" and not 0 <= self.zero < 2**self.bits:
            raise EncodingError(f"zero point {self.zero} of 'u{self.bits}' must lie in 0..{2**self.bits - 1}")

    @classmethod
    def parse(cls, name: str | Encoding) -> Encoding:
        """The encoding of that name; an `Encoding` is returned as it is.

        Raises:
            EncodingError: the name is none of the known ones.
        """
        if isinstance(name, Encoding):
            return name
        match = _NAME.fullmatch(name) if isinstance(name, str) else None
        bits = match and (match["bits"] or {"bipolar": 1, "ternary": 2}.get(match["kind"]))
        if not match or not bits:
            raise EncodingError(f"unknown encoding {name!r}: expected one of {_KNOWN}")
        zero = match["zero"] or "0"
        kind: Any = match["kind"]  # a `Kind`: the pattern has no others
        encoding = cls(kind, int(bits), "row" if zero == "row" else int(zero))
        if encoding.name != name:
            raise EncodingError(f"unknown encoding {name!r}: did you mean '{encoding.name}'?")
        return encoding

    @property
    def name(self) -> str:
        """The spelling that `parse` reads back."""
        digits = "" if self.kind == "ternary" or (self.kind == "bipolar" and self.bits == 1) else str(self.bits)
        return f"{self.kind}{digits}" + (f"@{self.zero}" if self.zero != 0 else "")

    def __str__(self) -> str:
        return self.name

    @property
    def weights(self) -> tuple[int, ...]:
        """Weight of each plane, before `scale`: plus or minus a power of two."""
        if self.kind == "ternary":
            return (1, -1)
        powers = [1 << i for i in range(self.bits)]
        if self.kind == "i":
            powers[-1] = -powers[-1]
        return tuple(powers)

    @property
    def largest_planes(self) -> int:
        """The largest absolute value of Σ weights[i]·P_i."""
        return max(sum(w for w in self.weights if w > 0), -sum(w for w in self.weights if w < 0))

    @property
    def scale(self) -> int:
        """Common factor of all plane weights: 2 for the bipolar encodings, else 1."""
        return 2 if self.kind == "bipolar" else 1

    @property
    def offset(self) -> int:
        """Value of an element whose planes are all 0, less its row's zero point where each row has its own."""
        if self.kind == "bipolar":
            return 1 - 2**self.bits
        return 0 if self.zero == "row" else -self.zero

    @property
    def with_zero(self) -> Encoding:
        """An encoding of the same values and 0: this one if it has a 0, else two's complement of a bit more.

        Raises:
            EncodingError: `bipolar8`, which has no room for a 0.

        Example:
            >>> [Encoding.parse(name).with_zero.name for name in ("u2", "u4@7", "ternary", "bipolar", "bipolar3")]
            ['u2', 'u4@7', 'ternary', 'i2', 'i4']
        """
        if self.kind != "bipolar":
            return self
        if self.bits + 1 not in _BITS["i"]:
            raise EncodingError(f"'{self}' would take nine bits with a 0, use fewer bits")
        return Encoding("i", self.bits + 1)

    @property
    def has_row_zeros(self) -> bool:
        """Whether each row brings a zero point of its own."""
        return self.zero == "row"

    @property
    def minimum(self) -> int:
        """Smallest value of an element, over all zero points if each row has its own."""
        if self.has_row_zeros:
            return 1 - 2**self.bits
        return self.offset + self.scale * sum(w for w in self.weights if w < 0)

    @property
    def maximum(self) -> int:
        """Largest value of an element."""
        return self.offset + self.scale * sum(w for w in self.weights if w > 0)

    @property
    def magnitude(self) -> int:
        """Largest absolute value of an element."""
        return max(-self.minimum, self.maximum)


def range_fault(lhs: Encoding, rhs: Encoding, k: int) -> str | None:
    """Why a product of K elements could leave int32."""
    if k * lhs.magnitude * rhs.magnitude < 2**31:
        return None
    limit = (2**31 - 1) // (lhs.magnitude * rhs.magnitude)
    return (
        f"K = {k} with '{lhs}' (up to ±{lhs.magnitude}) times '{rhs}' (up to ±{rhs.magnitude}) can leave int32: "
        f"split the product along K into parts of at most {limit}"
    )
