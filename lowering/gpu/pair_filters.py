"""The kernel for `bit.plane_pair_filters`: a word of each plane a thread; the first of a tap adds up its sum, too."""

from __future__ import annotations

from mlir import ir

from bitmlir.dialects import bit
from bitmlir.dialects.layout import words_per_row
from bitmlir.dialects.pixel_pairs import PAIR_CHANNELS, PAIR_WORDS
from bitmlir.lowering.emit import Scalar, const, i32, if_then, select
from bitmlir.lowering.gpu.memory import GLOBAL, Kernel, load, offset, store
from bitmlir.lowering.gpu.tasks import WORD_BYTES, build_task_kernel, require_countable
from bitmlir.lowering.targets import Target

__all__ = ["build_pair_filters_kernel"]


def build_pair_filters_kernel(module: ir.Block, name: str, op: bit.PlanePairFiltersOp, target: Target) -> Kernel:
    """Emit the kernel that makes filters for pairs of pixels."""
    pairs, tap_words = op.pairs, words_per_row(PAIR_CHANNELS)
    columns, pair_columns, down = pairs.window.columns, pairs.over_pairs.columns.taps, pairs.window.rows.taps
    planes, filters, _ = ir.MemRefType(op.planes.type).shape
    rows, pair_rows = filters * down * columns.taps, pairs.beside * filters * down * pair_columns
    scale, constant = (ir.IntegerAttr(a).value for a in (op.scale, op.offset))
    require_countable(op, pair_rows * tap_words)

    def body(task: Scalar, source: ir.Value, sums: ir.Value, out: ir.Value, out_sums: ir.Value) -> None:
        row, word = task // tap_words, task % tap_words
        t, rest = row % pair_columns, row // pair_columns
        r, number = rest % down, rest // down
        place, filter_ = number // filters, number % filters

        def tap_of(half: Scalar) -> tuple[Scalar, Scalar]:
            """Whether a filter has a tap in that half of the pair, and the number of that tap among all, or 0."""
            s = t * 2 + half - place * columns.stride - pairs.lead  # before the first, a number past the last
            exists = s < columns.taps
            return exists, select(exists, (filter_ * down + r) * columns.taps + s, 0)

        def at(array: ir.Value, place: Scalar) -> ir.Value:
            return offset(array, place * WORD_BYTES, GLOBAL)

        def add_up() -> None:
            total = const(0)
            for half in range(2):
                exists, tap = tap_of(const(half))
                value = Scalar(load(i32(), at(sums, tap.to_i64()), WORD_BYTES)) * scale + constant
                total = total + select(exists, value, 0)
            store(total.value, at(out_sums, row.to_i64()), WORD_BYTES)

        def move() -> None:
            exists, tap = tap_of(word // PAIR_WORDS)
            for plane in range(planes):
                place = (tap.to_i64() + plane * rows) * tap_words + (word % PAIR_WORDS).to_i64()
                bits = select(exists, Scalar(load(i32(), at(source, place), WORD_BYTES)), 0)
                store(bits.value, at(out, task.to_i64() + plane * pair_rows * tap_words), WORD_BYTES)
            if_then(word.equals(0), add_up)

        if_then(task < pair_rows * tap_words, move)

    arguments = (op.planes, op.sums, op.out, op.out_sums)
    return build_task_kernel(module, name, pair_rows * tap_words, arguments, target, body)
