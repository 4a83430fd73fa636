"""PTX to cubin, without a GPU: by ptxas where there is one, else in process by nvJitLink."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bitmlir.dialects.errors import AssemblerError, InputError
from bitmlir.settings import settings

__all__ = ["Assembled", "Resources", "assemble", "find_assembler", "resources"]

_logger = logging.getLogger("bitmlir")

_WHEEL_PTXAS = ("cu13", "bin", "ptxas")  # where the nvidia-cuda-nvcc wheel puts it, under site-packages/nvidia
_QUOTED_LINES = 3

# What an assembler says of a chip or of a PTX version that came after it.
_TOO_OLD = re.compile(r"is not defined for option 'gpu-name'|Unsupported \.version|UNRECOGNIZED_ARCH|UNSUPPORTED_ARCH")
_NONE_FOUND = (
    "no PTX assembler found: expected $BITMLIR_PTXAS, ptxas on PATH or in the nvidia-cuda-nvcc wheel, or nvJitLink; "
    "get one by pip install 'bitmlir[cuda]'"
)


@dataclass(frozen=True)
class Assembled:
    """A cubin, the assembler's log (registers and spills of each kernel), and which tool made it."""

    cubin: bytes
    log: str
    tool: str


@dataclass(frozen=True)
class Resources:
    """What one kernel takes: registers a thread, bytes spilled (stored and loaded) a thread, static shared bytes."""

    registers: int
    spill_bytes: int
    shared_bytes: int


class _Refused(Exception):
    """The assembler's log of an input that it refused."""


class _Tool(Protocol):
    @property
    def name(self) -> str: ...
    def assemble(self, ptx: bytes, chip: str) -> Assembled: ...


def assemble(ptx: bytes, chip: str) -> Assembled:
    """The cubin of a PTX text for a chip such as `sm_90a`.

    The first tool found does it; one that is too old for the chip or for the PTX version is passed over.

    Raises:
        AssemblerError: no tool was found, or the PTX was refused; the message quotes the lines in question.
        InputError: `BITMLIR_PTXAS` is set but names no program.
    """
    log, tool = "", None
    for tool in _tools():
        try:
            return tool.assemble(ptx, chip)
        except _Refused as refusal:
            log = str(refusal).strip()
        if not _TOO_OLD.search(log):
            break
        _logger.info("%s is too old for %s, trying the next assembler: %s", tool.name, chip, log)
    if tool is None:
        raise AssemblerError(_NONE_FOUND)
    raise AssemblerError("\n".join((f"{tool.name} refused the PTX for {chip}:", log, *_quote(ptx, log))))


def find_assembler() -> str | None:
    """Name and version of the tool that `assemble` tries first, such as `ptxas 13.0.88`; None if there is none.

    Raises:
        InputError: `BITMLIR_PTXAS` is set but names no program.
    """
    tool = next(_tools(), None)
    return tool.name if tool else None


def resources(log: str) -> dict[str, Resources]:
    """What each kernel takes, from the log of `assemble`.

    Example:
        >>> resources('''ptxas info    : Compiling entry function 'k' for 'sm_80'
        ... ptxas info    : Function properties for k
        ...     8 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
        ... ptxas info    : Used 40 registers, used 1 barriers, 1024 bytes smem''')
        {'k': Resources(registers=40, spill_bytes=12, shared_bytes=1024)}
    """
    _, *sections = re.split(r"Compiling entry function '([^']+)'", log)
    return {
        kernel: Resources(
            registers=_sum(r"Used (\d+) registers", text),
            spill_bytes=_sum(r"(\d+) bytes spill (?:stores|loads)", text),
            shared_bytes=_sum(r"Used .* (\d+) bytes smem", text),
        )
        for kernel, text in zip(sections[::2], sections[1::2], strict=True)
    }


def _sum(pattern: str, text: str) -> int:
    """The sum of the numbers found: of none where the log leaves out a zero, of several where a kernel has callees."""
    return sum(map(int, re.findall(pattern, text)))


def _quote(ptx: bytes, log: str) -> list[str]:
    """The lines of the PTX that the log complains of, the first few."""
    lines = ptx.decode(errors="replace").splitlines()
    numbers = dict.fromkeys(int(n) for n in re.findall(r", line (\d+);", log))
    return [f"  line {n}: {lines[n - 1].strip()}" for n in numbers if 0 < n <= len(lines)][:_QUOTED_LINES]


