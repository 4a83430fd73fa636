"""The demo: what it prints and leaves, that its check finds a wrong bit, and what it says of bad input."""

from __future__ import annotations

import contextlib
import doctest
import gzip
import io
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import data
import demo
import network
import numpy as np
import pytest
from stored_networks import held_out, record

import bitmlir
from bitmlir import nn
from bitmlir.assembler import find_assembler
from bitmlir.nn import zoo
from bitmlir.runtime.driver import Device


@dataclass(frozen=True)
class Run:
    """What one run of the demo printed and left."""

    code: int
    output: str
    folder: Path

    def line(self, label: str) -> str:
        """The line that starts with the label."""
        (line,) = (line for line in self.output.splitlines() if line.startswith(f"{label} "))
        return line


def run(folder: Path, *options: str) -> Run:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        code = demo.main([*options, "--out", str(folder)])
    return Run(code, output.getvalue(), folder)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The demo on the CPU, as it is."""
    return run(tmp_path_factory.mktemp("out"), "--target", "cpu")


@pytest.fixture
def only_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compiled beside the target that runs."""
    monkeypatch.setattr(demo, "ALWAYS_COMPILED", ())


# --- a run ----------------------------------------------------------------------------------------


def test_the_demo_classifies_the_digits_as_recorded(digits: Run):
    assert digits.code == 0
    noted = record("digits.npz")
    right, right_float = (noted[key] / 360 for key in ("test_correct", "float_test_correct"))
    expected = f"{right:.2%} of 360 held-out images (with float weights: {right_float:.2%})"
    assert digits.line("accuracy").endswith(expected)


def test_every_layer_is_reported_equal_to_numpy(digits: Run):
    layers = [line for line in digits.output.splitlines() if line.startswith("layer ")]
    assert [line.split()[2:6] for line in layers] == [
        ["360", "x", "512", "±1"],
        ["360", "x", "512", "±1"],
        ["360", "x", "10", "f32"],
    ]
    assert all(line.endswith(" equal to numpy's, bit for bit") for line in [*layers, digits.line("program")])


def test_target_and_speed_are_printed_without_colours_or_wrapping(digits: Run):
    assert digits.line("target").startswith("target    cpu (")
    assert re.search(r"[\d,]+ images per second \(grey levels to logits, median run \S+ ms\)$", digits.line("speed"))
    assert digits.line("files").endswith(f"{digits.folder}: IR of every level, PTX and bundle for cpu, sm_80, sm_90a")
    assert "\x1b" not in digits.output
    assert len(digits.output.splitlines()) == 9


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_a_gpu_program_is_left_at_every_level_without_a_gpu(digits: Run, target: str):
    folder = digits.folder / target
    levels = {"bit.mlir", "planes.mlir", "gpu.mlir", "nvvm.mlir", "llvm.ll", "kernel.ptx"}
    levels |= {"explain.json", "network.bitmlir"}
    assembled = {"kernel.cubin"} if find_assembler() else set()
    assert {path.name for path in folder.iterdir()} == levels | assembled
    assert f".target {target}\n" in (folder / "kernel.ptx").read_text()
    assert all((folder / name).read_bytes().startswith(b"\x7fELF") for name in assembled)
    assert bitmlir.load(folder / "network.bitmlir").target == target


def test_the_cpu_program_is_left_at_every_level_and_its_bundle_runs(digits: Run):
    folder = digits.folder / "cpu"
    levels = {"bit.mlir", "planes.mlir", "vector.mlir", "cpu.llvm.mlir", "llvm.ll", "network.bitmlir"}
    assert {path.name for path in folder.iterdir()} == levels
    images, classes = held_out("digits")
    logits = bitmlir.load(folder / "network.bitmlir")(images.reshape(360, 64))
    assert (logits.argmax(axis=1) == classes).sum() == record("digits.npz")["test_correct"]


