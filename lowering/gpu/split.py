"""Splitting K: the blocks of a cluster multiply parts of K for the same output tile; each finishes some of its rows.

    every warp                                  the warp of the block that owns the rows
    accumulators to the owner's shared memory   wait until all are there, add them, run the body

Stores are asynchronous: the owner's barrier counts the bytes as they arrive, and no fence has to wait for them.
Source: PTX ISA, distributed shared memory (mapa), st.async.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith, nvvm, scf, vector

from bitmlir.lowering.emit import Scalar, const, i32
from bitmlir.lowering.gpu.cluster import of_block
from bitmlir.lowering.gpu.memory import SHARED, SHARED_CLUSTER, load, offset, store_async
from bitmlir.lowering.gpu.ring import BARRIER_BYTES, wait_for_phase
from bitmlir.lowering.instructions import LANES
from bitmlir.lowering.vectors import vector_of

__all__ = ["PartialSums"]

_LANE_WORDS = 4  # stored at once
_ROW_BYTES = LANES * _LANE_WORDS * 4


@dataclass(frozen=True)
class PartialSums:
    """How warps of `blocks` blocks add up their accumulators, so many registers a thread.

    Of the `warps` of a block that multiply, each block owns the rows of as many: warp w's belong to block
    w // (warps / blocks). What others send lies at `start` of the owner's shared memory, and a barrier behind it.
    """

    shared: ir.Value
    start: int
    blocks: int
    warps: int
    registers: int

    @staticmethod
    def bytes(blocks: int, warps: int, registers: int) -> int:
        """Bytes of shared memory that a block needs."""
        senders = (blocks - 1) * (warps // blocks)
        return senders * registers * LANES * 4 + BARRIER_BYTES

    @property
    def _owned(self) -> int:
        """Warps whose rows a block owns."""
        return self.warps // self.blocks

    @property
    def _senders(self) -> int:
        return (self.blocks - 1) * self._owned

    @property
    def _barrier(self) -> ir.Value:
        return offset(self.shared, self.start + self._senders * self._sent_bytes, SHARED)

    @property
    def _sent_bytes(self) -> int:
        """Bytes that a warp sends."""
        return self.registers * LANES * 4

    def initialise(self) -> None:
        """Emit what one thread does before anybody sends."""
        nvvm.mbarrier_init(self._barrier, const(1).value)
        nvvm.mbarrier_arrive_expect_tx(None, self._barrier, const(self._senders * self._sent_bytes).value)

    def owns(self, rank: Scalar, warp: Scalar) -> Scalar:
        """Whether block `rank` finishes the rows of a warp."""
        return (warp // self._owned).equals(rank)

    def add_up(self, accumulators: list[ir.Value], rank: Scalar, warp: Scalar, lane: Scalar) -> list[ir.Value]:
        """The sums over all blocks in warps that own their rows; in others, nothing of use.

        The cluster has met, so that all have their barriers; nobody ends before it has what the others send.
        """
        owner, first_word = warp // self._owned, lane * (_LANE_WORDS * 4)
        groups = [accumulators[i : i + _LANE_WORDS] for i in range(0, self.registers, _LANE_WORDS)]
        words = vector_of(i32(), _LANE_WORDS)

        def place(sender: Scalar | int) -> Scalar:
            """Where lies what the lane has from a sender, the blocks that do not own the rows counted from 0."""
            return (warp % self._owned + sender * self._owned) * self._sent_bytes + first_word + self.start

        def send() -> None:
            sender = (rank + (self.blocks - 1) - owner) % self.blocks
            inbox, barrier = of_block(offset(self.shared, place(sender), SHARED), owner), of_block(self._barrier, owner)
            for number, group in enumerate(groups):
                store_async(group, offset(inbox, number * _ROW_BYTES, SHARED_CLUSTER), barrier)

        def receive() -> list[ir.Value]:
            # What st.async completes is seen by whoever waits, whatever the scope of the wait.
            wait_for_phase(self._barrier, const(0))
            sums = [vector.from_elements(words, group) for group in groups]
            for sender in range(self.blocks - 1):
                inbox = offset(self.shared, place(const(sender)), SHARED)
                for number in range(len(groups)):
                    sent = load(words, offset(inbox, number * _ROW_BYTES, SHARED), _LANE_WORDS * 4)
                    sums[number] = arith.addi(sums[number], sent)
            return [vector.extract(part, [], [i]) for part in sums for i in range(_LANE_WORDS)]

        branch = scf.IfOp(self.owns(rank, warp).value, [i32()] * self.registers, has_else=True)
        then, otherwise = (region.blocks[0] for region in branch.operation.regions)
        with ir.InsertionPoint(then):
            scf.yield_(receive())
        with ir.InsertionPoint(otherwise):
            send()
            scf.yield_(accumulators)
        return list(branch.results)
