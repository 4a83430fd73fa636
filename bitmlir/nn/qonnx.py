"""Networks trained elsewhere: a QONNX file, as Brevitas exports it, becomes layers.

The graph is walked from its input to its output. Each tensor is kept as a layer that yields codes or sums, and as what
makes real numbers of these: scale·number + offset, channel by channel. Scales of weights, biases, batch norms and
arithmetic with constants change only those two, in float64. They become one `BatchNorm` where a quantiser, an addition
or the end of the network needs real numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from bitmlir.dialects.errors import InputError, ShapeError
from bitmlir.nn import layers
from bitmlir.nn.layers import Conv2d, Flatten, Input, Layer, Linear
from bitmlir.nn.onnx_graph import Constant, Node, evaluated, graph_of
from bitmlir.nn.scaled import ONE, ZERO, Pool, Quantiser, Tensor, as_sums, code_range, narrowest

if TYPE_CHECKING:
    import onnx

__all__ = ["from_qonnx"]


def from_qonnx(
    model: str | PathLike[str] | onnx.ModelProto, *, input_scale: float | None = None, input_offset: float = 0.0
) -> Layer:
    """The last layer of a network in a QONNX file: its logits.

    The network takes pixels from 0 to 255, channels last. The graph's input is input_scale · pixel + input_offset. If
    no scale is given, it is 1: the graph itself makes what it wants of pixels. But where a Quant of 8 bits without a
    sign takes the graph's input as it is, pixels are the codes of that Quant.

    Nodes: Quant and BipolarQuant; Conv, Gemm, MatMul; BatchNormalization, Relu, and arithmetic with constants; MaxPool,
    AveragePool, GlobalAveragePool; Add of two tensors; Flatten, Reshape, Transpose; those that change nothing, and any
    of constants alone. Files are taken as they were exported or after QONNX's clean-up.

    The layers have the file's numbers in float64, where QONNX's executor rounds to float32 after each node. A sum so
    near to a threshold that this decides can get another code there; so can one that lies on a threshold, unless scales
    are powers of two, with which the executor is exact, too.

    model: a path, or a model that is loaded.

    Raises:
        InputError: the onnx package is missing; a file that is no ONNX model; a node that no layer does, constants that
            are not finite, or scales that cannot be folded: with the node's name and position, and what would help.
        EncodingError: weights that no encoding of up to 8 bits has; real numbers where codes are needed.
        ShapeError: shapes that do not fit each other.

    Example:
        >>> import onnx.parser
        >>> model = onnx.parser.parse_model('''
        ... <ir_version: 8, opset_import: ["": 13, "qonnx.custom_op.general": 1]>
        ... network (float[1, 3] x) => (float[1, 2] logits)
        ... <float[2, 3] weights = {0.3, -0.2, 0.1, 0.9, 0.2, 0.4}, float scale = {0.5}>
        ... {
        ...     signs = qonnx.custom_op.general.BipolarQuant (weights, scale)
        ...     logits = Gemm <transB = 1> (x, signs)
        ... }''')
        >>> from_qonnx(model).apply(np.array([[-4, 6]]))  # the batch norm that holds the scale
        array([[-2.,  3.]])
    """
    if input_scale is not None and not (_is_number(input_scale) and input_scale != 0):
        raise InputError(f"input_scale must be a number other than 0, got {input_scale!r}")
    if not _is_number(input_offset):
        raise InputError(f"input_offset must be a number, got {input_offset!r}")
    return _Walk(model, input_scale, input_offset).output()


_Value = Constant | Tensor

_QUANTISERS = ("Quant", "IntQuant", "BipolarQuant")
_ROUNDINGS: Mapping[str, Callable[..., np.ndarray]] = MappingProxyType(
    {"ROUND": np.rint, "HALF_EVEN": np.rint, "CEIL": np.ceil, "FLOOR": np.floor, "DOWN": np.trunc}
)
_TO_LOGITS = "end the network at its logits, of which the largest is the class"
_OTHER_ACTIVATION = "quantise without it, or after a Relu"
_HELP: Mapping[str, str] = MappingProxyType(
    {
        "Trunc": "put a plain average pooling there and a Quant after it",
        "FloatQuant": "quantise to integers",
        "MultiThreshold": "give the file from before thresholds were made",
        "ConvTranspose": "only Conv is known",
        "Clip": "a Quant clips by itself",
        "Pad": "give the Conv its padding",
        "Concat": "only Add joins tensors",
        "QuantizeLinear": "export to QONNX, not to QCDQ",
        "DequantizeLinear": "export to QONNX, not to QCDQ",
        **dict.fromkeys(("Softmax", "LogSoftmax", "ArgMax", "TopK"), _TO_LOGITS),
        **dict.fromkeys(
            ("Sigmoid", "Tanh", "LeakyRelu", "PRelu", "Elu", "Gelu", "HardSwish", "Erf"), _OTHER_ACTIVATION
        ),
    }
)


_TO_FIRST, _TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)  # how axes move, if channels do


class _Walk:
    """Goes through a graph's nodes in order; `values` has what each yields, by name."""

    def __init__(self, model: Any, input_scale: float | None, input_offset: float) -> None:
        self.graph = graph_of(model)
        self.values: dict[str, _Value] = dict(self.graph.constants)
        self.start = Tensor(
            Input(self._input_sizes()),
            np.array(1.0 if input_scale is None else float(input_scale)),
            np.array(float(input_offset)),
            has_channels_last=self._has_channels_last(),
        )
        takers = self.graph.takers(self.graph.source)
        is_quantised = len(takers) == 1 and takers[0].op in ("Quant", "IntQuant")
        self.awaits_scale = input_scale is None and is_quantised and input_offset == 0
        self.values[self.graph.source] = self.start

    def output(self) -> Layer:
        """The last layer."""
        self._require_known_nodes()
        for node in self.graph.nodes:
            with node.named():
                self.values[node.outputs[0]] = self._value(node)
        result = self.values.get(self.graph.result)
        if not isinstance(result, Tensor) or isinstance(result.layer, Input):
            raise InputError("the graph's output is nothing that layers compute of its input")
        last = next(node for node in self.graph.nodes if self.graph.result in node.outputs)
        with last.named():
            layer = result.with_numbers().layer
        if result.is_flat and layer.shape[:2] != (1, 1):
            raise InputError(f"{last.place}: a network cannot end in images that are made flat: leave it out")
        return layer

    def _input_sizes(self) -> tuple[int, ...]:
        """Those of the input layer."""
        shape = self.graph.shape
        if len(shape) not in (1, 3):
            name, known = self.graph.source, "(batch, channels, height, width) or (batch, features)"
            raise ShapeError(f"the input '{name}' must have the shape {known}, got {(self.graph.batch, *shape)}")
        return shape if len(shape) == 1 or self._has_channels_last() else (*shape[1:], shape[0])

    def _has_channels_last(self) -> bool:
        """Whether images come in with channels last, and are transposed before anything looks at them."""
        followed = {self.graph.source}
        for node in self.graph.nodes:
            if followed.isdisjoint(node.inputs):
                continue
            if node.op not in _ELEMENTWISE:
                return node.op == "Transpose" and tuple(node.attributes.get("perm", ())) == _TO_FIRST
            followed |= set(node.outputs)
        return False

    def _require_known_nodes(self) -> None:
        """Name all nodes that have no layer."""
        known, unknown = set(self.graph.constants), []
        for node in self.graph.nodes:
            if node.op == "Shape" or all(name in known for name in node.inputs if name):
                known |= set(node.outputs)
            elif node.op not in _HANDLERS or node.domain not in _domains(node):
                unknown.append(node.place + (f": {_HELP[node.op]}" if node.op in _HELP else ""))
        if unknown:
            nodes = "; ".join(unknown)
            raise InputError(
                f"nodes that have no layer: {nodes}. Those that have one are {', '.join(sorted(_HANDLERS))}"
            )

    def _value(self, node: Node) -> _Value:
        """What a node yields."""
        inputs = [self.values.get(name) for name in node.inputs if name]
        if node.op in _QUANTISERS and len(inputs) != (2 if node.op == "BipolarQuant" else 4):
            raise InputError(
                f"it has {len(inputs)} inputs: expected a tensor, a scale and, of a Quant, zero point and bits"
            )
        constants = [one for one in inputs if isinstance(one, Constant)]
        if len(constants) == len(inputs):
            return _quantised(node, constants) if node.op in _QUANTISERS else evaluated(node, constants)
        return _HANDLERS[node.op](self, node)

    def _tensor(self, node: Node, number: int = 0) -> Tensor:
        """An input that the graph computes."""
        value = self.values.get(node.inputs[number])
        if isinstance(value, Tensor):
            return value
        raise InputError(
            f"its input '{node.inputs[number]}' must be what another node computes of the graph's input first"
        )

    def _constant(self, node: Node, number: int, what: str) -> Constant:
        """An input that the file holds."""
        name = node.inputs[number] if number < len(node.inputs) else ""
        value = self.values.get(name)
        if isinstance(value, Constant):
            return value
        raise InputError(f"its {what} '{name}' must be a constant in the file, but is computed" if name else
                         f"it has no {what}")  # fmt: skip

    def _numbers(self, node: Node, number: int, what: str) -> list[int]:
        """Whole numbers that the file holds."""
        return [int(one) for one in self._constant(node, number, what).finite().ravel()]

    def _axes(self, node: Node) -> list[int]:
        """Axes, which older files have as an attribute."""
        return list(node.attributes["axes"]) if "axes" in node.attributes else self._numbers(node, 1, "axes")

    def same(self, node: Node) -> Tensor:
        """Nodes that change nothing where no training goes on."""
        return self._tensor(node)

    def shape(self, node: Node) -> Constant:
        """The sizes of a tensor."""
        sizes = (self.graph.batch, *self._tensor(node).shape[1:])
        return Constant(node.outputs[0], np.array(sizes, np.int64)[node.attributes.get("start", 0) :])

    def quantise(self, node: Node) -> Tensor:
        """Codes of real numbers."""
        tensor, quantiser = self._tensor(node), self._quantiser(node)
        if tensor is self.start and self.awaits_scale:
            if quantiser.is_signed or quantiser.bits != 8 or quantiser.is_narrow:
                raise InputError("it takes the graph's input, but has not the 256 codes of pixels: say what "
                                 "the graph's input is for a pixel of 1, by input_scale")  # fmt: skip
            tensor = replace(tensor, scale=np.array(quantiser.scale))
        return tensor.quantised(quantiser)

    def _quantiser(self, node: Node) -> Quantiser:
        scale = self._constant(node, 1, "scale").single("scale")
        if scale <= 0:
            raise InputError(f"its scale must be positive, got {scale:g}")
        if node.op == "BipolarQuant":
            return Quantiser(1, scale, True, False, True)
        zero = self._constant(node, 2, "zero point").single("zero point")
        if zero != 0:
            raise InputError(
                f"its zero point must be 0, got {zero:g}: quantise symmetrically, or without a sign after a Relu"
            )
        bits, is_signed, is_narrow = _bits(node, self._constant(node, 3, "bit width"))
        _rounding(node, ("ROUND", "HALF_EVEN"))
        if bits > 8:
            raise InputError(f"activations have 1 to 8 bits, got {bits}")
        if is_narrow and not is_signed:
            raise InputError("a narrow range needs a sign: export it with narrow = 0")
        return Quantiser(bits, scale, is_signed, is_narrow, is_signed and bits == 1)

    def convolve(self, node: Node) -> Tensor:
        """Sums of products with filters."""
        tensor, (weights, scales) = self._tensor(node), self._weights(node)
        layer, scale, offset = tensor.codes()
        if weights.ndim != 4 or len(layer.shape) != 3:
            raise ShapeError(f"images and filters have two axes to move along, got filters of {weights.shape} on "
                             f"{tensor.shape}")  # fmt: skip
        _require_channels_first(tensor)
        padding = _explicit_padding(node)
        if offset and any(padding):
            raise InputError(f"a code of 0 stands for {offset:g}, not for the 0 with which it pads: shift "
                             f"the input so that a pixel of 0 is 0, or do not pad")  # fmt: skip
        made = Conv2d(
            layer,
            filters := weights.transpose(0, 2, 3, 1),
            narrowest(weights),
            _pair(node, "strides"),
            padding,
            _pair(node, "dilations"),
            node.attributes.get("group", 1),
        )
        return self._product(node, made, scale * scales, offset * scales * filters.sum((1, 2, 3)))

    def multiply(self, node: Node) -> Tensor:
        """Sums of products with rows, or with columns, of a matrix."""
        tensor, (weights, scales) = self._tensor(node), self._weights(node)
        layer, scale, offset = tensor.codes()
        factor = float(node.attributes.get("alpha", 1.0))
        if node.attributes.get("transA", 0):
            raise InputError("its input must not be transposed: transA = 0")
        if len(tensor.shape) != 2 or weights.ndim != 2 or weights.shape[1] != tensor.shape[1]:
            raise ShapeError(f"weights of {weights.shape} (outputs, features) do not fit inputs of "
                             f"{tensor.shape}: flatten images")  # fmt: skip
        if tensor.is_flat:
            height, width, channels = layer.shape
            if not tensor.has_channels_last:
                weights = weights.reshape(-1, channels, height, width).transpose(0, 2, 3, 1).reshape(len(weights), -1)
            layer = Flatten(layer)
        made = Linear(layer, weights, narrowest(weights))
        scales = factor * scales
        return self._product(node, made, scale * scales, offset * scales * weights.sum(1))

    def _product(self, node: Node, layer: Layer, scale: np.ndarray, offset: np.ndarray) -> Tensor:
        """Sums of a layer, with the bias of the node."""
        tensor = Tensor(layer, ONE, ZERO).times_plus(scale, offset)
        if len(node.inputs) < 3 or not node.inputs[2]:
            return tensor
        bias = self._constant(node, 2, "bias")
        if node.op == "Conv":
            bias = _across(bias, tensor)
        return tensor.times_plus(ONE, float(node.attributes.get("beta", 1.0)) * tensor.by_channel(bias))

    def _weights(self, node: Node) -> tuple[np.ndarray, np.ndarray]:
        """Whole numbers, outputs first, and a scale for each output."""
        constant = self._constant(node, 1, "weights")
        value = constant.finite()
        if value.ndim < 2 or not value.size:
            raise ShapeError(f"its weights '{constant.name}' must be a matrix or filters, got the shape {value.shape}")
        codes, scale = constant.codes, constant.scale
        if codes is None or scale is None:
            if (value != np.rint(value)).any():
                raise InputError(
                    f"its weights '{constant.name}' are real numbers: quantise them (Quant or BipolarQuant)"
                )
            codes, scale = value.astype(np.int64), np.ones(value.shape)
        if node.op == "MatMul" or (node.op == "Gemm" and not node.attributes.get("transB", 0)):
            codes, scale = codes.T, scale.T
        by_output = scale.reshape(len(scale), -1)
        if (by_output != by_output[:, :1]).any():
            raise InputError(f"scales of its weights '{constant.name}' differ within an output channel, "
                             f"which cannot be folded: use one a tensor or one an output channel")  # fmt: skip
        return codes, by_output[:, 0]

    def normalise(self, node: Node) -> Tensor:
        """gamma · (x − mean)/√(variance + epsilon) + beta"""
        tensor = self._tensor(node)
        _require_channels_first(tensor)
        if node.attributes.get("training_mode", 0):
            raise InputError("it is in training mode: export the network in eval mode")

        def parameter(number: int, what: str) -> np.ndarray:
            return tensor.by_channel(_across(self._constant(node, number, what), tensor))

        gamma, beta, mean, variance = map(parameter, range(1, 5), ("scale", "bias", "mean", "variance"))
        if (variance + node.attributes.get("epsilon", 1e-5) <= 0).any():
            raise InputError(f"its variance '{node.inputs[4]}' must be positive")
        factor = gamma / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
        return tensor.times_plus(factor, beta - mean * factor)

    def cut(self, node: Node) -> Tensor:
        """Numbers from 0 on."""
        tensor = self._tensor(node)
        codes = tensor.layer.codes
        is_never_below = (
            codes is not None and codes.minimum >= 0 and (tensor.scale > 0).all() and (tensor.offset >= 0).all()
        )
        return tensor if is_never_below else replace(tensor, is_cut_at_zero=True)

    def add(self, node: Node) -> Tensor:
        """A sum with a constant, or of two tensors."""
        values = [self.values.get(name) for name in node.inputs]
        tensors = [value for value in values if isinstance(value, Tensor)]
        if len(tensors) == 1:
            tensor, constant = self._with_constant(node)
            return tensor.times_plus(ONE, constant)
        left, right = tensors
        if left.shape != right.shape or (left.image, left.is_flat) != (right.image, right.is_flat):
            raise ShapeError(f"both sides must have the same shape, got {left.shape} and {right.shape}")
        if left.has_channels_last != right.has_channels_last and math.prod(left.image[:-1]) > 1:
            raise ShapeError("one side has its channels first and the other last: transpose one of them before")
        if not left.is_like(right):
            left, right = left.with_numbers(), right.with_numbers()
        return replace(left, layer=layers.Add(as_sums(left.layer), as_sums(right.layer)))

    def subtract(self, node: Node) -> Tensor:
        """A difference to a constant."""
        tensor, constant = self._with_constant(node)
        is_first = self.values.get(node.inputs[0]) is tensor
        return tensor.times_plus(ONE if is_first else -ONE, -constant if is_first else constant)

    def scale(self, node: Node) -> Tensor:
        """A product with a constant."""
        tensor, constant = self._with_constant(node)
        return tensor.times_plus(constant, ZERO)

    def divide(self, node: Node) -> Tensor:
        """A quotient by a constant."""
        tensor = self._tensor(node)
        constant = tensor.by_channel(self._constant(node, 1, "divisor"))
        if (constant == 0).any():
            raise InputError(f"its divisor '{node.inputs[1]}' is 0")
        return tensor.times_plus(1 / constant, ZERO)

    def _with_constant(self, node: Node) -> tuple[Tensor, np.ndarray]:
        """The tensor and the constant that a node joins, in either order."""
        number = 0 if isinstance(self.values.get(node.inputs[0]), Tensor) else 1
        tensor = self._tensor(node, number)
        return tensor, tensor.by_channel(self._constant(node, 1 - number, "other side"))

    def take_largest(self, node: Node) -> Tensor:
        """The largest numbers that windows see."""
        tensor = self._tensor(node)
        _require_images(tensor)
        if any(step != 1 for step in node.attributes.get("dilations", ())):
            raise InputError("its window has dilations: only dense windows are known")
        pool = Pool(_pair(node, "kernel_shape"), _pair(node, "strides"), _explicit_padding(node))
        _require_whole(node, pool, tensor.image)
        if tensor.layer.codes is not None and not tensor.is_pending and tensor.scale.ndim == 0 and tensor.scale > 0:
            return replace(tensor, layer=pool.largest(tensor.layer))
        pool.largest(Input((*tensor.image,)))  # which refuses windows that do not fit
        return replace(tensor, pools=(*tensor.pools, pool))

    def average(self, node: Node) -> Tensor:
        """The mean numbers that windows see."""
        tensor = self._tensor(node)
        _require_images(tensor)
        pool = Pool(_pair(node, "kernel_shape"), _pair(node, "strides"), _explicit_padding(node))
        if any(pool.padding):
            raise InputError("an average with padding is not known: average without it")
        _require_whole(node, pool, tensor.image)
        return _averaged(tensor, pool)

    def average_all(self, node: Node) -> Tensor:
        """The mean numbers of whole images."""
        tensor = self._tensor(node)
        _require_images(tensor)
        height, width, _ = tensor.image
        is_flat = False
        if node.op == "ReduceMean":
            if sorted(axis % 4 for axis in self._axes(node)) != [2, 3]:
                raise InputError(
                    f"only means over the places of an image are known (axes 2 and 3), got {self._axes(node)}"
                )
            is_flat = not node.attributes.get("keepdims", 1)
        return replace(_averaged(tensor, Pool((height, width), (height, width), (0, 0, 0, 0))), is_flat=is_flat)

    def flatten(self, node: Node) -> Tensor:
        """Images as vectors."""
        tensor = self._tensor(node)
        if node.attributes.get("axis", 1) % len(tensor.shape) != 1:
            raise InputError(
                f"only all that is not the batch can be made flat (axis = 1), got {node.attributes['axis']}"
            )
        return _flat(tensor)

    def reshape(self, node: Node) -> Tensor:
        """Images as vectors, in other words."""
        tensor = self._tensor(node)
        if node.op == "Reshape":
            asked = self._numbers(node, 1, "shape")
        else:  # Squeeze
            out = {axis % len(tensor.shape) for axis in self._axes(node)}
            asked = [size for axis, size in enumerate(tensor.shape) if axis not in out]
        sizes = list(asked)
        if sizes and sizes[0] in (0, self.graph.batch):
            sizes[0] = 1
        if sizes.count(-1) == 1:
            known = math.prod(size for size in sizes if size != -1)
            sizes[sizes.index(-1)] = math.prod(tensor.shape) // max(1, known)
        if tuple(sizes) == tensor.shape:
            return tensor
        if sizes != [1, math.prod(tensor.shape)]:
            raise InputError(f"{tensor.shape} can become (batch, {math.prod(tensor.shape)}) only, got {asked}")
        return _flat(tensor)

    def transpose(self, node: Node) -> Tensor:
        """Images with channels last as images with channels first, or back."""
        tensor = self._tensor(node)
        axes = tuple(node.attributes.get("perm", range(len(tensor.shape))[::-1]))
        if axes == tuple(range(len(tensor.shape))):
            return tensor
        if len(tensor.shape) != 4 or axes != (_TO_FIRST if tensor.has_channels_last else _TO_LAST):
            raise InputError(
                f"only channels can be moved, to the front or to the end, got the axes {axes} of {tensor.shape}"
            )
        return replace(tensor, has_channels_last=not tensor.has_channels_last)