@pytest.mark.usefixtures("only_the_target")
def test_mnist_is_classified_by_the_larger_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(data.HELD_OUT, "mnist", 17)
    for name, array in {
        "images-idx3": np.random.RandomState(0).randint(0, 256, (18, 28, 28)).astype(np.uint8),
        "labels-idx1": np.zeros(18, np.uint8),
    }.items():
        header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
        (tmp_path / f"t10k-{name}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    done = run(tmp_path / "out", "--target", "cpu", "--mnist", str(tmp_path))
    assert done.code == 0
    assert done.line("network").startswith("network   784-1024-1024-1024-10 on mnist")
    assert len(re.findall(r"^layer \d .* equal to numpy's", done.output, re.MULTILINE)) == 4
    assert done.line("accuracy").endswith(
        f"(with float weights: {record('mnist.npz')['float_test_correct'] / 2000:.2%})"
    )


@pytest.mark.gpu
def test_the_demo_runs_on_the_gpu_that_is_there(tmp_path: Path):
    done = run(tmp_path)
    assert done.code == 0
    assert done.line("target").startswith("target    sm_")
    assert Device.current().name in done.line("target")
    assert done.output.count(" equal to numpy's, bit for bit\n") == 4


# --- its parts ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("only_the_target")
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_one_wrong_element_of_a_layer_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: int):
    right = nn.Model.reference

    def wrong(self: nn.Model, images: np.ndarray) -> Any:
        outputs = right(self, images)
        outputs[layer][-1, -1] *= -1
        return outputs

    monkeypatch.setattr(nn.Model, "reference", wrong)
    done = run(tmp_path, "--target", "cpu")
    assert done.code == 1
    verdicts = [line.split()[6] for line in done.output.splitlines() if line.startswith("layer ")]
    assert verdicts == ["DIFFERS" if i == layer else "equal" for i in range(3)]
    assert ("DIFFERS" in done.line("program")) == (layer == 2)


def test_the_check_sees_row_sums_padding_and_the_sign_of_zero():
    values = np.array([[1, -1, 1], [-1, -1, 1]], np.int8)
    packed = bitmlir.pack(values, "bipolar")
    assert demo.is_equal(packed, values)
    padding = packed.planes.copy()
    padding[0, 1, 3] = 1 << 31
    assert not demo.is_equal(replace(packed, planes=padding), values)
    assert not demo.is_equal(replace(packed, sums=packed.sums + 2), values)
    assert demo.is_equal(np.float32([0, 1]), np.float32([0, 1]))
    assert not demo.is_equal(np.float32([0, 1]), np.float32([-0.0, 1]))
    assert not demo.is_equal(np.float64([0, 1]), np.float32([0, 1]))


def test_a_level_of_an_earlier_run_does_not_stay(tmp_path: Path):
    model = nn.compile(network.perceptron(zoo.RandomParameters(0), (13, 5, 3)), 7, "cpu")
    (tmp_path / "kernel.cubin").write_bytes(b"old")
    demo.leave(model, tmp_path)
    assert not (tmp_path / "kernel.cubin").exists()
    assert (tmp_path / "planes.mlir").read_text() == model.executable.emit("planes")


def test_the_examples_in_the_docstrings_run():
    assert all(doctest.testmod(module).attempted > 0 for module in (network, data))
    assert all(doctest.testmod(module).failed == 0 for module in (network, data))


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mnist", "no-such-folder"], "no t10k-images-idx3-ubyte and no .* in no-such-folder: download MNIST"),
        (["--mnist", ""], "no t10k-images-idx3-ubyte and no "),
        (["--target", "sm_90b"], "unknown target 'sm_90b': expected one of .*; did you mean 'sm_90'"),
        (["--target", "cpu", "--out", __file__], "cannot make the folder .*: Not a directory"),
    ],
)
@pytest.mark.usefixtures("only_the_target")
def test_bad_input_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str], options: list[str], message: str):
    assert demo.main(options) == 1
    errors = capsys.readouterr().err
    assert re.match(f"demo: error: {message}", errors)
    assert errors.count("\n") == 1


def test_a_missing_scikit_learn_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert demo.main(["--target", "cpu"]) == 1
    assert "demo: error: the digits come with scikit-learn: pip install scikit-learn" in capsys.readouterr().err


def test_a_wrong_option_is_exit_code_2(capsys: pytest.CaptureFixture[str]):
    assert demo.main(["--mnits", "folder"]) == 2
    assert "usage: demo" in capsys.readouterr().err


@pytest.mark.usefixtures("only_the_target")
def test_a_gpu_target_without_a_gpu_leaves_the_program_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def none() -> Device:
        raise bitmlir.DeviceError("no usable GPU")

    monkeypatch.setattr(Device, "current", none)
    assert demo.main(["--target", "sm_90a", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "demo: error: no usable GPU\n"
    assert (tmp_path / "sm_90a" / "kernel.ptx").exists()
