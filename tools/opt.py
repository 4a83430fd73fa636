"""`bitmlir-opt`: reads IR, runs passes on it, prints it; with the habits of MLIR's own `mlir-opt`.

Exit codes: 0 fine; 1 the input does not parse, verify or lower; 2 wrong usage, a bad pipeline included; 70 our fault.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bitmlir.dialects.errors import PipelineError
from bitmlir.lowering.passes import PASSES, get_pass, summary
from bitmlir.tools.cli import BAD_INPUT, OK, read_input, run_tool, version_line, write_output

# MLIR takes a quarter of a second to import; --help, --version and most usage errors do without.
if TYPE_CHECKING:
    from mlir import ir
    from mlir.passmanager import PassManager

    from bitmlir.lowering.diagnostics import Diagnostic
    from bitmlir.lowering.pipeline import Pipeline

__all__ = ["main"]

NAME = "bitmlir-opt"
SPLIT_MARKER = "// -----"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool on these arguments, by default the process's, and return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return run_tool(NAME, lambda: _main(arguments))


def _main(argv: list[str]) -> int:
    args, flags = _parse_arguments(argv)
    for asked, answer in ((args.list_passes, _pass_list), (args.show_dialects, _dialects), (args.dump_irdl, _irdl)):
        if asked:
            write_output(args.output, answer())
            return OK
    pipeline = _pipeline(args.pass_pipeline, flags)
    text = read_input(args.input)
    source = "<stdin>" if args.input == "-" else args.input
    outputs = []
    failed = False
    for chunk in _chunks(text) if args.split_input_file else [_Chunk(text)]:
        result = _process(chunk, pipeline, args, source)
        if args.verify_diagnostics:
            complaints = _unexpected(chunk, result.diagnostics, source)
            failed |= bool(complaints)
        else:
            complaints = [line for diagnostic in result.diagnostics for line in diagnostic.lines(source)]
            failed |= result.output is None
        for line in complaints:
            print(line, file=sys.stderr)
        outputs.append(result.output or "")
    if failed:
        return BAD_INPUT
    write_output(args.output, f"{SPLIT_MARKER}\n".join(outputs))
    return OK


# --- arguments ------------------------------------------------------------------------------------


def _parse_arguments(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options, and the flags that are none: those name passes, in the order to run them."""
    parser = argparse.ArgumentParser(
        NAME,
        description="Run passes on MLIR that may hold bitmlir's dialect, and print the result.",
        epilog="Every pass is a flag too, --PASS or --PASS=OPTIONS, and they run in the order given: ours, see "
        "--list-passes, and MLIR's own. MLIR's spelling with a single dash (-split-input-file) is accepted.",
        allow_abbrev=False,
    )
    on = "store_true"
    parser.add_argument("input", nargs="?", default="-", help="the file to read; '-', the default, is standard input")
    parser.add_argument("-o", dest="output", metavar="FILE", default="-", help="where to write; '-' is standard output")
    parser.add_argument("--pass-pipeline", metavar="TEXT", help="passes to run, such as 'builtin.module(bit-cse,cse)'")
    parser.add_argument("--split-input-file", action=on, help=f"process the parts between '{SPLIT_MARKER}' separately")
    parser.add_argument("--verify-diagnostics", action=on, help="compare diagnostics with the expected-… comments")
    parser.add_argument("--allow-unregistered-dialect", action=on, help="accept operations of unknown dialects")
    parser.add_argument("--verify-each", type=_boolean, metavar="BOOL", default=True, help="verify after every pass")
    parser.add_argument("--mlir-print-ir-before-all", action=on, help="print the IR before every pass, to stderr")
    parser.add_argument("--mlir-print-ir-after-all", action=on, help="print the IR after every pass, to stderr")
    parser.add_argument("--mlir-print-op-generic", action=on, help="print operations in their generic form")
    parser.add_argument("--mlir-print-debuginfo", action=on, help="print locations")
    parser.add_argument("--mlir-timing", action=on, help="print the time each pass took, to stderr")
    parser.add_argument("--list-passes", action=on, help="list our passes and named pipelines")
    parser.add_argument("--show-dialects", action=on, help="list the dialects that are known")
    parser.add_argument("--dump-irdl", action=on, help="print the dialect's definition, for mlir-opt --irdl-file")
    parser.add_argument("--version", action="version", version=version_line(NAME))
    args, rest = parser.parse_known_args([_double_dash(argument) for argument in argv])
    if stray := [argument for argument in rest if not argument.startswith("--")]:
        parser.error(f"unexpected argument '{stray[0]}': there is one input file, and options start with '-'")
    if rest and args.pass_pipeline is not None:
        parser.error(f"'{rest[0]}' cannot be combined with --pass-pipeline: put the pass into the pipeline")
    return args, rest


def _double_dash(argument: str) -> str:
    """MLIR's long options may be written with a single dash."""
    return f"-{argument}" if re.match(r"-[a-z][\w-]", argument) else argument


def _boolean(text: str) -> bool:
    if text not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"expected true or false, but got '{text}'")
    return text in ("true", "1")


