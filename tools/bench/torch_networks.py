"""Networks like ours in floats, as torch has them: the same layers and shapes, with random weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bitmlir.dialects.errors import InputError
from bitmlir.tools.bench.networks import Node

__all__ = ["float_network"]


def float_network(torch: Any, nodes: Sequence[Node], dtype: Any) -> Any:
    """A module that takes images uint8 [batch, height, width, channels] and yields logits of that type.

    Batch norms right after a product are folded into it, as torch's users do for inference; other ones scale and shift.
    Activations are ReLUs.

    Raises:
        InputError: a layer of a kind that is not known here.
    """

    class FloatNetwork(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList([_module(torch, nodes, node) for node in nodes])

        def forward(self, images: Any) -> Any:
            values: list[Any] = []
            for node, layer in zip(nodes, self.layers, strict=True):
                values.append(layer(*(values[number] for number in node.sources) if node.sources else (images,)))
            return values[-1]

    return FloatNetwork().to(dtype).to(memory_format=torch.channels_last).eval()


def _module(torch: Any, nodes: Sequence[Node], node: Node) -> Any:
    """The module of a layer."""
    before, fields = [nodes[number] for number in node.sources], dict(node.fields)
    kinds = torch.nn
    if node.kind == "Input":
        return _function(torch, _normalised)
    if node.kind == "Linear":
        return kinds.Linear(node.weights[1], node.weights[0])
    if node.kind == "Conv2d":
        filters, *size, channels = node.weights
        steps = {name: fields[name] for name in ("stride", "dilation")}
        return _padded(torch, fields["padding"], lambda p: kinds.Conv2d(channels, filters, size, padding=p, **steps))
    if node.kind == "BatchNorm":
        return kinds.Identity() if before[0].weights else _affine(torch, node.shape)
    if node.kind in ("Sign", "Quantise"):
        return kinds.Identity() if fields.get("signed") else kinds.ReLU()
    if node.kind in ("MaxPool2d", "AvgPool2d"):
        pool, window = getattr(kinds, node.kind), (fields["size"], fields["stride"])
        outside = -math.inf if node.kind == "MaxPool2d" else 0.0
        return _padded(torch, fields["padding"], lambda p: pool(*window, padding=p), outside)
    if node.kind == "Flatten":
        return kinds.Flatten()
    if node.kind == "Add":
        return _function(torch, lambda x, y: x + y)
    if node.kind == "PadChannels":
        missing = node.shape[-1] - before[0].shape[-1]
        spare = (0, 0) * (len(node.shape) - 1) + (0, missing)
        return _function(torch, lambda x: torch.nn.functional.pad(x, spare))
    raise InputError(f"no layer of torch is known for {node.kind}")


def _function(torch: Any, function: Any) -> Any:
    class Function(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("one", torch.ones(()))  # tells the type of the network

        def forward(self, *values: Any) -> Any:
            return function(*values, *[self.one] * (function is _normalised))

    return Function()


def _normalised(images: Any, one: Any) -> Any:
    """Bytes as numbers round 0, channels first for torch; in memory they stay last."""
    moved = images.permute(0, 3, 1, 2) if images.ndim == 4 else images
    return moved.to(one.dtype) * (1 / 64) - 2


def _affine(torch: Any, shape: tuple[int, ...]) -> Any:
    class Affine(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = (shape[-1],) + (1, 1) * (len(shape) == 3)
            self.scale, self.bias = (torch.nn.Parameter(torch.rand(sizes)) for _ in range(2))

        def forward(self, x: Any) -> Any:
            return x * self.scale + self.bias

    return Affine()


def _padded(torch: Any, padding: tuple[int, ...], make: Any, outside: float = 0.0) -> Any:
    """What `make(padding)` makes, with padding by its own where the sides of that differ."""
    top, left, bottom, right = padding
    if (top, left) == (bottom, right):
        return make((top, left))
    return torch.nn.Sequential(torch.nn.ConstantPad2d((left, right, top, bottom), outside), make(0))
