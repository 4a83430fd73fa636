"""Networks of low-bit layers: a graph of layers in the numbers of training becomes one program.

from bitmlir import nn

x = nn.Input((28, 28, 1))
x = nn.Conv2d(x, weights, padding=1)
x = nn.Sign(nn.BatchNorm(x, gamma, beta, mean, variance))
x = nn.Linear(nn.Flatten(nn.MaxPool2d(x, 2)), weights_of_classes)
model = nn.compile(x, batch=64)
logits = model(images)
"""

from __future__ import annotations

from bitmlir.nn.layers import (
    Add,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Flatten,
    Input,
    Layer,
    Linear,
    MaxPool2d,
    PadChannels,
    Quantise,
    Sign,
)
from bitmlir.nn.model import Model, compile
from bitmlir.nn.qonnx import from_qonnx
from bitmlir.nn.weights import load_weights

__all__ = [
    "Add",
    "AvgPool2d",
    "BatchNorm",
    "Conv2d",
    "Flatten",
    "Input",
    "Layer",
    "Linear",
    "MaxPool2d",
    "Model",
    "PadChannels",
    "Quantise",
    "Sign",
    "compile",
    "from_qonnx",
    "load_weights",
]
