"""QONNX files as networks: every kind of node against QONNX's own executor, real networks, and every refusal.

Where scales are powers of two, as in most graphs here, the executor's float32 is exact, and so must be the result.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from qonnx_graphs import NETWORKS, executed, graph, stored_logits
from stored_networks import DEMO, held_out, record

from bitmlir import nn
from bitmlir.dialects.errors import EncodingError, InputError, ShapeError

_RNG = np.random.default_rng(7)


def _real(*shape: int) -> np.ndarray:
    return _RNG.normal(size=shape)


def _powers(*shape: int) -> np.ndarray:
    """Powers of two of both signs, so that float32 is exact."""
    return _RNG.choice([-0.5, -0.25, 0.25, 0.5, 1], shape)


U2 = '<signed=0, narrow=0, rounding_mode="ROUND">'
I4 = '<signed=1, narrow=1, rounding_mode="ROUND">'
A: dict[str, Any] = {  # of most graphs: filters and rows, scales, a bias
    "a": _real(4, 2, 3, 3),
    "b": _real(3, 120),
    "c": _real(4, 4, 3, 3),
    "s": 0.5,
    "t": 8.0,
    "bias": _powers(4),
    "last": _powers(3),
}
CONV = "wa = BipolarQuant(a, s) conv = Conv<pads=[1,1,1,1]>(x, wa) "  # 2 channels of 6 × 5 to 4
CODES = f"{CONV} codes = Quant{U2}(conv, t, zero, bits2) "
END = "flat = Flatten(codes) wb = BipolarQuant(b, s) y = Gemm<transB=1>(flat, wb, last)"


def _flat(inputs: int = 120, outputs: int = 3) -> dict[str, Any]:
    return {"b": _real(outputs, inputs)}


GRAPHS: dict[str, onnx.ModelProto] = {
    "bias, flatten, gemm": graph(
        f"wa = BipolarQuant(a, s) conv = Conv<pads=[1,1,1,1]>(x, wa, bias) codes = Quant{U2}(conv, t, zero, "
        f"bits2) {END}",
        **A,
    ),
    "bipolar codes": graph(f"{CONV} codes = BipolarQuant(conv, t) {END}", **A),
    "strides, dilations, uneven padding": graph(
        f"wa = BipolarQuant(a, s) conv = Conv<pads=[2,1,0,3], strides=[2,1], dilations=[1,2]>(x, wa) "
        f"codes = Quant{U2}(conv, t, zero, bits2) {END}",
        **{**A, **_flat(4 * 3 * 5)},
    ),
    "groups": graph(
        f"{CODES} wg = Quant{I4}(g, s, zero, bits4) conv2 = Conv<pads=[1,1,1,1], group=2>(codes, wg, more) "
        f"codes2 = BipolarQuant(conv2, t) wd = BipolarQuant(d, each) "
        f"depthwise = Conv<strides=[2,2], group=6>(codes2, wd) y = Identity(depthwise)",
        rank=4,
        **{
            **A,
            "g": _real(6, 2, 3, 3),
            "more": _powers(6),
            "d": _real(12, 1, 2, 3),
            "each": np.tile([0.5, 2, 1], 4).reshape(12, 1, 1, 1),
        },
    ),
    "a second convolution": graph(
        f"{CODES} wc = Quant{I4}(c, s, zero, bits4) conv2 = Conv<pads=[1,1,1,1]>(codes, wc, bias) y = Identity(conv2)",
        rank=4,
        **A,
    ),
    "a scale for each output channel": graph(
        f"wa = BipolarQuant(a, each) conv = Conv<pads=[1,1,1,1]>(x, wa) codes = Quant{U2}(conv, t, zero, bits2) "
        f"flat = Flatten(codes) wb = Quant{I4}(b, rows, zero, bits3) y = Gemm<transB=1, alpha=0.5, "
        f"beta=2.0>(flat, wb, last)",
        **{**A, "each": np.array([0.5, 2, 1, 4]).reshape(4, 1, 1, 1), "rows": [[0.5], [0.25], [1]]},
    ),
    "a matrix as it is": graph(
        f"{CODES} flat = Flatten(codes) wb = BipolarQuant(d, s) product = MatMul(flat, wb) y = Add(last, product)",
        **{**A, "d": _real(120, 3), "last": _powers(1, 3)},
    ),
    "a matrix that is transposed": graph(
        f"{CODES} flat = Flatten(codes) wb = Quant{I4}(b, rows, zero, bits4) turned = Transpose<perm=[1,0]>(wb) "
        f"y = MatMul(flat, turned)",
        **{**A, "rows": [[0.5], [0.25], [1]]},
    ),
    "a gemm of rows": graph(
        f"{CODES} flat = Flatten(codes) wb = BipolarQuant(d, s) y = Gemm(flat, wb)", **{**A, "d": _real(120, 3)}
    ),
    "whole numbers as weights": graph(
        f"conv = Conv<pads=[1,1,1,1]>(x, a) codes = Quant{U2}(conv, t, zero, bits2) {END}",
        **{**A, "a": _RNG.integers(-1, 2, (4, 2, 3, 3)).astype(np.float32)},
    ),
    "weights with a zero point": graph(
        f'wa = Quant<signed=0, narrow=0, rounding_mode="ROUND">(a, s, three, bits3) conv = Conv<pads=[1,1,1,1]>(x, wa) '
        f"codes = Quant{U2}(conv, t, zero, bits2) {END}",
        **{**A, "three": 3.0},
    ),
    "weights of 8 bits, cut off downwards": graph(
        f'wa = Quant<signed=1, narrow=0, rounding_mode="FLOOR">(a, tiny, zero, bits8) '
        f"conv = Conv<pads=[1,1,1,1]>(x, wa) "
        f"codes = Quant{U2}(conv, t, zero, bits2) {END}",
        **{**A, "tiny": 1 / 64},
    ),
    "one bit with a sign": graph(
        f"wa = Quant{I4}(a, s, zero, bits1) conv = Conv<pads=[1,1,1,1]>(x, wa) "
        f"codes = Quant{I4}(conv, t, zero, bits1) {END}",
        **A,
    ),
    "arithmetic by channel": graph(
        f"{CONV} m = Mul(conv, k) p = Add(p1, m) d = Div(p, four) n = Sub(minus, d) codes = Quant{U2}(n, s, "
        f"zero, bits2) {END}",
        **{**A, "k": _powers(4, 1, 1), "p1": _powers(1, 4, 1, 1), "four": [4.0], "minus": _powers(4, 1, 1)},
    ),
    "cut at zero": graph(f"{CONV} r = Relu(conv) m = Mul(r, s) codes = Quant{U2}(m, t, zero, bits2) {END}", **A),
    "relu of codes, nothing to cut": graph(
        f"{CODES} r = Relu(codes) flat = Flatten(r) wb = BipolarQuant(b, s) y = Gemm<transB=1>(flat, wb)", **A
    ),
    "pooled codes": graph(
        f"{CODES} pool = MaxPool<kernel_shape=[2,3], strides=[2,1], pads=[0,1,0,1]>(codes) flat = Flatten(pool) "
        f"wb = BipolarQuant(b, s) y = Gemm<transB=1>(flat, wb)",
        **{**A, **_flat(4 * 3 * 5)},
    ),
    "pooled sums": graph(
        f"{CONV} pool = MaxPool<kernel_shape=[2,2]>(conv) r = Mul(pool, s) pool2 = "
        f"MaxPool<kernel_shape=[3,2], strides=[2,2]>(r) "
        f"m = Add(pool2, less) codes = BipolarQuant(m, s) flat = Flatten(codes) wb = BipolarQuant(b, s) "
        f"y = Gemm<transB=1>(flat, wb)",
        **{**A, **_flat(16), "less": -200.0},
    ),
    "pooled sums, cut": graph(
        f"{CONV} r = Relu(conv) pool = MaxPool<kernel_shape=[2,2]>(r) codes = Quant{U2}(pool, t, zero, bits2) "
        f"flat = Flatten(codes) wb = BipolarQuant(b, s) y = Gemm<transB=1>(flat, wb)",
        **{**A, **_flat(80)},
    ),
    "flat before they are quantised": graph(
        f"{CONV} flat = Reshape(conv, sizes) m = Mul(flat, per) codes = Quant{U2}(m, t, zero, bits2) wb = "
        f"BipolarQuant(b, s) "
        f"y = Gemm<transB=1>(codes, wb)",
        **{**A, "sizes": np.array([1, -1]), "per": np.repeat(_powers(4), 30)},
    ),
    "a shape that is computed": graph(
        f"{CODES} sizes = Shape(codes) n = Gather(sizes, first) n1 = Unsqueeze(n, axis) minus = "
        f"Constant<value_ints=[-1]>() "
        f"asked = Concat<axis=0>(n1, minus) flat = Reshape(codes, asked) wb = BipolarQuant(b, s) y = "
        f"Gemm<transB=1>(flat, wb)",
        **{**A, "first": np.array(0), "axis": np.array([0])},
    ),
    "an older opset": graph(
        f"{CODES} n = Constant<value=int64[1] {{1}}>() n1 = Unsqueeze<axes=[0]>(n) n2 = Squeeze<axes=[0]>(n1) "
        f"minus = Constant<value=int64[1] {{-1}}>() asked = Concat<axis=0>(n2, minus) flat = Reshape(codes, asked) "
        f"wb = BipolarQuant(b, s) y = Gemm<transB=1>(flat, wb)",
        opset=11,
        **A,
    ),
    "what changes nothing": graph(
        f"d = Dropout(x) i = Identity(d) f = Cast<to=1>(i) wa = BipolarQuant(a, s) conv = Conv<pads=[1,1,1,1]>(f, wa) "
        f"one = Quant{U2}(conv, t, zero, bits2) codes = Quant{U2}(one, t, zero, bits3) {END}",
        **A,
    ),
    "codes that are quantised anew": graph(
        f'{CONV} one = Quant<signed=0, narrow=0, rounding_mode="ROUND">(conv, t, zero, bits3) m = Mul(one, minus) '
        f"p = Add(m, fifty) codes = Quant{U2}(p, t, zero, bits2) {END}",
        **{**A, "minus": -0.5, "fifty": 24.0},
    ),
    "codes in the end": graph(
        f"{CODES} flat = Flatten(codes) wb = BipolarQuant(b, s) g = Gemm<transB=1>(flat, wb) y = "
        f"Quant{U2}(g, t, zero, bits2)",
        **A,
    ),
    "codes of 1 in the end": graph(
        f"{CODES} flat = Flatten(codes) wb = BipolarQuant(b, s) g = Gemm<transB=1>(flat, wb) y = BipolarQuant(g, one)",
        **{**A, "one": 1.0},
    ),
    "one place, flat in the end": graph(
        f"{CODES} wc = BipolarQuant(whole, s) conv2 = Conv(codes, wc) y = Squeeze(conv2, axes)",
        **{**A, "whole": _real(7, 4, 6, 5), "axes": np.array([2, 3])},
    ),
    "other names of domains": graph(
        f"wa = onnx.brevitas.BipolarQuant(a, s) conv = Conv<pads=[1,1,1,1]>(x, wa) "
        f"codes = IntQuant{U2}(conv, t, zero, bits2) {END}",
        **A,
    ),
    "pixels of the first quantiser": graph(
        f"q = Quant{U2}(x, t, zero, bits8) wa = BipolarQuant(a, s) conv = Conv<pads=[1,1,1,1]>(q, wa) "
        f"codes = Quant{U2}(conv, big, zero, bits2) {END}",
        **{**A, "big": 128.0},
    ),
    "pixels made fewer": graph(
        f"d = Div(x, k) q = Quant{U2}(d, s, zero, bits2) wa = BipolarQuant(a, s) conv = Conv<pads=[1,1,1,1]>(q, wa) "
        f"codes = Quant{U2}(conv, s, zero, bits2) {END}",
        **{**A, "k": 128.0},
    ),
    "pixels made signs": graph(
        f"d = Sub(x, k) q = BipolarQuant(d, s) wa = BipolarQuant(a, s) conv = Conv<pads=[1,1,1,1]>(q, wa) "
        f"codes = Quant{U2}(conv, s, zero, bits2) {END}",
        **{**A, "k": 100.0},
    ),
    "pixels moved, without padding": graph(
        f"d = Div(x, k) m = Sub(d, half) wa = BipolarQuant(a, s) conv = Conv(m, wa) codes = Quant{U2}(conv, "
        f"s, zero, bits2) {END}",
        **{**A, "k": 128.0, "half": 0.5, **_flat(48)},
    ),
    "channels last": graph(
        f"d = Div(x, k) turned = Transpose<perm=[0,3,1,2]>(d) wa = BipolarQuant(a, s) conv = "
        f"Conv<pads=[1,1,1,1]>(turned, wa) "
        f"codes = Quant{U2}(conv, s, zero, bits2) {END}",
        (1, 6, 5, 2),
        **{**A, "k": 16.0},
    ),
    "channels last, flat": graph(
        f"{CODES} turned = Transpose<perm=[0,2,3,1]>(codes) m = Mul(turned, s) flat = Flatten(m) wb = "
        f"BipolarQuant(b, s) "
        f"y = Gemm<transB=1>(flat, wb)",
        **A,
    ),
    "vectors": graph(
        "wa = BipolarQuant(a, s) g = Gemm<transB=1>(x, wa, bias) codes = BipolarQuant(g, s) "
        f"wb = Quant{I4}(b, s, zero, bits2) y = Gemm<transB=1>(codes, wb)",
        (1, 33),
        a=_real(17, 33),
        b=_real(5, 17),
        s=0.5,
        bias=_powers(17),
    ),
    "vectors made signs": graph(
        "d = Sub(x, k) q = BipolarQuant(d, s) wa = BipolarQuant(a, s) y = Gemm<transB=1>(q, wa)",
        (1, 33),
        a=_real(17, 33),
        s=0.5,
        k=_RNG.integers(0, 255, 33).astype(np.float32),
    ),
}


def _images(model: onnx.ModelProto, batch: int = 3) -> np.ndarray:
    """Pixels as the graph takes them."""
    sizes = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    images = np.random.default_rng(3).integers(0, 256, (batch, *sizes), dtype=np.uint8)
    images.flat[:4] = (0, 255, 128, 127)
    return images


def _computed(layer: nn.Layer, images: np.ndarray) -> np.ndarray:
    """What the compiled network makes of pixels."""
    from bitmlir.formats.packed import Packed, unpack

    model = nn.compile(layer, batch=len(images), target="cpu")
    result = model(images)
    return unpack(result) if isinstance(result, Packed) else result


def _as_ours(images: np.ndarray, layer: nn.Layer) -> np.ndarray:
    """The same images, with channels last."""
    while not isinstance(layer, nn.Input):
        layer = layer.sources[0] if hasattr(layer, "sources") else layer.source
    return images if images.shape[1:] == layer.shape else np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def _as_theirs(result: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The same numbers, with channels first; vectors that had places are none any more."""
    return (result.transpose(0, 3, 1, 2) if like.ndim == 4 else result).reshape(like.shape)


