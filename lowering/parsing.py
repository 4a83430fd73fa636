"""Parsing modules, with what MLIR's parser would abort on refused first."""

from __future__ import annotations

import re

from mlir import ir

from bitmlir.dialects.errors import IRError

__all__ = ["parse_module"]

_STRING_OR_COMMENT = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*')
# MLIR 22 asserts on arrays of other elements, instead of refusing them.
_ARRAY = re.compile(r"(?<![\w.])array<\s*(?!(?:i1|i8|i16|i32|i64|f32|f64)\b)(?P<element>[\w!#]+)")


def parse_module(text: str, source: str = "-", first_line: int = 1) -> ir.Module:
    """The module of that text; needs a current context. `first_line` is the number of its first line in `source`.

    Raises:
        IRError: the text would make MLIR's parser abort.
        ir.MLIRError: it does not parse, or does not verify.
    """
    blanked = _STRING_OR_COMMENT.sub(lambda match: " " * len(match[0]), text)
    if match := _ARRAY.search(blanked):
        before = blanked[: match.start()]
        line, column = first_line + before.count("\n"), match.start() - before.rfind("\n")
        fault = (
            f"array<{match['element']}> is no array attribute: its elements can be i1, i8, i16, i32, i64, f32 or f64"
        )
        raise IRError("the IR does not parse:", (f"{source}:{line}:{column}: error: {fault}",))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise IRError(f"the IR of {source} is no valid Unicode text: {error.reason}") from None
    return ir.Module.parse("\n" * (first_line - 1) + text)
