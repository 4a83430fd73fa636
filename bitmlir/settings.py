"""The environment variables of bitmlir: their names, types, defaults and meanings."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

import platformdirs

from bitmlir.dialects.errors import InputError

__all__ = ["Settings", "is_debugging", "settings", "table"]


def _path(text: str) -> Path:
    return Path(os.path.expanduser(text))


def _folder(text: str) -> Path:
    path = _path(text)
    if path.exists() and not path.is_dir():
        raise ValueError("a folder, not a file")
    return path


def _switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("0 or 1")
    return text == "1"


def _variable(name: str, parse: Callable[[str], object], meaning: str) -> dict[str, Any]:
    return {"name": name, "parse": parse, "meaning": meaning}


@dataclass(frozen=True)
class Settings:
    """What the environment asks for; `settings()` reads it.

    Example:
        >>> Settings(cache=False).cache
        False
    """

    cache_dir: Path = field(
        default_factory=lambda: platformdirs.user_cache_path("bitmlir"),
        metadata=_variable("BITMLIR_CACHE_DIR", _folder, "folder of the compile cache"),
    )
    cache: bool = field(
        default=True,
        metadata=_variable("BITMLIR_CACHE", _switch, "0: compile every time, neither read nor write the cache"),
    )
    tuning: Path | None = field(
        default=None,
        metadata=_variable("BITMLIR_TUNING", _path, "a tuning table to look into before all others"),
    )
    ptxas: Path | None = field(
        default=None,
        metadata=_variable("BITMLIR_PTXAS", _path, "the PTX assembler to use before all others"),
    )
    dump_dir: Path | None = field(
        default=None,
        metadata=_variable("BITMLIR_DUMP_DIR", _folder, "where failed compiles leave their stages (unset: temporary)"),
    )
    debug: bool = field(
        default=False,
        metadata=_variable("BITMLIR_DEBUG", _switch, "1: log every step and show Python tracebacks"),
    )


def settings() -> Settings:
    """The settings that the environment asks for now; a variable that is unset or empty has its default.

    Raises:
        InputError: a variable's value is not of its type.
    """
    return Settings(**{f.name: _read(**f.metadata) for f in fields(Settings) if os.environ.get(f.metadata["name"])})


def is_debugging() -> bool:
    """Whether BITMLIR_DEBUG asks for all details, whatever the other variables hold.

    Raises:
        InputError: it holds something else than 0 or 1.
    """
    (field_,) = (f for f in fields(Settings) if f.name == "debug")
    return bool(os.environ.get(field_.metadata["name"])) and _read(**field_.metadata)


def table() -> list[tuple[str, str, str]]:
    """A row for each variable: its name, its value now (default included) and its meaning; of a wrong value, what is
    expected."""
    return [(f.metadata["name"], _shown(f), f.metadata["meaning"]) for f in fields(Settings)]


def _shown(variable: Field[Any]) -> str:
    name = variable.metadata["name"]
    given = os.environ.get(name)
    if not given:
        return _show(getattr(Settings(), variable.name))
    try:
        return _show(variable.metadata["parse"](given))
    except ValueError as expected:
        return f"{given!r}: expected {expected}"


def _read(name: str, parse: Callable[[str], Any], meaning: str) -> Any:
    try:
        return parse(os.environ[name])
    except ValueError as expected:
        raise InputError(f"environment variable {name}={os.environ[name]!r} ({meaning}): expected {expected}") from None


def _show(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return "" if value is None else str(value)