@pytest.mark.parametrize("name", GRAPHS)
def test_results_are_those_of_the_executor(name: str) -> None:
    model = GRAPHS[name]
    images = _images(model)
    layer = nn.from_qonnx(model)
    taken = images * 8.0 if name == "pixels of the first quantiser" else images
    expected = executed(model, taken)
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(_as_theirs(_computed(layer, _as_ours(images, layer)), expected), expected)


@pytest.mark.parametrize(
    "name", ["bias, flatten, gemm", "a shape that is computed", "a matrix that is transposed", "vectors"]
)
def test_a_cleaned_file_is_the_same_network(name: str, tmp_path: Path) -> None:
    from qonnx.util.cleanup import cleanup

    path, clean = tmp_path / "network.onnx", tmp_path / "clean.onnx"
    onnx.save(GRAPHS[name], path)
    cleanup(str(path), out_file=str(clean))
    first, second = nn.from_qonnx(path), nn.from_qonnx(str(clean))
    images = _as_ours(_images(GRAPHS[name]), first)
    np.testing.assert_array_equal(_computed(first, images), _computed(second, images))


def test_what_the_input_is_for_a_pixel_can_be_said() -> None:
    model = graph(
        f"wa = BipolarQuant(a, s) conv = Conv(x, wa) codes = Quant{U2}(conv, s, zero, bits2) {END}",
        **{**A, **_flat(48)},
    )
    images = _images(model)
    layer = nn.from_qonnx(model, input_scale=1 / 128, input_offset=-1)
    expected = executed(model, images / 128 - 1)
    np.testing.assert_array_equal(_as_theirs(_computed(layer, _as_ours(images, layer)), expected), expected)


