"""Tuning tables: the tiles that were measured to be the fastest on one device, as a JSON file.

    {"format": 1, "device": {"name": …}, "source": …, "entries": [
        {"workload": {…}, "tile": {"rows": 64, …}, "seconds": 1.1e-4, "date": …, "timings": [{"tile": …, …}]}]}

This module loads no MLIR: tools and `compile` read tables, too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bitmlir.dialects.errors import InputError
from bitmlir.lowering.workload import Workload

__all__ = ["FORMAT", "Entry", "TuningTable"]

FORMAT = 1
"""The version of the file."""


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
        """The table in a text; `name` is what errors call it.

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
                return cls(device, source, tuple(_entry(entry) for entry in values["entries"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
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
        target = Path(path)
        draft = target.with_name(f".{target.name}.{os.getpid()}.{uuid.uuid4().hex}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                draft.write_text(self.to_json(), encoding="utf-8")
                os.replace(draft, target)
            finally:
                with contextlib.suppress(OSError):
                    draft.unlink()  # still there only if something failed
        except OSError as error:
            raise InputError(f"cannot write the tuning table {target}: {error.strerror or error}") from None

    @property
    def digest(self) -> str:
        """sha256 of what it says."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def _entry(values: Mapping[str, Any]) -> Entry:
    tile = {str(name): value for name, value in dict(values["tile"]).items()}
    if not all(isinstance(value, int) for value in tile.values()):
        raise TypeError(f"the fields of a tile must be whole numbers and true, but are {tile}")
    details = {name: value for name, value in values.items() if name not in ("workload", "tile", "seconds")}
    return Entry(Workload.from_json(values["workload"]), tile, float(values["seconds"]), details)
