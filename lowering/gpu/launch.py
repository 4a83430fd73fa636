"""What the host does for a kernel: make its tensor maps and launch it."""

from __future__ import annotations

from mlir import ir
from mlir.dialects import arith, gpu

from bitmlir.dialects import bit
from bitmlir.lowering.emit import i32
from bitmlir.lowering.gpu.memory import Kernel

__all__ = ["launch"]


def launch(module: str, kernel: Kernel) -> None:
    """Emit what the host does for one kernel at the insertion point."""
    arguments = [
        bit.TensorMapOp(source=value, box=kernel.boxes[i]).result if i in kernel.boxes else value
        for i, value in enumerate(kernel.arguments)
    ]

    def sizes(x: int, y: int, z: int) -> tuple[ir.Value, ir.Value, ir.Value]:
        index = ir.IndexType.get()
        return arith.constant(index, x), arith.constant(index, y), arith.constant(index, z)

    launched = gpu.LaunchFuncOp(
        [module, kernel.name],
        sizes(*kernel.grid),
        sizes(kernel.threads, 1, 1),
        arguments,
        dynamic_shared_memory_size=arith.constant(i32(), kernel.shared_bytes),
    )
    if kernel.overlaps:
        launched.operation.attributes["bit.overlap_previous"] = ir.UnitAttr.get()
