"""Which images lie in memory with their pixels side by side in pairs (see `PairWindow`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mlir import ir

from bitmlir.dialects import bit
from bitmlir.dialects.layout import BITS_PER_WORD, LARGEST_SIZE, words_per_row
from bitmlir.dialects.pixel_pairs import PAIR_CHANNELS, PairWindow
from bitmlir.lowering.packed_planes import IMAGE_RANK, users_of
from bitmlir.lowering.targets import Target
from bitmlir.lowering.windows import gathers

__all__ = ["computes_with_pixels", "images_in_pairs"]


def images_in_pairs(
    operations: Sequence[ir.OpView], returned: Collection[ir.Value], target: Target
) -> frozenset[ir.Value]:
    """The images of 64 channels between operations that are made in pairs, since all that takes them can take pairs.

    Arguments and results are none of them: they have the format that everybody knows.
    """
    if not target.is_gpu:
        return frozenset()
    can_pair: set[ir.Value] = set()
    for op in reversed(operations):  # takers come after makers
        made = [value for value in op.operation.results if _has_pairs(value) and value not in returned]
        can_pair.update(
            value for value in made if all(_takes(user, value, target, can_pair) for user in users_of(value))
        )
    paired: set[ir.Value] = set()
    for op in operations:
        if isinstance(op, (bit.Conv2dOp, bit.ReduceWindowOp)) or (isinstance(op, bit.PoolOp) and op.source in paired):
            paired.update(can_pair.intersection(op.operation.results))
    return frozenset(paired)


def _has_pairs(value: ir.Value) -> bool:
    """Whether a value has pixels of 64 channels, and rows of whole pairs of them."""
    encoding = bit.encoding_of(value.type)
    if encoding is None or encoding.has_row_zeros:
        return False
    shape = ir.RankedTensorType(value.type).shape
    return len(shape) == IMAGE_RANK and shape[3] == PAIR_CHANNELS and shape[2] % 2 == 0


def _takes(op: ir.OpView, value: ir.Value, target: Target, can_pair: Collection[ir.Value]) -> bool:
    """Whether an operation can take images in pairs."""
    if isinstance(op, bit.PoolOp):
        return op.result in can_pair
    return isinstance(op, bit.Conv2dOp) and op.lhs == value and _convolves_pairs(op, target, can_pair)


def _convolves_pairs(op: bit.Conv2dOp, target: Target, can_pair: Collection[ir.Value]) -> bool:
    """Whether a convolution can take images in pairs. Where it computes two places at once, those make up a packed row,
    and its epilogue sees a pair of pixels instead of one."""
    pairs = PairWindow.of(op.window) if op.group_count == 1 else None
    if pairs is None or not (pairs.over_pairs.sees_pixels or gathers(target, pairs.over_pairs)):
        return False
    channels = ir.RankedTensorType(op.result.type).shape[3]
    if channels * pairs.beside * max(pairs.over_pairs.taps, pairs.window.taps) > LARGEST_SIZE:
        return False
    fills_rows = words_per_row(channels) * BITS_PER_WORD == channels or op.result in can_pair
    is_plain = bit.encoding_of(op.result.type) is None
    _, *pixel, _ = op.epilogue.arguments
    return pairs.beside == 1 or ((is_plain or fills_rows) and not computes_with_pixels(pixel))


def computes_with_pixels(places: Sequence[ir.Value]) -> bool:
    """Whether something computes with the image, row or column of a pixel, more than to read there."""
    return any(use.owner.operation.name != "tensor.extract" for value in places for use in value.uses)
