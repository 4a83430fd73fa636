// RUN: bitmlir-opt %s --bit-to-gpu=target=sm_90a | FileCheck %s

// On swapped sides a lane holds two rows of a column, which may be of different classes: each is read by itself, and nowhere two
// numbers at once.

// CHECK-LABEL: llvm.func @plane_matmul_0
//   CHECK-NOT:   llvm.load {{.*}} : !llvm.ptr<1> -> vector<2xi32>
//       CHECK:   llvm.load %{{.*}} : !llvm.ptr<1> -> i32
//   CHECK-NOT:   llvm.load {{.*}} : !llvm.ptr<1> -> vector<2xi32>
// CHECK-LABEL: func.func @edges
func.func @edges(%x: memref<1x12x4xi32>, %w: memref<1x800x4xi32>, %edges: memref<800x2xi32>, %out: memref<12x800xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    %class = "bit.window_class"(%row) {window = array<i64: 1, 1, 1, 0, 0, 1, 6, 2, 1, 1, 0, 1>} : (index) -> index
    %edge = memref.load %edges[%col, %class] : memref<800x2xi32>
    %sum = arith.addi %acc, %edge : i32
    gpu.yield %sum : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, out_encoding = "", operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>,
      tile = {columns = 64 : i64, rows = 64 : i64, stages = 4 : i64, swapped}}
    : (memref<1x12x4xi32>, memref<1x800x4xi32>, memref<12x800xi32>) -> ()
  return
}
