"""Pools that tests on the CPU and on GPUs share."""

from __future__ import annotations

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.window import Axis, Window

__all__ = ["POOLS", "pool_text"]

# Images, size, stride, padding.
POOLS: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
    "2×2": ((2, 6, 4, 40), (2, 2), (2, 2), (0, 0, 0, 0)),
    "overlapping": ((2, 7, 6, 130), (3, 3), (2, 2), (1, 1, 1, 1)),
    "uneven": ((3, 5, 7, 33), (2, 3), (1, 2), (1, 0, 0, 2)),
    "one place": ((1, 3, 4, 9), (3, 4), (1, 1), (0, 0, 0, 0)),
}


def pool_text(
    encoding: str, images: tuple[int, ...], size: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]
) -> str:
    """A module that pools images."""
    n, height, width, channels = images
    top, left, bottom, right = padding
    window = Window(Axis(height, size[0], stride[0], top, bottom), Axis(width, size[1], stride[1], left, right))
    element = f'xi{Encoding.parse(encoding).bits}, #bit.encoding<"{encoding}">>'
    source = f"tensor<{n}x{height}x{width}x{channels}{element}"
    result = f"tensor<{n}x{window.places[0]}x{window.places[1]}x{channels}{element}"
    numbers = ", ".join(
        f"{name} = array<i64: {', '.join(map(str, values))}>"
        for name, values in (("size", size), ("stride", stride), ("padding", padding))
    )
    return f"""
func.func @f(%x: {source}) -> {result} {{
  %y = "bit.pool"(%x) {{{numbers}}} : ({source}) -> {result}
  return %y : {result}
}}"""
