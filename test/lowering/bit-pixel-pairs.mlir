// RUN: bitmlir-opt %s --bit-verify --bit-decompose=target=sm_90a | FileCheck %s
// RUN: bitmlir-opt %s --bit-verify --bit-decompose=target=sm_90a --bit-to-gpu=target=sm_90a | FileCheck %s --check-prefix=GPU
// RUN: bitmlir-opt %s --bit-verify --bit-decompose | FileCheck %s --check-prefix=CPU

// Between two convolutions pixels of 64 channels take 64 bits. The second one sees pairs of them: half as many rows, a place and
// the one beside it, with filters for both. Sums of pixels are asked for by place, and limits by channel; what its borders add
// was summed by filters for pairs. Arguments and results are as they always are.

// CHECK-LABEL: func.func @chain
//  CHECK-SAME:   %[[X:[^ ]*]]: memref<1x96x4xi32>
//       CHECK:   %[[HIDDEN:.*]] = memref.alloc() : memref<1x96x2xi32>
//       CHECK:   %[[SUMS:.*]] = memref.alloc() : memref<96xi32>
//       CHECK:   "bit.plane_matmul"(%[[X]], %{{.*}}, %[[HIDDEN]], %[[SUMS]])
//       CHECK:   %[[PAIRS:.*]] = memref.reinterpret_cast %[[HIDDEN]] to offset: [0], sizes: [1, 48, 4], strides: [192, 4, 1]
//       CHECK:   %[[W:.*]] = memref.alloc() : memref<1x80x36xi32>
//       CHECK:   %[[WSUMS:.*]] = memref.alloc() : memref<720xi32>
//       CHECK:   "bit.plane_pair_filters"(%{{.*}}, %{{.*}}, %[[W]], %[[WSUMS]]) {offset = -64 : i64, scale = 2 : i64, window = array<i64: 6, 3, 1, 1, 1, 1, 8, 3, 1, 1, 1, 1>}
//       CHECK:   %[[EDGES:.*]] = memref.alloc() : memref<9x80xi32>
//       CHECK:   "bit.plane_edge_sums"(%[[WSUMS]], %[[EDGES]]) {offset = 0 : i64, scale = 1 : i64, window = array<i64: 6, 3, 1, 1, 1, 1, 4, 3, 1, 1, 1, 1>}
//       CHECK:   %[[OUT:.*]] = memref.reinterpret_cast %{{.*}} to offset: [0], sizes: [48, 80], strides: [80, 1] : memref<96x40xi32>
//       CHECK:   "bit.plane_matmul"(%[[PAIRS]], %[[W]], %[[OUT]])
//  CHECK-NEXT:   ^bb0(%[[ROW:.*]]: index, %[[COL:.*]]: index):
//       CHECK:     %[[FIRST:.*]] = arith.muli %[[ROW]], %c2
//       CHECK:     %[[SECOND:.*]] = arith.addi %{{.*}}, %c1
//       CHECK:     "bit.window_sum"(%[[SUMS]], %[[FIRST]]) {window = array<i64: 6, 3, 1, 1, 1, 1, 8, 3, 1, 1, 1, 1>}
//       CHECK:     "bit.window_sum"(%[[SUMS]], %[[SECOND]])
//       CHECK:     %[[IS_FIRST:.*]] = arith.cmpi ult, %[[COL]], %c40
//       CHECK:     arith.select %[[IS_FIRST]]
//       CHECK:     "bit.window_class"(%[[ROW]]) {window = array<i64: 6, 3, 1, 1, 1, 1, 4, 3, 1, 1, 1, 1>}
//       CHECK:     %[[CHANNEL:.*]] = arith.remui %[[COL]], %c40
//       CHECK:     memref.load %{{.*}}[%[[CHANNEL]]] : memref<40xi32>
//       CHECK:   window = array<i64: 6, 3, 1, 1, 1, 1, 4, 3, 1, 1, 1, 1>} : (memref<1x48x4xi32>, memref<1x80x36xi32>, memref<48x80xi32>) -> ()

// A word of a filter for pairs is one of the filter where its half is a tap of it, else 0; the first of a tap adds up the sums
// of both halves.

// GPU-LABEL: llvm.func @plane_pair_filters_2
//       GPU:   %[[TASK:.*]] = arith.addi
//       GPU:   arith.cmpi ult, %[[TASK]], %{{.*}}
//       GPU:   scf.if
//       GPU:     %[[IS_TAP:.*]] = arith.cmpi ult, %{{.*}}, %c3_i32
//       GPU:     llvm.load
//       GPU:     arith.select %[[IS_TAP]]
//       GPU:     llvm.store
//       GPU:     scf.if
// GPU-COUNT-2:     llvm.load
//       GPU:       llvm.store
// GPU-LABEL: func.func @chain
//       GPU:   %[[PAIRS:.*]] = memref.reinterpret_cast
//       GPU:   args(%[[PAIRS]] : memref<1x48x4xi32>

// CPU-LABEL: func.func @chain
//   CPU-NOT:   plane_pair_filters
//       CPU:   memref.alloc() : memref<1x96x4xi32>
//   CPU-NOT:   plane_pair_filters
!images = tensor<2x6x8x128xi1, #bit.encoding<"bipolar">>
!hidden = tensor<2x6x8x64xi1, #bit.encoding<"bipolar">>
!first = tensor<64x1x1x128xi1, #bit.encoding<"bipolar">>
!second = tensor<40x3x3x64xi1, #bit.encoding<"bipolar">>
func.func @chain(%x: !images, %w: !first, %v: !second, %bias: tensor<40xi32>) -> tensor<2x6x8x40xi32> {
  %h = "bit.conv2d"(%x, %w) ({
  ^bb0(%acc: i32, %image: index, %row: index, %col: index, %channel: index):
    %zero = arith.constant 0 : i32
    %bit = arith.cmpi sge, %acc, %zero : i32
    gpu.yield %bit : i1
  }) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>} : (!images, !first) -> !hidden
  %y = "bit.conv2d"(%h, %v) ({
  ^bb0(%acc: i32, %image: index, %row: index, %col: index, %channel: index):
    %b = tensor.extract %bias[%channel] : tensor<40xi32>
    %sum = arith.addi %acc, %b : i32
    gpu.yield %sum : i32
  }) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>} : (!hidden, !second)
    -> tensor<2x6x8x40xi32>
  return %y : tensor<2x6x8x40xi32>
}
