"""What the scripts that train the demo's networks share: moved images, the loop over epochs, and the record.

Images are turned, zoomed and shifted at random. With `--validate` the last training images are set aside and scored in
the place of the held-out ones, and nothing is written: recipes were chosen by such scores, so that the held-out images
decided nothing. The seeds are fixed: one machine with one release of PyTorch always gives the same weights.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import data
import torch
from torch import Tensor, nn
from torch.nn import functional as F

FOLDER = Path(__file__).parent
CLASSES = 10


@dataclass(frozen=True)
class Plan:
    """How a network is trained."""

    epochs: int
    batch: int
    rate: float
    validation: int  # training images that `--validate` sets aside
    shift: float = 1.0  # pixels, the largest move of a training image in each direction
    degrees: float = 10.0  # its largest turn
    zoom: float = 0.1  # its largest change of size
    seed: int = 1


def options(description: str, names: Iterable[str]) -> argparse.Namespace:
    """The command line of a training script; PyTorch is told to add in one order."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("name", choices=sorted(names))
    parser.add_argument("--mnist", metavar="DIR", help="folder with MNIST's t10k IDX files")
    parser.add_argument("--validate", action="store_true", help="score a part of the training images; write nothing")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    return parser.parse_args()


def dataset(chosen: argparse.Namespace, validation: int) -> data.Dataset:
    """The images to train on and to score: with `--validate` both are parts of those to train on."""
    parts = data.load(chosen.name.partition("-")[0], chosen.mnist)
    if not chosen.validate:
        return parts
    seen, unseen = slice(None, -validation), slice(-validation, None)
    images, labels = parts.train_images, parts.train_labels
    return data.Dataset(images[seen], labels[seen], images[unseen], labels[unseen])


def augment(images: Tensor, plan: Plan, generator: torch.Generator) -> Tensor:
    """Turn, zoom and shift each image [images, pixels] at random; the grey levels stay integers."""
    count, side = len(images), math.isqrt(images.shape[1])

    def uniform(limit: float) -> Tensor:
        return (2 * torch.rand(count, generator=generator) - 1) * limit

    angle, size = uniform(math.radians(plan.degrees)), 1 + uniform(plan.zoom)
    cosine, sine = angle.cos() * size, angle.sin() * size
    step = 2 * plan.shift / side  # affine_grid measures an image as 2 units
    rows = (cosine, -sine, uniform(step), sine, cosine, uniform(step))
    grid = F.affine_grid(torch.stack(rows, 1).view(count, 2, 3), [count, 1, side, side], align_corners=False)
    moved = F.grid_sample(images.view(count, 1, side, side), grid, align_corners=False)
    return moved.round().view(count, -1)


def fit(model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], images: Tensor, labels: Tensor, plan: Plan) -> None:
    """Train with Adam and a learning rate that falls to zero on a cosine.

    loss: of a batch of images [batch, pixels] and their classes.
    """
    generator = torch.Generator().manual_seed(plan.seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=plan.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, plan.epochs * (len(images) // plan.batch))
    start = time.monotonic()
    model.train()
    for epoch in range(1, plan.epochs + 1):
        moved = augment(images, plan, generator)
        order = torch.randperm(len(images), generator=generator)
        batches = order[: len(order) // plan.batch * plan.batch].view(-1, plan.batch)
        total = 0.0
        for batch in batches:
            of_batch = loss(moved[batch], labels[batch])
            optimiser.zero_grad()
            of_batch.backward()
            optimiser.step()
            schedule.step()
            total += of_batch.item()
        if epoch % max(1, plan.epochs // 10) == 0:
            spent = time.monotonic() - start
            print(f"epoch {epoch}/{plan.epochs}: loss {total / len(batches):.4f}, {spent:.0f} s", flush=True)
    model.eval()


def record(file: str, plan: Plan, parts: data.Dataset, right: int, packages: Iterable[ModuleType], **more: Any) -> None:
    """Replace the entry of that file in networks.json: how it was trained, with what, and what it scores."""
    path = FOLDER / "networks.json"
    entries = json.loads(path.read_text())
    entries[file] = {
        "train_images": len(parts.train_labels),
        "test_images": len(parts.test_labels),
        "test_correct": right,
        "epochs": plan.epochs,
        "seed": plan.seed,
        "versions": {"python": platform.python_version(), **{p.__name__: p.__version__ for p in packages}},
        **more,
    }
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n")
    os.replace(unfinished, path)
