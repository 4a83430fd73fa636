"""What others' systems took where they were measured elsewhere: quoted beside our figures, never mixed with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench.networks import NetworkSpec

__all__ = ["PUBLISHED", "Published", "quoted_seconds", "small_convolution"]

Spec = MatmulSpec | Conv2dSpec | NetworkSpec


@dataclass(frozen=True)
class Published:
    """Microseconds that a system takes for each problem; `source` says who measured it where."""

    source: str
    microseconds: Mapping[Spec, float]


def _signs(out: str, by_side: Mapping[int, float]) -> dict[Spec, float]:
    """Of ±1 × ±1 with M = N = K."""
    return {MatmulSpec(n, n, n, "bipolar", "bipolar", out): time for n, time in by_side.items()}


def _rows_of_64(rhs: str, *times: float) -> dict[Spec, float]:
    """For N = K = 128, 256, …, 1024."""
    sides = range(128, 1025, 128)
    return {MatmulSpec(64, n, n, "u2", rhs): time for n, time in zip(sides, times, strict=True)}


def small_convolution(images: int, channels: int, rhs: str) -> Conv2dSpec:
    """A convolution as APNN-TC measures them: 3×3 over 16×16, as many filters as channels, activations of two bits."""
    return Conv2dSpec(images, 16, 16, channels, channels, "u2", rhs, padding=1)


def _small_convolutions(rhs: str, by_channels: Mapping[int, float]) -> dict[Spec, float]:
    return {small_convolution(1, channels, rhs): time for channels, time in by_channels.items()}


def _networks(milliseconds: Mapping[str, Mapping[int, float]]) -> dict[Spec, float]:
    """Of 1-bit networks by name and batch."""
    return {
        NetworkSpec(name, 1, batch): 1e3 * time
        for name, by_batch in milliseconds.items()
        for batch, time in by_batch.items()
    }


_MEASURED = "by CUDA graph on an H200 SXM with driver 580 and CUDA 13.0, November 2026"

PUBLISHED: dict[str, Published] = {
    "APNN-TC": Published(
        f"the w1a2 and w2a2 kernels of APNN-TC-kernel 53b4239 {_MEASURED}; their weights are unsigned, and of their "
        "convolutions those of 512 and 1024 channels leave products out and are not quoted",
        {
            **_rows_of_64("bipolar", 1.97, 2.16, 2.43, 2.63, 3.04, 3.08, 3.61, 3.83),
            **_rows_of_64("i2", 1.95, 2.16, 2.42, 2.60, 3.00, 3.07, 3.60, 3.84),
            **_small_convolutions("bipolar", {128: 3.62, 256: 4.92, 384: 6.46, 640: 8.68, 768: 10.0, 896: 11.7}),
            **_small_convolutions("i2", {128: 3.05, 256: 4.52, 384: 6.05, 640: 15.2, 768: 18.1, 896: 21.1}),
        },
    ),
    "CUTLASS": Published(
        f"the fastest 1-bit kernels of CUTLASS 4.7.0, which use mma.sync, {_MEASURED}; they count common bits",
        _signs("i32", {1024: 3.38, 2048: 7.95, 4096: 33.7, 8192: 193.7, 16384: 1359.0}),
    ),
    "fp-cuda": Published(
        "what fp-cuda states for an H200 NVL, 4.1, 6.7 and 8.6 POPS; wgmma over F2, whose results are parities",
        _signs("bit", {n: 2 * n**3 / pops * 1e-9 for n, pops in ((4096, 4.1), (8192, 6.7), (16384, 8.6))}),
    ),
    "TCBNN": Published(
        "the networks of TCBNN 945e5f0, one launch each, between events on an H200 SXM with driver 580 and CUDA 13.0, "
        "November 2026, with the warp's number mended without which their results are wrong on Hopper",
        _networks(
            {
                "mnist-mlp": {8: 0.0250, 512: 0.0396, 32768: 1.565},
                "cifar10-vgg": {8: 0.2074, 512: 4.228, 4096: 32.42},
                "cifar10-resnet14": {8: 0.5105, 512: 11.23, 1024: 21.89},
                "alexnet": {8: 0.5300, 64: 3.019, 512: 23.11},
                "vgg16": {8: 2.329, 64: 17.06, 512: 134.2},
                "resnet18": {8: 0.814, 64: 3.113, 512: 22.58},
            }
        ),
    ),
}
"""System → its figures."""


def quoted_seconds(spec: Any) -> dict[str, float]:
    """What is known of a problem: system → seconds.

    Example:
        >>> quoted_seconds(MatmulSpec(64, 640, 640, "u2", "bipolar"))
        {'APNN-TC': 3.04e-06}
    """
    found = {name: known.microseconds.get(spec) for name, known in PUBLISHED.items()}
    return {name: time / 1e6 for name, time in found.items() if time is not None}
