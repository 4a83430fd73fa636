"""The examples of the README and of documents run as they stand."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("page", "fewest"),
    [("docs/tutorial.md", 15), ("docs/tutorial-brevitas.md", 4), ("docs/networks.md", 3), ("README.md", 1)],
)
def test_the_python_of_a_page_runs_in_order(page: str, fewest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), flags=re.M | re.S)
    assert len(blocks) >= fewest
    monkeypatch.chdir(tmp_path)  # the examples save files
    shutil.copy(ROOT / "docs/demo/digits.onnx", tmp_path)  # which a block that needs torch makes
    scope: dict[str, object] = {}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{page}, block {number}", "exec"), scope)
