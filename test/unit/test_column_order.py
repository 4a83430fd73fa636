"""The order of columns in which lanes store several neighbours at once."""

from __future__ import annotations

import pytest

from bitmlir.lowering.gpu.column_order import ColumnOrder


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_every_column_has_one_place(groups: int) -> None:
    assert sorted(map(ColumnOrder(groups).column, range(64))) == list(range(64))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_lane_has_neighbouring_columns(groups: int) -> None:
    for lane in range(4):
        columns = [ColumnOrder(groups).column(8 * j + 2 * lane + i) for j in range(groups) for i in range(2)]
        assert columns == list(range(2 * groups * lane, 2 * groups * (lane + 1)))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_column_of_a_sum_without_a_common_bit_is_the_sum_of_the_columns(groups: int) -> None:
    order = ColumnOrder(groups)
    assert all(
        order.column(a + b) == order.column(a) + order.column(b) for a in range(64) for b in range(64) if not a & b
    )


@pytest.mark.parametrize(
    ("columns", "element", "groups"),
    [(128, 4, 2), (132, 4, 2), (130, 4, 1), (129, 4, 1), (128, 2, 4), (132, 2, 2), (130, 2, 1), (128, 8, 1)],
)
def test_stores_are_as_wide_as_rows_let_them_be_aligned(columns: int, element: int, groups: int) -> None:
    assert ColumnOrder.of(columns, element) == ColumnOrder(groups)
