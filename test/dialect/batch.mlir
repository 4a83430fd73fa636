// RUN: bitmlir-opt %s --bit-verify | FileCheck %s
// RUN: bitmlir-opt %s --bit-verify | bitmlir-opt --bit-verify | FileCheck %s

// Batches of matrices and groups of rows, in text, on both levels.

!x = tensor<3x8x40xi1, #bit.encoding<"bipolar">>
!w = tensor<3x64x40xi2, #bit.encoding<"u2">>
!y = tensor<3x8x64xi1, #bit.encoding<"bipolar">>

// CHECK-LABEL: func.func @batch
//       CHECK:   "bit.matmul"
//       CHECK:   ^bb0(%[[ACC:.*]]: i32, %[[ROW:.*]]: index, %[[COL:.*]]: index, %[[BATCH:.*]]: index):
//       CHECK:     tensor.extract %{{.*}}[%[[BATCH]], %[[ROW]]] : tensor<3x8xi32>
//       CHECK:     tensor.extract %{{.*}}[%[[COL]]] : tensor<64xi32>
//       CHECK:     tensor.extract %{{.*}}[%[[BATCH]]] : tensor<3xi32>
//       CHECK:   -> tensor<3x8x64xi1, #bit.encoding<"bipolar">>
func.func @batch(%x: !x, %w: !w, %rows: tensor<3x8xi32>, %columns: tensor<64xi32>, %each: tensor<3xi32>) {
  %y = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index, %batch: index):
    %a = tensor.extract %rows[%batch, %row] : tensor<3x8xi32>
    %b = tensor.extract %columns[%col] : tensor<64xi32>
    %c = tensor.extract %each[%batch] : tensor<3xi32>
    %ab = arith.addi %a, %b : i32
    %abc = arith.addi %ab, %c : i32
    %bit = arith.cmpi sge, %acc, %abc : i32
    gpu.yield %bit : i1
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> !y
  return
}

// CHECK-LABEL: func.func @groups
//       CHECK:   "bit.grouped_matmul"
//       CHECK:   ^bb0(%[[ACC:.*]]: i32, %{{.*}}: index, %[[COL:.*]]: index, %[[GROUP:.*]]: index):
//       CHECK:     tensor.extract %{{.*}}[%[[GROUP]], %[[COL]]] : tensor<3x64xi32>
//       CHECK:   (tensor<100x40xi1, #bit.encoding<"bipolar">>, tensor<3x64x40xi2, #bit.encoding<"u2">>, tensor<4xi32>) -> tensor<100x64xi32>
func.func @groups(%x: tensor<100x40xi1, #bit.encoding<"bipolar">>, %w: !w, %offsets: tensor<4xi32>, %bias: tensor<3x64xi32>) {
  %y = "bit.grouped_matmul"(%x, %w, %offsets) ({
  ^bb0(%acc: i32, %row: index, %col: index, %group: index):
    %b = tensor.extract %bias[%group, %col] : tensor<3x64xi32>
    %sum = arith.addi %acc, %b : i32
    gpu.yield %sum : i32
  }) : (tensor<100x40xi1, #bit.encoding<"bipolar">>, !w, tensor<4xi32>) -> tensor<100x64xi32>
  return
}

// CHECK-LABEL: func.func @planes
//       CHECK:   "bit.plane_matmul"
//       CHECK:   ^bb0(%{{.*}}: index, %[[COL:.*]]: index, %[[BATCH:.*]]: index):
//       CHECK:     memref.load %{{.*}}[%[[BATCH]], %[[COL]]] : memref<3x64xi32>
//       CHECK:   (memref<1x3x8x4xi32>, memref<2x3x64x4xi32>, memref<3x8x64xi32>) -> ()
//       CHECK:   "bit.plane_grouped_matmul"
//       CHECK:   (memref<1x100x4xi32>, memref<2x3x64x4xi32>, memref<4xi32>, memref<1x100x4xi32>, memref<100xi32>) -> ()
//       CHECK:   "bit.tensor_map"(%{{.*}}) {box = array<i64: 32, 64, 1, 2>} : (memref<2x3x64x4xi32>)
func.func @planes(%x: memref<1x3x8x4xi32>, %w: memref<2x3x64x4xi32>, %sums: memref<3x64xi32>, %out: memref<3x8x64xi32>,
                  %all: memref<1x100x4xi32>, %offsets: memref<4xi32>, %bits: memref<1x100x4xi32>, %bit_sums: memref<100xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index, %batch: index):
    %s = memref.load %sums[%batch, %col] : memref<3x64xi32>
    %acc = "bit.plane_product"(%s) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 1>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x3x8x4xi32>, memref<2x3x64x4xi32>, memref<3x8x64xi32>) -> ()
  "bit.plane_grouped_matmul"(%all, %w, %offsets, %bits, %bit_sums) ({
  ^bb0(%row: index, %col: index, %group: index):
    %s = memref.load %sums[%group, %col] : memref<3x64xi32>
    %acc = "bit.plane_product"(%s) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 1>} : (i32) -> i32
    %bit = arith.cmpi sge, %acc, %s : i32
    gpu.yield %bit : i1
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, out_encoding = "bipolar"}
    : (memref<1x100x4xi32>, memref<2x3x64x4xi32>, memref<4xi32>, memref<1x100x4xi32>, memref<100xi32>) -> ()
  %map = "bit.tensor_map"(%w) {box = array<i64: 32, 64, 1, 2>} : (memref<2x3x64x4xi32>) -> !llvm.ptr
  return
}
