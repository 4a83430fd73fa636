// RUN: bitmlir-opt %s --bit-to-gpu=target=sm_90a | FileCheck %s
// RUN: %exit-code 1 bitmlir-opt %s --bit-to-cpu 2>&1 | FileCheck %s --check-prefix=CPU
// CPU: error: kernels for the CPU cannot gather what a window sees: run bit-decompose for the CPU

// Two images of 6 × 6 pixels of 256 channels in a plane, 3 × 3 taps with padding 1, eight filters. TMA gathers a stage's K, 1024
// bits, in four pieces of 32 bytes, a tap's pixel each: those of 64 places that follow each other.

// CHECK-LABEL: llvm.func @plane_matmul_0
//  CHECK-SAME:   (%[[X:[^:]*]]: !llvm.ptr {{[{][^}]*}}nvvm.grid_constant}, %[[W:[^:]*]]: !llvm.ptr {{[{][^}]*}}nvvm.grid_constant}

// The last of three blocks of K has one piece left. Its stage gets as many bytes as come.

//       CHECK:   nvvm.mbarrier.try_wait.parity
//       CHECK:   %[[LEFT:.*]] = arith.subi %c9_i32
//       CHECK:   %[[PIECES:.*]] = arith.minui %[[LEFT]], %c4_i32
//       CHECK:   %[[ROWS:.*]] = arith.muli %[[PIECES]], %c2048_i32
//       CHECK:   %[[BYTES:.*]] = arith.addi %[[ROWS]], %c1024_i32
//       CHECK:   nvvm.mbarrier.arrive.expect_tx %{{.*}}, %[[BYTES]]

// A piece is a tap: where the first place's window lies, and how far the tap is from its corner.

//       CHECK:   nvvm.cp.async.bulk.tensor.shared.cluster.global %{{.*}}, %[[X]], %{{.*}}, box[%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}] im2col[%{{.*}}, %{{.*}}] {mode = #nvvm.tma_load_mode<im2col>}
//       CHECK:   scf.if
//       CHECK:     nvvm.cp.async.bulk.tensor.shared.cluster.global {{.*}} im2col
//       CHECK:   scf.if
//       CHECK:     nvvm.cp.async.bulk.tensor.shared.cluster.global {{.*}} im2col
//       CHECK:   scf.if
//       CHECK:     nvvm.cp.async.bulk.tensor.shared.cluster.global {{.*}} im2col
//       CHECK:   nvvm.cp.async.bulk.tensor.shared.cluster.global %{{.*}}, %[[W]], %{{.*}}, box[%{{.*}}, %{{.*}}, %{{.*}}]

// CHECK-LABEL: func.func @layer
//       CHECK:   "bit.tensor_map"(%{{.*}}) {box = array<i64: 8, 64>, window = array<i64: 6, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>} : (memref<1x72x8xi32>) -> !llvm.ptr
//       CHECK:   "bit.tensor_map"(%{{.*}}) {box = array<i64: 32, 8, 1>} : (memref<1x8x72xi32>) -> !llvm.ptr
func.func @layer(%x: memref<1x72x8xi32>, %w: memref<1x8x72xi32>, %out: memref<72x8xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 2304 : i64, out_encoding = "",
      operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, tile = {columns = 8 : i64, rows = 64 : i64, stages = 3 : i64},
      window = array<i64: 6, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>} : (memref<1x72x8xi32>, memref<1x8x72xi32>, memref<72x8xi32>) -> ()
  return
}