_HANDLERS: Mapping[str, Callable[[_Walk, Node], _Value]] = MappingProxyType(
    {
        "Quant": _Walk.quantise,
        "IntQuant": _Walk.quantise,
        "BipolarQuant": _Walk.quantise,
        "Conv": _Walk.convolve,
        "Gemm": _Walk.multiply,
        "MatMul": _Walk.multiply,
        "BatchNormalization": _Walk.normalise,
        "Relu": _Walk.cut,
        "Add": _Walk.add,
        "Sub": _Walk.subtract,
        "Mul": _Walk.scale,
        "Div": _Walk.divide,
        "MaxPool": _Walk.take_largest,
        "AveragePool": _Walk.average,
        "GlobalAveragePool": _Walk.average_all,
        "ReduceMean": _Walk.average_all,
        "Flatten": _Walk.flatten,
        "Reshape": _Walk.reshape,
        "Squeeze": _Walk.reshape,
        "Transpose": _Walk.transpose,
        "Shape": _Walk.shape,
        **dict.fromkeys(("Identity", "Dropout", "Cast"), _Walk.same),
    }
)
_ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "Identity", "Dropout", "Cast", *_QUANTISERS)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and math.isfinite(value)


def _fits(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether an array of a shape meets each number of one of another shape, without more of them being made."""
    try:
        return np.broadcast_shapes(shape, whole) == whole
    except ValueError:
        return False


def _quantised(node: Node, inputs: list[Constant]) -> Constant:
    """Weights as a quantiser has them, rounded in the file's own type, as QONNX's executor does it."""
    given, scale = inputs[:2]
    for other in inputs[1:3]:
        if not _fits(other.value.shape, given.value.shape):
            raise ShapeError(f"'{other.name}' of shape {other.value.shape} does not fit {given.value.shape}")
    if (scale.finite() <= 0).any():
        raise InputError(f"its scale '{scale.name}' must be positive")
    given.finite()
    if node.op == "BipolarQuant":
        codes = np.where(given.value >= 0, 1, -1)
    else:
        zero = inputs[2].finite()
        bits, is_signed, is_narrow = _bits(node, inputs[3])
        if (zero != np.rint(zero)).any():
            raise InputError(f"its zero point '{inputs[2].name}' must be whole")
        shifted = given.value / scale.value + inputs[2].value
        if is_signed and bits == 1:
            codes = np.where(shifted >= 0, 1, -1)
        else:
            rounding = _rounding(node, tuple(_ROUNDINGS))
            codes = rounding(np.clip(shifted, *code_range(bits, is_signed, is_narrow))).astype(np.int64)
        codes = codes - zero.astype(np.int64)
    scales = np.broadcast_to(scale.value.astype(np.float64), codes.shape)
    return Constant(node.outputs[0], codes * scales, codes, scales)


def _across(constant: Constant, tensor: Tensor) -> Constant:
    """A constant of one number a channel, shaped to meet a tensor with channels first."""
    return replace(constant, value=constant.value.reshape(-1, *[1] * (len(tensor.shape) - 2)))


def _averaged(tensor: Tensor, pool: Pool) -> Tensor:
    start = tensor.with_numbers() if tensor.is_pending else tensor
    return replace(start, layer=layers.AvgPool2d(as_sums(start.layer), pool.size, pool.stride))


def _flat(tensor: Tensor) -> Tensor:
    return tensor if len(tensor.image) == 1 else replace(tensor, is_flat=True)


def _require_images(tensor: Tensor) -> None:
    if len(tensor.shape) != 4:
        raise ShapeError(f"it needs images, got {tensor.shape}")
    _require_channels_first(tensor)


def _require_channels_first(tensor: Tensor) -> None:
    if len(tensor.shape) == 4 and tensor.has_channels_last:
        raise ShapeError(f"it needs images with channels first, got {tensor.shape}: transpose them")


def _require_whole(node: Node, pool: Pool, image: tuple[int, ...]) -> None:
    """Refuse windows that reach past the image where ceil_mode lets them."""
    window = pool.window(image)
    is_whole = all((a.size + a.before + a.after - a.reach) % a.stride == 0 for a in (window.rows, window.columns))
    if node.attributes.get("ceil_mode", 0) and not is_whole:
        raise InputError("its last window reaches past the image (ceil_mode): pad the image instead")


def _explicit_padding(node: Node) -> tuple[int, int, int, int]:
    """Top, left, bottom, right."""
    if node.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise InputError(f"its padding must be given in numbers, got auto_pad = {node.attributes['auto_pad']}")
    padding = tuple(node.attributes.get("pads", (0, 0, 0, 0)))
    if len(padding) != 4 or min(padding) < 0:
        raise ShapeError(f"its pads must be four numbers from 0 on, for images, got {padding}")
    return padding


def _pair(node: Node, name: str) -> tuple[int, int]:
    pair = tuple(node.attributes.get(name, (1, 1)))
    if len(pair) != 2 or min(pair) < 1:
        raise ShapeError(f"its {name} must be two numbers from 1 on, for images, got {pair}")
    return pair


def _bits(node: Node, width: Constant) -> tuple[int, bool, bool]:
    """The bits of a quantiser, and whether it has a sign and a narrow range."""
    bits = width.single("bit width")
    if bits != int(bits) or bits < 1:
        raise InputError(f"its bit width must be a whole number from 1 on, got {bits:g}")
    return int(bits), bool(node.attributes.get("signed", 1)), bool(node.attributes.get("narrow", 0))


def _rounding(node: Node, known: tuple[str, ...]) -> Callable[..., np.ndarray]:
    mode = str(node.attributes.get("rounding_mode", "ROUND")).upper()
    if mode not in known:
        raise InputError(f"its rounding mode must be one of {', '.join(known)}, got {mode}")
    return _ROUNDINGS[mode]


def _domains(node: Node) -> tuple[str, ...]:
    """Those that a node of a known name is from, new and old ones."""
    if node.op in _QUANTISERS:
        return ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
    return ("", "ai.onnx")
