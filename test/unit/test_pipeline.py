"""The pipeline language: what it reads, how it refuses, and in which order it runs what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pytest
from mlir import ir

from bitmlir.dialects.errors import InputError, PipelineError
from bitmlir.lowering import passes, pipeline
from bitmlir.lowering.diagnostics import error_lines
from bitmlir.lowering.passes import Pass, fail
from bitmlir.lowering.pipeline import parse_pipeline, run_pipeline

MARKS = "toy.marks"

MODULE = """
func.func @f() -> i32 {
  %a = arith.constant 1 : i32
  %b = arith.constant 1 : i32
  return %b : i32
}
gpu.module @kernels {
  func.func @inner() { return }
}
"""


@dataclass(frozen=True)
class Mark(Pass):
    """Leave a mark on the operation."""

    name: ClassVar[str] = "mark"

    text: str
    times: int = 1
    loud: bool = False

    def __post_init__(self) -> None:
        if self.times < 1:
            raise InputError(f"times must be at least 1, not {self.times}")

    def run(self, op: ir.Operation) -> None:
        old = [str(a) for a in op.attributes.get(MARKS, ir.ArrayAttr.get([]))]
        marks = [*old, *[f'"{self.text.upper() if self.loud else self.text}"'] * self.times]
        op.attributes[MARKS] = ir.Attribute.parse(f"[{', '.join(marks)}]")


@dataclass(frozen=True)
class KernelsOnly(Pass):
    """Run on gpu.module."""

    name: ClassVar[str] = "kernels-only"
    anchor: ClassVar[str] = "gpu.module"

    def run(self, op: ir.Operation) -> None:
        assert op.name == "gpu.module"


@dataclass(frozen=True)
class Refuse(Pass):
    """Refuse every function's first operation."""

    name: ClassVar[str] = "refuse"

    def run(self, op: ir.Operation) -> None:
        fail(op.regions[0].blocks[0].operations[0], "not this one")


@dataclass(frozen=True)
class Crash(Pass):
    """Raise what a faulty pass might raise."""

    name: ClassVar[str] = "crash"
    error: ClassVar[Exception] = ZeroDivisionError("a fault in the pass")

    def run(self, op: ir.Operation) -> None:
        raise self.error


@pytest.fixture(autouse=True)
def _toy_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    toys = {toy.name: f"{__name__}:{toy.__name__}" for toy in (Mark, KernelsOnly, Refuse, Crash)}
    known = {**passes.PASSES, **toys}
    monkeypatch.setattr(passes, "PASSES", known)
    monkeypatch.setattr(pipeline, "PASSES", known)
    named = {
        **pipeline.PIPELINES,
        "twice": lambda text, then="cse": f"mark{{text={text}}},func.func({then}),mark{{text={text}}}",
        "endless": lambda: "cse,endless",
        "broken": lambda: "cse,csee",
        "wrapped": lambda: "builtin.module(cse,mark{text=w})",
    }
    monkeypatch.setattr(pipeline, "PIPELINES", named)


@pytest.fixture
def module() -> Iterator[ir.Module]:
    with ir.Context():
        yield ir.Module.parse(MODULE)


def marks(op: ir.Operation | ir.OpView) -> list[str]:
    return [ir.StringAttr(mark).value for mark in op.attributes[MARKS]] if MARKS in op.attributes else []


# --- what it reads --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("cse", "builtin.module(cse)"),
        (" builtin.module( cse , bit-dce ) ", "builtin.module(cse,bit-dce)"),
        ("func.func(cse,bit-cse),canonicalize", "builtin.module(func.func(cse,bit-cse),canonicalize)"),
        ("canonicalize{ max-iterations=3 }", "builtin.module(canonicalize{max-iterations=3})"),
        ("builtin.module(builtin.module(cse))", "builtin.module(builtin.module(cse))"),
        ("any(cse)", "builtin.module(any(cse))"),
        ("builtin.module()", "builtin.module()"),
        ("gpu.module(func.func(bit-dce))", "builtin.module(gpu.module(func.func(bit-dce)))"),
        ("mark{text=a}", "builtin.module(mark{text=a})"),
        ("mark{text=a times=1 loud=false}", "builtin.module(mark{text=a})"),
        ("mark{loud text='a b' times=2}", "builtin.module(mark{text={a b} times=2 loud=true})"),
        ("twice{text=x}", "builtin.module(mark{text=x},func.func(cse),mark{text=x})"),
        ("twice{text=x then=bit-dce}", "builtin.module(mark{text=x},func.func(bit-dce),mark{text=x})"),
        ("cse{}", "builtin.module(cse)"),
        ("cse,\n  bit-dce\n", "builtin.module(cse,bit-dce)"),
    ],
)  # fmt: skip
def test_text_reads_as_the_same_steps_as_its_canonical_text(text: str, canonical: str) -> None:
    parsed = parse_pipeline(text)
    assert str(parsed) == canonical
    assert parse_pipeline(canonical) == parsed


