"""The plane schedule: its algebra against plain numpy for every pair of encodings, and its length."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product

import numpy as np
import pytest

from bitmlir import reference
from bitmlir.dialects.encoding import Encoding
from bitmlir.formats.packed import Packed, pack, words_to_bits
from bitmlir.lowering.schedule import (
    Correction,
    Negate,
    Product,
    Shift,
    Step,
    choose_operation,
    correction,
    plane_schedule,
)

UNSIGNED, SIGNED = [f"u{p}" for p in range(1, 9)], [f"i{p}" for p in range(2, 9)]
BIPOLAR = ["bipolar", *(f"bipolar{p}" for p in range(2, 9))]
ZERO_POINTS = ["u1@1", "u2@1", "u4@7", "u5@31", "u8@128", "u8@255"]
NAMES = [*UNSIGNED, *SIGNED, *BIPOLAR, "ternary", *ZERO_POINTS]
WEIGHTS = [*UNSIGNED, *SIGNED, "ternary"]  # the others have the weights of one of these

K = 129  # one element in a second 128-bit group


def example(name: str, seed: int) -> tuple[np.ndarray, Packed]:
    """A matrix whose rows hold the smallest value, the largest, both in turn, and random ones."""
    encoding = Encoding.parse(name)
    step = encoding.scale
    values = np.arange(encoding.minimum, encoding.maximum + 1, step)
    rng = np.random.default_rng(seed)
    rows = [np.full(K, values[0]), np.full(K, values[-1]), np.resize(values[[0, -1]], K), rng.choice(values, K)]
    return np.stack(rows), pack(np.stack(rows), name)


def popcounts(lhs: Packed, rhs: Packed, i: int, j: int, operation: str) -> np.ndarray:
    """Σ_k popc(P_i ∘ Q_j) by the definition of the operation on single bits."""
    p, q = words_to_bits(lhs.planes[i], K)[:, None, :], words_to_bits(rhs.planes[j], K)[None, :, :]
    return (p & q if operation == "and" else p ^ q).sum(axis=2, dtype=np.int64)


def run_schedule(lhs: Packed, rhs: Packed, operation: str) -> np.ndarray:
    """What the steps leave in the accumulator, in int64."""
    acc = np.zeros((lhs.rows, rhs.rows), np.int64)
    for step in plane_schedule(lhs.encoding, rhs.encoding):
        match step:
            case Shift():
                acc = acc << step.by
            case Negate():
                acc = -acc
            case Product():
                acc = acc + sum(popcounts(lhs, rhs, i, j, operation) for i, j in step.pairs)
    return acc


def corrected(acc: np.ndarray, c: Correction, lhs: Packed, rhs: Packed) -> np.ndarray:
    """The correction as its docstring words it."""
    value = acc * c.acc + c.lhs_sums * lhs.sums[:, None].astype(np.int64) + c.rhs_sums * rhs.sums.astype(np.int64)
    if c.halve:
        assert (value % 2 == 0).all()
        value = value // 2
    return value + c.constant


# --- the algebra -----------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["and", "xor"])
@pytest.mark.parametrize("lhs_name", NAMES)
def test_schedule_and_correction_make_the_product_for_every_pair(lhs_name: str, operation: str) -> None:
    x, lhs = example(lhs_name, 1)
    for rhs_name in NAMES:
        y, rhs = example(rhs_name, 2)
        acc = run_schedule(lhs, rhs, operation)
        result = corrected(acc, correction(lhs.encoding, rhs.encoding, operation, K), lhs, rhs)
        np.testing.assert_array_equal(result, reference.matmul(x, y), err_msg=f"{lhs_name} times {rhs_name}")


@pytest.mark.parametrize("operation", ["and", "xor"])
@pytest.mark.parametrize("name", NAMES)
def test_zero_points_a_row_come_on_top_of_the_product_without_them(name: str, operation: str) -> None:
    """(X − z)·Yᵀ = X·Yᵀ − z·rowsum(Y)ᵀ, and the same for Y: what `bit-decompose` adds to the correction."""
    rng = np.random.default_rng(3)
    codes, zeros = rng.integers(0, 8, (4, K)), np.array([0, 1, 5, 7])
    stored = pack(codes - zeros[:, None], "u3@row", zeros)
    y, other = example(name, 4)
    acc = run_schedule(stored, other, operation)
    without = corrected(acc, correction(stored.encoding, other.encoding, operation, K), stored, other)
    np.testing.assert_array_equal(without, reference.matmul(codes, y))
    with_zeros = without - zeros[:, None] * reference.row_sums(y)
    np.testing.assert_array_equal(with_zeros, reference.matmul(codes - zeros[:, None], y))


# --- the steps -------------------------------------------------------------------------------------


def schedules(lhs: str) -> Iterator[tuple[Encoding, Encoding, tuple[Step, ...]]]:
    """The schedules of an encoding with every other, weights being all that counts."""
    for rhs in WEIGHTS:
        x, y = Encoding.parse(lhs), Encoding.parse(rhs)
        yield x, y, plane_schedule(x, y)


@pytest.mark.parametrize("lhs", WEIGHTS)
def test_every_pair_of_planes_is_multiplied_exactly_once(lhs: str) -> None:
    for x, y, steps in schedules(lhs):
        pairs = [pair for step in steps if isinstance(step, Product) for pair in step.pairs]
        assert sorted(pairs) == list(product(range(x.bits), range(y.bits)))


@pytest.mark.parametrize("lhs", WEIGHTS)
def test_there_are_as_few_steps_as_the_weights_allow(lhs: str) -> None:
    """One product a distinct weight, one shift between two of different size, signs changed at most once a level.

    No order does with fewer shifts: each must scale what came before by the full distance to the next level.
    """
    for x, y, steps in schedules(lhs):
        weights = {v * w for v in x.weights for w in y.weights}
        levels = sorted({abs(weight) for weight in weights}, reverse=True)
        ratios = [a // b for a, b in pairwise([*levels, 1])]
        assert [1 << step.by for step in steps if isinstance(step, Shift)] == [ratio for ratio in ratios if ratio > 1]
        assert sum(isinstance(step, Product) for step in steps) == len(weights)
        assert sum(isinstance(step, Negate) for step in steps) <= len(levels) + 1


@pytest.mark.parametrize("lhs", WEIGHTS)
def test_no_step_is_idle(lhs: str) -> None:
    for _, _, steps in schedules(lhs):
        assert isinstance(steps[0], Product)
        assert all(step.by > 0 for step in steps if isinstance(step, Shift))
        for one, other in pairwise(steps):
            assert not (isinstance(one, Negate) and isinstance(other, Negate))
            assert not (isinstance(one, Shift) and isinstance(other, Shift))


def test_single_planes_take_a_single_step() -> None:
    for lhs, rhs in product(("u1", "bipolar"), repeat=2):
        assert plane_schedule(Encoding.parse(lhs), Encoding.parse(rhs)) == (Product(((0, 0),)),)


def test_a_sign_is_changed_by_negating_what_is_there() -> None:
    ternary, i2 = Encoding.parse("ternary"), Encoding.parse("i2")
    assert plane_schedule(ternary, ternary) == (
        Product(((0, 0), (1, 1))),
        Negate(),
        Product(((0, 1), (1, 0))),
        Negate(),
    )
    assert plane_schedule(i2, i2) == (
        Product(((1, 1),)),
        Shift(1),
        Negate(),
        Product(((0, 1), (1, 0))),
        Shift(1),
        Negate(),
        Product(((0, 0),)),
    )


# --- the correction --------------------------------------------------------------------------------


def test_bipolar_products_by_xor_read_no_sums() -> None:
    for p, q in product(BIPOLAR, repeat=2):
        c = correction(Encoding.parse(p), Encoding.parse(q), "xor", 100)
        assert (c.lhs_sums, c.rhs_sums, c.halve) == (0, 0, False)


def test_products_of_encodings_without_an_offset_need_no_correction_by_and() -> None:
    for p, q in product([*UNSIGNED, *SIGNED, "ternary"], repeat=2):
        assert correction(Encoding.parse(p), Encoding.parse(q), "and", 100) == Correction(1, 0, 0, 0)


def test_only_xor_without_a_factor_of_two_is_halved() -> None:
    for p, q in product(NAMES, repeat=2):
        x, y = Encoding.parse(p), Encoding.parse(q)
        assert not correction(x, y, "and", 100).halve
        assert correction(x, y, "xor", 100).halve == (x.scale * y.scale == 1)


# --- the operation ---------------------------------------------------------------------------------


def test_xor_is_chosen_where_it_saves_the_sums() -> None:
    """Two bipolar encodings, or one with ternary, whose weights cancel; for all others AND needs no more."""
    for p, q in product(NAMES, repeat=2):
        saves = {p, q} <= {*BIPOLAR, "ternary"} and {p, q} != {"ternary"}
        chosen = choose_operation(Encoding.parse(p), Encoding.parse(q), ("xor", "and"), sparse=False)
        assert chosen == ("xor" if saves else "and"), f"{p} times {q}"


@pytest.mark.parametrize("native", [("xor",), ("and",), ("xor", "and")])
def test_bitmaps_need_and(native: tuple[str, ...]) -> None:
    bipolar = Encoding.parse("bipolar")
    assert choose_operation(bipolar, bipolar, native, sparse=True) == "and"


@pytest.mark.parametrize("only", ["and", "xor"])
def test_a_target_with_one_operation_uses_it(only: str) -> None:
    for p, q in product(NAMES, repeat=2):
        assert choose_operation(Encoding.parse(p), Encoding.parse(q), (only,), sparse=False) == only
