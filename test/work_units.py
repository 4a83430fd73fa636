"""Which tests go to the same worker of pytest-xdist."""

from __future__ import annotations

from typing import Any

import pytest

__all__ = ["pytest_xdist_make_scheduler", "work_unit"]

_DIVIDED = ("test/assembly/", "test/unit/test_nn.py")  # with more work than a worker's share


def work_unit(nodeid: str) -> str:
    """The name of what a test is part of: its file, whose fixtures and caches then serve all its tests; in the files
    with the most work, the tests of the same parameters, which are of the same program."""
    file, _, test = nodeid.partition("::")
    _, bracket, parameters = test.partition("[")
    return f"{file}[{parameters}" if bracket and file.startswith(_DIVIDED) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadscope`, hand out work units, those of most tests first.

    Not by groups that tests name (`--dist loadgroup`): pytest-xdist 3.8 loses them with pytest 9.2.
    """
    if config.getvalue("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return work_unit(nodeid)

    return Scheduling(config, log)
