// RUN: bitmlir-opt %s --bit-verify --bit-decompose | FileCheck %s
// RUN: bitmlir-opt %s --bit-verify --bit-decompose=target=sm_90a | FileCheck %s --check-prefix=GATHER

// A convolution is a product of patches with filters, which kernels for GPUs gather themselves. Pixels are rows, and the taps of a filter one row: 9 taps of 40 channels
// are 36 words. By AND, to which places outside the image, without bits, add nothing.

// CHECK-LABEL: func.func @signs
//  CHECK-SAME:   %[[X:[^ ]*]]: memref<1x60x4xi32> {{[{][^}]*}}bit.shape = array<i64: 2, 5, 6, 40>
//  CHECK-SAME:   %[[XSUMS:[^ ]*]]: memref<60xi32>
//  CHECK-SAME:   %[[W:[^ ]*]]: memref<1x8x36xi32> {{[{][^}]*}}bit.shape = array<i64: 8, 3, 3, 40>
//  CHECK-SAME:   %[[WSUMS:[^ ]*]]: memref<72xi32>
//  CHECK-SAME:   %[[OLD:[^ ]*]]: memref<60x8xi32>
//       CHECK:   %[[PATCHES:.*]] = memref.alloc() : memref<1x60x36xi32>
//       CHECK:   "bit.plane_patches"(%[[X]], %[[PATCHES]])
//  CHECK-SAME:     window = array<i64: 5, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>
//       CHECK:   %[[SUMS:.*]] = memref.alloc() : memref<60xi32>
//       CHECK:   "bit.plane_patch_sums"(%[[XSUMS]], %[[SUMS]])
//  CHECK-SAME:     window = array<i64: 5, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>

// GATHER-LABEL: func.func @signs
//  GATHER-SAME:   %[[X:[^ ]*]]: memref<1x60x4xi32>
//   GATHER-NOT:   bit.plane_patches
//       GATHER:   "bit.plane_matmul"(%[[X]],
//       GATHER:     bitwise = #bit.bitwise<"and">, k = 1152 : i64
//  GATHER-SAME:     window = array<i64: 5, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>

// ±1 has no 0: what the taps inside the image add up to depends on the filter and on which of nine ways the window lies.

//       CHECK:   %[[EDGES:.*]] = memref.alloc() : memref<9x8xi32>
//       CHECK:   "bit.plane_edge_sums"(%[[WSUMS]], %[[EDGES]]) {offset = -40 : i64, scale = 2 : i64
//       CHECK:   "bit.plane_matmul"(%[[PATCHES]], %[[W]]
//       CHECK:     ^bb0(%[[ROW:.*]]: index, %[[COL:.*]]: index):
//       CHECK:     %[[ACC:.*]] = "bit.plane_product"
//       CHECK:     memref.load %[[SUMS]][%[[ROW]]]
//       CHECK:     %[[CLASS:.*]] = "bit.window_class"(%[[ROW]]) {window = array<i64: 5, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>}
//       CHECK:     memref.load %[[EDGES]][%[[CLASS]], %[[COL]]]
//       CHECK:     memref.load %[[OLD]][%[[ROW]], %[[COL]]] : memref<60x8xi32>
//       CHECK:     bitwise = #bit.bitwise<"and">, k = 1152 : i64
!images = tensor<2x5x6x40xi1, #bit.encoding<"bipolar">>
!filters = tensor<8x3x3x40xi1, #bit.encoding<"bipolar">>
func.func @signs(%x: !images, %w: !filters, %old: tensor<2x5x6x8xi32>) -> tensor<2x5x6x8xi32> {
  %y = "bit.conv2d"(%x, %w) ({
  ^bb0(%acc: i32, %image: index, %row: index, %col: index, %channel: index):
    %before = tensor.extract %old[%image, %row, %col, %channel] : tensor<2x5x6x8xi32>
    %sum = arith.addi %acc, %before : i32
    gpu.yield %sum : i32
  }) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>} : (!images, !filters) -> tensor<2x5x6x8xi32>
  return %y : tensor<2x5x6x8xi32>
}

// Codes with a 0 need no edge sums. The second layer takes the packed result of the first as it is.

// CHECK-LABEL: func.func @layers
//   CHECK-NOT:   bit.plane_edge_sums
//       CHECK:   %[[HIDDEN:.*]] = memref.alloc() : memref<2x18x4xi32>
//       CHECK:   %[[HSUMS:.*]] = memref.alloc() : memref<18xi32>
//       CHECK:   "bit.plane_matmul"(%{{.*}}, %{{.*}}, %[[HIDDEN]], %[[HSUMS]])
//   CHECK-NOT:   bit.plane_edge_sums
//       CHECK:   "bit.plane_patches"(%[[HIDDEN]]
//       CHECK:   "bit.plane_patch_sums"(%[[HSUMS]]
!codes = tensor<2x3x3x16xi2, #bit.encoding<"u2">>
func.func @layers(%x: tensor<2x5x5x8xi1, #bit.encoding<"u1">>, %w: tensor<16x3x3x8xi1, #bit.encoding<"bipolar">>,
                  %v: tensor<4x3x3x16xi1, #bit.encoding<"bipolar">>) -> tensor<2x1x1x4xi32> {
  %h = "bit.conv2d"(%x, %w) ({
  ^bb0(%acc: i32, %image: index, %row: index, %col: index, %channel: index):
    %code = arith.trunci %acc : i32 to i2
    gpu.yield %code : i2
  }) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>}
    : (tensor<2x5x5x8xi1, #bit.encoding<"u1">>, tensor<16x3x3x8xi1, #bit.encoding<"bipolar">>) -> !codes
  %y = "bit.conv2d"(%h, %v) ({
  ^bb0(%acc: i32, %image: index, %row: index, %col: index, %channel: index):
    gpu.yield %acc : i32
  }) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>}
    : (!codes, tensor<4x3x3x16xi1, #bit.encoding<"bipolar">>) -> tensor<2x1x1x4xi32>
  return %y : tensor<2x1x1x4xi32>
}
