"""The bundle file (`.bitmlir`): a zip of a launch plan, the program at every level, and checksums of it all.

- `manifest.json`: format, the bitmlir that wrote it, target, plan, tool versions, sha256 of each member and of itself;
- one member for each level of the program, named in `STAGES`;
- `constants/NAME.npy` for each buffer of the plan that holds a constant.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitmlir import __version__
from bitmlir.dialects.errors import BundleError, InputError
from bitmlir.dialects.files import write_whole
from bitmlir.runtime.plan import Buffer, Plan

if TYPE_CHECKING:
    import numpy as np

__all__ = ["FORMAT", "STAGES", "Bundle"]

FORMAT = 5
"""The bundle format this version writes; it reads this one and every earlier one.

2: launches have clusters and may overlap the one before. Those of format 1 have one block a cluster and do not.
3: tensor maps may have windows.
4: there are constants, steps that run once, memory that scratch shares, and uint8; tensor maps may see a buffer in
   another shape.
5: kernels for the CPU take the fields of descriptors. Those of earlier formats have a second function that takes
   descriptors, and need not.
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
_CONSTANTS, _NPY = "constants/", ".npy"
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say: equal bundles are equal bytes, whenever they are saved
_ZIP_START = b"PK\x03\x04"


@dataclass(frozen=True)
class Bundle:
    """A compiled program: its launch plan, its text or image at each level, and its constants.

    `stages` maps a level of `STAGES` to that member's bytes; `versions` maps each tool that took part to its version;
    `constants` maps each buffer that carries one of the plan's constants to its contents, as a .npy file has them.

    Example:
        >>> bundle = Bundle(Plan("f", "sm_80", (), (), (), ()), {"ptx": b".version 8.0"})
        >>> Bundle.from_bytes(bundle.to_bytes()) == bundle
        True
    """

    plan: Plan
    stages: dict[str, bytes]
    versions: dict[str, str] = field(default_factory=dict)
    constants: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := self.stages.keys() - STAGES.keys():
            raise InputError(f"unknown stage {min(unknown)!r}: expected one of {', '.join(STAGES)}")
        if self.constants.keys() != self.plan.constant_buffers:
            expected, got = (", ".join(sorted(n)) or "none" for n in (self.plan.constant_buffers, self.constants))
            raise InputError(f"the plan has constants in the buffers {expected}, but contents are given of {got}")

    def holding(self, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> Bundle:
        """The bundle with arguments as constants. arrays: of each argument, those of its buffers."""
        from bitmlir.runtime.memory import share_memory

        plan = share_memory(self.plan.holding(arrays.keys()))
        contents = {name: _npy(array) for parts in arrays.values() for name, array in parts.items()}
        return replace(self, plan=plan, constants={**self.constants, **contents})

    def constant_arrays(self) -> dict[str, np.ndarray]:
        """The contents of the plan's constants by buffer.

        Raises:
            BundleError: one is no array of its buffer's type and shape.
        """
        return {name: _array(self.plan.buffer(name), data) for name, data in self.constants.items()}

    def to_bytes(self) -> bytes:
        """The bundle file's contents; equal bundles give equal bytes."""
        members = {path: self.stages[level] for level, path in STAGES.items() if level in self.stages}
        members |= {f"{_CONSTANTS}{name}{_NPY}": data for name, data in sorted(self.constants.items())}
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
                # Packed weights are as good as random: to compress them would take time and nothing else.
                kind = zipfile.ZIP_STORED if path.startswith(_CONSTANTS) else zipfile.ZIP_DEFLATED
                archive.writestr(entry, data, kind, compresslevel=6)
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
        constants = {
            path.removeprefix(_CONSTANTS).removesuffix(_NPY): data
            for path, data in members.items()
            if path.startswith(_CONSTANTS)
        }
        try:
            return cls(manifest["plan"], stages, manifest["versions"], constants)
        except InputError as error:
            raise BundleError(f"{name} is malformed ({error}): compile again") from None

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


def _npy(array: np.ndarray) -> bytes:
    """An array as a .npy file; types that numpy does not know by itself as raw bytes of their size."""
    import numpy as np

    file = io.BytesIO()
    np.lib.format.write_array(file, array.view(f"V{array.itemsize}") if array.dtype.kind == "V" else array)
    return file.getvalue()


def _array(buffer: Buffer, data: bytes) -> np.ndarray:
    """The contents of a buffer, of a .npy file."""
    import numpy as np

    from bitmlir.runtime.dtypes import numpy_dtype

    expected = numpy_dtype(buffer.dtype)
    try:
        array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False).view(expected)
    except (ValueError, TypeError) as error:
        raise BundleError(f"the constant {buffer.name} cannot be read ({error}): compile again") from None
    if array.shape != buffer.shape:
        raise BundleError(f"the constant {buffer.name} must have the shape {buffer.shape}, got {array.shape}")
    return array


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
