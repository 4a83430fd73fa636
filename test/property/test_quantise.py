"""Quantising any floats by any scale that is not negative is what the oracle says, and never fails."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import bitmlir
from bitmlir import Executable, PackSpec
from bitmlir.tools.evaluate import evaluate

K = 33


@functools.cache
def program(encoding: str) -> Executable:
    return bitmlir.compile(PackSpec(1, K, encoding, scale=True), "cpu")


@pytest.mark.parametrize("encoding", ["u4", "u8@200", "i8", "bipolar", "bipolar4", "ternary"])
@settings(deadline=None)  # the first example compiles
@given(x=arrays.arrays(np.float32, (1, K)), scale=st.floats(min_value=0, width=32))
def test_any_floats_by_any_scale(encoding: str, x: np.ndarray, scale: float) -> None:
    scales = np.array([scale], np.float32)
    packed = program(encoding)(x, scale=scales)
    packed.check()
    (values,) = evaluate(str(program(encoding).emit("bit")), "pack", [x, scales])
    np.testing.assert_array_equal(bitmlir.unpack(packed), values)


@pytest.mark.parametrize("encoding", ["u4@7", "i3", "bipolar3"])
@settings(deadline=None)  # the first example compiles
@given(
    x=arrays.arrays(np.float32, (1, K), elements=st.floats(-8, 8, width=32)), scale=st.sampled_from([0.25, 0.5, 1, 2])
)
def test_no_value_of_the_encoding_is_nearer(encoding: str, x: np.ndarray, scale: float) -> None:
    known = bitmlir.Encoding.parse(encoding)
    values = np.arange(known.minimum, known.maximum + 1, known.scale)
    chosen = bitmlir.unpack(program(encoding)(x, scale=scale))
    quotient = x.astype(np.float64) / scale
    np.testing.assert_array_equal(np.abs(quotient - chosen), np.abs(quotient[..., None] - values).min(axis=-1))
