"""A lit test format that is fast because it starts no Python: tools run in forks of the worker, which has MLIR loaded.

RUN lines that are pipelines of our tools, FileCheck and a few other programs (each perhaps after `%exit-code N`, or
with `2>&1`) are run here; a test with any other line is handed to lit's own ShTest as a whole. A tool that aborts ends
only its fork.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

import lit.formats
import lit.Test
import lit.TestRunner

__all__ = ["WarmShTest"]

# Loaded before forking, so that no fork loads them. Nothing here creates an MLIR context: it would own threads.
WARM = (
    "bitmlir.compiler",
    "bitmlir.dialects.bit",
    "bitmlir.jit",
    "bitmlir.lowering.bit_to_cpu",
    "bitmlir.lowering.bit_to_gpu",
    "bitmlir.lowering.choose_tiles",
    "bitmlir.lowering.pipeline",
    "bitmlir.nn.zoo",
    "bitmlir.tools.bench.measure",
    "bitmlir.tools.bench.plot",
    "bitmlir.tools.check",
    "bitmlir.tools.expectations",
    "bitmlir.tools.opt",
)
OTHERS = ("cp", "mkdir", "sed")  # programs that need no shell

TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Command:
    """One command of a pipeline, the exit code it must end with, and whether its stderr joins its stdout."""

    arguments: tuple[str, ...]
    exit_code: int = 0
    joined: bool = False

    def __str__(self) -> str:
        return shlex.join(self.arguments)


@dataclass(frozen=True)
class Outcome:
    """What a command did; a negative exit code is the signal that ended it."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class WarmShTest(lit.formats.ShTest):
    """ShTest with a fast path for pipelines of `python -m <one of the modules>`, FileCheck and `OTHERS`."""

    def __init__(self, filecheck: str, modules: tuple[str, ...]) -> None:
        super().__init__(execute_external=False)
        self._filecheck = filecheck
        self._modules = modules

    def execute(self, test: lit.Test.Test, lit_config: object) -> lit.Test.Result:
        if test.config.unsupported:
            return super().execute(test, lit_config)
        script = lit.TestRunner.parseIntegratedTestScript(test)
        if isinstance(script, lit.Test.Result):
            return script
        folder, base = lit.TestRunner.getTempPaths(test)
        substitutions = lit.TestRunner.getDefaultSubstitutions(test, folder, base)
        lines = lit.TestRunner.applySubstitutions(script, substitutions)
        pipelines = [self._parse(line) for line in lines]
        if not all(pipelines):
            return super().execute(test, lit_config)
        Path(folder).mkdir(parents=True, exist_ok=True)
        log: list[str] = []
        passed = all(self._run(pipeline, Path(folder), test.config.environment, log) for pipeline in pipelines)
        return lit.Test.Result(lit.Test.PASS if passed else lit.Test.FAIL, "\n".join(log))

    def _parse(self, line: str) -> list[Command]:
        """The commands of a RUN line that can take the fast path, else an empty list."""
        text = re.sub(r"^%dbg\([^)]*\)", "", line)
        if re.search(r"[*?`$]|%{", text):  # for the shell, or for lit
            return []
        lexer = shlex.shlex(text, posix=True, punctuation_chars="|&<>;()")
        lexer.whitespace_split = True
        lexer.commenters = ""
        commands: list[list[str]] = [[]]
        for token in lexer:
            if token == "|":
                commands.append([])
            else:
                commands[-1].append(token)
        parsed = [self._command(words) for words in commands]
        return [command for command in parsed if command] if all(parsed) else []

    def _command(self, words: list[str]) -> Command | None:
        joined = words[-3:] == ["2", ">&", "1"]
        words = words[:-3] if joined else words
        exit_code = 0
        if len(words) > 3 and words[1].endswith("exit_code.py"):
            exit_code, words = int(words[2]), words[3:]
        is_tool = words[:2] == [sys.executable, "-m"] and words[2] in self._modules
        if not is_tool and words[0] not in (self._filecheck, *OTHERS):
            return None
        if any(re.fullmatch(r"[|&<>;()]+", word) for word in words):
            return None
        return Command(tuple(words), exit_code, joined)

    def _run(self, pipeline: list[Command], folder: Path, environment: dict[str, str], log: list[str]) -> bool:
        """Run the commands, each on the output of the one before; what happened is added to the log."""
        data = b""
        for command in pipeline:
            is_tool = command.arguments[0] == sys.executable
            outcome = (_fork if is_tool else _spawn)(command, data, folder, environment)
            data = outcome.stdout
            log += [f"$ {command}", outcome.stderr.decode(errors="replace")]
            if outcome.exit_code != command.exit_code:
                log += [f"exit code {outcome.exit_code}, but {command.exit_code} was expected; its output was:"]
                log += [outcome.stdout.decode(errors="replace")]
                return False
        return True


def _spawn(command: Command, data: bytes, folder: Path, environment: dict[str, str]) -> Outcome:
    error = subprocess.STDOUT if command.joined else subprocess.PIPE
    done = subprocess.run(
        command.arguments, input=data, stdout=subprocess.PIPE, stderr=error, cwd=folder, env=environment
    )
    return Outcome(done.returncode, done.stdout, done.stderr or b"")


def _fork(command: Command, data: bytes, folder: Path, environment: dict[str, str]) -> Outcome:
    """Call the tool's `main` in a fork of this process."""
    _, _, module, *arguments = command.arguments
    for name in (*WARM, module):
        importlib.import_module(name)
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        stdin.write(data)
        stdin.seek(0)
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            _redirect(stdin.fileno(), stdout.fileno(), (stdout if command.joined else stderr).fileno())
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environment)
            signal.alarm(TIMEOUT_SECONDS)
            os._exit(_call(module, arguments))
        _, status = os.waitpid(child, 0)
        stdout.seek(0)
        stderr.seek(0)
        return Outcome(os.waitstatus_to_exitcode(status), stdout.read(), stderr.read())


def _redirect(*files: int) -> None:
    """Let stdin, stdout and stderr, for C++ and for Python, be these files."""
    for number, file in enumerate(files):
        os.dup2(file, number)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", closefd=False)


def _call(module: str, arguments: list[str]) -> int:
    try:
        code = sys.modules[module].main(arguments)
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = 1
    return code
