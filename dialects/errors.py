"""The errors bitmlir raises on purpose.

Every message says what was expected, what came, and what to do. Anything else that escapes is a fault of ours.
"""

from __future__ import annotations

__all__ = [
    "AssemblerError",
    "BitmlirError",
    "BundleError",
    "CompileError",
    "DeviceError",
    "EncodingError",
    "IRError",
    "InputError",
    "PipelineError",
    "ShapeError",
    "TargetError",
]


class BitmlirError(Exception):
    """Base of every error bitmlir raises on purpose."""


class InputError(BitmlirError, ValueError):
    """A value, name or option given by the user is not usable."""


class EncodingError(InputError):
    """An unknown encoding, or values outside the one that was named."""


class ShapeError(InputError):
    """Shapes that do not fit each other, or a range that int32 cannot hold."""


class TargetError(InputError):
    """An unknown target, or one that lacks what the program asks for."""


class PipelineError(InputError):
    """A pass pipeline that does not parse: unknown pass, unknown option, wrong nesting."""


class IRError(BitmlirError, ValueError):
    """IR that does not parse or verify; `diagnostics` holds one `file:line:column: severity: message` a line."""

    def __init__(self, message: str, diagnostics: tuple[str, ...] = ()) -> None:
        super().__init__("\n".join((message, *diagnostics)))
        self.diagnostics = diagnostics


class CompileError(BitmlirError, RuntimeError):
    """A fault while lowering; `folder` holds every stage reached and the command that reproduces it."""

    def __init__(self, message: str, folder: str | None = None) -> None:
        super().__init__(message if folder is None else f"{message}\nstages and repro command: {folder}")
        self.folder = folder


class AssemblerError(CompileError):
    """The PTX assembler refused what we generated, or none was found."""


class BundleError(BitmlirError, ValueError):
    """A bundle file that is truncated, altered, of a newer format, or made for another chip."""


class DeviceError(BitmlirError, RuntimeError):
    """No GPU, no cuda-python, out of memory, or an error the CUDA driver reported."""
