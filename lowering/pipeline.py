"""The pipeline language: MLIR's textual pass pipelines, in which Python passes and upstream's mix, and their execution.

    pipeline := element (',' element)*
    element  := pass-name ['{' options '}'] | operation-name '(' pipeline ')'

The outer `builtin.module(…)` may be left out. Everything is checked before anything runs: `parse_pipeline` knows our
passes from `passes.PASSES`, the named pipelines from `PIPELINES`, and asks MLIR about the rest.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NoReturn

from mlir import ir
from mlir.passmanager import ExternalPass, PassManager

from bitmlir.dialects.errors import InputError, PipelineError, TargetError
from bitmlir.lowering.passes import PASSES, Pass, PassFailure, get_pass, parse_options
from bitmlir.lowering.stages import stage_pipelines
from bitmlir.lowering.targets import TARGETS, get_target

__all__ = ["PIPELINES", "Nested", "Pipeline", "Step", "Upstream", "parse_pipeline", "run_pipeline"]

# --- named pipelines ------------------------------------------------------------------------------


def bit_cpu() -> str:
    """From `bit` on tensors to LLVM's dialect, for the CPU."""
    return ",".join(stage_pipelines(get_target("cpu")).values())


def bit_ptx(target: str) -> str:
    """From `bit` on tensors to PTX for a chip, bit-ptx{target=sm_90a}."""
    chip = get_target(target)
    if not chip.is_gpu:
        chips = ", ".join(name for name, known in TARGETS.items() if known.is_gpu)
        raise TargetError(f"target '{target}' has no PTX: expected one of {chips}")
    return ",".join(stage_pipelines(chip).values())


# Name -> function from options to text at the level of the module. Its parameters, all of them strings, are the
# options; the first line of its docstring is its summary.
PIPELINES: Mapping[str, Callable[..., str]] = MappingProxyType({"bit-cpu": bit_cpu, "bit-ptx": bit_ptx})

# --- the parsed pipeline --------------------------------------------------------------------------

MODULE = "builtin.module"
ANY = "any"


@dataclass(frozen=True)
class Upstream:
    """A pass that MLIR brings, as MLIR reads it."""

    name: str
    options: str = ""

    def __str__(self) -> str:
        return f"{self.name}{{{self.options}}}" if self.options else self.name


@dataclass(frozen=True)
class Nested:
    """Steps that run on each `anchor` operation directly inside the current one."""

    anchor: str
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return f"{self.anchor}({','.join(map(str, self.steps))})"


Step = Pass | Upstream | Nested


@dataclass(frozen=True)
class Pipeline:
    """Checked steps that run on a module; `str()` is text that parses back to the same steps."""

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return str(Nested(MODULE, self.steps))


def parse_pipeline(text: str, context: ir.Context | None = None) -> Pipeline:
    """Read and check a pipeline; nothing runs.

    `context` is where upstream passes are looked up; any will do, and without one a fresh one is made.

    Raises:
        PipelineError: the text is malformed, a pass or option is unknown, or a pass is nested where it cannot run.

    Example:
        >>> str(parse_pipeline("bit-dce, func.func(canonicalize{max-iterations=2}, cse)"))
        'builtin.module(bit-dce,func.func(canonicalize{max-iterations=2},cse))'
    """
    if context is None:
        context = ir.Context(load_on_create_dialects=[])  # pyright: ignore[reportCallIssue]  # the stubs omit it
    try:
        return Pipeline(_Resolver(text, context).pipeline())
    except RecursionError:
        raise PipelineError("the pipeline's parentheses are nested too deeply") from None


# --- syntax ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Element:
    """One element as written; `options` and `nested` are None where there are no braces or parentheses."""

    name: str
    position: int
    options: str | None
    nested: tuple[_Element, ...] | None


