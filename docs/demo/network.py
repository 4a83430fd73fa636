"""A binarised multilayer perceptron: its layers, its file, and what it computes in plain numpy.

Every product is exact in integers. A hidden layer turns its accumulator into ±1 with one comparison, which is what
batch normalisation followed by the sign function comes to; only the last layer computes in floating point.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

__all__ = ["Layer", "Network", "thresholds"]

INT32 = np.iinfo(np.int32)


@dataclass(frozen=True, eq=False)
class Layer:
    """A fully connected layer with weights of ±1: `acc = x · weightsᵀ`, exact in int32, then one of two endings.

    | `out`   | `parameters`                                  | result                                                |
    |---------|-----------------------------------------------|-------------------------------------------------------|
    | `"bit"` | `threshold` int32 [n], `flip` bool [n]        | ±1: +1 where `(acc >= threshold) != flip`             |
    | `"f32"` | `column_scale` float32 [n], `bias` float32 [n]| `f32(acc) * column_scale + bias`, each step rounded   |

    `encoding` names the values of x ("u4", "u8", "bipolar"); `weights` is int8 [n, k] of ±1.
    """

    encoding: str
    weights: np.ndarray
    out: Literal["bit", "f32"]
    parameters: dict[str, np.ndarray]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The layer's output [images, n] for the input [images, k]: int8 of ±1, or float32.

        Example:
            >>> parameters = {"threshold": np.int32([0, 0]), "flip": np.array([False, True])}
            >>> Layer("u4", np.int8([[1, 1], [1, 1]]), "bit", parameters)(np.uint8([[3, 15]]))
            array([[ 1, -1]], dtype=int8)
        """
        # A float64 product of integers is exact below 2^53, and BLAS makes it much faster than numpy's integer one.
        acc = (x.astype(np.float64) @ self.weights.T.astype(np.float64)).astype(np.int32)
        if self.out == "bit":
            bits = (acc >= self.parameters["threshold"]) != self.parameters["flip"]
            return np.where(bits, np.int8(1), np.int8(-1))
        return acc.astype(np.float32) * self.parameters["column_scale"] + self.parameters["bias"]


@dataclass(frozen=True, eq=False)
class Network:
    """Layers, each fed with the output of the one before it."""

    layers: tuple[Layer, ...]

    @property
    def encodings(self) -> tuple[str, ...]:
        """The encoding of each layer's input."""
        return tuple(layer.encoding for layer in self.layers)

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of inputs, then the number of outputs of each layer."""
        return (self.layers[0].weights.shape[1], *(layer.weights.shape[0] for layer in self.layers))

    def outputs(self, x: np.ndarray) -> list[np.ndarray]:
        """The output of every layer for the images x [images, pixels]; the last one holds the logits."""
        results: list[np.ndarray] = []
        for layer in self.layers:
            results.append(layer(results[-1] if results else x))
        return results

    def classify(self, x: np.ndarray) -> np.ndarray:
        """The class of each image: where its largest logit is."""
        return self.outputs(x)[-1].argmax(axis=1)

    def save(self, path: str | Path) -> None:
        """Write the network as an .npz, with the signs of the weights packed eight to a byte."""
        arrays: dict[str, np.ndarray] = {"encodings": np.array(self.encodings), "widths": np.array(self.widths)}
        for i, layer in enumerate(self.layers):
            arrays[f"{i}.weights"] = np.packbits(layer.weights > 0, axis=1)
            arrays |= {f"{i}.{name}": value for name, value in layer.parameters.items()}
        unfinished = Path(path).with_suffix(".tmp")
        with open(unfinished, "wb") as file:
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
        os.replace(unfinished, path)

    @classmethod
    def load(cls, path: str | Path) -> Network:
        """Read what `save` wrote."""
        with np.load(path) as file:
            arrays = dict(file)
        layers = []
        for i, (encoding, inputs) in enumerate(zip(arrays["encodings"], arrays["widths"][:-1], strict=True)):
            signs = np.unpackbits(arrays[f"{i}.weights"], axis=1, count=inputs)
            names = ("threshold", "flip") if f"{i}.threshold" in arrays else ("column_scale", "bias")
            layers.append(
                Layer(
                    encoding=str(encoding),
                    weights=np.where(signs, np.int8(1), np.int8(-1)),
                    out="bit" if "threshold" in names else "f32",
                    parameters={name: arrays[f"{i}.{name}"] for name in names},
                )
            )
        return cls(tuple(layers))


def thresholds(gamma: np.ndarray, mean: np.ndarray, deviation: np.ndarray, beta: np.ndarray) -> dict[str, np.ndarray]:
    """The `threshold` and `flip` that stand for batch normalisation (four arrays float64 [n]) and the sign function.

    `(acc >= threshold) != flip` is `gamma·(acc − mean)/deviation + beta >= 0` for every int32 acc: with
    t = mean − beta·deviation/gamma that is acc ≥ ⌈t⌉ for gamma > 0, and not acc ≥ ⌊t⌋ + 1 for gamma < 0. For
    gamma = 0 the bit is constant, the sign of beta: every acc passes the smallest threshold.

    Example:
        >>> thresholds(np.array([2.0, -2.0]), np.array([0.5, 0.5]), np.ones(2), np.zeros(2))
        {'threshold': array([1, 1], dtype=int32), 'flip': array([False,  True])}
    """
    constant = gamma == 0
    t = mean - beta * deviation / np.where(constant, 1, gamma)
    limit = np.where(gamma > 0, np.ceil(t), np.floor(t) + 1)
    limit = np.where(constant, INT32.min, np.clip(limit, INT32.min, INT32.max))
    return {"threshold": limit.astype(np.int32), "flip": np.where(constant, beta < 0, gamma < 0)}
