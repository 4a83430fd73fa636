"""What chips can do at most, in numbers: what the cost model computes with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["MACHINES", "Machine"]


@dataclass(frozen=True)
class Machine:
    """A chip as the cost model sees it.

    Attributes:
        name: a card with this chip. measured: whether the numbers are measured on it, or else taken from what its maker
            published.
        clock_hz: of its multiprocessors; a target says how many there are.
        operations_per_second: of the matrix unit, on bits.
        memory_bytes_per_second: of device memory, read or written.
        l2_bytes: size of the L2 cache. l2_bytes_per_clock: what a multiprocessor gets of it at most.
        shared_bytes_per_clock: of a multiprocessor's shared memory.
        write_bytes_per_second: what all multiprocessors together can write to L2.
        latency_seconds: from asking for memory until it is there.
        launch_seconds: of a kernel in a CUDA graph. memset_seconds: of a memset before it.
        start_seconds: from a kernel's start until its first products.
        watts: what the card may draw; None where that is not known to matter. Then come the joules of one operation on
            bits, of one byte from L2, and of one byte of a result.
    """

    name: str
    measured: bool
    clock_hz: float
    operations_per_second: float
    memory_bytes_per_second: float
    l2_bytes: int
    l2_bytes_per_clock: int = 64
    shared_bytes_per_clock: int = 128
    write_bytes_per_second: float = 4e12
    latency_seconds: float = 0.8e-6
    launch_seconds: float = 2e-6
    memset_seconds: float = 3.1e-6
    start_seconds: float = 0.9e-6
    watts: float | None = None
    joules: tuple[float, float, float] = (0.0, 0.0, 0.0)


_MB = 1 << 20
_H200_JOULES = (28e-15, 3.3e-12, 36e-12)  # in bursts of a millisecond


def _h200(operations_per_second: float) -> Machine:
    return Machine(
        "NVIDIA H200",
        True,
        1.98e9,
        operations_per_second,
        4.15e12,
        50 * _MB,
        latency_seconds=0.7e-6,
        launch_seconds=0.58e-6,
        start_seconds=0.5e-6,
        watts=700,
        joules=_H200_JOULES,
    )


MACHINES: Mapping[str, Machine] = MappingProxyType(
    {
        # Turing and Ampere architecture whitepapers: 1-bit rates are four times those of 4 bits.
        "sm_75": Machine("GeForce RTX 2080 Ti", False, 1.545e9, 1.72e15, 0.616e12, int(5.5 * _MB)),
        "sm_80": Machine("NVIDIA A100", False, 1.41e9, 4.99e15, 1.94e12, 40 * _MB),
        "sm_86": Machine("GeForce RTX 3090", False, 1.695e9, 2.27e15, 0.936e12, 6 * _MB),
        "sm_89": Machine("GeForce RTX 4090", False, 2.52e9, 5.28e15, 1.008e12, 72 * _MB),
        "sm_90": _h200(10.2e15),
        "sm_90a": _h200(15.5e15),
        # No 1-bit unit: the rates are those of the 8-bit unit, which is used in its place.
        "sm_100a": Machine("NVIDIA B200", False, 1.965e9, 4.5e15, 8.0e12, 126 * _MB),
        "sm_120": Machine("GeForce RTX 5090", False, 2.41e9, 0.838e15, 1.79e12, 96 * _MB),
    }
)
"""Target → the machine that programs for it are judged on."""
