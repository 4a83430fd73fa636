"""The networks of the demo: linear layers of `bitmlir.nn` with weights of ±1, and the files that hold their numbers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bitmlir import nn
from bitmlir.nn import zoo

__all__ = ["FOLDER", "WIDTHS", "load", "perceptron", "turns"]

FOLDER = Path(__file__).parent
WIDTHS = {"digits": (64, 512, 512, 10), "mnist": (784, 1024, 1024, 1024, 10)}  # pixels, then the outputs of each layer


def load(name: str) -> nn.Layer:
    """The logits of the network that is stored beside this file.

    Example:
        >>> load("digits").shape
        (10,)
    """
    return perceptron(nn.load_weights(FOLDER / f"{name}.npz"), WIDTHS[name])


def perceptron(parameters: zoo.Parameters, widths: Sequence[int]) -> nn.Layer:
    """Linear layers with a batch norm each, and signs between them; arrays have the names of `bitmlir.nn.zoo`, whose
    `mnist-mlp` is the larger of the two networks.

    Example:
        >>> perceptron(zoo.RandomParameters(0), (64, 512, 10)).shape
        (10,)
    """
    x: nn.Layer = nn.Input((widths[0],))
    for number, (inputs, outputs) in enumerate(itertools.pairwise(widths), start=1):
        codes = x if number == 1 else nn.Sign(x)
        sums = nn.Linear(codes, parameters.get(f"linear{number}.weights", (outputs, inputs)))
        names = ("gamma", "beta", "mean", "variance")
        x = nn.BatchNorm(sums, *(parameters.get(f"norm{number}.{name}", (outputs,)) for name in names))
    return x


def turns(gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> dict[str, np.ndarray]:
    """The batch norm with the fewest digits whose sign is that of `gamma·(x − mean)/deviation + beta` for integers x.

    All that a sign needs is where it turns and which way. So gamma becomes ±1, mean lies between the two integers
    where the sign turns, and beta is 0; where gamma is 0, the sign is beta's. All are float32 [channels].

    Example:
        >>> norm = turns(np.array([2.0, -2.0, 0.0]), np.zeros(3), np.array([0.2, 3.0, 9.0]), np.ones(3))
        >>> norm["gamma"].tolist(), norm["mean"].tolist(), norm["beta"].tolist()
        ([1.0, -1.0, 0.0], [0.5, 3.5, 0.0], [0.0, 0.0, 1.0])
    """
    flat = gamma == 0
    place = mean - beta * deviation / np.where(flat, 1, gamma)
    between = np.where(gamma > 0, np.ceil(place) - 0.5, np.floor(place) + 0.5)  # at the place itself the sign is 1
    norm = {
        "gamma": np.sign(gamma),
        "beta": np.where(flat, np.where(beta >= 0, 1, -1), 0),
        "mean": np.where(flat, 0, between),
        "variance": np.ones_like(gamma),
    }
    return {name: values.astype(np.float32) for name, values in norm.items()}
