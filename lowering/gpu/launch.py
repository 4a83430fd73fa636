"""What the host does for a kernel: make its tensor maps and launch it."""

from __future__ import annotations

from collections.abc import Sequence

from mlir import ir
from mlir.dialects import arith
from mlir.dialects._gpu_ops_gen import LaunchFuncOp  # the one in mlir.dialects.gpu knows no clusters

from bitmlir.dialects import bit
from bitmlir.lowering.emit import i32
from bitmlir.lowering.gpu.memory import Box, Kernel
from bitmlir.lowering.kernels import WRITES, writes_attribute
from bitmlir.lowering.views import seen_as

__all__ = ["launch"]


def _tensor_map(source: ir.Value, box: Box) -> ir.Value:
    array = source if box.shape is None else seen_as(source, *box.shape)
    return bit.TensorMapOp(source=array, box=box.sizes, window=box.window).result


def launch(module: str, kernel: Kernel, written: Sequence[ir.Value]) -> None:
    """Emit what the host does for one kernel, which writes these of its arguments, at the insertion point."""
    arguments = [
        _tensor_map(value, kernel.boxes[i]) if i in kernel.boxes else value for i, value in enumerate(kernel.arguments)
    ]

    def sizes(x: int, y: int = 1, z: int = 1) -> tuple[ir.Value, ir.Value, ir.Value]:
        index = ir.IndexType.get()
        return arith.constant(index, x), arith.constant(index, y), arith.constant(index, z)

    cluster = sizes(kernel.cluster) if kernel.cluster > 1 else (None, None, None)
    launched = LaunchFuncOp(
        None,
        [],
        [module, kernel.name],
        *sizes(*kernel.grid),
        *sizes(kernel.threads),
        arguments,
        clusterSizeX=cluster[0],
        clusterSizeY=cluster[1],
        clusterSizeZ=cluster[2],
        dynamicSharedMemorySize=arith.constant(i32(), kernel.shared_bytes),
    )
    launched.operation.attributes[WRITES] = writes_attribute(kernel.arguments, written)
    if kernel.overlaps:
        launched.operation.attributes["bit.overlap_previous"] = ir.UnitAttr.get()
    if kernel.persistent:
        launched.operation.attributes["bit.persistent"] = ir.IntegerAttr.get(i32(), kernel.persistent)
