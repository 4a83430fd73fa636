"""Networks to measure: how one is compiled, what plain numpy says of some of its inputs, and which launch is of which
layer.

All of this takes seconds of a processor, and is done where programs are compiled, beside the measurements.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bitmlir.executable import Executable
from bitmlir.runtime.plan import Memset, Plan, Step

if TYPE_CHECKING:
    from bitmlir.nn import Layer

__all__ = [
    "CompiledNetwork",
    "NetworkSpec",
    "Node",
    "compile_network",
    "kernel_name",
    "layers_of_steps",
    "nodes_of",
    "random_images",
]

_REFERENCE_OPERATIONS = 2e10  # what numpy does in a second or two
_LEAST_SAMPLED, _MOST_SAMPLED = 2, 64

_PRODUCTS = ("Conv2d", "Linear")
_ATTRIBUTES = ("size", "stride", "padding", "dilation", "channels", "bits", "signed")  # of layers, that nodes keep


@dataclass(frozen=True)
class NetworkSpec:
    """A network of `bitmlir.nn.zoo` with random parameters, for so many inputs at once; bits: of activations."""

    name: str
    bits: int
    batch: int


@dataclass(frozen=True)
class Node:
    """A layer without its parameters: what a library needs to build one like it.

    Attributes:
        kind: the name of its class.
        sources: numbers of the nodes whose numbers it takes.
        shape: of what it yields, without the batch. codes: in which encoding; none for sums and real numbers.
        weights: the shape of its weights, if it has any. encoding: of these.
        planes: products of bit planes that make up one of its products.
        fields: what else it was made with, such as its stride.
    """

    kind: str
    sources: tuple[int, ...]
    shape: tuple[int, ...]
    weights: tuple[int, ...] = ()
    planes: int = 0
    codes: str = ""
    encoding: str = ""
    fields: tuple[tuple[str, Any], ...] = ()

    @property
    def operations(self) -> int:
        """2·places·filters·taps·channels of a product; 0 of other layers.

        Example:
            >>> Node("Conv2d", (0,), (28, 28, 16), weights=(16, 3, 3, 8)).operations == 2 * 28 * 28 * 16 * 3 * 3 * 8
            True
        """
        return 2 * math.prod(self.shape[:-1]) * math.prod(self.weights) if self.weights else 0


@dataclass(frozen=True)
class CompiledNetwork:
    """A network's program with its parameters, and what plain numpy says of some inputs.

    Attributes:
        executable: takes `images`.
        sampled: numbers of the inputs that were computed in plain numpy. expected: their logits.
        nodes: its layers, sources first.
    """

    spec: NetworkSpec
    executable: Executable
    sampled: np.ndarray
    expected: np.ndarray
    nodes: tuple[Node, ...]

    @property
    def operations(self) -> int:
        """Of all products, for the whole batch."""
        return self.spec.batch * sum(node.operations for node in self.nodes)

    @property
    def bit_operations(self) -> int:
        """The same for each pair of bit planes."""
        return self.spec.batch * sum(node.operations * node.planes for node in self.nodes)


def compile_network(spec: NetworkSpec, target: str, seed: int, *, cached: bool) -> CompiledNetwork:
    """Compile a network whose parameters, and `random_images` as inputs, are of that seed.

    Raises:
        BitmlirError: as of `bitmlir.nn.compile` and `zoo.network`.
    """
    from bitmlir import nn
    from bitmlir.nn import zoo

    output = zoo.network(spec.name, zoo.RandomParameters(seed), spec.bits)
    model = nn.compile(output, spec.batch, target, cached=cached)
    nodes = nodes_of(output)
    images = random_images(spec, nodes, seed)
    sampled = _sampled(spec.batch, sum(node.operations for node in nodes))
    # The same program for fewer inputs; nothing is compiled.
    few = nn.Model(model.program, len(sampled), every=False, executable=model.executable)
    expected = few.reference(images[sampled])
    assert isinstance(expected, np.ndarray)
    return CompiledNetwork(spec, model.executable, sampled, expected, nodes)


def random_images(spec: NetworkSpec, nodes: Sequence[Node], seed: int) -> np.ndarray:
    """Random inputs of a network, uint8 [batch, …]."""
    (shape,) = (node.shape for node in nodes if node.kind == "Input")
    return np.random.default_rng([seed, 2]).integers(0, 256, (spec.batch, *shape), np.uint8)


def _sampled(batch: int, operations: int) -> np.ndarray:
    """Which inputs numpy computes: the first, the last, and others as far as that takes no longer."""
    count = int(np.clip(_REFERENCE_OPERATIONS // operations, _LEAST_SAMPLED, _MOST_SAMPLED))
    return np.unique(np.linspace(0, batch - 1, count).astype(np.int64))


def nodes_of(output: Layer) -> tuple[Node, ...]:
    """The layers that a layer is computed from, and itself, sources first.

    Example:
        >>> from bitmlir import nn
        >>> [node.kind for node in nodes_of(nn.Linear(nn.Flatten(nn.Input((2, 2, 1))), np.ones((3, 4))))]
        ['Input', 'Flatten', 'Linear']
    """
    from bitmlir.nn.graph import layers_before

    numbers: dict[Layer, int] = {}
    nodes: list[Node] = []
    for layer in layers_before(output):
        numbers[layer] = len(nodes)
        nodes.append(_node(layer, tuple(numbers[source] for source in layer.sources)))
    return tuple(nodes)


def _node(layer: Any, sources: tuple[int, ...]) -> Node:
    kind = type(layer).__name__
    known = tuple((name, getattr(layer, name)) for name in _ATTRIBUTES if hasattr(layer, name))
    codes = str(layer.codes or "")
    if kind not in _PRODUCTS:
        return Node(kind, sources, layer.shape, codes=codes, fields=known)
    planes = layer.source.codes.bits * layer.encoding.bits
    return Node(kind, sources, layer.shape, layer.weights.shape, planes, codes, str(layer.encoding), known)


# --- which launch is of which layer ---------------------------------------------------------------

_CONSTANT = re.compile(r"weights(\d+)\.")
_KERNEL = re.compile(r"(?:plane_)?(.+?)[_\d]*")
_FILTERS = re.compile(r".*_filters")  # kernels that make filters of others
_PREPARES = re.compile(r"zero|patches|.*_sums")  # kernels that make something ready for the product after them


def layers_of_steps(plan: Plan, nodes: Sequence[Node]) -> list[str]:
    """For each step of the plan of a network, what it is part of: a product, such as "conv2" or "linear14", counted as
    in `bitmlir.nn.zoo`; or what its kernel does, such as "pool". What prepares a product is part of it."""
    names, owners = _names_of_constants(plan, nodes), _owners(plan)
    layers: list[str] = []
    following = "the end"
    for step in reversed(plan.steps):
        found = [owners[name] for name in step.buffers if name in owners]
        name = kernel_name(step)
        if found and found[0] in names:
            following = names[found[0]]
        elif not _PREPARES.fullmatch(name):
            following = name
        layers.append(following)
    return layers[::-1]


def _names_of_constants(plan: Plan, nodes: Sequence[Node]) -> dict[int, str]:
    """The layer whose weights each constant `weights<number>` is: the first left of as many filters and as many taps,
    since programs need not have layers in the order of a network that forks."""
    kinds = {"Conv2d": "conv", "Linear": "linear"}
    weighted = [node for node in nodes if node.weights]
    left = {f"{kinds[node.kind]}{number}": node.weights for number, node in enumerate(weighted, 1)}
    constants = {int(found[1]): v.shape for v in plan.constants if (found := _CONSTANT.match(f"{v.name}."))}
    names = {}
    for number, (filters, *taps) in sorted(constants.items()):
        fitting = [name for name, (o, *k) in left.items() if (o, math.prod(k)) == (filters, math.prod(taps))]
        if fitting:
            names[number] = fitting[0]
            del left[fitting[0]]
    return names


def _owners(plan: Plan) -> dict[str, int]:
    """The number of the weights that a buffer holds, or what was made of them."""
    steps = [*plan.setup, *plan.steps]
    owners = {name: int(found[1]) for step in steps for name in step.buffers if (found := _CONSTANT.match(name))}
    for step in steps:
        if _FILTERS.fullmatch(kernel_name(step)):
            read = [owners[name] for name in step.buffers if name in owners]
            owners |= dict.fromkeys(step.writes, read[0]) if read else {}
    return owners


def kernel_name(step: Step) -> str:
    """What a step does, of the name of its kernel: "matmul" of plane_matmul_12."""
    if isinstance(step, Memset):
        return "zero"
    match = _KERNEL.fullmatch(step.kernel)
    return match[1] if match else step.kernel
