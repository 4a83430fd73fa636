// RUN: bitmlir-opt %s --choose-tiles='target=sm_80 tile=rows=64,columns=64,warp_rows=32,warp_columns=32,stages=2' --bit-to-gpu=target=sm_80 | FileCheck %s

// A body is evaluated on the elements that a thread holds, two neighbouring columns at a time. What depends on the row
// alone stays a single value, what depends on nothing is computed once. Arrays that are read by row or by column alone come
// from shared memory, where other warps have put them.

// CHECK-LABEL: llvm.func @plane_matmul_0
//       CHECK:   nvvm.mma.sync
//   CHECK-DAG:   llvm.load %{{.*}} : !llvm.ptr<3> -> f32
//   CHECK-DAG:   llvm.load %{{.*}} : !llvm.ptr<3> -> vector<2xf32>
//   CHECK-DAG:   arith.sitofp %{{.*}} : vector<2xi32> to vector<2xf32>
//       CHECK:   arith.mulf %{{.*}} : vector<2xf32>
//       CHECK:   arith.mulf %{{.*}} : vector<2xf32>
//       CHECK:   arith.truncf %{{.*}} : vector<2xf32> to vector<2xf16>
//       CHECK:   llvm.inline_asm has_side_effects "st.global.L1::no_allocate.v4.b32 [$0], {$1, $2, $3, $4};"
func.func @scales(%x: memref<1x64x4xi32>, %w: memref<1x64x4xi32>, %of_rows: memref<64xf32>, %of_columns: memref<64xf32>,
                  %out: memref<64x64xf16>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    %value = arith.sitofp %acc : i32 to f32
    %by_row = memref.load %of_rows[%row] : memref<64xf32>
    %once = arith.mulf %value, %by_row : f32
    %by_column = memref.load %of_columns[%col] : memref<64xf32>
    %twice = arith.mulf %once, %by_column : f32
    %half = arith.truncf %twice : f32 to f16
    gpu.yield %half : f16
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x64x4xi32>, memref<1x64x4xi32>, memref<64x64xf16>) -> ()
  return
}

// Rows of odd length: neighbours are not aligned, and are read and stored one by one, inside the matrix only.

// CHECK-LABEL: llvm.func @plane_matmul_1
//       CHECK:   nvvm.mma.sync
//   CHECK-NOT:   llvm.load %{{.*}} -> vector<2xi32>
//   CHECK-NOT:   llvm.store %{{.*}} : vector<2xi32>
//       CHECK:   llvm.load %{{.*}} : !llvm.ptr<1> -> i32
//       CHECK:   scf.if
//       CHECK:     llvm.store %{{.*}} : i32, !llvm.ptr<1>
//       CHECK:   llvm.return
func.func @odd(%x: memref<1x63x4xi32>, %w: memref<1x63x4xi32>, %whole: memref<63x63xi32>, %out: memref<63x63xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    %more = memref.load %whole[%row, %col] : memref<63x63xi32>
    %sum = arith.addi %acc, %more : i32
    gpu.yield %sum : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x63x4xi32>, memref<1x63x4xi32>, memref<63x63xi32>) -> ()
  return
}

// Planes of different weight run in one loop: shift and sign of the accumulator come from tables of bit fields.

// CHECK-LABEL: llvm.func @plane_matmul_2
//       CHECK:   scf.for
//       CHECK:     arith.shli
//       CHECK:     scf.for
//       CHECK:       nvvm.mma.sync
//   CHECK-NOT:   scf.for
//       CHECK:   llvm.inline_asm has_side_effects "st.global.L1::no_allocate.v4.b32 [$0], {$1, $2, $3, $4};"
func.func @horner(%x: memref<1x64x4xi32>, %w: memref<2x64x4xi32>, %out: memref<64x64xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %one = arith.constant 1 : i32
    %high = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 1>} : (i32) -> i32
    %shifted = arith.shli %high, %one : i32
    %acc = "bit.plane_product"(%shifted) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x64x4xi32>, memref<2x64x4xi32>, memref<64x64xi32>) -> ()
  return
}

// Truth values are a byte each in memory, whereas LLVM packs those of a vector into bits.

// CHECK-LABEL: llvm.func @plane_matmul_3
//   CHECK-NOT:   llvm.load %{{.*}} -> vector<2xi1>
//       CHECK:   llvm.load %{{.*}} : !llvm.ptr<1> -> vector<2xi8>
//   CHECK-NOT:   llvm.load %{{.*}} -> vector<2xi1>
//       CHECK:   llvm.return
func.func @truth_values(%x: memref<1x64x4xi32>, %w: memref<1x64x4xi32>, %flips: memref<64xi1>, %out: memref<64x64xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    %flip = memref.load %flips[%col] : memref<64xi1>
    %minus = arith.subi %zero, %acc : i32
    %value = arith.select %flip, %minus, %acc : i32
    gpu.yield %value : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x64x4xi32>, memref<1x64x4xi32>, memref<64x64xi32>) -> ()
  return
}

// An array may have no axes.

// CHECK-LABEL: llvm.func @plane_matmul_4
//       CHECK:   llvm.load %{{.*}} : !llvm.ptr<1> -> i32
//       CHECK:   llvm.return
func.func @scalar(%x: memref<1x64x4xi32>, %w: memref<1x64x4xi32>, %more: memref<i32>, %out: memref<64x64xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    %one = memref.load %more[] : memref<i32>
    %sum = arith.addi %acc, %one : i32
    gpu.yield %sum : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x64x4xi32>, memref<1x64x4xi32>, memref<64x64xi32>) -> ()
  return
}
