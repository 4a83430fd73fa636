// RUN: bitmlir-opt %s --choose-tiles='target=sm_90a tile=rows=16,columns=16,warp_rows=16,warp_columns=16' --bit-to-gpu=target=sm_90a | FileCheck %s --check-prefixes=CHECK,HOPPER
// RUN: bitmlir-opt %s --choose-tiles='target=sm_80 tile=rows=16,columns=16,warp_rows=16,warp_columns=16' --bit-to-gpu=target=sm_80 | FileCheck %s --check-prefixes=CHECK,AMPERE

// A tile without stages: a warp loads all its bits at once, 16 bytes of a row at a time, then multiplies. There is no shared
// memory and no barrier. 300 bits are 48 bytes, so that the fourth lane of a row loads from its start, and takes 0 instead.

// CHECK-LABEL: llvm.func @plane_matmul_0
//  CHECK-SAME:   nvvm.reqntid = array<i32: 32, 1, 1>
//      HOPPER:   nvvm.griddepcontrol launch_dependents
//      HOPPER:   llvm.inline_asm has_side_effects "griddepcontrol.wait;", "l,l,l,~{memory}" %arg0, %arg1, %arg2
//  AMPERE-NOT:   nvvm.griddepcontrol
//   CHECK-NOT:   barrier
//       CHECK:   %[[INSIDE:.*]] = arith.cmpi ult, %[[CHUNK:[^,]*]], %c48_i32
//       CHECK:   arith.select %[[INSIDE]], %[[CHUNK]], %c0_i32
//       CHECK:   llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xi32>
//       CHECK:   arith.select %[[INSIDE]], %{{.*}}, %c0_i32

// Two rows of lhs, two of rhs; 2 × 1 planes of 512 bits in steps of 256, for two fragments.

// CHECK-COUNT-5: llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xi32>
//   CHECK-NOT:   barrier
// CHECK-COUNT-8: nvvm.mma.sync
//   CHECK-NOT:   nvvm.mma.sync
//       CHECK:   llvm.inline_asm has_side_effects "st.global.L1::no_allocate.v4.b32
//   CHECK-NOT:   barrier

// CHECK-LABEL: func.func @product
//       CHECK:   %[[BLOCKS:.*]] = arith.constant 6 : index
//       CHECK:   %[[THREADS:.*]] = arith.constant 32 : index
//       CHECK:   gpu.launch_func @kernels::@plane_matmul_0
//  CHECK-SAME:     blocks in (%[[BLOCKS]], %{{[^)]*}}) threads in (%[[THREADS]], %{{[^)]*}})
func.func @product(%x: memref<2x20x12xi32>, %w: memref<1x48x12xi32>, %out: memref<20x48xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %high = "bit.plane_product"(%zero) {lhs_planes = array<i64: 1>, rhs_planes = array<i64: 0>} : (i32) -> i32
    %one = arith.constant 1 : i32
    %twice = arith.shli %high, %one : i32
    %acc = "bit.plane_product"(%twice) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 300 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<2x20x12xi32>, memref<1x48x12xi32>, memref<20x48xi32>) -> ()
  return
}
