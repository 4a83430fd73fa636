"""What the IR of a network finds wrong with it, in words of its layers."""

from __future__ import annotations

import re

from bitmlir.dialects.errors import IRError, ShapeError
from bitmlir.nn.steps import Program

__all__ = ["fault_of_layer"]

_FAULT = re.compile(r":(?P<line>\d+):\d+: error: (?:'[\w.]+' op )?(?P<fault>.*)", re.DOTALL)
_STEP = re.compile(r" {4}%\d+(?::\d+)? = ")  # a line of the function itself, which has one operation for each step


def fault_of_layer(error: IRError, program: Program, text: str, batch: int) -> ShapeError | None:
    """The first fault in the text of a network's module, and the layer that it is about; None if it is about none."""
    found = next(filter(None, map(_FAULT.search, error.diagnostics)), None)
    if found is None:
        return None
    layers = [*([] if program.pixels is None else [program.input]), *(step.layers[0] for step in program.steps)]
    number = sum(_STEP.match(line) is not None for line in text.splitlines()[: int(found["line"])])
    if not 1 <= number <= len(layers):
        return None
    layer = layers[number - 1]
    advice = "take fewer images at once, or a smaller layer" if batch > 1 else "take a smaller layer"
    return ShapeError(
        f"{layer.title}, in step {number} of {len(layers)} for a batch of {batch}, is more than a program can "
        f"have: {found['fault']}: {advice}"
    )
