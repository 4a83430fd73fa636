"""The element types of a launch plan, in numpy."""

from __future__ import annotations

import importlib

import numpy as np

__all__ = ["numpy_dtype"]

_NUMPY_NAMES = {
    "i1": "bool",
    "i8": "int8",
    "u8": "uint8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
}


def numpy_dtype(name: str) -> np.dtype:
    """numpy's type for the `dtype` of a plan's buffer or value; for bf16 it is that of ml_dtypes.

    Example:
        >>> numpy_dtype("i1").itemsize, numpy_dtype("bf16").itemsize
        (1, 2)
    """
    if name == "bf16":  # imported only here: nothing else at run time needs more than numpy
        return np.dtype(importlib.import_module("ml_dtypes").bfloat16)
    return np.dtype(_NUMPY_NAMES[name])
