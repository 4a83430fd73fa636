"""`bitmlir run`: what it prints for images, however many there are, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_driver import FakeDriver

import bitmlir
from bitmlir import nn
from bitmlir.executable import Executable
from bitmlir.runtime.bundle import Bundle
from bitmlir.runtime.plan import Buffer, Launch, Memset, Plan, Value
from bitmlir.tools import run

Capture = pytest.CaptureFixture[str]

RNG = np.random.default_rng(4)
CLASSES, BATCH = 6, 4


def _layer() -> nn.Layer:
    x = nn.Sign(nn.Conv2d(nn.Input((5, 4, 3)), RNG.choice([-1, 1], (40, 3, 3, 3)), padding=1))
    norm = (RNG.normal(size=CLASSES), *RNG.normal(size=(2, CLASSES)), RNG.uniform(1, 2, CLASSES))
    return nn.BatchNorm(nn.Linear(nn.Flatten(x), RNG.choice([-1, 1], (CLASSES, 800))), *norm)


LAYER = _layer()


@pytest.fixture(scope="module")
def model() -> nn.Model:
    return nn.compile(LAYER, BATCH, "cpu")


@pytest.fixture
def bundle(model: nn.Model, tmp_path: Path) -> str:
    model.save(tmp_path / "net.bitmlir")
    return str(tmp_path / "net.bitmlir")


def saved(path: Path, array: np.ndarray) -> str:
    np.save(path, array)
    return str(path)


def images(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (number, 5, 4, 3), dtype=np.uint8)


def scores(model: nn.Model, number: int) -> np.ndarray:
    """Those of `images`, by the layers in plain numpy."""
    filled = np.resize(images(number), (-(-number // BATCH) * BATCH, 5, 4, 3))
    parts = [model.reference(filled[first : first + BATCH]) for first in range(0, len(filled), BATCH)]
    return np.concatenate([np.asarray(part).reshape(BATCH, CLASSES) for part in parts])[:number]


@pytest.mark.parametrize("number", [1, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH + 2])
def test_each_image_gets_its_best_class(
    number: int, model: nn.Model, bundle: str, tmp_path: Path, capfd: Capture
) -> None:
    assert run.main(["run", bundle, saved(tmp_path / "i.npy", images(number))]) == 0
    right = scores(model, number)
    best = right.argmax(axis=1)
    lines = [f"{image}: {class_} ({right[image, class_]:.6g})" for image, class_ in enumerate(best)]
    assert capfd.readouterr() == ("\n".join(lines) + "\n", "")


def test_several_classes_with_labels_as_text_and_json(
    model: nn.Model, bundle: str, tmp_path: Path, capfd: Capture
) -> None:
    names = ["cat", "dog", "a fish", "bird", "Käfer", "none"]
    (tmp_path / "labels.txt").write_text("\n".join(names) + "\n")
    command = ["run", bundle, saved(tmp_path / "i.npy", images(5)), "--top", "3"]
    right = scores(model, 5)
    order = np.argsort(-right, axis=1, kind="stable")[:, :3]
    assert run.main([*command, "--labels", str(tmp_path / "labels.txt")]) == 0
    first = ", ".join(f"{names[class_]} ({right[0, class_]:.6g})" for class_ in order[0])
    assert capfd.readouterr().out.startswith(f"0: {first}\n1: ")
    assert run.main([*command, "--labels", str(tmp_path / "labels.txt"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == [
        {"image": i, "classes": [{"class": c, "label": names[c], "score": right[i, c]} for c in map(int, order[i])]}
        for i in range(5)
    ]
    assert run.main([*command, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)[4]["classes"][2] == {"class": order[4, 2], "score": right[4, order[4, 2]]}


def test_of_equal_scores_the_lower_class_is_first() -> None:
    assert run._best(np.array([1, 7, -(2**31), 7], np.int32), 4) == [(1, 7), (3, 7), (0, 1), (2, -(2**31))]


def test_images_of_vectors_without_places(tmp_path: Path, capfd: Capture) -> None:
    weights = RNG.choice([-1, 1], (3, 8))
    nn.compile(nn.Linear(nn.Input((8,)), weights), 2, "cpu").save(tmp_path / "net.bitmlir")
    x = RNG.integers(0, 256, (3, 8), dtype=np.uint8)
    assert run.main(["run", str(tmp_path / "net.bitmlir"), saved(tmp_path / "x.npy", x), "--json"]) == 0
    sums = x.astype(int) @ weights.T
    assert [row["classes"][0]["score"] for row in json.loads(capfd.readouterr().out)] == sums.max(axis=1).tolist()


def test_normalised_images_get_the_classes_of_their_pixels(tmp_path: Path, capfd: Capture) -> None:
    start = nn.Input((5, 4, 3), mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    weights = RNG.choice([-1, 1], (CLASSES, 60))
    model = nn.compile(nn.Linear(nn.Flatten(start), weights), BATCH, "cpu")
    model.save(tmp_path / "net.bitmlir")
    bundle, pixels = str(tmp_path / "net.bitmlir"), images(6)
    assert run.main(["run", bundle, saved(tmp_path / "x.npy", start.normalised(pixels)), "--json"]) == 0
    sums = pixels.reshape(6, -1).astype(int) @ weights.T
    assert [row["classes"][0]["score"] for row in json.loads(capfd.readouterr().out)] == sums.max(axis=1).tolist()
    for array, advice in (
        (pixels, "got uint8: normalise them as the network's training did"),
        (start.normalised(pixels).astype(np.float64), "got float64: convert them to float32"),
    ):
        assert run.main(["run", bundle, saved(tmp_path / "x.npy", array)]) == 1
        assert f"must hold images of float32, {advice}" in capfd.readouterr().err


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 5, 4, 3), np.float32), "must hold images of uint8, got float32: convert them to uint8"),
        (np.zeros((2, 5, 4, 3), np.int8), "must hold images of uint8, got int8: convert them to uint8"),
        (np.zeros((2, 4, 5, 3), np.uint8), "must hold images of shape (number, 5, 4, 3), got (2, 4, 5, 3)"),
        (np.zeros((5, 4, 3), np.uint8), "must hold images of shape (number, 5, 4, 3), got (5, 4, 3)"),
        (np.zeros((), np.uint8), "must hold images of shape (number, 5, 4, 3), got ()"),
        (np.zeros((0, 5, 4, 3), np.uint8), "holds no images"),
        (np.array([{}], object), "is no whole .npy file of numbers, as numpy.save writes them"),
    ],
)
def test_images_that_do_not_fit_are_refused(
    array: np.ndarray, message: str, bundle: str, tmp_path: Path, capfd: Capture
) -> None:
    path = saved(tmp_path / "i.npy", array)
    assert run.main(["run", bundle, path]) == 1
    assert capfd.readouterr() == ("", f"bitmlir: error: '{path}' {message}\n")


def test_files_that_are_no_images_or_not_there_are_refused(bundle: str, tmp_path: Path, capfd: Capture) -> None:
    path = saved(tmp_path / "i.npy", images(3))
    (tmp_path / "cut.npy").write_bytes(Path(path).read_bytes()[:-10])
    np.savez(tmp_path / "several.npz", a=images(1), b=images(1))
    for other in ("cut.npy", "several.npz"):
        assert run.main(["run", bundle, str(tmp_path / other)]) == 1
        assert f"{other}' is no whole .npy file of numbers" in capfd.readouterr().err
    for given, message in (
        ([bundle, "nowhere.npy"], "cannot read 'nowhere.npy': No such file or directory"),
        (["nowhere.bitmlir", path], "cannot read bundle nowhere.bitmlir: No such file or directory"),
        ([path, path], f"{path} is not a bundle: expected a .bitmlir file that bitmlir saved"),
    ):
        assert run.main(["run", *given]) == 1
        assert capfd.readouterr() == ("", f"bitmlir: error: {message}\n")


def test_programs_that_are_no_networks_are_refused(tmp_path: Path, capfd: Capture) -> None:
    every = nn.compile(LAYER, 2, "cpu", every=True).executable
    codes = nn.compile(nn.Sign(nn.Linear(nn.Input((8,)), np.ones((3, 8)))), 2, "cpu").executable
    places = nn.compile(nn.Conv2d(nn.Input((5, 4, 3)), np.ones((2, 3, 3, 3))), 2, "cpu").executable
    product = bitmlir.compile(bitmlir.MatmulSpec(2, 3, 4, "u8", "u2"), "cpu")
    for program in (every, codes, places, product):
        program.save(tmp_path / "other.bitmlir")
        assert run.main(["run", str(tmp_path / "other.bitmlir"), saved(tmp_path / "i.npy", images(3))]) == 1
        expected = (
            f"other.bitmlir' is no network that classifies images, but {program!r}: 'bitmlir-codegen network' makes"
        )
        assert expected in capfd.readouterr().err


def test_more_classes_or_other_labels_than_there_are_are_refused(bundle: str, tmp_path: Path, capfd: Capture) -> None:
    path = saved(tmp_path / "i.npy", images(3))
    assert run.main(["run", bundle, path, "--top", "7"]) == 2
    assert "--top: the network has 6 classes, got 7" in capfd.readouterr().err
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    assert run.main(["run", bundle, path, "--labels", str(tmp_path / "labels.txt")]) == 1
    assert "labels.txt' must have a line for each of the 6 classes, but has 2" in capfd.readouterr().err
    assert run.main(["run", bundle, path, "--labels", "nowhere.txt"]) == 1
    assert "cannot read 'nowhere.txt': No such file" in capfd.readouterr().err


# --- GPUs -------------------------------------------------------------------------------------------


def gpu_bundle() -> Bundle:
    """A network whose scores are twice the pixels of an image, read as three int32."""
    arguments = (Value("images", "array", (4, 12), {"values": "x"}, dtype="u8"),)
    results = (Value("result", "array", (4, 3), {"values": "y"}, dtype="i32"),)
    buffers = (Buffer("x", "u8", (4, 12)), Buffer("y", "i32", (4, 3)))
    steps = (Memset("y"), Launch("double", (1, 1, 1), (32, 1, 1), 0, ("y", "x"), writes=("y",)))
    return Bundle(Plan("network", "sm_90", arguments, results, buffers, steps), {"cubin": b"cubin"})


def test_on_a_gpu_images_are_copied_into_one_place_batch_by_batch(fake: FakeDriver) -> None:
    pixels = RNG.integers(0, 256, (10, 12), dtype=np.uint8)
    found = list(run.classify(Executable(gpu_bundle()), pixels))
    np.testing.assert_array_equal(found, 2 * pixels.view(np.int32).astype(np.int64).astype(np.int32))
    kinds = [entry[0] for entry in fake.log if entry[0] in ("to device", "launch", "to host")]
    assert kinds == ["to device", *["to device", "launch", "to host"] * 3]


def test_a_gpu_network_is_run_without_the_compiler(tmp_path: Path) -> None:
    gpu_bundle().save(tmp_path / "net.bitmlir")
    np.save(tmp_path / "x.npy", np.zeros((3, 12), np.uint8))
    code = f"""
