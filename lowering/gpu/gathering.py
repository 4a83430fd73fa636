"""What a window sees, chunk by chunk: how lanes find the pixels of a row of patches that nobody has written out."""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir

from bitmlir.lowering.emit import Scalar
from bitmlir.lowering.gpu.memory import GLOBAL, offset
from bitmlir.lowering.gpu.product import ProductProblem
from bitmlir.lowering.windows import place_in_image

__all__ = ["SeenRow", "seen_chunk", "seen_row"]


@dataclass(frozen=True)
class SeenRow:
    """Where a window lies at a row of a product: the row and column of its first tap, numbers past the last ones before
    the image; the number of the pixel there; and whether the product has the row, if it may not."""

    y: Scalar
    x: Scalar
    pixel: Scalar
    exists: Scalar | None


def seen_row(problem: ProductProblem, place: Scalar, is_covered: bool) -> SeenRow:
    """Where the window of a product lies at a place; is_covered: whether all places that are asked for are there."""
    window = problem.window
    assert window is not None
    image, y, x = place_in_image(window, place if is_covered else place.minimum(problem.m - 1))
    y, x = y * window.rows.stride - window.rows.before, x * window.columns.stride - window.columns.before
    pixel = image * window.pixels + y * window.columns.size + x
    return SeenRow(y, x, pixel, None if is_covered else place < problem.m)


def seen_chunk(
    problem: ProductProblem, planes: ir.Value, row: SeenRow, plane: Scalar, byte: Scalar
) -> tuple[ir.Value, Scalar]:
    """Where a chunk of a row of patches lies, which begins at that byte, and whether it lies inside the image; else its
    address is none. A chunk is no longer than a pixel."""
    window = problem.window
    assert window is not None
    rows, columns, pixel_bytes = window.rows, window.columns, problem.row_bytes // window.taps
    tap, within = byte // pixel_bytes, byte % pixel_bytes
    down, right = tap // columns.taps * rows.dilation, tap % columns.taps * columns.dilation
    inside = (row.y + down < rows.size) & (row.x + right < columns.size) & (byte < problem.row_bytes)
    inside = inside if row.exists is None else inside & row.exists
    pixels = ir.MemRefType(problem.op.lhs.type).shape[1]
    pixel = plane * pixels + row.pixel + down * columns.size + right
    return offset(planes, pixel.to_i64() * pixel_bytes + within.to_i64(), GLOBAL), inside
