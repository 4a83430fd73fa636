"""Compiling: from a spec or IR through every stage to a bundle, cached on disk."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import logging
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bitmlir import __version__
from bitmlir.cache import Cache, cache_key
from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.dialects.errors import AssemblerError, BitmlirError, CompileError, InputError, IRError
from bitmlir.executable import Executable
from bitmlir.grouped_spec import GroupedSpec
from bitmlir.lowering.targets import Target, get_target, target_for_capability
from bitmlir.pack_spec import PackSpec
from bitmlir.runtime.bundle import STAGES, Bundle
from bitmlir.runtime.memory import share_memory
from bitmlir.search_spec import SearchSpec
from bitmlir.settings import settings
from bitmlir.spec import MatmulSpec
from bitmlir.tuning import tables_for

if TYPE_CHECKING:
    from mlir import ir

__all__ = ["build_module", "compile", "lower", "resolve_target"]

_log = logging.getLogger("bitmlir")

Spec = MatmulSpec | GroupedSpec | Conv2dSpec | PackSpec | SearchSpec

_BUILDERS: dict[type[Spec], str] = {  # what makes a module of each kind of spec
    MatmulSpec: "bitmlir.build:matmul_module",
    GroupedSpec: "bitmlir.build:grouped_module",
    Conv2dSpec: "bitmlir.build:conv2d_module",
    PackSpec: "bitmlir.pack_build:pack_module",
    SearchSpec: "bitmlir.search_build:search_module",
}


def compile(
    program: Spec | str | ir.Module,
    target: str = "auto",
    *,
    source: str = "<module>",
    cached: bool = True,
    tile: str | None = None,
) -> Executable:
    """Compile a product, packing, a search, or IR in the `bit` dialect, for a target.

    program: a `MatmulSpec`, `GroupedSpec`, `Conv2dSpec`, `PackSpec` or `SearchSpec`, the text of a module, or an
        `mlir.ir.Module`.
    target: "cpu", a chip such as "sm_90a", or "auto": the GPU that is present, else the CPU. `source` names the text in
    diagnostics. The result is taken from the compile cache if the same program was compiled before, unless `cached` is
    switched off. `tile` says how the kernels of all products divide them, such as
    "rows=64,columns=256,stages=4,alternate" for sm_90a; by default tuning tables and the cost model decide. The fields
    are those of `bitmlir.lowering.gpu.wgmma_tile.WgmmaTile`, on chips without wgmma of `…gpu.mma_tile.MmaTile`; of a
    tile without stages those of `…gpu.resident_tile.ResidentTile`.

    Raises:
        TargetError: an unknown target.
        InputError: something else than a program; or a `tile` that is none, that a product cannot have, or that is
            given for the CPU.
        IRError: the IR does not parse or verify; the message has its lines.
        CompileError: a later stage failed; the message names the folder with all stages.

    Example:
        >>> import numpy as np
        >>> exe = compile(MatmulSpec(m=1, n=2, k=3, lhs="bipolar", rhs="u2"), target="cpu")
        >>> exe(np.array([[1, -1, 1]]), np.array([[3, 2, 1], [0, 1, 0]]))
        array([[ 2, -1]], dtype=int32)
    """
    chosen = resolve_target(target)
    if isinstance(program, Spec):
        text = repr(program)
    elif isinstance(program, str):
        text = program
    elif hasattr(program, "operation"):
        text = str(program)
        program = text
    else:
        expected = "expected a MatmulSpec, GroupedSpec, Conv2dSpec, PackSpec or SearchSpec, MLIR text or an ir.Module"
        raise InputError(f"cannot compile a {type(program).__name__}: {expected}")
    if tile is not None:
        _check_tile(tile, chosen)
    tables = tables_for(chosen) if tile is None else ()
    # A table's name is in the explanation, its contents choose tiles.
    named = [(found.path.name, found.table.digest) for found in tables]
    options = {"target": chosen.name, "tile": tile, "tables": named}
    key = cache_key([text], options, _versions(chosen))
    cache = Cache.from_settings() if cached else Cache(None)
    paths = [str(found.path) for found in tables]
    return Executable(cache.get_or_create(key, lambda: lower(program, chosen, source, tile, paths)))


def _check_tile(tile: str, target: Target) -> None:
    if not target.is_gpu:
        raise InputError(f"tiles are for GPU kernels, but the target is '{target.name}': leave tile out")
    if not isinstance(tile, str):
        raise InputError(f"argument tile must be a text, NAME=NUMBER,…, got {type(tile).__name__}")
    from bitmlir.lowering.gpu.tiles import parse_tile

    parse_tile(target, tile)


def resolve_target(name: str) -> Target:
    """The target of that name; "auto" is the best one for the GPU that is present, else the CPU.

    Raises:
        TargetError: there is no such target.
    """
    if name != "auto":
        return get_target(name)
    from bitmlir.runtime.driver import Device

    device = Device.find()
    return get_target("cpu") if device is None else target_for_capability(*device.capability)


def _versions(target: Target) -> dict[str, str | None]:
    """The tools that take part in a compilation."""
    from bitmlir.assembler import find_assembler

    versions: dict[str, str | None] = {
        "bitmlir": __version__,
        "mlir": importlib.metadata.version("xtc-mlir-python-bindings"),
    }
    if target.is_gpu:
        versions["assembler"] = find_assembler()
    return versions


def lower(
    program: Spec | str,
    target: Target,
    source: str = "<module>",
    tile: str | None = None,
    tables: Sequence[str] = (),
) -> Bundle:
    """Take a program through every stage, without the cache (see `compile`); tables: files of tuning tables."""
    from mlir import ir

    from bitmlir.dialects import bit
    from bitmlir.lowering.diagnostics import error_lines
    from bitmlir.lowering.explain import explain_module
    from bitmlir.lowering.launch_plan import read_plan
    from bitmlir.lowering.pipeline import run_pipeline
    from bitmlir.lowering.stages import stage_pipelines
    from bitmlir.lowering.tuning_table import quoted_path

    stages: dict[str, bytes] = {}
    stage, plan = "bit", None
    context = ir.Context()
    with context, ir.Location.unknown():
        bit.load(context)
        try:
            module = build_module(program, source)
            if isinstance(program, str):
                stages["bit"] = program.encode()  # kept even if it does not verify
            for stage, pipeline in stage_pipelines(target, tile or "", [*map(quoted_path, tables)]).items():
                run_pipeline(module, pipeline)
                if stage == "ptx":
                    stages["ptx"] = _ptx(module)
                else:
                    stages[stage] = str(module).encode()
                if stage == "planes" and target.is_gpu:
                    stages["explain"] = json.dumps(explain_module(module, target), indent=1).encode()
                if stage in ("gpu", "vector"):
                    plan = share_memory(read_plan(module, target.name))
        except ir.MLIRError as error:  # pyright: ignore[reportAttributeAccessIssue]  # not in the stubs
            lines = error_lines(error, source)
            if stage in ("bit", "planes"):
                raise IRError(f"the IR is not a valid program for '{target.name}':", lines) from None
            folder = _dump(stages, target, "\n".join(lines))
            raise CompileError(f"lowering to '{stage}' failed:\n" + "\n".join(lines), folder) from error
        except BitmlirError:
            raise
        except Exception as error:
            folder = _dump(stages, target, repr(error))
            message = f"lowering to '{stage}' failed: {error!r}; this is a fault of bitmlir"
            raise CompileError(message, folder) from error
    if target.is_gpu:
        _assemble(stages, target)
    assert plan is not None  # every target has a stage that shows the launches
    versions = {name: version for name, version in _versions(target).items() if version is not None}
    return Bundle(plan, stages, versions)


def build_module(program: Spec | str, source: str = "<module>") -> ir.Module:
    """The module of a program, in the current context, which has the `bit` dialect."""
    if isinstance(program, str):
        from bitmlir.lowering.parsing import parse_module

        return parse_module(program, source)
    module, _, build = _BUILDERS[type(program)].partition(":")
    return getattr(importlib.import_module(module), build)(program)


def _ptx(module: ir.Module) -> bytes:
    """The PTX in the module's `gpu.binary`; empty if the program has no kernel."""
    from mlir import ir
    from mlir.dialects import gpu

    for op in module.body.operations:
        if op.operation.name == "gpu.binary":
            objects = ir.ArrayAttr(op.attributes["objects"])
            ptx = gpu.ObjectAttr(objects[0])  # pyright: ignore[reportAttributeAccessIssue]  # not in the stubs
            return ptx.object.rstrip(b"\0")
    return b""