def _pipeline(text: str | None, flags: list[str]) -> Pipeline:
    """The pipeline of --pass-pipeline, or of the flags that name passes."""
    from bitmlir.lowering.pipeline import Pipeline, parse_pipeline

    if text is not None:
        return parse_pipeline(text)
    steps = []
    for flag in flags:
        try:
            steps += parse_pipeline(_element(flag)).steps
        except PipelineError as error:
            raise PipelineError(f"argument {flag}: {error}") from error
    return Pipeline(tuple(steps))


def _element(flag: str) -> str:
    """A flag as pipeline text; our passes are nested where they run."""
    name, _, options = flag.removeprefix("--").partition("=")
    text = f"{name}{{{options}}}" if options else name
    anchor = get_pass(name).anchor if name in PASSES else "any"
    return text if anchor in ("any", "builtin.module") else f"{anchor}({text})"


# --- what is known --------------------------------------------------------------------------------


def _pass_list() -> str:
    from bitmlir.lowering.pipeline import PIPELINES

    names = {name: summary(name) for name in PASSES}
    names |= {name: (template.__doc__ or "").partition("\n")[0] for name, template in PIPELINES.items()}
    return "".join(f"{name:<20}{text}\n" for name, text in names.items())


def _dialects() -> str:
    """The names of the dialects, one a line: ours, and those of the bindings' modules that MLIR knows."""
    import pkgutil

    import mlir.dialects
    from mlir import ir

    from bitmlir.dialects import bit

    modules = [module.name for module in pkgutil.iter_modules(mlir.dialects.__path__)]
    names = {name.removeprefix("_").removesuffix("_ops_gen") for name in modules} | {"builtin", bit.dialect.name}
    context = ir.Context()
    with context:
        bit.load(context)
        return "".join(f"{name}\n" for name in sorted(names) if _is_dialect(context, name))


def _is_dialect(context: ir.Context, name: str) -> bool:
    try:
        context.get_dialect_descriptor(name)
    except ValueError:
        return False
    return True


def _irdl() -> str:
    from mlir import ir

    from bitmlir.dialects import bit

    with ir.Context(), ir.Location.unknown():
        return f"{bit.dialect.irdl_module()}\n"


# --- processing -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Chunk:
    """A part of the input that is a module of its own, and the number of its first line."""

    text: str
    first_line: int = 1


@dataclass(frozen=True)
class _Result:
    """The IR as printed, None if there was an error, and what was reported."""

    output: str | None
    diagnostics: tuple[Diagnostic, ...]


def _chunks(text: str) -> Iterator[_Chunk]:
    first_line = 1
    for part in re.split(f"(?m)^{SPLIT_MARKER}.*$", text):
        yield _Chunk(part, first_line)
        first_line += part.count("\n")


def _process(chunk: _Chunk, pipeline: Pipeline, args: argparse.Namespace, source: str) -> _Result:
    from mlir import ir

    from bitmlir.dialects import bit
    from bitmlir.lowering.diagnostics import TEXT_NAME, Diagnostic
    from bitmlir.lowering.parsing import parse_module
    from bitmlir.lowering.pipeline import run_pipeline

    diagnostics: list[Diagnostic] = []

    def keep(diagnostic: ir.Diagnostic) -> bool:
        diagnostics.append(Diagnostic.of(diagnostic))
        return True

    def configure(manager: PassManager) -> None:
        manager.enable_verifier(args.verify_each)
        before, after = args.mlir_print_ir_before_all, args.mlir_print_ir_after_all
        if before or after:
            manager.enable_ir_printing(print_before_all=before, print_after_all=after)
        if args.mlir_timing:
            manager.enable_timing()

    context = ir.Context()
    with context, context.attach_diagnostic_handler(keep):  # type: ignore[attr-defined]  # the stubs say `object`
        context.enable_multithreading(False)  # printing and timing need it; one small module gains nothing from threads
        context.allow_unregistered_dialects = args.allow_unregistered_dialect
        context.emit_error_diagnostics = True  # to the handler, rather than into the exception
        try:
            bit.load(context)
            module = parse_module(chunk.text, source, chunk.first_line)
            run_pipeline(module, pipeline, configure=configure)
            generic, locations = args.mlir_print_op_generic, args.mlir_print_debuginfo
            output = str(module.operation.get_asm(print_generic_op_form=generic, enable_debug_info=locations))
        except ir.MLIRError as error:  # type: ignore[attr-defined]  # the stubs omit it
            if not any(diagnostic.severity == "error" for diagnostic in diagnostics):
                diagnostics.append(Diagnostic("error", None, str(error)))
            return _Result(None, tuple(diagnostics))
    # `Module.parse` takes no file name and puts this one into the locations.
    return _Result(output.replace(f'loc("{TEXT_NAME}":', f'loc("{source}":'), tuple(diagnostics))


def _unexpected(chunk: _Chunk, diagnostics: Sequence[Diagnostic], source: str) -> list[str]:
    from bitmlir.tools.expectations import disagreements, parse_expectations

    return list(disagreements(parse_expectations(chunk.text, chunk.first_line), diagnostics, source))


if __name__ == "__main__":
    sys.exit(main())
