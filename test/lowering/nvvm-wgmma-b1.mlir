// RUN: bitmlir-opt %s --nvvm-wgmma-b1 | FileCheck %s
// RUN: bitmlir-opt %s --nvvm-wgmma-b1 --nvvm-wgmma-b1 | FileCheck %s
// RUN: bitmlir-opt %s --convert-nvvm-to-llvm | FileCheck %s --check-prefix=UPSTREAM

// MLIR 22 prints the 1-bit wgmma without its bit operation, which the PTX ISA demands. When this check fails, a newer
// MLIR has it, and the pass can go.

// UPSTREAM-LABEL: llvm.func @product
//       UPSTREAM:   wgmma.mma_async.sync.aligned.m64n8k256.s32.b1.b1 {

!acc = !llvm.struct<(i32, i32, i32, i32)>

llvm.func @product(%acc: !acc, %a: i64, %b: i64) -> !acc {
  %r = nvvm.wgmma.mma_async %a, %b, %acc, #nvvm.shape<m = 64, n = 8, k = 256>, D[<s32>, <one>], A[<b1>, <one>, <row>],
    B[<b1>, <one>, <col>] : !acc -> !acc
  llvm.return %r : !acc
}

// CHECK-LABEL: llvm.func @one_bit
//       CHECK:   "{wgmma.mma_async.sync.aligned.m64n8k256.s32.b1.b1.and.popc {$0, $1, $2, $3}, $4, $5, p;}"
llvm.func @one_bit(%a: i64, %b: i64) {
  %r = llvm.inline_asm has_side_effects
    "{wgmma.mma_async.sync.aligned.m64n8k256.s32.b1.b1 {$0, $1, $2, $3}, $4, $5, p;}", "=r,=r,=r,=r,l,l" %a, %b
    : (i64, i64) -> !acc
  llvm.return
}

// Other types and other instructions are left alone.

// CHECK-LABEL: llvm.func @others
//       CHECK:   "{wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {$0, $1, $2, $3}, $4, $5, p;}"
//       CHECK:   "mov.b32 $0, $1; // as in .b1.b1 {$0}"
llvm.func @others(%a: i64, %b: i64, %c: i32) {
  %r = llvm.inline_asm has_side_effects
    "{wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {$0, $1, $2, $3}, $4, $5, p;}", "=r,=r,=r,=r,l,l" %a, %b
    : (i64, i64) -> !acc
  %s = llvm.inline_asm "mov.b32 $0, $1; // as in .b1.b1 {$0}", "=r,r" %c : (i32) -> i32
  llvm.return
}