import sys
for name in ("mlir", "bitmlir.lowering", "cuda"):
    sys.modules[name] = None  # importing it fails
from bitmlir.tools.run import main
sys.exit(main(["run", {str(tmp_path / "net.bitmlir")!r}, {str(tmp_path / "x.npy")!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "bitmlir: error: running on a GPU needs cuda-python: pip install 'bitmlir[cuda]'\n"


@pytest.mark.gpu
def test_on_a_gpu_the_classes_are_those_of_numpy(model: nn.Model, tmp_path: Path, capfd: Capture) -> None:
    nn.compile(LAYER, BATCH).save(tmp_path / "net.bitmlir")
    command = ["run", str(tmp_path / "net.bitmlir"), saved(tmp_path / "i.npy", images(11)), "--json"]
    assert run.main(command) == 0
    rows: list[dict[str, Any]] = json.loads(capfd.readouterr().out)
    assert [row["classes"][0]["score"] for row in rows] == scores(model, 11).max(axis=1).tolist()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--help"], 0), (["run", "--help"], 0), (["--version"], 0), ([], 2), (["run"], 2), (["walk"], 2)],
    ids=str,
)
def test_nothing_slow_is_loaded_before_there_is_something_to_run(arguments: list[str], code: int) -> None:
    program = f"""
import sys
from bitmlir.tools.run import main
code = main({arguments})
print(*sys.modules)
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "bitmlir.tools.run" in loaded
    assert not loaded.intersection(("mlir", "numpy", "ml_dtypes", "cuda", "bitmlir.executable"))
