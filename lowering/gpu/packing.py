"""Kernels for `bit.plane_pack` (a warp packs 1024 elements at a time) and `bit.plane_unpack` (a thread an element).

To pack, each lane reads 16 bytes of neighbouring elements at a time, so that a warp reads whole lines, and packs what
it read into runs of bits, as many as it read elements. Lanes then exchange runs, until each holds a whole word of every
plane and the warp writes whole lines too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith, llvm, math, vector

from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.layout import BITS_PER_WORD, ceil_div, words_per_row
from bitmlir.lowering.codes import Quantiser, code_of, safe_scale, value_of, widened
from bitmlir.lowering.emit import Scalar, as_signed, const, for_loop, funnel_shift, i32, i64, if_then, select
from bitmlir.lowering.gpu.memory import (
    GLOBAL,
    Kernel,
    block_index,
    kernel_function,
    load,
    offset,
    shuffle_xor,
    store,
    thread_index,
)
from bitmlir.lowering.instructions import LANES
from bitmlir.lowering.vectors import as_vector, splat, vector_of

__all__ = ["PackSchedule", "build_pack_kernel", "build_unpack_kernel", "choose_pack_schedule", "exact_division"]

_THREADS = 256
_WARPS = _THREADS // LANES
_WORD_BYTES = BITS_PER_WORD // 8

_READ_BYTES = 16  # the most that a lane reads at once
_GROUP = LANES * BITS_PER_WORD  # elements that make a word of each plane for every lane
_QUAD = 4  # elements whose codes share a register, a byte each
_QUADS = BITS_PER_WORD // _QUAD  # that a lane reads of a group

_BYTES_IN_FLIGHT = 4096  # what a warp should read before it waits for the first of it
_ENOUGH_WARPS = 8192  # keep a large GPU busy: where there are fewer rows, several warps share one

_Quads = list[ir.Value]  # vectors of four neighbouring elements


@dataclass(frozen=True)
class PackSchedule:
    """How the work is cut: groups of 1024 elements that a warp reads before it packs them, and warps to a row."""

    unroll: int
    segments: int


def choose_pack_schedule(rows: int, k: int, element_bytes: int) -> PackSchedule:
    """The schedule for that many rows of k elements.

    Example:
        >>> choose_pack_schedule(8192, 8192, 4), choose_pack_schedule(3, 100_000, 1)
        (PackSchedule(unroll=1, segments=1), PackSchedule(unroll=4, segments=25))
    """
    steps = 1 if k * element_bytes % _READ_BYTES else max(_BYTES_IN_FLIGHT // (_GROUP * element_bytes), 1)
    groups = ceil_div(k, _GROUP)
    unroll = min(steps, groups)
    return PackSchedule(unroll, segments=min(ceil_div(_ENOUGH_WARPS, rows), ceil_div(groups, unroll)))


def build_pack_kernel(module: ir.Block, name: str, op: bit.PlanePackOp, schedule: PackSchedule | None = None) -> Kernel:
    """planes and sums from integers or floats: a warp takes a row, or a segment of one and adds to the row's sum."""
    job = _PackJob.of(op, schedule)
    arguments = tuple(v for v in (op.source, op.planes, op.sums, op.scale, op.zeros, op.out_zeros) if v is not None)

    def body(*parameters: ir.Value) -> None:
        thread = thread_index()
        task = block_index() * _WARPS + thread // LANES

        def pack() -> None:
            arrays = dict(zip(arguments, parameters, strict=True))
            _PackWarp(job, arrays, row=task // job.segments, lane=thread % LANES).run(task % job.segments)

        if_then(task < job.tasks if job.tasks % _WARPS else None, pack)

    with ir.InsertionPoint(module):
        kernel_function(name, _THREADS, arguments, {}, body)
    zeroed = (op.sums,) if job.segments > 1 else ()
    return Kernel(name, (ceil_div(job.tasks, _WARPS), 1, 1), _THREADS, 0, arguments, zeroed=zeroed)


@dataclass(frozen=True)
class _PackJob:
    """A `bit.plane_pack` and how it is cut.

    span: groups in a segment of a row; a multiple of `unroll`.
    """

    op: bit.PlanePackOp
    encoding: Encoding
    element: ir.Type
    rows: int
    k: int
    unroll: int
    span: int

    @classmethod
    def of(cls, op: bit.PlanePackOp, schedule: PackSchedule | None) -> _PackJob:
        """The job of an operation; `schedule` is chosen if it is not given."""
        source = ir.MemRefType(op.source.type)
        rows, k = source.shape
        chosen = schedule or choose_pack_schedule(rows, k, _width(source.element_type) // 8)
        steps = ceil_div(k, _GROUP * chosen.unroll)
        span = ceil_div(steps, chosen.segments) * chosen.unroll
        return cls(op, bit.encoding_in(op.encoding), source.element_type, rows, k, chosen.unroll, span)

    @property
    def element_bytes(self) -> int:
        return _width(self.element) // 8

    @property
    def run(self) -> int:
        """Neighbouring elements that a lane packs into neighbouring bits."""
        return _READ_BYTES // self.element_bytes

    @property
    def read(self) -> int:
        """Elements that a lane reads at once: fewer than `run` where rows do not start at multiples of 16 bytes."""
        return min(self.run, self.k & -self.k)

    @property
    def words(self) -> int:
        """Words of a packed row."""
        return words_per_row(self.k)

    @property
    def groups(self) -> int:
        """Groups of a row, those past its end included that make the last step full."""
        return ceil_div(self.k, _GROUP * self.unroll) * self.unroll

    @property
    def segments(self) -> int:
        """Segments of a row."""
        return ceil_div(self.groups, self.span)

    @property
    def tasks(self) -> int:
        """Warps with work to do."""
        return self.rows * self.segments


class _PackWarp:
    """A warp at work on a row; everything that it needs for the whole row is made at once."""

    def __init__(self, job: _PackJob, arrays: dict[ir.Value, ir.Value], row: Scalar, lane: Scalar) -> None:
        self.job, self.arrays, self.row, self.lane = job, arrays, row, lane
        op = job.op
        self.source_at = offset(arrays[op.source], row.to_i64() * (job.k * job.element_bytes), GLOBAL)
        self.planes_at = offset(arrays[op.planes], row.to_i64() * (job.words * _WORD_BYTES), GLOBAL)
        self.zero = None if op.zeros is None else Scalar(load(i32(), self._of_row(op.zeros)))
        self.quantiser = self._quantiser()
        self.exchange = _RunExchange(job.run, lane)

    def run(self, segment: Scalar) -> None:
        """Pack a segment of the row, and store its sum or add it to the row's."""
        job = self.job
        first, last = const(0), const(job.groups)
        if job.segments > 1:
            first = segment * job.span
            last = (first + job.span).minimum(last)

        def pack_groups(group: Scalar, carried: list[ir.Value]) -> list[ir.Value]:
            numbers = [group + i for i in range(job.unroll)]
            read = [self._read_group(number) for number in numbers]
            total = Scalar(carried[0])
            for number, quads in zip(numbers, read, strict=True):
                total = total + self._pack_group(number, quads)
            return [total.value]

        (partial,) = for_loop(first, last, const(job.unroll), [const(0).value], pack_groups)
        total = Scalar(partial)
        for distance in (16, 8, 4, 2, 1):
            total = total + shuffle_xor(total, distance)
        if_then(self.lane.equals(0), lambda: self._store_sum(total))

    def _of_row(self, array: ir.Value) -> ir.Value:
        """Where the row's element of a vector of 32-bit numbers lies."""
        return offset(self.arrays[array], self.row.to_i64() * 4, GLOBAL)

    def _quantiser(self) -> Quantiser | None:
        """How floats are rounded; None for integers."""
        op, encoding = self.job.op, self.job.encoding
        if not isinstance(self.job.element, ir.FloatType):
            return None
        if op.scale is None:
            return Quantiser(encoding, self.zero)
        scale = safe_scale(load(ir.F32Type.get(), self._of_row(op.scale)))
        return Quantiser(encoding, self.zero, scale, exact_division(scale))

    def _store_sum(self, total: Scalar) -> None:
        op = self.job.op
        if self.job.segments == 1:
            store(total.value, self._of_row(op.sums))
        else:
            llvm.AtomicRMWOp(llvm.AtomicBinOp.add, self._of_row(op.sums), total.value, llvm.AtomicOrdering.monotonic)
        if self.zero is not None:
            store(self.zero.value, self._of_row(op.out_zeros))

    # --- reading ---

    def _read_group(self, group: Scalar) -> _Quads:
        """The lane's elements of a group: `run` neighbours of every LANES · run, in quads."""
        run = self.job.run
        first = group * _GROUP + self.lane * run
        starts = range(0, _GROUP, LANES * run)
        elements = [value for start in starts for value in self._read_run(first + start)]
        quad = vector_of(self.job.element, _QUAD)
        return [vector.from_elements(quad, elements[i : i + _QUAD]) for i in range(0, len(elements), _QUAD)]

    def _read_run(self, first: Scalar) -> list[ir.Value]:
        """Neighbours, beginning with an element of the row; past its end, any of its elements."""
        job, elements = self.job, []
        type_ = vector_of(job.element, job.read)
        for start in range(0, job.run, job.read):
            number = first + start
            if job.k < job.groups * _GROUP:
                number = number.minimum(job.k - job.read)
            address = offset(self.source_at, number * job.element_bytes, GLOBAL)
            values = load(type_, address, alignment=job.read * job.element_bytes)
            elements += [vector.extract(values, [], [i]) for i in range(job.read)]
        return elements

    # --- packing ---

    def _pack_group(self, group: Scalar, quads: _Quads) -> Scalar:
        """Store the lane's word of the group, of every plane; returns the weighted sum of their bits."""
        job = self.job
        codes = vector.from_elements(vector_of(i32(), _QUADS), [self._codes(quad) for quad in quads])
        number = group * BITS_PER_WORD + self.exchange.word
        words = [self.exchange.whole_words(_packed_runs(codes, plane)) for plane in range(job.encoding.bits)]
        if job.k < job.groups * _GROUP:
            inside = self._inside(number)
            words = [word & inside for word in words]

        def store_words() -> None:
            at = offset(self.planes_at, number * _WORD_BYTES, GLOBAL)
            for plane, word in enumerate(words):
                plane_at = const(plane * job.rows * job.words * _WORD_BYTES, i64())
                store(word.value, offset(at, plane_at, GLOBAL))

        if_then(number < job.words if job.words < job.groups * BITS_PER_WORD else None, store_words)
        total = const(0)
        for word, weight in zip(words, job.encoding.weights, strict=True):
            total = total + Scalar(math.ctpop(word.value)) * weight
        return total

    def _codes(self, quad: ir.Value) -> ir.Value:
        """The codes of four elements, in the bytes of a register."""
        encoding, byte = self.job.encoding, ir.IntegerType.get_signless(8)
        if self.job.element == byte and self.zero is None and _fits_bytes(encoding):
            return _byte_codes(Scalar(_register(quad)), encoding).value
        values = widened(quad) if self.quantiser is None else self.quantiser.values(quad)
        return _register(arith.trunci(vector_of(byte, _QUAD), code_of(values, encoding, self.zero).value))

    def _inside(self, word: Scalar) -> Scalar:
        """The bits of a word of the row that stand for elements."""
        full, rest = divmod(self.job.k, BITS_PER_WORD)
        return select(word < full, -1, select(word.equals(full), const((1 << rest) - 1), 0))


def _register(quad: ir.Value) -> ir.Value:
    """Four bytes as an i32."""
    return vector.extract(vector.bitcast(vector_of(i32(), 1), quad), [], [0])


def _fits_bytes(encoding: Encoding) -> bool:
    """Whether `_byte_codes` serves: nothing is added to the values, or their sums leave a bit of each byte free."""
    return encoding.offset == 0 or encoding.bits + encoding.scale - 1 <= 7


def _byte_codes(values: Scalar, encoding: Encoding) -> Scalar:
    """The codes of four i8 in a register, all at once: `code_of` with a byte for each lane; other bits mean nothing."""
    if encoding.kind == "ternary":
        return (_zero_bytes(values ^ _bytes(1)) >> 7) | (_zero_bytes(values ^ _bytes(0xFF)) >> 6)
    if encoding.offset == 0:
        return values
    used = encoding.bits + encoding.scale - 1  # bits of value − offset; nothing is carried into the next byte
    return ((values & _bytes((1 << used) - 1)) + _bytes(-encoding.offset)) >> (encoding.scale - 1)


def _zero_bytes(values: Scalar) -> Scalar:
    """The top bit of each byte that is 0; all other bits are 0."""
    low = _bytes(0x7F)
    return (((values & low) + low) | values | low) ^ -1


def _bytes(number: int) -> int:
    """A number in each byte of a register, as an i32."""
    return as_signed(sum(number << 8 * i for i in range(_QUAD)))


def _packed_runs(codes: ir.Value, plane: int) -> Scalar:
    """One plane of the codes in a vector of registers, four to a register, as one word.

    The product brings bits 0, 8, 16 and 24 of a register (shifted by the plane) to its top, next to each other; no two
    of its partial products share a bit, so that nothing is carried.
    """
    first_bits = _bytes(1 << plane)
    to_top = sum(1 << BITS_PER_WORD - _QUAD - 7 * i for i in range(_QUAD)) >> plane
    type_ = ir.VectorType(codes.type)
    products = arith.muli(arith.andi(codes, splat(first_bits, type_)), splat(to_top, type_))
    word = const(0)
    for i in reversed(range(_QUADS)):
        word = funnel_shift(word, Scalar(vector.extract(products, [], [i])), const(_QUAD))
    return word


class _RunExchange:
    """Gives each lane a whole word: runs of neighbouring bits change places with those of neighbouring lanes.

    Before, the word of lane l has in field f what the lane read in the f-th place; after, lane f of every LANES / run
    has all that these lanes read in the f-th place: a transposition, by halves.

    Attributes:
        word: the number of the lane's word in its group.
    """

    def __init__(self, run: int, lane: Scalar) -> None:
        lanes = BITS_PER_WORD // run
        self.word = lane % lanes * run + lane // lanes
        self._steps: list[tuple[int, Scalar, Scalar]] = []  # to which lane, what a lane keeps, how it turns the rest
        distance = 1
        while distance < lanes:
            bits = run * distance
            even = sum(((1 << bits) - 1) << i for i in range(0, BITS_PER_WORD, 2 * bits))
            is_even = (lane & distance).equals(0)
            keep = select(is_even, const(as_signed(even)), as_signed(~even))
            turn = select(is_even, const(bits), BITS_PER_WORD - bits)
            self._steps.append((distance, keep, turn))
            distance *= 2

    def whole_words(self, word: Scalar) -> Scalar:
        """The lane's word after the exchange."""
        for distance, keep, turn in self._steps:
            other = shuffle_xor(word, distance)
            other = funnel_shift(other, other, turn)
            word = (word & keep) | (other & (keep ^ -1))
        return word


def exact_division(scale: ir.Value) -> Callable[[ir.Value, ir.Value], ir.Value]:
    """x / scale rounded to f32, without a division for each x.

    From the rounded reciprocal, two corrections by the remainder: the first leaves less than a unit in the last place,
    from where the second is exact (Markstein, IBM J. Res. Dev. 34, 1990). The limits of scales keep all of it normal.
    """
    reciprocal = arith.divf(arith.constant(scale.type, 1.0), scale)

    def divide(x: ir.Value, divisor: ir.Value) -> ir.Value:
        factor = as_vector(reciprocal, ir.VectorType(x.type).shape[0])
        quotient = arith.mulf(x, factor)
        for _ in range(2):
            remainder = math.fma(arith.negf(quotient), divisor, x)
            quotient = math.fma(remainder, factor, quotient)
        return quotient

    return divide


def _width(type_: ir.Type) -> int:
    return (ir.FloatType(type_) if isinstance(type_, ir.FloatType) else ir.IntegerType(type_)).width


def build_unpack_kernel(module: ir.Block, name: str, op: bit.PlaneUnpackOp) -> Kernel:
    """Integers from planes: each thread takes an element."""
    encoding = bit.encoding_in(op.encoding)
    out = ir.MemRefType(op.out.type)
    _, rows, words = ir.MemRefType(op.planes.type).shape
    k, width = out.shape[1], ir.IntegerType(out.element_type).width
    arguments = tuple(v for v in (op.planes, op.out, op.zeros) if v is not None)
    blocks_per_row = ceil_div(k, _THREADS)

    def body(planes_at: ir.Value, out_at: ir.Value, *zeros_at: ir.Value) -> None:
        block = block_index()
        element, row = block % blocks_per_row * _THREADS + thread_index(), block // blocks_per_row

        def plane_bit(plane: int) -> Scalar:
            number = (row.to_i64() + plane * rows) * words + (element // BITS_PER_WORD).to_i64()
            word = Scalar(load(i32(), offset(planes_at, number * _WORD_BYTES, GLOBAL)))
            return (word >> (element % BITS_PER_WORD)) & 1

        def unpack() -> None:
            zero = Scalar(load(i32(), offset(zeros_at[0], row.to_i64() * 4, GLOBAL))) if zeros_at else None
            value = arith.trunci(out.element_type, value_of(plane_bit, encoding, zero).value)
            store(value, offset(out_at, (row.to_i64() * k + element.to_i64()) * (width // 8), GLOBAL))

        if_then(element < k, unpack)

    with ir.InsertionPoint(module):
        kernel_function(name, _THREADS, arguments, {}, body)
    return Kernel(name, (blocks_per_row * rows, 1, 1), _THREADS, 0, arguments)
