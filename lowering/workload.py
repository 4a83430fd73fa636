"""What a product asks of a machine, whatever its tiles: how tuning tables and the cost model know a problem."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from bitmlir.dialects.layout import LARGEST_SIZE
from bitmlir.dialects.window import Axis

__all__ = ["KINDS", "Workload"]

KINDS = ("matmul", "search", "conv2d")

_WINDOW_FIELDS = 2 * len(fields(Axis))


@dataclass(frozen=True)
class Workload:
    """A product of bit planes.

    Attributes:
        target: the name of the chip's target.
        kind: of `KINDS`.
        m, n, k: rows of lhs (of a convolution that gathers patches itself: those), rows of rhs, elements of a row.
        lhs_planes, rhs_planes: bit planes of the operands.
        chains: products of two planes that share an accumulator, for each accumulator: (6,) is Horner's rule over two
            by three planes, (3, 3) its rule for each plane of lhs.
        out: the type of the result's elements; "packed<p>" for a packed result of p planes; "best<c>" for a search that
            keeps the best c of a row.
        reads: bytes that the epilogue reads for each element, of a residual say.
        sparse: whether an operand has a bitmap of its tiles.
        batch: so many such products at once.
        groups: rows of lhs are in so many groups, each with a rhs of its own; 0 for one rhs.
        window: of a convolution that gathers patches itself, the axes down and across, the fields of each in order
            (see `bitmlir.dialects.window.Axis`).
    """

    target: str
    kind: str
    m: int
    n: int
    k: int
    lhs_planes: int
    rhs_planes: int
    chains: tuple[int, ...]
    out: str
    reads: int = 0
    sparse: bool = False
    batch: int = 1
    groups: int = 0
    window: tuple[int, ...] = ()

    @property
    def pairs(self) -> int:
        """Products of two planes."""
        return sum(self.chains)

    @property
    def operations(self) -> int:
        """Of the matrix unit, on bits: 2·m·n·k for each pair of planes."""
        return 2 * self.m * self.n * self.k * self.pairs * self.batch

    @property
    def kinship(self) -> tuple[Any, ...]:
        """What problems of one class have in common: all but the sizes."""
        return tuple(getattr(self, field.name) for field in fields(self) if field.name not in ("m", "n", "k", "batch"))

    def distance(self, other: Workload) -> float:
        """How far the sizes of another problem are away: 0 for the same, 1 for twice one size, inf for another class.

        Example:
            >>> one = Workload("sm_90a", "matmul", 64, 64, 1024, 1, 1, (1,), "i32")
            >>> one.distance(Workload("sm_90a", "matmul", 128, 64, 512, 1, 1, (1,), "i32"))
            2.0
        """
        if self.kinship != other.kinship:
            return math.inf
        sizes = zip((self.m, self.n, self.k, self.batch), (other.m, other.n, other.k, other.batch), strict=True)
        return sum(abs(math.log2(a / b)) for a, b in sizes)

    def to_json(self) -> dict[str, Any]:
        """The fields that are not at their defaults."""
        known = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != known[name]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Workload:
        """What `to_json` wrote.

        Raises:
            TypeError, ValueError, KeyError: a field is unknown, missing, not of its type, or a size that none can have.
        """
        work = cls(**{**values, "chains": tuple(values["chains"]), "window": tuple(values.get("window", ()))})
        for field in fields(cls):
            value = getattr(work, field.name)
            if field.type in ("int", "str", "bool") and type(value).__name__ != field.type:
                raise TypeError(f"{field.name} must be of type {field.type}, but is {value!r}")
        if work.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, but is {work.kind!r}")
        if (work.kind == "search") != work.out.startswith("best"):
            raise ValueError(f"a {work.kind} has no result {work.out!r}: those of searches are best1, best2, …")
        if len(work.window) != (_WINDOW_FIELDS if work.kind == "conv2d" else 0):
            raise ValueError(f"the window of a {work.kind} cannot be {work.window}")
        if not all(type(number) is int and 0 <= number <= LARGEST_SIZE for number in work.window):
            raise ValueError(f"a window holds whole numbers from 0 to {LARGEST_SIZE}, but is {work.window}")
        sizes = (work.m, work.n, work.k, work.lhs_planes, work.rhs_planes, work.batch, *work.chains)
        if not all(type(size) is int and 1 <= size <= LARGEST_SIZE for size in sizes):
            raise ValueError(f"sizes must be whole numbers from 1 to {LARGEST_SIZE}, but are {sizes}")
        if not (0 <= work.reads <= LARGEST_SIZE and 0 <= work.groups <= LARGEST_SIZE):
            raise ValueError(f"reads and groups must lie in 0..{LARGEST_SIZE}, but are {work.reads} and {work.groups}")
        return work

    def __str__(self) -> str:
        sizes = f"{self.m}×{self.n}×{self.k}" if self.batch == 1 else f"{self.batch} × {self.m}×{self.n}×{self.k}"
        sizes += f" in {self.groups} groups" if self.groups else ""
        planes = f"{self.lhs_planes} × {self.rhs_planes} plane{'s' if self.pairs > 1 else ''}"
        return f"{self.kind} {sizes}, {planes} → {self.out}{', with bitmaps' if self.sparse else ''}"
