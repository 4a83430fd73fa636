"""The demo's stored networks: what they compute and score, on the CPU as in plain numpy; and MNIST's files."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import data
import network
import numpy as np
import pytest
from networks import equal
from stored_networks import DEMO, held_out, record

from bitmlir import nn
from bitmlir.dialects.errors import InputError
from bitmlir.nn import zoo


def idx(array: np.ndarray) -> bytes:
    """The IDX file of a uint8 array."""
    sizes = np.array(array.shape, ">u4").tobytes()
    return bytes((0, 0, 8, array.ndim)) + sizes + array.astype(np.uint8).tobytes()


def images(count: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (count, 28, 28)).astype(np.uint8)


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """A folder with five images: plain pictures, gzipped labels."""
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(images(5)))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(5))))
    return tmp_path


def plain_classes(arrays: dict[str, np.ndarray], pixels: np.ndarray) -> np.ndarray:
    """The class of each image, from the arrays of a file by float64 alone."""
    x, layers = pixels.astype(np.float64), len(arrays) // 5
    for number in range(1, layers + 1):
        bits = np.unpackbits(arrays[f"linear{number}.weights"], axis=1, count=x.shape[1])
        gamma, beta, mean, variance = (
            arrays[f"norm{number}.{name}"].astype(np.float64) for name in ("gamma", "beta", "mean", "variance")
        )
        x = (x @ (bits * 2.0 - 1).T - mean) * gamma / np.sqrt(variance + 1e-5) + beta
        x = np.where(x >= 0, 1.0, -1.0) if number < layers else x
    return x.argmax(axis=1)


@pytest.mark.parametrize("name", network.WIDTHS)
def test_held_out_images_are_classified_as_plain_numpy_does_and_as_recorded(name: str):
    images, classes = held_out(name)
    pixels = images.reshape(len(images), -1)
    model = nn.compile(network.load(name), len(pixels), "cpu", every=True)
    expected = model.reference(pixels)
    computed = model(pixels)
    equal(computed, expected)
    predicted = computed[-1].argmax(axis=1)
    assert np.array_equal(predicted, plain_classes(stored(name), pixels))
    noted = record(f"{name}.npz")
    assert (predicted == classes).sum() == noted["test_correct"] >= 0.95 * len(classes)
    assert len(classes) == noted["test_images"] == data.HELD_OUT[name]


def test_the_zoo_takes_what_is_stored_for_mnist(rng: np.random.Generator):
    pixels = rng.integers(0, 256, (5, 784), dtype=np.uint8)
    theirs = zoo.network("mnist-mlp", nn.load_weights(DEMO / "mnist.npz"))
    logits = nn.compile(theirs, 5, "cpu")(pixels.reshape(5, 28, 28, 1))
    assert np.array_equal(logits, nn.compile(network.load("mnist"), 5, "cpu")(pixels))


def stored(name: str) -> dict[str, np.ndarray]:
    """The arrays in a network's file."""
    with np.load(DEMO / f"{name}.npz") as file:
        return dict(file)


def test_digits_fit_four_bits_and_no_image_is_on_both_sides_of_the_split():
    pixels, labels = data.load_digits()
    assert pixels.shape == (1797, 64)
    assert (pixels.min(), pixels.max()) == (0, 15)
    assert sorted(set(labels.tolist())) == list(range(10))
    parts = data.split(np.arange(1797)[:, None], np.arange(1797), data.HELD_OUT["digits"])
    assert sorted([*parts.train_labels, *parts.test_labels]) == list(range(1797))
    assert np.array_equal(parts.test_images[:, 0], parts.test_labels)


