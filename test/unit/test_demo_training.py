"""The script that trains the demo's networks, where PyTorch is there: what it stores is what it has trained."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import data
import network
import numpy as np
import pytest

from bitmlir import nn
from bitmlir.nn import zoo

WIDTHS = (64, 24, 17, 10)

pytest.importorskip("torch", reason="training needs PyTorch, which no extra brings")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the script writes what it makes of two epochs on the digits, for layers of a few outputs."""
    import torch
    import train_mlp
    import training

    (tmp_path / "networks.json").write_text("{}")
    for module in (training, train_mlp):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    monkeypatch.setitem(network.WIDTHS, "digits", WIDTHS)
    monkeypatch.setitem(train_mlp.FLOAT_EPOCHS, "digits", 2)
    plan = training.Plan(epochs=2, batch=50, rate=3e-2, validation=300)
    monkeypatch.setitem(train_mlp.PLANS, "digits", plan)
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def test_what_is_stored_scores_what_is_noted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import train_mlp

    monkeypatch.setattr(sys, "argv", ["train_mlp.py", "digits"])
    train_mlp.main()  # which compares the hidden layers and classes with PyTorch's in float64
    parts = data.load("digits")
    layer = network.perceptron(nn.load_weights(folder / "digits.npz"), WIDTHS)
    logits = nn.compile(layer, len(parts.test_images), "cpu")(parts.test_images)
    noted = json.loads((folder / "networks.json").read_text())["digits.npz"]
    assert (logits.argmax(axis=1) == parts.test_labels).sum() == noted["test_correct"] > 36  # one in ten by chance
    assert noted["widths"] == list(WIDTHS)


def test_validation_writes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    import train_mlp

    monkeypatch.setattr(sys, "argv", ["train_mlp.py", "digits", "--validate"])
    train_mlp.main()
    assert "/300, float " in capsys.readouterr().out
    assert [path.name for path in folder.iterdir()] == ["networks.json"]


def test_another_network_than_the_model_is_not_stored(folder: Path) -> None:
    import train_mlp

    model = train_mlp.Perceptron(WIDTHS, binary=True).eval()
    arrays = train_mlp.arrays_of(model)
    images = np.random.default_rng(0).integers(0, 16, (50, 64), dtype=np.uint8)
    train_mlp.classes(network.perceptron(zoo.GivenParameters(arrays), WIDTHS), model, images)
    arrays["linear2.weights"] = ~arrays["linear2.weights"]
    with pytest.raises(SystemExit, match="differs from the trained model: nothing was written"):
        train_mlp.classes(network.perceptron(zoo.GivenParameters(arrays), WIDTHS), model, images)
