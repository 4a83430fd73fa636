// RUN: bitmlir-opt %s --bit-to-gpu=target=sm_100a | FileCheck %s
// RUN: bitmlir-opt %s --bit-to-gpu=target=sm_120 | FileCheck %s

// Chips without a 1-bit unit multiply bytes of 0 and 1: eight products take one bit each of every byte that was loaded. What
// comes next is read once the last bit has been used.

// CHECK-LABEL: llvm.func @plane_matmul_0
//       CHECK:   nvvm.mbarrier.init
//       CHECK:   scf.for
//       CHECK:     nvvm.ldmatrix
//       CHECK:     scf.for
//   CHECK-NOT:     nvvm.ldmatrix
//       CHECK:       %[[ONES:.*]] = arith.constant 16843009 : i32
//       CHECK:       arith.andi %{{.*}}, %[[ONES]] : i32
//   CHECK-NOT:       nvvm.ldmatrix
//       CHECK:       nvvm.mma.sync
//  CHECK-SAME:         intOverflowBehavior = #nvvm.mma_int_overflow<wrapped>
//  CHECK-SAME:         multiplicandAPtxType = #nvvm.mma_type<u8>
//  CHECK-SAME:         shape = #nvvm.shape<m = 16, n = 8, k = 32>
//   CHECK-NOT:       nvvm.ldmatrix
//       CHECK:       %[[SEVEN:.*]] = arith.constant 7 : i32
//       CHECK:       arith.shrui %{{.*}}, %[[SEVEN]] : i32
//       CHECK:       nvvm.mma.sync
//       CHECK:       nvvm.ldmatrix
//       CHECK:       nvvm.mbarrier.try_wait.parity
//       CHECK:   nvvm.cp.async.shared.global
func.func @product(%x: memref<1x200x12xi32>, %w: memref<1x100x12xi32>, %out: memref<200x100xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 300 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = "",
      tile = {rows = 64 : i64, columns = 64 : i64, warp_rows = 32 : i64, warp_columns = 32 : i64, stages = 3 : i64}}
    : (memref<1x200x12xi32>, memref<1x100x12xi32>, memref<200x100xi32>) -> ()
  return
}
