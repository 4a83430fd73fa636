"""The demo's stored networks: they score what their record says, in plain numpy; and the loader of MNIST's files."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import InputError

DEMO = Path(__file__).parents[2] / "docs" / "demo"
sys.path.insert(0, str(DEMO))

import data  # noqa: E402
from network import Layer, Network, thresholds  # noqa: E402

RECORD = json.loads((DEMO / "weights.json").read_text())


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


def test_digits_score_what_the_record_says_on_the_held_out_images():
    parts = data.load("digits")
    network = Network.load(DEMO / "digits.npz")
    correct = int((network.classify(parts.test_images) == parts.test_labels).sum())
    assert len(parts.test_labels) == RECORD["digits"]["test_images"] == data.HELD_OUT["digits"]
    assert correct == RECORD["digits"]["test_correct"]
    assert correct / len(parts.test_labels) == RECORD["digits"]["test_accuracy"] >= 0.95


def test_digits_fit_four_bits_and_no_image_is_on_both_sides_of_the_split():
    pixels, labels = data.load_digits()
    assert pixels.shape == (1797, 64)
    assert (pixels.min(), pixels.max()) == (0, 15)
    assert sorted(set(labels.tolist())) == list(range(10))
    parts = data.split(np.arange(1797)[:, None], np.arange(1797), data.HELD_OUT["digits"])
    assert sorted([*parts.train_labels, *parts.test_labels]) == list(range(1797))
    assert np.array_equal(parts.test_images[:, 0], parts.test_labels)


@pytest.mark.parametrize("name", sorted(RECORD))
def test_stored_networks_have_the_recorded_shapes_and_the_exact_types(name: str):
    network = Network.load(DEMO / f"{name}.npz")
    assert list(network.widths) == RECORD[name]["widths"]
    assert network.encodings == (RECORD[name]["encoding"], *["bipolar"] * (len(network.layers) - 1))
    assert [layer.out for layer in network.layers] == ["bit"] * (len(network.layers) - 1) + ["f32"]
    for layer in network.layers:
        assert layer.weights.dtype == np.int8
        assert set(np.unique(layer.weights)) == {-1, 1}
        types = {key: value.dtype.name for key, value in layer.parameters.items()}
        hidden = {"threshold": "int32", "flip": "bool"}
        assert types == (hidden if layer.out == "bit" else {"column_scale": "float32", "bias": "float32"})
        assert all(value.shape == layer.weights.shape[:1] for value in layer.parameters.values())


@pytest.mark.parametrize("name", sorted(RECORD))
def test_the_numpy_forward_pass_is_exact_for_the_largest_input(name: str):
    first = Network.load(DEMO / f"{name}.npz").layers[0]
    largest = Encoding.parse(first.encoding).maximum
    x = np.full((1, first.weights.shape[1]), largest, np.uint8)
    acc = x.astype(np.int64) @ first.weights.T.astype(np.int64)
    expected = np.where((acc >= first.parameters["threshold"]) != first.parameters["flip"], 1, -1)
    assert np.array_equal(first(x), expected)


def test_thresholds_decide_as_batch_normalisation_and_the_sign_do():
    # Quarters and a deviation of 1 make float64 exact, so that ties at zero count too.
    gamma, mean, beta = (a.ravel() / 4 for a in np.meshgrid(range(-4, 5, 2), range(-10, 11), range(-8, 9)))
    acc = np.arange(-40, 41)[:, None]
    parameters = thresholds(gamma, mean, np.ones_like(mean), beta)
    expected = gamma * (acc - mean) + beta >= 0
    assert np.array_equal((acc >= parameters["threshold"]) != parameters["flip"], expected)


def test_thresholds_past_int32_make_a_constant_bit():
    gamma, beta = np.array([1e-12, 1e-12, -1e-12, -1e-12, 0, 0]), np.array([1.0, -1, 1, -1, 0, -1])
    parameters = thresholds(gamma, np.zeros(6), np.ones(6), beta)
    acc = np.array([[-(10**6)], [0], [10**6]])
    bits = (acc >= parameters["threshold"]) != parameters["flip"]
    assert np.array_equal(bits, np.tile([True, False, True, False, True, False], (3, 1)))


def test_stored_files_are_small():
    assert (DEMO / "digits.npz").stat().st_size < 64_000
    assert all((DEMO / f"{name}.npz").stat().st_size < 500_000 for name in RECORD)


def test_a_network_comes_back_from_its_file(tmp_path: Path):
    random = np.random.RandomState(0)
    signs = [np.where(random.rand(*shape) < 0.5, -1, 1).astype(np.int8) for shape in ((5, 13), (3, 5))]
    limits = np.array([-(2**31), 2**31 - 1, 0, 3, -3], np.int32)
    hidden = Layer("u4", signs[0], "bit", {"threshold": limits, "flip": limits > 0})
    scale = random.rand(3).astype(np.float32)
    network = Network((hidden, Layer("bipolar", signs[1], "f32", {"column_scale": scale, "bias": -scale})))
    network.save(tmp_path / "small.npz")
    again = Network.load(tmp_path / "small.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["small.npz"]
    assert again.encodings == ("u4", "bipolar")
    x = random.randint(0, 16, (7, 13)).astype(np.uint8)
    for got, expected in zip(again.outputs(x), network.outputs(x), strict=True):
        assert got.dtype == expected.dtype
        assert np.array_equal(got, expected)
    assert (again.outputs(x)[0][:, :2] == [1, 1]).all()  # a constant bit: always true, and never true but flipped


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