def test_a_batch_norm_is_folded() -> None:
    gamma, beta, mean, variance = _real(4), _real(4) * 10, _real(4) * 50, np.abs(_real(4)) * 1000
    model = graph(
        f"{CONV} norm = BatchNormalization<epsilon=0.125>(conv, gamma, beta, mean, variance) "
        f"codes = Quant{U2}(norm, t, zero, bits2) {END}",
        **{**A, "gamma": gamma, "beta": beta, "mean": mean, "variance": variance},
    )
    images = _images(model, 8)
    layer = nn.from_qonnx(model)
    expected = executed(model, images)
    assert len(np.unique(expected)) > 8
    np.testing.assert_allclose(_as_theirs(_computed(layer, _as_ours(images, layer)), expected), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("weights", "encoding"),
    [
        ([[1, -1], [1, 1]], "bipolar"),
        ([[1, 0], [1, 1]], "u1"),
        ([[0, 0], [0, 0]], "u1"),
        ([[1, 0], [-1, 1]], "ternary"),
        ([[-2, 1], [0, 1]], "i2"),
        ([[3, 2], [0, 1]], "u2"),
        ([[3, 1], [-1, -3]], "bipolar2"),
        ([[3, 1], [-1, -2]], "i3"),
        ([[7, 1], [-1, -5]], "bipolar3"),
        ([[128, 0], [0, 0]], "u8"),
        ([[-128, 0], [0, 127]], "i8"),
        ([[-255, 1], [1, 255]], "bipolar8"),
    ],
)
def test_weights_get_the_narrowest_encoding(weights: list[list[int]], encoding: str) -> None:
    layer = nn.from_qonnx(graph("y = Gemm(x, w)", (1, 2), w=np.array(weights, np.float32)))
    assert isinstance(layer, nn.Linear)
    assert str(layer.encoding) == encoding
    np.testing.assert_array_equal(layer.weights, np.transpose(weights))


