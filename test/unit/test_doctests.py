"""The examples in docstrings run, those of every module; and public names have some."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import bitmlir

LEAST_EXAMPLES = 90  # of all modules together: none of them is lost by mistake


def modules() -> list[str]:
    """Every module by its name, wherever the folder of its package lies."""
    packages = ("bitmlir", "bitmlir.dialects", "bitmlir.lowering", "bitmlir.tools")
    folders = {package: Path(str(importlib.import_module(package).__file__)).parent for package in packages}
    found = {
        ".".join((package, *file.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__")
        for package, folder in folders.items()
        for file in folder.rglob("*.py")
    }
    return sorted(name for name in found if not name.endswith(".__main__"))  # which would run the program


def run_examples(module: str) -> doctest.TestResults:
    return doctest.testmod(importlib.import_module(module))


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BITMLIR_CACHE_DIR", str(tmp_path))


def test_all_examples_run() -> None:
    results = {module: run_examples(module) for module in modules()}
    assert {module: result.failed for module, result in results.items() if result.failed} == {}
    assert sum(result.attempted for result in results.values()) > LEAST_EXAMPLES


@pytest.mark.parametrize("name", [n for n in bitmlir.__all__ if not n.startswith("_") and not n.endswith("Error")])
def test_a_public_name_has_an_example(name: str) -> None:
    assert doctest.DocTestParser().get_examples(getattr(bitmlir, name).__doc__)
