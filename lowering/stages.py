"""The levels a program passes through, by target, and the pipeline that makes each from the one before."""

from __future__ import annotations

import os
from collections.abc import Sequence

from bitmlir.lowering.targets import Target

__all__ = ["stage_pipelines"]

_TO_NVVM = ",".join(
    (
        "nvvm-mma-sm75",
        "convert-scf-to-cf",
        "convert-nvvm-to-llvm",
        "nvvm-wgmma-b1",
        "convert-vector-to-llvm",
        # Not convert-gpu-to-nvvm, which turns math operations into calls of libdevice.
        "convert-to-llvm{filter-dialects=arith,cf,index,math}",
        "canonicalize",
        "cse",
        "reconcile-unrealized-casts",
    )
)
_TO_LLVM = ",".join(
    (
        # LLVM turns arithmetic on bf16 into calls of a library that is not there: compute in f32, round with integers.
        # Before canonicalize, which makes i32 → f32 → bf16 one conversion: that rounds once where twice is meant.
        "math-extend-to-supported-types{extra-types=f16 target-type=f32}",
        "arith-emulate-unsupported-floats{source-types=bf16 target-type=f32}",
        "arith-expand{include-bf16=true}",
        "canonicalize",
        "cse",
        "convert-scf-to-cf",
        "convert-vector-to-llvm",
        "convert-math-to-llvm",
        "convert-arith-to-llvm",
        "convert-index-to-llvm",
        "finalize-memref-to-llvm",
        "convert-func-to-llvm",
        "convert-cf-to-llvm",
        "canonicalize",
        "cse",
        "reconcile-unrealized-casts",
    )
)


def stage_pipelines(target: Target, tile: str = "", tables: Sequence[str] = ()) -> dict[str, str]:
    """Stage → pipeline from the stage before, in order.

    tile: the tile of all products, as `choose-tiles` takes it; tables: the tuning tables that it looks into.

    Example:
        >>> from bitmlir.lowering.targets import get_target
        >>> list(stage_pipelines(get_target("sm_90a")))
        ['bit', 'planes', 'gpu', 'nvvm', 'ptx']
    """
    planes = f"bit-cse,bit-dce,bit-decompose{{target={target.name}}}"
    if target.is_gpu:
        options = [f"target={target.name}"]
        options += [f"tile={tile}"] * bool(tile)
        options += [f"tables={{{os.pathsep.join(tables)}}}"] * bool(tables)
        planes += f",choose-tiles{{{' '.join(options)}}}"
    stages = {"bit": "bit-verify", "planes": f"{planes},bit-verify"}
    if target.is_gpu:
        stages["gpu"] = f"bit-to-gpu{{target={target.name}}}"
        stages["nvvm"] = f"gpu.module({_TO_NVVM})"
        stages["ptx"] = "gpu-module-to-binary{format=isa}"
    else:
        stages["vector"] = "bit-to-cpu"
        stages["cpu"] = _TO_LLVM
    return stages
