"""What a warp does with mma.sync: one matrix instruction on fragments in registers, and where its results lie.

Source: PTX ISA, section on mma.sync.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import nvvm

from bitmlir.dialects import bit
from bitmlir.lowering.emit import Scalar
from bitmlir.lowering.gpu.column_order import ColumnOrder
from bitmlir.lowering.gpu.memory import element_bytes, struct_elements
from bitmlir.lowering.gpu.product import ProductProblem
from bitmlir.lowering.gpu.thread_tile import PAIR
from bitmlir.lowering.instructions import LANES_PER_ROW, MmaInstruction

__all__ = ["WarpPart", "issue_mma"]


@dataclass(frozen=True)
class WarpPart:
    """The part of an output tile that a warp multiplies, `rows` × `columns`, with its columns in some order."""

    mma: MmaInstruction
    rows: int
    columns: int
    order: ColumnOrder

    @staticmethod
    def of(problem: ProductProblem, mma: MmaInstruction, rows: int, columns: int) -> WarpPart:
        """The part with the order in which lanes store most at once; what is not stored plainly has the matrix's."""
        if problem.packed or isinstance(problem.op, bit.PlaneSearchOp):
            return WarpPart(mma, rows, columns, ColumnOrder())
        order = ColumnOrder.of(problem.n, element_bytes(problem.out_type.element_type))
        # As many groups as divide the part: a power of two, as the order's are.
        return WarpPart(mma, rows, columns, ColumnOrder(math.gcd(order.groups, columns // mma.n)))

    @property
    def row_offsets(self) -> list[int]:
        """The rows of a lane, from its first on."""
        return [i + row for i in range(0, self.rows, self.mma.m) for row in self.mma.accumulator.row_offsets]

    @property
    def column_offsets(self) -> list[int]:
        """The pairs of columns of a lane, from its first on."""
        pairs = self.mma.accumulator.column_offsets[::PAIR]
        return [self.order.column(j + column) for j in range(0, self.columns, self.mma.n) for column in pairs]

    @property
    def slots(self) -> list[tuple[int, int]]:
        """The number of its row and of its column, for each accumulator in the order of the fragments."""
        layout = self.mma.accumulator
        rows, columns = len(layout.row_offsets), len(layout.column_offsets)
        down, across = range(self.rows // self.mma.m), range(self.columns // self.mma.n)
        return [(i * rows + r, j * columns + c) for i in down for j in across for r, c in layout.slots]

    def first(self, lane: Scalar) -> tuple[Scalar, Scalar]:
        """A lane's first row and column."""
        column = lane % LANES_PER_ROW * self.mma.accumulator.lane_columns
        return lane // LANES_PER_ROW, self.order.column(column)


def issue_mma(
    mma: MmaInstruction, a: list[ir.Value], b: list[ir.Value], c: list[ir.Value], operation: str
) -> list[ir.Value]:
    """c + a·bᵀ by a bit operation, or on numbers if the instruction has such; all are the lane's registers."""
    struct = ir.Type.parse(f"!llvm.struct<({', '.join(['i32'] * len(c))})>")
    shape = ir.Attribute.parse(f"#nvvm.shape<m = {mma.m}, n = {mma.n}, k = {mma.k // mma.bits}>")
    row, column = ir.Attribute.parse("#nvvm.mma_layout<row>"), ir.Attribute.parse("#nvvm.mma_layout<col>")
    element = ir.Attribute.parse("#nvvm.mma_type<b1>" if mma.bits == 1 else f"#nvvm.mma_type<u{mma.bits}>")
    bitwise = ir.Attribute.parse(f"#nvvm.mma_b1op<{operation}_popc>") if mma.bits == 1 else None
    overflow = None if mma.bits == 1 else ir.Attribute.parse("#nvvm.mma_int_overflow<wrapped>")
    result = nvvm.mma_sync(
        struct, shape, row, column, a, b, c, b1_op=bitwise, int_overflow_behavior=overflow,
        multiplicand_a_ptx_type=element, multiplicand_b_ptx_type=element,
    )  # fmt: skip
    return struct_elements(result, len(c))
