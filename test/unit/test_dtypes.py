"""The element types of a plan in numpy."""

from __future__ import annotations

import pytest

from bitmlir.runtime.dtypes import numpy_dtype


@pytest.mark.parametrize(
    ("name", "kind", "n_bytes"),
    [
        ("i1", "b", 1),
        ("i8", "i", 1),
        ("u8", "u", 1),
        ("i16", "i", 2),
        ("i32", "i", 4),
        ("i64", "i", 8),
        ("f16", "f", 2),
        ("bf16", "V", 2),
        ("f32", "f", 4),
        ("f64", "f", 8),
    ],
)
def test_every_type_of_a_plan_has_its_kind_and_size(name, kind, n_bytes):
    assert (numpy_dtype(name).kind, numpy_dtype(name).itemsize) == (kind, n_bytes)


def test_bf16_calculates():
    assert float(numpy_dtype("bf16").type(1.0) + numpy_dtype("bf16").type(0.5)) == 1.5
