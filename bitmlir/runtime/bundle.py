"""The bundle file (`.bitmlir`): a zip of a launch plan, the program at every level, and checksums of it all.

- `manifest.json`: format, the bitmlir that wrote it, target, plan, tool versions, sha256 of each member and of itself;
- one member for each level of the program, named in `STAGES`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bitmlir import __version__
from bitmlir.dialects.errors import BundleError, InputError
from bitmlir.dialects.files import write_whole
from bitmlir.runtime.plan import Plan

__all__ = ["FORMAT", "STAGES", "Bundle"]

FORMAT = 3
"""The bundle format this version writes; it reads this one and every earlier one.

2: launches have clusters and may overlap the one before. Those of format 1 have one block a cluster and do not.
3: tensor maps may have windows.
"""

STAGES = {
    "bit": "stages/bit.mlir",
    "planes": "stages/planes.mlir",
    "explain": "stages/explain.json",
    "gpu": "stages/gpu.mlir",
    "vector": "stages/vector.mlir",
    "nvvm": "stages/nvvm.mlir",
    "cpu": "stages/cpu.llvm.mlir",
    "llvm": "stages/llvm.ll",
    "ptx": "stages/kernel.ptx",
    "cubin": "stages/kernel.cubin",
}
"""The member of the zip that holds each level of the program, from high to low; and what the model expects of it."""

_MANIFEST = "manifest.json"
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say: equal bundles are equal bytes, whenever they are saved
_ZIP_START = b"PK\x03\x04"


@dataclass(frozen=True)
class Bundle:
    """A compiled program: its launch plan and its text or image at each level.

    `stages` maps a level of `STAGES` to that member's bytes; `versions` maps each tool that took part to its version.

    Example:
        >>> bundle = Bundle(Plan("f", "sm_80", (), (), (), ()), {"ptx": b".version 8.0"})
        >>> Bundle.from_bytes(bundle.to_bytes()) == bundle
        True
    """

    plan: Plan
    stages: dict[str, bytes]
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := self.stages.keys() - STAGES.keys():
            raise InputError(f"unknown stage {min(unknown)!r}: expected one of {', '.join(STAGES)}")

    def to_bytes(self) -> bytes:
        """The bundle file's contents; equal bundles give equal bytes."""
        members = {path: self.stages[level] for level, path in STAGES.items() if level in self.stages}
        manifest = {
            "format": FORMAT,
            "bitmlir": __version__,
            "target": self.plan.target,
            "plan": self.plan.to_json(),
            "versions": self.versions,
            "members": {path: _sha256(data) for path, data in members.items()},
        }
        manifest["sha256"] = _manifest_digest(manifest)
        text = json.dumps(manifest, indent=1, sort_keys=True).encode()
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for path, data in {_MANIFEST: text, **members}.items():
                entry = zipfile.ZipInfo(path, _DATE)
                entry.create_system, entry.external_attr = 3, 0o644 << 16  # as on Unix, wherever it is written
                archive.writestr(entry, data, zipfile.ZIP_DEFLATED, compresslevel=6)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "bundle") -> Bundle:
        """The bundle that `to_bytes` wrote; `name` is what errors call it.

        Raises:
            BundleError: the bytes are no bundle, or a truncated, altered or newer one.
        """
        members = _unzip(data, name)
        manifest = _read_manifest(members.pop(_MANIFEST, None), name)
        sums: dict[str, str] = manifest["members"]
        for path in sums.keys() | members.keys():
            if path not in members:
                raise _altered(name, f"its member {path} is missing")
            if sums.get(path) != _sha256(members[path]):
                raise _altered(name, f"its member {path} is not the one that was saved")
        stages = {level: members[path] for level, path in STAGES.items() if path in members}
        return cls(manifest["plan"], stages, manifest["versions"])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the bundle file, whole or not at all.

        Raises:
            BundleError: the file cannot be written, or its path is none.
        """
        _require_path(path)
        data = self.to_bytes()
        try:
            write_whole(path, data)
        except OSError as error:
            raise BundleError(f"cannot write bundle {os.fspath(path)}: {error.strerror or error}") from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Bundle:
        """The bundle in a file.

        Raises:
            BundleError: there is no such file, or it is no bundle, or a truncated, altered or newer one.
        """
        _require_path(path)
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise BundleError(f"cannot read bundle {os.fspath(path)}: {error.strerror or error}") from None
        return cls.from_bytes(data, os.fspath(path))


def _require_path(path: object) -> None:
    if not isinstance(path, (str, os.PathLike)):
        raise BundleError(f"expected the path of a bundle, got {type(path).__name__}")


def _unzip(data: bytes, name: str) -> dict[str, bytes]:
    if not data.startswith(_ZIP_START[: len(data)]):
        raise BundleError(f"{name} is not a bundle: expected a .bitmlir file that bitmlir saved")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {path: archive.read(path) for path in archive.namelist()}
    except Exception as error:  # zipfile raises a dozen kinds of error on damaged data
        raise BundleError(f"{name} is truncated or altered ({error}): copy it again or compile again") from None


def _read_manifest(text: bytes | None, name: str) -> dict[str, Any]:
    """The manifest with its plan read, and its fields of the right kind.

    The format comes first: all else may differ in a newer one.
    """
    if text is None:
        raise BundleError(f"{name} is not a bundle: it is a zip without {_MANIFEST}")
    try:
        manifest = json.loads(text)
        made_in = manifest["format"]
        if made_in > FORMAT:
            raise BundleError(
                f"{name} was made by bitmlir {manifest.get('bitmlir', '(unknown)')} with bundle format {made_in}; "
                f"this bitmlir ({__version__}) reads formats up to {FORMAT}: upgrade it, or compile again"
            )
        if manifest.pop("sha256") != _manifest_digest(manifest):
            raise _altered(name, f"its {_MANIFEST} is not the one that was saved")
        return {**manifest, "plan": Plan.from_json(manifest["plan"]), "members": dict(manifest["members"])}
    except BundleError:
        raise
    except Exception as error:  # a field is missing or of another kind
        raise BundleError(f"{name} has a malformed {_MANIFEST} ({error!r}): compile again") from None


def _altered(name: str, what: str) -> BundleError:
    return BundleError(f"{name} is altered: {what}; copy it again or compile again")


def _manifest_digest(manifest: dict[str, Any]) -> str:
    return _sha256(json.dumps(manifest, sort_keys=True).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
