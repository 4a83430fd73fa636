"""The tuning tables that `compile` looks into: where they are, and which of them are of the GPU that is present.

In this order: the file that `BITMLIR_TUNING` names; the user's own, which `bitmlir-bench tune` writes into the cache
folder; those that come with bitmlir, in this folder.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bitmlir.dialects.errors import InputError
from bitmlir.lowering.targets import Target
from bitmlir.lowering.tuning_table import TuningTable
from bitmlir.settings import settings

__all__ = ["Source", "tables_for", "user_table_path"]

_log = logging.getLogger("bitmlir")

_SHIPPED = Path(__file__).parent


@dataclass(frozen=True)
class Source:
    """A table and its file."""

    path: Path
    table: TuningTable


def tables_for(target: Target) -> tuple[Source, ...]:
    """The tables to compile with for a target, the first to look into first.

    With a GPU that the target is made for, those of other devices are left out, with a line in the log. Without one all
    count that have an entry for the target. Tables that cannot be read are left out, with a warning.

    Raises:
        InputError: `BITMLIR_TUNING` names no file.
    """
    if not target.is_gpu:
        return ()
    device = _present_device(target)
    return tuple(
        source
        for level, source in _all_tables()
        if _suits(source, target, device, level) and any(e.workload.target == target.name for e in source.table.entries)
    )


def _present_device(target: Target) -> str | None:
    """The name of the GPU that is present, if the target is made for it."""
    from bitmlir.runtime.driver import Device

    device = Device.find()
    return device.name if device is not None and device.capability == target.capability else None


def user_table_path(device: str) -> Path:
    """Where the user's own table for a device lies.

    Example:
        >>> user_table_path("NVIDIA H200").name
        'nvidia-h200.json'
    """
    name = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    return settings().cache_dir / "tuning" / f"{name}.json"


def _all_tables() -> Iterator[tuple[int, Source]]:
    """Every table there is, and how loudly to say that it is left out."""
    for level, path in _all_files():
        try:
            yield level, Source(path, TuningTable.load(path))
        except InputError as error:
            _log.warning("%s: ignored", error)


def _all_files() -> Iterator[tuple[int, Path]]:
    now = settings()
    if now.tuning is not None:
        if not os.path.isfile(now.tuning):
            fault = "it is a folder: name a table in it" if os.path.isdir(now.tuning) else "there is no such file"
            raise InputError(f"environment variable BITMLIR_TUNING={str(now.tuning)!r}: {fault}")
        yield logging.WARNING, now.tuning
    for level, folder in ((logging.INFO, now.cache_dir / "tuning"), (logging.DEBUG, _SHIPPED)):
        for path in sorted(folder.glob("*.json")):
            yield level, path


def _suits(source: Source, target: Target, device: str | None, level: int) -> bool:
    name = source.table.device_name
    if device is None or name == device:
        return True
    _log.log(level, "the tuning table %s is of %s, not of %s: ignored for %s", source.path, name, device, target.name)
    return False
