"""The plane schedule: how a product of two encodings becomes products of planes, shifts, signs and corrections.

With X = s_x·X′ + z_x and X′ = Σ_i w_i·P_i (and Y likewise with planes Q_j),

    X·Yᵀ = s_x·s_y·X′·Y′ᵀ + z_y·s_x·rowsum(X′) + z_x·s_y·rowsum(Y′)ᵀ + z_x·z_y·K
    X′·Y′ᵀ = Σ_ij w_i·w_j·popc(P_i & Q_j)

Sorted by falling |w_i·w_j|, Horner's rule needs one accumulator: shift it left between levels. Products of negative
weight are added while the accumulator is negated. Where only XOR is at hand,
popc(p ^ q) = popc p + popc q − 2·popc(p & q) turns its sum into X′·Y′ᵀ with the help of the same row sums.
"""

from __future__ import annotations

from dataclasses import dataclass

from bitmlir.dialects.encoding import Encoding

__all__ = [
    "Correction",
    "Negate",
    "Product",
    "Shift",
    "choose_operation",
    "correction",
    "plane_schedule",
    "planes_side_by_side",
]

_FEW_ROWS = 64


@dataclass(frozen=True)
class Product:
    """Add popc(P_i ∘ Q_j) for each pair (i, j)."""

    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Shift:
    """Shift the accumulator left."""

    by: int


@dataclass(frozen=True)
class Negate:
    """Change the accumulator's sign."""


Step = Product | Shift | Negate


def planes_side_by_side(lhs: Encoding, rows: int) -> bool:
    """Whether lhs has so few rows that its planes are best multiplied side by side, an accumulator each: what is read
    of rhs, which is then all that counts, is used for all of them at once."""
    return lhs.bits > 1 and rows <= _FEW_ROWS


def plane_schedule(lhs: Encoding, rhs: Encoding, lhs_plane: int | None = None) -> tuple[Step, ...]:
    """The steps that leave Σ_ij w_i·w_j·popc(P_i ∘ Q_j) in one accumulator; or, for one plane of lhs alone,
    Σ_j w_j·popc(P_i ∘ Q_j).

    Example:
        >>> for step in plane_schedule(Encoding.parse("u1"), Encoding.parse("i2")): print(step)
        Product(pairs=((0, 1),))
        Shift(by=1)
        Negate()
        Product(pairs=((0, 0),))
    """
    groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
    planes = dict(enumerate(lhs.weights)) if lhs_plane is None else {lhs_plane: 1}
    for i, v in planes.items():
        for j, w in enumerate(rhs.weights):
            exponent = abs(v * w).bit_length() - 1
            groups.setdefault((exponent, 1 if v * w > 0 else -1), []).append((i, j))
    steps: list[Step] = []
    exponent, sign = max(groups)[0], 1
    for level in sorted({e for e, _ in groups}, reverse=True):
        if level != exponent:
            steps.append(Shift(exponent - level))
            exponent = level
        for group_sign in (sign, -sign):
            if (level, group_sign) not in groups:
                continue
            if group_sign != sign:
                if steps:
                    steps.append(Negate())
                sign = group_sign
            steps.append(Product(tuple(groups[level, group_sign])))
    if exponent:
        steps.append(Shift(exponent))
    if sign < 0:
        steps.append(Negate())
    return tuple(steps)


@dataclass(frozen=True)
class Correction:
    """result = acc·A + lhs_sums·L + rhs_sums·R + C, halved before C where `halve` is set.

    `lhs_sums` and `rhs_sums` are the sums of the packed format (weighted, without scale and offset). Zero points of
    single rows come on top: see `bit-decompose`.
    """

    acc: int
    lhs_sums: int
    rhs_sums: int
    constant: int
    halve: bool = False


def correction(lhs: Encoding, rhs: Encoding, operation: str, k: int) -> Correction:
    """What turns the accumulator of the plane schedule into X·Yᵀ.

    Example:
        >>> bipolar = Encoding.parse("bipolar")
        >>> correction(bipolar, bipolar, "xor", 100)
        Correction(acc=-2, lhs_sums=0, rhs_sums=0, constant=100, halve=False)
        >>> correction(bipolar, bipolar, "and", 100)
        Correction(acc=4, lhs_sums=-2, rhs_sums=-2, constant=100, halve=False)
    """
    scale = lhs.scale * rhs.scale
    from_lhs, from_rhs = rhs.offset * lhs.scale, lhs.offset * rhs.scale
    constant = lhs.offset * rhs.offset * k
    if operation == "and":
        return Correction(scale, from_lhs, from_rhs, constant)
    # 2·X′·Y′ᵀ = Σw_j·rowsum(X′) + Σw_i·rowsum(Y′)ᵀ − acc
    lhs_weight, rhs_weight = sum(lhs.weights), sum(rhs.weights)
    if scale % 2 == 0:
        half = scale // 2
        return Correction(-half, from_lhs + half * rhs_weight, from_rhs + half * lhs_weight, constant)
    return Correction(-1, 2 * from_lhs + rhs_weight, 2 * from_rhs + lhs_weight, constant, halve=True)


def choose_operation(lhs: Encoding, rhs: Encoding, native: tuple[str, ...], sparse: bool) -> str:
    """The bit operation to use: XOR where it saves the row sums, AND elsewhere if the target has it.

    A tile that is skipped adds nothing to an AND, but would add popc of the other side to an XOR: bitmaps need AND.
    """
    if sparse:
        return "and"
    if "xor" in native:
        xor = correction(lhs, rhs, "xor", 1)
        if "and" not in native or (not xor.halve and xor.lhs_sums == xor.rhs_sums == 0):
            return "xor"
    return "and"
