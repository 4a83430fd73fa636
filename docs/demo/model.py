"""The demo's network as one program in the `bit` dialect: each layer a product whose result is the next one's input."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from mlir import ir
from mlir.dialects import arith, func
from network import Layer, Network

from bitmlir.dialects import bit

__all__ = ["arguments", "network_module"]

ELEMENTS = {"int32": "i32", "bool": "i8", "float32": "f32"}  # numpy's name of a parameter's type → MLIR's


def arguments(network: Network) -> dict[str, np.ndarray]:
    """What the program takes beside the images, by name: `weights1`, `threshold1`, `flip1`, `weights2`, …"""
    return {
        f"{name}{number}": array
        for number, layer in enumerate(network.layers, 1)
        for name, array in {"weights": layer.weights, **layer.parameters}.items()
    }


def network_module(network: Network, images: int) -> str:
    """The text of a module whose function `network` takes that many images through all layers.

    Its arguments are `images`, grey levels as int16, and those that `arguments` names. Its results are the outputs of
    all layers, `layer1`, `layer2`, …: after a hidden layer a packed matrix of ±1, which the next layer reads as it is,
    and after the last one the logits, in float32.

    Example:
        >>> ending = {"column_scale": np.float32([0.5]), "bias": np.float32([1])}
        >>> network = Network((Layer("u4", np.int8([[1, -1, 1]]), "f32", ending),))
        >>> [line.split(" = ")[1] for line in network_module(network, images=2).splitlines() if "arith" in line]
        ['arith.sitofp %arg4 : i32 to f32', 'arith.mulf %2, %extracted : f32', 'arith.addf %3, %extracted_0 : f32']
    """
    with ir.Context() as context, ir.Location.unknown():
        bit.load(context)
        pixels = (images, network.widths[0])
        types = {"images": ir.RankedTensorType.get(pixels, ir.IntegerType.get_signless(16))}
        types |= {name: _type(array) for name, array in arguments(network).items()}
        packed = bit.packed_type(pixels, network.encodings[0])
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):

            @func.FuncOp.from_py_func(*types.values(), name="network")
            def program(*values: ir.Value) -> list[ir.Value]:
                given = dict(zip(types, values, strict=True))
                outputs = [bit.PackOp(source=given["images"], results=[packed]).result]
                for number, layer in enumerate(network.layers, 1):
                    parameters = {name: given[f"{name}{number}"] for name in ("weights", *layer.parameters)}
                    outputs.append(_product(layer, outputs[-1], **parameters))
                return outputs[1:]

        names = [f"layer{number}" for number, _ in enumerate(network.layers, 1)]
        program.func_op.attributes["arg_attrs"] = _named(types)
        program.func_op.attributes["res_attrs"] = _named(names)
        return str(module)


def _type(array: np.ndarray) -> ir.RankedTensorType:
    """Weights are packed matrices; thresholds, flips, scales and biases are plain arrays, one element a column."""
    if array.ndim == 2:
        return bit.packed_type(array.shape, "bipolar")
    return ir.RankedTensorType.get(array.shape, ir.Type.parse(ELEMENTS[array.dtype.name]))


def _named(names: Iterable[str]) -> ir.ArrayAttr:
    """The attributes by which arguments and results get their names."""
    return ir.ArrayAttr.get([ir.DictAttr.get({"bit.name": ir.StringAttr.get(name)}) for name in names])


def _product(layer: Layer, x: ir.Value, weights: ir.Value, **parameters: ir.Value) -> ir.Value:
    """One layer: the product, and as its epilogue the ending that `Layer` describes."""

    def decide(acc: ir.Value, row: ir.Value, col: ir.Value) -> ir.Value:
        limit, flip = (bit.extract(parameters[name], col) for name in ("threshold", "flip"))
        return bit.threshold(acc, limit, arith.trunci(ir.IntegerType.get_signless(1), flip))

    def scale(acc: ir.Value, row: ir.Value, col: ir.Value) -> ir.Value:
        factor, bias = (bit.extract(parameters[name], col) for name in ("column_scale", "bias"))
        return arith.addf(arith.mulf(arith.sitofp(ir.F32Type.get(), acc), factor), bias)

    images, outputs = ir.RankedTensorType(x.type).shape[0], layer.weights.shape[0]
    if layer.out == "bit":
        return bit.matmul(x, weights, result=bit.packed_type((images, outputs), "bipolar"), epilogue=decide)
    logits = ir.RankedTensorType.get((images, outputs), ir.F32Type.get())
    return bit.matmul(x, weights, result=logits, epilogue=scale)
