"""Running a compiled program on random operands: whether every element is right, and how long a run takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bitmlir import reference
from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import BitmlirError
from bitmlir.dialects.layout import TILE_BITS, TILE_ROWS, tile_counts
from bitmlir.executable import BoundCall, Executable
from bitmlir.formats.packed import Packed, pack, unpack
from bitmlir.formats.tiles import TileBitmap, tile_bitmap
from bitmlir.grouped_spec import GroupedSpec
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.runtime.plan import Plan, Value
from bitmlir.search_spec import SearchSpec
from bitmlir.spec import MatmulSpec
from bitmlir.tools.evaluate import evaluate

__all__ = ["Operands", "Trial", "WrongResultError", "expected_results", "random_operands", "require_equal"]


_LARGEST_EXPONENT = 8  # of random floats, and with a minus the smallest one


Source = MatmulSpec | GroupedSpec | Conv2dSpec | SearchSpec | str  # what a program is compiled from


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
    source: Source
    operands: Operands
    call: BoundCall

    @classmethod
    def start(cls, executable: Executable, source: Source, seed: int, empty_tiles: float = 0.5) -> Trial:
        """Make the operands, load the program on its device and bring them there."""
        operands = random_operands(executable.plan, seed, empty_tiles)
        return cls(executable.plan, source, operands, executable.bind(**operands.given))

    def check(self) -> int:
        """Run once and compare every element with the oracle; the number of elements.

        Products and searches are compared with `bitmlir.reference`, IR with `bitmlir.tools.evaluate`. Integers and bits
        must be equal, and floats bit for bit (a NaN equals any other); of packed results the row sums and the padding
        must be right too.

        Raises:
            WrongResultError: an element differs; the message names the first.
            UnknownOperationError: the oracle does not know an operation of the IR.
        """
        expected = expected_results(self.plan, self.source, self.operands.plain)
        returned = self.call()
        results = returned if isinstance(returned, tuple) else (returned,)
        for value, result, right in zip(self.plan.results, results, expected, strict=True):
            require_equal(value.name, result, right)
        return sum(array.size for array in expected)

    def time(self, repeats: int) -> list[float]:
        """Seconds that one run takes, measured `repeats` times."""
        return self.call.time(repeats)


def expected_results(plan: Plan, source: Source, plain: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What the oracle says that a program returns, of its arguments as plain numbers."""
    if isinstance(source, MatmulSpec):
        return [_product(source, plain)]
    if isinstance(source, GroupedSpec):
        return [_grouped_product(source, plain)]
    if isinstance(source, Conv2dSpec):
        acc = reference.conv2d(plain["lhs"], plain["rhs"], source.window, source.groups)
        return [_product(source.product, plain, acc)]
    if isinstance(source, SearchSpec):
        return _found(source, plain)
    return evaluate(source, plan.name, [plain.get(value.name) for value in plan.arguments])


def _product(spec: MatmulSpec, plain: Mapping[str, np.ndarray], acc: np.ndarray | None = None) -> np.ndarray:
    acc = reference.matmul(plain["lhs"], plain["rhs"]) if acc is None else acc
    arguments = {name: plain[name] for name in plain.keys() - {"lhs", "rhs"}}
    if "flip" in arguments:
        arguments["flip"] = arguments["flip"] != 0
    return reference.epilogue(acc, spec.out, relu=spec.relu, **arguments)


def _grouped_product(spec: GroupedSpec, plain: Mapping[str, np.ndarray]) -> np.ndarray:
    """The product, with what is given by group and column spread over the group's rows."""
    acc = reference.grouped_matmul(plain["lhs"], plain["rhs"], plain["offsets"])
    groups = reference.row_groups(spec.m, plain["offsets"])
    by_column = {name: plain[name][groups] for name in ("column_scale", "bias", "threshold", "flip") if name in plain}
    by_row = {name: plain[name] for name in ("row_scale", "residual") if name in plain}
    return _product(spec.product, {"lhs": plain["lhs"], "rhs": plain["rhs"], **by_row, **by_column}, acc)


def _found(spec: SearchSpec, plain: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    acc = reference.matmul(plain["lhs"], plain["rhs"])
    scores = acc if spec.score == "dot" else (spec.k - acc) // 2
    return list(reference.search(scores, spec.count, spec.order))


def require_equal(name: str, result: Any, expected: np.ndarray) -> None:
    """Check that every element is the expected one: integers equal, floats bit for bit (a NaN equals any other).

    Raises:
        WrongResultError: one differs; the message names the first.
    """
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

    Of packed matrices with three rows or more (of a batch, of each) the first row is all the largest value and the
    second all the smallest. Plain numbers are of every magnitude, but those named `offsets` divide the rows of lhs, a
    `scale` is positive, and `flip` holds truth values. A bitmap named X_tiles covers the argument X, of whose tiles
    that share is then empty; in one that covers an intermediate result every bit is set.
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
            array = _array(value.shape, numpy_dtype(value.dtype or ""), random)
            array = {"scale": np.abs(array), "flip": array != 0}.get(value.name, array)
            plain[value.name] = given[value.name] = array
    if "offsets" in plain:
        plain["offsets"] = given["offsets"] = _offsets(plain["lhs"].shape[0], plain["offsets"].size - 1, random)
    for value in plan.arguments:
        if value.kind == "tiles":
            given[value.name] = _tiles(value, given.get(value.name.removesuffix("_tiles")))
    return Operands(plain, given)


def _matrix(
    shape: tuple[int, ...], encoding: Encoding, random: np.random.Generator, empty_tiles: float
) -> tuple[np.ndarray, Packed]:
    """A matrix as integers and packed, that share of its tiles empty."""
    *_, rows, k = shape
    zeros = random.integers(0, 2**encoding.bits, shape[:-1], np.int16) if encoding.has_row_zeros else None
    shift = np.int16(0) if zeros is None else zeros[..., None]
    smallest = np.int16(0 if encoding.has_row_zeros else encoding.minimum)
    codes = 3 if encoding.kind == "ternary" else 2**encoding.bits
    values = smallest + np.int16(encoding.scale) * random.integers(0, codes, shape, np.int16)
    if rows >= 3:
        values[..., 0, :], values[..., 1, :] = encoding.maximum, smallest
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
    magnitude = 2 ** random.uniform(-_LARGEST_EXPONENT, _LARGEST_EXPONENT, shape)
    return (random.standard_normal(shape) * magnitude).astype(dtype)


def _offsets(rows: int, groups: int, random: np.random.Generator) -> np.ndarray:
    """Where the groups of a grouped product begin and end; some are empty."""
    inner = np.sort(random.integers(0, rows + 1, groups - 1))
    return np.array([0, *inner, rows], np.int32)


def _tiles(value: Value, covered: Packed | None) -> TileBitmap:
    shape, encoding = (value.shape[0], value.shape[1]), Encoding.parse(value.encoding or "")
    if covered is not None and (covered.shape, covered.encoding) == (shape, encoding):
        return tile_bitmap(covered)
    return TileBitmap.from_array(np.ones(tile_counts(shape), bool), shape, encoding)
