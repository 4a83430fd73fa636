"""The fast lit format: which RUN lines it takes, and that a tool cannot take it down."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from lit_format import Command, WarmShTest

TOOL = f"{sys.executable} -m toy.tool"
CHECK = "/bin/FileCheck"


@pytest.fixture
def format_() -> WarmShTest:
    return WarmShTest(CHECK, ("toy.tool",))


@pytest.mark.parametrize(
    ("line", "commands"),
    [
        (f"{TOOL} a.mlir --x", [Command((*TOOL.split(), "a.mlir", "--x"))]),
        (f"%dbg(RUN: at line 1) {TOOL} a", [Command((*TOOL.split(), "a"))]),
        (f"{TOOL} '--p=a(b | c), d' ", [Command((*TOOL.split(), "--p=a(b | c), d"))]),
        (f"{TOOL} a | {CHECK} b", [Command((*TOOL.split(), "a")), Command((CHECK, "b"))]),
        (f"{TOOL} a 2>&1 | {CHECK} b", [Command((*TOOL.split(), "a"), joined=True), Command((CHECK, "b"))]),
        ("mkdir -p a", [Command(("mkdir", "-p", "a"))]),
        (f"sed 's/a/b/' c | {CHECK} d", [Command(("sed", "s/a/b/", "c")), Command((CHECK, "d"))]),
        (f"python exit_code.py 70 {TOOL} a", [Command((*TOOL.split(), "a"), exit_code=70)]),
    ],
)
def test_pipelines_of_tools_and_filecheck_are_taken(format_: WarmShTest, line: str, commands: list[Command]) -> None:
    assert format_._parse(line) == commands


@pytest.mark.parametrize(
    "line",
    [
        "cat a.mlir",
        f"cat a.mlir | {TOOL}",
        f"{TOOL} a > out",
        "sed 's/a/b/' c > d",
        "mkdir a && mkdir b",
        f"{TOOL} a < in",
        f"{TOOL} a && {TOOL} b",
        f"{TOOL} a; {TOOL} b",
        f"{TOOL} *.mlir",
        f"{TOOL} $HOME",
        f"not {TOOL} a",
        f"env A=1 {TOOL} a",
        f"{sys.executable} -m other.tool",
        f"{TOOL} %{{readfile:a}}",
    ],
)
def test_lines_that_need_a_shell_are_left_to_lit(format_: WarmShTest, line: str) -> None:
    assert format_._parse(line) == []


def tool(main: Callable[[list[str]], int]) -> ModuleType:
    module = ModuleType("toy.tool")
    vars(module)["main"] = main
    return module


@pytest.mark.parametrize(
    ("main", "code"),
    [
        (lambda arguments: len(arguments), 2),
        (lambda arguments: os.kill(os.getpid(), signal.SIGKILL), -signal.SIGKILL),
        (lambda arguments: 1 // 0, 1),
        (lambda arguments: sys.exit(3), 3),
    ],
)
def test_a_tool_ends_only_its_own_fork(
    format_: WarmShTest, main: Callable[[list[str]], int], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "toy.tool", tool(main))
    log: list[str] = []
    command = Command((*TOOL.split(), "a", "b"), exit_code=99)
    assert not format_._run([command], tmp_path, {}, log)
    assert f"exit code {code}, but 99 was expected; its output was:" in log


def test_output_flows_from_command_to_command(
    format_: WarmShTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shout(arguments: list[str]) -> int:
        print(sys.stdin.read().upper() + arguments[0], end="")
        print("folder:", os.getcwd(), file=sys.stderr)
        return 0

    monkeypatch.setitem(sys.modules, "toy.tool", tool(shout))
    log: list[str] = []
    pipeline = [
        Command((*TOOL.split(), "a")),
        Command((*TOOL.split(), "b")),
        Command((*TOOL.split(), "c"), exit_code=9),
    ]
    assert not format_._run(pipeline, tmp_path, {}, log)
    assert log[-1] == "ABc"
    assert f"folder: {tmp_path}\n" in log
