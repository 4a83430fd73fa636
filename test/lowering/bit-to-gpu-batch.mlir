// RUN: bitmlir-opt %s --bit-to-gpu=target=sm_90a --split-input-file | FileCheck %s

// A batch of 5: tiles are numbered matrix after matrix, two of 64×64 in each. A box lies in one matrix, and ends with it:
// sizes are (words, rows, matrices, planes). Results leave by TMA too, which stores no row of the next matrix.

// CHECK-LABEL: llvm.func @plane_matmul_0
//       CHECK:   %[[TILES:.*]] = arith.constant 10 : i32
//       CHECK:   scf.for %[[TILE:[^ ]*]] = %{{.*}} to %[[TILES]]
//       CHECK:     %[[EACH:.*]] = arith.constant 2 : i32
//       CHECK:     arith.remui %[[TILE]], %[[EACH]]
//       CHECK:     %[[MATRIX:.*]] = arith.divui %[[TILE]], %{{.*}}
//       CHECK:     nvvm.cp.async.bulk.tensor.shared.cluster.global %{{.*}}box[%{{[^,]*}}, %{{[^,]*}}, %[[MATRIX]], %{{[^,]*}}]
//       CHECK:     nvvm.cp.async.bulk.tensor.shared.cluster.global %{{.*}}box[%{{[^,]*}}, %{{[^,]*}}, %[[MATRIX]], %{{[^,]*}}]
//       CHECK:     nvvm.cp.async.bulk.tensor.global.shared.cta %{{.*}}box[%{{[^,]*}}, %{{[^,]*}}, %{{[^,]*}}]

// CHECK-LABEL: func.func @batch
//  CHECK-SAME:   %[[X:[^:]*]]: memref<1x5x100x12xi32>, %[[W:[^:]*]]: memref<2x5x64x12xi32>, %{{.*}}, %[[OUT:[^:]*]]: memref<5x100x64xi32>
//   CHECK-DAG:   "bit.tensor_map"(%[[X]]) {box = array<i64: 16, 64, 1, 1>}
//   CHECK-DAG:   "bit.tensor_map"(%[[W]]) {box = array<i64: 16, 64, 1, 1>}
//   CHECK-DAG:   "bit.tensor_map"(%[[OUT]]) {box = array<i64: 32, 16, 1>}
//       CHECK:   gpu.launch_func @kernels::@plane_matmul_0
func.func @batch(%x: memref<1x5x100x12xi32>, %w: memref<2x5x64x12xi32>, %sums: memref<5x64xi32>, %out: memref<5x100x64xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index, %batch: index):
    %s = memref.load %sums[%batch, %col] : memref<5x64xi32>
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 1>} : (i32) -> i32
    %sum = arith.addi %acc, %s : i32
    gpu.yield %sum : i32
  }) {bitwise = #bit.bitwise<"and">, k = 300 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = "",
      tile = {columns = 64 : i64, rows = 64 : i64, stages = 4 : i64}}
    : (memref<1x5x100x12xi32>, memref<2x5x64x12xi32>, memref<5x100x64xi32>) -> ()
  return
}

// -----

// Groups: how many tiles there are, and where they lie, follows from the offsets, which the kernel reads. Rows of the
// next group are not stored, so that results do not leave by TMA. The grid is for as many tiles as there can be.

// CHECK-LABEL: llvm.func @plane_grouped_matmul_0
//       CHECK:   %[[COUNT:.*]]:2 = scf.for {{.*}} -> (i32, i32)
//       CHECK:     llvm.load %{{.*}} : !llvm.ptr<1> -> i32
//       CHECK:   scf.for %[[TILE:[^ ]*]] = %{{.*}} to %[[COUNT]]#1
//       CHECK:     %[[GROUP:.*]]:4 = scf.while (%{{.*}}, %{{.*}} = %[[TILE]])
//       CHECK:     nvvm.cp.async.bulk.tensor.shared.cluster.global %{{.*}}box[%{{[^,]*}}, %{{[^,]*}}, %{{[^,]*}}] :
//       CHECK:     nvvm.cp.async.bulk.tensor.shared.cluster.global %{{.*}}box[%{{[^,]*}}, %{{[^,]*}}, %[[GROUP]]#0, %{{[^,]*}}]
//   CHECK-NOT:     nvvm.cp.async.bulk.tensor.global.shared.cta
//       CHECK:     llvm.store

// CHECK-LABEL: func.func @groups
//  CHECK-SAME:   %[[X:[^:]*]]: memref<1x100x12xi32>, %[[W:[^:]*]]: memref<2x5x64x12xi32>
//   CHECK-DAG:   "bit.tensor_map"(%[[X]]) {box = array<i64: 16, 64, 1>}
//   CHECK-DAG:   "bit.tensor_map"(%[[W]]) {box = array<i64: 16, 64, 1, 1>}
//       CHECK:   %[[BLOCKS:.*]] = arith.constant 6 : index
//       CHECK:   gpu.launch_func @kernels::@plane_grouped_matmul_0 blocks in (%[[BLOCKS]]
func.func @groups(%x: memref<1x100x12xi32>, %w: memref<2x5x64x12xi32>, %offsets: memref<6xi32>, %out: memref<100x64xi32>) {
  "bit.plane_grouped_matmul"(%x, %w, %offsets, %out) ({
  ^bb0(%row: index, %col: index, %group: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 1>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 300 : i64, out_encoding = "",
      tile = {columns = 64 : i64, rows = 64 : i64, stages = 4 : i64}}
    : (memref<1x100x12xi32>, memref<2x5x64x12xi32>, memref<6xi32>, memref<100x64xi32>) -> ()
  return
}