def _tools() -> Iterator[_Tool]:
    """The assemblers of this machine, best first, each looked for only when the ones before it do not do."""
    chosen = settings().ptxas
    if chosen and not shutil.which(chosen):
        raise InputError(f"environment variable BITMLIR_PTXAS={str(chosen)!r}: expected the path of a ptxas program")
    for program in (chosen, shutil.which("ptxas"), _wheel_ptxas()):
        if program and (version := _ptxas_version(os.fspath(program))):
            yield _Ptxas(os.fspath(program), version)
    if version := _nvjitlink_version():
        yield _NvJitLink(version)


def _wheel_ptxas() -> Path | None:
    package = importlib.util.find_spec("nvidia")
    folders = (package and package.submodule_search_locations) or ()
    return next((path for folder in folders if (path := Path(folder, *_WHEEL_PTXAS)).is_file()), None)


@functools.cache
def _ptxas_version(program: str) -> str | None:
    try:
        text = _run([program, "--version"]).stdout
    except OSError as error:
        _logger.warning("cannot run %s: %s", program, error)
        return None
    match = re.search(r"\bV(\d+(?:\.\d+)+)", text)
    return match[1] if match else "of unknown version"


def _nvjitlink() -> Any:
    return importlib.import_module("cuda.bindings.nvjitlink")


@functools.cache
def _nvjitlink_version() -> str | None:
    try:
        return ".".join(map(str, _nvjitlink().version()))
    except Exception as error:  # the package is missing, its library is missing, or it is too old to answer
        _logger.debug("nvJitLink is not usable: %s", error)
        return None


@dataclass(frozen=True)
class _Ptxas:
    program: str
    version: str

    @property
    def name(self) -> str:
        return f"ptxas {self.version}"

    def assemble(self, ptx: bytes, chip: str) -> Assembled:
        with tempfile.TemporaryDirectory(prefix="bitmlir-") as folder:
            Path(folder, "kernel.ptx").write_bytes(ptx)
            command = [self.program, f"-arch={chip}", "-v", "kernel.ptx", "-o", "kernel.cubin"]
            run = _run(command, folder)
            cubin = Path(folder, "kernel.cubin")
            if run.returncode != 0 or not cubin.is_file():
                raise _Refused(run.stdout or f"exit status {run.returncode}, and no cubin")
            return Assembled(cubin.read_bytes(), run.stdout, self.name)


def _run(command: list[str], folder: str | None = None) -> subprocess.CompletedProcess[str]:
    """The finished command, with both its outputs in `stdout`."""
    return subprocess.run(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


@dataclass(frozen=True)
class _NvJitLink:
    """Assembles relocatable code, in which `setmaxnreg` has no effect: a kernel's registers must do without it."""

    version: str

    @property
    def name(self) -> str:
        return f"nvjitlink {self.version}"

    def assemble(self, ptx: bytes, chip: str) -> Assembled:
        nvjitlink = _nvjitlink()
        options = [f"-arch={chip}", "-verbose"]
        try:
            linker = nvjitlink.create(len(options), options)
        except nvjitlink.nvJitLinkError as error:
            raise _Refused(str(error)) from None
        try:
            nvjitlink.add_data(linker, nvjitlink.InputType.PTX, ptx, len(ptx), "kernel.ptx")
            nvjitlink.complete(linker)
            cubin = bytearray(nvjitlink.get_linked_cubin_size(linker))
            nvjitlink.get_linked_cubin(linker, cubin)
            log = bytearray(nvjitlink.get_info_log_size(linker))
            nvjitlink.get_info_log(linker, log)
            return Assembled(bytes(cubin), _text(log), self.name)
        except nvjitlink.nvJitLinkError as error:
            log = bytearray(nvjitlink.get_error_log_size(linker))
            nvjitlink.get_error_log(linker, log)
            raise _Refused(_text(log) or str(error)) from None
        finally:
            nvjitlink.destroy(linker)


def _text(log: bytearray) -> str:
    return log.rstrip(b"\0").decode(errors="replace")
