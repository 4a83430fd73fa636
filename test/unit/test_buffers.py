"""When an array lies densely in memory, compared with numpy's own answer."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bitmlir.dialects.errors import InputError
from bitmlir.runtime.buffers import is_dense, require_type
from bitmlir.runtime.plan import Buffer

SHAPES = [(), (0,), (1,), (7,), (1, 5), (5, 1), (3, 4), (2, 0, 3), (2, 1, 3), (2, 3, 4)]
ARRAYS = [np.zeros(shape, dtype) for shape in SHAPES for dtype in (np.int8, np.float64)]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.shape}-{a.dtype}")
def test_every_view_is_dense_exactly_where_numpy_says_so(array):
    views = [array.transpose(axes) for axes in itertools.permutations(range(array.ndim))]
    views += [view[::2] for view in views if view.ndim] + [view[..., ::-1] for view in views if view.ndim]
    views += [view[:1] for view in views if view.ndim] + [view[..., :1] for view in views if view.ndim]
    for view in views:
        assert is_dense(view.shape, view.strides, view.itemsize) == view.flags.c_contiguous, (view.shape, view.strides)


def test_no_strides_are_dense_ones():
    assert is_dense((3, 4), None, 4)


@pytest.mark.parametrize(
    ("name", "dtype", "given", "fits"),
    [
        ("x.planes", "i32", np.uint32, True),
        ("x.values", "i32", np.uint32, False),
        ("flip.values", "i8", np.bool_, True),
        ("residual.values", "i8", np.uint8, False),
    ],
)
def test_packed_words_may_be_unsigned_and_truth_values_bytes(name: str, dtype: str, given: type, fits: bool) -> None:
    buffer = Buffer(name, dtype, (3,))
    if fits:
        require_type(buffer, np.zeros(3, given))
    else:
        with pytest.raises(InputError, match=f"buffer {name} must be int"):
            require_type(buffer, np.zeros(3, given))
