"""Reading records from JSON: the types of a dataclass's fields say what a file may hold."""

from __future__ import annotations

import dataclasses
import json
import types
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from bitmlir.dialects.errors import InputError

__all__ = ["Positive", "read_record"]

Positive = Annotated[float, "above 0"]
"""A number above 0."""

_LARGEST = 1e30  # of numbers, and 1 by it the smallest above 0: what is computed of them stays finite
_NAMES: dict[type, str] = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}


def read_record(kind: Any, value: Any, where: str = "") -> Any:
    """What a value of JSON is as a dataclass, or as what stands in its fields; `where` it is in the file.

    Types are other dataclasses, `tuple[X, ...]`, `dict[str, X]`, `X | None`, str, bool, int for counts, float, Positive
    and Any. Fields that a dataclass does not have are left out.

    Raises:
        InputError: the value is something else, a number is not finite, or a field is missing.

    Example:
        >>> read_record(dict[str, Positive], {"a": 2.5})
        {'a': 2.5}
        >>> read_record(tuple[int, ...], [1, -1], "sizes")
        Traceback (most recent call last):
        bitmlir.dialects.errors.InputError: sizes[1]: expected a count, got -1
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _fields_read(kind, _required(dict, value, where), where)
    if origin is tuple:
        items = enumerate(_required(list, value, where))
        return tuple(read_record(arguments[0], each, f"{where}[{number}]") for number, each in items)
    if origin is dict:
        items = _required(dict, value, where).items()
        return {name: read_record(arguments[1], each, _inside(where, name)) for name, each in items}
    if origin in (Union, types.UnionType):
        return None if value is None else read_record(arguments[0], value, where)
    if kind in (str, bool):
        return _required(kind, value, where)
    return _number_read(kind, value, where)


def _fields_read(kind: Any, given: dict[str, Any], where: str) -> Any:
    hints, values = get_type_hints(kind, include_extras=True), {}
    for field in dataclasses.fields(kind):
        if field.name in given:
            values[field.name] = read_record(hints[field.name], given[field.name], _inside(where, field.name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise InputError(f"{_inside(where, field.name)} is missing")
    try:
        return kind(**values)
    except ValueError as error:  # what its fields do not say
        raise InputError(f"{where}: {error}" if where else str(error)) from None


def _number_read(kind: Any, value: Any, where: str) -> int | float:
    """A number that is finite; `bool` is an int for Python, but none for people."""
    types_, least, name = {
        int: ((int,), 0, "a count"),
        float: ((int, float), -_LARGEST, "a finite number"),
        Positive: ((int, float), 1 / _LARGEST, "a finite number above 0"),
    }[kind]
    if type(value) not in types_ or not least <= value <= _LARGEST:  # which NaN is not
        raise InputError(f"{where}: expected {name}, got {_shown(value)}")
    return value


def _required(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, kind):
        raise InputError(f"{where}: expected {_NAMES[kind]}, got {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    """A value as in the file, if it is short."""
    return _NAMES[type(value)] if isinstance(value, (dict, list)) else f"{json.dumps(value):.40}"


def _inside(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
