"""Train convolutional networks with Brevitas and export them to QONNX: `python docs/demo/train_conv.py digits`.

Writes beside this file `<name>.onnx`, what Brevitas exports, `<name>-logits.npz`, what QONNX's own executor makes of
every held-out image, and the network's entry in `convolutions.json`. Needs `pip install torch brevitas onnxoptimizer`
beside `pip install '.[qonnx,demo]'`; `… mnist --mnist DIR` trains on MNIST's files.

Weights are ±1 in every layer; activations have 2 bits, or are ±1 (digits-binary). Images are moved about as in
`train.py`, and with `--validate` the last training images are scored and nothing is written, so that the held-out
images decided nothing. The seeds are fixed.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import brevitas
import brevitas.nn as qnn
import data
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
from train import CLASSES, FOLDER, augment
from train import Recipe as Moves


@dataclass(frozen=True)
class Recipe:
    """What one network is made of, and how it is trained."""

    largest: int  # pixel
    blocks: tuple[tuple[int, int, bool], ...]  # filters, stride, and whether the largest of 2 × 2 places is taken after
    bits: int  # of activations: 1 for ±1
    epochs: int
    validation: int  # training images that `--validate` sets aside
    moves: Moves  # how far training images are moved
    batch: int = 50
    rate: float = 1e-2
    seed: int = 1


RECIPES = {
    "digits": Recipe(15, ((32, 1, False), (32, 1, True)), 2, 100, 300, Moves("u4", (), 0, 0, 0, shift=0.5)),
    "digits-binary": Recipe(15, ((32, 1, False), (32, 1, True)), 1, 100, 300, Moves("u4", (), 0, 0, 0, shift=0.5)),
    "mnist": Recipe(255, ((32, 2, False), (48, 1, True), (48, 1, False)), 2, 20, 1500, Moves("u8", (), 0, 0, 0)),
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


def fit(recipe: Recipe, images: np.ndarray, labels: np.ndarray) -> Convolutional:
    """A network trained with Adam and a learning rate that falls to zero on a cosine."""
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    x, y = torch.tensor(images, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64)
    side = math.isqrt(x.shape[1])
    model = Convolutional(recipe, side)
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.epochs * (len(x) // recipe.batch))
    start = time.monotonic()
    for epoch in range(1, recipe.epochs + 1):
        moved = augment(x, recipe.moves, generator).view(-1, 1, side, side)
        order = torch.randperm(len(x), generator=generator)
        batches = order[: len(order) // recipe.batch * recipe.batch].view(-1, recipe.batch)
        total = 0.0
        for batch in batches:
            loss = F.cross_entropy(model(moved[batch]), y[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        if epoch % max(1, recipe.epochs // 10) == 0:
            spent = time.monotonic() - start
            print(f"epoch {epoch}/{recipe.epochs}: loss {total / len(batches):.4f}, {spent:.0f} s", flush=True)
    return model.eval()


def as_tensor(images: np.ndarray) -> Tensor:
    """Images [N, pixels] as QONNX has them: [N, 1, side, side] of float32."""
    side = math.isqrt(images.shape[1])
    return torch.tensor(images, dtype=torch.float32).view(-1, 1, side, side)


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


def record(name: str, recipe: Recipe, parts: data.Dataset, right: int) -> None:
    """Replace the entry of that network in convolutions.json."""
    path = FOLDER / "convolutions.json"
    entries = json.loads(path.read_text()) if path.exists() else {}
    entries[name] = {
        "filters": [filters for filters, _, _ in recipe.blocks],
        "bits": recipe.bits,
        "train_images": len(parts.train_labels),
        "test_images": len(parts.test_labels),
        "test_correct": right,
        "test_accuracy": right / len(parts.test_labels),
        "epochs": recipe.epochs,
        "seed": recipe.seed,
        "versions": {
            "python": platform.python_version(),
            **{package.__name__: package.__version__ for package in (np, torch, brevitas, onnx)},
        },
    }
    path.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n")


def main() -> None:
    """Train, export, score and store one network."""
    parser = argparse.ArgumentParser(description="Train a convolutional network of few bits and export it to QONNX.")
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--mnist", metavar="DIR", help="folder with MNIST's t10k IDX files")
    parser.add_argument("--validate", action="store_true", help="score a part of the training images; write nothing")
    arguments = parser.parse_args()

    torch.set_num_threads(1)  # sums in one order
    recipe = RECIPES[arguments.name]
    parts = data.load(arguments.name.partition("-")[0], arguments.mnist)
    images, labels = parts.train_images, parts.train_labels
    if arguments.validate:
        model = fit(recipe, images[: -recipe.validation], labels[: -recipe.validation])
        with torch.no_grad():
            classes = model(as_tensor(images[-recipe.validation :])).argmax(1).numpy()
        print(f"validation: {(classes == labels[-recipe.validation :]).sum()}/{recipe.validation}")
        return

    model = fit(recipe, images, labels)
    path = FOLDER / f"{arguments.name}.onnx"
    held_out = as_tensor(parts.test_images)
    export(model, held_out[:1], path)
    logits = executed(path, held_out)
    np.savez_compressed(FOLDER / f"{arguments.name}-logits.npz", logits=logits)
    right = int((logits.argmax(axis=1) == parts.test_labels).sum())
    record(arguments.name, recipe, parts, right)
    print(f"held out: {right}/{len(parts.test_labels)}")


if __name__ == "__main__":
    main()
