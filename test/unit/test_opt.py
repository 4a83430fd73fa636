"""What `bitmlir-opt` does when a pass misbehaves; its options are tested by test/tools."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from mlir import ir

from bitmlir.dialects.errors import ShapeError
from bitmlir.lowering import passes, pipeline
from bitmlir.lowering.passes import Pass
from bitmlir.tools import opt

Tool = Callable[..., int]


@dataclass(frozen=True)
class Misbehave(Pass):
    """Do what no pass should."""

    name: ClassVar[str] = "misbehave"

    how: str

    def run(self, op: ir.Operation) -> None:
        if self.how == "crash":
            raise ZeroDivisionError("an internal detail")
        if self.how == "refuse":
            raise ShapeError("lhs is 4x40 but rhs is 4x41: make them equal")
        del op.regions[0].blocks[0].operations[0].attributes["sym_name"]


@dataclass(frozen=True)
class OnKernels(Pass):
    """Name each gpu.module that it runs on."""

    name: ClassVar[str] = "on-kernels"
    anchor: ClassVar[str] = "gpu.module"

    def run(self, op: ir.Operation) -> None:
        op.attributes["toy.seen"] = ir.UnitAttr.get()


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tool:
    """`bitmlir-opt` on a small module, with the toy passes above."""
    toys = {toy.name: f"{__name__}:{toy.__name__}" for toy in (Misbehave, OnKernels)}
    for module in (passes, pipeline, opt):
        monkeypatch.setattr(module, "PASSES", {**passes.PASSES, **toys})
    source = tmp_path / "in.mlir"
    source.write_text("func.func @f() { return }\ngpu.module @g { }\n")
    return lambda *arguments: opt.main([str(source), *arguments])


def test_an_exception_nobody_expected_is_called_our_fault(
    tool: Tool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BITMLIR_DEBUG", raising=False)
    assert tool("--misbehave=how=crash") == 70
    out, err = capfd.readouterr()
    assert out == ""
    assert "this is a fault of bitmlir, not of your input: ZeroDivisionError: an internal detail" in err
    assert "Traceback" not in err


def test_with_debugging_on_the_traceback_is_shown(
    tool: Tool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITMLIR_DEBUG", "1")
    assert tool("--misbehave=how=crash") == 70
    assert "Traceback" in capfd.readouterr().err


def test_an_error_raised_on_purpose_is_bad_input(tool: Tool, capfd: pytest.CaptureFixture[str]) -> None:
    assert tool("--misbehave=how=refuse") == 1
    assert capfd.readouterr() == ("", "bitmlir-opt: error: lhs is 4x40 but rhs is 4x41: make them equal\n")


def test_ir_that_a_pass_leaves_invalid_is_found_after_that_pass(tool: Tool, capfd: pytest.CaptureFixture[str]) -> None:
    assert tool("--misbehave=how=spoil") == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert "in.mlir:1:1: error: 'func.func' op requires attribute 'sym_name'" in err


def test_verification_after_each_pass_can_be_turned_off(tool: Tool, capfd: pytest.CaptureFixture[str]) -> None:
    assert tool("--misbehave=how=spoil", "--verify-each=false") == 0
    assert '"func.func"()' in capfd.readouterr().out


def test_a_flag_runs_its_pass_where_it_belongs(tool: Tool, capfd: pytest.CaptureFixture[str]) -> None:
    assert tool("--on-kernels") == 0
    assert "gpu.module @g attributes {toy.seen}" in capfd.readouterr().out


def test_the_output_file_has_the_permissions_of_any_new_file(tool: Tool, tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        assert tool("-o", str(tmp_path / "out.mlir")) == 0
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "out.mlir").stat().st_mode) == 0o640


def test_an_environment_variable_with_a_wrong_value_is_named(
    tool: Tool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITMLIR_DEBUG", "yes")
    assert tool() == 1
    assert "environment variable BITMLIR_DEBUG='yes'" in capfd.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_device_is_an_error(tool: Tool, capfd: pytest.CaptureFixture[str]) -> None:
    assert tool("-o", "/dev/full") == 1
    assert "cannot write '/dev/full': No space left on device" in capfd.readouterr().err


def test_a_reader_that_went_away_is_no_fault() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "bitmlir.tools.opt", "--dump-irdl"]
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")
