"""The suites: which problems are measured together."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.grouped_spec import GroupedSpec
from bitmlir.pack_spec import PackSpec
from bitmlir.search_spec import SearchSpec
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench.networks import NetworkSpec
from bitmlir.tools.bench.problems import Convolution, Network, Packing, Problem, Product, Search
from bitmlir.tools.bench.published import small_convolution

__all__ = ["ALL", "SUITES", "Suite", "suites_named"]


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


def _skinny() -> Iterable[Product]:
    """The weights change last, since making them and their copies takes longest."""
    weights = ("bipolar", "i2", "i3", "i4")
    for n, rhs, lhs, m in itertools.product((_SIDE, 2 * _SIDE), weights, ("u8", "u4"), (1, 8, 16, 64)):
        yield Product(MatmulSpec(m, n, n, lhs, rhs, "f16", column_scale=True), rotated=True)


def _with_bitmaps(k: int, out: str) -> Product:
    return Product(MatmulSpec(_SIDE, _SIDE, k, *_SIGNS[0], out, lhs_tiles=True), empty_tiles=0.9)


def _epilogue(out: str, **parts: Any) -> Product:
    return Product(MatmulSpec(_SIDE, _SIDE, _SIDE, *_SIGNS[0], out, **parts))


def _network_problems(bits: int, batches: Iterable[tuple[str, int]]) -> tuple[Network, ...]:
    """Each with few inputs and with so many."""
    return tuple(Network(NetworkSpec(name, bits, batch)) for name, many in batches for batch in (_FEW, many))


_SIDE = 8192
_SIGNS = [("bipolar", "bipolar")]
_CUBES = [(n, n, n) for n in (1024, 2048, 4096, 8192, 16384)]
_DEEP = 65536
_ACTIVATIONS_AND_WEIGHTS = [("u2", "bipolar"), ("u2", "i2"), ("u4", "bipolar"), ("u4", "i4")]
_SMALL_SIZES = [(64, n, n) for n in range(128, 1025, 128)]
_DATABASE = 1 << 20  # rows to search
_RESNET_STAGES = [(64, 56), (128, 28), (256, 14), (512, 7)]  # channels, and height and width of images
_FEW, _BATCH = 8, 512
_BATCHES = {
    "mnist-mlp": 32768,
    "cifar10-vgg": _BATCH,
    "cifar10-resnet14": _BATCH,
    "alexnet": _BATCH,
    "resnet18": _BATCH,
    "resnet18-bireal": _BATCH,
    "vgg16": _BATCH,
}

_SUITES = (
    Suite("square", "±1 × ±1, from 1024³ to 16384³, int32 and packed bits", _products(_CUBES, _SIGNS, ("i32", "bit"))),
    Suite(
        "deep",
        "±1 × ±1 with deep K, 8192²×65536; with few tiles, 512² and 256²×65536",
        (
            *_products([(_SIDE, _SIDE, _DEEP)], _SIGNS, ("i32", "bit")),
            *_products([(512, 512, _DEEP), (256, 256, _DEEP)], _SIGNS, ("i32",)),
        ),
    ),
    Suite(
        "any-width",
        "w1a2, w2a2, w1a4, w4a4 at 8192³, f16 scaled by column",
        _products([(_SIDE, _SIDE, _SIDE)], _ACTIVATIONS_AND_WEIGHTS, ("f16",)),
    ),
    Suite("skinny", "few rows of activations, weights of 1 to 4 bits that come from memory", tuple(_skinny())),
    Suite(
        "small",
        "64 rows, N = K = 128 … 1024, w1a2 and w2a2",
        _products(_SMALL_SIZES, [("u2", "bipolar"), ("u2", "i2")], ("i32",)),
    ),
    Suite(
        "sm80",
        "±1 × ±1 by mma.sync: the kernels for Ampere and Ada",
        _products(_CUBES, _SIGNS, ("i32", "bit"), portable=True),
    ),
    Suite(
        "epilogues",
        "what becomes of ±1 × ±1 at 8192³: integers, floats, bits, quantised values",
        (
            *(_epilogue(out) for out in ("i32", "i16", "bit")),
            _epilogue("f16", row_scale=True, column_scale=True, bias=True, residual="f16", relu=True),
            *(_epilogue(out, column_scale=True, bias=True, relu=True) for out in ("u4", "u8")),
        ),
    ),
    Suite(
        "bitmaps",
        "±1 × ±1, nine tiles of lhs in ten empty, beside the same product without bitmap; POPS count the whole product",
        tuple(_with_bitmaps(k, out) for k in (_SIDE, _DEEP) for out in ("i32", "bit")),
    ),
    Suite(
        "batch",
        "batches, and rows in groups with a matrix of weights each",
        (
            *(Product(MatmulSpec(1024, 1024, 1024, *_SIGNS[0], out, batch=64)) for out in ("i32", "bit")),
            Product(MatmulSpec(16, 2048, 2048, "u4", "i4", "f16", column_scale=True, batch=64)),
            Product(GroupedSpec(64, 8192, 2048, 2048, "u4", "bipolar", "f16", column_scale=True)),
            Product(GroupedSpec(64, 512, 2048, 2048, "u4", "i4", "f16", column_scale=True)),
        ),
    ),
    Suite(
        "conv",
        "±1 × ±1 to packed bits, 3×3 as in the stages of ResNet, 512 images",
        tuple(
            Convolution(Conv2dSpec(_BATCH, side, side, channels, channels, *_SIGNS[0], "bit", padding=1))
            for channels, side in _RESNET_STAGES
        ),
    ),
    Suite(
        "conv-apnn",
        "the convolutions that APNN-TC measures: 3×3 over 16×16, C = O = 128 … 1024, w1a2 and w2a2, 1 and 8 images",
        tuple(
            Convolution(small_convolution(images, channels, rhs))
            for rhs, images, channels in itertools.product(("bipolar", "i2"), (1, _FEW), range(128, 1025, 128))
        ),
    ),
    Suite(
        "networks",
        "whole networks, w1a1 and w1a2, from bytes to logits: 8 inputs for latency, many for throughput",
        (
            *_network_problems(1, _BATCHES.items()),
            *_network_problems(2, [(name, _BATCHES[name]) for name in ("resnet18", "alexnet", "vgg16")]),
        ),
    ),
    Suite(
        "search",
        "the nearest of 2^20 ±1 codes to each query",
        (
            *(Search(SearchSpec(1024, _DATABASE, 256, *_SIGNS[0], count=count, score="hamming")) for count in (1, 10)),
            Search(SearchSpec(64, _DATABASE, 1024, "u4", "bipolar", count=10)),
        ),
    ),
    Suite(
        "pack",
        "packing into planes and row sums at 8192²",
        tuple(
            Packing(PackSpec(_SIDE, _SIDE, encoding, source))
            for source, encoding in itertools.product(("f32", "f16", "i8"), ("bipolar", "u4", "u2"))
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
            Product(MatmulSpec(40, 70, 300, "u2", "u3@1", "u4", row_scale=True, bias=True, residual="i8", relu=True)),
            Product(MatmulSpec(300, 40, 2100, "u2", "bipolar", "i32", lhs_tiles=True), empty_tiles=0.9),
            Product(MatmulSpec(9, 33, 130, "u4", "i4", "bit", batch=3)),
            Product(GroupedSpec(5, 70, 40, 200, "u2", "ternary", "bf16", column_scale=True)),
            *(Search(SearchSpec(20, 300, 100, *_SIGNS[0], count=3, score=score)) for score in ("dot", "hamming")),
            *(Packing(PackSpec(20, 100, "u4", source)) for source in ("f32", "i8")),
            Convolution(Conv2dSpec(3, 9, 8, 70, 40, "u2", "bipolar", "bit", stride=2, padding=1)),
            Network(NetworkSpec("mnist-mlp", 1, 3)),
        ),
    ),
)

SUITES: dict[str, Suite] = {suite.name: suite for suite in _SUITES}

ALL = "all"
"""The name that stands for every suite but `smoke`."""


def suites_named(names: Iterable[str]) -> list[Suite]:
    """The suites of these names, each once.

    Raises:
        KeyError: there is no such suite.
    """
    every = [name for name in SUITES if name != "smoke"]
    return [SUITES[n] for n in dict.fromkeys(n for name in names for n in (every if name == ALL else [name]))]
