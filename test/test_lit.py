"""Every lit test as a pytest test: lit runs once, in one worker, and each file's result is looked up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = sorted(
    path.relative_to(HERE).as_posix()
    for folder in ("dialect", "lowering", "tools")
    for path in (HERE / folder).rglob("*")
    if path.suffix in (".mlir", ".test") and "Inputs" not in path.parts
)

Results = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Code and output of each lit test, by its path in the suite."""
    folder = tmp_path_factory.mktemp("lit")
    report = folder / "results.json"
    lit = [sys.executable, "-c", "import lit.main; lit.main.main()"]
    command = [*lit, "-q", "--output", report, "--param", f"exec_root={folder}", HERE]
    done = subprocess.run(command, capture_output=True, text=True)
    assert report.exists(), f"lit itself failed:\n{done.stdout}{done.stderr}"
    tests = json.loads(report.read_text())["tests"]
    return {test["name"].partition(" :: ")[2]: test for test in tests}


def test_lit_ran_exactly_the_files_that_are_there(results: Results) -> None:
    assert FILES
    assert sorted(results) == FILES


@pytest.mark.parametrize("file", FILES)
def test_lit(file: str, results: Results) -> None:
    result = results[file]
    if result["code"] == "UNSUPPORTED":
        pytest.skip(result["output"])
    assert result["code"] in ("PASS", "XFAIL"), f"{result['code']}: {file}\n{result['output']}"
