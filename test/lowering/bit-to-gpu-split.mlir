// RUN: bitmlir-opt %s --choose-tiles='target=sm_90a tile=rows=64,columns=64,stages=3,split=4' --bit-to-gpu=target=sm_90a | FileCheck %s

// Four blocks of a cluster take a part of K each, and add up: each of a block's four warps has its rows finished in one of
// the blocks, which counts the bytes of the other three, 32 accumulators a thread.

// CHECK-LABEL: llvm.func @plane_matmul_0
//  CHECK-SAME:   nvvm.cluster_dim = array<i32: 4, 1, 1>
//       CHECK:   %[[GROUP:.*]] = arith.constant 128 : i32
//       CHECK:   nvvm.mbarrier.init %{{.*}}, %[[GROUP]]
//       CHECK:   llvm.getelementptr %{{.*}}{{\[}}[[#SENT:]]{{\]}}
//       CHECK:   %[[ONCE:.*]] = arith.constant 1 : i32
//       CHECK:   nvvm.mbarrier.init %{{.*}}, %[[ONCE]]
//       CHECK:   llvm.getelementptr %{{.*}}{{\[}}[[#SENT]]{{\]}}
//       CHECK:   %[[BYTES:.*]] = arith.constant 12288 : i32
//       CHECK:   nvvm.mbarrier.arrive.expect_tx %{{.*}}, %[[BYTES]]
//       CHECK:   nvvm.fence.mbarrier.init

// All wait until the owner has its barrier, and nobody ends before it has received what others send.

//       CHECK:   nvvm.cluster.arrive.relaxed
//  CHECK-NEXT:   nvvm.cluster.wait
//       CHECK:   nvvm.cp.async.bulk.tensor.shared.cluster.global
//   CHECK-NOT:   nvvm.cluster
//       CHECK:   arith.constant 4611686293305360384 : i64
//       CHECK:   nvvm.wgmma.mma_async
//       CHECK:   %{{.*}}:32 = scf.if
//       CHECK:     llvm.getelementptr %{{.*}}{{\[}}[[#SENT]]{{\]}}
//       CHECK:     nvvm.mbarrier.try_wait.parity
//       CHECK:     llvm.load %{{.*}} : !llvm.ptr<3> -> vector<4xi32>
//       CHECK:     arith.addi %{{.*}} : vector<4xi32>
//       CHECK:   } else {
//       CHECK:     nvvm.mapa %{{.*}} : !llvm.ptr<3> -> !llvm.ptr<7>
//       CHECK:     %[[BARRIER:.*]] = llvm.getelementptr %{{.*}}{{\[}}[[#SENT]]{{\]}}
//       CHECK:     nvvm.mapa %[[BARRIER]], %{{.*}} : !llvm.ptr<3> -> !llvm.ptr<7>
// CHECK-COUNT-8:   llvm.inline_asm has_side_effects "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32

// CHECK-LABEL: func.func @product
func.func @product(%x: memref<1x64x320xi32>, %w: memref<1x64x320xi32>, %out: memref<64x64xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 10240 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x64x320xi32>, memref<1x64x320xi32>, memref<64x64xi32>) -> ()
  return
}
