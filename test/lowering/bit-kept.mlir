// RUN: bitmlir-opt %s --bit-decompose=target=sm_90a | FileCheck %s --check-prefix=PLANES
// RUN: bitmlir-opt %s --bit-decompose=target=sm_90a --bit-to-gpu=target=sm_90a | FileCheck %s --check-prefix=GPU

// A convolution that yields the sign of its sum with a shortcut, and that sum. The product adds up the pixels that it sees.

// PLANES-LABEL: func.func @residual
//  PLANES-SAME:   %[[SUMS:[^ ]*]]: memref<16384xi32> {bit.encoding = "bipolar", bit.part = "sums", {{.*}}bit.value = "argument0"}
//       PLANES:   "bit.plane_matmul"
//       PLANES:   ^bb0(%[[ROW:.*]]: index, %[[COLUMN:.*]]: index):
//       PLANES:     "bit.window_sum"(%[[SUMS]], %[[ROW]])
//       PLANES:     %[[SHORT:.*]] = memref.load %[[SHORTCUT:.*]][%[[ROW]], %[[COLUMN]]] : memref<16384x64xi16>
//       PLANES:     gpu.yield %{{.*}}, %{{.*}} : i1, i16
//       PLANES:   operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 1, 1>, out_encoding = "bipolar", window =
//   PLANES-NOT:   bit.plane_patch_sums

// What is read for each element comes before the products; what is kept leaves by TMA.

//    GPU-LABEL: llvm.func @plane_matmul_1
//          GPU:   llvm.load %{{.*}} {alignment = 4 : i64} : !llvm.ptr<1> -> vector<2xi16>
//          GPU:   nvvm.wgmma.mma_async
//          GPU:   nvvm.cp.async.bulk.tensor.global.shared.cta
//          GPU:   llvm.store %{{.*}} : i32, !llvm.ptr<1>
func.func @residual(%x: tensor<64x16x16x64xi1, #bit.encoding<"bipolar">>, %w: tensor<64x3x3x64xi1, #bit.encoding<"bipolar">>,
                    %shortcut: tensor<64x16x16x64xi16>) -> (tensor<64x16x16x64xi1, #bit.encoding<"bipolar">>, tensor<64x16x16x64xi16>) {
  %signs, %kept = "bit.conv2d"(%x, %w) ({
  ^bb0(%acc: i32, %image: index, %y: index, %column: index, %channel: index):
    %short = tensor.extract %shortcut[%image, %y, %column, %channel] : tensor<64x16x16x64xi16>
    %wide = arith.extsi %short : i16 to i32
    %sum = arith.addi %acc, %wide : i32
    %zero = arith.constant 0 : i32
    %sign = arith.cmpi sge, %sum, %zero : i32
    %number = arith.trunci %sum : i32 to i16
    gpu.yield %sign, %number : i1, i16
  }) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>}
    : (tensor<64x16x16x64xi1, #bit.encoding<"bipolar">>, tensor<64x3x3x64xi1, #bit.encoding<"bipolar">>)
    -> (tensor<64x16x16x64xi1, #bit.encoding<"bipolar">>, tensor<64x16x16x64xi16>)
  return %signs, %kept : tensor<64x16x16x64xi1, #bit.encoding<"bipolar">>, tensor<64x16x16x64xi16>
}
