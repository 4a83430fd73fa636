"""What the IR of a network finds wrong with it, in words of its layers."""

from __future__ import annotations

import re

from bitmlir.dialects.errors import IRError, ShapeError
from bitmlir.nn.layers import Layer
from bitmlir.nn.steps import Program, Start

__all__ = ["fault_of_layer"]

_FAULT = re.compile(r":(?P<line>\d+):\d+: error: (?:'[\w.]+' op )?(?P<fault>.*)", re.DOTALL)
_STEP = re.compile(r" {4}%\d+(?::\d+)? = ")  # a line of the function itself, which has one operation for each step


def fault_of_layer(error: IRError, program: Program, text: str, batch: int) -> ShapeError | None:
    """The first fault in the text of a network's module, and the layer that it is about; None if it is about none."""
    found = next(filter(None, map(_FAULT.search, error.diagnostics)), None)
    if found is None:
        return None
    steps = [_layer_of(program, number) for number in range(len(program.steps))]
    layers = [*([program.input] if program.input.is_normalised else []), *steps]
    number = sum(_STEP.match(line) is not None for line in text.splitlines()[: int(found["line"])])
    if not 1 <= number <= len(layers):
        return None
    layer = layers[number - 1]
    advice = "take a smaller batch or layer" if batch > 1 else "take a smaller layer"
    return ShapeError(
        f"{layer.title}, in step {number} of {len(layers)} for a batch of {batch}, is more than a program can "
        f"have ({advice}): {found['fault']}"
    )


def _layer_of(program: Program, number: int) -> Layer:
    """The layer that a step is about; of what a first convolution sees, that convolution."""
    step = program.steps[number]
    if isinstance(step, Start) and step.size is not None:
        step = program.steps[number + 1]
    return step.layers[0]
