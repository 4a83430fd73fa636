// RUN: bitmlir-opt %s --bit-verify | FileCheck %s
// RUN: bitmlir-opt %s --mlir-print-op-generic | bitmlir-opt --bit-verify | FileCheck %s

// Filters in groups have the channels of one. An attribute of 1 is the same as none.

// CHECK-LABEL: func.func @groups
//       CHECK:   "bit.conv2d"(%{{.*}}, %{{.*}}) ({
//       CHECK:   }) {dilation = array<i64: 1, 1>, groups = 2 : i64, padding = array<i64: 1, 1, 1, 1>, stride = array<i64: 1, 1>}
//       CHECK:   "bit.conv2d"(%{{.*}}, %{{.*}}) ({
//       CHECK:   }) {dilation = array<i64: 1, 1>, groups = 1 : i64, padding
!images = tensor<2x5x6x80xi1, #bit.encoding<"bipolar">>
!halves = tensor<8x3x3x40xi7, #bit.encoding<"bipolar7">>
!filters = tensor<8x3x3x80xi8, #bit.encoding<"bipolar8">>
func.func @groups(%x: !images, %v: !halves, %w: !filters) {
  %y = "bit.conv2d"(%x, %v) ({
  ^bb0(%acc: i32, %image: index, %row: index, %col: index, %channel: index):
    gpu.yield %acc : i32
  }) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 2 : i64}
    : (!images, !halves) -> tensor<2x5x6x8xi32>
  %z = "bit.conv2d"(%x, %w) ({
  ^bb0(%acc: i32, %image: index, %row: index, %col: index, %channel: index):
    gpu.yield %acc : i32
  }) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1 : i64}
    : (!images, !filters) -> tensor<2x5x6x8xi32>
  return
}

// CHECK-LABEL: func.func @spread
//       CHECK:   "bit.plane_spread_filters"(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}) {channels = 80 : i64, encoding = #bit.encoding<"bipolar">, groups = 2 : i64}
//  CHECK-SAME:     : (memref<1x8x36xi32>, memref<72xi32>, memref<2x8x36xi32>, memref<72xi32>) -> ()
func.func @spread(%w: memref<1x8x36xi32>, %sums: memref<72xi32>, %out: memref<2x8x36xi32>, %out_sums: memref<72xi32>) {
  "bit.plane_spread_filters"(%w, %sums, %out, %out_sums) {encoding = #bit.encoding<"bipolar">, groups = 2 : i64, channels = 80 : i64}
    : (memref<1x8x36xi32>, memref<72xi32>, memref<2x8x36xi32>, memref<72xi32>) -> ()
  return
}
