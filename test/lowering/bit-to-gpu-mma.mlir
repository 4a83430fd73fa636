// RUN: bitmlir-opt %s --bit-to-gpu=target=sm_75 | FileCheck %s --check-prefixes=CHECK,SM75
// RUN: bitmlir-opt %s --bit-to-gpu=target=sm_80 | FileCheck %s --check-prefixes=CHECK,SM80

// A product by XOR becomes a kernel in a module for the chip, and its launch: blocks of 64×64 elements, 128 threads, two stages
// of 16 KiB filled through registers on Turing, four filled by cp.async later.

//       CHECK: module attributes {gpu.container_module}
//        SM75: gpu.module @kernels [#nvvm.target<{{.*}}chip = "sm_75", features = "+ptx80">]
//        SM80: gpu.module @kernels [#nvvm.target<{{.*}}chip = "sm_80", features = "+ptx80">]
//       CHECK:   llvm.mlir.global external @shared_memory() {addr_space = 3 : i32, alignment = 1024
//       CHECK:   llvm.func @plane_matmul_0(%{{.*}}: !llvm.ptr<1> {llvm.noalias}, %{{.*}}: !llvm.ptr<1> {llvm.noalias},
//  CHECK-SAME:     nvvm.kernel
//  CHECK-SAME:     nvvm.reqntid = array<i32: 128, 1, 1>

// The ring is filled ahead of the loop; each step of it waits, fills a stage, and multiplies what lies in another.

//    SM75-NOT:     nvvm.cp.async
//        SM75:     llvm.load %{{.*}} : !llvm.ptr<1> -> vector<4xi32>
//        SM75:     llvm.store %{{.*}} : vector<4xi32>, !llvm.ptr<3>
//        SM80:     nvvm.cp.async.shared.global
//        SM80:     nvvm.cp.async.commit.group
//       CHECK:     scf.for
//        SM80:       nvvm.cp.async.wait.group 2
//       CHECK:       nvvm.barrier0
//       CHECK:       nvvm.ldmatrix %{{.*}} {eltType = #nvvm.ld_st_matrix_elt_type<b16>, layout = #nvvm.mma_layout<row>, num = 4
//        SM75:       nvvm.mma.sync
//   SM75-SAME:         b1Op = #nvvm.mma_b1op<xor_popc>
//   SM75-SAME:         shape = #nvvm.shape<m = 8, n = 8, k = 128>
//        SM80:       nvvm.mma.sync
//   SM80-SAME:         b1Op = #nvvm.mma_b1op<xor_popc>
//   SM80-SAME:         shape = #nvvm.shape<m = 16, n = 8, k = 256>
//       CHECK:     llvm.store %{{.*}} : vector<2xi32>, !llvm.ptr<1>
//       CHECK:     llvm.return

// CHECK-LABEL: func.func @product
//  CHECK-SAME:   %[[X:.*]]: memref<1x200x12xi32>, %[[W:.*]]: memref<1x100x12xi32>, %[[OUT:.*]]: memref<200x100xi32>
//   CHECK-NOT:   bit.
//   CHECK-DAG:   %[[BLOCKS:.*]] = arith.constant 8 : index
//   CHECK-DAG:   %[[THREADS:.*]] = arith.constant 128 : index
//    SM75-DAG:   %[[BYTES:.*]] = arith.constant 32768 : i32
//    SM80-DAG:   %[[BYTES:.*]] = arith.constant 65536 : i32
//       CHECK:   gpu.launch_func @kernels::@plane_matmul_0
//  CHECK-SAME:     blocks in (%[[BLOCKS]], %{{[^)]*}}) threads in (%[[THREADS]], %{{[^)]*}})
//  CHECK-SAME:     dynamic_shared_memory_size %[[BYTES]]
//  CHECK-SAME:     args(%[[X]] : memref<1x200x12xi32>, %[[W]] : memref<1x100x12xi32>, %[[OUT]] : memref<200x100xi32>)
//   CHECK-NOT:   gpu.launch_func
func.func @product(%x: memref<1x200x12xi32>, %w: memref<1x100x12xi32>, %out: memref<200x100xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"xor">, k = 300 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0>, out_encoding = ""}
    : (memref<1x200x12xi32>, memref<1x100x12xi32>, memref<200x100xi32>) -> ()
  return
}

// Blocks are numbered along x, the only axis of a grid that takes more than 65535.

// CHECK-LABEL: func.func @many_rows
//       CHECK:   gpu.launch_func @kernels::@plane_matmul_1 blocks in (
//    SM75-NOT:   , %c140625
//    SM80-NOT:   , %c70313
//       CHECK:   threads in
func.func @many_rows(%x: memref<1x9000000x4xi32>, %w: memref<1x200x4xi32>, %out: memref<9000000x200xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"xor">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0>, out_encoding = ""}
    : (memref<1x9000000x4xi32>, memref<1x200x4xi32>, memref<9000000x200xi32>) -> ()
  return
}
