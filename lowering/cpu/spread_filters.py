"""The kernel for `bit.plane_spread_filters`: a tap of a filter at a time."""

from __future__ import annotations

from bitmlir.dialects import bit
from bitmlir.lowering.cpu.kernel import Arrays, Kernel, kernel_function, loop, read, task_rows, write
from bitmlir.lowering.emit import Scalar
from bitmlir.lowering.spread_filters import SpreadProblem, spread_word

__all__ = ["build_spread_filters_kernel"]


def build_spread_filters_kernel(name: str, op: bit.PlaneSpreadFiltersOp) -> Kernel:
    """Emit the kernel that makes filters of all channels."""
    problem = SpreadProblem.of(op)
    rows, own_words, words = problem.filters * problem.taps, problem.own_words, problem.tap_words

    def body(arrays: Arrays, first: Scalar, last: Scalar) -> None:
        def spread(row: Scalar) -> None:
            number, tap = row // problem.taps, row % problem.taps

            def source(plane: int, word: Scalar) -> Scalar:
                return read(arrays[op.planes], plane, number, tap * own_words + word.to_index())

            def store(word: Scalar) -> None:
                for plane, bits in enumerate(spread_word(problem, number.to_i32(), word.to_i32(), source)):
                    write(bits, arrays[op.out], plane, number, tap * words + word)

            loop(0, words, 1, store)
            write(problem.spread_sum(read(arrays[op.sums], row)), arrays[op.out_sums], row)

        loop(first, last, 1, spread)

    arguments = (op.planes, op.sums, op.out, op.out_sums)
    return kernel_function(name, arguments, rows, task_rows(words * problem.encoding.bits, rows), body)
