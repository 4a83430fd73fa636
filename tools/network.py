"""Networks for `bitmlir-codegen`: where their layers come from, whether they compute what numpy says, and how fast."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np

from bitmlir import nn
from bitmlir.executable import BoundCall, Executable
from bitmlir.formats.packed import Packed, unpack
from bitmlir.lowering.targets import Target
from bitmlir.nn import zoo
from bitmlir.tools.check import require_equal

__all__ = ["NetworkProgram", "NetworkTrial", "layer_of"]

_MOST_CHECKED = 8  # images: plain numpy takes seconds for one of VGG16's


def layer_of(
    name: str | None,
    *,
    weights: str | None = None,
    random: int | None = None,
    qonnx: str | None = None,
    bits: int = 1,
    normalised: tuple[list[float], list[float]] = ([], []),
) -> nn.Layer:
    """The network of a QONNX file; or one of `zoo.NETWORKS`, with weights from a file or random ones of that seed.

    normalised: the mean and the std by which images are, if they are.

    Raises:
        InputError, ShapeError, EncodingError: an unknown name, files that cannot be read, arrays that do not fit.

    Example:
        >>> layer_of("mnist-mlp", random=1).shape
        (10,)
    """
    if qonnx is not None:
        return nn.from_qonnx(qonnx)
    parameters = zoo.RandomParameters(random or 0) if weights is None else nn.load_weights(weights)
    mean, std = (numbers[0] if len(numbers) == 1 else numbers or None for numbers in normalised)
    return zoo.network(name or "", parameters, bits, mean=mean, std=std)


@dataclass(frozen=True)
class NetworkProgram:
    """A network that is to be compiled for a batch."""

    layer: nn.Layer
    batch: int
    cached: bool
    _models: dict[str, nn.Model] = field(default_factory=dict)  # by target

    def _model(self, target: Target) -> nn.Model:
        if target.name not in self._models:
            self._models[target.name] = nn.compile(self.layer, self.batch, target.name, cached=self.cached)
        return self._models[target.name]

    def compiled(self, target: Target) -> Executable:
        """The program for a target."""
        return self._model(target).executable

    def trial(self, target: Target, seed: int) -> NetworkTrial:
        """The program with random images in place."""
        return NetworkTrial.start(self._model(target), seed)

    def speed(self, seconds: float) -> str:
        """What runs that take so long do in a second."""
        return f", {self.batch / seconds:,.6g} images/s by the median"


@dataclass(frozen=True)
class NetworkTrial:
    """A compiled network with random images in place."""

    model: nn.Model
    images: np.ndarray
    call: BoundCall

    @classmethod
    def start(cls, model: nn.Model, seed: int) -> NetworkTrial:
        """Make the images, load the program on its device and bring them there."""
        (argument,) = model.executable.plan.arguments
        pixels = np.random.default_rng(seed).integers(0, 256, argument.shape, dtype=np.uint8)
        images = model.program.input.normalised(pixels)
        return cls(model, images, model.bind(images))

    def check(self) -> int:
        """Run once and compare all numbers of the first images with those of plain numpy; how many these are.

        Raises:
            WrongResultError: an element differs; the message names the first.
        """
        result = self.call()
        numbers = unpack(result) if isinstance(result, Packed) else np.asarray(result)
        few = copy.copy(self.model)
        few.batch = min(self.model.batch, _MOST_CHECKED)
        expected = few.reference(self.images[: few.batch])
        assert isinstance(expected, np.ndarray)  # of the last layer
        require_equal("result", numbers[: few.batch], expected)
        return expected.size

    def time(self, repeats: int) -> list[float]:
        """Seconds that one run takes, measured `repeats` times."""
        return self.call.time(repeats)