def _assemble(stages: dict[str, bytes], target: Target) -> None:
    """Add the cubin. Without any assembler the bundle holds PTX alone, which the driver can compile on the GPU."""
    from bitmlir.assembler import assemble, find_assembler

    if find_assembler() is None:
        _log.warning("no PTX assembler found: the program holds PTX alone (pip install 'bitmlir[cuda]' brings one)")
        return
    try:
        stages["cubin"] = assemble(stages["ptx"], target.name).cubin
    except AssemblerError as error:
        raise AssemblerError(str(error), _dump(stages, target, str(error))) from None


def _dump(stages: dict[str, bytes], target: Target, message: str) -> str:
    """Leave a folder with every stage reached, the error, the tools' versions and the command that reproduces it."""
    parent = settings().dump_dir
    try:
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="bitmlir-failed-", dir=parent))
    except OSError as error:
        _log.warning("BITMLIR_DUMP_DIR: %s; the folder is a temporary one", error)
        folder = Path(tempfile.mkdtemp(prefix="bitmlir-failed-"))
    for stage, content in stages.items():
        (folder / Path(STAGES[stage]).name).write_bytes(content)
    (folder / "error.txt").write_text(message + "\n")
    (folder / "versions.txt").write_text("".join(f"{name}: {v}\n" for name, v in _versions(target).items()))
    program = [sys.executable, "-m", "bitmlir.tools.codegen", str(folder / Path(STAGES["bit"]).name)]
    level = "ptx" if target.is_gpu else "llvm"
    command = shlex.join([*program, "--target", target.name, "--emit", level, "--no-cache"])
    (folder / "repro.sh").write_text(f"#!/bin/sh\n{command}\n")
    return str(folder)
