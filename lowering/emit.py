"""Building scalar code: integers with operators, structured loops and conditions as functions of Python functions.

All arithmetic is unsigned and wraps; an `int` beside a `Scalar` becomes a constant of its type.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlir import ir
from mlir.dialects import arith, llvm, scf

__all__ = [
    "Scalar",
    "as_signed",
    "const",
    "for_loop",
    "funnel_shift",
    "i1",
    "i16",
    "i32",
    "i64",
    "if_else",
    "if_then",
    "index",
    "select",
    "while_loop",
]


def i1() -> ir.Type:
    """The type i1."""
    return ir.IntegerType.get_signless(1)


def i16() -> ir.Type:
    """The type i16."""
    return ir.IntegerType.get_signless(16)


def i32() -> ir.Type:
    """The type i32."""
    return ir.IntegerType.get_signless(32)


def i64() -> ir.Type:
    """The type i64."""
    return ir.IntegerType.get_signless(64)


def index() -> ir.Type:
    """The type index."""
    return ir.IndexType.get()


class Scalar:
    """An integer value with operators."""

    __slots__ = ("value",)

    def __init__(self, value: ir.Value) -> None:
        self.value = value

    def _other(self, other: Scalar | int) -> ir.Value:
        return other.value if isinstance(other, Scalar) else const(other, self.value.type).value

    def __add__(self, other: Scalar | int) -> Scalar:
        return self if isinstance(other, int) and other == 0 else Scalar(arith.addi(self.value, self._other(other)))

    def __sub__(self, other: Scalar | int) -> Scalar:
        return self if isinstance(other, int) and other == 0 else Scalar(arith.subi(self.value, self._other(other)))

    def __mul__(self, other: Scalar | int) -> Scalar:
        return self if isinstance(other, int) and other == 1 else Scalar(arith.muli(self.value, self._other(other)))

    def __floordiv__(self, other: Scalar | int) -> Scalar:
        return self if isinstance(other, int) and other == 1 else Scalar(arith.divui(self.value, self._other(other)))

    def __mod__(self, other: Scalar | int) -> Scalar:
        return Scalar(arith.remui(self.value, self._other(other)))

    def __and__(self, other: Scalar | int) -> Scalar:
        return Scalar(arith.andi(self.value, self._other(other)))

    def __or__(self, other: Scalar | int) -> Scalar:
        return Scalar(arith.ori(self.value, self._other(other)))

    def __xor__(self, other: Scalar | int) -> Scalar:
        return Scalar(arith.xori(self.value, self._other(other)))

    def __lshift__(self, other: Scalar | int) -> Scalar:
        return self if isinstance(other, int) and other == 0 else Scalar(arith.shli(self.value, self._other(other)))

    def __rshift__(self, other: Scalar | int) -> Scalar:
        return self if isinstance(other, int) and other == 0 else Scalar(arith.shrui(self.value, self._other(other)))

    def _compare(self, predicate: arith.CmpIPredicate, other: Scalar | int) -> Scalar:
        return Scalar(arith.cmpi(predicate, self.value, self._other(other)))

    def __lt__(self, other: Scalar | int) -> Scalar:
        return self._compare(arith.CmpIPredicate.ult, other)

    def __ge__(self, other: Scalar | int) -> Scalar:
        return self._compare(arith.CmpIPredicate.uge, other)

    def equals(self, other: Scalar | int) -> Scalar:
        """Whether both are the same, as an i1."""
        return self._compare(arith.CmpIPredicate.eq, other)

    def differs(self, other: Scalar | int) -> Scalar:
        """Whether they are not the same, as an i1."""
        return self._compare(arith.CmpIPredicate.ne, other)

    def minimum(self, other: Scalar | int) -> Scalar:
        """The smaller of both."""
        return Scalar(arith.minui(self.value, self._other(other)))

    def to_i64(self) -> Scalar:
        """Zero-extended to 64 bits."""
        return Scalar(arith.extui(i64(), self.value))

    def to_i32(self) -> Scalar:
        """The same number as i32; wider ones lose their high bits."""
        if self.value.type == index():
            return Scalar(arith.index_castui(i32(), self.value))
        width = ir.IntegerType(self.value.type).width
        if width == 32:
            return self
        return Scalar(arith.extui(i32(), self.value) if width < 32 else arith.trunci(i32(), self.value))

    def to_index(self) -> Scalar:
        """The same number as an index."""
        return self if self.value.type == index() else Scalar(arith.index_castui(index(), self.value))


def const(value: int, type_: ir.Type | None = None) -> Scalar:
    """A constant, i32 unless another type is given.

    Raises:
        ValueError: an i32 that does not fit: it would wrap.
    """
    if type_ is None and not -(1 << 31) <= value < 1 << 32:
        raise ValueError(f"{value} does not fit into 32 bits")
    return Scalar(arith.constant(type_ or i32(), value))


def as_signed(word: int, width: int = 32) -> int:
    """The number that is written for a word in two's complement of so many bits.

    Example:
        >>> as_signed(0xFFFF_FFFE), as_signed(~0xFF)
        (-2, -256)
    """
    half = 1 << width - 1
    return (word + half) % (2 * half) - half


def select(condition: Scalar, yes: Scalar | int, no: Scalar | int) -> Scalar:
    """yes where the condition holds, else no; at least one must be a `Scalar`."""
    if not isinstance(yes, Scalar):
        assert isinstance(no, Scalar)
        yes = Scalar(no._other(yes))
    return Scalar(arith.select(condition.value, yes.value, yes._other(no)))


def funnel_shift(high: Scalar, low: Scalar, by: Scalar) -> Scalar:
    """The upper half of the 64 bits of two words, shifted left by so many bits, modulo 32."""
    return Scalar(llvm.intr_fshl(high.value, low.value, by.value))


Carried = list[ir.Value]


def for_loop(
    lower: Scalar,
    upper: Scalar,
    step: Scalar,
    initial: Sequence[ir.Value],
    body: Callable[[Scalar, Carried], Sequence[ir.Value]],
) -> Carried:
    """for i in lower..upper by step: carried = body(i, carried). Returns what is carried out."""
    loop = scf.ForOp(lower.value, upper.value, step.value, list(initial))
    with ir.InsertionPoint(loop.body):
        scf.yield_(list(body(Scalar(loop.induction_variable), list(loop.inner_iter_args))))
    return list(loop.results)


def while_loop(
    initial: Sequence[ir.Value],
    condition: Callable[[Carried], Scalar],
    body: Callable[[Carried], Sequence[ir.Value]],
) -> Carried:
    """while condition(carried): carried = body(carried). Returns what is carried out."""
    types = [value.type for value in initial]
    loop = scf.WhileOp(types, list(initial))
    before, after = loop.regions[0].blocks.append(*types), loop.regions[1].blocks.append(*types)
    with ir.InsertionPoint(before):
        scf.condition(condition(list(before.arguments)).value, list(before.arguments))
    with ir.InsertionPoint(after):
        scf.yield_(list(body(list(after.arguments))))
    return list(loop.results)


def if_then(condition: Scalar | None, body: Callable[[], object]) -> None:
    """Emit body under a condition; None stands for a condition known to hold."""
    if condition is None:
        body()
        return
    branch = scf.IfOp(condition.value)
    with ir.InsertionPoint(branch.then_block):
        body()
        scf.yield_([])


def if_else(condition: Scalar, yes: Callable[[], object], no: Callable[[], object]) -> None:
    """Emit yes where the condition holds, else no."""
    branch = scf.IfOp(condition.value, has_else=True)
    for region, body in zip(branch.operation.regions, (yes, no), strict=True):
        with ir.InsertionPoint(region.blocks[0]):
            body()
            scf.yield_([])
