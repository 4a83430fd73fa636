"""What `bitmlir-codegen` loads, writes and runs, and what it does when compiling fails; test/tools has its options."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitmlir
from bitmlir import compiler, nn, reference
from bitmlir.assembler import find_assembler
from bitmlir.dialects.errors import AssemblerError
from bitmlir.lowering import pipeline
from bitmlir.lowering.targets import get_target
from bitmlir.runtime.driver import Device
from bitmlir.tools import codegen

PRODUCT = ("matmul", "-m", "5", "-n", "7", "-k", "100", "--lhs", "bipolar", "--rhs", "u2")
NETWORK = str(Path(__file__).parent.parent / "tools" / "Inputs" / "network.mlir")
HEAVY = ("mlir", "numpy", "ml_dtypes", "filelock", "rich", "cuda", "bitmlir.compiler", "bitmlir.dialects.bit")

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "find", lambda: None)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Exception], None]:
    """Make the lowering raise; failed compiles leave their folders in tmp_path."""
    monkeypatch.delenv("BITMLIR_DEBUG", raising=False)
    monkeypatch.setenv("BITMLIR_DUMP_DIR", str(tmp_path))

    def fail(error: Exception) -> None:
        def raise_(*_arguments: Any) -> None:
            raise error

        monkeypatch.setattr(pipeline, "run_pipeline", raise_)

    return fail


# --- starting -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--list-targets"], 0),
        (["--env"], 0),
        (["--version"], 0),
        ([], 2),
        (["--no-such-option"], 2),
        (["matmul", "--target", "sm_99"], 2),
        (["matmul", "-m", "1"], 2),
        (["matmul", "-m", "1", "-n", "1", "-k", "1", "--lhs", "u9", "--rhs", "u1"], 2),
        (["nowhere.mlir", "--target", "cpu", "--emit", "ptx"], 2),
    ],
    ids=str,
)
def test_nothing_slow_is_loaded_before_there_is_something_to_compile(arguments: list[str], code: int) -> None:
    program = f"""
import sys
from bitmlir.tools.codegen import main
code = main({arguments})
print(*sys.modules)
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "bitmlir.tools.codegen" in loaded
    assert not loaded.intersection(HEAVY)


# --- output ---------------------------------------------------------------------------------------


