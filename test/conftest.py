"""What all tests share: a compile cache of their own, fixtures, and the rule for tests that need a GPU."""

from __future__ import annotations

import functools
import os

import numpy as np
import pytest
from fake_driver import faked_driver
from work_units import pytest_xdist_make_scheduler as pytest_xdist_make_scheduler

from bitmlir.dialects.errors import DeviceError
from bitmlir.runtime.driver import Device


@functools.cache
def _why_no_gpu() -> str | None:
    try:
        Device.current()
    except DeviceError as error:
        return str(error)
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked `gpu` where there is none; with BITMLIR_REQUIRE_GPU=1 they fail instead."""
    if item.get_closest_marker("gpu") and (reason := _why_no_gpu()):
        if os.environ.get("BITMLIR_REQUIRE_GPU") == "1":
            pytest.fail(f"BITMLIR_REQUIRE_GPU=1, but {reason}", pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Tests neither read nor fill the user's compile cache."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("BITMLIR_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every run."""
    return np.random.default_rng(0)


@pytest.fixture
def fake():
    """A CUDA driver without a GPU, and what it was asked to do."""
    with faked_driver() as fake:
        yield fake
