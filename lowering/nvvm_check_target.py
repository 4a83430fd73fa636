"""The pass `nvvm-check-target`: LLVM ends the process on targets that it cannot compile for, so ask our table first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from mlir import ir

from bitmlir.lowering.passes import Pass, fail
from bitmlir.lowering.targets import TARGETS

__all__ = ["NvvmCheckTarget"]

# What `#nvvm.target` stands for where it leaves them out (NVVMOps.td).
DEFAULT_CHIP = "sm_75"
DEFAULT_FEATURES = "+ptx60"


@dataclass(frozen=True)
class NvvmCheckTarget(Pass):
    """Refuse `#nvvm.target` attributes that LLVM would end the process on.

    The chip must be one of `bitmlir.lowering.targets`, and the features a PTX version that is new enough for it.
    Pipelines run this before every `gpu-module-to-binary`.
    """

    name: ClassVar[str] = "nvvm-check-target"

    def run(self, op: ir.Operation) -> None:
        for region in op.regions:
            for block in region:
                for module in block.operations:
                    if module.operation.name == "gpu.module" and (fault := _fault(module.operation)):
                        fail(module.operation, fault)


def _fault(module: ir.Operation) -> str | None:
    """What is wrong with the targets of a `gpu.module`, or None."""
    targets = map(str, ir.ArrayAttr(module.attributes["targets"]) if "targets" in module.attributes else ())
    return next((fault for text in targets if text.startswith("#nvvm.target") and (fault := _target_fault(text))), None)


def _target_fault(target: str) -> str | None:
    chip = _parameter(target, "chip") or DEFAULT_CHIP
    features = _parameter(target, "features") or DEFAULT_FEATURES
    chips = [name for name, known in TARGETS.items() if known.is_gpu]
    if chip not in chips:
        return f"unknown chip '{chip}' in its target: expected one of {', '.join(chips)}"
    needed = TARGETS[chip].ptx_features
    if _ptx_version(features) < _ptx_version(needed):
        return f"the target's features are '{features}': for chip '{chip}' give '{needed}' or a later PTX version"
    return None


def _parameter(target: str, name: str) -> str | None:
    match = re.search(rf'\b{name} = "([^"]*)"', target)
    return match and match[1]


def _ptx_version(features: str) -> int:
    """N of "+ptxN"; -1 for anything else."""
    match = re.fullmatch(r"\+ptx(\d+)", features)
    return int(match[1]) if match else -1
