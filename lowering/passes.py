"""What a pass is: a frozen dataclass whose fields are its textual options, and the table of all passes.

In a pipeline a pass reads `name` or `name{option=value …}`; the field `tile_rows: int` is the option `tile-rows=128`.
This module loads neither MLIR nor the passes themselves, so that tools start fast.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from bitmlir.dialects.errors import InputError, PipelineError

if TYPE_CHECKING:
    from mlir import ir

__all__ = ["PASSES", "Pass", "PassFailure", "fail", "get_pass", "parse_options", "summary"]

PASSES: Mapping[str, str] = MappingProxyType(
    {
        "bit-verify": "bitmlir.lowering.bit_verify:BitVerify",
        "bit-dce": "bitmlir.lowering.bit_dce:BitDce",
        "bit-cse": "bitmlir.lowering.bit_cse:BitCse",
        "bit-decompose": "bitmlir.lowering.bit_decompose:BitDecompose",
        "choose-tiles": "bitmlir.lowering.choose_tiles:ChooseTiles",
        "bit-to-cpu": "bitmlir.lowering.bit_to_cpu:BitToCpu",
        "bit-to-gpu": "bitmlir.lowering.bit_to_gpu:BitToGpu",
        "nvvm-check-target": "bitmlir.lowering.nvvm_check_target:NvvmCheckTarget",
        "nvvm-wgmma-b1": "bitmlir.lowering.nvvm_wgmma_b1:NvvmWgmmaB1",
        "nvvm-mma-sm75": "bitmlir.lowering.nvvm_mma_sm75:NvvmMmaSm75",
    }
)

_OPTION = re.compile(r"""\s*(?P<name>[\w-]+)(?:=(?P<value>\{[^{}]*\}|'[^']*'|"[^"]*"|[^\s{}'"]*))?(?=\s|$)""")


class PassFailure(Exception):
    """Ends a pass that has already reported its error; the pipeline turns it into MLIR's pass failure."""


@dataclass(frozen=True)
class Pass:
    """Base of the passes. A subclass is a frozen dataclass that sets `name` and writes `run`; its docstring's first
    line is what `bitmlir-opt --list-passes` shows, its fields (str, int or bool) are its options.

    anchor: the operation the pass runs on, "builtin.module" or "gpu.module"; "any" can be nested in every operation.

    Example:
        >>> @dataclass(frozen=True)
        ... class Tile(Pass):
        ...     name: ClassVar[str] = "tile"
        ...     tile_rows: int = 128
        >>> Tile.from_options({"tile-rows": "64"})
        Tile(tile_rows=64)
        >>> str(Tile(tile_rows=64))
        'tile{tile-rows=64}'
    """

    name: ClassVar[str]
    anchor: ClassVar[str] = "any"

    def run(self, op: ir.Operation) -> None:
        """Rewrite `op`, or report what is wrong with it by `fail`."""
        raise NotImplementedError

    @classmethod
    def from_options(cls, options: Mapping[str, str | None]) -> Pass:
        """The pass with these options; None stands for an option written without a value.

        Raises:
            PipelineError: an option is unknown, missing, or not of its field's type.
        """
        known = {field.name.replace("_", "-"): field for field in fields(cls)}
        if unknown := [name for name in options if name not in known]:
            have = f"it has {', '.join(known)}" if known else "it has none"
            raise PipelineError(f"pass '{cls.name}' has no option '{unknown[0]}': {have}")
        for name, field in known.items():
            if name not in options and field.default is MISSING:
                raise PipelineError(f"pass '{cls.name}' needs its option '{name}': write {cls.name}{{{name}=…}}")
        values = {known[name].name: _value(cls.name, name, known[name], text) for name, text in options.items()}
        try:
            return cls(**values)
        except InputError as error:
            raise PipelineError(f"pass '{cls.name}': {error}") from error

    def __str__(self) -> str:
        """The text that parses back to this pass; options at their defaults are left out."""
        changed = [field for field in fields(self) if getattr(self, field.name) != field.default]
        options = " ".join(f"{f.name.replace('_', '-')}={_text(getattr(self, f.name))}" for f in changed)
        return f"{self.name}{{{options}}}" if options else self.name


def parse_options(text: str) -> dict[str, str | None]:
    """Split the options of a pass, as they stand between its braces.

    Raises:
        PipelineError: the text is not a list of `name` or `name=value`.

    Example:
        >>> parse_options("target=sm_90a fast files='a b'")
        {'target': 'sm_90a', 'fast': None, 'files': 'a b'}
    """
    options: dict[str, str | None] = {}
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _OPTION.match(text, position)
        if match is None:
            raise PipelineError(f"expected options of the form name=value, but got '{text[position:].strip()}'")
        name, value = match["name"], match["value"]
        if name in options:
            raise PipelineError(f"option '{name}' is given twice")
        options[name] = value[1:-1] if value and value[0] in "{'\"" else value
        position = match.end()
    return options


def get_pass(name: str) -> type[Pass]:
    """The class of a pass in `PASSES`; this is what imports its module.

    Raises:
        KeyError: no such pass.
    """
    module, class_name = PASSES[name].split(":")
    return getattr(importlib.import_module(module), class_name)


def summary(name: str) -> str:
    """First line of a pass's docstring."""
    return (inspect.getdoc(get_pass(name)) or "").partition("\n")[0]


def fail(op: ir.Operation | ir.OpView, message: str) -> NoReturn:
    """Report an error at the operation's location and end the pass."""
    op.location.emit_error(message)
    raise PassFailure(message)


def _value(pass_name: str, option: str, field: Field[Any], text: str | None) -> str | int | bool:
    """An option's value, read as its field's type."""
    kind = field.type if isinstance(field.type, str) else field.type.__name__
    if kind == "bool" and text in (None, "true", "1", "false", "0"):
        return text not in ("false", "0")
    if kind == "int" and text is not None and re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    if kind == "str" and text is not None:
        return text
    expected = {"bool": "true or false", "int": "a whole number", "str": "a value"}[kind]
    came = "nothing" if text is None else f"'{text}'"
    raise PipelineError(f"option '{option}' of pass '{pass_name}' must be {expected}, but is {came}")


def _text(value: str | int | bool) -> str:
    """An option's value as `parse_options` reads it."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if re.fullmatch(r"""[^\s{}'"]+""", text) else f"{{{text}}}"
