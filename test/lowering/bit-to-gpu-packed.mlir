// RUN: bitmlir-opt %s --choose-tiles='target=sm_80 tile=rows=64,columns=64,warp_rows=32,warp_columns=32,stages=2' --bit-to-gpu=target=sm_80 | FileCheck %s --check-prefixes=CHECK,SM80
// RUN: bitmlir-opt %s --choose-tiles='target=sm_90a tile=rows=64,columns=32,stages=4' --bit-to-gpu=target=sm_90a | FileCheck %s --check-prefixes=CHECK,SM90A

// A packed result: four lanes have a word's bits, and exchange those of up to four words so that each ends with one of them,
// which it stores. In the same way each ends with the sum of one row. Output tiles cover the padding of rows too,
// which a mask keeps 0: 50 columns are 2 words of 4. K = 128 is swizzled over 32 bytes.

// CHECK-LABEL: llvm.func @plane_matmul_0
//       SM90A:   arith.constant -4611685949707845632 : i64
//       CHECK:   arith.cmpi sge, %{{.*}} : vector<2xi32>
//        SM80:   nvvm.shfl.sync bfly
//       CHECK:   nvvm.shfl.sync bfly
//       CHECK:   %[[GIVEN:.*]] = nvvm.shfl.sync bfly
//       CHECK:   %[[GATHERED:.*]] = arith.ori %{{.*}}, %[[GIVEN]]
//       CHECK:   %[[LEFT:.*]] = arith.subi %c50_i32
//       CHECK:   arith.shli %{{.*}}, %[[LEFT]] : i32
//       CHECK:   %[[MASK:[0-9]+]] = arith.select %{{.*}}, %{{.*}}, %c0_i32
//       CHECK:   %[[WORD:.*]] = arith.andi %[[GATHERED]], %[[MASK]] : i32
//       CHECK:   llvm.store %[[WORD]], %{{.*}} : i32, !llvm.ptr<1>
//       CHECK:   llvm.intr.ctpop(%[[WORD]])
//       CHECK:   %[[ADDED:.*]] = nvvm.shfl.sync bfly
//       CHECK:   arith.addi %{{.*}}, %[[ADDED]]
//       CHECK:   llvm.atomicrmw add %{{.*}} monotonic

// The sums are set to 0 before the kernel runs: by a kernel where launches overlap, since a memset would keep them apart.

// CHECK-LABEL: func.func @product
//  CHECK-SAME:   memref<50xi32>, %[[PLANES:[^ ]*]]: memref<1x64x4xi32>, %[[SUMS:[^ ]*]]: memref<64xi32>
//        SM80:   %[[ZERO:.*]] = arith.constant 0 : i32
//        SM80:   gpu.memset %[[SUMS]], %[[ZERO]] : memref<64xi32>, i32
//       SM90A:   gpu.launch_func @kernels::@zero_0 {{.*}} args(%[[SUMS]] : memref<64xi32>) {bit.overlap_previous, bit.writes = array<i64: 0>}
//   CHECK-NOT:   gpu.memset
//       CHECK:   gpu.launch_func @kernels::@plane_matmul_0
//  CHECK-SAME:     %[[PLANES]] : memref<1x64x4xi32>, %[[SUMS]] : memref<64xi32>
func.func @product(%x: memref<1x64x4xi32>, %w: memref<1x50x4xi32>, %limit: memref<50xi32>, %planes: memref<1x64x4xi32>,
                   %sums: memref<64xi32>) {
  "bit.plane_matmul"(%x, %w, %planes, %sums) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    %t = memref.load %limit[%col] : memref<50xi32>
    %bit = arith.cmpi sge, %acc, %t : i32
    gpu.yield %bit : i1
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 1, 0>,
      out_encoding = "bipolar"}
    : (memref<1x64x4xi32>, memref<1x50x4xi32>, memref<1x64x4xi32>, memref<64xi32>) -> ()
  return
}
