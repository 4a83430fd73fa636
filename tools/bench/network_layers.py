"""The products that a network is made of, as problems of their own: what there is to tune."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.dialects.pixel_pairs import PAIR_CHANNELS, PairWindow
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench.networks import NetworkSpec, Node, nodes_of
from bitmlir.tools.bench.problems import Convolution, Product

__all__ = ["layer_problems", "layers_as_problems"]

_BYTES = "u8"  # what a network takes; images of it have kernels of their own


def layers_as_problems(spec: NetworkSpec) -> list[Convolution | Product]:
    """The products of a network of `bitmlir.nn.zoo`.

    Raises:
        BitmlirError: as of `zoo.network`.
    """
    from bitmlir.nn import zoo

    return layer_problems(nodes_of(zoo.network(spec.name, zoo.RandomParameters(0), spec.bits)), spec.batch)


def layer_problems(nodes: Sequence[Node], batch: int) -> list[Convolution | Product]:
    """Each different product of a network, with the same sizes, encodings and result; tuning tables then know it there,
    too. Left out are those of photographs, and those whose sums more than a batch norm and a rounding work on."""
    found = (_problem(nodes, number, batch) for number, node in enumerate(nodes) if node.weights)
    return list(dict.fromkeys(problem for problem in found if problem is not None))


def _problem(nodes: Sequence[Node], number: int, batch: int) -> Convolution | Product | None:
    node = nodes[number]
    source = nodes[node.sources[0]]
    if (result := _result(nodes, number)) is None:
        return None
    common: dict[str, Any] = {"lhs": source.codes, "rhs": node.encoding, **result}
    filters = node.weights[0]
    if not _are_images(nodes, node.sources[0]):
        return Product(MatmulSpec(batch, filters, node.weights[1], **common))
    if source.codes == _BYTES:
        return None
    if node.kind == "Linear":  # whose filter is as large as the image
        shape = nodes[source.sources[0]].shape if source.kind == "Flatten" else source.shape
        height, width, channels = shape if len(shape) == 3 else (1, 1, *shape)
        return Convolution(Conv2dSpec(batch, height, width, channels, filters, size=(height, width), **common))
    steps = {name: value for name, value in node.fields if name in ("stride", "padding", "dilation")}
    (height, width, channels), size = source.shape, (node.weights[1], node.weights[2])
    spec = Conv2dSpec(batch, height, width, channels, filters, size=size, **steps, **common)
    return Convolution(_over_pairs(spec))


def _over_pairs(spec: Conv2dSpec) -> Conv2dSpec:
    """The convolution that a network computes one by, if its images lie in pairs: see `PairWindow`."""
    window, filters, is_packed = spec.window, spec.filters, spec.product.result_encoding is not None
    pairs = PairWindow.of(window) if spec.channels == PAIR_CHANNELS else None
    if pairs is None or (pairs.beside > 1 and is_packed and filters % PAIR_CHANNELS):
        return spec
    rows, columns = pairs.over_pairs.rows, pairs.over_pairs.columns
    return replace(
        spec,
        width=columns.size,
        channels=2 * PAIR_CHANNELS,
        filters=filters * pairs.beside,
        size=(rows.taps, columns.taps),
        stride=(rows.stride, columns.stride),
        padding=(rows.before, columns.before, rows.after, columns.after),
    )


def _are_images(nodes: Sequence[Node], number: int) -> bool:
    """Whether numbers lie in memory as images, be they of one pixel, which is what a Linear makes of images."""
    node = nodes[number]
    if not node.sources:
        return len(node.shape) == 3
    is_flat_input = node.kind == "Flatten" and nodes[node.sources[0]].kind == "Input"
    return not is_flat_input and _are_images(nodes, node.sources[0])


def _result(nodes: Sequence[Node], number: int) -> dict[str, Any] | None:
    """What becomes of the sums of a product, as fields of a spec."""
    is_scaled = False
    for user in _users(nodes, number):
        if user is None:
            return None
        if user.codes:
            return {"out": "bit" if user.codes == "bipolar" else user.codes}
        if user.kind != "BatchNorm":
            return None
        is_scaled = True
    return {"out": "f32", "column_scale": True, "bias": True} if is_scaled else {"out": "i32"}


def _users(nodes: Sequence[Node], number: int) -> Iterator[Node | None]:
    """The layer that takes what a layer yields, the one that takes what that one yields, …; None for several."""
    while users := [at for at, node in enumerate(nodes) if number in node.sources]:
        if len(users) > 1:
            yield None
            return
        (number,) = users
        yield nodes[number]
