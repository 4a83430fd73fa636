"""Train the demo's networks with PyTorch: `python docs/demo/train.py digits`, or `… mnist --mnist DIR`.

Writes `<name>.npz` and the matching entry of `weights.json` beside this file. The weights are ±1 in the forward pass,
and the gradient passes through the sign function where its input lies in [−1, 1] (the straight-through estimator of
M. Courbariaux et al., Binarized Neural Networks, 2016). A float network of the same shape, with ReLU, is trained
first on the same images: it is the teacher (G. Hinton et al., Distilling the Knowledge in a Neural Network, 2015) and
the yardstick. With `--validate` the last part of the training images is set aside and scored instead, and
nothing is written: the recipes below were chosen by such scores, so that the held-out images decided nothing.

The seeds are fixed: one machine with one release of PyTorch always gives the same weights.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import math
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import data
import numpy as np
import sklearn
import torch
from network import Layer, Network, thresholds
from torch import Tensor, nn
from torch.nn import functional as F

FOLDER = Path(__file__).parent
CLASSES = 10


@dataclass(frozen=True)
class Recipe:
    """How one network is trained: its input encoding, its hidden widths, and what the optimiser does."""

    encoding: str
    hidden: tuple[int, ...]
    validation: int  # training images that `--validate` sets aside
    epochs: int
    float_epochs: int
    batch: int = 100
    rate: float = 3e-2
    float_rate: float = 1e-3
    shift: float = 1.0  # pixels, the largest move of a training image in each direction
    degrees: float = 10.0  # its largest turn
    zoom: float = 0.1  # its largest change of size
    temperature: float = 4.0  # softens the teacher's answers
    seed: int = 1


RECIPES = {
    "digits": Recipe("u4", (512, 512), validation=300, epochs=150, float_epochs=60, batch=50, shift=0.5),
    "mnist": Recipe("u8", (1024, 1024, 1024), validation=1500, epochs=60, float_epochs=30),
}


class Sign(torch.autograd.Function):
    """+1 where x ≥ 0, else −1; the gradient passes where |x| ≤ 1."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() <= 1)


class BinaryLinear(nn.Linear):
    """A linear layer without bias that multiplies with the signs of its weights."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        nn.init.uniform_(self.weight, -1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, Sign.apply(self.weight))


class Perceptron(nn.Module):
    """Linear layers, each with batch normalisation; between them the sign function or, in the float twin, ReLU."""

    def __init__(self, widths: tuple[int, ...], binary: bool) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(widths))
        self.binary = binary
        self.linears = nn.ModuleList(BinaryLinear(k, n) if binary else nn.Linear(k, n, bias=False) for k, n in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm1d(n) for _, n in pairs)

    def outputs(self, x: Tensor) -> list[Tensor]:
        """The output of every layer; the last one holds the logits."""
        results: list[Tensor] = []
        last = len(self.linears) - 1
        for i, (linear, norm) in enumerate(zip(self.linears, self.norms, strict=True)):
            x = norm(linear(x))
            if i < last:
                x = Sign.apply(x) if self.binary else F.relu(x)
            results.append(x)
        return results

    def forward(self, x: Tensor) -> Tensor:
        return self.outputs(x)[-1]


def augment(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Turn, zoom and shift each image [images, pixels] at random; the grey levels stay integers."""
    count, side = len(images), math.isqrt(images.shape[1])

    def uniform(limit: float) -> Tensor:
        return (2 * torch.rand(count, generator=generator) - 1) * limit

    angle, size = uniform(math.radians(recipe.degrees)), 1 + uniform(recipe.zoom)
    cosine, sine = angle.cos() * size, angle.sin() * size
    step = 2 * recipe.shift / side  # affine_grid measures an image as 2 units
    rows = (cosine, -sine, uniform(step), sine, cosine, uniform(step))
    grid = F.affine_grid(torch.stack(rows, 1).view(count, 2, 3), [count, 1, side, side], align_corners=False)
    moved = F.grid_sample(images.view(count, 1, side, side), grid, align_corners=False)
    return moved.round().view(count, -1)


