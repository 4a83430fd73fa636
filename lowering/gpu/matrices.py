"""Which product an output tile belongs to: the only one, one of a batch, or that of a group of rows."""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith

from bitmlir.dialects.layout import ceil_div
from bitmlir.lowering.emit import Carried, Scalar, const, for_loop, i32, select, while_loop
from bitmlir.lowering.gpu.memory import GLOBAL, block_count, load, offset
from bitmlir.lowering.gpu.product import ProductProblem

__all__ = ["Dealing", "Place", "Placement"]

_OFFSET_BYTES = 4


@dataclass(frozen=True)
class Place:
    """The place of an output tile: its row and column of tiles in a product, and which product that is.

    number: that of the matrix in a batch, or of the group; None if there is one product alone. first_row, end_row: of a
    group, the rows that it has.
    """

    row: Scalar
    column: Scalar
    number: Scalar | None = None
    first_row: Scalar | None = None
    end_row: Scalar | None = None

    def row_at(self, distance: Scalar) -> Scalar:
        """A row of the product as one of the matrices."""
        return distance if self.first_row is None else self.first_row + distance

    def plane_in(self, planes: ir.Value, plane: Scalar) -> Scalar:
        """The number of this product's plane among those of an operand, [plane] or [plane][matrix]."""
        type_ = ir.MemRefType(planes.type)
        return plane if self.number is None or type_.rank == 3 else plane * type_.shape[1] + self.number


def _most_tiles(problem: ProductProblem, down: int, across: int, tile_rows: int) -> int:
    """The most tiles that there can be, if the rows of a product make `down` × `across` of them."""
    if problem.groups is None:
        return problem.batch * down * across
    return (problem.m // tile_rows + min(problem.groups, problem.m)) * across  # each group may begin a tile


@dataclass(frozen=True)
class Placement:
    """How output tiles are dealt out: clusters of blocks take every so many of `tiles` places in all (of groups of
    rows, the most that there can be). A product has `down` × `across` of them. `clusters` work at once on the card that
    the target is known by; if they have one place each, there are as many on every card."""

    down: int
    across: int
    band: int
    clusters: int
    tiles: int

    @staticmethod
    def over(
        problem: ProductProblem,
        extent: tuple[int, int],
        size: tuple[int, int],
        band: int,
        at_once: int,
    ) -> Placement:
        """The placement of tiles of a size over an extent, rows by columns; `at_once` clusters find room at a time."""
        down, across = ceil_div(extent[0], size[0]), ceil_div(extent[1], size[1])
        tiles = _most_tiles(problem, down, across, size[0])
        return Placement(down, across, min(band, down), min(tiles, at_once), tiles)

    @property
    def is_persistent(self) -> bool:
        """Whether there are more places than clusters at once, so that a card decides how many there are."""
        return self.tiles > self.clusters

    def stride(self, blocks: int) -> Scalar:
        """The distance from one place of a cluster of so many blocks to its next."""
        return block_count() // blocks if self.is_persistent else const(self.clusters)

    def locate(self, number: Scalar) -> tuple[Scalar, Scalar]:
        """Row and column of a place: along the columns, over a band of rows at a time."""
        if self.band == 1:
            return number // self.across, number % self.across
        size = self.band * self.across
        first, within = number // size * self.band, number % size
        if self.down % self.band == 0:
            return first + within % self.band, within // self.band
        rows = (const(self.down) - first).minimum(self.band)
        return first + within % rows, within // rows


@dataclass(frozen=True)
class Dealing:
    """Tiles of all products, by number: those of one product lie together, in the order of its tiles.

    Groups are found from their offsets, which are known at run time only; `offsets` points to them. Their tiles are
    numbered down the rows, then across.
    """

    problem: ProductProblem
    order: Placement
    tile_rows: int
    offsets: ir.Value | None = None

    def count(self) -> Scalar:
        """How many there are."""
        if self.problem.groups is None:
            return const(self.problem.batch * self.order.down * self.order.across)

        def add(group: Scalar, carried: Carried) -> Carried:
            start, count = map(Scalar, carried)
            end = self._end(group, start)
            return [end.value, (count + self._down(start, end) * self.order.across).value]

        zero = const(0)
        return Scalar(for_loop(zero, const(self.problem.groups), const(1), [zero.value, zero.value], add)[1])

    def locate(self, number: Scalar) -> Place:
        """The place of a tile."""
        if self.problem.groups is not None:
            return self._locate_in_group(number, self.problem.groups)
        if not self.problem.is_batch:
            return Place(*self.order.locate(number))
        tiles = self.order.down * self.order.across
        return Place(*self.order.locate(number % tiles), number // tiles)

    def _locate_in_group(self, number: Scalar, groups: int) -> Place:
        def lies_behind(carried: Carried) -> Scalar:
            group, start, end, left = map(Scalar, carried)
            return (left >= self._down(start, end) * self.order.across) & (group < groups - 1)

        def advance(carried: Carried) -> Carried:
            group, start, end, left = map(Scalar, carried)
            following = group + 1
            left = left - self._down(start, end) * self.order.across
            return [following.value, end.value, self._end(following, end).value, left.value]

        zero = const(0)
        first = [zero.value, zero.value, self._end(zero, zero).value, number.value]
        group, start, end, left = map(Scalar, while_loop(first, lies_behind, advance))
        down = Scalar(arith.maxui(self._down(start, end).value, const(1).value))
        return Place(left % down, left // down, group, start, end)

    def _down(self, start: Scalar, end: Scalar) -> Scalar:
        """Rows of tiles of a group."""
        return (end - start + (self.tile_rows - 1)) // self.tile_rows

    def _end(self, group: Scalar, start: Scalar) -> Scalar:
        """Where a group ends that starts there: at the next one's offset, not before it; the last, with all rows."""
        assert self.offsets is not None
        assert self.problem.groups is not None
        address = offset(self.offsets, (group + 1).to_i64() * _OFFSET_BYTES, GLOBAL)
        positive = Scalar(arith.maxsi(load(i32(), address, _OFFSET_BYTES), const(0).value))
        end = Scalar(arith.maxui(positive.minimum(self.problem.m).value, start.value))
        return select(group.equals(self.problem.groups - 1), self.problem.m, end)
