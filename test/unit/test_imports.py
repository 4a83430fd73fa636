"""What may be loaded by what: importing bitmlir is light, and running a bundle needs neither MLIR nor the compiler."""

from __future__ import annotations

import subprocess
import sys

import pytest

COMPILER = ("mlir", "bitmlir.lowering", "bitmlir.tools", "bitmlir.dialects.bit")
CUDA = ("cuda",)
LIBRARIES = ("numpy", "ml_dtypes", "platformdirs", "filelock", "click", "rich", "torch")


def loaded_by(code: str) -> set[str]:
    """Every module that a fresh Python has loaded after running the code."""
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def among(modules: set[str], packages: tuple[str, ...]) -> set[str]:
    return {name for name in modules for package in packages if name == package or name.startswith(f"{package}.")}


def test_importing_bitmlir_loads_no_other_package():
    modules = loaded_by("import bitmlir")
    assert not among(modules, COMPILER + CUDA + LIBRARIES)
    assert among(modules, ("bitmlir",)) == {"bitmlir"}


@pytest.mark.parametrize(
    "module",
    [
        "bitmlir.runtime.bundle",
        "bitmlir.runtime.cuda",
        "bitmlir.runtime.driver",
        "bitmlir.runtime.dtypes",
        "bitmlir.runtime.memory",
        "bitmlir.runtime.plan",
        "bitmlir.executable",
        "bitmlir.formats",
        "bitmlir.formats.packed",
        "bitmlir.formats.tiles",
        "bitmlir.cache",
        "bitmlir.assembler",
        "bitmlir.settings",
    ],
)
def test_running_and_packing_load_neither_the_compiler_nor_cuda(module):
    modules = loaded_by(f"import {module}")
    assert module in modules
    assert not among(modules, COMPILER + CUDA)


def test_running_on_a_gpu_needs_only_numpy_of_all_libraries():
    packages = {name.partition(".")[0] for name in among(loaded_by("import bitmlir.runtime.cuda"), LIBRARIES)}
    assert packages == {"numpy"}


def test_a_bundle_is_read_without_numpy():
    assert "numpy" not in loaded_by("import bitmlir.runtime.bundle")


def test_this_suite_would_notice():
    assert among({"mlir.ir", "os"}, COMPILER) == {"mlir.ir"}
    assert among({"mlirx", "bitmlir.loweringx"}, COMPILER) == set()