@pytest.mark.skipif(find_assembler() is None, reason="no PTX assembler")
def test_a_cubin_is_written_as_it_is(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> None:
    assert codegen.main([*PRODUCT, "--target", "sm_80", "--emit", "cubin"]) == 0
    cubin = capfdbinary.readouterr().out
    assert cubin.startswith(b"\x7fELF")
    assert codegen.main([*PRODUCT, "--target", "sm_80", "--emit", "cubin", "-o", str(tmp_path / "k.cubin")]) == 0
    assert (tmp_path / "k.cubin").read_bytes() == cubin
    assert capfdbinary.readouterr() == (b"", b"")


def test_without_an_assembler_there_is_ptx_but_no_cubin(monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    monkeypatch.setattr("bitmlir.assembler.find_assembler", lambda: None)
    assert codegen.main([*PRODUCT, "--target", "sm_80", "--emit", "ptx"]) == 0
    assert ".target sm_80" in capfd.readouterr().out
    assert codegen.main([*PRODUCT, "--target", "sm_80", "--emit", "cubin"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert "bitmlir-codegen: error: the program has no cubin, because no PTX assembler was found" in err


@pytest.mark.parametrize("program", [PRODUCT, (NETWORK,)], ids=["product", "file"])
def test_a_bundle_on_stdout_is_the_program(
    program: tuple[str, ...], capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    assert codegen.main([*program, "--target", "cpu", "--emit", "bundle"]) == 0
    file = tmp_path / "k.bitmlir"
    file.write_bytes(capfdbinary.readouterr().out)
    assert codegen.main([*program, "--target", "cpu", "--emit", "bit"]) == 0
    assert bitmlir.load(file).emit("bit") == capfdbinary.readouterr().out.decode()


def test_the_cache_is_used_unless_it_is_switched_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: Capture
) -> None:
    monkeypatch.setenv("BITMLIR_CACHE_DIR", str(tmp_path))
    compiled: list[str] = []
    lower = compiler.lower

    def counted(program: Any, target: Any, *rest: Any) -> Any:
        compiled.append(target.name)
        return lower(program, target, *rest)

    monkeypatch.setattr(compiler, "lower", counted)
    outputs = []
    for switch in (["--no-cache"], ["--no-cache"], [], []):
        assert codegen.main([*PRODUCT, "--target", "sm_80", *switch]) == 0
        outputs.append(capfd.readouterr().out)
        assert switch == [] or not list(tmp_path.iterdir())
    assert len(compiled) == 3
    assert len(set(outputs)) == 1


def test_a_reader_that_went_away_is_no_fault() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "bitmlir.tools.codegen", "--list-targets"]
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


# --- running --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_gpu")
def test_what_no_gpu_here_runs_is_compiled_for_the_cpu_and_says_so(capfd: Capture) -> None:
    assert codegen.main([*PRODUCT, "--target", "sm_90a", "--check"]) == 0
    assert capfd.readouterr() == (
        "",
        "bitmlir-codegen: no GPU here runs sm_90a: running the program compiled for the CPU\n"
        "check: exact (35 elements, device cpu)\n",
    )


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_the_target_auto_is_the_cpu(capfd: Capture) -> None:
    assert codegen.main([*PRODUCT, "--check"]) == 0
    assert capfd.readouterr() == ("", "check: exact (35 elements, device cpu)\n")
    assert codegen.main(list(PRODUCT)) == 0
    assert "define" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("target", "capability", "runs"),
    [
        ("sm_80", (8, 0), True),
        ("sm_80", (8, 6), True),
        ("sm_80", (9, 0), True),
        ("sm_86", (8, 0), False),
        ("sm_90", (12, 0), True),
        ("sm_90a", (9, 0), True),
        ("sm_90a", (10, 0), False),
        ("sm_100a", (9, 0), False),
        ("cpu", (9, 0), False),
    ],
)
def test_a_program_runs_on_its_own_chip_and_most_on_later_ones(
    monkeypatch: pytest.MonkeyPatch, target: str, capability: tuple[int, int], runs: bool
) -> None:
    device = Device(0, "a GPU", capability, 132, 227 << 10, 0)
    monkeypatch.setattr(Device, "find", lambda: device)
    assert codegen._device_for(get_target(target)) == (device if runs else None)


def test_a_wrong_element_fails_the_check_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, capfd: Capture, tmp_path: Path
) -> None:
    exact = reference.matmul

    def wrong(*operands: Any) -> Any:
        acc = exact(*operands)
        acc[2, 3] += 1
        acc[4, 0] -= 1
        return acc

    monkeypatch.setattr(reference, "matmul", wrong)
    assert codegen.main([*PRODUCT, "--target", "cpu", "--check", "-o", str(tmp_path / "out")]) == 1
    out, err = capfd.readouterr()
    message = r"bitmlir-codegen: error: result\[2, 3\] is (-?\d+), but must be (-?\d+); 2 of 35 elements are wrong\n"
    found = re.fullmatch(message, err)
    assert found
    assert int(found[2]) == int(found[1]) + 1
    assert out == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.gpu
@pytest.mark.parametrize("program", [PRODUCT, (NETWORK,)], ids=["product", "file"])
def test_on_a_gpu_the_program_is_checked_and_timed_there(program: tuple[str, ...], capfd: Capture) -> None:
    device = Device.current()
    assert codegen.main([*program, "--check", "--time"]) == 0
    out, err = capfd.readouterr()
    lines = err.splitlines()
    (check,) = (line for line in lines if line.startswith("check: "))
    assert out == ""
    assert re.fullmatch(rf"check: exact \(\d+ elements, device {re.escape(str(device))}\)", check)
    assert any(line.startswith("time: ") and line.endswith(f"device {device}") for line in lines)


def test_a_network_of_a_qonnx_file_is_checked_and_saved_like_any_other(tmp_path: Path, capfd: Capture) -> None:
    pytest.importorskip("onnx", reason="reading QONNX files needs onnx")
    file, bundle = str(Path(__file__).parents[2] / "docs/demo/digits.onnx"), str(tmp_path / "net.bitmlir")
    command = ["network", "--qonnx", file, "--batch", "2", "--target", "cpu"]
    assert codegen.main([*command, "--check", "-o", bundle]) == 0
    assert capfd.readouterr() == ("", "check: exact (20 elements, device cpu)\n")
    assert bitmlir.load(bundle).plan.arguments[0].dtype == "u8"
    assert codegen.main(["network", "--qonnx", "nowhere.onnx", "--batch", "2", "--target", "cpu", "-o", bundle]) == 1
    assert "nowhere.onnx" in capfd.readouterr().err


def test_a_network_with_a_wrong_number_fails_the_check(monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    exact = nn.Model.reference

    def wrong(model: nn.Model, images: Any) -> Any:
        numbers = exact(model, images)
        assert isinstance(numbers, np.ndarray)
        numbers[1, 7] = np.nextafter(numbers[1, 7], np.float32(np.inf))
        return numbers

    monkeypatch.setattr(nn.Model, "reference", wrong)
    assert codegen.main(["network", "mnist-mlp", "--random", "0", "--batch", "2", "--target", "cpu", "--check"]) == 1
    assert "1 of 20 elements are wrong" in capfd.readouterr().err


# --- faults of ours -------------------------------------------------------------------------------


def test_a_lowering_that_fails_is_called_our_fault_and_leaves_a_folder_that_repeats_it(
    failing: Callable[[Exception], None], capfd: Capture, tmp_path: Path
) -> None:
    failing(ZeroDivisionError("an internal detail"))
    assert codegen.main([NETWORK, "--target", "sm_80", "--no-cache"]) == 70
    out, err = capfd.readouterr()
    (folder,) = tmp_path.iterdir()
    assert out == ""
    assert "this is a fault of bitmlir" in err
    assert str(folder) in err
    assert "Traceback" not in err
    assert (folder / "bit.mlir").read_text() == Path(NETWORK).read_text()
    _, module, *arguments = shlex.split((folder / "repro.sh").read_text().splitlines()[-1].partition(" ")[2])
    assert module == codegen.__name__
    assert codegen.main(arguments) == 70


def test_ptx_that_the_assembler_refuses_is_our_fault(
    monkeypatch: pytest.MonkeyPatch, capfd: Capture, tmp_path: Path
) -> None:
    def refuse(*_arguments: Any) -> None:
        raise AssemblerError("ptxas refused the PTX")

    monkeypatch.setenv("BITMLIR_DUMP_DIR", str(tmp_path))
    monkeypatch.setattr("bitmlir.assembler.find_assembler", lambda: "ptxas 1.0")
    monkeypatch.setattr("bitmlir.assembler.assemble", refuse)
    assert codegen.main([*PRODUCT, "--target", "sm_80"]) == 70
    out, err = capfd.readouterr()
    assert out == ""
    assert "ptxas refused the PTX" in err
    assert str(next(tmp_path.iterdir())) in err


def test_an_exception_nobody_expected_is_our_fault(monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    def crash(*_arguments: Any, **_named: Any) -> None:
        raise ZeroDivisionError("an internal detail")

    monkeypatch.delenv("BITMLIR_DEBUG", raising=False)
    monkeypatch.setattr(compiler, "compile", crash)
    assert codegen.main([*PRODUCT, "--target", "sm_80"]) == 70
    out, err = capfd.readouterr()
    assert out == ""
    assert "this is a fault of bitmlir, not of your input: ZeroDivisionError: an internal detail" in err
    assert "Traceback" not in err


def test_with_debugging_on_the_traceback_of_a_fault_is_shown(
    failing: Callable[[Exception], None], monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    failing(ZeroDivisionError("an internal detail"))
    monkeypatch.setenv("BITMLIR_DEBUG", "1")
    assert codegen.main([*PRODUCT, "--target", "sm_80", "--no-cache"]) == 70
    assert "Traceback" in capfd.readouterr().err


def test_an_environment_variable_with_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    monkeypatch.setenv("BITMLIR_CACHE", "maybe")
    assert codegen.main([*PRODUCT, "--target", "sm_80"]) == 1
    assert "bitmlir-codegen: error: environment variable BITMLIR_CACHE='maybe'" in capfd.readouterr().err