@pytest.mark.parametrize("name", network.WIDTHS)
def test_stored_files_are_small_and_have_the_recorded_shapes(name: str):
    widths = network.WIDTHS[name]
    assert record(f"{name}.npz")["widths"] == list(widths)
    shapes = {key: (array.shape, array.dtype.name) for key, array in stored(name).items()}
    expected = {}
    for number, (inputs, outputs) in enumerate(itertools.pairwise(widths), 1):
        expected[f"linear{number}.weights"] = ((outputs, -(-inputs // 8)), "uint8")
        expected |= {f"norm{number}.{key}": ((outputs,), "float32") for key in ("gamma", "beta", "mean", "variance")}
    assert shapes == expected
    bits = sum(inputs * outputs for inputs, outputs in itertools.pairwise(widths))
    assert (DEMO / f"{name}.npz").stat().st_size < bits / 8 + 10_000


def test_turns_have_the_sign_of_the_batch_norm():
    # Quarters and a deviation of 1 make float64 exact, so that ties at zero count too.
    gamma, mean, beta = (a.ravel() / 4 for a in np.meshgrid(range(-4, 5, 2), range(-10, 11), range(-8, 9)))
    sums = np.arange(-40, 41)[:, None]
    norm = network.turns(gamma, beta, mean, np.ones_like(mean))
    assert np.array_equal(norm["gamma"] * (sums - norm["mean"]) + norm["beta"] >= 0, gamma * (sums - mean) + beta >= 0)
    assert {array.dtype.name for array in norm.values()} == {"float32"}
    assert (norm["variance"] == 1).all()


def test_turns_far_from_all_sums_make_a_constant_sign():
    gamma, beta = np.array([1e-12, 1e-12, -1e-12, -1e-12, 0, 0]), np.array([1.0, -1, 1, -1, 0, -1])
    norm = network.turns(gamma, beta, np.zeros(6), np.ones(6))
    sums = np.array([[-(10**6)], [0], [10**6]])
    signs = norm["gamma"] * (sums - norm["mean"]) + norm["beta"] >= 0
    assert np.array_equal(signs, np.tile([True, False, True, False, True, False], (3, 1)))


def test_idx_files_are_read_plain_and_gzipped(mnist: Path):
    pixels, labels = data.load_mnist(mnist)
    assert np.array_equal(pixels, images(5).reshape(5, 784))
    assert np.array_equal(labels, np.arange(5))


def test_a_missing_file_is_named(mnist: Path):
    with pytest.raises(InputError, match=r"no train-images-idx3-ubyte and no train-images-idx3-ubyte\.gz in"):
        data.load_mnist(mnist, "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw[:-1], "is truncated: expected 3920 bytes after the header, got 3919"),
        (lambda raw: raw + b"!", "is too long: expected 3920 bytes after the header, got 3921"),
        (lambda raw: raw[:9], "is truncated: expected a header of 16 bytes, got 9"),
        (lambda raw: b"", "is truncated: expected a header of 16 bytes, got 0"),
        (lambda raw: b"\x00\x00\x08\x01" + raw[4:], "must start with 00000803, got 00000801"),
        (lambda raw: b"PK", "must start with 00000803, got 504b"),
        (lambda raw: idx(np.zeros((5, 28, 27))), "expected images of 28 x 28 pixels in .*, got 28 x 27"),
        (lambda raw: idx(images(4)), "4 images but 5 labels"),
    ],
)
def test_a_damaged_image_file_is_refused(mnist: Path, change, message: str):
    path = mnist / "t10k-images-idx3-ubyte"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=message):
        data.load_mnist(mnist)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw[:-9], "is truncated: download it again"),
        (lambda raw: b"<html>", "cannot read .*Not a gzipped file"),
        (lambda raw: gzip.compress(idx(np.full(5, 10))), "expected the labels 0..9 in .*, got 10"),
    ],
)
def test_a_damaged_gzip_file_is_refused(mnist: Path, change, message: str):
    path = mnist / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=message):
        data.load_mnist(mnist)


def test_a_wrong_data_set_is_refused(mnist: Path):
    with pytest.raises(InputError, match="unknown data set 'cifar'"):
        data.load("cifar")
    with pytest.raises(InputError, match="needs the folder"):
        data.load("mnist")
    with pytest.raises(InputError, match="unknown part 'test' of MNIST"):
        data.load_mnist(mnist, "test")
    with pytest.raises(InputError, match="expected more than the 2000 images to hold out, got 5"):
        data.load("mnist", mnist)
