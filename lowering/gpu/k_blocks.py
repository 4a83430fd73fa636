"""How K lies in the stages of the kernels that TMA feeds: in blocks, of which a stage has one of each row."""

from __future__ import annotations

from dataclasses import dataclass

from bitmlir.dialects.layout import BITS_PER_WORD, ROW_ALIGNMENT, SWIZZLES, ceil_div
from bitmlir.lowering.gpu.product import BLOCK_BYTES, ProductProblem
from bitmlir.lowering.instructions import wgmma

__all__ = ["KBlocks"]

_UNIT = wgmma(8).k // 8  # bytes of K that an instruction multiplies, whatever its columns
_WORD_BYTES = BITS_PER_WORD // 8


@dataclass(frozen=True)
class KBlocks:
    """The blocks of K, in bytes of a row.

    A row is one part; or, of what a window sees with padded taps, each tap is one. A part begins with a block of its
    own, and what its last block has beyond its end is zeros, with which TMA fills what lies outside a tensor.

    parts, part_bytes: how many parts, and how long they are. step: from one block of a part to the next; only so much
    of a block is multiplied. width: of a stage's row, which is swizzled over; it may reach into the next block. piece:
    what one copy brings of a row of lhs: all, or of what a window sees the width, of those that can be swizzled over,
    that divides a pixel (16 bytes need no swizzle).
    """

    parts: int
    part_bytes: int
    step: int
    width: int
    piece: int

    @staticmethod
    def of(problem: ProductProblem, padded: bool = False) -> KBlocks:
        """The blocks of a problem; padded: its taps are (see `WgmmaTile`)."""
        window, row = problem.window, problem.row_bytes
        pixel = row if window is None else row // window.taps
        if padded and window is not None:
            # A pixel's blocks are equally long, so that few instructions multiply zeros and all steps have as many.
            step = ceil_div(ceil_div(pixel, _UNIT), ceil_div(pixel, BLOCK_BYTES)) * _UNIT
            return KBlocks(window.taps, pixel, step, _swizzle(step), _swizzle(step))
        width = _swizzle(row)
        pieces = (w for w in (*reversed(SWIZZLES), ROW_ALIGNMENT // 8) if w <= width and pixel % w == 0)
        return KBlocks(1, row, BLOCK_BYTES, width, width if window is None else next(pieces))

    @property
    def of_part(self) -> int:
        """Blocks of a part."""
        return ceil_div(self.part_bytes, self.step)

    @property
    def count(self) -> int:
        """Blocks of a row."""
        return self.parts * self.of_part

    @property
    def step_words(self) -> int:
        """Words from one block of a part to the next."""
        return self.step // _WORD_BYTES

    @property
    def piece_step(self) -> int:
        """Bytes from one piece of a pixel to the next."""
        return min(self.piece, self.step)

    @property
    def pieces(self) -> int:
        """Pieces of a row: copies that bring it, of what a window sees."""
        return self.parts * ceil_div(self.part_bytes, self.piece_step)

    def depths(self, block: int = 0) -> range:
        """Where in a block the operands of its instructions begin; no block has more than the first."""
        return range(0, min(self.step, self.part_bytes - block % self.of_part * self.step), _UNIT)


def _swizzle(row: int) -> int:
    """The width of a stage's row: less than `BLOCK_BYTES` if a row is so short. Filling costs as copying."""
    return next((width for width in SWIZZLES if row <= width), BLOCK_BYTES)
