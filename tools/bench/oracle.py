"""Whether results are exact: every element by torch on the GPU, or sampled rows by numpy. Both run the code below. (Of
networks plain numpy computes sampled inputs, see `networks`.)

Sums are computed in float64, where every partial sum is an integer below 2^53, so that nothing is rounded in whatever
order they are added. What becomes of them is the definition in `bitmlir.reference.epilogue`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bitmlir.arrays import as_numpy, is_device_array
from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import BitmlirError
from bitmlir.dialects.layout import BITS_PER_WORD
from bitmlir.dialects.window import Axis
from bitmlir.formats.packed import Packed
from bitmlir.grouped_spec import GroupedSpec
from bitmlir.pack_spec import PackSpec
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.search_spec import SearchSpec
from bitmlir.spec import FLOATS, MatmulSpec

__all__ = ["Verdict", "check", "check_rows"]

_BLOCK_ELEMENTS = 1 << 27  # compared at a time
_SAMPLED_ROWS = 64

Spec = MatmulSpec | GroupedSpec | Conv2dSpec | SearchSpec | PackSpec
Place = tuple[Any, ...]  # rows of a result, in a batch after the number of the matrix


@dataclass(frozen=True)
class Verdict:
    """How many elements were compared, and what is wrong with the first wrong one; None if all are right."""

    elements: int
    fault: str | None = None


def check(spec: Spec, given: Mapping[str, Any], result: Any, torch: Any = None, device: str = "cuda") -> Verdict:
    """Compare the result of a program with the oracle, bit for bit: all rows with torch, else a sample of them, of a
    convolution some whole images.

    given: the arguments on the host; result: what the program returned, a tuple of a search.
    """
    if isinstance(spec, Conv2dSpec) and "residual" in given:
        given = {**given, "residual": _as_rows(given["residual"])}
    oracle = _Oracle(spec, given, np, "cpu") if torch is None else _Oracle(spec, given, torch, device)
    named = dict(zip(("values", "columns"), result, strict=True)) if isinstance(result, tuple) else {"result": result}
    try:
        readable = {name: oracle.readable(each) for name, each in named.items()}
    except BitmlirError as error:  # padding bits or row sums of a packed result
        return Verdict(0, str(error))
    if isinstance(spec, Conv2dSpec):
        readable = {name: _as_rows(each) for name, each in readable.items()}
    elements = 0
    with np.errstate(over="ignore"):  # what f16 cannot hold is inf, as on every target
        for place, expected in oracle.expected():
            for (name, values), right in zip(readable.items(), expected, strict=True):
                part = oracle.values(values, place) if isinstance(values, Packed) else values[place]
                if fault := oracle.difference(part, right, name, place):
                    return Verdict(elements, fault)
                elements += math.prod(right.shape)
    return Verdict(elements)


def check_rows(result: np.ndarray, rows: np.ndarray, expected: np.ndarray) -> Verdict:
    """Compare some rows of a result [rows, columns] with what they must hold, bit for bit.

    Example:
        >>> check_rows(np.array([[1], [2], [3]]), np.array([0, 2]), np.array([[1], [4]])).fault
        'result[2, 0] is 3, but must be 4; 1 of the 2 elements compared with it are wrong'
    """
    spec = MatmulSpec(1, 1, 1, "u1", "u1")  # which says nothing here
    fault = _Oracle(spec, {}, np, "cpu").difference(result[rows], expected, "result", (rows,))
    return Verdict(0 if fault else expected.size, fault)


def _as_rows(result: Any) -> Any:
    """Images as a matrix, whose rows are their pixels."""
    if isinstance(result, Packed):
        return result.reshape(math.prod(result.shape[:-1]))
    return result.reshape(-1, result.shape[-1])


@dataclass(frozen=True)
class _Oracle:
    """The arguments of a program, and the library that computes what is right: numpy, or torch on a device."""

    spec: Spec
    given: Mapping[str, Any]
    library: Any
    device: str

    # --- matrices ---

    def array(self, values: Any, dtype: Any = None) -> Any:
        """An array of the library, where it computes."""
        return self.library.asarray(values, dtype=dtype, device=self.device)

    def readable(self, result: Any) -> Any:
        """A result as an array of the library; a packed one as it is on the host, sound in itself."""
        if isinstance(result, Packed):
            zeros = None if result.zeros is None else as_numpy(result.zeros)
            planes = as_numpy(result.planes).view(np.uint32)
            packed = Packed(planes, as_numpy(result.sums), result.encoding, result.shape, zeros)
            packed.check()
            return packed
        if self.library is np:
            return as_numpy(result)
        return self.library.from_dlpack(result) if is_device_array(result) else self.array(result)

    def values(self, packed: Packed, place: Place = ()) -> Any:
        """The elements of a matrix, or of some of its rows, as float64 [rows, k], by the encoding's definition."""
        encoding, planes = packed.encoding, packed.planes[(slice(None), *place)].view(np.int32)
        rows, words = planes.shape[1:]
        xp = self.library
        values = xp.full((rows, packed.k), float(encoding.offset), dtype=xp.float64, device=self.device)
        if packed.zeros is not None:
            values -= self.array(packed.zeros[place])[:, None]
        shifts = self.array(np.arange(BITS_PER_WORD, dtype=np.int32))
        step = max(1, _BLOCK_ELEMENTS // (words * BITS_PER_WORD))
        for plane, weight in zip(planes, encoding.weights, strict=True):
            plane = self.array(np.ascontiguousarray(plane))
            for block in (slice(first, first + step) for first in range(0, rows, step)):
                bits = (plane[block, :, None] >> shifts) & 1
                values[block] += bits.reshape(-1, words * BITS_PER_WORD)[:, : packed.k] * float(weight * encoding.scale)
        return values

    # --- what is right ---

    def expected(self) -> Iterator[tuple[Place, list[Any]]]:
        """Rows of the results, and what they must hold."""
        spec = self.spec
        if isinstance(spec, PackSpec):
            for rows in self._blocks(0, spec.rows, spec.k):
                source = self.array(self.given["x"][rows])
                known = self._quantised(source, spec.encoding) if spec.is_rounded else source
                yield (rows,), [self.array(known, self.library.float64)]
            return
        if isinstance(spec, Conv2dSpec):
            for place, acc in self._window_sums(spec):
                yield place, [self._finished(spec.product, acc, place, ())]
            return
        for place, acc, group in self._sums(spec):
            if isinstance(spec, SearchSpec):
                yield place, self._best(spec, acc)
            else:
                product = spec.product if isinstance(spec, GroupedSpec) else spec
                yield place, [self._finished(product, acc, place, group)]

    def _window_sums(self, spec: Conv2dSpec) -> Iterator[tuple[Place, Any]]:
        """Rows of the result, which are the places of an image, and their exact sums as float64."""
        (images, height, width, filters), (down, across) = spec.out_shape, (spec.window.rows, spec.window.columns)
        taps = [(r, s) for r in range(down.taps) for s in range(across.taps)]
        lhs = self.given["lhs"].reshape(images, spec.height * spec.width)
        rhs = self.given["rhs"].reshape(filters * len(taps))
        weights = self.values(rhs).reshape(filters, len(taps), spec.channels)
        sizes = (down.before + spec.height + down.after, across.before + spec.width + across.after, spec.channels)
        last = images - 1
        for image in range(images) if self.library is not np else sorted({0, last // 2, last}):
            padded = self.library.zeros(sizes, dtype=self.library.float64, device=self.device)
            inside = (slice(down.before, down.before + spec.height), slice(across.before, across.before + spec.width))
            padded[inside] = self.values(lhs, (image,)).reshape(spec.height, spec.width, spec.channels)
            acc = 0.0
            for number, (r, s) in enumerate(taps):
                seen = padded[_places(down, r), _places(across, s)].reshape(height * width, spec.channels)
                acc = acc + seen @ weights[:, number].T
            yield (slice(image * height * width, (image + 1) * height * width),), acc

    def _sums(self, spec: MatmulSpec | GroupedSpec | SearchSpec) -> Iterator[tuple[Place, Any, Place]]:
        """Rows of the result, their exact sums as float64, and where columns' parameters are: in a group, or not."""
        lhs, rhs = self.given["lhs"], self.given["rhs"]
        if isinstance(spec, GroupedSpec):
            ends = [int(end) for end in self.given["offsets"]]
            parts = [((), (g,), ends[g], ends[g + 1], (g,)) for g in range(spec.groups)]
        elif isinstance(spec, MatmulSpec) and spec.batch is not None:
            parts = [((b,), (b,), 0, spec.m, ()) for b in range(spec.batch)]
        else:
            parts = [((), (), 0, spec.m, ())]
        for matrix, weights, first, last, group in parts:
            transposed = self.values(rhs, weights).T if first < last else None
            for rows in self._blocks(first, last, spec.n):
                yield (*matrix, rows), self.values(lhs, (*matrix, rows)) @ transposed, group

    def _blocks(self, first: int, last: int, width: int) -> Iterator[Any]:
        """Rows to compare at a time: with torch all, else a sample."""
        if self.library is np:
            if first < last:
                yield np.unique(np.linspace(first, last - 1, _SAMPLED_ROWS).astype(np.int64))
            return
        step = max(1, _BLOCK_ELEMENTS // width)
        yield from (slice(at, min(at + step, last)) for at in range(first, last, step))

    def _finished(self, spec: MatmulSpec, acc: Any, place: Place, group: Place) -> Any:
        """What the epilogue makes of sums; of a packed result the values, as float64."""
        xp = self.library

        def given(name: str, where: Place) -> Any:
            return self.array(self.given[name][where])

        if not spec.uses_floats:
            low, high = (-(2**15), 2**15 - 1) if spec.out == "i16" else (-(2**31), 2**31 - 1)
            total = acc if spec.residual is None else acc + given("residual", place)
            total = xp.clip(total, 0 if spec.relu else low, high)
            if spec.out != "bit":
                return self.array(total, xp.int16 if spec.out == "i16" else xp.int32)
            return self._signs((total >= given("threshold", group)) != (given("flip", group) != 0))
        y = self.array(acc, xp.float32)
        if spec.row_scale:
            y = y * given("row_scale", place)[:, None]
        if spec.column_scale:
            y = y * given("column_scale", group)
        if spec.bias:
            y = y + given("bias", group)
        if spec.residual is not None:
            y = y + self.array(given("residual", place), xp.float32)
        if spec.relu:
            y = xp.where(y <= 0, self.array(0.0, xp.float32), y)
        return self.array(y, self._float(spec.out)) if spec.out in FLOATS else self._quantised(y, spec.out)

    def _quantised(self, y: Any, encoding: str | Encoding) -> Any:
        """The nearest values of an encoding, as float64: see `bitmlir.reference.quantised`. There are no NaNs here."""
        xp, known = self.library, Encoding.parse(encoding)
        inside = self.array(xp.clip(y, known.minimum, known.maximum), xp.float64)
        if known.kind != "bipolar":
            return xp.round(inside)
        return self._signs(inside >= 0) * (self.array(abs(inside), xp.int16) | 1)

    def _signs(self, positive: Any) -> Any:
        """1 or −1, as float64."""
        return self.array(positive, self.library.float64) * 2 - 1

    def _best(self, spec: SearchSpec, acc: Any) -> list[Any]:
        """The best scores of each row and their columns; of equal ones the smaller column comes first."""
        xp = self.library
        scores = self.array(acc if spec.score == "dot" else (spec.k - acc) / 2, xp.int32)
        ranks = -scores if spec.order == "largest" else scores
        columns = xp.argsort(ranks, axis=1, stable=True)[:, : spec.count]
        rows = self.array(np.arange(scores.shape[0]))[:, None]
        return [scores[rows, columns], self.array(columns, xp.int32)]

    def _float(self, name: str) -> Any:
        """The library's type of floats."""
        known = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}[name]
        return getattr(self.library, known, None) or numpy_dtype(name)  # numpy has no bf16 of its own

    # --- comparing ---

    def difference(self, given: Any, expected: Any, name: str, place: Place) -> str | None:
        """The first element that differs in any bit."""
        if (given.dtype, given.shape) != (expected.dtype, expected.shape):
            types = [f"{array.dtype} {tuple(array.shape)}" for array in (given, expected)]
            return f"{name} is {types[0]}, but must be {types[1]}"
        word = {2: self.library.int16, 4: self.library.int32}.get(given.dtype.itemsize)
        # What is left is the float64 of packed values, whose zeros have no sign.
        wrong = given != expected if word is None else given.view(word) != expected.view(word)
        if not wrong.any():
            return None
        row, column = divmod(int(self.array(wrong, self.library.int8).reshape(-1).argmax()), wrong.shape[1])
        *matrix, rows = place
        at = [*matrix, rows.start + row if isinstance(rows, slice) else int(rows[row])]
        if isinstance(self.spec, Conv2dSpec):  # whose rows are places of images
            at = list(map(int, np.unravel_index(at[0], self.spec.out_shape[:3])))
        at.append(column)
        is_, right = (array[row, column].item() for array in (given, expected))
        return (
            f"{name}{at} is {is_:.10g}, but must be {right:.10g}; "
            f"{int(wrong.sum())} of the {math.prod(wrong.shape)} elements compared with it are wrong"
        )


def _places(axis: Axis, tap: int) -> slice:
    """Where a tap lies along an axis of the padded image, at each place of the window."""
    first = tap * axis.dilation
    return slice(first, first + (axis.places - 1) * axis.stride + 1, axis.stride)
