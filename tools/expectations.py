"""`--verify-diagnostics`: comments that say which diagnostics the input must produce, and the comparison with them.

    // expected-error @+1 {{part of the message}}
    // expected-note-re @below {{line {{[0-9]+}}}}

Kinds: error, warning, remark, note. Places: none (the comment's own line), `@+N`, `@-N`, `@above` and `@below` (the
nearest line without such a comment), `@unknown` (no place in a file).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bitmlir.lowering.diagnostics import Diagnostic

__all__ = ["Expectation", "disagreements", "parse_expectations"]

_COMMENT = re.compile(
    r"expected-(?P<severity>error|warning|remark|note)(?P<regex>-re)?\s*"
    r"(@(?P<place>[+-]\d+|above|below|unknown))?\s*\{\{(?P<message>.*)\}\}\s*$"
)

# MLIR's command-line tools turn this note off when they verify diagnostics; its Python bindings cannot.
_DUMP_NOTE = "see current operation"


@dataclass(frozen=True)
class Expectation:
    """One expected diagnostic: at `line`, or at no place in a file if that is None; `origin` is the comment's line."""

    severity: str
    line: int | None
    message: str
    is_regex: bool
    origin: int

    def accepts(self, diagnostic: Diagnostic) -> bool:
        """Whether this is the line and the message; the severity is compared by the caller."""
        line = diagnostic.position and diagnostic.position.line
        return line == self.line and re.search(self._pattern(), diagnostic.message) is not None

    def _pattern(self) -> str:
        if not self.is_regex:
            return re.escape(self.message)
        parts = re.split(r"\{\{(.*?)\}\}", self.message)
        return "".join(f"({part})" if index % 2 else re.escape(part) for index, part in enumerate(parts))


def parse_expectations(text: str, first_line: int = 1) -> list[Expectation]:
    """The expectations in the comments of a text whose first line has that number."""
    lines = text.split("\n")
    plain = [first_line + i for i, line in enumerate(lines) if not _COMMENT.search(line)]
    expectations = []
    for number, line in enumerate(lines, first_line):
        if match := _COMMENT.search(line):
            place = _line(match["place"], number, plain)
            kind, message = match["severity"], match["message"]
            expectations.append(Expectation(kind, place, message, match["regex"] is not None, number))
    return expectations


def _line(place: str | None, number: int, plain: list[int]) -> int | None:
    """The line that a comment on line `number` speaks of; `plain` are the lines without such comments."""
    if place == "unknown":
        return None
    if place == "above":
        return max((line for line in plain if line < number), default=0)
    if place == "below":
        return min((line for line in plain if line > number), default=0)
    return number + int(place or 0)


def disagreements(expectations: Iterable[Expectation], diagnostics: Iterable[Diagnostic], source: str) -> Iterator[str]:
    """What was reported but not expected, and what was expected but not reported, one line of text each."""
    expectations = list(expectations)
    met: set[Expectation] = set()
    for diagnostic in _flatten(diagnostics):
        close = [e for e in expectations if e.accepts(diagnostic)]
        same = [e for e in close if e.severity == diagnostic.severity]
        met.update([e for e in same if e not in met][:1])  # each diagnostic answers one expectation
        if not same:
            hint = f" (expected as {close[0].severity})" if close else ""
            line = f":{diagnostic.position.line}" if diagnostic.position else ""
            yield f"{source}{line}: error: unexpected {diagnostic.severity}{hint}: {diagnostic.message}"
    for expectation in expectations:
        if expectation not in met:
            yield (
                f"{source}:{expectation.origin}: error: "
                f'expected {expectation.severity} "{expectation.message}" was not produced'
            )


def _flatten(diagnostics: Iterable[Diagnostic]) -> Iterator[Diagnostic]:
    for diagnostic in diagnostics:
        if not (diagnostic.severity == "note" and diagnostic.message.startswith(_DUMP_NOTE)):
            yield diagnostic
        yield from _flatten(diagnostic.notes)
