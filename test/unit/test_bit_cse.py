"""`bit-cse` where no operation of the `bit` dialect can show it: operations without operands, around isolation."""

from __future__ import annotations

import sys

import pytest
from mlir import ir

from bitmlir.dialects.ops import Dialect, DialectOp, Result
from bitmlir.lowering.pipeline import run_pipeline

toy = Dialect("toy_cse")


@toy.op("one")
class OneOp(DialectOp):
    """The number 1."""

    PURE = True
    result = Result()


@toy.op("random")
class RandomOp(DialectOp):
    """A number that is another one each time."""

    result = Result()


@pytest.fixture(autouse=True)
def _module_of_the_dialect(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLIR gives parsed operations their classes only if a module named like the dialect can be imported."""
    monkeypatch.setitem(sys.modules, "mlir.dialects.toy_cse", sys.modules[__name__])


def count(source: str, name: str) -> int:
    """How many of these operations are left of a module by bit-cse."""
    with ir.Context() as context:
        toy.load(context)
        module = ir.Module.parse(source)
    run_pipeline(module, "bit-cse")
    return str(module).count(f'"{name}"')


@pytest.mark.parametrize(
    "region",
    [
        "func.func @f() { %b = {} return }",
        "gpu.module @g { %b = {} }",
        "gpu.module @g { gpu.func @k() { %b = {} gpu.return } }",
        "llvm.func @f() { %b = {} llvm.return }",
        "module { %b = {} }",
    ],
)
def test_isolated_operations_do_not_see_what_is_outside(region: str) -> None:
    one = '"toy_cse.one"() : () -> i32'
    assert count(f"%a = {one}\n{region.replace('{}', one)}", "toy_cse.one") == 2


def test_other_regions_see_what_is_outside() -> None:
    one = '"toy_cse.one"() : () -> i32'
    assert count(f"func.func @f(%c: i1) {{ %a = {one} scf.if %c {{ %b = {one} }} return }}", "toy_cse.one") == 1


def test_operations_that_are_not_pure_stay() -> None:
    random = '"toy_cse.random"() : () -> i32'
    assert count(f"func.func @f() {{ %a = {random} %b = {random} return }}", "toy_cse.random") == 2
