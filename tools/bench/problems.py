"""What can be measured: products, convolutions, networks, searches, packing, and what people and files call each."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.dialects.encoding import Encoding
from bitmlir.grouped_spec import GroupedSpec
from bitmlir.pack_spec import PackSpec
from bitmlir.search_spec import SearchSpec
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench.networks import NetworkSpec

__all__ = ["Convolution", "Network", "Packing", "Problem", "Product", "Search"]

_PARTS = ("row_scale", "bias", "residual", "relu")  # of an epilogue, beside a scale for each column


@dataclass(frozen=True)
class Product:
    """A product to measure; rhs are the weights.

    rotated: the weights come from memory, not from the L2 cache: distinct copies take turns. portable: on the newest
    target that later chips run too, which has mma.sync but not wgmma. empty_tiles: the share of tiles that are empty in
    operands which come with a bitmap.
    """

    spec: MatmulSpec | GroupedSpec
    rotated: bool = False
    portable: bool = False
    empty_tiles: float = 0.0

    @property
    def planes(self) -> int:
        """Products of bit planes that make up the product."""
        return _plane_pairs(self.spec)

    @property
    def operations(self) -> int:
        """2·m·n·k, whatever is skipped."""
        return self.spec.operations

    @property
    def size(self) -> str:
        """The sizes, for people.

        Example:
            >>> Product(MatmulSpec(m=8, n=8, k=64, lhs="u1", rhs="u1", batch=3)).size
            '3 × 8²×64'
        """
        spec = self.spec
        if isinstance(spec, GroupedSpec):
            return f"{_size(spec)} in {spec.groups} groups"
        return _size(spec) if spec.batch is None else f"{spec.batch} × {_size(spec)}"

    @property
    def kind(self) -> str:
        """Encodings and result, for people.

        Example:
            >>> Product(MatmulSpec(m=8, n=8, k=64, lhs="u2", rhs="i2", out="u4", bias=True, relu=True)).kind
            'u2 × i2 → u4 (bias, relu)'
        """
        return _kind(self.spec, *[f"{self.empty_tiles:.0%} of tiles empty"] * bool(self.empty_tiles))

    def to_json(self) -> dict[str, Any]:
        """The problem as plain numbers and strings."""
        kind = "product" if isinstance(self.spec, MatmulSpec) else "grouped product"
        ours = {"rotated": self.rotated, "empty_tiles": self.empty_tiles}
        return {"kind": kind, **_fields(self.spec), **ours}


@dataclass(frozen=True)
class Convolution:
    """A convolution of images with filters."""

    spec: Conv2dSpec
    portable: bool = False

    rotated, empty_tiles = False, 0.0

    @property
    def planes(self) -> int:
        """Products of bit planes that make up the convolution."""
        return _plane_pairs(self.spec)

    @property
    def operations(self) -> int:
        """2·places·filters·taps·channels; taps outside an image count."""
        return self.spec.operations

    @property
    def size(self) -> str:
        """Images, their channels, and filters with their size and steps, for people.

        Example:
            >>> spec = Conv2dSpec(8, 56, 56, channels=64, filters=128, lhs="u1", rhs="u1", stride=2, padding=1)
            >>> Convolution(spec).size
            '8 × 56²×64, 128 of 3² by 2'
        """
        spec = self.spec
        size, steps = (_square(getattr(spec, name)) for name in ("size", "stride"))
        at = "" if spec.stride == (1, 1) else f" by {steps.removesuffix('²')}"
        spread = "" if spec.dilation == (1, 1) else f" spread by {_square(spec.dilation).removesuffix('²')}"
        image = _square((spec.height, spec.width))
        return f"{spec.images} × {image}×{spec.channels}, {spec.filters} of {size}{at}{spread}"

    @property
    def kind(self) -> str:
        """Encodings and result, for people."""
        return _kind(self.spec)

    def to_json(self) -> dict[str, Any]:
        """The problem as plain numbers and strings."""
        return {"kind": "convolution", **_fields(self.spec)}


@dataclass(frozen=True)
class Network:
    """A whole network, from numbers of 8 bits to logits."""

    spec: NetworkSpec
    portable: bool = False

    rotated, empty_tiles = False, 0.0

    @property
    def size(self) -> str:
        """Its name and how many inputs it takes at once, for people."""
        return f"{self.spec.name}, batch {self.spec.batch}"

    @property
    def kind(self) -> str:
        """Bits of weights and activations, as papers write them."""
        return f"w1a{self.spec.bits}"

    def to_json(self) -> dict[str, Any]:
        """The problem as plain numbers and strings."""
        return {"kind": "network", **_fields(self.spec)}


@dataclass(frozen=True)
class Search:
    """Finding the nearest rows."""

    spec: SearchSpec
    portable: bool = False

    rotated, empty_tiles = False, 0.0

    @property
    def planes(self) -> int:
        """Products of bit planes that make up a score."""
        return _plane_pairs(self.spec)

    @property
    def operations(self) -> int:
        """2·m·n·k."""
        return self.spec.operations

    @property
    def size(self) -> str:
        """The sizes, for people."""
        return _size(self.spec)

    @property
    def kind(self) -> str:
        """Encodings and what is found, for people."""
        return f"{self.spec.lhs} × {self.spec.rhs} → best {self.spec.count} by {self.spec.score}"

    def to_json(self) -> dict[str, Any]:
        """The problem as plain numbers and strings."""
        return {"kind": "search", **_fields(self.spec)}


@dataclass(frozen=True)
class Packing:
    """Packing a matrix into bit planes."""

    spec: PackSpec
    portable: bool = False

    rotated, empty_tiles = False, 0.0
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
        return {"kind": "packing", **_fields(self.spec)}


Problem = Product | Convolution | Network | Search | Packing


def _plane_pairs(spec: MatmulSpec | GroupedSpec | Conv2dSpec | SearchSpec) -> int:
    return Encoding.parse(spec.lhs).bits * Encoding.parse(spec.rhs).bits


def _kind(spec: MatmulSpec | GroupedSpec | Conv2dSpec, *more: str) -> str:
    notes = [name.replace("_", " ") for name in _PARTS if getattr(spec, name, None)] + list(more)
    return f"{spec.lhs} × {spec.rhs} → {spec.out}" + (f" ({', '.join(notes)})" if notes else "")


def _square(sizes: Any) -> str:
    """Two sizes; as a square if they are equal."""
    first, second = sizes
    return f"{first}²" if first == second else f"{first}×{second}"


def _size(spec: MatmulSpec | GroupedSpec | SearchSpec) -> str:
    m, n, k = spec.m, spec.n, spec.k
    if m != n:
        return f"{m}×{n}×{k}"
    return f"{m}³" if n == k else f"{m}²×{k}"


def _fields(spec: Any) -> dict[str, Any]:
    """The fields of a spec; those that are switched off are left out."""
    fields = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    plain = {name: str(v) if isinstance(v, Encoding) else v for name, v in fields.items()}
    return {name: value for name, value in plain.items() if value not in (None, False)}
