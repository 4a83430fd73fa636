"""What plane operations that compute elements store: a plain result, or a packed one with row sums and, beside it, the
numbers to keep."""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import EncodingError
from bitmlir.dialects.faults import ELEMENTS, memref_fault, yield_fault
from bitmlir.dialects.layout import BITS_PER_WORD, words_per_row
from bitmlir.dialects.pixel_pairs import PAIR_CHANNELS, PAIR_WORDS

__all__ = ["Stored", "sums_of_row"]


@dataclass(frozen=True)
class Stored:
    """The result of an operation: out, and of a packed one its row sums, the name of its encoding (else "") and perhaps
    numbers that are kept; and the block that yields its elements."""

    out: ir.Value
    out_sums: ir.Value | None
    kept: ir.Value | None
    encoding: ir.Attribute
    body: ir.Block

    @property
    def _name(self) -> str:
        return ir.StringAttr(self.encoding).value

    def fault(self, rows: tuple[int, ...], n: int, may_have_halves: bool = False) -> str | None:
        """Why the result has not so many rows, (batch, rows) for batches, and columns.

        Rows of 64 packed columns may have no padding, as of pixels in pairs. Rows that stand for two pixels
        `may_have_halves`, with a sum each, if they have no padding.
        """
        if bool(self._name) != (self.out_sums is not None):
            return "out_sums and out_encoding belong together: a packed result has both, a plain one neither"
        if self.kept is not None and self.out_sums is None:
            return "kept goes beside a packed result: a plain one holds the numbers itself"
        if not isinstance(self.out.type, ir.MemRefType):
            return f"out must be a memref, but is {self.out.type}"
        expected = [*rows, n]
        if self.kept is not None and (fault := memref_fault(self.kept.type, "kept", expected, ELEMENTS)):
            return fault
        if self.out_sums is not None:
            words, parts = words_per_row(n), 1
            if n == PAIR_CHANNELS and _length(self.out) == PAIR_WORDS:
                words = PAIR_WORDS
            if may_have_halves and words * BITS_PER_WORD == n and _length(self.out_sums) == 2 * rows[-1]:
                parts = 2
            try:
                expected = [Encoding.parse(self._name).bits, *rows, words]
            except EncodingError as error:
                return f"out_encoding: {error}"
            if fault := memref_fault(self.out_sums.type, "out_sums", (*rows[:-1], rows[-1] * parts)):
                return fault
        if list(self.out.type.shape) != expected:
            return f"out must have the sizes {expected}, but is {self.out.type}"
        return None

    def element_fault(self) -> str | None:
        """Why the body does not yield an element of the result, and of what is kept."""
        element = ir.MemRefType(self.out.type).element_type
        if self._name:
            element = ir.IntegerType.get_signless(Encoding.parse(self._name).bits)
        return yield_fault(self.body, element, "body", "the element of out", self.kept)


def sums_of_row(out: ir.Value, out_sums: ir.Value) -> int:
    """How many sums a row of a packed result has: two, if it stands for two pixels side by side."""
    return _length(out_sums) // ir.MemRefType(out.type).shape[-2]


def _length(array: ir.Value) -> int:
    """Elements along an array's last dimension; 0 if it has none."""
    shape = ir.MemRefType(array.type).shape if isinstance(array.type, ir.MemRefType) else []
    return shape[-1] if shape else 0
