"""What a grouped product is to compute: many products of different heights against different weights, in one launch."""

from __future__ import annotations

from dataclasses import dataclass

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import ShapeError
from bitmlir.dialects.layout import LARGEST_SIZE
from bitmlir.spec import MatmulSpec
from bitmlir.spec_fields import adopt_fields, whole_number

__all__ = ["GroupedSpec"]


@dataclass(frozen=True)
class GroupedSpec:
    """Products of groups of rows with a matrix each, as a mixture of experts has them.

    lhs is m×k, its rows sorted by group; rhs is groups×n×k. The argument `offsets`, int32 [groups + 1], says where each
    group's rows begin and end: group g has the rows from offsets[g] to offsets[g + 1] of lhs and of the m×n result. It
    is read when the product runs, so that one program serves any division of the rows; groups may be empty. Offsets
    rise from 0 to m. The first always counts as 0 and the last as m, and one that is less than one before it as that
    one: every row of the result is computed.

    The other fields are those of `MatmulSpec`. Columns' parameters (column_scale, bias, threshold, flip) are groups×n,
    those of rows (row_scale) m, a residual is m×n.

    Raises:
        ShapeError: a size below 1, or a K whose sums could leave int32, or int16 for `i16`.
        EncodingError: an unknown encoding, or one that no result can have.
        InputError: an unknown result or residual, a part of the epilogue that the result has no use for, or a field
            that is not of its type.

    Example:
        >>> import bitmlir
        >>> spec = GroupedSpec(groups=2, m=3, n=1, k=2, lhs="u2", rhs="bipolar")
        >>> multiply = bitmlir.compile(spec, target="cpu")
        >>> multiply([[1, 2], [3, 0], [1, 1]], [[[1, 1]], [[-1, 1]]], offsets=[0, 1, 3])
        array([[ 3],
               [-3],
               [ 0]], dtype=int32)
    """

    groups: int
    m: int
    n: int
    k: int
    lhs: str | Encoding
    rhs: str | Encoding
    out: str = "i32"
    row_scale: bool = False
    column_scale: bool = False
    bias: bool = False
    residual: str | None = None
    relu: bool = False

    def __post_init__(self) -> None:
        adopt_fields(self, self.product)  # checks all but the groups
        most = LARGEST_SIZE // self.n
        groups = whole_number(self.groups, most)
        if groups is None:
            limit = f"{LARGEST_SIZE} rows in groups of n = {self.n}"
            raise ShapeError(f"groups must be a whole number from 1 to {most} ({limit}), got {self.groups!r}")
        object.__setattr__(self, "groups", groups)

    @property
    def product(self) -> MatmulSpec:
        """The product that it would be if there were one group."""
        return MatmulSpec(
            self.m,
            self.n,
            self.k,
            self.lhs,
            self.rhs,
            self.out,
            row_scale=self.row_scale,
            column_scale=self.column_scale,
            bias=self.bias,
            residual=self.residual,
            relu=self.relu,
        )

    @property
    def operations(self) -> int:
        """2·m·n·k, what speeds are counted in."""
        return self.product.operations
