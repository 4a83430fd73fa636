"""What a program must leave, in plain numpy: integers and codes as the layers say, real numbers rounded as the program
rounds them."""

from __future__ import annotations

import numpy as np

from bitmlir import reference
from bitmlir.nn.layers import AvgPool2d, Conv2d, Flatten, Layer, Linear, MaxPool2d, PadChannels
from bitmlir.nn.steps import Affine, Codes, Epilogue, Numbers, Product, Program, Reduce, Rounding, Start, Step

__all__ = ["evaluate"]

_FLOATS = {"f16": np.float16, "f32": np.float32}


def evaluate(program: Program, images: np.ndarray) -> dict[Codes | Numbers, np.ndarray]:
    """What each step leaves for a batch of inputs: codes as numbers, numbers as they are stored.

    Raises:
        InputError, ShapeError: inputs of another type or shape.
    """
    values: dict[Layer, np.ndarray] = {}
    left: dict[Codes | Numbers, np.ndarray] = {}
    for step in program.steps:
        made = _results(step, values, images)
        values |= {result.layer: value.reshape(len(images), *result.layer.shape) for result, value in made.items()}
        left |= {result: _stored(result, value).reshape(len(images), *result.shape)
                 for result, value in made.items() if not isinstance(step, Start)}  # fmt: skip
    return left


def _results(step: Step, values: dict[Layer, np.ndarray], images: np.ndarray) -> dict[Codes | Numbers, np.ndarray]:
    """What a step leaves, with each layer's own shape and meaning."""
    root = step.layers[0]
    if isinstance(step, Start):
        return {step.codes: root.apply(images)}
    if isinstance(step, (Product, Reduce)):
        return _after(step.epilogue, step, _reduced(step, values), values)
    return {step.codes: root.apply(_at(root.sources[0], values))}


def _at(layer: Layer, values: dict[Layer, np.ndarray]) -> np.ndarray:
    """What a layer has yielded; of Flatten, what its source has."""
    return layer.apply(_at(layer.sources[0], values)) if isinstance(layer, Flatten) else values[layer]


def _reduced(step: Product | Reduce, values: dict[Layer, np.ndarray]) -> np.ndarray:
    """The numbers that a step begins with."""
    root = step.layers[0]
    if isinstance(root, (Linear, Conv2d)):
        return root.apply(_at(root.source, values))
    assert isinstance(step, Reduce)
    numbers = values[step.source.layer]
    if isinstance(root, AvgPool2d):
        return reference.reduce_window(numbers, root.window, "sum")
    return root.apply(numbers) if isinstance(root, MaxPool2d) else numbers


def _after(
    epilogue: Epilogue, step: Product | Reduce, x: np.ndarray, values: dict[Layer, np.ndarray]
) -> dict[Codes | Numbers, np.ndarray]:
    """What becomes of numbers."""
    chain = [layer for layer in step.layers if layer not in epilogue.coders]
    if padding := next((layer for layer in chain if isinstance(layer, PadChannels)), None):
        x = padding.apply(x)
    if epilogue.is_real:
        x = x.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # too large is inf, as on every target
        for term in epilogue.terms:
            if isinstance(term, Affine):
                x = x * term.scale + term.bias
            else:
                added = values[term.numbers.layer]
                x = x + (added.astype(np.float32) if epilogue.is_real else added)
        made: dict[Codes | Numbers, np.ndarray] = {}
        if epilogue.numbers is not None:
            x = x.astype(_FLOATS[epilogue.numbers.element]).astype(np.float32) if epilogue.numbers.is_real else x
            made[epilogue.numbers] = x
        if epilogue.codes is not None:
            made[epilogue.codes] = _codes(epilogue, x)
    return made


def _codes(epilogue: Epilogue, x: np.ndarray) -> np.ndarray:
    """The codes of numbers: by the layers that say how, or as arithmetic rounds."""
    coding = epilogue.coding
    if isinstance(coding, Rounding):
        quotient = x.astype(np.float32) / np.float32(coding.scale)
        low, high = coding.ends
        return np.rint(np.fmin(np.fmax(quotient, np.float32(low)), np.float32(high))).astype(np.int64)
    x = x.astype(np.float64)
    for layer in epilogue.coders:
        x = layer.apply(x)
    return x


def _stored(result: Codes | Numbers, value: np.ndarray) -> np.ndarray:
    """Numbers as they lie in memory."""
    if isinstance(result, Codes):
        return value
    if result.is_real:
        return value.astype(_FLOATS[result.element])
    stored = value if result.origin is None else value - result.origin
    narrow = stored.astype(f"int{result.element[1:]}")
    assert (narrow == stored).all()
    return narrow
