"""The levels a program passes through, by target, and the pipeline that makes each from the one before."""

from __future__ import annotations

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


def stage_pipelines(target: Target) -> dict[str, str]:
    """Stage → pipeline from the stage before, in order.

    Example:
        >>> from bitmlir.lowering.targets import get_target
        >>> list(stage_pipelines(get_target("sm_90a")))
        ['bit', 'planes', 'gpu', 'nvvm', 'ptx']
    """
    stages = {
        "bit": "bit-verify",
        "planes": f"bit-cse,bit-dce,bit-decompose{{target={target.name}}},bit-verify",
    }
    if target.is_gpu:
        stages["gpu"] = f"bit-to-gpu{{target={target.name}}}"
        stages["nvvm"] = f"gpu.module({_TO_NVVM})"
        stages["ptx"] = "gpu-module-to-binary{format=isa}"
    else:
        stages["vector"] = "bit-to-cpu"
        stages["cpu"] = _TO_LLVM
    return stages
