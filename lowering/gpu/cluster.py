"""Clusters of blocks on Hopper: meeting, reaching each other's barriers. Source: PTX ISA, barrier.cluster and mapa."""

from __future__ import annotations

from mlir import ir
from mlir.dialects import llvm, nvvm

from bitmlir.lowering.emit import Scalar
from bitmlir.lowering.gpu.memory import pointer

__all__ = ["arrive_at", "meet_cluster", "seen_by_cluster"]

_SHARED_CLUSTER = 7  # the address space of shared memory as the whole cluster sees it


def meet_cluster() -> None:
    """Wait for all threads of the cluster."""
    nvvm.cluster_arrive()
    nvvm.cluster_wait()


def seen_by_cluster(address: ir.Value) -> ir.Value:
    """An address in the block's own shared memory, as TMA wants its destination."""
    return llvm.addrspacecast(pointer(_SHARED_CLUSTER), address)


def arrive_at(barrier: ir.Value, block: Scalar) -> None:
    """Arrive at the same barrier of another block of the cluster."""
    nvvm.mbarrier_arrive(None, nvvm.mapa(pointer(_SHARED_CLUSTER), barrier, block.value))
