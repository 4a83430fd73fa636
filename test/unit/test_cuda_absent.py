"""What happens where cuda-python, the driver or the GPU is missing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bitmlir.dialects.errors import DeviceError
from bitmlir.runtime.driver import Device, DeviceArray

REPORT = """
from bitmlir.dialects.errors import DeviceError
from bitmlir.runtime.driver import Device
print(Device.find())
try:
    Device.current()
except DeviceError as error:
    print(error)
"""


def output_of(code: str, **environment: str) -> list[str]:
    everything = {**os.environ, **environment}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=everything)
    return run.stdout.splitlines()


def test_without_cuda_python_the_error_says_what_to_install():
    blocked = "import sys; sys.modules['cuda'] = None\n"
    assert output_of(blocked + REPORT) == [
        "None",
        "running on a GPU needs cuda-python: pip install 'bitmlir[cuda]'",
    ]


def test_without_cuda_python_there_is_no_nvjitlink_but_no_error_either():
    blocked = "import sys; sys.modules['cuda'] = None\n"
    code = "from bitmlir import assembler; print(assembler._nvjitlink_version())"
    assert output_of(blocked + code) == ["None"]


def test_without_a_visible_gpu_the_error_says_so_and_names_the_way_out():
    pytest.importorskip("cuda.bindings.driver", reason="cuda-python is not installed")
    found, message = output_of(REPORT, CUDA_VISIBLE_DEVICES="-1")
    assert found == "None"
    assert message.startswith("no usable GPU (")
    assert message.endswith("): compile with target='cpu' to run without one")


def test_arrays_and_devices_need_a_gpu():
    if Device.find():
        pytest.skip("this machine has a GPU")
    for use in (Device.current, lambda: DeviceArray.empty((1,), None)):  # type: ignore[arg-type]
        with pytest.raises(DeviceError, match="GPU"):
            use()
