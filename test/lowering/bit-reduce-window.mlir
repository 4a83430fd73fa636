// RUN: bitmlir-opt %s --bit-decompose=target=sm_90a | FileCheck %s --check-prefix=PLANES
// RUN: bitmlir-opt %s --bit-decompose=target=sm_90a --bit-to-gpu=target=sm_90a | FileCheck %s --check-prefix=GPU
// RUN: bitmlir-opt %s --bit-decompose --bit-to-cpu | FileCheck %s --check-prefix=CPU

// The largest of 2 × 2 numbers, to be kept in 40 channels of which the source has 32, and its sign.

// PLANES-LABEL: func.func @largest
//  PLANES-SAME:   (%[[X:.*]]: memref<128x32xi16> {{{.*}}}, %[[BITS:.*]]: memref<1x32x4xi32> {{{.*}}}, %[[SUMS:.*]]: memref<32xi32> {{{.*}}}, %[[KEPT:.*]]: memref<32x40xi16> {{{.*}}})
//       PLANES:   "bit.plane_reduce_window"(%[[X]], %[[BITS]], %[[SUMS]], %[[KEPT]])
//       PLANES:   ^bb0(%{{.*}}: index, %{{.*}}: index):
//       PLANES:     %[[VALUE:.*]] = "bit.window_value"() : () -> i32
//       PLANES:     arith.cmpi sge, %[[VALUE]],
//       PLANES:     gpu.yield %{{.*}}, %{{.*}} : i1, i16
//       PLANES:   channels = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1>, out_encoding = "bipolar", reduction = "max"

// A lane reads eight channels at once, of two places and four taps: 40 channels are tiles of 64, of which the last eight of 32
// are left out by lanes that have none.

//    GPU-LABEL: llvm.func @plane_reduce_window_0
//          GPU:   nvvm.griddepcontrol
//          GPU:   llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<8xi16>
//          GPU:   arith.extsi %{{.*}} : vector<8xi16> to vector<8xi32>
//          GPU:   arith.maxsi %{{.*}}, %{{.*}} : vector<8xi32>
//          GPU:   llvm.inline_asm {{.*}}st.global.L1::no_allocate.v4.b32

//    CPU-LABEL: func.func @plane_reduce_window_0
//          CPU:   vector.maskedload %{{.*}} : memref<128x32xi16>, vector<16xi1>, vector<16xi16> into vector<16xi16>
//          CPU:   arith.maxsi %{{.*}}, %{{.*}} : vector<16xi32>
func.func @largest(%x: tensor<2x8x8x32xi16>) -> (tensor<2x4x4x40xi1, #bit.encoding<"bipolar">>, tensor<2x4x4x40xi16>) {
  %signs, %kept = "bit.reduce_window"(%x) ({
  ^bb0(%acc: i32, %image: index, %y: index, %column: index, %channel: index):
    %zero = arith.constant 0 : i32
    %sign = arith.cmpi sge, %acc, %zero : i32
    %number = arith.trunci %acc : i32 to i16
    gpu.yield %sign, %number : i1, i16
  }) {reduction = "max", size = array<i64: 2, 2>, stride = array<i64: 2, 2>, padding = array<i64: 0, 0, 0, 0>}
    : (tensor<2x8x8x32xi16>) -> (tensor<2x4x4x40xi1, #bit.encoding<"bipolar">>, tensor<2x4x4x40xi16>)
  return %signs, %kept : tensor<2x4x4x40xi1, #bit.encoding<"bipolar">>, tensor<2x4x4x40xi16>
}
