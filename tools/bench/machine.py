"""What the measurements were made on: the device, its clocks, and the versions of everything that took part."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import subprocess
from typing import Any

from bitmlir import __version__
from bitmlir.runtime.driver import Device, call, driver

__all__ = ["describe_device", "l2_bytes", "read_clocks", "tool_versions"]

_CLOCKS = {
    "sm_mhz": "clocks.sm",
    "memory_mhz": "clocks.mem",
    "most_sm_mhz": "clocks.max.sm",
    "power_w": "power.draw",
    "power_limit_w": "power.limit",
    "temperature_c": "temperature.gpu",
}
_PACKAGES = {
    "mlir": "xtc-mlir-python-bindings",
    "numpy": "numpy",
    "cuda-bindings": "cuda-bindings",
    "torch": "torch",
}


def describe_device(device: Device | None) -> dict[str, Any]:
    """Name and sizes of the device, and the driver's version; of the CPU its name."""
    if device is None:
        return {"name": _cpu_name()}
    return {
        "name": device.name,
        "capability": ".".join(map(str, device.capability)),
        "multiprocessors": device.sm_count,
        "l2_bytes": l2_bytes(device),
        "driver": next(iter(_nvidia_smi(device, ["driver_version"])), None),
        "cuda_driver_api": call("cuDriverGetVersion"),
    }


def l2_bytes(device: Device) -> int:
    """Size of the L2 cache."""
    kind = driver().CUdevice_attribute.CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE
    return call("cuDeviceGetAttribute", kind, call("cuDeviceGet", device.ordinal))


def read_clocks(device: Device) -> dict[str, float]:
    """Clocks in MHz, power in W and temperature in °C as nvidia-smi tells them; what it does not tell is left out."""
    clocks = {}
    for name, text in zip(_CLOCKS, _nvidia_smi(device, list(_CLOCKS.values())), strict=False):
        try:
            clocks[name] = float(text)
        except ValueError:  # "[N/A]"
            continue
    return clocks


def tool_versions() -> dict[str, str]:
    """Version of each tool that is present, and when this was."""
    versions = {"bitmlir": __version__, "python": platform.python_version()}
    for name, package in _PACKAGES.items():
        try:
            versions[name] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    from bitmlir.assembler import find_assembler

    versions |= {"assembler": assembler} if (assembler := find_assembler()) else {}
    return versions | {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")}


def _nvidia_smi(device: Device, fields: list[str]) -> list[str]:
    """These fields of a device; none where there is no nvidia-smi."""
    bus = call("cuDeviceGetPCIBusId", 32, call("cuDeviceGet", device.ordinal)).partition(b"\0")[0].decode()
    command = ["nvidia-smi", f"--id={bus}", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [field.strip() for field in text.splitlines()[0].split(",")] if text else []


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "CPU"
