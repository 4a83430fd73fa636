// RUN: bitmlir-opt %s --bit-to-gpu=target=sm_80 | FileCheck %s
// RUN: bitmlir-opt %s --choose-tiles='target=sm_90a tile=rows=64,columns=256,stages=4' --bit-to-gpu=target=sm_90a | FileCheck %s --check-prefixes=CHECK,TMA

// With bitmaps a kernel first counts the steps that they leave, then goes from set bit to set bit: plane after plane,
// 32 blocks of 1024 elements a word.

// CHECK-LABEL: llvm.func @plane_matmul_0
//         TMA:   nvvm.setmaxregister decrease
//       CHECK:   %[[COUNT:.*]] = scf.for
//       CHECK:     %[[OF_X:.*]] = llvm.load %{{.*}} : !llvm.ptr<1> -> i32
//       CHECK:     %[[OF_W:.*]] = llvm.load %{{.*}} : !llvm.ptr<1> -> i32
//       CHECK:     llvm.intr.ctpop
//       CHECK:   scf.while
//       CHECK:     scf.condition
//       CHECK:   llvm.intr.cttz
//         TMA:   nvvm.cp.async.bulk.tensor.shared.cluster.global
//         TMA:   nvvm.setmaxregister increase
//         TMA:   %[[SAME_COUNT:.*]] = scf.for
//         TMA:     llvm.intr.ctpop
//     TMA-NOT:     llvm.intr.cttz
//       CHECK:   llvm.return

// CHECK-LABEL: func.func @product
//  CHECK-SAME:   %[[OF_X:[^ ]*]]: memref<2x2x2xi32>, %[[OF_W:[^ ]*]]: memref<1x1x2xi32>
//       CHECK:   gpu.launch_func
//  CHECK-SAME:     %[[OF_X]] : memref<2x2x2xi32>, %[[OF_W]] : memref<1x1x2xi32>)
func.func @product(%x: memref<2x200x1252xi32>, %w: memref<1x100x1252xi32>, %of_x: memref<2x2x2xi32>,
                   %of_w: memref<1x1x2xi32>, %out: memref<200x100xi32>) {
  "bit.plane_matmul"(%x, %w, %of_x, %of_w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0, 1>, rhs_planes = array<i64: 0, 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40000 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 0, 0>,
      out_encoding = ""}
    : (memref<2x200x1252xi32>, memref<1x100x1252xi32>, memref<2x2x2xi32>, memref<1x1x2xi32>, memref<200x100xi32>) -> ()
  return
}
