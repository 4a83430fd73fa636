"""Train convolutional networks with Brevitas and export them to QONNX: `python docs/demo/train_conv.py digits`.

Writes beside this file `<name>.onnx`, what Brevitas exports, `<name>-logits.npz`, what QONNX's own executor makes of
every held-out image, and the network's entry in `networks.json`; `training.py` says what `--validate` does. Needs
`pip install torch brevitas onnxoptimizer` beside `pip install '.[qonnx,demo]'`; `… mnist --mnist DIR` trains on MNIST's
files. Weights are ±1 in every layer; activations have 2 bits, or are ±1 (digits-binary).
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import brevitas
import brevitas.nn as qnn
import numpy as np
import onnx
import torch
from brevitas.export import export_qonnx
from brevitas.quant import SignedBinaryActPerTensorConst, SignedBinaryWeightPerTensorConst
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.util.cleanup import cleanup_model
from torch import Tensor, nn
from torch.nn import functional as F
from training import CLASSES, FOLDER, Plan, dataset, fit, options, record


@dataclass(frozen=True)
class Recipe:
    """What one network is made of, and how it is trained."""

    plan: Plan
    largest: int  # pixel
    blocks: tuple[tuple[int, int, bool], ...]  # filters, stride, and whether the largest of 2 × 2 places is taken after
    bits: int  # of activations: 1 for ±1


DIGITS = Plan(epochs=100, batch=50, rate=1e-2, validation=300, shift=0.5)
MNIST = Plan(epochs=20, batch=50, rate=1e-2, validation=1500)
RECIPES = {
    "digits": Recipe(DIGITS, 15, ((32, 1, False), (32, 1, True)), bits=2),
    "digits-binary": Recipe(DIGITS, 15, ((32, 1, False), (32, 1, True)), bits=1),
    "mnist": Recipe(MNIST, 255, ((32, 2, False), (48, 1, True), (48, 1, False)), bits=2),
}


class Convolutional(nn.Module):
    """Convolutions of 3 × 3 with batch norms and activations of few bits, and a linear layer to the classes."""

    def __init__(self, recipe: Recipe, side: int) -> None:
        super().__init__()
        self.largest = recipe.largest
        binary = {"weight_quant": SignedBinaryWeightPerTensorConst}
        layers: list[nn.Module] = []
        channels = 1
        for filters, stride, is_pooled in recipe.blocks:
            layers.append(qnn.QuantConv2d(channels, filters, 3, stride=stride, padding=1, bias=False, **binary))
            layers.append(nn.BatchNorm2d(filters))
            side //= stride
            if recipe.bits == 1:
                layers.append(qnn.QuantIdentity(act_quant=SignedBinaryActPerTensorConst))
            else:
                layers.append(qnn.QuantReLU(bit_width=recipe.bits))
            if is_pooled:
                layers.append(nn.MaxPool2d(2))
                side //= 2
            channels = filters
        layers += [nn.Flatten(), qnn.QuantLinear(channels * side**2, CLASSES, bias=True, **binary)]
        self.layers = nn.Sequential(*layers)

    def forward(self, pixels: Tensor) -> Tensor:
        """The logits of images [N, 1, side, side] of pixels from 0 on."""
        return self.layers(pixels / self.largest)


def train(recipe: Recipe, images: np.ndarray, labels: np.ndarray) -> Convolutional:
    """A network trained on images [N, pixels]."""
    torch.manual_seed(recipe.plan.seed)
    x, y = torch.tensor(images, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64)
    model = Convolutional(recipe, math.isqrt(x.shape[1]))
    fit(model, lambda images, labels: F.cross_entropy(model(as_images(images)), labels), x, y, recipe.plan)
    return model


def as_images(pixels: Tensor) -> Tensor:
    """Images [N, pixels] as QONNX has them: [N, 1, side, side]."""
    side = math.isqrt(pixels.shape[1])
    return pixels.view(-1, 1, side, side)


def export(model: Convolutional, image: Tensor, path: Path) -> None:
    """Store a network as QONNX, in one file, without what the exporter notes about the source files on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / path.name
        export_qonnx(model, image, export_path=str(exported))
        stored = onnx.load(exported)
    for noted in (stored, stored.graph, *stored.graph.node, *stored.graph.value_info, *stored.graph.input):
        del noted.metadata_props[:]
        noted.doc_string = ""
    onnx.save(stored, path)


def executed(path: Path, images: Tensor) -> np.ndarray:
    """The logits of QONNX's own executor, image by image: float32 [N, classes]."""
    model = cleanup_model(ModelWrapper(str(path)))
    (given,), (made,) = model.graph.input, model.graph.output
    return np.concatenate([execute_onnx(model, {given.name: x[None].numpy()})[made.name] for x in images])


def main() -> None:
    """Train, export, score and store one network."""
    chosen = options("Train a convolutional network of few bits and export it to QONNX.", RECIPES)
    name, recipe = chosen.name, RECIPES[chosen.name]
    parts = dataset(chosen, recipe.plan.validation)
    model = train(recipe, parts.train_images, parts.train_labels)
    images = as_images(torch.tensor(parts.test_images, dtype=torch.float32))
    with tempfile.TemporaryDirectory() as folder:
        path = (Path(folder) if chosen.validate else FOLDER) / f"{name}.onnx"
        export(model, images[:1], path)
        logits = executed(path, images)
    right = int((logits.argmax(axis=1) == parts.test_labels).sum())
    print(f"{right}/{len(parts.test_labels)}")
    if not chosen.validate:
        np.savez_compressed(FOLDER / f"{name}-logits.npz", logits=logits)
        filters = [filters for filters, _, _ in recipe.blocks]
        packages = (np, torch, brevitas, onnx)
        record(f"{name}.onnx", recipe.plan, parts, right, packages, filters=filters, bits=recipe.bits)


if __name__ == "__main__":
    main()
