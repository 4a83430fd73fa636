// RUN: bitmlir-opt %s --choose-tiles='target=sm_90 tile=rows=64,columns=64,warp_rows=32,warp_columns=32,stages=2' --bit-to-gpu=target=sm_90 | FileCheck %s --check-prefixes=CHECK,NATIVE
// RUN: bitmlir-opt %s --choose-tiles='target=sm_75 tile=rows=64,columns=64,warp_rows=32,warp_columns=32,stages=2' --bit-to-gpu=target=sm_75 | FileCheck %s --check-prefixes=CHECK,TURING

// AND where the chip has it; Turing's unit has only XOR: 2·(a & b) = (a ^ 0) + (0 ^ b) − (a ^ b), halved at the end.

//  CHECK-LABEL: llvm.func @plane_matmul_0
//        CHECK:   scf.for
//       NATIVE:     nvvm.mma.sync A[{{.*}}] B[{{.*}}] C[{{.*}}] {b1Op = #nvvm.mma_b1op<and_popc>
//   TURING-NOT:     and_popc
// TURING-COUNT-3:   b1Op = #nvvm.mma_b1op<xor_popc>
//       TURING:   arith.subi
//       TURING:   arith.shrsi
//        CHECK:   llvm.return
func.func @product(%x: memref<1x64x4xi32>, %w: memref<1x64x4xi32>, %out: memref<64x64xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x64x4xi32>, memref<1x64x4xi32>, memref<64x64xi32>) -> ()
  return
}
