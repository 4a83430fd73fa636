// RUN: bitmlir-opt %s --bit-to-gpu=target=sm_80 | FileCheck %s
// RUN: bitmlir-opt %s --bit-to-gpu=target=sm_75 | FileCheck %s --check-prefix=LOAD

// Two images of 6 × 6 pixels of 256 channels in a plane, 3 × 3 taps with padding 1, eight filters. A lane copies 16 bytes of what a
// place sees at a time: its tap is 32 bytes long. What lies outside the image comes as zeros.

// CHECK-LABEL: llvm.func @plane_matmul_0
//       CHECK:   arith.divui %{{.*}}, %c36_i32
//       CHECK:   scf.for
//       CHECK:   %[[TAP:.*]] = arith.divui %[[BYTE:.*]], %c32_i32
//       CHECK:   arith.remui %[[BYTE]], %c32_i32
//       CHECK:   arith.divui %[[TAP]], %c3_i32
//       CHECK:   arith.remui %[[TAP]], %c3_i32
//       CHECK:   arith.cmpi ult, %{{.*}}, %c6_i32
//       CHECK:   arith.cmpi ult, %{{.*}}, %c6_i32
//       CHECK:   %[[INSIDE:.*]] = arith.andi
//       CHECK:   nvvm.cp.async.shared.global %{{.*}}, %{{.*}}, 16, cache = cg, %{{.*}}

//  LOAD-LABEL: llvm.func @plane_matmul_0
//        LOAD:   arith.divui %{{.*}}, %c36_i32
//        LOAD:   arith.select %{{.*}}, %{{.*}}, %{{.*}} : !llvm.ptr<1>
//        LOAD:   llvm.load %{{.*}} : !llvm.ptr<1> -> vector<4xi32>
func.func @layer(%x: memref<1x72x8xi32>, %w: memref<1x8x72xi32>, %out: memref<72x8xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 2304 : i64, out_encoding = "",
      operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>,
      tile = {columns = 64 : i64, rows = 64 : i64, stages = 3 : i64, warp_columns = 32 : i64, warp_rows = 32 : i64},
      window = array<i64: 6, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>} : (memref<1x72x8xi32>, memref<1x8x72xi32>, memref<72x8xi32>) -> ()
  return
}
