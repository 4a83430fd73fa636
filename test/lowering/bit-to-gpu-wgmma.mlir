// RUN: bitmlir-opt %s --choose-tiles='target=sm_90a tile=rows=64,columns=240,stages=4' --bit-to-gpu=target=sm_90a | FileCheck %s

// On Hopper operands are tensor maps; one warp group copies, the others multiply.

//       CHECK: gpu.module @kernels [#nvvm.target<{{.*}}chip = "sm_90a"
// CHECK-LABEL: llvm.func @plane_matmul_0
//  CHECK-SAME:   %[[X:[^ ]*]]: !llvm.ptr {llvm.align = 64 : i64, llvm.byval = !llvm.array<16 x i64>, nvvm.grid_constant},
//  CHECK-SAME:   %[[W:[^ ]*]]: !llvm.ptr {llvm.align = 64 : i64, llvm.byval = !llvm.array<16 x i64>, nvvm.grid_constant},
//  CHECK-SAME:   %[[OUT:[^ ]*]]: !llvm.ptr<1> {llvm.noalias})
//  CHECK-SAME:   nvvm.reqntid = array<i32: 256, 1, 1>
//       CHECK:   nvvm.mbarrier.init
//       CHECK:   nvvm.fence.mbarrier.init
//       CHECK:   nvvm.barrier0

// The producer: wait until a stage is empty, then two boxes of 1024 bits a row, of no more rows than there are, and of
// 512 bits where K is no longer.

//       CHECK:   nvvm.setmaxregister decrease 40
//       CHECK:   scf.for
//       CHECK:     scf.for
//       CHECK:       nvvm.mbarrier.try_wait.parity
//       CHECK:       %[[BYTES:.*]] = arith.constant 10496 : i32
//       CHECK:       nvvm.mbarrier.arrive.expect_tx %{{.*}}, %[[BYTES]]
//       CHECK:       nvvm.cp.async.bulk.tensor.shared.cluster.global %{{.*}}, %[[X]],
//       CHECK:       nvvm.cp.async.bulk.tensor.shared.cluster.global %{{.*}}, %[[W]],

// The consumers: wait until a stage is full, multiply it in steps of 256 bits, as many as K has, and give back the one before.
// Descriptors say that rows are swizzled over 64 bytes.

//       CHECK:   nvvm.setmaxregister increase
//       CHECK:   scf.for
//       CHECK:     scf.for
//       CHECK:       nvvm.mbarrier.try_wait.parity
//       CHECK:       nvvm.wgmma.fence.aligned
//       CHECK:       arith.constant -9223371899415756800 : i64
// CHECK-COUNT-2:     nvvm.wgmma.mma_async %{{.*}} <m = 64, n = 240, k = 256>, D[<s32>, <one>], A[<b1>, <one>, <row>], B[<b1>, <one>, <col>]
//       CHECK:       nvvm.wgmma.commit.group.sync.aligned
//       CHECK:       nvvm.wgmma.wait.group.sync.aligned 1
//       CHECK:       nvvm.mbarrier.arrive
//       CHECK:     nvvm.wgmma.wait.group.sync.aligned 0
//       CHECK:     llvm.store %{{.*}} : vector<2xi32>, !llvm.ptr<1>

// Boxes are (words, rows, planes); there are as many blocks as output tiles, or as multiprocessors.

// CHECK-LABEL: func.func @product
//  CHECK-SAME:   %[[X:[^:]*]]: memref<1x200x12xi32>, %[[W:[^:]*]]: memref<1x100x12xi32>, %[[OUT:[^:]*]]: memref<200x100xi32>
//       CHECK:   %[[X_MAP:.*]] = "bit.tensor_map"(%[[X]]) {box = array<i64: 16, 64, 1>}
//       CHECK:   %[[W_MAP:.*]] = "bit.tensor_map"(%[[W]]) {box = array<i64: 16, 100, 1>}
//       CHECK:   %[[BLOCKS:.*]] = arith.constant 4 : index
//       CHECK:   %[[THREADS:.*]] = arith.constant 256 : index
//       CHECK:   gpu.launch_func @kernels::@plane_matmul_0
//  CHECK-SAME:     blocks in (%[[BLOCKS]], %{{[^)]*}}) threads in (%[[THREADS]], %{{[^)]*}})
//  CHECK-SAME:     args(%[[X_MAP]] : !llvm.ptr, %[[W_MAP]] : !llvm.ptr, %[[OUT]] : memref<200x100xi32>)
func.func @product(%x: memref<1x200x12xi32>, %w: memref<1x100x12xi32>, %out: memref<200x100xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 300 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x200x12xi32>, memref<1x100x12xi32>, memref<200x100xi32>) -> ()
  return
}

// x·xᵀ needs two maps over one buffer: their boxes differ.

// CHECK-LABEL: func.func @gram
//  CHECK-SAME:   %[[X:[^:]*]]: memref<1x200x12xi32>, %[[OUT:[^:]*]]: memref<200x200xi32>
//       CHECK:   %[[ROWS:.*]] = "bit.tensor_map"(%[[X]]) {box = array<i64: 16, 64, 1>}
//       CHECK:   %[[COLUMNS:.*]] = "bit.tensor_map"(%[[X]]) {box = array<i64: 16, 200, 1>}
//       CHECK:   args(%[[ROWS]] : !llvm.ptr, %[[COLUMNS]] : !llvm.ptr, %[[OUT]] : memref<200x200xi32>)
func.func @gram(%x: memref<1x200x12xi32>, %out: memref<200x200xi32>) {
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 300 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x200x12xi32>, memref<1x200x12xi32>, memref<200x200xi32>) -> ()
  return
}

// Up to 256 bits they are swizzled over 32 bytes, and multiplied at once.

// CHECK-LABEL: func.func @short_rows
//       CHECK:   "bit.tensor_map"(%{{.*}}) {box = array<i64: 8, 64, 1>}
func.func @short_rows(%x: memref<1x200x8xi32>, %w: memref<1x100x8xi32>, %out: memref<200x100xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 200 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x200x8xi32>, memref<1x100x8xi32>, memref<200x100xi32>) -> ()
  return
}
