// RUN: bitmlir-opt %s --bit-to-gpu=target=sm_90a | FileCheck %s

// 20000 rows against 64 columns of 1152 bits, which stay in shared memory: two blocks of K for each block's tiles, 16384 bytes.

// CHECK-LABEL: llvm.func @plane_matmul_0
//  CHECK-SAME:   (%[[X:[^:]*]]: !llvm.ptr {{[{][^}]*}}nvvm.grid_constant}, %[[W:[^:]*]]: !llvm.ptr {{[{][^}]*}}nvvm.grid_constant}
//       CHECK:   %[[ALL:.*]] = arith.constant 16384 : i32
//       CHECK:   nvvm.mbarrier.arrive.expect_tx %{{.*}}, %[[ALL]]
//       CHECK:   scf.for
//       CHECK:     nvvm.cp.async.bulk.tensor.shared.cluster.global %{{.*}}, %[[W]],

// Then stages of the rows' operand alone.

//       CHECK:   scf.for
//       CHECK:     %[[STAGE:.*]] = arith.constant 8192 : i32
//       CHECK:     nvvm.mbarrier.arrive.expect_tx %{{.*}}, %[[STAGE]]
//       CHECK:     nvvm.cp.async.bulk.tensor.shared.cluster.global %{{.*}}, %[[X]],
//   CHECK-NOT:     nvvm.cp.async.bulk.tensor.shared.cluster.global
//       CHECK:   scf.for

// Steps are written out: four products of 256 bits, and one of what is left of K.

// CHECK-COUNT-4:   nvvm.wgmma.mma_async
//       CHECK:     nvvm.wgmma.commit.group.sync.aligned
//       CHECK:     nvvm.mbarrier.try_wait.parity
//       CHECK:     nvvm.wgmma.mma_async
//   CHECK-NOT:     nvvm.wgmma.mma_async
//       CHECK:     nvvm.wgmma.commit.group.sync.aligned

// A tile has all columns, and so whole rows: their sums are stored, not added up, and nothing is cleared before. The other half of
// a row of 128 bits is stored with them.

//   CHECK-NOT:   llvm.atomicrmw
// CHECK-LABEL: func.func @layer
//   CHECK-NOT:   gpu.launch_func
//       CHECK:   gpu.launch_func  @kernels::@plane_matmul_0
func.func @layer(%x: memref<1x20000x36xi32>, %w: memref<1x64x36xi32>, %out: memref<1x20000x4xi32>, %sums: memref<20000xi32>) {
  "bit.plane_matmul"(%x, %w, %out, %sums) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    %bit = arith.cmpi sgt, %acc, %zero : i32
    gpu.yield %bit : i1
  }) {bitwise = #bit.bitwise<"and">, k = 1152 : i64, out_encoding = "bipolar", operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 1, 0>,
      tile = {alternate, columns = 64 : i64, rows = 64 : i64, stages = 8 : i64, stationary}}
    : (memref<1x20000x36xi32>, memref<1x64x36xi32>, memref<1x20000x4xi32>, memref<20000xi32>) -> ()
  return
}
