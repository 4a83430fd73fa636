"""A compiled network: its program with its weights."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np

from bitmlir import compiler
from bitmlir.dialects.errors import InputError, IRError, ShapeError
from bitmlir.dialects.layout import LARGEST_SIZE
from bitmlir.executable import BoundCall, Executable
from bitmlir.nn.evaluate import evaluate
from bitmlir.nn.faults import fault_of_layer
from bitmlir.nn.layers import Layer
from bitmlir.nn.plan import program_of
from bitmlir.nn.steps import Program

__all__ = ["Model", "compile"]


def compile(output: Layer, batch: int, target: str = "auto", *, every: bool = False, cached: bool = True) -> Model:
    """The program that computes a layer from the input of its network, for so many inputs at once.

    every: let it yield what each of its steps leaves, to be compared with `Model.reference`.
    target, cached: as of `bitmlir.compile`.

    Raises:
        InputError: a layer cannot stand where it does.
        ShapeError: a batch below 1, or one that is too large for a layer, which the message names.
        TargetError, CompileError, IRError: as of `bitmlir.compile`.

    Example:
        >>> from bitmlir import nn
        >>> layer = nn.Linear(nn.Input((3,)), np.array([[1, -1, 1], [1, 1, 1]]))
        >>> nn.compile(layer, batch=1, target="cpu")(np.array([[1, 2, 3]], np.uint8))
        array([[2, 6]], dtype=int32)
    """
    if not isinstance(output, Layer):
        raise InputError(f"a network is given by its last layer, got {type(output).__name__}")
    if type(batch) is not int or not 1 <= batch <= LARGEST_SIZE:
        raise ShapeError(f"batch must be a whole number from 1 to {LARGEST_SIZE}, got {batch!r}")
    if not output.sources:
        raise InputError(f"a network has a Linear or Conv2d at least, but this one ends in {output.name}")
    program = program_of(output)
    text = _module_text(program, batch, every)
    try:
        executable = compiler.compile(text, target, cached=cached)
    except IRError as error:
        raise fault_of_layer(error, program, text, batch) or error from None
    return Model(program, batch, every, _with_weights(executable, program, batch))


def _with_weights(executable: Executable, program: Program, batch: int) -> Executable:
    """The program with its weights and thresholds as constants, whose argument are images as the network has them: it
    knows bytes with a sign alone, and pixels as rows."""
    from bitmlir.nn.build import INPUT, constants_of

    held = executable.with_constants(**constants_of(program)).bundle
    dtype = "f32" if program.input.is_normalised else "u8"
    plan = held.plan.seeing(INPUT, dtype, (batch, *program.input.sizes))
    return Executable(replace(held, plan=plan))


def _module_text(program: Program, batch: int, every: bool) -> str:
    from mlir import ir

    from bitmlir.dialects import bit
    from bitmlir.nn.build import network_module

    context = ir.Context()
    with context, ir.Location.unknown():
        bit.load(context)
        return str(network_module(program, batch, every))


class Model:
    """A network that is compiled for a batch and a target.

    Attributes:
        program: its steps and layers. batch: inputs at once. every: whether each step's result is yielded.
        executable: the compiled program.
    """

    def __init__(self, program: Program, batch: int, every: bool, executable: Executable) -> None:
        """Made by `compile`."""
        self.program, self.batch, self.every, self.executable = program, batch, every, executable

    def __call__(self, images: Any) -> Any:
        """The last layer for a batch of inputs, or a tuple of what every step leaves, if there are several.

        Arrays of numpy, torch or CuPy go in, on the host or the GPU: of uint8, or float32 if the input is normalised.

        Numbers are int32, or float32 after a batch norm; codes are `Packed`. What has no places has one: images of
        1 × 1 come of layers that follow a Flatten.

        Raises:
            InputError: inputs of another type. ShapeError: of another shape. DeviceError: as of `Executable`.
        """
        return self.bind(images)()

    def bind(self, images: Any) -> BoundCall:
        """The network on inputs that stay in their place, to run again and again; `graph()` makes it one CUDA graph."""
        self._require_shape(images)
        self._require_type(images)
        return self.executable.bind(images=images)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network as a bundle: one file with kernels and weights.

        `bitmlir.load` reads it, and `bitmlir run` classifies with it; on a GPU neither needs MLIR.

        Raises:
            BundleError: the file cannot be written, or its path is none.

        Example:
            >>> import bitmlir, tempfile
            >>> from bitmlir import nn
            >>> layer = nn.Linear(nn.Input((3,)), np.array([[1, -1, 1], [1, 1, 1]]))
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     nn.compile(layer, batch=1, target="cpu").save(f"{folder}/net.bitmlir")
            ...     network = bitmlir.load(f"{folder}/net.bitmlir")
            >>> network
            <Executable network(images: 1x3xu8) -> result: 1x2xi32 for cpu>
            >>> network(np.array([[1, 2, 3]], np.uint8))
            array([[2, 6]], dtype=int32)
        """
        self.executable.save(path)

    def _require_shape(self, images: Any) -> None:
        expected = (self.batch, *self.program.input.sizes)
        if tuple(getattr(images, "shape", ())) != expected:
            raise ShapeError(f"inputs must have the shape {expected}, got {getattr(images, 'shape', 'no array')}")

    def _require_type(self, images: Any) -> None:
        """Check the type of inputs: others could be converted, but hardly mean the same."""
        expected = str(self.program.input.dtype)
        dtype = str(getattr(images, "dtype", type(images).__name__)).removeprefix("torch.")
        if dtype != expected:
            is_float = self.program.input.is_normalised
            other = "" if is_float else ", or give Input the mean and std by which they are normalised"
            raise InputError(f"inputs must be of type {expected}, got {dtype}: convert them{other}")

    def reference(self, images: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """What the network yields, by its layers in plain numpy: integers, and real numbers as the program rounds them.

        Raises:
            InputError, ShapeError: inputs of another type or shape.
        """
        from bitmlir.nn.build import results_of

        self._require_shape(images)
        left = evaluate(self.program, images)
        first, *others = (left[value] for value in results_of(self.program, self.every).values())
        return (first, *others) if others else first