def fit(model: Perceptron, images: Tensor, labels: Tensor, recipe: Recipe, teacher: Perceptron | None = None) -> None:
    """Train with Adam and a learning rate that falls to zero on a cosine.

    With a teacher, the loss is the mean of the cross-entropy with the labels and of the divergence from its answers.
    """
    epochs, rate = (recipe.epochs, recipe.rate) if model.binary else (recipe.float_epochs, recipe.float_rate)
    generator = torch.Generator().manual_seed(recipe.seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * (len(images) // recipe.batch))
    start = time.monotonic()
    for epoch in range(1, epochs + 1):
        model.train()
        moved = augment(images, recipe, generator)
        total = 0.0
        order = torch.randperm(len(images), generator=generator)
        batches = order[: len(order) // recipe.batch * recipe.batch].view(-1, recipe.batch)
        for batch in batches:
            logits = model(moved[batch])
            loss = F.cross_entropy(logits, labels[batch])
            if teacher is not None:
                loss = (loss + divergence(logits, teacher(moved[batch]), recipe.temperature)) / 2
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            clip_weights(model)
            total += loss.item()
        if epoch % max(1, epochs // 10) == 0:
            kind = "1-bit" if model.binary else "float"
            print(
                f"{kind} epoch {epoch}/{epochs}: loss {total / len(batches):.4f}, {time.monotonic() - start:.0f} s",
                flush=True,
            )
    model.eval()


def divergence(logits: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of softened answers, times temperature² so that its gradient keeps its size."""
    answers, targets = F.log_softmax(logits / temperature, 1), F.log_softmax(wanted / temperature, 1)
    return F.kl_div(answers, targets, reduction="batchmean", log_target=True) * temperature**2


def clip_weights(model: Perceptron) -> None:
    """Keep the weights behind the signs in [−1, 1], where the gradient still reaches them."""
    for linear in model.linears:
        if isinstance(linear, BinaryLinear):
            linear.weight.data.clamp_(-1, 1)


def fold(norm: nn.BatchNorm1d) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Batch normalisation as `gamma·(acc − mean)/deviation + beta`: those four, float64 [n]."""
    deviation = torch.sqrt(norm.running_var.double() + norm.eps)
    gamma, mean, beta = (t.detach().double().numpy() for t in (norm.weight, norm.running_mean, norm.bias))
    return gamma, mean, deviation.numpy(), beta


def to_network(model: Perceptron, encoding: str) -> Network:
    """The trained model with integer thresholds in place of its batch normalisation."""
    layers = []
    for linear, norm in zip(model.linears, model.norms, strict=True):
        weights = np.where(linear.weight.detach().numpy() >= 0, np.int8(1), np.int8(-1))
        if len(layers) < len(model.linears) - 1:
            layers.append(Layer(encoding, weights, "bit", thresholds(*fold(norm))))
        else:
            gamma, mean, deviation, beta = fold(norm)
            scale = gamma / deviation
            ending = {"column_scale": scale.astype(np.float32), "bias": (beta - mean * scale).astype(np.float32)}
            layers.append(Layer(encoding, weights, "f32", ending))
        encoding = "bipolar"
    return Network(tuple(layers))


def check(network: Network, model: Perceptron, images: np.ndarray) -> None:
    """Fail unless the network's hidden bits and classes are those of the model in float64."""
    with torch.no_grad():
        expected = copy.deepcopy(model).double().eval().outputs(torch.tensor(images, dtype=torch.float64))
    got = network.outputs(images)
    same = all(np.array_equal(e.numpy(), g) for e, g in zip(expected[:-1], got[:-1], strict=True))
    if not same or not np.array_equal(expected[-1].argmax(1).numpy(), got[-1].argmax(axis=1)):
        raise SystemExit("the integer network differs from the trained model: nothing was written")


def train(recipe: Recipe, images: np.ndarray, labels: np.ndarray) -> tuple[Perceptron, Perceptron]:
    """The 1-bit model and its float twin, trained on these images."""
    torch.manual_seed(recipe.seed)
    widths = (images.shape[1], *recipe.hidden, CLASSES)
    x, y = torch.tensor(images, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64)
    twin = Perceptron(widths, binary=False)
    fit(twin, x, y, recipe)
    twin.requires_grad_(False)
    model = Perceptron(widths, binary=True)
    fit(model, x, y, recipe, teacher=twin)
    return model, twin


def correct(network: Network, twin: Perceptron, images: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
    """How many images the network and its float twin classify correctly."""
    with torch.no_grad():
        answers = twin(torch.tensor(images, dtype=torch.float32)).argmax(1).numpy()
    return int((network.classify(images) == labels).sum()), int((answers == labels).sum())


def record(name: str, recipe: Recipe, parts: data.Dataset, right: int, right_float: int) -> None:
    """Replace the entry of that network in weights.json."""
    path = FOLDER / "weights.json"
    entries = json.loads(path.read_text()) if path.exists() else {}
    tested = len(parts.test_labels)
    entries[name] = {
        "widths": [parts.train_images.shape[1], *recipe.hidden, CLASSES],
        "encoding": recipe.encoding,
        "train_images": len(parts.train_labels),
        "test_images": tested,
        "test_correct": right,
        "test_accuracy": right / tested,
        "float_test_correct": right_float,
        "float_test_accuracy": right_float / tested,
        "epochs": recipe.epochs,
        "float_epochs": recipe.float_epochs,
        "seed": recipe.seed,
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
            "torch": torch.__version__,
        },
    }
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n")
    os.replace(unfinished, path)


def main() -> None:
    """Train, check, score and store one network."""
    parser = argparse.ArgumentParser(description="Train one of the demo's binarised networks.")
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--mnist", metavar="DIR", help="folder with MNIST's t10k IDX files")
    parser.add_argument("--validate", action="store_true", help="score a part of the training images; write nothing")
    arguments = parser.parse_args()

    torch.set_num_threads(1)  # sums in one order
    torch.use_deterministic_algorithms(True)
    recipe = RECIPES[arguments.name]
    parts = data.load(arguments.name, arguments.mnist)
    images, labels = parts.train_images, parts.train_labels
    if arguments.validate:
        seen, unseen = slice(None, -recipe.validation), slice(-recipe.validation, None)
        model, twin = train(recipe, images[seen], labels[seen])
        network = to_network(model, recipe.encoding)
        right, right_float = correct(network, twin, images[unseen], labels[unseen])
        print(f"validation: 1-bit {right}/{recipe.validation}, float {right_float}/{recipe.validation}")
        return

    model, twin = train(recipe, images, labels)
    network = to_network(model, recipe.encoding)
    check(network, model, np.concatenate((images, parts.test_images)))
    right, right_float = correct(network, twin, parts.test_images, parts.test_labels)
    network.save(FOLDER / f"{arguments.name}.npz")
    record(arguments.name, recipe, parts, right, right_float)
    print(f"held out: 1-bit {right}/{len(parts.test_labels)}, float {right_float}/{len(parts.test_labels)}")


if __name__ == "__main__":
    main()
