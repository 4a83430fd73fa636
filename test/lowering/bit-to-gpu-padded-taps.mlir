// RUN: bitmlir-opt %s --bit-to-gpu=target=sm_90a | FileCheck %s

// Two images of 6 × 6 pixels of 1152 channels in a plane, 3 × 3 taps with padding 1, eight filters. Pixels of 144 bytes fill no K
// blocks of 128: one after the other they come in nine pieces of 16 bytes. Each tap with two blocks of its own comes in two.

// CHECK-LABEL: llvm.func @plane_matmul_0
//  CHECK-SAME:   (%[[X:[^:]*]]: !llvm.ptr {{[{][^}]*}}nvvm.grid_constant}, %[[W:[^:]*]]: !llvm.ptr {{[{][^}]*}}nvvm.grid_constant}

// Every stage has 64 places and 8 filters of 128 bytes. The second block of a pixel begins 24 words after the first: at the tap
// that the window sees, and at the tap of the filters.

//       CHECK:   %[[ALL:.*]] = arith.constant 9216 : i32
//       CHECK:   nvvm.mbarrier.arrive.expect_tx %{{.*}}, %[[ALL]]
//       CHECK:   %[[TAP:.*]] = arith.divui %[[BLOCK:.*]], %c2_i32
//       CHECK:   %[[HALF:.*]] = arith.remui %[[BLOCK]], %c2_i32
//       CHECK:   %[[WORD:.*]] = arith.muli %[[HALF]], %c24_i32
//       CHECK:   nvvm.cp.async.bulk.tensor.shared.cluster.global %{{.*}}, %[[X]], %{{.*}}, box[%[[WORD]], %{{.*}}, %{{.*}}, %{{.*}}] im2col[%{{.*}}, %{{.*}}] {mode = #nvvm.tma_load_mode<im2col>}
//   CHECK-NOT:   im2col
//       CHECK:   %[[WORD:.*]] = arith.muli %{{.*}}, %c24_i32
//       CHECK:   %[[TAP:.*]] = arith.divui %{{.*}}, %c2_i32
//       CHECK:   nvvm.cp.async.bulk.tensor.shared.cluster.global %{{.*}}, %[[W]], %{{.*}}, box[%[[WORD]], %[[TAP]], %{{.*}}, %{{.*}}]

// Of each block 96 bytes are multiplied: the first has no more, and the second 48 and zeros.

// CHECK-COUNT-3: nvvm.wgmma.mma_async
//   CHECK-NOT:   nvvm.wgmma.mma_async

// CHECK-LABEL: func.func @layer
//       CHECK:   "bit.tensor_map"(%{{.*}}) {box = array<i64: 32, 64>, window = array<i64: 6, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>} : (memref<1x72x36xi32>) -> !llvm.ptr
//       CHECK:   %[[BY_TAP:.*]] = memref.reinterpret_cast %{{.*}} sizes: [1, 8, 9, 36], {{.*}} : memref<1x8x324xi32>
//       CHECK:   "bit.tensor_map"(%[[BY_TAP]]) {box = array<i64: 32, 1, 8, 1>} : (memref<1x8x9x36xi32>) -> !llvm.ptr
func.func @layer(%x: memref<1x72x36xi32>, %w: memref<1x8x324xi32>, %out: memref<72x8xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 10368 : i64, out_encoding = "",
      operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, tile = {columns = 8 : i64, padded, rows = 64 : i64, stages = 3 : i64},
      window = array<i64: 6, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>} : (memref<1x72x36xi32>, memref<1x8x324xi32>, memref<72x8xi32>) -> ()
  return
}
