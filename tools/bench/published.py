"""What others' systems took where they were measured elsewhere: quoted beside our figures, never mixed with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bitmlir.spec import MatmulSpec

__all__ = ["PUBLISHED", "Published", "quoted_seconds"]


@dataclass(frozen=True)
class Published:
    """Microseconds that a system takes, by (lhs, rhs, result) and by (m, n, k); `source` says who measured it where."""

    source: str
    microseconds: Mapping[tuple[str, str, str], Mapping[tuple[int, int, int], float]]


def _cubes(by_side: Mapping[int, float]) -> dict[tuple[int, int, int], float]:
    return {(n, n, n): time for n, time in by_side.items()}


def _rows_of_64(*times: float) -> dict[tuple[int, int, int], float]:
    """For N = K = 128, 256, …, 1024."""
    return {(64, n, n): time for n, time in zip(range(128, 1025, 128), times, strict=True)}


_MEASURED = "by CUDA graph on an H200 SXM with driver 580 and CUDA 13.0, November 2026"

PUBLISHED: dict[str, Published] = {
    "APNN-TC": Published(
        f"the w1a2 and w2a2 kernels of APNN-TC-kernel 53b4239 {_MEASURED}; their weights are unsigned",
        {
            ("u2", "bipolar", "i32"): _rows_of_64(1.97, 2.16, 2.43, 2.63, 3.04, 3.08, 3.61, 3.83),
            ("u2", "i2", "i32"): _rows_of_64(1.95, 2.16, 2.42, 2.60, 3.00, 3.07, 3.60, 3.84),
        },
    ),
    "CUTLASS": Published(
        f"the fastest 1-bit kernels of CUTLASS 4.7.0, which use mma.sync, {_MEASURED}; they count common bits",
        {("bipolar", "bipolar", "i32"): _cubes({1024: 3.38, 2048: 7.95, 4096: 33.7, 8192: 193.7, 16384: 1359.0})},
    ),
    "fp-cuda": Published(
        "what fp-cuda states for an H200 NVL, 4.1, 6.7 and 8.6 POPS; wgmma over F2, whose results are parities",
        {
            ("bipolar", "bipolar", "bit"): _cubes(
                {n: 2 * n**3 / pops * 1e-9 for n, pops in ((4096, 4.1), (8192, 6.7), (16384, 8.6))}
            )
        },
    ),
}
"""System → its figures."""


def quoted_seconds(spec: object) -> dict[str, float]:
    """What is known of a product: system → seconds.

    Example:
        >>> quoted_seconds(MatmulSpec(64, 640, 640, "u2", "bipolar"))
        {'APNN-TC': 3.04e-06}
    """
    if not isinstance(spec, MatmulSpec) or spec.batch is not None or spec.lhs_tiles or spec.rhs_tiles:
        return {}
    kind, sizes = (str(spec.lhs), str(spec.rhs), spec.out), (spec.m, spec.n, spec.k)
    found = {name: known.microseconds.get(kind, {}).get(sizes) for name, known in PUBLISHED.items()}
    return {name: time / 1e6 for name, time in found.items() if time is not None}
