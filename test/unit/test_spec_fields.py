"""The types of the fields of specs: numpy's numbers and truth values are taken, all else is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bitmlir import Encoding, GroupedSpec, InputError, MatmulSpec, PackSpec, SearchSpec, ShapeError

MATMUL = {"m": 3, "n": 5, "k": 70, "lhs": "bipolar", "rhs": "u2", "out": "f16"}
SPECS: dict[Any, dict[str, Any]] = {
    MatmulSpec: MATMUL,
    GroupedSpec: {"groups": 2, **MATMUL},
    SearchSpec: {"m": 3, "n": 5, "k": 70, "lhs": "bipolar", "rhs": "u2"},
    PackSpec: {"rows": 3, "k": 70, "encoding": "u2"},
}
SIZES = [
    (MatmulSpec, ["m", "n", "k", "batch"]),
    (GroupedSpec, ["groups", "m", "n", "k"]),
    (SearchSpec, ["m", "n", "k", "count"]),
    (PackSpec, ["rows", "k"]),
]
SWITCHES = [
    (MatmulSpec, ["row_scale", "column_scale", "bias", "relu"]),
    (GroupedSpec, ["row_scale", "column_scale", "bias", "relu"]),
    (PackSpec, ["scale"]),
]
NAMES = [
    (MatmulSpec, ["lhs", "rhs", "out", "residual"]),
    (GroupedSpec, ["lhs", "rhs", "out", "residual"]),
    (SearchSpec, ["lhs", "rhs", "score"]),
    (PackSpec, ["encoding", "source"]),
]


def each(fields: list[tuple[Any, list[str]]]) -> list[Any]:
    return [pytest.param(spec, name, id=f"{spec.__name__}.{name}") for spec, names in fields for name in names]


@pytest.mark.parametrize(("spec", "name"), each(SIZES))
@pytest.mark.parametrize("value", [0, -1, 2.0, "2", True, 10**30, np.array([2]), np.array([2, 3]), [2]], ids=repr)
def test_a_size_that_is_no_whole_number_is_refused(spec: Any, name: str, value: Any) -> None:
    with pytest.raises((ShapeError, InputError), match=rf"{name} must be a whole number from 1 to .*, got "):
        spec(**SPECS[spec] | {name: value})


@pytest.mark.parametrize(("spec", "name"), each(SWITCHES))
@pytest.mark.parametrize("value", [3, 1, 0, "yes", None, [True], np.array([True, False])], ids=repr)
def test_a_switch_that_is_none_is_refused(spec: Any, name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} must be True or False, got "):
        spec(**SPECS[spec] | {name: value})


@pytest.mark.parametrize("name", ["lhs_tiles", "rhs_tiles"])
def test_a_bitmap_belongs_to_the_call_not_to_the_spec(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} must be True or False, got "):
        MatmulSpec(**MATMUL | {name: np.zeros((1, 1))})


@pytest.mark.parametrize(("spec", "name"), each(NAMES))
@pytest.mark.parametrize("value", [3, b"u2", ["u2"], np.float16, np.array(["u2", "u2"])], ids=repr)
def test_a_name_that_is_no_string_is_refused(spec: Any, name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} must be named by a string, got "):
        spec(**SPECS[spec] | {name: value})


@pytest.mark.parametrize("spec", SPECS)
def test_numpys_numbers_and_truth_values_and_encodings_are_taken(spec: Any) -> None:
    plain = SPECS[spec] | dict.fromkeys((name for known, names in SWITCHES if known is spec for name in names), True)
    numbers = {name: np.int64(value) if isinstance(value, int) else value for name, value in plain.items()}
    switches = {name: np.True_ for name, value in plain.items() if value is True}
    assert repr(spec(**numbers | switches)) == repr(spec(**plain))
    encodings = {name: Encoding.parse(plain[name]) for name in ("lhs", "rhs", "encoding") if name in plain}
    assert spec(**plain | encodings)


@pytest.mark.parametrize("spec", SPECS)
def test_specs_are_equal_however_their_encodings_are_named(spec: Any) -> None:
    names = [name for name in ("lhs", "rhs", "encoding") if name in SPECS[spec]]
    plain = spec(**SPECS[spec] | dict.fromkeys(names, "ternary"))
    for named in (Encoding.parse("ternary"), np.str_("ternary")):
        other = spec(**SPECS[spec] | dict.fromkeys(names, named))
        assert (other, hash(other), repr(other)) == (plain, hash(plain), repr(plain))
        assert {type(getattr(other, name)) for name in names} == {str}


@pytest.mark.parametrize("out", [Encoding.parse("u4"), np.str_("u4")], ids=repr)
def test_specs_are_equal_however_their_result_is_named(out: Any) -> None:
    plain = MatmulSpec(**MATMUL | {"out": "u4"})
    assert MatmulSpec(**MATMUL | {"out": out}) == plain
    assert repr(MatmulSpec(**MATMUL | {"out": out})) == repr(plain)
