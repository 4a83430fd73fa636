"""Which tests go to the same worker, and that pytest-xdist is told so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from work_units import work_unit

TEST = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("nodeid", "unit"),
    [
        ("test/test_lit.py::test_lit[dialect/a.mlir]", "test/test_lit.py"),
        ("test/unit/test_x.py::TestY::test_z[a[0]]", "test/unit/test_x.py"),
        ("test/assembly/test_x.py::test_y[a::b-sm_80]", "test/assembly/test_x.py[a::b-sm_80]"),
        ("test/assembly/test_x.py::test_z[a::b-sm_80]", "test/assembly/test_x.py[a::b-sm_80]"),
        ("test/assembly/test_x.py::test_loops", "test/assembly/test_x.py"),
        ("test/unit/test_nn.py::test_y[vgg16-1]", "test/unit/test_nn.py[vgg16-1]"),
    ],
)
def test_files_stay_together_and_the_longest_are_divided_by_parameters(nodeid: str, unit: str) -> None:
    assert work_unit(nodeid) == unit


def test_the_divided_files_are_there() -> None:
    assert (TEST / "assembly").is_dir()
    assert (TEST / "unit" / "test_nn.py").is_file()


def test_workers_get_work_units(tmp_path: Path) -> None:
    file = tmp_path / "test/unit/test_nn.py"
    file.parent.mkdir(parents=True)
    file.write_text(
        "import os, pathlib, pytest\n"
        "@pytest.mark.parametrize('i', range(9))\n"
        "@pytest.mark.parametrize('name', 'ab')\n"
        "class Test:\n"
        "    def note(self, name, i):\n"
        f"        pathlib.Path({str(tmp_path)!r}, f'{{i}}{{name}} {{os.environ[\"PYTEST_XDIST_WORKER\"]}}').touch()\n"
        "    test_one = test_two = lambda self, name, i: self.note(name, i)\n"
    )
    options = ["-n", "2", "--dist", "loadscope", "-p", "xdist", "-p", "work_units", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", *options, "--rootdir", tmp_path, tmp_path]
    environment = {**os.environ, "PYTHONPATH": str(TEST), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    units, workers = zip(*(path.name.split() for path in tmp_path.glob("* gw?")), strict=True)
    assert len(units) == len(set(units)) == 18, "both tests of the same parameters are in one worker"
    assert len(set(workers)) == 2, "the file is divided"
