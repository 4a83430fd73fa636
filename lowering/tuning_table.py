"""Tuning tables: the tiles that were measured to be the fastest on one device, as a JSON file.

    {"format": 1, "device": {"name": …}, "source": …, "entries": [
        {"workload": {…}, "tile": {"rows": 64, …}, "seconds": 1.1e-4, "date": …, "timings": [{"tile": …, …}]}]}

This module loads no MLIR: tools and `compile` read tables, too.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from bitmlir.dialects.errors import InputError
from bitmlir.dialects.files import write_whole
from bitmlir.dialects.layout import LARGEST_SIZE
from bitmlir.lowering.workload import Workload

__all__ = ["FORMAT", "Entry", "TuningTable", "quoted_path", "unquoted_path", "warn_once"]

FORMAT = 1
"""The version of the file."""

_log = logging.getLogger("bitmlir")

_FAULTS = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)  # of what JSON may hold


@dataclass(frozen=True)
class Entry:
    """The fastest tile for a workload.

    tile: its fields. seconds: the median of its runs. details: what else the file says of it, kept as it is: all
    timings, clocks, tools, the date.
    """

    workload: Workload
    tile: dict[str, int | bool]
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The entry as the file has it."""
        known = {"workload": self.workload.to_json(), "tile": self.tile, "seconds": self.seconds}
        return known | self.details


@dataclass(frozen=True)
class TuningTable:
    """A table. device: what it was measured on, its `name` at least. source: how."""

    device: dict[str, Any]
    source: str
    entries: tuple[Entry, ...] = ()

    @property
    def device_name(self) -> str:
        """What the device calls itself."""
        return self.device["name"]

    def find(self, workload: Workload) -> Entry | None:
        """The entry for exactly this workload."""
        return next((entry for entry in self.entries if entry.workload == workload), None)

    def near(self, workload: Workload, reach: float = 1.0) -> list[Entry]:
        """Entries of the workload's class whose sizes are not farther away (see `Workload.distance`), nearest first."""
        known = [(workload.distance(entry.workload), entry) for entry in self.entries]
        return [entry for distance, entry in sorted(known, key=lambda pair: pair[0]) if distance <= reach]

    def merged(self, entries: Iterable[Entry]) -> TuningTable:
        """The table with these entries, instead of those that it had for the same workloads."""
        by_workload = {entry.workload: entry for entry in (*self.entries, *entries)}
        return TuningTable(self.device, self.source, tuple(by_workload.values()))

    def to_json(self) -> str:
        """The text of the file, an entry in each line."""
        head = json.dumps({"format": FORMAT, "device": self.device, "source": self.source}, ensure_ascii=False)
        lines = ",\n".join(json.dumps(entry.to_json(), ensure_ascii=False) for entry in self.entries)
        return f'{head[:-1]}, "entries": [\n{lines}\n]}}\n'

    @classmethod
    def from_json(cls, text: str, name: str) -> TuningTable:
        """The table in a text; `name` is what errors call it. Entries that are none are left out, with one warning.

        Raises:
            InputError: it is no table, or one of a newer format.
        """
        try:
            values = json.loads(text)
            made_in = values["format"]
            if type(made_in) is not int:
                raise TypeError(f"its format is {made_in!r}")
            if made_in <= FORMAT:
                device, source = dict(values["device"]), str(values["source"])
                if not isinstance(device["name"], str):
                    raise TypeError("its device has no name")
                json.dumps(values, ensure_ascii=False).encode()  # a ValueError if a text in it is no Unicode
                return cls(device, source, _sound_entries(values["entries"], name))
        except _FAULTS as error:
            raise InputError(
                f"{name} is not a tuning table ({error!r}): remove it, or write it anew with bitmlir-bench tune"
            ) from None
        raise InputError(f"{name} has format {made_in}, but this bitmlir reads up to {FORMAT}: upgrade it")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TuningTable:
        """The table in a file.

        Raises:
            InputError: it cannot be read, is no table, or is one of a newer format.
        """
        name = os.fspath(path)
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot read the tuning table {name}: {error.strerror or error}") from None
        except UnicodeDecodeError as error:
            raise InputError(f"{name} is not a tuning table ({error}): write it anew with bitmlir-bench tune") from None
        return cls.from_json(text, name)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all.

        Raises:
            InputError: it cannot be written.
        """
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, self.to_json().encode())
        except OSError as error:
            raise InputError(f"cannot write the tuning table {os.fspath(path)}: {error.strerror or error}") from None

    @property
    def digest(self) -> str:
        """sha256 of what it says."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def quoted_path(path: str) -> str:
    """A table's path as the option of `choose-tiles` takes it: bytes that could end it are written %XX, as in URLs.

    Example:
        >>> quoted_path("/a b/c:d}.json"), unquoted_path("/a%20b/c%3Ad%7D.json")
        ('/a%20b/c%3Ad%7D.json', '/a b/c:d}.json')
    """
    return quote(os.fsencode(path))


def unquoted_path(text: str) -> str:
    """The path that `quoted_path` wrote."""
    return os.fsdecode(unquote_to_bytes(text))


@functools.cache
def warn_once(message: str) -> None:
    """Warn the first time that a message comes: tables are read anew for every program."""
    _log.warning("%s", message)


def _sound_entries(entries: Iterable[Mapping[str, Any]], name: str) -> tuple[Entry, ...]:
    sound: list[Entry] = []
    faults: list[str] = []
    for values in entries:
        try:
            sound.append(_entry(values))
        except _FAULTS as error:
            faults.append(repr(error))
    if faults:
        ignored = f"{len(faults)} of {len(faults) + len(sound)} entries {'is' if len(faults) == 1 else 'are'} ignored"
        warn_once(f"the tuning table {name}: {ignored}; the first because of {faults[0]}")
    return tuple(sound)


def _entry(values: Mapping[str, Any]) -> Entry:
    tile = dict(values["tile"])
    if not all(type(value) is bool or (type(value) is int and 0 <= value <= LARGEST_SIZE) for value in tile.values()):
        raise TypeError(f"the fields of a tile must be true or whole numbers from 0 to {LARGEST_SIZE}, but are {tile}")
    seconds = float(values["seconds"])
    if not 0 < seconds < math.inf:
        raise ValueError(f"seconds must be a number above 0, but are {seconds}")
    details = {name: value for name, value in values.items() if name not in ("workload", "tile", "seconds")}
    return Entry(Workload.from_json(values["workload"]), tile, seconds, details)
