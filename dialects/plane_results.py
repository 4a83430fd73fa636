"""What plane operations that compute elements store: a plain result, or a packed one with row sums and, beside it, the
numbers to keep."""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import EncodingError
from bitmlir.dialects.faults import ELEMENTS, memref_fault, yield_fault
from bitmlir.dialects.layout import words_per_row

__all__ = ["Stored"]


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

    def fault(self, rows: tuple[int, ...], n: int) -> str | None:
        """Why the result has not so many rows, (batch, rows) for batches, and columns."""
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
            try:
                expected = [Encoding.parse(self._name).bits, *rows, words_per_row(n)]
            except EncodingError as error:
                return f"out_encoding: {error}"
            if fault := memref_fault(self.out_sums.type, "out_sums", rows):
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
