"""The kernel for `bit.plane_spread_filters`: a word of each plane a thread; the first of a tap stores its sum, too."""

from __future__ import annotations

from mlir import ir

from bitmlir.dialects import bit
from bitmlir.lowering.emit import Scalar, i32, if_then
from bitmlir.lowering.gpu.memory import GLOBAL, Kernel, load, offset, store
from bitmlir.lowering.gpu.tasks import WORD_BYTES, build_task_kernel, require_countable
from bitmlir.lowering.spread_filters import SpreadProblem, spread_word
from bitmlir.lowering.targets import Target

__all__ = ["build_spread_filters_kernel"]


def build_spread_filters_kernel(module: ir.Block, name: str, op: bit.PlaneSpreadFiltersOp, target: Target) -> Kernel:
    """Emit the kernel that makes filters of all channels."""
    problem = SpreadProblem.of(op)
    rows, own_words, words = problem.filters * problem.taps, problem.own_words, problem.tap_words
    require_countable(op, rows * words)

    def body(task: Scalar, planes: ir.Value, sums: ir.Value, out: ir.Value, out_sums: ir.Value) -> None:
        row, word = task // words, task % words

        def at(array: ir.Value, place: Scalar) -> ir.Value:
            return offset(array, place * WORD_BYTES, GLOBAL)

        def read(plane: int, place: Scalar) -> Scalar:
            place = (row.to_i64() + plane * rows) * own_words + place.to_i64()
            return Scalar(load(i32(), at(planes, place), WORD_BYTES))

        def store_sum() -> None:
            total = Scalar(load(i32(), at(sums, row.to_i64()), WORD_BYTES))
            store(problem.spread_sum(total).value, at(out_sums, row.to_i64()), WORD_BYTES)

        def spread() -> None:
            for plane, bits in enumerate(spread_word(problem, row // problem.taps, word, read)):
                store(bits.value, at(out, task.to_i64() + plane * rows * words), WORD_BYTES)
            if_then(word.equals(0), store_sum)

        if_then(task < rows * words, spread)

    return build_task_kernel(module, name, rows * words, (op.planes, op.sums, op.out, op.out_sums), target, body)
