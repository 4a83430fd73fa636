// RUN: bitmlir-opt %s --bit-decompose=target=sm_90 --bit-verify | FileCheck %s

// Batches keep their dimension, behind that of the planes; corrections read the sums of their own matrix.

!x = tensor<3x8x40xi1, #bit.encoding<"bipolar">>
!w = tensor<3x64x40xi2, #bit.encoding<"u2@row">>

// CHECK-LABEL: func.func @batch
//  CHECK-SAME:   %[[X:[^:]*]]: memref<1x3x8x4xi32> {bit.encoding = "bipolar", bit.part = "planes",
//  CHECK-SAME:     bit.shape = array<i64: 3, 8, 40>, bit.value = "argument0"}
//  CHECK-SAME:   %[[X_SUMS:[^:]*]]: memref<3x8xi32> {bit.encoding = "bipolar", bit.part = "sums",
//  CHECK-SAME:   %[[W:[^:]*]]: memref<2x3x64x4xi32>
//  CHECK-SAME:   %[[W_SUMS:[^:]*]]: memref<3x64xi32>
//  CHECK-SAME:   %[[W_ZEROS:[^:]*]]: memref<3x64xi32>
//  CHECK-SAME:   %[[BIAS:[^:]*]]: memref<3x8xi32>
//  CHECK-SAME:   %[[OUT:[^:]*]]: memref<3x8x64xi32> {bit.part = "values", bit.result, bit.shape = array<i64: 3, 8, 64>,
//       CHECK:   "bit.plane_matmul"(%[[X]], %[[W]], %[[OUT]])
//       CHECK:   ^bb0(%[[ROW:.*]]: index, %[[COL:.*]]: index, %[[BATCH:.*]]: index):
//   CHECK-DAG:     memref.load %[[X_SUMS]][%[[BATCH]], %[[ROW]]]
//   CHECK-DAG:     memref.load %[[W_SUMS]][%[[BATCH]], %[[COL]]]
//   CHECK-DAG:     memref.load %[[W_ZEROS]][%[[BATCH]], %[[COL]]]
//   CHECK-DAG:     memref.load %[[BIAS]][%[[BATCH]], %[[ROW]]]
//       CHECK:   : (memref<1x3x8x4xi32>, memref<2x3x64x4xi32>, memref<3x8x64xi32>) -> ()
func.func @batch(%x: !x, %w: !w, %bias: tensor<3x8xi32>) -> tensor<3x8x64xi32> {
  %y = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index, %batch: index):
    %b = tensor.extract %bias[%batch, %row] : tensor<3x8xi32>
    %sum = arith.addi %acc, %b : i32
    gpu.yield %sum : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> tensor<3x8x64xi32>
  return %y : tensor<3x8x64xi32>
}

// Of groups, only what belongs to rhs is indexed by the group. A packed result is scratch of the rows' shape.

!rows = tensor<100x40xi1, #bit.encoding<"bipolar">>
!bits = tensor<100x64xi1, #bit.encoding<"bipolar">>

// CHECK-LABEL: func.func @groups
//  CHECK-SAME:   %[[X:[^:]*]]: memref<1x100x4xi32>
//  CHECK-SAME:   %[[X_SUMS:[^:]*]]: memref<100xi32>
//  CHECK-SAME:   %[[W:[^:]*]]: memref<2x3x64x4xi32>
//  CHECK-SAME:   %[[W_SUMS:[^:]*]]: memref<3x64xi32>
//  CHECK-SAME:   %[[W_ZEROS:[^:]*]]: memref<3x64xi32>
//  CHECK-SAME:   %[[OFFSETS:[^:]*]]: memref<4xi32> {bit.part = "values", bit.shape = array<i64: 4>,
//  CHECK-SAME:   %[[OUT:[^:]*]]: memref<1x100x4xi32>
//  CHECK-SAME:   %[[OUT_SUMS:[^:]*]]: memref<100xi32>
//       CHECK:   "bit.plane_grouped_matmul"(%[[X]], %[[W]], %[[OFFSETS]], %[[OUT]], %[[OUT_SUMS]])
//       CHECK:   ^bb0(%[[ROW:.*]]: index, %[[COL:.*]]: index, %[[GROUP:.*]]: index):
//   CHECK-DAG:     memref.load %[[X_SUMS]][%[[ROW]]]
//   CHECK-DAG:     memref.load %[[W_SUMS]][%[[GROUP]], %[[COL]]]
//   CHECK-DAG:     memref.load %[[W_ZEROS]][%[[GROUP]], %[[COL]]]
func.func @groups(%x: !rows, %w: !w, %offsets: tensor<4xi32>) -> !bits {
  %y = "bit.grouped_matmul"(%x, %w, %offsets) ({
  ^bb0(%acc: i32, %row: index, %col: index, %group: index):
    %zero = arith.constant 0 : i32
    %bit = arith.cmpi sge, %acc, %zero : i32
    gpu.yield %bit : i1
  }) : (!rows, !w, tensor<4xi32>) -> !bits
  return %y : !bits
}
