// RUN: bitmlir-opt %s --bit-to-gpu=target=sm_90a | FileCheck %s --check-prefixes=CHECK,WGMMA
// RUN: bitmlir-opt %s --bit-to-gpu=target=sm_90 | FileCheck %s --check-prefixes=CHECK,MMA

// What products are added to need not be zero. Planes of lhs that begin differently are not multiplied side by side.

// CHECK-LABEL: llvm.func @plane_matmul_0
//       CHECK:   %[[BIAS:.*]] = arith.constant 1234567 : i32
//       CHECK:   vector.broadcast %[[BIAS]]
func.func @different_starts(%x: memref<2x8x32xi32>, %w: memref<1x640x32xi32>, %out: memref<8x640xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %bias = arith.constant 1234567 : i32
    %p = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    %q = "bit.plane_product"(%bias) {lhs_planes = array<i64: 1>, rhs_planes = array<i64: 0>} : (i32) -> i32
    %both = arith.subi %q, %p : i32
    gpu.yield %both : i32
  }) {bitwise = #bit.bitwise<"and">, k = 1024 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<2x8x32xi32>, memref<1x640x32xi32>, memref<8x640xi32>) -> ()
  return
}

// What they are added to is read before the products, from global memory: nothing is staged so early.

// CHECK-LABEL: llvm.func @plane_matmul_1
// WGMMA-NOT:   llvm.load %{{.*}} : !llvm.ptr<3>
// MMA:         llvm.load %{{.*}} : !llvm.ptr<1> -> i32
// CHECK-LABEL: llvm.func @plane_matmul_2
func.func @start_of_each_row(%x: memref<1x64x32xi32>, %w: memref<1x64x32xi32>, %s: memref<64xi32>, %out: memref<64x64xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %start = memref.load %s[%row] : memref<64xi32>
    %p = "bit.plane_product"(%start) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %p : i32
  }) {bitwise = #bit.bitwise<"and">, k = 1024 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x64x32xi32>, memref<1x64x32xi32>, memref<64x64xi32>) -> ()
  return
}

// Two shifts that together leave no bit stay two: one by 40 would be undefined.

// CHECK-NOT:   arith.constant 40 : i32
// CHECK-LABEL: func.func @different_starts
func.func @shifted_out(%x: memref<1x64x32xi32>, %w: memref<1x64x32xi32>, %out: memref<64x64xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %by = arith.constant 20 : i32
    %p = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    %once = arith.shli %p, %by : i32
    %twice = arith.shli %once, %by : i32
    %q = "bit.plane_product"(%twice) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %q : i32
  }) {bitwise = #bit.bitwise<"and">, k = 1024 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x64x32xi32>, memref<1x64x32xi32>, memref<64x64xi32>) -> ()
  return
}
