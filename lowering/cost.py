"""The cost model: how long a product takes at best, how long it may take with a tile, and the tile that may be best.

A block's time goes into its main loop, which the slowest of four resources paces (the matrix unit, shared memory, the
link to L2, the latency that its stages hide), and into storing tiles, which the next tile's main loop hides if two warp
groups alternate. All blocks together are held up by what they share: memory, the L2 cache's writes, and the power that
the card may draw. The constants are fitted to measurements on an H200.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass
from functools import cached_property
from typing import Any

from mlir import ir

from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.layout import BITS_PER_WORD, TILE_BITS, ceil_div
from bitmlir.lowering.elements import Chain, arrays_read
from bitmlir.lowering.gpu.k_blocks import KBlocks
from bitmlir.lowering.gpu.matrices import Placement
from bitmlir.lowering.gpu.memory import element_bytes
from bitmlir.lowering.gpu.mma_tile import MmaTile, mma_placement
from bitmlir.lowering.gpu.product import BLOCK_BYTES, ProductProblem
from bitmlir.lowering.gpu.resident_tile import ResidentTile, resident_placement, row_chunks
from bitmlir.lowering.gpu.tiles import Tile, tiles
from bitmlir.lowering.gpu.warp_group import GROUP_THREADS
from bitmlir.lowering.gpu.wgmma_tile import GROUP_ROWS, WgmmaTile, cleared, stationary_bytes, wgmma_placement
from bitmlir.lowering.instructions import LANES, wgmma
from bitmlir.lowering.machines import MACHINES, Machine
from bitmlir.lowering.passes import fail
from bitmlir.lowering.workload import Workload

__all__ = ["CostModel", "Estimate", "choose_tile", "ranked_tiles", "traffic", "workload_of"]


@dataclass(frozen=True)
class Estimate:
    """What a product costs with a tile; times in seconds.

    Attributes:
        operations: of the matrix unit, on bits.
        read_bytes, written_bytes: from and to device memory, each once. l2_bytes: what blocks read, from L2.
        floor: no kernel can be faster than any of these: "matrix unit", "memory", "launch".
        seconds: how long it is expected to take.
        parts: what one block's work adds up to: "launch", "clearing" (of memory before it, where that is needed),
            "start", "main loop", "storing" (what of it is not hidden), and "held up", for what all blocks share.
        paced_by: the resource that paces the main loop. held_up_by: the shared one that does most.
        hides_stores: whether tiles are stored while others are computed.
        tiles, blocks, waves: output tiles, blocks at a time, and tiles that the busiest block computes.
    """

    operations: int
    read_bytes: int
    written_bytes: int
    l2_bytes: int
    floor: dict[str, float]
    seconds: float
    parts: dict[str, float]
    paced_by: str
    held_up_by: str
    hides_stores: bool
    tiles: int
    blocks: int
    waves: int

    @property
    def floor_seconds(self) -> float:
        """The largest of the floors."""
        return max(self.floor.values())

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


def workload_of(problem: ProductProblem) -> Workload:
    """What a product asks of a machine."""
    op = problem.op
    return Workload(
        target=problem.target.name,
        kind=_kind(problem),
        m=problem.m,
        n=problem.n,
        k=problem.k,
        lhs_planes=ir.MemRefType(op.lhs.type).shape[0],
        rhs_planes=ir.MemRefType(op.rhs.type).shape[0],
        chains=tuple(len(chain.pairs) for chain in problem.chains),
        out=_result(problem),
        reads=sum(element_bytes(ir.MemRefType(array.type).element_type) for array in problem.read_by_element),
        sparse=op.lhs_tiles is not None or op.rhs_tiles is not None,
        batch=problem.batch,
        groups=problem.groups or 0,
        window=() if problem.window is None else (*astuple(problem.window.rows), *astuple(problem.window.columns)),
    )


def _kind(problem: ProductProblem) -> str:
    if isinstance(problem.op, bit.PlaneSearchOp):
        return "search"
    return "matmul" if problem.window is None else "conv2d"


def _result(problem: ProductProblem) -> str:
    """What a product leaves, as workloads name it."""
    if isinstance(problem.op, bit.PlaneSearchOp):
        return f"best{problem.op.count}"
    return f"packed{_result_planes(problem)}" if problem.packed else str(problem.out_type.element_type)


def _result_planes(problem: ProductProblem) -> int:
    """Planes of a packed result."""
    return Encoding.parse(ir.StringAttr(problem.op.attributes["out_encoding"]).value).bits


def traffic(reads: Iterable[ir.Value | None], writes: Iterable[ir.Value | None]) -> tuple[int, int]:
    """Bytes to read and to write, of each memref once; None stands for nothing."""
    read, written = (sum(map(_bytes, {v for v in values if v is not None})) for values in (reads, writes))
    return read, written


def _bytes(value: ir.Value) -> int:
    type_ = ir.MemRefType(value.type)
    return math.prod(type_.shape) * element_bytes(type_.element_type)


# --- the model --------------------------------------------------------------------------------------

_SHARPNESS = 3  # of limits that apply at the same time: infinite if the greater hid the lesser wholly
_L2_SHARE = 0.7  # of the cache, that operands can rely on
_DRAWN_SHARE = 1e-3  # of the time that bringing in what is new to L2 takes: it tells bands apart
_CLUSTER_COST = 0.07  # of the time: blocks that wait for each other

_ZEROING_SECONDS = 0.6e-6  # of a kernel that zeroes memory, where launches overlap: less than a memset takes

_LINK_SECONDS = 0.18e-6  # from the last product of a link to the first of the next
_SPLIT_SECONDS, _SENT_BYTES_PER_SECOND = 1.6e-6, 150e9  # that the blocks which share a tile take to add up
_TILE_SECONDS = 0.25e-6  # from the last product of a tile to the first one of the next, beside storing
_GROUP_SECONDS = 0.07e-6  # for each group of rows that a block passes over on its way to a tile's

# Clocks that a thread spends on an element of the result: on one of numbers, and on each plane of a code, if the tile
# has whole pieces of 16 bytes of each row or if it has not.
_PLAIN_CLOCKS, _CODE_CLOCKS, _ODD_CODE_CLOCKS = 25.0, 12.0, 18.0
_CODE_PIECE = 128  # bits
_SUMS_SECONDS = 0.5e-6  # that a warp group takes to add up the codes of a tile by row
_READ_CLOCKS = 47.0  # on each byte that the body reads for it alone
_PLANE_CLOCKS = 6.0  # on each further accumulator, of planes side by side
_SEARCH_CLOCKS, _LIST_CLOCKS = 20.0, 7.6  # on a score, nearly all of which are passed over, and for each further place
_SHARED_LINE_COST = (0.08, 0.45)  # of the time: tiles that share cache lines of the result, if they alternate, too

# Clocks of TMA for a row that all blocks read at once and that does not begin at a line, by the bytes that divide its
# length; and for a row of a piece of what a window sees. What it costs that parts of rows lie in two lines each.
_HOT_CLOCKS, _PIECE_CLOCKS = {16: 30.0, 32: 15.0, 64: 4.0}, 2.0
_TWO_LINES = 1.7

# The share of its rate that mma.sync reaches at most, and with each warp that multiplies: others fetch fragments.
_BUSY, _BUSY_WARP = 0.85, 0.1
_SHARED_SHARE = 0.87  # of shared memory's rate, that ldmatrix and the copies reach together

# Clocks that one of eight warps of mma.sync needs to store an element and each of its bytes: more warps share the way.
_MMA_CLOCKS, _MMA_BYTE_CLOCKS, _STORING_WARPS = 8.0, 5.0, 8

_RESIDENT_WARPS = 8  # that find room on a multiprocessor with all the registers that a thread can have
_RESIDENT_START = 0.35e-6  # seconds from such a kernel's start until its first products, without barriers
_LINE_CLOCKS, _LONG_LINE_CLOCKS = 3.0, 5.0  # to load what a warp asks of a cache line, of rows of one load and of more
_LINE_BYTES = 128
_SLICES, _REQUESTS_A_CLOCK = 96, 52.0  # of the L2 cache, and of all slices together


@dataclass(frozen=True)
class _Schedule:
    """How a kernel goes through its output tiles.

    main, store: seconds of a tile's main loop and of storing it. drawn: bytes that waves of tiles bring in anew, if
    each finds nothing of the one before. start: seconds until the first products, if not the machine's.
    """

    main: float
    paced_by: str
    store: float
    alternate: bool
    tiles: int
    blocks: int
    waves: int
    l2_bytes: int
    drawn: float = 0.0
    slowdown: float = 1.0
    start: float | None = None

    @property
    def visible_store(self) -> float:
        """Seconds of storing that no main loop hides."""
        if not self.alternate:
            return self.waves * self.store
        # Two tiles take their main loops, or one tile's whole way; the last one's storing is always seen.
        more = max(0.0, self.store - self.main)
        return (self.waves - 1) // 2 * more + self.store


@dataclass(frozen=True)
class CostModel:
    """The model for one product on one machine."""

    problem: ProductProblem

    @cached_property
    def machine(self) -> Machine:
        """The machine that it is judged on."""
        return MACHINES[self.problem.target.name]

    @cached_property
    def work(self) -> Workload:
        """What the product asks for."""
        return workload_of(self.problem)

    @cached_property
    def traffic(self) -> tuple[int, int]:
        """Bytes that must be read and written, each once."""
        op = self.problem.op
        return traffic(
            (op.lhs, op.rhs, op.lhs_tiles, op.rhs_tiles, *arrays_read(op.body)), (op.out, op.out_sums, op.kept)
        )

    def store_clocks(self, columns: int) -> float:
        """Clocks that a thread spends on an element of the result, in a tile of so many columns."""
        if isinstance(self.problem.op, bit.PlaneSearchOp):
            return _SEARCH_CLOCKS + _LIST_CLOCKS * (self.problem.op.count - 1)
        plain = 0.0 if self.problem.numbers is None else _PLAIN_CLOCKS + self._read_clocks
        if not self.problem.packed:
            return plain
        return plain + (_ODD_CODE_CLOCKS if columns % _CODE_PIECE else _CODE_CLOCKS) * _result_planes(self.problem)

    @property
    def _read_clocks(self) -> float:
        """Clocks that a thread spends on what the body reads for an element of the result alone."""
        return _READ_CLOCKS * self.work.reads

    @cached_property
    def floor(self) -> dict[str, float]:
        """Seconds that no kernel can beat."""
        return {
            "matrix unit": self.work.operations / self.machine.operations_per_second,
            "memory": sum(self.traffic) / self.machine.memory_bytes_per_second,
            "launch": self.machine.launch_seconds,
        }

    def estimate(self, tile: Tile) -> Estimate:
        """What the product costs with a tile, which must be legal for it."""
        schedule = self._schedule(tile)
        machine, (read, written) = self.machine, self.traffic
        main, storing = schedule.waves * schedule.main, schedule.visible_store
        start = machine.start_seconds if schedule.start is None else schedule.start
        own = start + main + storing
        cached = read <= _L2_SHARE * machine.l2_bytes
        limits = {
            "memory": (read if cached else max(read, schedule.drawn)) / machine.memory_bytes_per_second,
            "writes": written / machine.write_bytes_per_second,
        }
        if self.problem.window is not None and isinstance(tile, WgmmaTile):
            limits["gathering by all"] = self._gathered(tile) / (self._slices_clocks * machine.clock_hz)
        if machine.watts is not None:
            amounts = (self.work.operations, schedule.l2_bytes, written)
            limits["power"] = sum(a * b for a, b in zip(amounts, machine.joules, strict=True)) / machine.watts
        together = math.fsum(limit**_SHARPNESS for limit in (own, *limits.values())) ** (1 / _SHARPNESS)
        together += _DRAWN_SHARE * schedule.drawn / machine.memory_bytes_per_second
        together *= schedule.slowdown
        clearing = self._clearing(tile)
        before = {"launch": machine.launch_seconds} | ({"clearing": clearing} if clearing else {})
        parts = before | {"start": start, "main loop": main, "storing": storing}
        return Estimate(
            operations=self.work.operations,
            read_bytes=read,
            written_bytes=written,
            l2_bytes=schedule.l2_bytes,
            floor=self.floor,
            seconds=sum(before.values()) + together,
            parts=parts | {"held up": together - own},
            paced_by=schedule.paced_by,
            held_up_by=max(limits, key=lambda name: limits[name]),
            hides_stores=schedule.alternate,
            tiles=schedule.tiles,
            blocks=schedule.blocks,
            waves=schedule.waves,
        )

    def _clearing(self, tile: Tile) -> float:
        """Seconds that clearing memory before the launch takes: by a kernel where launches overlap, or a memset."""
        if not (cleared(self.problem, tile) if isinstance(tile, WgmmaTile) else self.problem.zeroed):
            return 0.0
        return _ZEROING_SECONDS if self.problem.target.overlaps_launches else self.machine.memset_seconds

    @property
    def _finding(self) -> float:
        """Seconds that a block takes to find a tile: it passes over half of the groups of rows, on average."""
        return _GROUP_SECONDS * self.work.groups / 2

    @staticmethod
    def _steps(chains: list[Chain], k_blocks: int, split: int = 1) -> int:
        """Stages of the ring for one output tile, of K or of the largest of so many parts."""
        return sum(len(chain.pairs) for chain in chains) * ceil_div(k_blocks, split)

    @cached_property
    def _multiprocessor_operations(self) -> float:
        """Operations a second of one multiprocessor."""
        return self.machine.operations_per_second / self.problem.target.multiprocessors

    def _schedule(self, tile: Tile) -> _Schedule:
        if isinstance(tile, ResidentTile):
            return self._resident_schedule(tile)
        return self._mma_schedule(tile) if isinstance(tile, MmaTile) else self._wgmma_schedule(tile)

    def _wgmma_schedule(self, tile: WgmmaTile) -> _Schedule:
        problem, machine, clock = self.problem, self.machine, self.machine.clock_hz
        place = wgmma_placement(problem, tile)
        chains = problem.chains[:1] if tile.planes > 1 else problem.chains
        blocks = KBlocks.of(problem, tile.padded)
        steps, links = self._steps(chains, blocks.count, tile.split), sum(len(chain.links) for chain in chains)
        columns, groups, mma = tile.instruction_columns, tile.rows // GROUP_ROWS, wgmma(tile.instruction_columns)
        depth = len(blocks.depths()) * mma.k  # of a step
        read_shared = (tile.rows + groups * columns) * depth // 8  # each warp group reads all columns
        brought = 0 if tile.stationary else columns  # columns of each step
        filled = (tile.rows + brought) * blocks.width
        from_l2 = (tile.rows + brought // tile.cluster) * blocks.width
        paces = {
            "matrix unit": 2 * tile.rows * columns * depth / self._multiprocessor_operations,
            "shared memory": (read_shared + filled) / (machine.shared_bytes_per_clock * clock),
            "link to L2": from_l2 / (machine.l2_bytes_per_clock * clock),
            "latency": machine.latency_seconds / (tile.stages - 1),
        }
        if brought:
            lines = _TWO_LINES if problem.row_bytes > _LINE_BYTES and problem.row_bytes % _LINE_BYTES else 1.0
            paces["link to L2"] = paces["link to L2"] * lines + self._hot_clocks(brought, place) / clock
        if problem.window is not None:
            paces["gathering"] = blocks.pieces / blocks.count * tile.rows * _PIECE_CLOCKS / clock
        start = None
        if tile.stationary:
            for name in ("matrix unit", "shared memory"):  # K ends where it does
                paces[name] *= problem.row_bytes / (blocks.count * min(blocks.step, blocks.width))
            start = machine.start_seconds + stationary_bytes(problem, tile) / (machine.l2_bytes_per_clock * clock)
        paced_by = max(paces, key=lambda name: paces[name])
        elements = tile.rows * tile.columns // GROUP_THREADS  # of a thread; the groups that share a tile take turns
        store = elements * (self.store_clocks(tile.columns) + _PLANE_CLOCKS * (tile.planes - 1)) / clock
        if tile.split > 1:
            sent = tile.rows * columns * 4 * (tile.split - 1) // tile.split
            store = store / tile.split + _SPLIT_SECONDS + sent / _SENT_BYTES_PER_SECOND
        store += _TILE_SECONDS + (_SUMS_SECONDS if problem.packed else 0.0)
        waves = ceil_div(place.tiles, place.clusters)
        return _Schedule(
            main=self._finding + steps * paces[paced_by] + (links - 1) * _LINK_SECONDS,
            paced_by=paced_by,
            store=store,
            alternate=tile.alternate,
            tiles=place.tiles * tile.cluster,
            blocks=place.clusters * tile.blocks,
            waves=waves,
            l2_bytes=place.tiles * tile.blocks * steps * from_l2,
            drawn=waves * self._drawn_by(tile, place),
            slowdown=1 + _CLUSTER_COST * (tile.blocks > 1) + self._line_cost(tile),
            start=start,
        )

    def _hot_clocks(self, columns: int, place: Placement) -> float:
        """Clocks of a step in which blocks wait for rows of the columns' operand that others read at the same time."""
        whole = math.gcd(self.problem.row_bytes, _LINE_BYTES)
        together = place.clusters / place.across / self.problem.target.multiprocessors
        return columns * _HOT_CLOCKS.get(whole, 0.0) * together

    def _gathered(self, tile: WgmmaTile) -> float:
        """Requests to the L2 cache by which all blocks gather what a window sees: one for each line of a piece."""
        lines = _lines(KBlocks.of(self.problem, tile.padded))
        pairs = sum(len(chain.pairs) for chain in self.problem.chains)
        return wgmma_placement(self.problem, tile).tiles * tile.cluster * tile.rows * lines * pairs

    @property
    def _slices_clocks(self) -> float:
        """Such requests that L2 answers a clock. Few lines of images do not lie evenly in its slices, of which
        the one with most is waited for: of so many a slice on average, it has about three standard deviations more."""
        words = math.prod(ir.MemRefType(self.problem.op.lhs.type).shape)
        average = words * (BITS_PER_WORD // 8) / _LINE_BYTES / _SLICES
        return _REQUESTS_A_CLOCK * average / (average + 3 * math.sqrt(average))

    def _line_cost(self, tile: WgmmaTile) -> float:
        """The share of its time that a kernel loses where neighbouring tiles write to the same cache lines."""
        if self.problem.packed or tile.swapped or isinstance(self.problem.op, bit.PlaneSearchOp):
            return 0.0
        shares = tile.columns * element_bytes(self.problem.out_type.element_type) % _LINE_BYTES != 0
        return _SHARED_LINE_COST[tile.alternate] * (shares and tile.columns < self.problem.n)

    def _drawn_by(self, tile: WgmmaTile, place: Placement) -> int:
        """Bytes that a wave of tiles brings in; where it does not fit in L2, each chain brings in rhs for itself."""
        lhs, rhs = self._footprint(tile.rows * tile.cluster, tile.columns, place, place.clusters, tile.swapped)
        chains = 1 if tile.planes > 1 or lhs + rhs <= _L2_SHARE * self.machine.l2_bytes else len(self.work.chains)
        return lhs + chains * rhs

    def _footprint(
        self, rows: int, columns: int, place: Placement, together: int, swapped: bool = False
    ) -> tuple[int, int]:
        """Bytes of lhs and of rhs that so many tiles cover which follow each other in the placement."""
        across = min(ceil_div(together, place.band), place.across)
        of_rows, of_columns = min(ceil_div(together, across), place.down) * rows, across * columns
        lhs, rhs = (of_columns, of_rows) if swapped else (of_rows, of_columns)
        row_bytes = self.problem.row_bytes
        return lhs * self.work.lhs_planes * row_bytes, rhs * self.work.rhs_planes * row_bytes

    def _mma_schedule(self, tile: MmaTile) -> _Schedule:
        problem, machine, clock = self.problem, self.machine, self.machine.clock_hz
        place = mma_placement(problem, tile)
        tiles_in_all = place.tiles
        multiprocessors = problem.target.multiprocessors
        together = max(1, min(tile.blocks, tiles_in_all // multiprocessors))  # blocks on a multiprocessor
        warps = tile.consumers * together
        fragments = tile.consumers * (tile.warp_rows + tile.warp_columns) * BLOCK_BYTES
        unit = self._multiprocessor_operations * min(_BUSY, _BUSY_WARP * warps)
        paces = {
            "matrix unit": 2 * tile.rows * tile.columns * TILE_BITS * together / unit,
            "shared memory": (fragments + tile.stage_bytes)
            * together
            / (_SHARED_SHARE * machine.shared_bytes_per_clock * clock),
            "link to L2": tile.stage_bytes * together / (machine.l2_bytes_per_clock * clock),
            "latency": machine.latency_seconds / (tile.stages - 1),
        }
        paced_by = max(paces, key=lambda name: paces[name])
        elements = tile.warp_rows * tile.warp_columns // LANES  # of a thread
        of_bytes = _MMA_CLOCKS + _MMA_BYTE_CLOCKS * element_bytes(problem.out_type.element_type) + self._read_clocks
        is_plain = not problem.packed and not isinstance(problem.op, bit.PlaneSearchOp)
        store_clocks = of_bytes if is_plain else self.store_clocks(tile.columns)
        steps = self._steps(problem.chains, ceil_div(problem.k, TILE_BITS))
        blocks = min(tiles_in_all, multiprocessors * together)
        waves = ceil_div(tiles_in_all, blocks)
        return _Schedule(
            main=self._finding + steps * paces[paced_by],
            paced_by=paced_by,
            store=_TILE_SECONDS + elements * store_clocks * (warps / _STORING_WARPS) / clock,
            alternate=False,
            tiles=tiles_in_all,
            blocks=blocks,
            waves=waves,
            l2_bytes=tiles_in_all * steps * tile.stage_bytes,
            drawn=waves * sum(self._footprint(tile.rows, tile.columns, place, blocks)),
        )

    def _resident_schedule(self, tile: ResidentTile) -> _Schedule:
        problem, clock = self.problem, self.machine.clock_hz
        tiles_in_all = resident_placement(problem, tile).tiles
        multiprocessors = problem.target.multiprocessors
        room = multiprocessors * max(1, _RESIDENT_WARPS // tile.warps)
        blocks = min(tiles_in_all, room)
        together = ceil_div(blocks, multiprocessors)  # blocks on a multiprocessor
        rows = tile.rows * self.work.lhs_planes + tile.columns * self.work.rhs_planes
        chunks = row_chunks(problem)  # each a half of a line, unless rows are so short that they share one
        lines = rows * chunks if chunks > 1 else ceil_div(rows * problem.row_bytes, _LINE_BYTES)
        line_clocks = _LINE_CLOCKS if chunks == 1 else _LONG_LINE_CLOCKS
        operations = 2 * tile.rows * tile.columns * problem.row_bytes * 8 * sum(self.work.chains)
        unit = self._multiprocessor_operations * min(_BUSY, _BUSY_WARP * tile.warps * together)
        paces = {
            "matrix unit": operations * together / unit,
            "link to L2": lines * together * line_clocks / clock,
        }
        elements = tile.warp_rows * tile.warp_columns // LANES  # of a thread
        return _Schedule(
            main=sum(paces.values()),  # one after the other
            paced_by=max(paces, key=lambda name: paces[name]),
            store=elements * self.store_clocks(tile.columns) * ceil_div(tile.warps * together, _STORING_WARPS) / clock,
            alternate=False,
            tiles=tiles_in_all,
            blocks=blocks,
            waves=ceil_div(tiles_in_all, blocks),
            l2_bytes=tiles_in_all * rows * problem.row_bytes,
            start=_RESIDENT_START,
        )


def _lines(blocks: KBlocks) -> float:
    """Lines of memory in which the pieces of a row lie, on average over rows: those that divide a pixel lie in one."""
    step = blocks.piece_step
    aligned = math.gcd(blocks.part_bytes, step, _LINE_BYTES)
    lengths = (min(blocks.piece, blocks.part_bytes - start) for start in range(0, blocks.part_bytes, step))
    return blocks.parts * math.fsum(1 + (length - aligned) / _LINE_BYTES for length in lengths)


# --- choosing ---------------------------------------------------------------------------------------


def ranked_tiles(problem: ProductProblem) -> list[tuple[Tile, Estimate]]:
    """All legal tiles with their estimates, the best first."""
    model = CostModel(problem)
    return sorted(((tile, model.estimate(tile)) for tile in tiles(problem)), key=lambda pair: pair[1].seconds)


def choose_tile(problem: ProductProblem) -> Tile:
    """The tile that the model expects to be the fastest."""
    model = CostModel(problem)
    legal = list(tiles(problem, fewer_stages=False))
    if not legal:
        fail(problem.op, f"no tile of {problem.target.name} can compute this: split the product into smaller ones")
    return min(legal, key=lambda tile: model.estimate(tile).seconds)
