"""Train the demo's networks with PyTorch: `python docs/demo/train_mlp.py digits`, or `… mnist --mnist DIR`.

Writes `<name>.npz` and its entry of `networks.json` beside this file; `training.py` says what `--validate` does. The
weights are ±1 in the forward pass, and the gradient passes through the sign function where its input lies in [−1, 1]
(the straight-through estimator of M. Courbariaux et al., Binarized Neural Networks, 2016). A float network of the same
shape, with ReLU, is trained first on the same images: it is the teacher (G. Hinton et al., Distilling the Knowledge in
a Neural Network, 2015) and the yardstick.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import network
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from training import FOLDER, Plan, dataset, fit, options, record

import bitmlir
from bitmlir.nn import zoo

PLANS = {
    "digits": Plan(epochs=150, batch=50, rate=3e-2, validation=300, shift=0.5),
    "mnist": Plan(epochs=60, batch=100, rate=3e-2, validation=1500),
}
FLOAT_EPOCHS = {"digits": 60, "mnist": 30}
FLOAT_RATE = 1e-3
TEMPERATURE = 4.0  # softens the teacher's answers


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
        with torch.no_grad():
            self.weight.clamp_(-1, 1)  # where the gradient still reaches them
        return F.linear(x, Sign.apply(self.weight))


class Perceptron(nn.Module):
    """Linear layers, each with batch normalisation; between them the sign function or, in the float twin, ReLU."""

    def __init__(self, widths: Sequence[int], binary: bool) -> None:
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


def train(
    widths: Sequence[int], plan: Plan, float_epochs: int, images: np.ndarray, labels: np.ndarray
) -> tuple[Perceptron, Perceptron]:
    """The 1-bit model and its float twin.

    The loss of the former is the mean of its cross-entropy with the labels and its divergence from the twin's answers.
    """
    torch.manual_seed(plan.seed)
    x, y = torch.tensor(images, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64)
    twin = Perceptron(widths, binary=False)
    float_plan = replace(plan, epochs=float_epochs, rate=FLOAT_RATE)
    fit(twin, lambda images, labels: F.cross_entropy(twin(images), labels), x, y, float_plan)
    twin.requires_grad_(False)
    model = Perceptron(widths, binary=True)

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        logits = model(images)
        return (F.cross_entropy(logits, labels) + divergence(logits, twin(images))) / 2

    fit(model, loss, x, y, plan)
    return model, twin


def divergence(logits: Tensor, wanted: Tensor) -> Tensor:
    """Kullback-Leibler divergence of softened answers, times temperature² so that its gradient keeps its size."""
    answers, targets = F.log_softmax(logits / TEMPERATURE, 1), F.log_softmax(wanted / TEMPERATURE, 1)
    return F.kl_div(answers, targets, reduction="batchmean", log_target=True) * TEMPERATURE**2


def arrays_of(model: Perceptron) -> dict[str, np.ndarray]:
    """What is stored of a model, by the names of `bitmlir.nn.zoo`: signs of weights, packed, and batch norms."""
    arrays: dict[str, np.ndarray] = {}
    for number, (linear, norm) in enumerate(zip(model.linears, model.norms, strict=True), start=1):
        arrays[f"linear{number}.weights"] = np.packbits(linear.weight.detach().numpy() >= 0, axis=1)
        trained = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        gamma, beta, mean, variance = (tensor.detach().numpy() for tensor in trained)
        numbers = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
        if number < len(model.linears):
            numbers = network.turns(*(a.astype(np.float64) for a in (gamma, beta, mean)), deviation(norm))
        arrays |= {f"norm{number}.{name}": array for name, array in numbers.items()}
    return arrays


def deviation(norm: nn.BatchNorm1d) -> np.ndarray:
    """What batch normalisation divides by, in float64."""
    return torch.sqrt(norm.running_var.double() + norm.eps).numpy()


def classes(layer: bitmlir.nn.Layer, model: Perceptron, images: np.ndarray) -> np.ndarray:
    """The class that the stored network gives each image.

    Ends the script unless its hidden layers and classes are those of the model in float64.
    """
    with torch.no_grad():
        expected = copy.deepcopy(model).double().eval().outputs(torch.tensor(images, dtype=torch.float64))
    *hidden, logits = bitmlir.nn.compile(layer, len(images), "cpu", every=True).reference(images)
    same = all(np.array_equal(e.numpy(), h) for e, h in zip(expected[:-1], hidden, strict=True))
    if not same or not np.array_equal(expected[-1].argmax(1).numpy(), logits.argmax(axis=1)):
        raise SystemExit("the network to be stored differs from the trained model: nothing was written")
    return logits.argmax(axis=1)


def main() -> None:
    """Train, check, score and store one network."""
    chosen = options("Train one of the demo's networks with weights of ±1.", PLANS)
    name, plan = chosen.name, PLANS[chosen.name]
    parts = dataset(chosen, plan.validation)
    widths = network.WIDTHS[name]
    model, twin = train(widths, plan, FLOAT_EPOCHS[name], parts.train_images, parts.train_labels)
    arrays = arrays_of(model)
    layer = network.perceptron(zoo.GivenParameters(arrays), widths)
    classes(layer, model, parts.train_images)
    right = int((classes(layer, model, parts.test_images) == parts.test_labels).sum())
    with torch.no_grad():
        answers = twin(torch.tensor(parts.test_images, dtype=torch.float32)).argmax(1).numpy()
    right_float = int((answers == parts.test_labels).sum())
    print(f"1-bit {right}/{len(parts.test_labels)}, float {right_float}/{len(parts.test_labels)}")
    if not chosen.validate:
        save(FOLDER / f"{name}.npz", arrays)
        twins = {"float_epochs": FLOAT_EPOCHS[name], "float_test_correct": right_float}
        record(f"{name}.npz", plan, parts, right, (np, torch), widths=widths, **twins)


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write the arrays as an .npz file, whole or not at all."""
    unfinished = path.with_suffix(".tmp")
    with open(unfinished, "wb") as file:
        np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
    unfinished.replace(path)


if __name__ == "__main__":
    main()
