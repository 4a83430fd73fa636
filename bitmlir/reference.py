"""The oracle: what every kernel must return, in plain numpy integer arithmetic without bit tricks."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import ml_dtypes
import numpy as np

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import EncodingError, InputError, ShapeError
from bitmlir.dialects.window import Axis, Window

__all__ = [
    "conv2d",
    "epilogue",
    "grouped_matmul",
    "matmul",
    "max_pool",
    "quantised",
    "reduce_window",
    "row_groups",
    "row_sums",
    "search",
]

_INTEGERS = {"i32": np.int32, "i16": np.int16}
_FLOATS = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}


def matmul(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """D[i, j] = Σ_k x[i, k]·y[j, k], exactly, as int64 [M, N] from integers [M, K] and [N, K]; of batches [B, M, N].

    Example:
        >>> matmul(np.array([[1, 2]]), np.array([[3, 4], [5, 6]]))
        array([[11, 17]])
    """
    exact = _exact_type(x.shape[-1], x, y)
    return (x.astype(exact) @ y.astype(exact).swapaxes(-1, -2)).astype(np.int64)


def grouped_matmul(x: np.ndarray, y: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """D[i, j] = Σ_k x[i, k]·y[g, j, k], g being the group of row i: int64 [M, N] from [M, K] and [G, N, K].

    The row is of the last group up to which all begin at or before it; group 0 begins at 0, whatever offsets[0] says.

    Example:
        >>> grouped_matmul(np.array([[1], [2], [3]]), np.array([[[1]], [[10]]]), np.array([0, 1, 3]))
        array([[ 1],
               [20],
               [30]])
    """
    groups = row_groups(x.shape[0], offsets)
    products = [matmul(x[groups == g], y[g]) for g in np.unique(groups)]
    return np.concatenate(products)  # groups of rows lie in order


def conv2d(x: np.ndarray, y: np.ndarray, window: Window, groups: int = 1) -> np.ndarray:
    """D[n, p, q, o] = Σ_{r, s, c} x[n, p·sy − top + r·dy, q·sx − left + s·dx, c]·y[o, r, s, c] over pixels inside the
    image: int64 [N, P, Q, O] from [N, H, W, C] and [O, R, S, C].

    With groups of channels, and as many of filters, y is [O, R, S, C/groups], and each of these sees its own alone.

    Example:
        >>> image, filters = np.array([[[1], [2]], [[3], [4]]])[None], np.ones((1, 3, 3, 1), int)
        >>> conv2d(image, filters, Window(Axis(2, 3, before=1, after=1), Axis(2, 3, before=1, after=1)))[0, ..., 0]
        array([[10, 10],
               [10, 10]])
    """
    if groups > 1:
        parts = zip(np.split(x, groups, axis=-1), np.split(y, groups), strict=True)
        return np.concatenate([conv2d(images, filters, window) for images, filters in parts], axis=-1)
    exact = _exact_type(y[0].size, x, y)
    total = np.zeros((x.shape[0] * math.prod(window.places), y.shape[0]), exact)
    for (r, s), seen in _taps(x.astype(exact), window, outside=0):
        total += seen.reshape(len(total), -1) @ y[:, r, s].astype(exact).T
    return total.astype(np.int64).reshape(x.shape[0], *window.places, y.shape[0])


def max_pool(x: np.ndarray, window: Window) -> np.ndarray:
    """D[n, p, q, c] = max_{r, s} x[n, p·sy − top + r·dy, q·sx − left + s·dx, c] over pixels inside the image: int64
    [N, P, Q, C] from [N, H, W, C].

    Example:
        >>> max_pool(np.array([[[-1], [-2]], [[-3], [-4]]])[None], Window(Axis(2, 2, after=1), Axis(2, 1)))[0, ..., 0]
        array([[-1, -2],
               [-3, -4]])
    """
    return reduce_window(x.astype(np.int64), window, "max")


def reduce_window(x: np.ndarray, window: Window, reduction: str) -> np.ndarray:
    """The "max" of what a window sees inside the image, or its "sum", added in the type of x row by row: [N, P, Q, C]
    from [N, H, W, C].

    Example:
        >>> reduce_window(np.array([[[1.5], [2]], [[3], [4]]])[None], Window(Axis(2, 2), Axis(2, 2)), "sum").ravel()
        array([10.5])
    """
    lowest = np.iinfo(x.dtype).min if x.dtype.kind == "i" else -np.inf
    seen = (seen for _, seen in _taps(x, window, outside=lowest if reduction == "max" else 0))
    return functools.reduce(np.maximum if reduction == "max" else np.add, seen)


def _taps(x: np.ndarray, window: Window, outside: float) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Each tap of a window, and what it sees at all output places."""
    rows, columns = window.rows, window.columns
    sides = ((0, 0), (rows.before, rows.after), (columns.before, columns.after), (0, 0))
    padded = np.pad(x, sides, constant_values=outside)
    for r, s in np.ndindex(rows.taps, columns.taps):
        yield (r, s), padded[:, _places(rows, r), _places(columns, s)]


