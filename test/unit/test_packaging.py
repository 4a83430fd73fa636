"""The wheel holds the packages where they are imported from, whole, and puts nothing else beside them."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOMES = {"bitmlir": "bitmlir", "dialects": "bitmlir/dialects", "lowering": "bitmlir/lowering", "tools": "bitmlir/tools"}
NEEDED_SETUPTOOLS = 77  # the first that reads the license of pyproject.toml


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a package index from a copy of the checkout."""
    try:
        version = importlib.metadata.version("setuptools")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("building a wheel needs setuptools: pip install setuptools")
    if int(version.partition(".")[0]) < NEEDED_SETUPTOOLS:
        pytest.skip(f"building a wheel needs setuptools {NEEDED_SETUPTOOLS} or later, but {version} is installed")
    copy = tmp_path_factory.mktemp("checkout")
    for name in HOMES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    code = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    build = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True)
    assert build.returncode == 0, build.stdout + build.stderr
    (path,) = (copy / "dist").iterdir()
    return path


@pytest.fixture(scope="module")
def members(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_puts_only_bitmlir_and_its_metadata_into_site_packages(wheel: Path, members: set[str]):
    name, version, *_ = wheel.name.split("-")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert {member.partition("/")[0] for member in members} == {"bitmlir", f"{name}-{version}.dist-info"}


def test_the_wheel_holds_every_python_file_the_dialect_in_irdl_and_the_tuning_tables(members: set[str]):
    expected = {"bitmlir/dialects/bit.irdl.mlir", "bitmlir/tuning/h200.json"}
    for folder, home in HOMES.items():
        expected |= {f"{home}/{path.relative_to(ROOT / folder).as_posix()}" for path in (ROOT / folder).rglob("*.py")}
    assert {member for member in members if not member.partition("/")[0].endswith(".dist-info")} == expected


def test_packages_are_imported_from_the_unpacked_wheel(wheel: Path, tmp_path: Path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import bitmlir.dialects.errors, bitmlir.lowering.cpu, bitmlir.lowering.gpu, bitmlir.tools.cli\n"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.partition('.')[0] == 'bitmlir'), sep='\\n')"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    files = run.stdout.split()
    assert len(files) > 5
    assert all(Path(file).is_relative_to(tmp_path / "bitmlir") for file in files)
