"""Clusters of blocks on Hopper: meeting, reaching each other's barriers. Source: PTX ISA, barrier.cluster and mapa."""

from __future__ import annotations

from mlir import ir
from mlir.dialects import llvm, nvvm

from bitmlir.lowering.emit import Scalar
from bitmlir.lowering.gpu.memory import SHARED_CLUSTER, pointer

__all__ = ["arrive_at", "meet_cluster", "of_block", "seen_by_cluster"]


def meet_cluster(releases: bool = True) -> None:
    """Wait for all threads of the cluster. To release what they wrote takes a fence of the whole GPU; for barriers that
    they have made, `fence.mbarrier_init` is enough."""
    (nvvm.cluster_arrive if releases else nvvm.cluster_arrive_relaxed)()
    nvvm.cluster_wait()


def seen_by_cluster(address: ir.Value) -> ir.Value:
    """An address in the block's own shared memory, as TMA wants its destination."""
    return llvm.addrspacecast(pointer(SHARED_CLUSTER), address)


def of_block(address: ir.Value, block: Scalar) -> ir.Value:
    """The same address in the shared memory of a block of the cluster."""
    return nvvm.mapa(pointer(SHARED_CLUSTER), address, block.value)


def arrive_at(barrier: ir.Value, block: Scalar) -> None:
    """Arrive at the same barrier of a block of the cluster."""
    nvvm.mbarrier_arrive(None, of_block(barrier, block))
