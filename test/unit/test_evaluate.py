"""The oracle for IR: worked cases, and every operation it knows against what the CPU computes."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest
from support import product_text

import bitmlir
from bitmlir import Encoding
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.tools import evaluate as oracle
from bitmlir.tools.evaluate import UnknownOperationError, evaluate

INTEGERS = [-128, -127, -77, -2, -1, 0, 1, 2, 5, 64, 127]
FLOATS = [-np.inf, -65504.0, -2.5, -1.5, -0.5, -0.0, 0.0, 0.25, 0.5, 1.5, 2.5, 1e-7, 65504.0, np.inf, np.nan]
INTEGER_TYPES = ("i8", "i16", "i32", "i64")


def values_of(type_: str) -> np.ndarray:
    """Numbers of a type that are likely to show a mistake."""
    if type_ == "i8" or type_ not in INTEGER_TYPES:
        return np.array(INTEGERS if type_ == "i8" else FLOATS).astype(numpy_dtype(type_))
    wide = np.iinfo(numpy_dtype(type_))
    return np.array([wide.min, wide.min + 1, *INTEGERS, wide.max - 1, wide.max], numpy_dtype(type_))


@dataclass(frozen=True)
class Case:
    """An operation that makes %out of %a and %b, numbers of one type."""

    operation: str
    type_: str
    result: str
    signed_zeros: bool = True

    def __str__(self) -> str:
        return f"{self.names[-1]}-{self.type_}-{self.result}"

    @property
    def names(self) -> list[str]:
        return re.findall(r"(?:arith|math)\.\w+", self.operation)


def pairs(name: str, type_: str) -> Case:
    # On the CPU arith-expand makes comparisons of maximumf and its like, which take −0 and +0 for equal.
    return Case(f"%out = {name} %a, %b : {type_}", type_, type_, signed_zeros=not name.endswith(("imumf", "numf")))


def single(name: str, type_: str) -> Case:
    return Case(f"%out = {name} %a : {type_}", type_, type_)


def conversion(name: str, type_: str, result: str) -> Case:
    return Case(f"%out = {name} %a : {type_} to {result}", type_, result)


def shift(name: str, type_: str) -> Case:
    return Case(f"%by = arith.constant 3 : {type_}\n%out = {name} %a, %by : {type_}", type_, type_)


def comparison(predicate: str, type_: str) -> Case:
    compare = f"%is = arith.cmp{'f' if type_[0] == 'f' else 'i'} {predicate}, %a, %b : {type_}\n"
    return Case(f"{compare}%out = arith.select %is, %a, %b : {type_}", type_, type_)


CASES = [
    *(pairs(f"arith.{name}", "i32") for name in ("addi", "subi", "muli", "andi", "ori", "xori", "maxsi", "minsi")),
    *(pairs(f"arith.{name}", type_) for name in ("muli", "maxui", "minui") for type_ in ("i8", "i64")),
    *(pairs(f"arith.{name}", "f32") for name in ("addf", "subf", "mulf", "divf")),
    *(pairs(f"arith.{name}", "f32") for name in ("maximumf", "minimumf", "maxnumf", "minnumf")),
    *(pairs(f"arith.{name}", "f16") for name in ("addf", "mulf")),
    *(shift(f"arith.{name}", type_) for name in ("shli", "shrsi", "shrui") for type_ in ("i8", "i64")),
    *(single(f"math.{name}", "f32") for name in ("absf", "ceil", "floor", "roundeven", "sqrt", "trunc")),
    *(single(f"math.{name}", type_) for name in ("absi", "ctpop") for type_ in ("i8", "i32")),
    single("arith.negf", "f32"),
    conversion("arith.extsi", "i8", "i32"),
    conversion("arith.extui", "i8", "i32"),
    conversion("arith.trunci", "i32", "i8"),
    conversion("arith.sitofp", "i32", "f32"),
    conversion("arith.sitofp", "i8", "f16"),
    conversion("arith.uitofp", "i32", "f32"),
    conversion("arith.extf", "f16", "f32"),
    conversion("arith.extf", "bf16", "f32"),
    conversion("arith.truncf", "f32", "f16"),
    conversion("arith.truncf", "f32", "bf16"),
    conversion("arith.bitcast", "f32", "i32"),
    conversion("arith.bitcast", "i32", "f32"),
    conversion("arith.bitcast", "f16", "i16"),
    *(comparison(predicate, "i32") for predicate in ("eq", "ne", "slt", "sle", "sgt", "sge")),
    *(comparison(predicate, type_) for predicate in ("ult", "ule", "ugt", "uge") for type_ in ("i8", "i64")),
    *(comparison(predicate, "f32") for predicate in ("oeq", "ogt", "oge", "olt", "ole", "une")),
    Case("%is = arith.cmpi slt, %a, %b : i8\n%out = arith.extsi %is : i1 to i8", "i8", "i8"),
    Case("%is = arith.cmpi slt, %a, %b : i8\n%out = arith.extui %is : i1 to i8", "i8", "i8"),
    Case("%half = arith.constant 0.5 : f32\n%out = arith.mulf %a, %half : f32", "f32", "f32"),
    Case(  # only numbers that an i32 can hold
        """%number = arith.cmpf oeq, %a, %a : f32
        %zero = arith.constant 0.0 : f32
        %b0 = arith.select %number, %a, %zero : f32
        %low = arith.constant -9.75 : f32
        %b1 = arith.maximumf %b0, %low : f32
        %high = arith.constant 9.75 : f32
        %b2 = arith.minimumf %b1, %high : f32
        %out = arith.fptosi %b2 : f32 to i32""",
        "f32",
        "i32",
    ),
    Case(
        """%r = arith.index_cast %row : index to i32
        %c = arith.index_castui %col : index to i32
        %out = arith.subi %r, %c : i32""",
        "i8",
        "i32",
    ),
]


def test_the_cases_have_every_operation_that_the_oracle_knows() -> None:
    assert {name for case in CASES for name in case.names} >= {*oracle._OPERATIONS, *oracle._OF_UNSIGNED}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_operation_is_what_the_cpu_computes(case: Case) -> None:
    numbers = values_of(case.type_)
    a, b = (np.ascontiguousarray(array) for array in np.meshgrid(numbers, numbers))
    n = numbers.size
    reads = {name: f"tensor<{n}x{n}x{case.type_}>" for name in ("as", "bs")}
    extract = "".join(f"%{name[0]} = tensor.extract %{name}[%row, %col] : {type_}\n" for name, type_ in reads.items())
    text = product_text((n, n, 1), "u1", "u1", case.result, extract + case.operation, reads=reads)
    ones = np.ones((n, 1), np.int8)
    (expected,) = evaluate(text, "product", [ones, ones, a, b])
    computed = bitmlir.compile(text, "cpu")(ones, ones, a, b)
    assert expected.dtype == computed.dtype == numpy_dtype(case.result)
    same = computed == expected
    if case.result not in INTEGER_TYPES:
        same &= (np.signbit(computed) == np.signbit(expected)) | (not case.signed_zeros)
        same |= np.isnan(computed) & np.isnan(expected)
    assert same.all(), [(a[i], b[i], expected[i], computed[i]) for i in zip(*np.nonzero(~same), strict=True)]


def test_of_two_zeros_the_greater_is_the_positive_one() -> None:
    zeros = np.array([0.0, -0.0], np.float32)
    a, b = np.meshgrid(zeros, zeros)
    assert np.signbit(oracle._OPERATIONS["arith.maximumf"](a, b)).tolist() == [[False, False], [False, True]]
    assert np.signbit(oracle._OPERATIONS["arith.minimumf"](a, b)).tolist() == [[False, True], [True, True]]


def test_an_epilogue_sees_the_sum_its_row_and_its_column() -> None:
    epilogue = """
      %r = arith.index_cast %row : index to i32
      %c = arith.index_cast %col : index to i32
      %ten = arith.constant 10 : i32
      %tens = arith.muli %r, %ten : i32
      %place = arith.addi %tens, %c : i32
      %hundred = arith.constant 100 : i32
      %hundreds = arith.muli %acc, %hundred : i32
      %out = arith.addi %hundreds, %place : i32"""
    text = product_text((2, 3, 4), "i3", "u2", "i32", epilogue)
    x, y = np.array([[1, -1, 2, 3], [-4, 0, 1, 1]]), np.array([[1, 1, 1, 1], [0, 3, 0, 0], [3, 0, 1, 2]])
    assert evaluate(text, "product", [x, y])[0].tolist() == [[500, -299, 1102], [-190, 11, -888]]


def test_codes_that_an_epilogue_yields_become_values_of_their_encoding() -> None:
    for encoding, values in {
        "u2": [0, 1, 2, 3],
        "u2@1": [-1, 0, 1, 2],
        "i2": [0, 1, -2, -1],
        "bipolar2": [-3, -1, 1, 3],
        "ternary": [0, 1, -1, 0],
    }.items():
        text = product_text((1, 4, 1), "u1", "u2", encoding, "%out = arith.trunci %acc : i32 to i2", packed=True)
        (result,) = evaluate(text, "product", [np.array([[1]]), np.array([[0], [1], [2], [3]])])
        assert result.tolist() == [values], encoding


@pytest.mark.parametrize("encoding", ["u1", "u3", "u8", "u4@5", "u3@row", "i2", "i8", "bipolar", "bipolar4", "ternary"])
def test_packing_and_unpacking_are_what_the_cpu_does_outside_the_encoding_too(encoding: str) -> None:
    known = Encoding.parse(encoding)
    packed = f'tensor<1x256xi{known.bits}, #bit.encoding<"{encoding}">>'
    wide = "i8" if -128 <= known.minimum and known.maximum <= 127 else "i16"
    zeros = {"zeros": "tensor<1xi32>"} if known.has_row_zeros else {}
    operands = {"x": "tensor<1x256xi8>", **zeros}
    text = f"""
      func.func @f({", ".join(f"%{name}: {type_}" for name, type_ in operands.items())}) -> tensor<1x256x{wide}> {{
        %p = "bit.pack"({", ".join(f"%{name}" for name in operands)}) : ({", ".join(operands.values())}) -> {packed}
        %y = "bit.unpack"(%p) : ({packed}) -> tensor<1x256x{wide}>
        return %y : tensor<1x256x{wide}>
      }}"""
    arguments = [np.arange(-128, 128, dtype=np.int8)[None, :], np.array([3], np.int32)][: len(operands)]
    (expected,) = evaluate(text, "f", arguments)
    np.testing.assert_array_equal(bitmlir.compile(text, "cpu")(*arguments), expected)
    inside = (known.minimum <= arguments[0]) & (arguments[0] <= known.maximum) & (known.scale * arguments[0] % 2 == 0)
    if not known.has_row_zeros and known.kind != "bipolar":
        np.testing.assert_array_equal(expected[inside], arguments[0][inside])


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        ("%f = arith.sitofp %acc : i32 to f32\n%out = math.fma %f, %f, %f : f32", "math.fma"),
        ("%f = arith.sitofp %acc : i32 to f32\n%is = arith.cmpf ueq, %f, %f : f32\n%out = arith.uitofp %is : i1 to f32",
         "arith.cmpf"),
    ],
)  # fmt: skip
def test_what_the_oracle_does_not_know_is_named_with_its_line(operation: str, name: str) -> None:
    text = product_text((1, 1, 1), "u1", "u1", "f32", operation)
    line = next(number for number, line in enumerate(text.splitlines(), 1) if name in line)
    ones = np.ones((1, 1), np.int8)
    with pytest.raises(UnknownOperationError, match=rf"'{re.escape(name)}' in line {line} is none of the operations"):
        evaluate(text, "product", [ones, ones])
