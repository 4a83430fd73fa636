"""The oracle: what every kernel must return, in plain numpy integer arithmetic without bit tricks."""

from __future__ import annotations

from typing import Literal

import ml_dtypes
import numpy as np

from bitmlir.dialects.errors import InputError, ShapeError

__all__ = ["Out", "epilogue", "matmul", "row_sums"]

Out = Literal["i32", "f32", "f16", "bf16", "bit"]

_FLOATS = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}


def matmul(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """D[i, j] = Σ_k x[i, k]·y[j, k], exactly, as int64 [M, N] from integers [M, K] and [N, K].

    Example:
        >>> matmul(np.array([[1, 2]]), np.array([[3, 4], [5, 6]]))
        array([[11, 17]])
    """
    bound = x.shape[1] * _magnitude(x) * _magnitude(y)
    # Every partial sum is an integer that the float type holds, in whatever order BLAS adds.
    for exact, digits in ((np.float32, 24), (np.float64, 53)):
        if bound < 2**digits:
            return (x.astype(exact) @ y.astype(exact).T).astype(np.int64)
    if bound >= 2**63:
        raise InputError(f"products up to {bound} do not fit in int64")
    return x.astype(np.int64) @ y.astype(np.int64).T


def row_sums(x: np.ndarray) -> np.ndarray:
    """Sum of each row, int64 [M].

    Example:
        >>> row_sums(np.array([[1, 2], [-3, 1]], np.int8))
        array([ 3, -2])
    """
    return x.sum(axis=1, dtype=np.int64)


def epilogue(
    acc: np.ndarray,
    out: Out,
    row_scale: np.ndarray | None = None,
    column_scale: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    threshold: np.ndarray | None = None,
    flip: np.ndarray | None = None,
) -> np.ndarray:
    """The result [M, N] of a product whose exact accumulator is acc.

    - `i32`: acc.
    - `f32`, `f16`, `bf16`: f32(acc) · row_scale[row] · column_scale[column] + bias[column], each operation rounded to
      f32 in that order, then to the result type; what is not given is left out.
    - `bit`: +1 where (acc ≥ threshold[column]) ≠ flip[column], else −1, as int8; without them 0 and False.

    Raises:
        InputError: an unknown `out`, or an argument that `out` has no use for.
        ShapeError: acc does not fit in int32.

    Example:
        >>> epilogue(np.array([[-1, 0, 1]]), "bit", threshold=np.array([-5, 0, 5]))
        array([[ 1,  1, -1]], dtype=int8)
    """
    scaling = {"row_scale": row_scale, "column_scale": column_scale, "bias": bias}
    deciding = {"threshold": threshold, "flip": flip}
    unused = {"i32": scaling | deciding, "bit": scaling}.get(out, deciding)
    if out not in ("i32", "bit", *_FLOATS):
        raise InputError(f"unknown result {out!r}: expected i32, f32, f16, bf16 or bit")
    if extra := [name for name, value in unused.items() if value is not None]:
        raise InputError(f"a result of {out} takes no {', '.join(extra)}")
    if np.any(acc != acc.astype(np.int32)):
        raise ShapeError("the accumulator does not fit in int32: split K")
    if out == "i32":
        return acc.astype(np.int32)
    if out == "bit":
        above = acc >= (0 if threshold is None else threshold)
        return np.where(above != (False if flip is None else flip), 1, -1).astype(np.int8)
    result = acc.astype(np.float32)
    with np.errstate(over="ignore"):  # too large for the result type is inf, as on every target
        if row_scale is not None:
            result = result * row_scale.astype(np.float32)[:, None]
        if column_scale is not None:
            result = result * column_scale.astype(np.float32)
        if bias is not None:
            result = result + bias.astype(np.float32)
        return result.astype(_FLOATS[out])


def _magnitude(x: np.ndarray) -> int:
    return max(-int(x.min()), int(x.max()))
