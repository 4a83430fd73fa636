"""MLIR's diagnostics as plain values that print `file:line:column: severity: message`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mlir import ir

__all__ = ["TEXT_NAME", "Diagnostic", "Position", "error_lines"]

# What MLIR calls the text given to `Module.parse`: it takes no file name.
TEXT_NAME = "-"


@dataclass(frozen=True)
class Position:
    """A place in a source file, counted from 1."""

    file: str
    line: int
    column: int

    @classmethod
    def of(cls, location: ir.Location) -> Position | None:
        """The first place in a file that a location leads to; None if it leads to none."""
        if location.is_a_file():
            return cls(location.filename, location.start_line, location.start_col)
        return next((position for inner in _inner(location) if (position := cls.of(inner))), None)


@dataclass(frozen=True)
class Diagnostic:
    """One message of MLIR's, with its notes; severity is error, warning, remark or note."""

    severity: str
    position: Position | None
    message: str
    notes: tuple[Diagnostic, ...] = ()

    @classmethod
    def of(cls, diagnostic: ir.Diagnostic | ir.DiagnosticInfo) -> Diagnostic:
        """A copy that outlives MLIR's own object."""
        return cls(
            severity=diagnostic.severity.name.lower(),
            position=Position.of(diagnostic.location),
            message=diagnostic.message,
            notes=tuple(cls.of(note) for note in diagnostic.notes),
        )

    def lines(self, source: str) -> Iterator[str]:
        """This diagnostic and its notes, one string each; `source` names the text that was parsed."""
        if self.position is None:
            place = f"{source}: "
        else:
            file = source if self.position.file == TEXT_NAME else self.position.file
            place = f"{file}:{self.position.line}:{self.position.column}: "
        yield f"{place}{self.severity}: {self.message}"
        for note in self.notes:
            yield from note.lines(source)


def error_lines(error: Exception, source: str = TEXT_NAME) -> tuple[str, ...]:
    """The diagnostics that an `ir.MLIRError` carries, one string each, notes included."""
    diagnostics = error.error_diagnostics  # pyright: ignore[reportAttributeAccessIssue]  # the stubs omit MLIRError
    return tuple(line for d in diagnostics for line in Diagnostic.of(d).lines(source))


def _inner(location: ir.Location) -> list[ir.Location]:
    """The locations a location is made of, the most telling one first."""
    if location.is_a_name():
        return [location.child_loc]
    if location.is_a_callsite():
        return [location.callee, location.caller]
    return location.locations if location.is_a_fused() else []