def _places(axis: Axis, tap: int) -> slice:
    """Where a tap lies at each output place, in the padded image."""
    first = tap * axis.dilation
    return slice(first, first + (axis.places - 1) * axis.stride + 1, axis.stride)


def row_groups(rows: int, offsets: np.ndarray) -> np.ndarray:
    """The group of each row: see `grouped_matmul`.

    Example:
        >>> row_groups(4, np.array([0, 1, 1, 4]))
        array([0, 2, 2, 2])
    """
    starts = np.maximum.accumulate(offsets[1:-1].astype(np.int64))
    return np.searchsorted(starts, np.arange(rows), side="right")


def row_sums(x: np.ndarray) -> np.ndarray:
    """Sum of each row, int64 [M].

    Example:
        >>> row_sums(np.array([[1, 2], [-3, 1]], np.int8))
        array([ 3, -2])
    """
    return x.sum(axis=1, dtype=np.int64)


def epilogue(
    acc: np.ndarray,
    out: str,
    row_scale: np.ndarray | None = None,
    column_scale: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    threshold: np.ndarray | None = None,
    flip: np.ndarray | None = None,
    residual: np.ndarray | None = None,
    relu: bool = False,
) -> np.ndarray:
    """The result [M, N] of a product, or [B, M, N] of a batch, whose exact accumulator is acc.

    - `i32`, `i16`: acc + residual, clamped to the type.
    - `f32`, `f16`, `bf16`: f32(acc) · row_scale[row] · column_scale[column] + bias[column] + f32(residual), each
      operation rounded to f32 in that order, then to the result type; what is not given is left out.
    - an encoding: the same in f32, `quantised`.
    - `bit`: +1 where (acc + residual ≥ threshold[column]) ≠ flip[column], else −1, as int8; without them 0 and False.
      The sum is clamped to int32.

    relu: what is negative becomes 0 after the residual is added; of `bit` it changes nothing and is refused.

    Raises:
        InputError: an unknown `out`, or an argument that `out` has no use for.
        ShapeError: acc does not fit in int32, or in int16 for `i16`.

    Example:
        >>> epilogue(np.array([[-1, 0, 1]]), "bit", threshold=np.array([-5, 0, 5]))
        array([[ 1,  1, -1]], dtype=int8)
        >>> epilogue(np.array([[-1, 3, 5, 99]]), "u2", column_scale=np.full(4, 0.5))
        array([[0, 2, 2, 3]], dtype=int8)
    """
    encoding = None if out in ("bit", *_INTEGERS, *_FLOATS) else _result_encoding(out)
    scaling = {"row_scale": row_scale, "column_scale": column_scale, "bias": bias}
    deciding = {"threshold": threshold, "flip": flip}
    unused = {"bit": scaling | {"relu": relu or None}}.get(out, scaling | deciding if out in _INTEGERS else deciding)
    if extra := [name for name, value in unused.items() if value is not None]:
        raise InputError(f"a result of {out} takes no {', '.join(extra)}")
    if np.any(acc != acc.astype(np.int32)):
        raise ShapeError("the accumulator does not fit in int32: split K")
    if out == "bit" or out in _INTEGERS:
        if residual is not None and residual.dtype.kind not in "iu":
            raise InputError(f"a result of {out} takes a residual of integers, got {residual.dtype}")
        dtype = _INTEGERS.get(out, np.int32)
        if np.any(acc != acc.astype(dtype)):
            raise ShapeError(f"the accumulator does not fit in {np.dtype(dtype)}: choose i32")
        total = acc.astype(np.int64) + (0 if residual is None else residual.astype(np.int64))
        total = np.clip(total, np.iinfo(dtype).min, np.iinfo(dtype).max).astype(dtype)
        if out == "bit":
            above = total >= (0 if threshold is None else threshold)
            return np.where(above != (False if flip is None else flip), 1, -1).astype(np.int8)
        return _relu(total) if relu else total
    result = acc.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # too large is inf, as on every target
        if row_scale is not None:
            result = result * row_scale.astype(np.float32)[..., None]
        if column_scale is not None:
            result = result * column_scale.astype(np.float32)
        if bias is not None:
            result = result + bias.astype(np.float32)
        if residual is not None:
            result = result + residual.astype(np.float32)
        if relu:
            result = _relu(result)
        return result.astype(_FLOATS[out]) if encoding is None else quantised(result, encoding)


