"""Numbers kept beside codes, and reductions of what windows see, on the CPU; and what is refused."""

from __future__ import annotations

import pytest
from reductions import KEPT, REDUCTIONS, Kept, Reduction

import bitmlir
from bitmlir.dialects.errors import BitmlirError


@pytest.mark.parametrize("case", KEPT, ids=str)
def test_numbers_are_kept_beside_codes(case: Kept) -> None:
    case.check("cpu")


@pytest.mark.parametrize("case", REDUCTIONS, ids=str)
def test_windows_are_reduced(case: Reduction) -> None:
    case.check("cpu")


@pytest.mark.parametrize("target", ["sm_75", "sm_80", "sm_90a"])
@pytest.mark.parametrize("case", [KEPT[0], KEPT[-1], REDUCTIONS[3]], ids=str)
def test_they_compile_for_gpus(case: Kept | Reduction, target: str) -> None:
    assert bitmlir.compile(case._text, target).emit("ptx")


BITS = 'tensor<1x4x4x40xi1, #bit.encoding<"bipolar">>'


def _reduction(source: str, results: str, yields: str = "%acc : i32", acc: str = "i32", **changed: str) -> str:
    attributes = {
        "reduction": '"max"', "size": "array<i64: 2, 2>", "stride": "array<i64: 2, 2>",
        "padding": "array<i64: 0, 0, 0, 0>", **changed,
    }  # fmt: skip
    given = ", ".join(f"{name} = {value}" for name, value in attributes.items())
    count = results.count("tensor<")
    names = ", ".join(f"%r#{i}" for i in range(count)) if count > 1 else "%r"
    return f"""
    func.func @f(%x: {source}) -> ({results}) {{
      %r{f":{count}" if count > 1 else ""} = "bit.reduce_window"(%x) ({{
      ^bb0(%acc: {acc}, %n: index, %y: index, %c: index, %channel: index):
        %code = arith.constant 1 : i1
        gpu.yield {yields}
      }}) {{{given}}} : ({source}) -> ({results})
      return {names} : {results}
    }}"""


IMAGES, SMALLER = "tensor<1x8x8x40xi32>", "tensor<1x4x4x40xi32>"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_reduction("tensor<8x8x40xi32>", SMALLER), "the source must be tensor<NxHxWxC"),
        (_reduction("tensor<1x8x8x40xf64>", SMALLER), "the source must be tensor<NxHxWxC"),
        (_reduction(IMAGES, SMALLER, reduction='"mean"'), "reduction"),
        (_reduction(IMAGES, SMALLER, size="array<i64: 2>"), "size must be array<i64: …> of 2 numbers"),
        (_reduction(IMAGES, SMALLER, size="array<i64: 9, 9>"), "every window must fit into the padded images"),
        (_reduction(IMAGES, SMALLER, padding="array<i64: 2, 0, 0, 0>"), "see a place inside the image"),
        (_reduction(IMAGES, "tensor<1x4x4x39xi32>"), "the result must be a 1x4x4x40 tensor"),
        (_reduction(IMAGES, "tensor<1x4x3x40xi32>"), "the result must be a 1x4x4x40 tensor"),
        (_reduction(IMAGES, SMALLER, acc="f32", yields="%code : i1"), r"must have the arguments \(i32, index"),
        (_reduction(IMAGES, SMALLER, yields="%code : i1"), "must yield one i32, the result's element, but yields i1"),
        (
            _reduction(IMAGES, f"{BITS}, {SMALLER}", yields="%code : i1"),
            "must yield one i1, the result's element, and one i32, that of kept, but yields i1",
        ),
        (
            _reduction(IMAGES, f"{SMALLER}, {SMALLER}", yields="%acc, %acc : i32, i32"),
            "kept goes beside a packed result",
        ),
        (
            _reduction(IMAGES, f"{BITS}, tensor<1x4x4x41xi32>", yields="%code, %acc : i1, i32"),
            "kept must be tensor<1x4x4x40x",
        ),
    ],
)
def test_what_cannot_be_reduced_is_refused(text: str, message: str) -> None:
    with pytest.raises(BitmlirError, match=message):
        bitmlir.compile(text, "cpu")
