"""What is aimed at on an H200: seconds that a problem is to take at most."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.tools.bench.networks import NetworkSpec
from bitmlir.tools.bench.published import quoted_seconds

__all__ = ["AIMS", "aim_of"]

_TIMES_AS_FAST = 1.5  # as the convolutions that others published


def _aim(name: str, bits: int, milliseconds: float, images_per_second: float, batch: int = 512) -> dict[Any, float]:
    """Of a network: how soon a batch of 8 is done, and how many images a second a large batch makes."""
    return {
        NetworkSpec(name, bits, 8): milliseconds / 1e3,
        NetworkSpec(name, bits, batch): batch / images_per_second,
    }


AIMS: Mapping[NetworkSpec, float] = MappingProxyType(
    {
        **_aim("resnet18", 1, 0.12, 300e3),
        **_aim("alexnet", 1, 0.10, 500e3),
        **_aim("vgg16", 1, 0.30, 60e3),
        **_aim("cifar10-vgg", 1, 0.05, 1.2e6),
        **_aim("mnist-mlp", 1, 0.015, 30e6, batch=32768),
        **_aim("resnet18", 2, 0.16, 200e3),
    }
)
"""Network → seconds."""


def aim_of(spec: Any) -> float | None:
    """The seconds aimed at, if there are any.

    Example:
        >>> aim_of(NetworkSpec("alexnet", 1, 512))
        0.001024
    """
    if isinstance(spec, Conv2dSpec):
        return min((seconds / _TIMES_AS_FAST for seconds in quoted_seconds(spec).values()), default=None)
    return AIMS.get(spec) if isinstance(spec, NetworkSpec) else None
