"""`bitmlir-codegen`: compiles a product, a convolution or a file of IR, prints it at any level, checks and times it.

Exit codes: 0 fine; 1 the input cannot be compiled, or --check found a wrong element; 2 wrong usage; 70 our fault.
"""

from __future__ import annotations

import functools
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from bitmlir import settings
from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.dialects.errors import InputError, ShapeError
from bitmlir.lowering.stages import stage_pipelines
from bitmlir.lowering.targets import TARGETS, Target, get_target
from bitmlir.runtime.bundle import STAGES
from bitmlir.runtime.plan import Launch
from bitmlir.spec import RESIDUALS, RESULTS, MatmulSpec
from bitmlir.tools.cli import OK, as_target, read_input, run_command, version_line, write_output

# numpy and MLIR take a quarter of a second to import; --help, the lists and wrong usage do without.
if TYPE_CHECKING:
    from bitmlir.executable import BoundCall, Executable
    from bitmlir.runtime.driver import Device
    from bitmlir.tools.check import Trial
    from bitmlir.tools.network import NetworkProgram, NetworkTrial

__all__ = ["main"]

NAME = "bitmlir-codegen"
PRODUCT, CONVOLUTION, NETWORK = "matmul", "conv2d", "network"
LEVELS = (*STAGES, "bundle")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool on these arguments, by default the process's, and return its exit code."""
    return run_command(NAME, command, argv)


# --- the command line -----------------------------------------------------------------------------


