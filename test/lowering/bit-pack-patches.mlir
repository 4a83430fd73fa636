// RUN: bitmlir-opt %s --bit-verify --bit-decompose=target=sm_90a | FileCheck %s --check-prefix=BYTES
// RUN: bitmlir-opt %s --bit-verify --bit-decompose=target=sm_75 | FileCheck %s --check-prefix=PLANES
// RUN: bitmlir-opt %s --bit-verify --bit-decompose=target=sm_90a --bit-to-gpu=target=sm_90a | FileCheck %s --check-prefix=KERNEL
// RUN: bitmlir-opt %s --bit-verify --bit-decompose=target=sm_75 --bit-to-gpu=target=sm_75 | FileCheck %s --check-prefix=PACK

// Photographs have few channels: what a 3 × 3 window sees of three, 27 numbers, is a pixel for filters of 1 × 1. Where there is a
// unit for bytes, and nothing else takes the patches, they are never made: the convolution takes the bytes.

// BYTES-LABEL: func.func @first
//  BYTES-SAME:   %[[X:[^ ]*]]: memref<128x3xi8>
//  BYTES-SAME:   %[[W:[^ ]*]]: memref<1x40x4xi32>
//   BYTES-NOT:   memref.alloc
//       BYTES:   "bit.plane_byte_conv"(%[[X]], %[[W]],
//       BYTES:     %[[ACC:.*]] = "bit.plane_product"
//       BYTES:     gpu.yield %[[ACC]]
//       BYTES:   rhs_encoding = #bit.encoding<"bipolar">, window = array<i64: 8, 3, 2, 1, 1, 1, 8, 3, 2, 1, 1, 1>

// PLANES-LABEL: func.func @first
//  PLANES-SAME:   %[[X:[^ ]*]]: memref<128x3xi8>
//       PLANES:   "bit.plane_pack_patches"(%[[X]], %[[P:.*]], %[[SUMS:.*]]) {encoding = #bit.encoding<"u8">, window = array<i64: 8, 3, 2, 1, 1, 1, 8, 3, 2, 1, 1, 1>}
//   PLANES-NOT:   bit.plane_patches
//   PLANES-NOT:   bit.plane_patch_sums
//       PLANES:   "bit.plane_matmul"(%[[P]],
//       PLANES:     memref.load %[[SUMS]]

// Rows of an image of 24 bytes come to shared memory 8 at a time, zeros where they lie outside; the filters become bytes there.
// Lanes take four bytes of a row of taps, wherever they begin, from two words. 27 numbers are 36 bytes with rows of taps in whole
// groups, two instructions of 32.

// KERNEL-LABEL: llvm.func @plane_byte_conv_0
//       KERNEL:   nvvm.barrier0
//       KERNEL:   nvvm.cp.async.shared.global %{{.*}}, %{{.*}}, 8, cache = ca, %{{.*}} : !llvm.ptr<3>, !llvm.ptr<1>, i32
//       KERNEL:   nvvm.cp.async.commit.group
//       KERNEL:   llvm.store %{{.*}} : i32, !llvm.ptr<3>
//       KERNEL:   scf.for
//       KERNEL:     nvvm.cp.async.wait.group 1
//       KERNEL:     nvvm.barrier0
//       KERNEL:     scf.for %{{.*}} = %{{.*}} to %c2_i32
//       KERNEL:       llvm.intr.fshr
//       KERNEL:       nvvm.mma.sync {{.*}} {intOverflowBehavior = #nvvm.mma_int_overflow<wrapped>, {{.*}}multiplicandAPtxType = #nvvm.mma_type<s8>, multiplicandBPtxType = #nvvm.mma_type<s8>, shape = #nvvm.shape<m = 16, n = 8, k = 32>}

// PACK-LABEL: llvm.func @plane_pack_patches_0
//       PACK:   llvm.load %{{.*}} : !llvm.ptr<1> -> i8
//       PACK:   arith.muli %{{.*}}, %c16909320_i32
func.func @first(%x: tensor<2x8x8x3xi8>, %w: tensor<40x1x1x27xi1, #bit.encoding<"bipolar">>) -> tensor<2x4x4x40xi32> {
  %p = "bit.pack_patches"(%x) {size = array<i64: 3, 3>, stride = array<i64: 2, 2>, padding = array<i64: 1, 1, 1, 1>}
    : (tensor<2x8x8x3xi8>) -> tensor<2x4x4x27xi8, #bit.encoding<"u8">>
  %y = "bit.conv2d"(%p, %w) ({
  ^bb0(%acc: i32, %image: index, %row: index, %col: index, %channel: index):
    gpu.yield %acc : i32
  }) {stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1>}
    : (tensor<2x4x4x27xi8, #bit.encoding<"u8">>, tensor<40x1x1x27xi1, #bit.encoding<"bipolar">>) -> tensor<2x4x4x40xi32>
  return %y : tensor<2x4x4x40xi32>
}
