"""bitmlir: bit-level matrix programs, from Python through MLIR to checked kernels.

Importing this package loads neither MLIR nor CUDA; each name below is loaded when it is first used.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bitmlir.compiler import compile
    from bitmlir.conv2d_spec import Conv2dSpec
    from bitmlir.device import to_device
    from bitmlir.dialects.encoding import Encoding
    from bitmlir.dialects.errors import (
        AssemblerError,
        BitmlirError,
        BundleError,
        CompileError,
        DeviceError,
        EncodingError,
        InputError,
        IRError,
        PipelineError,
        ShapeError,
        TargetError,
    )
    from bitmlir.executable import Executable, load
    from bitmlir.formats.packed import Packed, pack, unpack
    from bitmlir.formats.tiles import TileBitmap, tile_bitmap
    from bitmlir.grouped_spec import GroupedSpec
    from bitmlir.pack_spec import PackSpec
    from bitmlir.search_spec import SearchSpec
    from bitmlir.spec import MatmulSpec

__all__ = [
    "AssemblerError",
    "BitmlirError",
    "BundleError",
    "CompileError",
    "Conv2dSpec",
    "DeviceError",
    "Encoding",
    "EncodingError",
    "Executable",
    "GroupedSpec",
    "IRError",
    "InputError",
    "MatmulSpec",
    "PackSpec",
    "Packed",
    "PipelineError",
    "SearchSpec",
    "ShapeError",
    "TargetError",
    "TileBitmap",
    "__version__",
    "compile",
    "load",
    "pack",
    "tile_bitmap",
    "to_device",
    "unpack",
]

__version__ = "0.1.0"

# Module → the public names that it defines.
_HOMES = {
    "bitmlir.compiler": ("compile",),
    "bitmlir.dialects.encoding": ("Encoding",),
    "bitmlir.dialects.errors": tuple(name for name in __all__ if name.endswith("Error")),
    "bitmlir.device": ("to_device",),
    "bitmlir.executable": ("Executable", "load"),
    "bitmlir.formats.packed": ("Packed", "pack", "unpack"),
    "bitmlir.formats.tiles": ("TileBitmap", "tile_bitmap"),
    "bitmlir.conv2d_spec": ("Conv2dSpec",),
    "bitmlir.grouped_spec": ("GroupedSpec",),
    "bitmlir.pack_spec": ("PackSpec",),
    "bitmlir.search_spec": ("SearchSpec",),
    "bitmlir.spec": ("MatmulSpec",),
}

# In a source checkout that was not installed, `bitmlir.dialects`, `.lowering` and `.tools` lie beside this folder.
_root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if all(os.path.isfile(os.path.join(_root, *path)) for path in (("dialects", "__init__.py"), ("pyproject.toml",))):
    __path__.append(_root)


def __getattr__(name: str) -> Any:
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'bitmlir' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value  # the next access is direct
    return value


def __dir__() -> list[str]:
    return list(__all__)
