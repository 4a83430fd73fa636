"""Weights from files: what a network asks for, what it gets, and what is wrong with a file or an array."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import bitmlir
from bitmlir import nn
from bitmlir.dialects.errors import InputError, ShapeError
from bitmlir.nn import zoo
from bitmlir.tools import codegen

NAME = "mnist-mlp"
SHAPES = zoo.parameter_shapes(NAME)
SAVE: dict[str, Callable[[Path, dict[str, np.ndarray]], Any]] = {
    ".npz": lambda path, arrays: np.savez(path, **arrays),
    ".safetensors": lambda path, arrays: save_file(arrays, path),
}

Capture = pytest.CaptureFixture[str]


def random_arrays(seed: int) -> dict[str, np.ndarray]:
    """What a file of weights holds, in the types that it may have."""
    parameters = zoo.RandomParameters(seed)
    arrays = {name: parameters.get(name, shape) for name, shape in SHAPES.items()}
    return {n: a.astype(np.int8 if n.endswith(".weights") else np.float32) for n, a in arrays.items()}


def test_the_shapes_are_those_that_the_network_asks_for() -> None:
    assert SHAPES["linear1.weights"] == (1024, 784)
    assert SHAPES["norm4.variance"] == (10,)
    assert {name.partition(".")[2] for name in SHAPES} == {"weights", "gamma", "beta", "mean", "variance"}
    assert zoo.parameter_shapes("cifar10-vgg", 2)["conv2.weights"] == (128, 3, 3, 128)
    with pytest.raises(InputError, match="unknown network 'resnet'"):
        zoo.parameter_shapes("resnet")


@pytest.mark.parametrize("kind", SAVE)
def test_a_network_has_the_weights_of_its_file(kind: str, tmp_path: Path, capfd: Capture) -> None:
    arrays = random_arrays(3)
    SAVE[kind](tmp_path / f"w{kind}", {**arrays, "step": np.array([7])})  # what it does not need may be there
    model = nn.compile(zoo.network(NAME, nn.load_weights(tmp_path / f"w{kind}")), 2, "cpu")
    right = nn.compile(zoo.network(NAME, zoo.GivenParameters(arrays)), 2, "cpu")
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), dtype=np.uint8)
    np.testing.assert_array_equal(model(images), right.reference(images))
    command = ["network", NAME, "--weights", str(tmp_path / f"w{kind}"), "--batch", "2", "--target", "cpu"]
    assert codegen.main([*command, "-o", str(tmp_path / "net.bitmlir")]) == 0
    assert capfd.readouterr() == ("", "")
    np.testing.assert_array_equal(bitmlir.load(tmp_path / "net.bitmlir")(images), right.reference(images))


@pytest.mark.parametrize("shape", [(5, 784), (3, 2, 2, 13), (4, 8), (6, 1)])
def test_weights_may_be_packed(shape: tuple[int, ...], tmp_path: Path) -> None:
    weights = np.random.default_rng(0).choice(np.array([-1, 1], np.int8), shape)
    packed = weights if shape[-1] == 1 else np.packbits(weights > 0, axis=-1)  # of one number there is nothing to pack
    np.savez(tmp_path / "w.npz", **{"conv1.weights": packed})
    np.testing.assert_array_equal(nn.load_weights(tmp_path / "w.npz").get("conv1.weights", shape), weights)


def test_what_only_looks_packed_is_refused() -> None:
    packed = np.zeros((4, 2), np.uint8)
    for name, array in (
        ("linear1.weights", packed.astype(np.int8)),
        ("linear1.weights8", packed),
        ("linear1.weights", packed[:, :1]),
    ):
        with pytest.raises(ShapeError, match=rf"'{name}' must have the shape \(4, 13\), got \(4, "):
            zoo.GivenParameters({name: array}).get(name, (4, 13))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"linear2.weights": None},
            InputError,
            r"needs an array 'linear2\.weights' of shape \(1024, 1024\), which is mis",
        ),
        ({"norm1.mean": np.zeros(5)}, ShapeError, r"'norm1\.mean' must have the shape \(1024,\), got \(5,\)"),
        (
            {"norm4.gamma": np.array([1, 2, np.nan, *[1] * 7])},
            InputError,
            r"'norm4\.gamma' must be finite, but norm4\.gamma\[2\] is nan",
        ),
        (
            {"norm4.variance": np.array([1, np.inf, *[1] * 8])},
            InputError,
            r"'norm4\.variance' must be finite, but norm4\.variance\[1\] is inf",
        ),
        ({"norm4.beta": np.array(["a"] * 10)}, InputError, r"'norm4\.beta' must hold numbers, got <U1"),
    ],
)
def test_arrays_that_do_not_fit_are_named(
    change: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    arrays = {name: array for name, array in {**random_arrays(0), **change}.items() if array is not None}
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(error, match=message):
        zoo.network(NAME, nn.load_weights(tmp_path / "w.npz"))


@pytest.mark.parametrize("kind", SAVE)
def test_a_damaged_file_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"w{kind}"
    SAVE[kind](path, {"a": np.arange(1000)})
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError, match=rf"w\{kind}' is no whole \{kind} file of numbers: "):
        nn.load_weights(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="is no whole"):
        nn.load_weights(path)


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", a=np.array([{}], object))
    with pytest.raises(InputError, match=r"is no whole \.npz file of numbers"):
        nn.load_weights(tmp_path / "w.npz")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere.npz", r"cannot read 'nowhere\.npz': No such file or directory"),
        ("nowhere.safetensors", r"cannot read 'nowhere\.safetensors': No such file or directory"),
        ("weights.pt", r"files \.safetensors or \.npz, but 'weights\.pt' is neither"),
        (5, "expected the path of a file of weights, got int"),
    ],
)
def test_a_file_that_is_not_there_or_of_another_kind_is_refused(path: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        nn.load_weights(path)
