"""Running a compiled program on random operands: whether every element is right, and how long a run takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bitmlir import reference
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import BitmlirError
from bitmlir.dialects.layout import TILE_BITS, TILE_ROWS, tile_counts
from bitmlir.executable import BoundCall, Executable
from bitmlir.formats.packed import Packed, pack, unpack
from bitmlir.formats.tiles import TileBitmap, tile_bitmap
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.runtime.plan import Plan, Value
from bitmlir.spec import MatmulSpec
from bitmlir.tools.evaluate import evaluate

__all__ = ["Operands", "Trial", "WrongResultError", "random_operands"]


class WrongResultError(BitmlirError):
    """A program returned something else than the oracle."""


@dataclass(frozen=True)
class Operands:
    """Arguments of a program by name: as plain numbers, for the oracle, and as the program takes them.

    Tile bitmaps have no plain form: they change no result.
    """

    plain: Mapping[str, np.ndarray]
    given: Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """A compiled program with random operands in place, and what it was compiled from."""

    plan: Plan
    source: MatmulSpec | str
    operands: Operands
    call: BoundCall

    @classmethod
    def start(cls, executable: Executable, source: MatmulSpec | str, seed: int, empty_tiles: float = 0.5) -> Trial:
        """Make the operands, load the program on its device and bring them there."""
        operands = random_operands(executable.plan, seed, empty_tiles)
        return cls(executable.plan, source, operands, executable.bind(**operands.given))

    def check(self) -> int:
        """Run once and compare every element with the oracle; the number of elements.

        Products are compared with `bitmlir.reference`, IR with `bitmlir.tools.evaluate`. Integers and bits must be
        equal, and floats bit for bit (a NaN equals any other); of packed results the row sums and the padding must be
        right too.

        Raises:
            WrongResultError: an element differs; the message names the first.
            UnknownOperationError: the oracle does not know an operation of the IR.
        """
        expected = self._expected()
        returned = self.call()
        results = returned if isinstance(returned, tuple) else (returned,)
        for value, result, right in zip(self.plan.results, results, expected, strict=True):
            _require_equal(value.name, result, right)
        return sum(array.size for array in expected)

    def time(self, repeats: int) -> list[float]:
        """Seconds that one run takes, measured `repeats` times."""
        return self.call.time(repeats)

    def _expected(self) -> list[np.ndarray]:
        if isinstance(self.source, MatmulSpec):
            return [_product(self.source, self.operands.plain)]
        arguments = [self.operands.plain.get(value.name) for value in self.plan.arguments]
        return evaluate(self.source, self.plan.name, arguments)


def _product(spec: MatmulSpec, plain: Mapping[str, np.ndarray]) -> np.ndarray:
    acc = reference.matmul(plain["lhs"], plain["rhs"])
    arguments = {name: plain[name] for name in plain.keys() - {"lhs", "rhs"}}
    if "flip" in arguments:
        arguments["flip"] = arguments["flip"] != 0
    return reference.epilogue(acc, spec.out, **arguments)  # type: ignore[arg-type]  # the spec has checked `out`


def _require_equal(name: str, result: Any, expected: np.ndarray) -> None:
    if isinstance(result, Packed):
        result.check()
        result = unpack(result)
    wrong = result != expected
    if result.dtype.kind not in "biu":
        word = f"u{result.dtype.itemsize}"
        wrong = (result.view(word) != expected.view(word)) & ~(np.isnan(result) & np.isnan(expected))
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise WrongResultError(
            f"{name}{list(first)} is {result[first]}, but must be {expected[first]}; "
            f"{np.count_nonzero(wrong)} of {wrong.size} elements are wrong"
        )


# --- random operands ------------------------------------------------------------------------------


def random_operands(plan: Plan, seed: int, empty_tiles: float = 0.5) -> Operands:
    """Operands for each argument of a plan, the same for the same seed.

    Of packed matrices with three rows or more the first row is all the largest value and the second all the smallest.
    Plain integers are of every magnitude. A bitmap named X_tiles covers the argument X, of whose tiles that share is
    then empty; in one that covers an intermediate result every bit is set.
    """
    random = np.random.default_rng(seed)
    names = {value.name for value in plan.arguments}
    plain: dict[str, np.ndarray] = {}
    given: dict[str, Any] = {}
    for value in plan.arguments:
        if value.kind == "packed":
            encoding = Encoding.parse(value.encoding or "")
            empty = empty_tiles if f"{value.name}_tiles" in names else 0.0
            plain[value.name], given[value.name] = _matrix(value.shape, encoding, random, empty)
        elif value.kind == "array":
            plain[value.name] = given[value.name] = _array(value.shape, numpy_dtype(value.dtype or ""), random)
    for value in plan.arguments:
        if value.kind == "tiles":
            given[value.name] = _tiles(value, given.get(value.name.removesuffix("_tiles")))
    return Operands(plain, given)


def _matrix(
    shape: tuple[int, ...], encoding: Encoding, random: np.random.Generator, empty_tiles: float
) -> tuple[np.ndarray, Packed]:
    """A matrix as integers and packed, that share of its tiles empty."""
    rows, k = shape
    zeros = random.integers(0, 2**encoding.bits, rows, np.int16) if encoding.has_row_zeros else None
    shift = np.int16(0) if zeros is None else zeros[:, None]
    smallest = np.int16(0 if encoding.has_row_zeros else encoding.minimum)
    codes = 3 if encoding.kind == "ternary" else 2**encoding.bits
    values = smallest + np.int16(encoding.scale) * random.integers(0, codes, (rows, k), np.int16)
    if rows >= 3:
        values[0], values[1] = encoding.maximum, smallest
    if empty_tiles:
        empty = random.random(tile_counts((rows, k))) < empty_tiles
        values[np.kron(empty, np.ones((TILE_ROWS, TILE_BITS), bool))[:rows, :k]] = encoding.offset
    values = values - shift
    return values, pack(values, encoding, zeros)


def _array(shape: tuple[int, ...], dtype: np.dtype, random: np.random.Generator) -> np.ndarray:
    if dtype.kind == "b":
        return random.random(shape) < 0.5
    if dtype.kind == "i":
        magnitude = 2 ** random.uniform(0, np.iinfo(dtype).bits - 1, shape)
        return (random.choice([-1, 0, 1], shape) * np.floor(magnitude)).astype(dtype)
    return random.standard_normal(shape).astype(dtype)


def _tiles(value: Value, covered: Packed | None) -> TileBitmap:
    shape, encoding = (value.shape[0], value.shape[1]), Encoding.parse(value.encoding or "")
    if covered is not None and (covered.shape, covered.encoding) == (shape, encoding):
        return tile_bitmap(covered)
    return TileBitmap.from_array(np.ones(tile_counts(shape), bool), shape, encoding)
