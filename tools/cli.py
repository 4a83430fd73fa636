"""What the command-line tools share: exit codes, how errors are reported, and how output is written."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from bitmlir import __version__
from bitmlir.dialects.errors import BitmlirError, PipelineError
from bitmlir.settings import settings

__all__ = ["BAD_INPUT", "OK", "OUR_FAULT", "USAGE", "read_input", "run_tool", "version_line", "write_output"]

OK = 0
BAD_INPUT = 1
USAGE = 2
OUR_FAULT = 70  # EX_SOFTWARE of sysexits.h


class UnreadableError(BitmlirError):
    """An input or output file that cannot be read or written."""


def run_tool(name: str, body: Callable[[], int]) -> int:
    """Run a tool's body; whatever it raises becomes a message on stderr and an exit code."""
    debug = False
    try:
        debug = settings().debug
        level = logging.DEBUG if debug else logging.WARNING
        logging.basicConfig(format=f"{name}: %(levelname)s: %(message)s", level=level)
        return body()
    except SystemExit as exit_:  # how argparse ends
        return exit_.code if isinstance(exit_.code, int) else OK
    except KeyboardInterrupt:
        return 128 + signal.SIGINT  # as shells report it
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes there at exit
        return 128 + signal.SIGPIPE
    except BitmlirError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return USAGE if isinstance(error, PipelineError) else BAD_INPUT
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(
            f"{name}: this is a fault of bitmlir, not of your input: {type(error).__name__}: {error}", file=sys.stderr
        )
        print("Please report it with the command line, the input, and what BITMLIR_DEBUG=1 shows.", file=sys.stderr)
        return OUR_FAULT


def version_line(name: str) -> str:
    """What `--version` answers: the tool's name, ours, and that of the MLIR it stands on."""
    return f"{name} {__version__} (MLIR {metadata.version('xtc-mlir-python-bindings')})\n"


def read_input(path: str) -> str:
    """The text of a file; "-" is standard input."""
    try:
        return (sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()).decode()
    except OSError as error:
        raise UnreadableError(f"cannot read '{path}': {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UnreadableError(f"cannot read '{path}': it is not UTF-8 text (byte {error.start})") from error


def write_output(path: str, content: str | bytes) -> None:
    """Write a file as a whole or not at all; "-" is standard output."""
    data = content.encode() if isinstance(content, str) else content
    try:
        if path == "-":
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
        elif os.path.exists(path) and not os.path.isfile(path):  # a device or a pipe must not be replaced by a file
            Path(path).write_bytes(data)
        else:
            _replace(path, data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UnreadableError(f"cannot write '{path}': {error.strerror}") from error


def _replace(path: str, data: bytes) -> None:
    """Write beside the file, then put it in its place in one step."""
    target = os.path.realpath(path)
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(target), prefix=f".{os.path.basename(target)}.")
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes it private
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
