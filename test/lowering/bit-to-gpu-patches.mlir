// RUN: bitmlir-opt %s --bit-to-gpu=target=sm_90a | FileCheck %s
// RUN: bitmlir-opt %s --bit-to-cpu | FileCheck %s --check-prefix=CPU

// Two images of 5 × 6 pixels, a word quad each; 3 × 3 taps at 30 places an image. A thread copies 16 bytes of a patch, 540 of
// them for each of two planes. What lies outside the image is read as the first pixel, and is 0.

// CHECK-LABEL: llvm.func @plane_patches_0
//       CHECK:   nvvm.griddepcontrol
//       CHECK:   arith.cmpi ult, %{{.*}}, %c1080_i32
//       CHECK:   %[[INSIDE:.*]] = arith.andi %{{.*}}, %{{.*}} : i1
//       CHECK:   %[[WORDS:.*]] = llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xi32>
//       CHECK:   %[[KEPT:.*]] = arith.select %[[INSIDE]], %[[WORDS]], %{{.*}} : vector<4xi32>
//       CHECK:   llvm.store %[[KEPT]], %{{.*}} {alignment = 16 : i64} : vector<4xi32>, !llvm.ptr<1>

// A thread a place adds up the sums of the pixels that it sees.

// CHECK-LABEL: llvm.func @plane_patch_sums_1
//       CHECK:   arith.cmpi ult, %{{.*}}, %c60_i32
//       CHECK:   scf.for %{{.*}} = %{{.*}} to %c3_i32
// CHECK-COUNT-3:     llvm.load %{{.*}} {alignment = 4 : i64} : !llvm.ptr<1> -> i32
//       CHECK:     arith.select

// A thread a filter in a class, eight in nine. The class says which rows of taps lie inside, and which columns.

// CHECK-LABEL: llvm.func @plane_edge_sums_2
//       CHECK:   arith.cmpi ult, %{{.*}}, %c72_i32
//       CHECK:   %[[WIDTH:.*]] = arith.subi
//       CHECK:   %[[HEIGHT:.*]] = arith.subi
//       CHECK:   %[[TAPS:.*]] = arith.muli %[[HEIGHT]], %[[WIDTH]]
//       CHECK:   scf.for %{{.*}} = %{{.*}} to %[[TAPS]]

// CHECK-LABEL: func.func @window
//       CHECK:   gpu.launch_func @kernels::@plane_patches_0
//       CHECK:   gpu.launch_func @kernels::@plane_patch_sums_1
//       CHECK:   gpu.launch_func @kernels::@plane_edge_sums_2

// CPU-LABEL: func.func @plane_patches_0
//       CPU:   scf.if
//       CPU: func.func @plane_patch_sums_1
//       CPU:   arith.select
//       CPU: func.func @plane_edge_sums_2
//       CPU: func.func @window
//       CPU:   call @plane_patches_0
//       CPU:   call @plane_patch_sums_1
//       CPU:   call @plane_edge_sums_2
func.func @window(%x: memref<2x60x4xi32>, %sums: memref<60xi32>, %patches: memref<2x60x36xi32>, %patch_sums: memref<60xi32>,
                  %taps: memref<72xi32>, %edges: memref<9x8xi32>) {
  "bit.plane_patches"(%x, %patches) {window = array<i64: 5, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>}
    : (memref<2x60x4xi32>, memref<2x60x36xi32>) -> ()
  "bit.plane_patch_sums"(%sums, %patch_sums) {window = array<i64: 5, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>}
    : (memref<60xi32>, memref<60xi32>) -> ()
  "bit.plane_edge_sums"(%taps, %edges) {scale = 2 : i64, offset = -40 : i64, window = array<i64: 5, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>}
    : (memref<72xi32>, memref<9x8xi32>) -> ()
  return
}
