"""A graph of the onnx package, as the walk through it wants it: nodes with their places, and arrays that are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from bitmlir.dialects.errors import InputError, ShapeError

if TYPE_CHECKING:
    import onnx

__all__ = ["Constant", "Graph", "Node", "evaluated", "graph_of"]


@dataclass(frozen=True, eq=False)
class Constant:
    """An array of the file; if it was quantised, also as whole numbers with a scale each.

    value: codes · scale, in float64 then. codes: int64. name: of the tensor.
    """

    name: str
    value: np.ndarray
    codes: np.ndarray | None = None
    scale: np.ndarray | None = None

    def finite(self) -> np.ndarray:
        """The value in float64.

        Raises:
            InputError: a number is infinite or NaN.
        """
        value = np.asarray(self.value, np.float64)
        if not np.isfinite(value).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
            raise InputError(f"'{self.name}' must be finite, but holds {value[place]} at {place}")
        return value

    def single(self, what: str) -> float:
        """The one number that it holds.

        Raises:
            InputError: there are several different ones.
        """
        value = np.unique(self.finite())
        if len(value) != 1:
            raise InputError(f"{what} '{self.name}' has the shape {self.value.shape}, but must be one number for all")
        return float(value[0])


@dataclass(frozen=True, eq=False)
class Node:
    """A node. place: what it is called in messages: "node 7 of 23, Conv '/conv2/Conv'". opset: ONNX's version of it."""

    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    place: str
    opset: int
    proto: onnx.NodeProto = field(repr=False)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Errors from within say where they arose."""
        try:
            yield
        except InputError as error:
            raise type(error)(f"{self.place}: {error}") from error


@dataclass(frozen=True, eq=False)
class Graph:
    """The nodes in order, the arrays in the file by name, and what goes in and comes out.

    shape: of the input, without the batch. batch: its first size, 1 if that is open.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Constant]
    source: str
    shape: tuple[int, ...]
    batch: int
    result: str

    def takers(self, name: str) -> list[Node]:
        """The nodes that take a tensor."""
        return [node for node in self.nodes if name in node.inputs]


def graph_of(model: str | PathLike[str] | onnx.ModelProto) -> Graph:
    """The graph of a model, or of a file that holds one.

    Raises:
        InputError: the onnx package is missing, a file cannot be read, is no ONNX file or an unsound one; a graph with
            several inputs or outputs. ShapeError: sizes of the input are not in the file.
    """
    loaded = _loaded(model)
    graph = loaded.graph
    constants = {array.name: Constant(array.name, _array(array)) for array in graph.initializer}
    sources = [given for given in graph.input if given.name not in constants]
    for what, given in (("input", sources), ("output", graph.output)):
        if len(given) != 1:
            raise InputError(f"a network has one {what}, but this graph has {len(given)}: "
                             f"{', '.join(repr(one.name) for one in given)}")  # fmt: skip
    first, *sizes = [size.dim_value for size in sources[0].type.tensor_type.shape.dim] or [0]
    if not sizes or min(sizes) < 1:
        raise ShapeError(f"the sizes of the input '{sources[0].name}' must be in the file, but for the "
                         f"batch: export with them, or set them by qonnx-cleanup --override-inpsize")  # fmt: skip
    opset = max((used.version for used in loaded.opset_import if used.domain in ("", "ai.onnx")), default=1)
    count = len(graph.node)
    nodes = tuple(_node(proto, f"node {number} of {count}", opset) for number, proto in enumerate(graph.node, 1))
    return Graph(nodes, constants, sources[0].name, tuple(sizes), max(1, first), graph.output[0].name)


def _loaded(model: str | PathLike[str] | onnx.ModelProto) -> onnx.ModelProto:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise InputError("reading QONNX needs the onnx package: pip install 'bitmlir[qonnx]'") from error
    if not isinstance(model, (str, PathLike, onnx.ModelProto)):
        raise InputError(f"a model is a path or an onnx.ModelProto, got {type(model).__name__}: give the file's path")
    name = "the model" if isinstance(model, onnx.ModelProto) else f"'{model}'"
    try:
        loaded = model if isinstance(model, onnx.ModelProto) else onnx.load(model)
        onnx.checker.check_model(loaded)
    except OSError as error:
        raise InputError(f"cannot read {name}: {error}") from error
    except DecodeError as error:
        raise InputError(f"{name} is no ONNX file: {error}") from error
    except onnx.checker.ValidationError as error:
        raise InputError(f"{name} is not sound: {' '.join(str(error).split())}") from error
    return loaded


def _array(proto: onnx.TensorProto) -> np.ndarray:
    from onnx import numpy_helper

    return numpy_helper.to_array(proto)


def _node(proto: onnx.NodeProto, place: str, opset: int) -> Node:
    from onnx import helper

    attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
    attributes = {name: a.decode() if isinstance(a, bytes) else a for name, a in attributes.items()}
    place = f"{place}, {proto.op_type} '{proto.name or (proto.output[0] if proto.output else '')}'"
    given, made = tuple(proto.input), tuple(proto.output)
    return Node(proto.op_type, proto.domain, given, made, MappingProxyType(attributes), place, opset, proto)


_MOVES = ("Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")  # which leave numbers as they are


def evaluated(node: Node, inputs: Sequence[Constant]) -> Constant:
    """What a node of ONNX makes of constants alone.

    Raises:
        InputError: onnx's own evaluator does not do it.
    """
    name, first = node.outputs[0], inputs[0] if inputs else None
    if first is not None and first.codes is not None and first.scale is not None and node.op in _MOVES:
        rest = [one.value for one in inputs[1:]]
        codes, scale = (_run(node, [array, *rest]) for array in (first.codes, first.scale))
        return Constant(name, codes * scale, codes, scale)
    return Constant(name, _run(node, [one.value for one in inputs]))


def _run(node: Node, arrays: list[np.ndarray]) -> np.ndarray:
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    given = dict(zip((name for name in node.inputs if name), arrays, strict=True))
    sources, results = (
        [helper.make_empty_tensor_value_info(name) for name in names] for names in (given, node.outputs)
    )
    graph = helper.make_graph([node.proto], node.op, sources, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", node.opset)])
    try:
        values: Any = ReferenceEvaluator(model).run(None, given)
        return np.asarray(values[0])
    except Exception as error:  # of any kind: the evaluator promises none
        raise InputError(f"cannot be evaluated: {error}: give the file to qonnx-cleanup first") from error
