"""The `bit` dialect: bit-matrix operations, their decomposition into planes, and what the host needs to launch them.

Level 0, on tensors: `bit.pack`, `bit.quantise`, `bit.unpack`, `bit.matmul`. A packed matrix of M rows and K elements is
a `tensor<MxKxi<p>, #bit.encoding<"name">>` with p planes; its row sums and zero points travel with it unseen. A batch
of B such matrices is a `tensor<BxMxKxi<p>, …>`; `bit.matmul` takes batches, `bit.grouped_matmul` one of weights.
Images are `tensor<NxHxWxCxi<p>, …>`: `bit.conv2d`, `bit.pool`, `bit.pack_patches`; of plain ones `bit.reduce_window`.

Level 1, on memrefs: `bit.plane_matmul` with `bit.plane_product`, `bit.plane_pack`, `bit.plane_unpack`. A packed matrix
is planes `memref<PxMxWxi32>` (W words a row, a multiple of 4), sums `memref<Mxi32>` and, for `u<p>@row`, zeros
`memref<Mxi32>`; of a batch `memref<PxBxMxWxi32>` and `memref<BxMxi32>`.

Level 2, in host functions: `bit.tensor_map`.

Regions end in `gpu.yield`: operations defined by IRDL cannot be terminators, and that one checks no parent.
"""

from __future__ import annotations

from mlir import ir

from bitmlir.dialects.bit_dialect import dialect, order_name
from bitmlir.dialects.conv_ops import Conv2dOp, PackPatchesOp, PoolOp, ReduceWindowOp, conv2d
from bitmlir.dialects.plane_conv_ops import (
    PlaneEdgeSumsOp,
    PlanePackPatchesOp,
    PlanePairFiltersOp,
    PlanePatchesOp,
    PlanePatchSumsOp,
    PlanePoolOp,
    PlaneReduceWindowOp,
    PlaneSpreadFiltersOp,
    WindowClassOp,
    WindowSumOp,
    WindowValueOp,
    window_attribute,
    window_in,
)
from bitmlir.dialects.plane_ops import (
    COMPUTED_PLACES,
    PlaneByteConvOp,
    PlaneGroupedMatmulOp,
    PlaneMatmulOp,
    PlaneOp,
    PlanePackOp,
    PlaneProduct,
    PlaneProductOp,
    PlaneRanksOp,
    PlaneSearchOp,
    PlaneUnpackOp,
    TensorMapOp,
    plane_matmul,
    plane_search,
)
from bitmlir.dialects.plane_results import sums_of_row
from bitmlir.dialects.tensor_ops import (
    GroupedMatmulOp,
    MatmulOp,
    PackOp,
    QuantiseOp,
    SearchOp,
    UnpackOp,
    extract,
    grouped_matmul,
    matmul,
    search,
    threshold,
)
from bitmlir.dialects.types import bitwise_name, encoding_in, encoding_of, packed_type, require_encoding, tiles_shape

__all__ = [
    "COMPUTED_PLACES",
    "Conv2dOp",
    "GroupedMatmulOp",
    "MatmulOp",
    "PackOp",
    "PackPatchesOp",
    "PlaneByteConvOp",
    "PlaneEdgeSumsOp",
    "PlaneGroupedMatmulOp",
    "PlaneMatmulOp",
    "PlaneOp",
    "PlanePackOp",
    "PlanePackPatchesOp",
    "PlanePairFiltersOp",
    "PlanePatchSumsOp",
    "PlanePatchesOp",
    "PlanePoolOp",
    "PlaneProduct",
    "PlaneProductOp",
    "PlaneRanksOp",
    "PlaneReduceWindowOp",
    "PlaneSearchOp",
    "PlaneSpreadFiltersOp",
    "PlaneUnpackOp",
    "PoolOp",
    "QuantiseOp",
    "ReduceWindowOp",
    "SearchOp",
    "TensorMapOp",
    "UnpackOp",
    "WindowClassOp",
    "WindowSumOp",
    "WindowValueOp",
    "bitwise_name",
    "conv2d",
    "dialect",
    "encoding_in",
    "encoding_of",
    "extract",
    "grouped_matmul",
    "load",
    "matmul",
    "order_name",
    "packed_type",
    "plane_matmul",
    "plane_search",
    "require_encoding",
    "search",
    "sums_of_row",
    "threshold",
    "tiles_shape",
    "window_attribute",
    "window_in",
]


def load(context: ir.Context) -> None:
    """Make the dialect known to a context."""
    dialect.load(context)