def _as_numbers(_context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    """Numbers with an x between them, for click."""
    if text is None:
        return None
    parts = text.split("x")
    if not all(part.isdecimal() for part in parts):
        raise click.BadParameter(f"expected numbers such as {parameter.metavar}, got {text!r}")
    return tuple(map(int, parts))


def _as_means(
    _context: click.Context, _parameter: click.Parameter, texts: tuple[str, str] | None
) -> tuple[list[float], ...] | None:
    """Two texts such as 0.5 or 0.485,0.456,0.406 as numbers."""
    try:
        return texts and tuple([float(number) for number in text.split(",")] for text in texts)
    except ValueError:
        raise click.BadParameter(f"expected numbers such as 0.485,0.456,0.406, got '{' '.join(texts or ())}'") from None


_numbers = functools.partial(click.option, callback=_as_numbers)
_size = functools.partial(click.option, type=click.IntRange(min=1), metavar="SIZE")
_count = functools.partial(click.option, metavar="N", show_default=True)
_switch = functools.partial(click.option, is_flag=True)


@click.command(NAME, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", metavar="matmul|conv2d|network|FILE", required=False)
@click.argument("name", metavar="[NAME]", required=False)
@_size("-m", help="matmul: rows of lhs and of the result.")
@_size("-n", help="matmul: rows of rhs, columns of the result.")
@_size("-k", help="matmul: elements in a row of lhs and of rhs.")
@_numbers("--images", metavar="NxHxWxC", help="conv2d: how many, their height and width, and channels.")
@_numbers("--filters", metavar="OxRxS", help="conv2d: how many, their height and width.")
@_numbers(
    "--stride", metavar="YxX", help="conv2d: from place to place, down and across, or one number; 1 if not given."
)
@_numbers(
    "--padding", metavar="YxX", help="conv2d: one number, down and across, or top, left, bottom, right; 0 if not given."
)
@_numbers("--dilation", metavar="YxX", help="conv2d: from tap to tap; 1 if not given.")
@_size("--groups", help="conv2d: of channels, and of filters, each of which sees its own alone; 1 if not given.")
@click.option(
    "--lhs", metavar="ENCODING", help="Of lhs, or of images: such as u1 to u8, i2 to i8, bipolar, ternary, u4@8."
)
@click.option("--rhs", metavar="ENCODING", help="The same for the other operand, or the filters.")
@click.option(
    "--out",
    metavar="RESULT",
    help=f"The result's elements, {', '.join(RESULTS)}, or an encoding to quantise to; i32 if not given.",
)
@_switch("--row-scale", help="matmul: multiply by a float for each row, before rounding or quantising.")
@_switch("--column-scale", help="Multiply by a float for each column, or filter.")
@_switch("--bias", help="Add a float for each column, or filter.")
@click.option("--residual", type=click.Choice(RESIDUALS), help="Add an array of this type to the result.")
@_switch("--relu", help="Make 0 of what is negative.")
@_switch("--lhs-tiles", help="matmul: lhs comes with a bitmap of its non-empty tiles.")
@_switch("--rhs-tiles", help="matmul: rhs comes with a bitmap of its non-empty tiles.")
@click.option("--weights", metavar="FILE", help="network: its arrays, in a .safetensors or .npz file.")
@click.option("--random", type=click.IntRange(min=0), metavar="SEED", help="network: random weights, to measure with.")
@click.option("--qonnx", metavar="FILE", help="network: the one of a QONNX file, in the place of NAME and its weights.")
@_size("--batch", help="network: images at once.")
@click.option("--bits", type=click.IntRange(min=1), metavar="N", help="network: of activations; 1 if not given.")
@click.option(
    "--normalised", nargs=2, callback=_as_means, metavar="MEAN STD",
    help="network: images are float32, (pixel/255 − mean)/std; a number each, or one a channel with commas.",
)  # fmt: skip
@click.option(
    "--target", default="auto", metavar="NAME", callback=as_target, help="See --list-targets; or auto, what is here."
)
@click.option(
    "--tile", metavar="KEY=VALUE,…", help="Divide products on a GPU so, not as tables and the cost model say."
)
@_switch("--explain", help="Print what each launch has to do, how it is divided and why, and the time to expect.")
@click.option(
    "--emit",
    type=click.Choice(LEVELS),
    help="What to print: ptx if not given, llvm on the CPU, and for networks the bundle.",
)
@click.option("-o", "output", metavar="FILE", help="Where to write; '-' is standard output, as if not given.")
@_switch("--no-cache", help="Neither read nor fill the compile cache.")
@_switch("--check", help="Run the program on random operands, or images, and compare the result with numpy's.")
@_count("--seed", type=click.IntRange(min=0), default=0, help="Of the random operands.")
@click.option(
    "--empty-tiles", type=click.FloatRange(0, 1), default=0.5, metavar="SHARE", show_default=True,
    help="Of the operands that come with a bitmap, the share of tiles that is empty.",
)  # fmt: skip
@_switch("--time", help="Measure how long a run takes, and of several launches each.")
@_count("--repeat", type=click.IntRange(min=1), default=20, help="How often to measure.")
@_switch("--list-targets", help="List the targets and what each has.")
@_switch("--env", help="List the environment variables, their values now, and what they do.")
@_switch("--version", help="Show the version.")
def command(
    *,
    source: str | None,
    name: str | None,
    target: str,
    tile: str | None,
    explain: bool,
    emit: str | None,
    output: str | None,
    no_cache: bool,
    check: bool,
    seed: int,
    empty_tiles: float,
    time: bool,
    repeat: int,
    list_targets: bool,
    env: bool,
    version: bool,
    **product: Any,
) -> int:
    """Compile a program and print it at a level of the lowering.

    The program is a product of two packed matrices, 'matmul' with -m, -n, -k, --lhs and --rhs; a convolution of packed
    images, 'conv2d' with --images, --filters, --lhs and --rhs; a FILE of MLIR in the bit dialect ('-' is standard
    input); or a 'network' with its NAME (see bitmlir.nn.zoo) and --weights, or --qonnx, and --batch, whose bundle holds
    kernels and weights:

    \b
        bitmlir-codegen matmul -m 512 -n 512 -k 1024 --lhs bipolar --rhs u2 --target sm_90a --emit ptx
        bitmlir-codegen conv2d --images 8x56x56x64 --filters 64x3x3 --padding 1 --lhs u2 --rhs bipolar --target cpu
        bitmlir-codegen FILE.mlir --target sm_80 --emit cubin -o kernel.cubin
        bitmlir-codegen network vgg16 --weights vgg16.safetensors --batch 512 --target sm_90a -o vgg16.bitmlir

    No GPU is needed to compile for one. --check and --time run the program on the GPU that is present if that can,
    else compiled for the CPU; they report on standard error. With these, or with --explain, the program is printed only
    if -o or --emit asks for it.
    """
    for asked, answer in (
        (version, functools.partial(version_line, NAME)),
        (list_targets, _target_table),
        (env, _environment),
    ):
        if asked:
            write_output(output or "-", answer())
            return OK
    if source is None:
        raise click.UsageError(
            f"expected '{PRODUCT}' or '{CONVOLUTION}' with its sizes and encodings, '{NETWORK}' with its name, or a "
            f"file of MLIR"
        )
    if name is not None and source != NETWORK:
        raise click.UsageError(f"Got unexpected extra argument ({name})")
    given = {option: value for option, value in product.items() if value is not None and value is not False}
    _check_options(source, given)
    if source == NETWORK:
        _check_network(name, given, tile, bool(output or emit or explain or check or time))
    spec = _spec(source, given)
    chosen = _resolved(target)
    if tile is not None and not chosen.is_gpu:
        raise click.UsageError(f"--tile: only for GPUs, but the target is '{chosen.name}'")
    level = emit or ("bundle" if source == NETWORK else "ptx" if chosen.is_gpu else "llvm")
    if level not in (known := _levels(chosen)):
        raise click.UsageError(f"a program for '{chosen.name}' has no level '{level}': expected {', '.join(known)}")
    if source == NETWORK:
        program = _network(name, not no_cache, **given)
    else:
        shown = "<stdin>" if source == "-" else source
        program = _Program(spec or read_input(source), shown, not no_cache, tile, empty_tiles)
    executable = program.compiled(chosen)
    if check or time:
        trial, device = _trial(program, chosen, seed)
        if check:
            print(f"check: exact ({_checked(trial)} elements, device {device})", file=sys.stderr)
        if time:
            print(f"time: {_summary(trial.time(repeat), program)}, device {device}", file=sys.stderr)
            print(*_shares(trial.call, repeat), sep="", end="", file=sys.stderr)
    if explain:
        write_output("-", f"{executable.explain()}\n")
    if output is not None or emit is not None or not (check or time or explain):
        write_output(output or "-", executable.emit(level))
    return OK


def _resolved(name: str) -> Target:
    if name != "auto":
        return get_target(name)
    from bitmlir.compiler import resolve_target

    return resolve_target(name)


def _levels(target: Target) -> list[str]:
    """The levels that a program for the target has, from high to low."""
    has = {*stage_pipelines(target), "llvm", "bundle"} | ({"cubin", "explain"} if target.is_gpu else set())
    return [level for level in LEVELS if level in has]


# --- the program ----------------------------------------------------------------------------------


Spec = MatmulSpec | Conv2dSpec


@dataclass(frozen=True)
class _Program:
    """What is to be compiled, what diagnostics call it, whether the compile cache is used, the tile asked for, and the
    share of tiles that is empty in random operands."""

    content: Spec | str
    name: str
    cached: bool
    tile: str | None = None
    empty_tiles: float = 0.5
    _made: dict[str, Executable] = field(default_factory=dict)  # by target

    def compiled(self, target: Target) -> Executable:
        from bitmlir import compiler

        if target.name not in self._made:
            tile = self.tile if target.is_gpu else None  # --check without a GPU runs the program on the CPU
            executable = compiler.compile(self.content, target.name, source=self.name, cached=self.cached, tile=tile)
            self._made[target.name] = executable
        return self._made[target.name]

    def trial(self, target: Target, seed: int) -> Trial:
        from bitmlir.tools.check import Trial

        return Trial.start(self.compiled(target), self.content, seed, self.empty_tiles)

    def speed(self, seconds: float) -> str:
        """What runs that take so long do in a second, if it is known."""
        if isinstance(self.content, str):
            return ""
        return f", {self.content.operations / seconds * 1e-12:.4g} TOPS by the median"


_ENCODINGS = ("lhs", "rhs")
_NEEDED = {
    PRODUCT: ("m", "n", "k", *_ENCODINGS),
    CONVOLUTION: ("images", "filters", *_ENCODINGS),
    NETWORK: ("batch",),
}
_COMMON = ("out", "column_scale", "bias", "residual", "relu")
_OPTIONAL = {
    PRODUCT: (*_COMMON, "row_scale", "lhs_tiles", "rhs_tiles"),
    CONVOLUTION: (*_COMMON, "stride", "padding", "dilation", "groups"),
    NETWORK: ("weights", "random", "qonnx", "bits", "normalised"),
}
_COUNTS = (
    ("images", (4,), 1),
    ("filters", (3,), 1),
    ("stride", (1, 2), 1),
    ("padding", (1, 2, 4), 0),
    ("dilation", (1, 2), 1),
)
"""How many numbers an option takes, and the least of each."""


def _check_options(source: str, given: dict[str, Any]) -> None:
    """Check that what was given belongs to the source, and that nothing is missing."""
    if source not in _NEEDED:
        if given:
            *words, last = (f"'{word}'" for word in _NEEDED)
            options = ", ".join(map(_flag, given))
            raise click.UsageError(f"{options}: only for {', '.join(words)} and {last}, not for the file '{source}'")
        return
    if others := [_flag(name) for name in given if name not in (*_NEEDED[source], *_OPTIONAL[source])]:
        raise click.UsageError(f"{', '.join(others)}: not for '{source}'")
    if missing := [_flag(name) for name in _NEEDED[source] if name not in given]:
        raise click.UsageError(f"'{source}' needs {', '.join(missing)}")


def _check_network(name: str | None, given: dict[str, Any], tile: str | None, has_purpose: bool) -> None:
    """Check what the options of a network say together."""
    if tile is not None:
        raise click.UsageError(f"--tile: not for '{NETWORK}', whose products differ")
    if "qonnx" in given:
        if name is not None or len(given) > 2:
            others = "name, weights, bits and normalised"
            raise click.UsageError(f"--qonnx: the file has the whole '{NETWORK}'; leave out its {others}")
    elif name is None:
        raise click.UsageError(f"'{NETWORK}' needs a name, such as vgg16, or --qonnx")
    elif ("weights" in given) == ("random" in given):
        raise click.UsageError(
            f"'{NETWORK}' needs either --weights FILE (bitmlir.nn.zoo.parameter_shapes says which arrays) or "
            f"--random SEED, to measure with"
        )
    if not has_purpose:
        raise click.UsageError(
            f"'{NETWORK}' needs -o FILE, for the bundle, or one of --emit, --explain, --check, --time"
        )


def _network(name: str | None, cached: bool, *, batch: int, **source: Any) -> NetworkProgram:
    from bitmlir.tools.network import NetworkProgram, layer_of

    return NetworkProgram(layer_of(name, **source), batch, cached)


def _spec(source: str, given: dict[str, Any]) -> Spec | None:
    """The product or convolution that the command line describes; None if it has something else."""
    if source not in (PRODUCT, CONVOLUTION):
        return None
    for name, counts, least in _COUNTS:
        numbers = given.get(name)
        if numbers is not None and (len(numbers) not in counts or min(numbers) < least):
            expected = f"{' or '.join(map(str, counts))} numbers from {least} on"
            raise click.UsageError(f"{_flag(name)}: expected {expected}, got {'x'.join(map(str, numbers))}")
    try:
        return MatmulSpec(**given) if source == PRODUCT else _convolution(**given)
    except ShapeError:  # the options are fine, but the sums could leave int32, say
        raise
    except InputError as error:
        raise click.UsageError(str(error)) from error


def _convolution(images: tuple[int, ...], filters: tuple[int, ...], **more: Any) -> Conv2dSpec:
    steps = {name: value[0] if len(value) == 1 else value for name, value in more.items() if isinstance(value, tuple)}
    (number, height, width, channels), (count, rows, columns) = images, filters
    return Conv2dSpec(number, height, width, channels, count, size=(rows, columns), **{**more, **steps})


def _flag(name: str) -> str:
    return f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"


# --- running it -----------------------------------------------------------------------------------


def _device_for(target: Target) -> Device | None:
    """The GPU that is present, if programs for the target run on it."""
    from bitmlir.runtime.driver import Device

    if target.capability is None or (device := Device.find()) is None:
        return None
    later = target.forward_compatible and device.capability > target.capability
    return device if later or device.capability == target.capability else None


def _trial(program: _Program | NetworkProgram, target: Target, seed: int) -> tuple[Trial | NetworkTrial, str]:
    """The program with random operands, and the device that it is to run on."""
    device = _device_for(target)
    if device is None and target.is_gpu:
        print(f"{NAME}: no GPU here runs {target.name}: running the program compiled for the CPU", file=sys.stderr)
        target = get_target("cpu")
    return program.trial(target, seed), str(device or "cpu")


def _checked(trial: Trial | NetworkTrial) -> int:
    from bitmlir.tools.evaluate import UnknownOperationError

    try:
        return trial.check()
    except UnknownOperationError as error:  # not the same as a wrong result, which a script must be able to tell
        raise click.UsageError(f"--check: {error}") from error


def _summary(seconds: Sequence[float], program: _Program | NetworkProgram) -> str:
    """How long runs took, and how much that is in a second."""
    median = statistics.median(seconds)
    text = f"median {median * 1e3:.4g} ms, least {min(seconds) * 1e3:.4g} ms of {len(seconds)} runs"
    return text + program.speed(median)


def _shares(call: BoundCall, repeats: int) -> list[str]:
    """A line for each launch of several: its share of the time of all, that time, its kernel and what it does."""
    explained = call.executable.explain().launches if call.executable.target != "cpu" else ()
    problems = {launch.kernel: f": {launch.problem}" for launch in explained}
    names = [step.kernel if isinstance(step, Launch) else "memset" for step, _ in call.steps()]
    seconds = [statistics.median(alone.time(repeats)) for _, alone in call.steps()]
    shares = [each / sum(seconds) for each in seconds]
    lines = zip(shares, seconds, names, strict=True) if len(names) > 1 else ()
    return [f"  {share:5.1%} {each * 1e6:10.1f} µs  {n}{problems.get(n, '')}\n" for share, each, n in lines]


# --- what is known --------------------------------------------------------------------------------


def _target_table() -> str:
    rows = [("NAME", "BIT OPERATIONS", "INSTRUCTION", "COPY", "PTX", "SUMMARY")]
    for target in TARGETS.values():
        operations = ", ".join(target.operations)
        needs = (target.instruction or "-", target.copy or "-", target.ptx_features or "-")
        rows.append((target.name, operations, *needs, target.summary))
    return _aligned(rows)


def _environment() -> str:
    return _aligned(
        [("NAME", "VALUE", "MEANING"), *((n, value or "(unset)", text) for n, value, text in settings.table())]
    )


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table as text, its columns two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "".join(f"{line.rstrip()}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
