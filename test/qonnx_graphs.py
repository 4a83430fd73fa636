"""QONNX graphs for tests, written in ONNX's text form, and QONNX's own executor."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnx.parser
from numpy.typing import ArrayLike
from stored_networks import DEMO

__all__ = ["NETWORKS", "executed", "graph", "stored_logits"]

NETWORKS = {"digits": 1e-5, "digits-binary": 1e-5, "mnist": 1e-4}  # of docs/demo, and how far logits may be off
_DOMAINS = '"qonnx.custom_op.general": 1, "onnx.brevitas": 1'


def graph(
    body: str, shape: tuple[int, ...] = (1, 2, 6, 5), rank: int = 2, opset: int = 13, **arrays: ArrayLike
) -> onnx.ModelProto:
    """A graph that makes `y`, of so many axes, of `x`; with arrays by name, of float32 or of integers as they are."""
    body = re.sub(r"(?<!\.)\b((Bipolar|Int|Float)?Quant|Trunc)\b", r"qonnx.custom_op.general.\1", body)
    given, made = ", ".join(map(str, shape)), ", ".join("abcd"[:rank])
    text = f'<ir_version: 8, opset_import: ["": {opset}, {_DOMAINS}]> '
    text += f"network (float[{given}] x) => (float[{made}] y) {{ {body} }}"
    model = onnx.parser.parse_model(text)
    for name, values in {"zero": 0.0, **{f"bits{n}": float(n) for n in range(1, 10)}, **arrays}.items():
        array = np.asarray(values)
        array = array if array.dtype.kind == "i" else array.astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def executed(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """What QONNX's executor makes of what a graph takes, image by image."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.util.cleanup import cleanup_model

    clean = cleanup_model(ModelWrapper(model, make_deepcopy=True))
    (given,), (made,) = clean.graph.input, clean.graph.output
    inputs = images.astype(np.float32)[:, None]
    return np.concatenate([execute_onnx(clean, {given.name: image})[made.name] for image in inputs])


def stored_logits(name: str) -> np.ndarray:
    """What QONNX's executor made of the images that a network of docs/demo was not trained on."""
    with np.load(DEMO / f"{name}-logits.npz") as arrays:
        return arrays["logits"]
