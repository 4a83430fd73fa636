"""The targets by name: what each chip has, so that the lowering can choose and nothing reaches LLVM unchecked."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from bitmlir.dialects.errors import TargetError

__all__ = ["TARGETS", "Target", "get_target", "target_for_capability"]

Copy = Literal["load", "cp.async", "tma"]


@dataclass(frozen=True)
class Target:
    """A chip, or the CPU, as the lowering sees it.

    `operations` are the bit operations its matrix unit does natively, best first; `instruction` names the record in
    `bitmlir.lowering.instructions`; `copy` is how tiles reach shared memory; `shared_bytes` is the most that one block
    can have (CUDA C++ Programming Guide, table of technical specifications). `processing_clusters` are the
    multiprocessors of each graphics processing cluster, which a cluster of blocks cannot leave: of one card, since
    makers switch off others on each.
    """

    name: str
    summary: str
    operations: tuple[str, ...]
    instruction: str | None = None
    copy: Copy | None = None
    capability: tuple[int, int] | None = None
    ptx_features: str = ""
    shared_bytes: int = 0
    multiprocessors: int = 1
    processing_clusters: tuple[int, ...] = ()

    @property
    def is_gpu(self) -> bool:
        """Whether kernels for this target are PTX."""
        return self.capability is not None

    @property
    def overlaps_launches(self) -> bool:
        """Whether a kernel can begin while the one before it ends (PTX ISA, griddepcontrol)."""
        return self.capability is not None and self.capability >= (9, 0)

    def clusters_at_once(self, blocks: int) -> int:
        """How many clusters of so many blocks run at once, one block on a multiprocessor.

        Example:
            >>> get_target("sm_90a").clusters_at_once(2)
            66
        """
        return sum(size // blocks for size in self.processing_clusters or (self.multiprocessors,))

    @property
    def forward_compatible(self) -> bool:
        """Whether the driver can recompile the PTX for later chips; not so for the chip-specific `a` targets."""
        return self.is_gpu and not self.name.endswith("a")


_BOTH = ("xor", "and")
_MMA = "mma.m16n8k256"
_INT8 = "mma.m16n8k32.u8"  # their 1-bit instruction is a routine of the assembler, and slow

# What each needs of PTX, and no more, so that older drivers take it: st.async came with 8.1.
TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("cpu", "any x86-64 CPU: vector popcounts, threads over rows", _BOTH),
        Target("sm_75", "Turing: m8n8k128, XOR only", ("xor",), "mma.m8n8k128", "load", (7, 5), "+ptx80", 64 << 10, 68),
        Target("sm_80", "A100: m16n8k256", _BOTH, _MMA, "cp.async", (8, 0), "+ptx80", 163 << 10, 108),
        Target("sm_86", "Ampere (RTX 30, A10): m16n8k256", _BOTH, _MMA, "cp.async", (8, 6), "+ptx80", 99 << 10, 82),
        Target("sm_89", "Ada (RTX 40, L4, L40): m16n8k256", _BOTH, _MMA, "cp.async", (8, 9), "+ptx80", 99 << 10, 128),
        Target("sm_90", "Hopper by mma.sync: AND only", ("and",), _MMA, "cp.async", (9, 0), "+ptx80", 227 << 10, 132),
        Target(
            "sm_90a",
            "Hopper by wgmma and TMA",
            ("and",),
            "wgmma.k256",
            "tma",
            (9, 0),
            "+ptx81",
            227 << 10,
            132,
            (18, 18, 18, 18, 16, 16, 14, 14),
        ),
        Target("sm_100a", "B200: bits as int8", ("and",), _INT8, "cp.async", (10, 0), "+ptx86", 227 << 10, 148),
        Target("sm_120", "RTX 50: bits as int8", ("and",), _INT8, "cp.async", (12, 0), "+ptx87", 99 << 10, 170),
    )
}


def get_target(name: str) -> Target:
    """The target of that name.

    Raises:
        TargetError: there is none.

    Example:
        >>> get_target("sm_90a").instruction
        'wgmma.k256'
    """
    if name in TARGETS:
        return TARGETS[name]
    close = difflib.get_close_matches(str(name), TARGETS, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    raise TargetError(f"unknown target {name!r}: expected one of {', '.join(TARGETS)}, or 'auto'{hint}")


def target_for_capability(major: int, minor: int) -> Target:
    """The best target for a GPU of that compute capability.

    Raises:
        TargetError: the GPU is older than every target.
    """
    exact = [t for t in TARGETS.values() if t.capability == (major, minor)]
    if exact:
        return exact[-1]
    older = [t for t in TARGETS.values() if t.forward_compatible and t.capability and t.capability < (major, minor)]
    if not older:
        raise TargetError(f"a GPU of compute capability {major}.{minor} is older than every target; use target='cpu'")
    return max(older, key=lambda t: t.capability or (0, 0))
