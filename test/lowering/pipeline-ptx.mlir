// RUN: bitmlir-opt %s --bit-ptx=target=sm_75 | FileCheck %s --check-prefixes=CHECK,SM75
// RUN: bitmlir-opt %s --bit-ptx=target=sm_80 | FileCheck %s --check-prefixes=CHECK,SM80
// RUN: bitmlir-opt %s --bit-ptx=target=sm_90 | FileCheck %s --check-prefixes=CHECK,SM90
// RUN: bitmlir-opt %s --bit-ptx=target=sm_90a | FileCheck %s --check-prefixes=CHECK,SM90A
// RUN: bitmlir-opt %s --bit-ptx=target=sm_100a | FileCheck %s --check-prefixes=CHECK,SM100A

// From tensors to PTX: each chip's instructions by name. Nothing of LLVM's own is left in between: `gpu.binary` holds the
// text of the kernels, and the host function launches them.

//  CHECK: gpu.binary @kernels
//   SM75: .target sm_75
//   SM80: .target sm_80
//   SM90: .target sm_90
//  SM90A: .target sm_90a
// SM100A: .target sm_100a

// Matrices are packed by shifts and exchanges between lanes.

//  CHECK: .entry plane_pack_0
//  CHECK: shf.l.wrap.b32
//  CHECK: shfl.sync.bfly.b32

// The product of ±1 with u2.

//  CHECK: .entry plane_matmul_1(
//   SM75: ldmatrix.sync.aligned.m8n8.x4.shared.b16
//   SM75: mma.sync.aligned.m8n8k128.row.col.s32.b1.b1.s32.xor.popc
//   SM80: ldmatrix.sync.aligned.m8n8.x4.shared.b16
//   SM80: mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc
//   SM90: mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc
//  SM90A: .reqntid 256
//  SM90A: griddepcontrol.launch_dependents
//  SM90A: griddepcontrol.wait
//  SM90A: mbarrier.try_wait.parity.shared
//  SM90A: cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes
//  SM90A: wgmma.fence.sync.aligned
//  SM90A: wgmma.mma_async.sync.aligned.m64n{{[0-9]+}}k256.s32.b1.b1.and.popc
//  SM90A: wgmma.commit_group.sync.aligned
//  SM90A: wgmma.wait_group.sync.aligned
// SM100A: mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32

// Each operation of a float result is rounded by itself: no fused multiply-add.

// CHECK-NOT: fma.
//     CHECK: cvt.rn.f32.s32
// CHECK-NOT: fma.
//     CHECK: mul.rn.f32
// CHECK-NOT: fma.
//     CHECK: add.rn.f32
// CHECK-NOT: fma.
//     CHECK: st.global

// CHECK-LABEL: func.func @product
//       CHECK:   gpu.launch_func @kernels::@plane_pack_0
//       CHECK:   gpu.launch_func @kernels::@plane_matmul_1
func.func @product(%x: tensor<40x3000xi8>, %w: tensor<50x3000xi2, #bit.encoding<"u2">>, %scale: tensor<50xf32>,
                   %bias: tensor<50xf32>) -> tensor<40x50xf32> {
  %p = "bit.pack"(%x) : (tensor<40x3000xi8>) -> tensor<40x3000xi1, #bit.encoding<"bipolar">>
  %y = "bit.matmul"(%p, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %f = arith.sitofp %acc : i32 to f32
    %s = tensor.extract %scale[%col] : tensor<50xf32>
    %b = tensor.extract %bias[%col] : tensor<50xf32>
    %scaled = arith.mulf %f, %s : f32
    %v = arith.addf %scaled, %b : f32
    gpu.yield %v : f32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>}
    : (tensor<40x3000xi1, #bit.encoding<"bipolar">>, tensor<50x3000xi2, #bit.encoding<"u2">>) -> tensor<40x50xf32>
  return %y : tensor<40x50xf32>
}
