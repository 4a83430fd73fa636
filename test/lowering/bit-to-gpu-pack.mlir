// RUN: bitmlir-opt %s --bit-to-gpu=target=sm_90a | FileCheck %s

// Packing: a lane reads up to 16 bytes at once (here 4, as rows have 300 bytes) from inside the row, puts the bits of a
// plane together, and exchanges runs of 16 bits for the other half of its word; the words hold no bits past the row.

// CHECK-LABEL: llvm.func @plane_pack_0
//       CHECK:   scf.for
//       CHECK:     arith.minui
//       CHECK:     llvm.load %{{.*}} {alignment = 4 : i64} : !llvm.ptr<1> -> vector<4xi8>
//       CHECK:     llvm.intr.fshl
// CHECK-COUNT-1:   nvvm.shfl.sync bfly
//       CHECK:     llvm.store %{{.*}} : i32, !llvm.ptr<1>
//       CHECK:     math.ctpop
// CHECK-COUNT-5: nvvm.shfl.sync bfly
//   CHECK-NOT:   nvvm.shfl.sync
//       CHECK:   llvm.store %{{.*}} : i32, !llvm.ptr<1>
//       CHECK:   llvm.return

// Zero points of rows are added before, and copied along.

// CHECK-LABEL: llvm.func @plane_pack_1
//       CHECK:   %[[ZERO:.*]] = llvm.load %{{.*}} : !llvm.ptr<1> -> i32
//       CHECK:   llvm.load %{{.*}} : !llvm.ptr<1> -> vector<4xi16>
//       CHECK:   %[[ZEROS:.*]] = vector.broadcast %[[ZERO]] : i32 to vector<4xi32>
//       CHECK:   arith.addi %{{.*}}, %[[ZEROS]]
//       CHECK:   llvm.store %[[ZERO]], %{{.*}} : i32, !llvm.ptr<1>
//       CHECK:   llvm.return

// Unpacking: a thread takes an element and reads its bit of each plane.

// CHECK-LABEL: llvm.func @plane_unpack_2
// CHECK-COUNT-2: llvm.load %{{.*}} : !llvm.ptr<1> -> i32
//       CHECK:   %[[VALUE:.*]] = arith.trunci %{{.*}} : i32 to i8
//       CHECK:   llvm.store %[[VALUE]], %{{.*}} : i8, !llvm.ptr<1>
//       CHECK:   llvm.return

// CHECK-LABEL: llvm.func @plane_unpack_3
// CHECK-LABEL: func.func @packing
//       CHECK:   %[[ROW_BLOCKS:.*]] = arith.constant 13 : index
//       CHECK:   gpu.launch_func @kernels::@plane_pack_0 blocks in (%[[ROW_BLOCKS]],
//       CHECK:   gpu.launch_func @kernels::@plane_pack_1
//       CHECK:   gpu.launch_func @kernels::@plane_unpack_2
func.func @packing(%x: memref<100x300xi8>, %y: memref<100x300xi16>, %planes: memref<2x100x12xi32>,
                   %sums: memref<100xi32>, %zeros: memref<100xi32>, %out_zeros: memref<100xi32>,
                   %out: memref<100x300xi8>) {
  "bit.plane_pack"(%x, %planes, %sums) {encoding = #bit.encoding<"i2">, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0>}
    : (memref<100x300xi8>, memref<2x100x12xi32>, memref<100xi32>) -> ()
  "bit.plane_pack"(%y, %planes, %sums, %zeros, %out_zeros)
    {encoding = #bit.encoding<"u2@row">, operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 1>}
    : (memref<100x300xi16>, memref<2x100x12xi32>, memref<100xi32>, memref<100xi32>, memref<100xi32>) -> ()
  "bit.plane_unpack"(%planes, %out) {encoding = #bit.encoding<"ternary">} : (memref<2x100x12xi32>, memref<100x300xi8>) -> ()
  return
}

// Blocks are numbered along x, the only axis of a grid that takes more than 65535.

// CHECK-LABEL: func.func @many_rows
//       CHECK:   gpu.launch_func @kernels::@plane_unpack_3 blocks in (
//   CHECK-NOT:   , %c70000
//       CHECK:   threads in
func.func @many_rows(%planes: memref<1x70000x12xi32>, %out: memref<70000x300xi8>) {
  "bit.plane_unpack"(%planes, %out) {encoding = #bit.encoding<"u1">}
    : (memref<1x70000x12xi32>, memref<70000x300xi8>) -> ()
  return
}
