// RUN: bitmlir-opt %s --bit-verify --bit-decompose=target=sm_80 | FileCheck %s
// RUN: bitmlir-opt %s --bit-verify --bit-decompose=target=sm_80 --bit-to-gpu=target=sm_80 | FileCheck %s --check-prefix=GPU
// RUN: bitmlir-opt %s --bit-verify --bit-decompose --bit-to-cpu | FileCheck %s --check-prefix=CPU

// Two groups of 40 channels, of which rows of filters have four words a tap, and rows of images four, too. ±1 has no 0 for the
// channels that a filter does not see: filters become two's complement of two bits. The rest is a convolution with these.

// CHECK-LABEL: func.func @groups
//  CHECK-SAME:   memref<1x60x4xi32>
//  CHECK-SAME:   %[[W:[^ ]*]]: memref<1x8x36xi32> {{[{][^}]*}}bit.shape = array<i64: 8, 3, 3, 40>
//  CHECK-SAME:   %[[WSUMS:[^ ]*]]: memref<72xi32>
//       CHECK:   %[[ALL:.*]] = memref.alloc() : memref<2x8x36xi32>
//       CHECK:   %[[ALLSUMS:.*]] = memref.alloc() : memref<72xi32>
//       CHECK:   "bit.plane_spread_filters"(%[[W]], %[[WSUMS]], %[[ALL]], %[[ALLSUMS]])
//  CHECK-SAME:     {channels = 80 : i64, encoding = #bit.encoding<"bipolar">, groups = 2 : i64}
//   CHECK-NOT:   bit.plane_patch_sums
//       CHECK:   "bit.plane_edge_sums"(%[[ALLSUMS]], %{{.*}}) {offset = 0 : i64, scale = 1 : i64
//       CHECK:   "bit.plane_matmul"(%{{.*}}, %[[ALL]]
//       CHECK:     "bit.plane_product"(%{{.*}}) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 1>}
//       CHECK:     "bit.plane_product"(%{{.*}}) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>}

// A word of both planes a thread, 8 filters of 36. The filter's group says where its channels begin; two words of the filter make
// one of the result. The first plane is 1 in the group, the second the inverted bit. The first word of a tap stores its sum,
// 2·sum − 40.

// GPU-LABEL: llvm.func @plane_spread_filters_0
//       GPU:   %[[TASK:.*]] = arith.addi
//       GPU:   %[[ALL:.*]] = arith.constant 288 : i32
//       GPU:   arith.cmpi ult, %[[TASK]], %[[ALL]]
//       GPU:   scf.if
//       GPU:     %[[INSIDE:.*]] = arith.xori
//       GPU:     %[[HIGH:.*]] = llvm.load %{{.*}} : !llvm.ptr<1> -> i32
//       GPU:     %[[LOW:.*]] = llvm.load %{{.*}} : !llvm.ptr<1> -> i32
//       GPU:     %[[BOTH:.*]] = llvm.intr.fshl(%[[HIGH]], %[[LOW]], %{{.*}})
//       GPU:     %[[NOT:.*]] = arith.xori %[[BOTH]], %c-1_i32
//       GPU:     %[[TOP:.*]] = arith.andi %[[NOT]], %[[INSIDE]]
//       GPU:     llvm.store %[[INSIDE]]
//       GPU:     llvm.store %[[TOP]]
//       GPU:     scf.if
//       GPU:       arith.muli %{{.*}}, %c2_i32
//       GPU:       arith.addi %{{.*}}, %c-40_i32

// CPU-LABEL: func.func @plane_spread_filters_0
//       CPU:   scf.for
//       CPU:     scf.for
//       CPU:       llvm.intr.fshl
//       CPU: func.func @groups
//       CPU:   call @plane_spread_filters_0
!images = tensor<2x5x6x80xi1, #bit.encoding<"bipolar">>
!filters = tensor<8x3x3x40xi1, #bit.encoding<"bipolar">>
func.func @groups(%x: !images, %w: !filters) -> tensor<2x5x6x8xi32> {
  %y = "bit.conv2d"(%x, %w) ({
  ^bb0(%acc: i32, %image: index, %row: index, %col: index, %channel: index):
    gpu.yield %acc : i32
  }) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 2 : i64}
    : (!images, !filters) -> tensor<2x5x6x8xi32>
  return %y : tensor<2x5x6x8xi32>
}

// With a zero point the channels of others have the code of 0.

// CHECK-LABEL: func.func @zero_point
//       CHECK:   %[[ALL:.*]] = memref.alloc() : memref<2x4x4xi32>
//       CHECK:   "bit.plane_spread_filters"(%{{.*}}, %{{.*}}, %[[ALL]], %{{.*}}) {channels = 8 : i64, encoding = #bit.encoding<"u2@1">, groups = 4 : i64}
//       CHECK:   "bit.plane_matmul"(%{{.*}}, %[[ALL]]

// GPU-LABEL: llvm.func @plane_spread_filters_{{[1-9]}}
//       GPU:     llvm.intr.fshl
//       GPU:     arith.ori
//       GPU:     llvm.intr.fshl
//   GPU-NOT:     arith.ori
//       GPU:     llvm.store

// GPU-LABEL: func.func @groups
//       GPU:   gpu.launch_func @kernels::@plane_spread_filters_0
// GPU-LABEL: func.func @zero_point
//       GPU:   gpu.launch_func @kernels::@plane_spread_filters_{{[1-9]}}
!codes = tensor<1x3x3x8xi1, #bit.encoding<"u1">>
!zero_point = tensor<4x1x1x2xi2, #bit.encoding<"u2@1">>
func.func @zero_point(%x: !codes, %w: !zero_point) -> tensor<1x3x3x4xi32> {
  %y = "bit.conv2d"(%x, %w) ({
  ^bb0(%acc: i32, %image: index, %row: index, %col: index, %channel: index):
    gpu.yield %acc : i32
  }) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>, groups = 4 : i64}
    : (!codes, !zero_point) -> tensor<1x3x3x4xi32>
  return %y : tensor<1x3x3x4xi32>
}
