"""The compile cache: one bundle file for each key, shared by every process of a user."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock

from bitmlir.dialects.errors import BundleError
from bitmlir.runtime.bundle import FORMAT, Bundle
from bitmlir.settings import settings

__all__ = ["Cache", "cache_key"]

_logger = logging.getLogger("bitmlir")

_SCHEMA = 1  # raise it when what goes into a key, or where an entry lies, changes
_LIMIT_BYTES = 1 << 30
_LONGEST_COMPILE_SECONDS = 300  # after that, whoever holds a lock is taken to hang
_COMPILER_PACKAGES = ("bitmlir", "bitmlir.dialects", "bitmlir.lowering")


def cache_key(texts: Sequence[str], options: Mapping[str, object], tools: Mapping[str, str | None]) -> str:
    """The key of a compilation: sha256 over all that its bundle depends on, this package's own source included.

    texts: the program, such as its IR in canonical form.
    options: the target, the pipeline, …; values are told apart by their `repr`.
    tools: the version of each tool that takes part, None for one that is missing.

    Example:
        >>> a, b = (cache_key(["module {}"], {"target": t}, {"ptxas": "13.0.88"}) for t in ("sm_80", "sm_90"))
        >>> len(a), a == b
        (64, False)
    """
    parts = {
        "schema": (_SCHEMA, FORMAT),
        "source": _source_digest(),
        "texts": list(texts),
        "options": {name: repr(value) for name, value in options.items()},
        "tools": dict(tools),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Cache:
    """A folder of bundles, trimmed to a size by throwing out those used longest ago. No folder: nothing is kept.

    A folder that cannot be written costs one warning; damaged entries are compiled again.

    Example:
        >>> from bitmlir.runtime.plan import Plan
        >>> Cache(None).get_or_create("key", lambda: Bundle(Plan("f", "cpu", (), (), (), ()), {})).plan.name
        'f'
    """

    folder: Path | None
    limit_bytes: int = _LIMIT_BYTES

    @classmethod
    def from_settings(cls) -> Cache:
        """The cache that the environment asks for.

        Raises:
            InputError: an environment variable's value is not of its type.
        """
        now = settings()
        return cls(now.cache_dir / f"v{_SCHEMA}" if now.cache else None)

    def get_or_create(self, key: str, create: Callable[[], Bundle]) -> Bundle:
        """The bundle kept under the key; if there is none, the one that `create` makes, which is then kept.

        Processes and threads that want the same key at the same time wait for the first of them to make it.
        """
        if self.folder is None:
            return create()
        entry = self.folder / f"{key}.bitmlir"
        if bundle := _read(entry):
            return bundle
        with _locked(entry) as usable:
            if not usable:
                return create()
            if bundle := _read(entry):  # made while we waited
                return bundle
            bundle = create()
            try:
                bundle.save(entry)
            except BundleError as error:
                _logger.warning("compile cache: %s", error)
        self._trim()
        return bundle

    def _trim(self) -> None:
        """Throw out the entries used longest ago until the rest fit the limit. The newest one always stays."""
        with contextlib.suppress(OSError):
            files = [(file.stat(), file.path) for file in os.scandir(self.folder)]
            total = sum(stat.st_size for stat, _ in files)
            for stat, path in sorted(files, key=lambda file: file[0].st_mtime_ns)[:-1]:
                if total <= self.limit_bytes:
                    break
                total -= stat.st_size
                _remove(path)


def _read(entry: Path) -> Bundle | None:
    """The entry's bundle, marked as just used; None if there is no entry or it is damaged."""
    if not entry.exists():
        return None
    try:
        bundle = Bundle.load(entry)
    except BundleError as error:
        _logger.warning("compile cache: %s", error)
        _remove(entry)
        return None
    with contextlib.suppress(OSError):  # a cache that others may only read is still good to read
        os.utime(entry)
    return bundle


@contextlib.contextmanager
def _locked(entry: Path) -> Iterator[bool]:
    """Hold the entry's lock; yields False, holding nothing, if its folder cannot be written."""
    lock = filelock.FileLock(entry.with_suffix(".lock"))
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=_LONGEST_COMPILE_SECONDS)
    except OSError as error:  # filelock.Timeout is one too
        _warn_unusable(entry.parent, error.strerror or str(error))
    try:
        yield lock.is_locked
    finally:
        if lock.is_locked:
            # Those who wait for the removed file go on with it and find the entry. If there is none because `create`
            # failed, two of them may try again at the same time, which does no harm.
            _remove(lock.lock_file)
            lock.release()


@functools.cache
def _warn_unusable(folder: Path, reason: str) -> None:
    """Warn, once for each folder and reason."""
    _logger.warning("cannot write the compile cache %s (%s): compiling without it", folder, reason)


def _remove(path: str | os.PathLike[str]) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


@functools.cache
def _source_digest() -> str:
    """sha256 of every source file that can change what is compiled: an edited checkout has no version of its own."""
    digest = hashlib.sha256()
    for package in _COMPILER_PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        folder = Path(spec.origin).parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{package}/{path.relative_to(folder)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()
