"""What is measured: problems, and the suites that gather them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bitmlir.dialects.encoding import Encoding
from bitmlir.pack_spec import PackSpec
from bitmlir.spec import MatmulSpec

__all__ = ["SUITES", "Packing", "Problem", "Product", "Suite", "suites_named"]


@dataclass(frozen=True)
class Product:
    """A product to measure; rhs are the weights.

    rotated: the weights come from memory, not from the L2 cache: distinct copies take turns. portable: on the newest
    target that later chips run too, which has mma.sync but not wgmma.
    """

    spec: MatmulSpec
    rotated: bool = False
    portable: bool = False

    @property
    def planes(self) -> int:
        """Products of bit planes that make up the product."""
        return Encoding.parse(self.spec.lhs).bits * Encoding.parse(self.spec.rhs).bits

    @property
    def operations(self) -> int:
        """2·m·n·k."""
        return self.spec.operations

    @property
    def size(self) -> str:
        """The sizes, for people.

        Example:
            >>> Product(MatmulSpec(m=8, n=8, k=64, lhs="u1", rhs="u1")).size
            '8²×64'
        """
        m, n, k = self.spec.m, self.spec.n, self.spec.k
        if m != n:
            return f"{m}×{n}×{k}"
        return f"{m}³" if n == k else f"{m}²×{k}"

    @property
    def kind(self) -> str:
        """Encodings and result, for people."""
        return f"{self.spec.lhs} × {self.spec.rhs} → {self.spec.out}"

    def to_json(self) -> dict[str, Any]:
        """The problem as plain numbers and strings."""
        spec = self.spec
        sizes = {"m": spec.m, "n": spec.n, "k": spec.k, "lhs": str(spec.lhs), "rhs": str(spec.rhs), "out": spec.out}
        return {"kind": "product", **sizes, "column_scale": spec.column_scale, "rotated": self.rotated}


@dataclass(frozen=True)
class Packing:
    """Packing a matrix into bit planes."""

    spec: PackSpec
    portable: bool = False

    planes = operations = 0  # nothing is multiplied

    @property
    def size(self) -> str:
        """The sizes, for people."""
        rows, k = self.spec.rows, self.spec.k
        return f"{rows}²" if rows == k else f"{rows}×{k}"

    @property
    def kind(self) -> str:
        """Types, for people."""
        return f"{self.spec.source} → {self.spec.encoding}"

    def to_json(self) -> dict[str, Any]:
        """The problem as plain numbers and strings."""
        spec = self.spec
        types = {"source": spec.source, "encoding": str(spec.encoding)}
        return {"kind": "packing", "rows": spec.rows, "k": spec.k, **types}


Problem = Product | Packing


@dataclass(frozen=True)
class Suite:
    """Problems that belong in one table."""

    name: str
    summary: str
    problems: tuple[Problem, ...]


def _products(
    sizes: Iterable[tuple[int, int, int]],
    encodings: Iterable[tuple[str, str]],
    outs: Iterable[str],
    *,
    rotated: bool = False,
    portable: bool = False,
) -> tuple[Product, ...]:
    """Every combination; f16 results are scaled by column, as results of quantised layers are."""
    return tuple(
        Product(MatmulSpec(m, n, k, lhs, rhs, out, column_scale=out == "f16"), rotated, portable)
        for (m, n, k), (lhs, rhs), out in itertools.product(sizes, encodings, outs)
    )


_SIGNS = [("bipolar", "bipolar")]
_CUBES = [(n, n, n) for n in (1024, 2048, 4096, 8192, 16384)]
_ACTIVATIONS_AND_WEIGHTS = [("u2", "bipolar"), ("u2", "i2"), ("u4", "bipolar"), ("u4", "i4")]
_SKINNY_SIZES = [(m, n, n) for n in (8192, 16384) for m in (1, 16, 64)]
_SKINNY_ENCODINGS = [(a, w) for a in ("u8", "u4") for w in ("bipolar", "i2", "i3", "i4")]
_SMALL_SIZES = [(64, n, n) for n in range(128, 1025, 128)]
_SIDE = 8192

SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite(
            "square", "±1 × ±1, from 1024³ to 16384³, int32 and packed bits", _products(_CUBES, _SIGNS, ("i32", "bit"))
        ),
        Suite("deep", "±1 × ±1 with deep K, 8192²×65536", _products([(_SIDE, _SIDE, 65536)], _SIGNS, ("i32", "bit"))),
        Suite(
            "any-width",
            "w1a2, w2a2, w1a4, w4a4 at 8192³, f16 scaled by column",
            _products([(_SIDE, _SIDE, _SIDE)], _ACTIVATIONS_AND_WEIGHTS, ("f16",)),
        ),
        Suite(
            "skinny",
            "few rows of activations, weights of 1 to 4 bits that come from memory",
            _products(_SKINNY_SIZES, _SKINNY_ENCODINGS, ("f16",), rotated=True),
        ),
        Suite(
            "small",
            "64 rows, N = K = 128 … 1024, w1a2 and w2a2",
            _products(_SMALL_SIZES, [("u2", "bipolar"), ("u2", "i2")], ("i32",)),
        ),
        Suite(
            "sm80",
            "±1 × ±1 by mma.sync: the kernels for Ampere and Ada",
            _products(_CUBES, _SIGNS, ("i32",), portable=True),
        ),
        Suite(
            "pack",
            "packing into planes and row sums at 8192²",
            tuple(
                Packing(PackSpec(_SIDE, _SIDE, encoding, source))
                for source, encoding in itertools.product(("f32", "i8"), ("bipolar", "u4"))
            ),
        ),
        Suite(
            "smoke",
            "one small problem of each kind, for tests",
            (
                *_products([(33, 70, 300)], _SIGNS, ("i32", "bit")),
                *_products([(16, 40, 200)], [("u4", "i4")], ("f16",)),
                *_products([(8, 64, 256)], [("u8", "i3")], ("i32",), rotated=True),
                *_products([(64, 64, 256)], _SIGNS, ("i32",), portable=True),
                *(Packing(PackSpec(20, 100, "u4", source)) for source in ("f32", "i8")),
            ),
        ),
    )
}

ALL = "all"
"""The name that stands for every suite but `smoke`."""


def suites_named(names: Iterable[str]) -> list[Suite]:
    """The suites of these names, each once.

    Raises:
        KeyError: there is no such suite.
    """
    every = [name for name in SUITES if name != "smoke"]
    return [SUITES[n] for n in dict.fromkeys(n for name in names for n in (every if name == ALL else [name]))]
