"""Checking the types of the fields of specs: sizes, switches and names."""

from __future__ import annotations

import operator
from dataclasses import fields
from typing import Any

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import InputError, ShapeError
from bitmlir.dialects.layout import LARGEST_SIZE

__all__ = ["adopt_fields", "require_names", "require_sizes", "require_switches", "whole_number"]

_TRUTH_VALUES = ("builtins.bool", "numpy.bool")  # by name, since specs are checked without loading numpy


def whole_number(value: Any, largest: int) -> int | None:
    """The value as Python's int, if it is a whole number from 1 to `largest`, numpy's included; else None.

    Example:
        >>> whole_number(3, 8), whole_number(9, 8), whole_number(3.0, 8), whole_number(True, 8)
        (3, None, None, None)
    """
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except Exception:  # an array of another library has an error of its own
        return None
    return number if 1 <= number <= largest else None


def adopt_fields(spec: object, checked: Any) -> None:
    """Take over the fields that another spec has too, as its checks have made them."""
    for field in fields(checked):
        if hasattr(spec, field.name):
            object.__setattr__(spec, field.name, getattr(checked, field.name))


def require_sizes(spec: object, *names: str, largest: int = LARGEST_SIZE) -> None:
    """Check that these fields are whole numbers from 1 to `largest`, and make them Python's.

    Raises:
        ShapeError: one is not.
    """
    for name in names:
        value = getattr(spec, name)
        number = whole_number(value, largest)
        if number is None:
            raise ShapeError(f"{name} must be a whole number from 1 to {largest}, got {value!r}")
        object.__setattr__(spec, name, number)


def require_switches(spec: object, *names: str) -> None:
    """Check that these fields are True or False, and make numpy's Python's.

    Raises:
        InputError: one is not.
    """
    for name in names:
        value = getattr(spec, name)
        if f"{type(value).__module__}.{type(value).__name__}" not in _TRUTH_VALUES:
            raise InputError(f"{name} must be True or False, got {value!r}")
        object.__setattr__(spec, name, bool(value))


def require_names(spec: object, *names: str) -> None:
    """Check that these fields are strings, and make encodings their names: equal specs have equal fields.

    Raises:
        InputError: one is neither a string nor an encoding.
    """
    for name in names:
        value = getattr(spec, name)
        if not isinstance(value, (str, Encoding)):
            raise InputError(f"{name} must be named by a string, got {value!r}")
        object.__setattr__(spec, name, str(value))