def quantised(y: np.ndarray, encoding: str | Encoding) -> np.ndarray:
    """The values of an encoding nearest to y, of two the even one; of two odd ones, for `bipolar<p>`, the one farther
    from 0, and of −1 and 1 the latter.

    Numbers past the ends, ±inf included, become the largest and the smallest value; NaN becomes the smallest. The
    result is int8 if that holds every value of the encoding, else int16, as of `bitmlir.unpack`.

    Example:
        >>> quantised(np.array([-9.0, 0.5, 1.5, 2.51, np.inf]), "i3")
        array([-4,  0,  2,  3,  3], dtype=int8)
        >>> quantised(np.array([-2.0, -0.1, 0.0, 1.9, 2.0, 9.0]), "bipolar2")
        array([-3, -1,  1,  1,  3,  3], dtype=int8)
    """
    encoding = Encoding.parse(encoding)
    inside = np.fmin(np.fmax(y, encoding.minimum), encoding.maximum)
    if encoding.kind == "bipolar":
        rounded = np.where(y >= 0, 1, -1) * (np.abs(inside).astype(np.int16) | 1)
    else:
        rounded = np.rint(inside)
    return rounded.astype(np.int8 if -128 <= encoding.minimum and encoding.maximum <= 127 else np.int16)


def search(scores: np.ndarray, count: int, order: str = "largest") -> tuple[np.ndarray, np.ndarray]:
    """The `count` best scores of each row, best first, and their columns; of equal ones the smaller column comes first.

    Both are int32 [M, count]; order: "largest" or "smallest" is best.

    Example:
        >>> search(np.array([[3, 5, 5, 1]]), 3)
        (array([[5, 5, 3]], dtype=int32), array([[1, 2, 0]], dtype=int32))
    """
    ranks = scores.astype(np.int64) * (-1 if order == "largest" else 1)
    columns = np.argsort(ranks, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(scores, columns, axis=1).astype(np.int32), columns.astype(np.int32)


def _result_encoding(out: str) -> Encoding:
    try:
        encoding = Encoding.parse(out)
    except EncodingError:
        raise InputError(f"unknown result {out!r}: expected i32, i16, f32, f16, bf16, bit or an encoding") from None
    if encoding.has_row_zeros:
        raise InputError(f"a result cannot have a zero point for each row, as '{out}' would")
    return encoding


def _relu(array: np.ndarray) -> np.ndarray:
    """0 for what is negative or −0; a NaN as it is."""
    return np.where(array <= 0, array.dtype.type(0), array)


def _exact_type(terms: int, x: np.ndarray, y: np.ndarray) -> type[np.number]:
    """The fastest type that holds every sum of so many products, in whatever order BLAS adds: floats hold integers."""
    bound = terms * _magnitude(x) * _magnitude(y)
    for exact, digits in ((np.float32, 24), (np.float64, 53), (np.int64, 63)):
        if bound < 2**digits:
            return exact
    raise InputError(f"products up to {bound} do not fit in int64")


def _magnitude(x: np.ndarray) -> int:
    return max(-int(x.min()), int(x.max()))
