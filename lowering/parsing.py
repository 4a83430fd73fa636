"""Parsing modules, with what MLIR's parser would abort on refused first."""

from __future__ import annotations

import re

from mlir import ir

from bitmlir.dialects.errors import IRError

__all__ = ["parse_module"]

_STRING_OR_COMMENT = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*')
_ARRAY_ELEMENTS = "i1, i8, i16, i32, i64, f32 or f64"  # MLIR 22 asserts on others, instead of refusing them
_ARRAY = re.compile(r"(?<![\w.])array<\s*(?!(?:i1|i8|i16|i32|i64|f32|f64)\b)(?P<element>[\w!#]+)")
_BRACKET = re.compile(r"->|<=|>=|[(\[{<]|[)\]}>]")  # or, to be passed over, what has one in it
_MOST_LEVELS = 256  # MLIR's parser calls itself for each, and some thousand levels down ends the process


def parse_module(text: str, source: str = "-", first_line: int = 1) -> ir.Module:
    """The module of that text; needs a current context. `first_line` is the number of its first line in `source`.

    Raises:
        IRError: the text would make MLIR's parser abort.
        ir.MLIRError: it does not parse, or does not verify.
    """
    blanked = _STRING_OR_COMMENT.sub(lambda match: " " * len(match[0]), text)
    if found := _fault(blanked):
        position, fault = found
        before = blanked[:position]
        line, column = first_line + before.count("\n"), position - before.rfind("\n")
        raise IRError("the IR does not parse:", (f"{source}:{line}:{column}: error: {fault}",))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise IRError(f"the IR of {source} is no valid Unicode text: {error.reason}") from None
    return ir.Module.parse("\n" * (first_line - 1) + text)


def _fault(text: str) -> tuple[int, str] | None:
    """What would make MLIR's parser abort in a text without strings and comments, and where."""
    if match := _ARRAY.search(text):
        element = match["element"]
        return match.start(), f"array<{element}> is no array attribute: its elements can be {_ARRAY_ELEMENTS}"
    level = 0
    for match in _BRACKET.finditer(text):
        if match[0] in "([{<":
            level += 1
        elif match[0] in ")]}>":
            level = max(level - 1, 0)
        if level > _MOST_LEVELS:
            return match.start(), f"brackets are nested more than {_MOST_LEVELS} deep"
    return None
