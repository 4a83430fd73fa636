"""What the command-line tools share: exit codes, how errors are reported, and how output is written."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from bitmlir import __version__
from bitmlir.dialects.errors import BitmlirError, CompileError, PipelineError, TargetError
from bitmlir.dialects.files import write_whole
from bitmlir.settings import is_debugging

if TYPE_CHECKING:
    import click

__all__ = [
    "BAD_INPUT",
    "INTERRUPTED",
    "OK",
    "OUR_FAULT",
    "USAGE",
    "as_target",
    "read_input",
    "require_writable",
    "run_command",
    "run_tool",
    "version_line",
    "write_output",
]

OK = 0
BAD_INPUT = 1
USAGE = 2
INTERRUPTED = 128 + signal.SIGINT  # as shells report it
OUR_FAULT = 70  # EX_SOFTWARE of sysexits.h


class UnreadableError(BitmlirError):
    """An input or output file that cannot be read or written."""


def run_tool(name: str, body: Callable[[], int]) -> int:
    """Run a tool's body; whatever it raises becomes a message on stderr and an exit code."""
    debug = False
    try:
        debug = is_debugging()
        level = logging.DEBUG if debug else logging.WARNING
        logging.basicConfig(format=f"{name}: %(levelname)s: %(message)s", level=level)
        return body()
    except SystemExit as exit_:  # how argparse ends
        return exit_.code if isinstance(exit_.code, int) else OK
    except KeyboardInterrupt:
        return INTERRUPTED
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


def run_command(name: str, command: click.Command, argv: Sequence[str] | None = None) -> int:
    """Run a tool that click parses for on these arguments, by default the process's, and return its exit code."""
    import click

    arguments = sys.argv[1:] if argv is None else list(argv)

    def body() -> int:
        try:
            # Not `main`, which has its own ways with a broken pipe and an interrupt.
            with command.make_context(name, arguments) as context:
                return command.invoke(context)
        except click.exceptions.Exit as exit_:  # how click ends after --help
            return exit_.exit_code
        except click.UsageError as error:
            print(f"{name}: error: {error.format_message()}\nTry '{name} --help'.", file=sys.stderr)
            return USAGE
        except MemoryError as error:  # numpy's message says how much was asked for
            print(f"{name}: error: not enough memory to run the program: {error}", file=sys.stderr)
            return BAD_INPUT
        except CompileError as error:  # the input was valid: what we made of it was not
            if is_debugging():
                traceback.print_exc()
            print(f"{name}: error: {error}", file=sys.stderr)
            return OUR_FAULT

    return run_tool(name, body)


def as_target(_context: click.Context, _parameter: click.Parameter, name: str) -> str:
    """Check an option that names a target, for click: "auto", or the name of one."""
    import click

    from bitmlir.lowering.targets import get_target

    try:
        return name if name == "auto" else get_target(name).name
    except TargetError as error:
        raise click.BadParameter(str(error)) from error


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
        elif _is_written_in_place(path):
            Path(path).write_bytes(data)
        else:
            write_whole(path, data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UnreadableError(f"cannot write '{path}': {error.strerror}") from error


def require_writable(path: str) -> None:
    """Check that `write_output` can write there, before what is to be written takes long to make."""
    if path == "-":
        return
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if _is_written_in_place(path):
            if not os.access(path, os.W_OK):  # not opened: a pipe would wait for its reader
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        else:
            tempfile.TemporaryFile(dir=os.path.dirname(os.path.realpath(path))).close()
    except OSError as error:
        raise UnreadableError(f"cannot write '{path}': {error.strerror}") from error


def _is_written_in_place(path: str) -> bool:
    """Whether it is a device or a pipe, which must not be replaced by a file."""
    return os.path.exists(path) and not os.path.isfile(path)