def test_a_sum_on_a_threshold_is_rounded_to_the_even_code() -> None:
    """Exactly where float32, which cannot hold these scales, need not."""
    tenth = np.float32(0.1)
    model = graph(f"w1 = Quant{I4}(w, tenth, zero, bits2) g = Gemm(x, w1) y = Quant{U2}(g, fifth, zero, bits2)", (1, 1),
                  w=[[tenth]], tenth=tenth, fifth=tenth * np.float32(2))  # fmt: skip
    layer = nn.from_qonnx(model)
    pixels = np.arange(7, dtype=np.uint8)[:, None]
    scale = float(tenth * np.float32(2))
    np.testing.assert_allclose(_computed(layer, pixels)[:, 0], np.array([0, 0, 1, 2, 2, 2, 3]) * scale, rtol=1e-6)


REFUSED: dict[str, tuple[type[Exception], str, str, dict[str, Any]]] = {
    "unknown nodes, all of them": (
        InputError,
        r"nodes that have no layer: node 3 of 4, Sigmoid 'h': quantise without it, or after a Relu; "
        r"node 4 of 4, Frobnicate 'y'\. Those that have one are Add, ",
        "wa = BipolarQuant(a, s) conv = Conv(x, wa) h = Sigmoid(conv) y = onnx.brevitas.Frobnicate(h)",
        {},
    ),
    "a known name of another domain": (
        InputError,
        "node 1 of 1, Relu 'y'",
        "y = onnx.brevitas.Relu(x)",
        {},
    ),
    "a softmax": (InputError, "Softmax 'y': end the network at its logits", f"{CONV} y = Softmax(conv)", {}),
    "real weights": (
        InputError,
        r"node 1 of 1, Conv 'y': its weights 'a' are real numbers: quantise them",
        "y = Conv(x, a)",
        {},
    ),
    "weights of nine bits": (
        EncodingError,
        r"node 2 of 2, Conv 'y': its weights go from -256 to 3, which 8 bits do not hold",
        f"wa = Quant{I4}(a, s, zero, bits9) y = Conv(x, wa)".replace("narrow=1", "narrow=0"),
        {"a": np.concatenate((np.full((1, 2, 3, 3), -900.0), np.full((1, 2, 3, 3), 1.5)))},
    ),
    "weights that are computed": (
        InputError,
        r"node 2 of 2, MatMul 'y': its weights 'm' '?.*must be a constant in the file",
        "m = Relu(x) y = MatMul(x, m)",
        {"shape": (1, 2)},
    ),
    "a constant times the tensor": (
        InputError,
        "node 1 of 1, MatMul 'y': its input 'w' must be what another node computes",
        "y = MatMul(w, x)",
        {"shape": (2, 1), "w": np.ones((1, 2))},
    ),
    "a bias as weights": (
        ShapeError,
        "MatMul 'y': its weights 'last' must be a matrix",
        "y = MatMul(x, last)",
        {"shape": (1, 3)},
    ),
    "scales within an output channel": (
        InputError,
        r"node 2 of 2, Conv 'y': scales of its weights 'wa' differ within an output channel, which cannot be folded",
        "wa = BipolarQuant(a, each) y = Conv(x, wa)",
        {"each": np.array([1.0, 2]).reshape(1, 2, 1, 1)},
    ),
    "a scale for each channel of codes": (
        InputError,
        r"node 3 of 5, Quant 'codes': scale 'each' has the shape \(4, 1, 1\), but must be one number for all",
        f"{CONV} codes = Quant{U2}(conv, each, zero, bits2) wc = BipolarQuant(c, s) y = Conv(codes, wc)",
        {"each": np.arange(1.0, 5).reshape(4, 1, 1)},
    ),
    "codes scaled by channel": (
        InputError,
        r"node 6 of 6, Conv 'y': what it gets has scales of its own in each channel, which cannot be folded",
        f"{CODES} m = Mul(codes, each) wc = BipolarQuant(c, s) y = Conv(m, wc)",
        {"each": np.arange(1.0, 5).reshape(4, 1, 1)},
    ),
    "pixels moved by channel": (
        InputError,
        r"node 3 of 3, Conv 'y': what it gets has offsets of its own in each channel",
        "m = Sub(x, each) wa = BipolarQuant(a, s) y = Conv(m, wa)",
        {"each": np.arange(1.0, 3).reshape(2, 1, 1)},
    ),
    "pixels moved under padding": (
        InputError,
        r"node 3 of 3, Conv 'y': a code of 0 stands for -4, not for the 0 with which it pads: shift the input",
        "m = Sub(x, four) wa = BipolarQuant(a, s) y = Conv<pads=[1,1,1,1]>(m, wa)",
        {"four": 4.0},
    ),
    "real numbers to a convolution": (
        EncodingError,
        "node 4 of 4, Conv 'y': it needs codes of a few bits, but gets real numbers: put a Quant or "
        "BipolarQuant before it",
        f"{CONV} wc = BipolarQuant(c, s) y = Conv(conv, wc)",
        {},
    ),
    "a zero point": (
        InputError,
        "node 3 of 3, Quant 'y': its zero point must be 0, got 3: quantise symmetrically",
        f"{CONV} y = Quant{U2}(conv, s, three, bits2)",
        {"three": 3.0},
    ),
    "a zero point between": (
        InputError,
        "node 1 of 2, Quant 'wa': its zero point 's' must be whole",
        f"wa = Quant{U2}(a, s, s, bits2) y = Conv(x, wa)",
        {},
    ),
    "a negative scale": (
        InputError,
        r"node 3 of 3, BipolarQuant 'y': its scale must be positive, got -1$",
        f"{CONV} y = BipolarQuant(conv, minus)",
        {"minus": -1.0},
    ),
    "a negative scale of weights": (
        InputError,
        "node 1 of 2, BipolarQuant 'wa': its scale 'minus' must be positive",
        "wa = BipolarQuant(a, minus) y = Conv(x, wa)",
        {"minus": -1.0},
    ),
    "a scale of another shape": (
        ShapeError,
        r"node 1 of 2, BipolarQuant 'wa': 'long' of shape \(5, 1, 1, 1\) does not fit \(4, 2, 3, 3\)",
        "wa = BipolarQuant(a, long) y = Conv(x, wa)",
        {"long": np.ones((5, 1, 1, 1))},
    ),
    "a quantiser without bits": (
        InputError,
        "Quant 'y': it has 3 inputs: expected a tensor, a scale and, of a Quant, zero point and bits",
        f"{CONV} y = Quant{U2}(conv, s, zero)",
        {},
    ),
    "no weights": (
        ShapeError,
        r"MatMul 'y': its weights 'w' must be a matrix or filters, got the shape \(2, 0\)",
        "y = MatMul(x, w)",
        {"shape": (1, 2), "w": np.ones((2, 0))},
    ),
    "padding of one axis": (
        ShapeError,
        r"Conv 'y': its pads must be four numbers from 0 on, for images, got \(1, 1\)",
        "wa = BipolarQuant(a, s) y = Conv<pads=[1,1]>(x, wa)",
        {},
    ),
    "negative padding": (
        ShapeError,
        r"Conv 'y': its pads must be four numbers from 0 on, for images, got \(0, 0, -1, 0\)",
        "wa = BipolarQuant(a, s) y = Conv<pads=[0,0,-1,0]>(x, wa)",
        {},
    ),
    "steps of 0": (
        ShapeError,
        r"MaxPool 'y': its strides must be two numbers from 1 on, for images, got \(0, 1\)",
        "y = MaxPool<kernel_shape=[2,2], strides=[0,1]>(x)",
        {},
    ),
    "axes that are not given": (InputError, "Squeeze 'y': it has no axes", "y = Squeeze(x)", {}),
    "a scale that is computed": (
        InputError,
        "Quant 'y': its scale 'r' must be a constant in the file, but is computed",
        f"{CONV} r = Relu(conv) y = Quant{U2}(conv, r, zero, bits2)",
        {},
    ),
    "bits between": (
        InputError,
        r"Quant 'y': its bit width must be a whole number from 1 on, got 2\.5",
        f"{CONV} y = Quant{U2}(conv, s, zero, some)",
        {"some": 2.5},
    ),
    "too many bits": (
        InputError,
        "Quant 'y': activations have 1 to 8 bits, got 9",
        f"{CONV} y = Quant{U2}(conv, s, zero, bits9)",
        {},
    ),
    "rounding down": (
        InputError,
        "Quant 'y': its rounding mode must be one of ROUND, HALF_EVEN, got FLOOR",
        f'{CONV} y = Quant<signed=0, narrow=0, rounding_mode="FLOOR">(conv, s, zero, bits2)',
        {},
    ),
    "weights rounded in another way": (
        InputError,
        "Quant 'wa': its rounding mode must be one of .*, got HALF_UP",
        'wa = Quant<signed=0, narrow=0, rounding_mode="HALF_UP">(a, s, zero, bits2) y = Conv(x, wa)',
        {},
    ),
    "narrow without a sign": (
        InputError,
        "Quant 'y': a narrow range needs a sign: export it with narrow = 0",
        f"{CONV} y = Quant<signed=0, narrow=1>(conv, s, zero, bits2)",
        {},
    ),
    "a sign after a Relu": (
        InputError,
        "Quant 'y': after a Relu it needs no sign: export it with signed = 0",
        f"{CONV} r = Relu(conv) y = Quant{I4}(r, s, zero, bits3)",
        {},
    ),
    "arithmetic after a Relu": (
        InputError,
        "node 4 of 4, Add 'y': it follows a Relu that no quantiser follows",
        f"{CONV} r = Relu(conv) y = Add(r, s)",
        {},
    ),
    "a Relu in the end": (
        InputError,
        "node 3 of 3, Relu 'y': a Relu needs a Quant without a sign after it",
        f"{CONV} y = Relu(conv)",
        {},
    ),
    "pixels of an unknown scale": (
        InputError,
        "node 1 of 1, Quant 'y': it takes the graph's input, but has not the 256 codes of pixels: .*input_scale",
        f"y = Quant{I4}(x, s, zero, bits8)",
        {},
    ),
    "NaN in a batch norm": (
        InputError,
        r"node 3 of 3, BatchNormalization 'y': 'gamma' must be finite, but holds nan at \(2, 0, 0\)",
        f"{CONV} y = BatchNormalization(conv, gamma, bias, bias, bias)",
        {"gamma": [1, 1, np.nan, 1]},
    ),
    "a variance that is none": (
        InputError,
        "BatchNormalization 'y': its variance 'minus' must be positive",
        f"{CONV} y = BatchNormalization(conv, bias, bias, bias, minus)",
        {"minus": [1, 1, -1, 1]},
    ),
    "a batch norm that trains": (
        InputError,
        "BatchNormalization 'y': it is in training mode: export the network in eval mode",
        f"{CONV} y, m, v = BatchNormalization<training_mode=1>(conv, bias, bias, bias, bias)",
        {"opset": 15},
    ),
    "parameters of other channels": (
        ShapeError,
        r"BatchNormalization 'y': 'last' of shape \(3, 1, 1\) does not fit \(1, 4, 6, 5\)",
        f"{CONV} y = BatchNormalization(conv, last, bias, bias, bias)",
        {},
    ),
    "NaN in weights": (
        InputError,
        r"node 1 of 2, BipolarQuant 'wa': 'a' must be finite, but holds nan at \(0, 1, 2, 0\)",
        "wa = BipolarQuant(a, s) y = Conv(x, wa)",
        {"a": np.where(np.arange(72).reshape(4, 2, 3, 3) == 15, np.nan, 1)},
    ),
    "infinite scales": (
        InputError,
        r"Quant 'y': 'huge' must be finite, but holds inf at \(\)",
        f"{CONV} y = Quant{U2}(conv, huge, zero, bits2)",
        {"huge": np.inf},
    ),
    "division by 0": (InputError, "Div 'y': its divisor 'zero' is 0", "y = Div(x, zero)", {}),
    "numbers that differ within a channel": (
        InputError,
        "Mul 'y': 'k' differs from place to place within a channel",
        "y = Mul(x, k)",
        {"k": _real(6, 5)},
    ),
    "a product of tensors": (
        InputError,
        "Mul 'y': its other side 'conv' must be a constant in the file, but is computed",
        f"{CONV} y = Mul(conv, conv)",
        {},
    ),
    "groups of other channels": (
        ShapeError,
        r"Conv 'y': weights of Conv2d must have the shape \(filters, R, S, 1\), got \(4, 3, 3, 2\)",
        "wa = BipolarQuant(a, s) y = Conv<group=2>(x, wa)",
        {},
    ),
    "groups that do not part the channels": (
        ShapeError,
        "Conv 'y': Conv2d: channels and filters must be multiples of the 3 groups, but are 2 and 4",
        "wa = BipolarQuant(a, s) y = Conv<group=3>(x, wa)",
        {},
    ),
    "no groups": (
        ShapeError,
        "Conv 'y': groups must be a whole number from 1",
        "wa = BipolarQuant(a, s) y = Conv<group=0>(x, wa)",
        {},
    ),
    "padding by name": (
        InputError,
        "Conv 'y': its padding must be given in numbers, got auto_pad = SAME_UPPER",
        'wa = BipolarQuant(a, s) y = Conv<auto_pad="SAME_UPPER">(x, wa)',
        {},
    ),
    "filters of other channels": (
        ShapeError,
        r"node 2 of 2, Conv 'y': weights of Conv2d must have the shape",
        "wc = BipolarQuant(c, s) y = Conv(x, wc)",
        {},
    ),
    "filters of one axis": (
        ShapeError,
        r"Conv 'y': images and filters have two axes to move along, got filters of \(4, 2, 3\)",
        "wa = BipolarQuant(a, s) y = Conv(x, wa)",
        {"a": _real(4, 2, 3)},
    ),
    "images to a matrix": (
        ShapeError,
        r"Gemm 'y': weights of \(3, 120\) \(outputs, features\) do not fit inputs of \(1, 2, 6, 5\): flatten",
        "wb = BipolarQuant(b, s) y = Gemm<transB=1>(x, wb)",
        {},
    ),
    "a matrix that is turned": (
        InputError,
        "Gemm 'y': its input must not be transposed",
        "wb = BipolarQuant(b, s) y = Gemm<transA=1>(x, wb)",
        {"shape": (1, 3)},
    ),
    "channels last to a convolution": (
        ShapeError,
        r"node 5 of 5, Conv 'y': it needs images with channels first, got \(1, 6, 5, 4\): transpose them",
        f"{CODES} turned = Transpose<perm=[0,2,3,1]>(codes) y = Conv(turned, whole)",
        {"whole": np.ones((4, 4, 1, 1), np.float32)},
    ),
    "axes that no layer moves": (
        InputError,
        r"Transpose 'y': only channels can be moved, to the front or to the end, got the axes \(0, 1, 3, 2\)",
        "y = Transpose<perm=[0,1,3,2]>(x)",
        {},
    ),
    "windows with dilations": (
        InputError,
        "MaxPool 'y': its window has dilations",
        "y = MaxPool<kernel_shape=[2,2], dilations=[2,2]>(x)",
        {},
    ),
    "windows past the image": (
        InputError,
        r"MaxPool 'y': its last window reaches past the image \(ceil_mode\): pad the image instead",
        "y = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(x)",
        {},
    ),
    "windows larger than the image": (
        ShapeError,
        r"MaxPool 'y': a window of \(7, 2\) with padding",
        f"{CONV} y = MaxPool<kernel_shape=[7,2]>(conv)",
        {},
    ),
    "windows on vectors": (
        ShapeError,
        r"MaxPool 'y': it needs images, got \(1, 8\)",
        "y = MaxPool<kernel_shape=[2,2]>(x)",
        {"shape": (1, 8)},
    ),
    "averages with padding": (
        InputError,
        "AveragePool 'y': an average with padding is not known",
        "y = AveragePool<kernel_shape=[2,2], pads=[1,1,1,1]>(x)",
        {},
    ),
    "means over channels": (
        InputError,
        r"ReduceMean 'y': only means over the places of an image are known \(axes 2 and 3\), got \[1\]",
        "y = ReduceMean<axes=[1]>(x)",
        {},
    ),
    "flat from another axis": (
        InputError,
        r"Flatten 'y': only all that is not the batch can be made flat \(axis = 1\), got 2",
        "y = Flatten<axis=2>(x)",
        {},
    ),
    "another shape": (
        InputError,
        r"Reshape 'y': \(1, 2, 6, 5\) can become \(batch, 60\) only, got \[1, 2, 30\]",
        "y = Reshape(x, sizes)",
        {"sizes": np.array([1, 2, 30])},
    ),
    "sides of different shapes": (
        ShapeError,
        r"Add 'y': both sides must have the same shape, got \(1, 4, 6, 5\) and \(1, 4, 4, 3\)",
        f"{CONV} more = Conv(x, wa) y = Add(conv, more)",
        {},
    ),
    "flat images in the end": (
        InputError,
        "node 3 of 3, Flatten 'y': a network cannot end in images",
        f"{CONV} y = Flatten(conv)",
        {},
    ),
    "nothing computed": (
        InputError,
        "the graph's output is nothing that layers compute of its input",
        "y = Div(x, s)",
        {},
    ),
    "a constant result": (
        InputError,
        "the graph's output is nothing that layers compute of its input",
        "d = Relu(x) y = Relu(s)",
        {},
    ),
    "a second result": (
        InputError,
        "node 3 of 3, Conv 'y': its input 'places' must be what another node computes",
        "p, places = MaxPool<kernel_shape=[2,2]>(x) wa = BipolarQuant(a, s) y = Conv(places, wa)",
        {},
    ),
    "constants that onnx cannot evaluate": (
        InputError,
        r"node 1 of 2, Reshape 'w': cannot be evaluated: .*give the file to qonnx-cleanup first",
        "w = Reshape(b, sizes) y = Gemm(x, w)",
        {"sizes": np.array([7, 7]), "shape": (1, 7)},
    ),
    "input of five axes": (ShapeError, r"the input 'x' must have the shape", "y = Relu(x)", {"shape": (1, 2, 3, 4, 5)}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_with_its_place(name: str) -> None:
    kind, message, body, arrays = REFUSED[name]
    model = graph(body, **{**A, **arrays})
    with pytest.raises(kind, match=message) as caught:
        nn.from_qonnx(model)
    assert type(caught.value) is kind


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read 'nowhere\.onnx': .*No such file"):
        nn.from_qonnx("nowhere.onnx")
    path, model = tmp_path / "text.onnx", GRAPHS["vectors"].graph
    path.write_text("Hello!")
    with pytest.raises(InputError, match=r"text\.onnx' is no ONNX file"):
        nn.from_qonnx(path)
    for given, kind in (([], "list"), (3, "int"), (None, "NoneType"), (b"a.onnx", "bytes"), (model, "GraphProto")):
        with pytest.raises(InputError, match=rf"a model is a path or an onnx\.ModelProto, got {kind}: give the file's"):
            nn.from_qonnx(given)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="the model is not sound: Nodes in a graph must be topologically sorted"):
        nn.from_qonnx(graph("y = Relu(z) z = Relu(x)"))
    path.write_bytes(GRAPHS["vectors"].SerializeToString()[:-20])
    with pytest.raises(InputError, match=r"text\.onnx' is no"):
        nn.from_qonnx(path)


def test_inputs_and_outputs_other_than_one_and_open_sizes_are_refused() -> None:
    model = graph("y = Relu(x)")
    del model.graph.input[0].type.tensor_type.shape.dim[2:]
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "features"
    with pytest.raises(ShapeError, match="the sizes of the input 'x' must be in the file, but for the batch"):
        nn.from_qonnx(model)
    model = graph("y = Relu(x)")
    model.graph.input.append(model.graph.input[0])
    model.graph.input[1].name = "z"
    with pytest.raises(InputError, match="a network has one input, but this graph has 2: 'x', 'z'"):
        nn.from_qonnx(model)
    model = graph("y = Relu(x)")
    model.graph.output.append(model.graph.output[0])
    model.graph.output[1].name = "x"
    with pytest.raises(InputError, match="a network has one output, but this graph has 2: 'y', 'x'"):
        nn.from_qonnx(model)


@pytest.mark.parametrize("scale", [0, np.nan, np.inf])
def test_scales_of_the_input_are_numbers(scale: float) -> None:
    with pytest.raises(InputError, match="input_scale must be a number other than 0, got"):
        nn.from_qonnx(GRAPHS["vectors"], input_scale=scale)
    with pytest.raises(InputError, match="input_offset must be a number, got nan"):
        nn.from_qonnx(GRAPHS["vectors"], input_offset=np.nan)


def test_without_onnx_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    message = "reading QONNX needs the onnx package: pip install 'bitmlir[qonnx]'"
    with pytest.raises(InputError, match=re.escape(message)):
        nn.from_qonnx("network.onnx")


QUANTISED = "wc = BipolarQuant(c, s) conv2 = Conv<pads=[1,1,1,1]>(codes, wc) "
ROWS = "wb = BipolarQuant(b, s) y = Gemm<transB=1>(flat, wb)"
NUMBERS: dict[str, onnx.ModelProto] = {
    "codes of one quantiser": graph(
        f"{CODES} {QUANTISED} more = Quant{U2}(conv2, t, zero, bits2) sum = Add(codes, more) "
        f"again = Quant{U2}(sum, t, zero, bits3) flat = Flatten(again) {ROWS}",
        **A,
    ),
    "codes of different quantisers": graph(
        f"{CODES} {QUANTISED} more = BipolarQuant(conv2, s) sum = Add(codes, more) again = Quant{U2}(sum, "
        f"s, zero, bits2) "
        f"flat = Flatten(again) {ROWS}",
        **A,
    ),
    "sums of two convolutions": graph(
        f"{CODES} {QUANTISED} scaled = Mul(conv2, k) right = BipolarQuant(conv, one) "
        f"conv3 = Conv<pads=[1,1,1,1]>(right, wc, bias) sum = Add(scaled, conv3) again = BipolarQuant(sum, s) "
        f"flat = Flatten(again) {ROWS}",
        **{**A, "k": _powers(4, 1, 1), "one": 1.0},
    ),
    "sums and the codes before them": graph(
        f"{CODES} {QUANTISED} sum = Add(conv2, codes) again = Quant{U2}(sum, t, zero, bits2) flat = "
        f"Flatten(again) {ROWS}",
        **A,
    ),
    "means of codes": graph(
        f"{CODES} mean = AveragePool<kernel_shape=[2,2], strides=[2,1]>(codes) again = Quant{U2}(mean, t, zero, bits2) "
        f"flat = Flatten(again) {ROWS}",
        **{**A, **_flat(48)},
    ),
    "means of sums": graph(
        f"{CONV} scaled = Mul(conv, k) mean = AveragePool<kernel_shape=[2,2]>(scaled) again = BipolarQuant(mean, t) "
        f"flat = Flatten(again) {ROWS}",
        **{**A, **_flat(80), "k": _powers(4, 1, 1)},
    ),
    "means of whole images": graph(
        f"{CODES} mean = GlobalAveragePool(codes) again = Quant{U2}(mean, s, zero, bits3) flat = Flatten(again) {ROWS}",
        **{**A, **_flat(4)},
    ),
    "means of whole images, flat": graph(
        f"{CODES} mean = ReduceMean<axes=[2,3], keepdims=0>(codes) again = Quant{U2}(mean, s, zero, bits3) "
        "wb = BipolarQuant(b, s) y = Gemm<transB=1>(again, wb)",
        **{**A, **_flat(4)},
    ),
    "codes with a sign": graph(
        f'{CONV} codes = Quant<signed=1, narrow=0, rounding_mode="ROUND">(conv, t, zero, bits3) {END}', **A
    ),
    "codes with a sign, narrow": graph(f"{CONV} codes = Quant{I4}(conv, t, zero, bits2) {END}", **A),
    "codes of four bits": graph(f"{CONV} codes = Quant{U2}(conv, t, zero, bits4) {END}", **A),
    "codes of eight bits": graph(f"{CONV} codes = Quant{U2}(conv, s, zero, bits8) {END}", **A),
    "pixels with a sign": graph(
        f'd = Sub(x, middle) q = Quant<signed=1, narrow=0, rounding_mode="ROUND">(d, t, zero, bits6) '
        f"wa = BipolarQuant(a, s) "
        f"conv = Conv<pads=[1,1,1,1]>(q, wa) codes = Quant{U2}(conv, t, zero, bits2) {END}",
        **{**A, "middle": 128.0},
    ),
    "pooled sums that are turned round": graph(
        f"{CONV} pool = MaxPool<kernel_shape=[2,2]>(conv) m = Mul(pool, minus) codes = BipolarQuant(m, s) "
        f"flat = Flatten(codes) "
        f"{ROWS}",
        **{**A, **_flat(80), "minus": [[[-0.5]], [[1]], [[-1]], [[2]]]},
    ),
    "pooled sums in the end": graph(f"{CONV} y = MaxPool<kernel_shape=[2,2]>(conv)", rank=4, **A),
}


class TestResidualsAveragesAndSigns:
    """Graphs that need numbers between layers, more bits, or a sign."""

    @pytest.mark.parametrize("name", NUMBERS)
    def test_results_are_those_of_the_executor(self, name: str) -> None:
        model = NUMBERS[name]
        images = _images(model)
        layer = nn.from_qonnx(model)
        expected = executed(model, images)
        assert len(np.unique(expected)) > 1
        np.testing.assert_array_equal(_as_theirs(_computed(layer, _as_ours(images, layer)), expected), expected)


class TestNetworksThatBrevitasTrained:
    """The networks of docs/demo, on every image that they were not trained on."""

    @pytest.mark.parametrize("name", NETWORKS)
    def test_every_prediction_is_the_stored_one_of_the_executor(self, name: str) -> None:
        images, classes = held_out(name)
        expected = stored_logits(name)
        logits = _computed(nn.from_qonnx(DEMO / f"{name}.onnx"), images).reshape(expected.shape)
        assert (logits.argmax(axis=1) == expected.argmax(axis=1)).all()
        np.testing.assert_allclose(logits, expected, atol=NETWORKS[name])
        assert (logits.argmax(axis=1) == classes).sum() == record(f"{name}.onnx")["test_correct"]

    @pytest.mark.parametrize("name", NETWORKS)
    def test_the_executor_still_says_what_is_stored(self, name: str) -> None:
        images, _ = held_out(name)
        some = slice(None, None, len(images) // 30)
        logits = executed(onnx.load(DEMO / f"{name}.onnx"), images[some].transpose(0, 3, 1, 2))
        np.testing.assert_allclose(logits, stored_logits(name)[some], atol=NETWORKS[name])