class _Parser:
    """Recursive descent over the text of a pipeline."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def parse(self) -> tuple[_Element, ...]:
        elements = self._elements()
        if self._next():
            self._fault("expected ',' or the end" if self._next() != ")" else "this ')' closes nothing")
        return elements

    def _elements(self) -> tuple[_Element, ...]:
        elements = [self._element()]
        while self._next() == ",":
            self._position += 1
            elements.append(self._element())
        return tuple(elements)

    def _element(self) -> _Element:
        came = f"'{self._next()}'" if self._next() else "the end"
        start = self._position
        match = re.compile(r"[\w.-]+").match(self._text, start)
        if match is None:
            self._fault(f"expected the name of a pass, but got {came}")
        name = match[0]
        self._position += len(name)
        if self._next() == "{":
            return _Element(name, start, self._options(), None)
        return _Element(name, start, None, self._nested() if self._next() == "(" else None)

    def _options(self) -> str:
        start = self._position
        depth = 0
        for mark in re.compile("[{}]").finditer(self._text, start):
            depth += 1 if mark.group() == "{" else -1
            if depth == 0:
                self._position = mark.end()
                return self._text[start + 1 : mark.start()].strip()
        self._fault("this '{' is never closed")

    def _nested(self) -> tuple[_Element, ...]:
        start = self._position
        self._position += 1
        elements = () if self._next() == ")" else self._elements()
        if not self._next():
            self._position = start
            self._fault("this '(' is never closed")
        if self._next() != ")":
            self._fault("expected ',' or ')'")
        self._position += 1
        return elements

    def _next(self) -> str:
        """The next character that is not a space, or "" at the end."""
        while self._text[self._position : self._position + 1].isspace():
            self._position += 1
        return self._text[self._position : self._position + 1]

    def _fault(self, message: str) -> NoReturn:
        raise _error(self._text, self._position, message)


def _error(text: str, position: int, message: str) -> PipelineError:
    """An error that shows the line of the text and points at the position."""
    start = text.rfind("\n", 0, position) + 1
    line = text[start:].split("\n", 1)[0]
    row, column = text.count("\n", 0, position), position - start
    place = f"line {row + 1}, column {column + 1}" if "\n" in text else f"column {column + 1}"
    return PipelineError(f"pipeline, {place}: {message}\n  {line}\n  {' ' * column}^")


# --- meaning --------------------------------------------------------------------------------------

# Only for suggestions: MLIR's Python API does not list its passes.
_UPSTREAM_NAMES = (
    "canonicalize",
    "convert-arith-to-llvm",
    "convert-cf-to-llvm",
    "convert-func-to-llvm",
    "convert-gpu-to-nvvm",
    "convert-index-to-llvm",
    "convert-math-to-llvm",
    "convert-nvvm-to-llvm",
    "convert-scf-to-cf",
    "convert-vector-to-llvm",
    "convert-vector-to-scf",
    "cse",
    "expand-strided-metadata",
    "finalize-memref-to-llvm",
    "gpu-module-to-binary",
    "inline",
    "loop-invariant-code-motion",
    "lower-affine",
    "nvvm-attach-target",
    "reconcile-unrealized-casts",
    "sccp",
    "strip-debuginfo",
    "symbol-dce",
)

# Option values that MLIR does not refuse but asserts on, which would end the process: pass -> option -> what it takes.
_LEGAL_VALUES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "gpu-module-to-binary": {
        "format": ("assembly", "isa", "binary", "bin", "fatbinary", "fatbin", "offloading", "llvm"),
    },
}

# Upstream pipelines that hold such passes with options of their own.
_REFUSED = frozenset({"gpu-lower-to-nvvm-pipeline", "gpu-lower-to-xevm-pipeline"})

# The same for the IR: upstream pass -> the pass of ours that runs before it and refuses what it cannot take.
_GUARDS: Mapping[str, str] = {"gpu-module-to-binary": "nvvm-check-target"}


@dataclass(frozen=True)
class _Resolver:
    """Turns elements as written into checked steps."""

    text: str
    context: ir.Context
    expanding: tuple[str, ...] = ()  # the named pipelines whose text this is

    def pipeline(self) -> tuple[Step, ...]:
        """The steps of the whole text."""
        elements = _Parser(self.text).parse()
        if len(elements) == 1 and elements[0].name == MODULE and elements[0].nested is not None:
            elements = elements[0].nested
        return self.steps(elements, MODULE)

    def steps(self, elements: Iterable[_Element], anchor: str) -> tuple[Step, ...]:
        return tuple(step for element in elements for step in self._steps_of(element, anchor))

    def _steps_of(self, element: _Element, anchor: str) -> tuple[Step, ...]:
        try:
            if element.nested is None:
                return self._steps_named(element.name, element.options or "", anchor)
            _check_nest(element.name, element.nested)
        except PipelineError as error:
            raise _error(self.text, element.position, str(error)) from error
        return (Nested(element.name, self.steps(element.nested, element.name)),)

    def _steps_named(self, name: str, options: str, anchor: str) -> tuple[Step, ...]:
        if name in PASSES:
            return (_python_pass(name, options, anchor),)
        if name in PIPELINES:
            return self._expanded(name, options, anchor)
        return (_upstream_pass(Upstream(name, options), anchor, self.context),)

    def _expanded(self, name: str, options: str, anchor: str) -> tuple[Step, ...]:
        if anchor != MODULE:
            raise PipelineError(f"pipeline '{name}' runs on {MODULE}, not on {anchor}")
        if name in self.expanding:
            raise PipelineError(f"pipeline '{name}' contains itself")
        text = _template_text(name, parse_options(options))
        inner = _Resolver(text, self.context, (*self.expanding, name))
        try:
            return inner.pipeline()
        except PipelineError as error:
            raise PipelineError(f"inside '{name}', {error}") from error


def _check_nest(name: str, nested: tuple[_Element, ...]) -> None:
    if name in PASSES or name in PIPELINES:
        raise PipelineError(f"'{name}' is a pass: its options stand in braces, {name}{{…}}")
    if "." not in name and name != ANY:
        raise PipelineError(f"'{name}' is no operation to nest passes in: write its full name, such as func.func(…)")
    if not nested:
        raise PipelineError(f"'{name}()' names no pass: write {name}(pass, …)")


def _python_pass(name: str, options: str, anchor: str) -> Pass:
    class_ = get_pass(name)
    if anchor == ANY:
        raise PipelineError(f"pass '{name}' cannot run in any(…): name the operation it should run on")
    if class_.anchor not in (ANY, anchor):
        raise PipelineError(f"pass '{name}' runs on {class_.anchor}, not on {anchor}: write {class_.anchor}({name})")
    return class_.from_options(parse_options(options))


def _template_text(name: str, options: Mapping[str, str | None]) -> str:
    """The text a named pipeline stands for."""
    template = PIPELINES[name]
    parameters = {p.name.replace("_", "-"): p for p in inspect.signature(template).parameters.values()}
    for option, value in options.items():
        if option not in parameters:
            raise PipelineError(f"pipeline '{name}' has no option '{option}': it has {', '.join(parameters) or 'none'}")
        if value is None:
            raise PipelineError(f"option '{option}' of pipeline '{name}' needs a value: {option}=…")
    for option, parameter in parameters.items():
        if option not in options and parameter.default is parameter.empty:
            raise PipelineError(f"pipeline '{name}' needs its option '{option}': write {name}{{{option}=…}}")
    try:
        return template(**{option.replace("-", "_"): value for option, value in options.items()})
    except InputError as error:
        raise PipelineError(f"pipeline '{name}': {error}") from error


def _upstream_pass(step: Upstream, anchor: str, context: ir.Context) -> Upstream:
    if step.name in _REFUSED:
        raise PipelineError(
            f"'{step.name}' could end the process on wrong options: write out its passes, or use bit-ptx"
        )
    try:
        PassManager.parse(f"{anchor}({step})", context)
    except ValueError as error:
        if "does not refer to a registered pass" in str(error):
            raise PipelineError(f"unknown pass '{step.name}'{_suggestion(step.name)}") from None
        raise PipelineError(f"pass '{step.name}': {_upstream_reason(error)}") from None
    if anchor == ANY and step.name in _GUARDS:
        raise PipelineError(f"pass '{step.name}' cannot run in any(…): name the operation it should run on")
    for option, legal in _LEGAL_VALUES.get(step.name, {}).items():
        value = parse_options(step.options).get(option, legal[0])
        if value not in legal:
            raise PipelineError(f"option '{option}' of '{step.name}' must be one of {', '.join(legal)}, not '{value}'")
    return step


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name, [*PASSES, *PIPELINES, *_UPSTREAM_NAMES], n=1)
    return f": did you mean '{close[0]}'?" if close else ""


def _upstream_reason(error: ValueError) -> str:
    """What MLIR says about a pass it refuses, without the part that repeats our question."""
    reason = str(error).partition("failed to add")[0].replace("<Pass-Options-Parser>:", "").strip()
    return reason or "an option has a value that MLIR cannot read"


# --- execution ------------------------------------------------------------------------------------


def run_pipeline(
    module: ir.Module,
    pipeline: str | Pipeline,
    *,
    after_each: Callable[[str, ir.Module], None] | None = None,
    configure: Callable[[PassManager], None] | None = None,
) -> None:
    """Run a pipeline on a module, in place.

    `after_each(name, module)` is called after every pass; after one that is nested, once for each operation it ran on.
    `configure(manager)` is called on every pass manager before it runs, to turn printing or timing on.

    Raises:
        PipelineError: the text of the pipeline is wrong; nothing has run.
        mlir.ir.MLIRError: a pass failed; it carries the located diagnostics.
        Exception: whatever a Python pass raised, unchanged.
    """
    if isinstance(pipeline, str):
        pipeline = parse_pipeline(pipeline, module.context)
    with module.context:
        _Executor(module, after_each, configure).run(module.operation, pipeline.steps)


@dataclass(frozen=True)
class _Executor:
    """Runs steps on the operations of one module."""

    module: ir.Module
    after_each: Callable[[str, ir.Module], None] | None
    configure: Callable[[PassManager], None] | None

    def run(self, op: ir.Operation, steps: Iterable[Step]) -> None:
        """Run the steps in order; neighbours share a pass manager."""
        manager: PassManager | None = None
        for step in steps:
            if isinstance(step, Nested) and self._must_walk(step):
                if manager is not None:
                    manager.run(op)
                    manager = None
                for child in _children(op, step.anchor):
                    self.run(child, step.steps)
            else:
                if manager is None:
                    manager = PassManager(op.name)
                    if self.configure is not None:
                        self.configure(manager)
                self._add(manager, step)
        if manager is not None:
            manager.run(op)

    def _must_walk(self, step: Nested) -> bool:
        """Whether to visit the nested operations here: MLIR nests no Python callbacks."""
        return step.anchor != ANY and (self.after_each is not None or _needs_callback(step))

    def _add(self, manager: PassManager, step: Step) -> None:
        if isinstance(step, Pass):
            # Never give `op_name`: in MLIR 22 it leaves a dangling string, and a mismatch ends the process.
            manager.add(_callback(step), name=step.name, argument=step.name)
        else:
            if isinstance(step, Upstream) and step.name in _GUARDS:
                self._add(manager, get_pass(_GUARDS[step.name])())
            manager.add(str(step))
        if self.after_each is not None:
            name = step.anchor if isinstance(step, Nested) else step.name
            after_each, module = self.after_each, self.module
            manager.add(lambda _op, _handle: after_each(name, module), name=f"after {name}")


def _needs_callback(step: Step) -> bool:
    if isinstance(step, Nested):
        return any(map(_needs_callback, step.steps))
    return isinstance(step, Pass) or step.name in _GUARDS


def _callback(step: Pass) -> Callable[[ir.Operation, ExternalPass], None]:
    def run(op: ir.Operation, handle: ExternalPass) -> None:
        try:
            with op.location:  # where operations come from that are built without a location of their own
                step.run(op)
        except PassFailure:
            handle.signal_pass_failure()

    return run


def _children(op: ir.Operation, anchor: str) -> list[ir.Operation]:
    """The operations of that name directly inside `op`."""
    children = (child.operation for region in op.regions for block in region for child in block.operations)
    return [child for child in children if child.name == anchor]