def test_nesting_too_deep_to_read_is_refused() -> None:
    with pytest.raises(PipelineError, match="the pipeline's parentheses are nested too deeply"):
        parse_pipeline("func.func(" * 100_000 + "cse" + ")" * 100_000)


# --- how it refuses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 1, "expected the name of a pass, but got the end"),
        ("cse,", 5, "expected the name of a pass, but got the end"),
        ("cse,,cse", 5, "expected the name of a pass, but got ','"),
        ("func.func(cse,)", 15, "expected the name of a pass, but got ')'"),
        ("func.func()", 1, "'func.func()' names no pass: write func.func(pass, …)"),
        ("cse bit-dce", 5, "expected ',' or the end"),
        ("cse)", 4, "this ')' closes nothing"),
        ("func.func(cse", 10, "this '(' is never closed"),
        ("func.func(cse cse)", 15, "expected ',' or ')'"),
        ("mark{text=a", 5, "this '{' is never closed"),
        ("mark{text=a}(cse)", 13, "expected ',' or the end"),
        ("bit-csee", 1, "unknown pass 'bit-csee': did you mean 'bit-cse'?"),
        ("cse,canonicalise", 5, "unknown pass 'canonicalise': did you mean 'canonicalize'?"),
        ("twise", 1, "unknown pass 'twise': did you mean 'twice'?"),
        ("xyzzy", 1, "unknown pass 'xyzzy'\n"),
        ("func.func(xyzzy)", 11, "unknown pass 'xyzzy'\n"),
        ("cse{size=1}", 1, "pass 'cse': no such option size"),
        ("canonicalize{max-iterations=many}", 1, "pass 'canonicalize': an option has a value that MLIR cannot read"),
        ("gpu-async-region", 1, "restricted to 'func.func' on a PassManager intended to run on 'builtin.module'"),
        ("gpu-module-to-binary{format=exe}", 1, "option 'format' of 'gpu-module-to-binary' must be one of assembly"),
        ("gpu-lower-to-nvvm-pipeline", 1, "could end the process on wrong options: write out its passes"),
        ("any(gpu-module-to-binary)", 5, "pass 'gpu-module-to-binary' cannot run in any(…)"),
        ("mark", 1, "pass 'mark' needs its option 'text': write mark{text=…}"),
        ("mark{text}", 1, "option 'text' of pass 'mark' must be a value, but is nothing"),
        ("mark{text=a times=two}", 1, "option 'times' of pass 'mark' must be a whole number, but is 'two'"),
        ("mark{text=a loud=maybe}", 1, "option 'loud' of pass 'mark' must be true or false, but is 'maybe'"),
        ("mark{text=a text=b}", 1, "option 'text' is given twice"),
        ("mark{text=a color=red}", 1, "pass 'mark' has no option 'color': it has text, times, loud"),
        ("mark{text=a ,}", 1, "expected options of the form name=value, but got ','"),
        ("mark{text=a times=0}", 1, "pass 'mark': times must be at least 1, not 0"),
        ("kernels-only", 1, "'kernels-only' runs on gpu.module, not on builtin.module: write gpu.module(kernels-only)"),
        ("gpu.module(func.func(kernels-only))", 22, "runs on gpu.module, not on func.func"),
        ("any(bit-dce)", 5, "pass 'bit-dce' cannot run in any(…): name the operation it should run on"),
        ("mark(cse)", 1, "'mark' is a pass: its options stand in braces, mark{…}"),
        ("module(cse)", 1, "'module' is no operation to nest passes in: write its full name, such as func.func(…)"),
        ("twice", 1, "pipeline 'twice' needs its option 'text': write twice{text=…}"),
        ("twice{text}", 1, "option 'text' of pipeline 'twice' needs a value: text=…"),
        ("twice{text=a size=1}", 1, "pipeline 'twice' has no option 'size': it has text, then"),
        ("func.func(twice{text=a})", 11, "pipeline 'twice' runs on builtin.module, not on func.func"),
        ("bit-ptx{target=cpu}", 1, "pipeline 'bit-ptx': target 'cpu' has no PTX: expected one of sm_75, sm_80"),
        ("bit-ptx{target=sm_81}", 1, "pipeline 'bit-ptx': unknown target 'sm_81'"),
        ("bit-cpu{target=cpu}", 1, "pipeline 'bit-cpu' has no option 'target': it has none"),
        ("cse,endless", 5, "pipeline 'endless' contains itself"),
        ("cse,broken", 5, "inside 'broken', pipeline, column 5: unknown pass 'csee': did you mean 'cse'?"),
    ],
)  # fmt: skip
def test_a_fault_in_the_text_is_named_and_pointed_at(text: str, column: int, message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        parse_pipeline(text)
    said = str(caught.value)
    assert said.startswith(f"pipeline, column {column}: ")
    assert message in said
    assert said.endswith(f"\n  {text}\n  {' ' * (column - 1)}^")


def test_a_fault_in_text_of_several_lines_shows_its_line() -> None:
    with pytest.raises(PipelineError) as caught:
        parse_pipeline("cse,\n  bit-dce,\n  bit-csee,\n  cse")
    assert str(caught.value) == (
        "pipeline, line 3, column 3: unknown pass 'bit-csee': did you mean 'bit-cse'?\n    bit-csee,\n    ^"
    )


def test_nothing_runs_if_any_part_of_the_text_is_wrong(module: ir.Module) -> None:
    with pytest.raises(PipelineError, match="unknown pass"):
        run_pipeline(module, "mark{text=a},func.func(csee)")
    assert marks(module.operation) == []


# --- how it runs ----------------------------------------------------------------------------------


def test_our_passes_and_upstreams_run_in_the_order_written(module: ir.Module) -> None:
    seen: list[tuple[str, int]] = []

    def constants(name: str, whole: ir.Module) -> None:
        seen.append((name, str(whole).count("arith.constant")))

    run_pipeline(module, "mark{text=a},cse,mark{text=b},canonicalize", after_each=constants)
    assert seen == [("mark", 2), ("cse", 1), ("mark", 1), ("canonicalize", 1)]
    assert marks(module.operation) == ["a", "b"]


def test_a_nested_pass_runs_on_direct_children_of_that_name_only(module: ir.Module) -> None:
    run_pipeline(module, "mark{text=m},func.func(mark{text=f},cse),gpu.module(func.func(mark{text=g}))")
    function, kernels = module.body.operations
    (inner,) = kernels.regions[0].blocks[0].operations
    assert [marks(op) for op in (module.operation, function, kernels, inner)] == [["m"], ["f"], [], ["g"]]
    assert str(function).count("arith.constant") == 1


def test_after_each_is_told_of_nested_passes_once_for_each_operation(module: ir.Module) -> None:
    names: list[str] = []
    run_pipeline(
        module,
        "func.func(cse,mark{text=a}),gpu.module(func.func(canonicalize)),any(cse)",
        after_each=lambda name, whole: names.append(name),
    )
    assert names == ["cse", "mark", "canonicalize", "any"]


def test_upstream_passes_nested_in_any_run_on_every_operation(module: ir.Module) -> None:
    run_pipeline(module, "any(cse)")
    assert str(module).count("arith.constant") == 1


def test_configure_sees_every_pass_manager(module: ir.Module) -> None:
    managers: list[str] = []
    run_pipeline(
        module, "cse,mark{text=a},func.func(mark{text=b}),cse", configure=lambda manager: managers.append(str(manager))
    )
    assert managers == ["builtin.module()", "func.func()", "builtin.module()"]


def test_a_named_pipeline_may_spell_out_the_module(module: ir.Module) -> None:
    assert str(parse_pipeline("wrapped,cse")) == "builtin.module(cse,mark{text=w},cse)"


def test_a_parsed_pipeline_runs_on_modules_of_other_contexts() -> None:
    parsed = parse_pipeline("mark{text=a},cse")
    for _ in range(2):
        with ir.Context():
            module = ir.Module.parse(MODULE)
        run_pipeline(module, parsed)
        assert marks(module.operation) == ["a"]


def test_a_failing_pass_stops_the_pipeline_with_its_located_diagnostic(module: ir.Module) -> None:
    with pytest.raises(ir.MLIRError) as caught:
        run_pipeline(module, "mark{text=a},func.func(refuse),mark{text=b}")
    assert error_lines(caught.value, "my.mlir") == ("my.mlir:3:8: error: not this one",)
    assert marks(module.operation) == ["a"]


def test_operations_built_by_a_pass_take_the_location_of_what_it_runs_on(
    module: ir.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []
    monkeypatch.setattr(KernelsOnly, "run", lambda self, op: found.append(str(ir.Location.current)))
    run_pipeline(module, "gpu.module(kernels-only)")
    assert found == ['loc("-":7:1)']


def test_an_exception_in_a_pass_comes_out_unchanged(module: ir.Module) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run_pipeline(module, "mark{text=a},func.func(crash)")
    assert caught.value is Crash.error


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ('#nvvm.target<chip = "sm_999", features = "+ptx80">', "unknown chip 'sm_999'"),
        ('#nvvm.target<chip = "sm_80", features = "junk">', "features are 'junk'"),
    ],
)
def test_what_would_end_the_process_in_llvm_is_refused_before(target: str, message: str) -> None:
    kernels = f"gpu.module @k [{target}] {{ }}"
    nested = "builtin.module(gpu-module-to-binary{format=isa})"
    for source, text in (
        (kernels, "gpu-module-to-binary"),
        (f"module {{ module {{ {kernels} }} }}", f"builtin.module({nested})"),
    ):
        with ir.Context():
            module = ir.Module.parse(source)
        with pytest.raises(ir.MLIRError, match=message):
            run_pipeline(module, text)


def test_every_registered_pass_is_what_the_table_says() -> None:
    for name in passes.PASSES:
        class_ = passes.get_pass(name)
        assert class_.name == name
        assert class_.anchor in ("builtin.module", "gpu.module", "any")
        assert passes.summary(name).endswith(".")
