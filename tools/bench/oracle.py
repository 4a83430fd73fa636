"""Whether results are exact: every element by torch on the GPU, or sampled rows by numpy.

Both compute in float64 or float32 where every partial sum is an integer that the type holds, so that nothing is rounded
in whatever order it is added (torch: float64, below 2^53; numpy: see `bitmlir.reference.matmul`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bitmlir import reference
from bitmlir.arrays import as_numpy
from bitmlir.dialects.errors import BitmlirError
from bitmlir.dialects.layout import BITS_PER_WORD
from bitmlir.formats.packed import Packed, pack, unpack
from bitmlir.pack_spec import PackSpec
from bitmlir.spec import MatmulSpec

__all__ = ["Verdict", "check_packing", "check_product"]

_ROWS = 1024  # compared at a time
_SAMPLED_ROWS = 64


@dataclass(frozen=True)
class Verdict:
    """How many elements were compared, and what is wrong with the first wrong one; None if all are right."""

    elements: int
    fault: str | None = None


def check_product(
    spec: MatmulSpec, lhs: Packed, rhs: Packed, arguments: Mapping[str, np.ndarray], result: Any, torch: Any = None
) -> Verdict:
    """Compare the result of a product with the oracle, bit for bit: all rows with torch, else a sample of them."""
    result = _on_host(result)
    by_row = {name: array for name, array in arguments.items() if name == "row_scale"}
    rest = {name: array for name, array in arguments.items() if name not in by_row}
    if "flip" in rest:
        rest["flip"] = rest["flip"] != 0
    elements = 0
    for rows, acc in _accumulators(lhs, rhs, torch):
        expected = reference.epilogue(acc, spec.out, **{n: a[rows] for n, a in by_row.items()}, **rest)  # type: ignore
        try:
            given = _rows_of(result, rows)
        except BitmlirError as error:  # padding bits or row sums of a packed result
            return Verdict(elements, f"rows {rows[0]} … {rows[-1]}: {error}")
        if fault := _difference(given, expected, rows):
            return Verdict(elements, fault)
        elements += expected.size
    return Verdict(elements)


def check_packing(spec: PackSpec, source: np.ndarray, result: Packed) -> Verdict:
    """Compare planes and row sums with those that numpy makes."""
    values = reference.quantised(source, spec.encoding) if spec.is_rounded else source
    expected, result = pack(values, spec.encoding), _on_host(result)
    if not np.array_equal(result.planes, expected.planes):
        plane, row, word = map(int, np.argwhere(result.planes != expected.planes)[0])
        return Verdict(0, f"planes[{plane}, {row}, {word}] differs")
    if not np.array_equal(result.sums, expected.sums):
        return Verdict(0, f"sums[{int(np.argmax(result.sums != expected.sums))}] differs")
    return Verdict(values.size)


def _accumulators(lhs: Packed, rhs: Packed, torch: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Row numbers, and the exact int64 sums of these rows."""
    if torch is None:
        sample = np.unique(np.linspace(0, lhs.rows - 1, _SAMPLED_ROWS).astype(np.int64))
        yield sample, reference.matmul(unpack(_packed_rows(lhs, sample)), unpack(rhs))
        return
    weights = _torch_values(rhs, torch).T
    for first in range(0, lhs.rows, _ROWS):
        rows = np.arange(first, min(first + _ROWS, lhs.rows))
        acc = _torch_values(_packed_rows(lhs, rows), torch) @ weights
        yield rows, acc.to(torch.int64).cpu().numpy()


def _torch_values(packed: Packed, torch: Any) -> Any:
    """The elements of a matrix as float64 [rows, k] on the GPU, by the encoding's definition."""
    encoding = packed.encoding
    values = torch.full(packed.shape, float(encoding.offset), dtype=torch.float64, device="cuda")
    if packed.zeros is not None:
        values -= torch.from_numpy(packed.zeros).cuda().double()[:, None]
    shifts = torch.arange(BITS_PER_WORD, dtype=torch.int32, device="cuda")
    for plane, weight in zip(packed.planes, encoding.weights, strict=True):
        words = torch.from_numpy(plane.view(np.int32)).cuda()
        for first in range(0, packed.rows, _ROWS):
            block = slice(first, first + _ROWS)
            bits = (words[block, :, None] >> shifts & 1).flatten(1)[:, : packed.k]
            values[block] += bits * float(weight * encoding.scale)
    return values


def _on_host(result: Any) -> Any:
    if not isinstance(result, Packed):
        return as_numpy(result, "result")
    planes, sums = as_numpy(result.planes, "planes").view(np.uint32), as_numpy(result.sums, "sums")
    return dataclasses.replace(result, planes=planes, sums=sums)


def _rows_of(result: Any, rows: np.ndarray) -> np.ndarray:
    if not isinstance(result, Packed):
        return result[rows]
    part = _packed_rows(result, rows)
    part.check()
    return unpack(part)


def _packed_rows(packed: Packed, rows: np.ndarray) -> Packed:
    """Some rows of a matrix on the host."""
    zeros = None if packed.zeros is None else packed.zeros[rows]
    planes = np.ascontiguousarray(packed.planes[:, rows])
    return dataclasses.replace(packed, planes=planes, sums=packed.sums[rows], shape=(len(rows), packed.k), zeros=zeros)


def _difference(given: np.ndarray, expected: np.ndarray, rows: np.ndarray) -> str | None:
    """The first element that differs in any bit."""
    if given.dtype != expected.dtype or given.shape != expected.shape:
        return f"the result is {given.dtype} {given.shape}, but must be {expected.dtype} {expected.shape}"
    word = f"u{expected.dtype.itemsize}"
    wrong = np.ascontiguousarray(given).view(word) != np.ascontiguousarray(expected).view(word)
    if not wrong.any():
        return None
    row, column = map(int, np.argwhere(wrong)[0])
    return (
        f"result[{rows[row]}, {column}] is {given[row, column]}, but must be {expected[row, column]}; "
        f"{np.count_nonzero(wrong)} of {wrong.size} elements are wrong"
    )
