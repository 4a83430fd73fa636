// RUN: bitmlir-opt %s --nvvm-mma-sm75 | FileCheck %s

// Turing's 1-bit product becomes inline assembly, which LLVM need not select.

// CHECK-LABEL: llvm.func @xor
//  CHECK-SAME:   %[[A:.*]]: i32, %[[B:.*]]: i32, %[[C0:.*]]: i32, %[[C1:.*]]: i32)
//       CHECK:   %[[D:.*]] = llvm.inline_asm asm_dialect = att
//  CHECK-SAME:     "mma.sync.aligned.m8n8k128.row.col.s32.b1.b1.s32.xor.popc {$0, $1}, {$2}, {$3}, {$4, $5};"
//  CHECK-SAME:     "=r,=r,r,r,r,r" %[[A]], %[[B]], %[[C0]], %[[C1]]
//       CHECK:   llvm.return %[[D]]
llvm.func @xor(%a: i32, %b: i32, %c0: i32, %c1: i32) -> !llvm.struct<(i32, i32)> {
  %d = nvvm.mma.sync A[%a] B[%b] C[%c0, %c1] {
    b1Op = #nvvm.mma_b1op<xor_popc>, layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>,
    multiplicandAPtxType = #nvvm.mma_type<b1>, multiplicandBPtxType = #nvvm.mma_type<b1>,
    shape = #nvvm.shape<m = 8, n = 8, k = 128>
  } : (i32, i32, i32) -> !llvm.struct<(i32, i32)>
  llvm.return %d : !llvm.struct<(i32, i32)>
}

// AND is another instruction, which Turing does not have; other shapes LLVM can select.

// CHECK-LABEL: llvm.func @and
//       CHECK:   nvvm.mma.sync
//  CHECK-SAME:     and_popc
llvm.func @and(%a: i32, %b: i32, %c0: i32, %c1: i32) -> !llvm.struct<(i32, i32)> {
  %d = nvvm.mma.sync A[%a] B[%b] C[%c0, %c1] {
    b1Op = #nvvm.mma_b1op<and_popc>, layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>,
    multiplicandAPtxType = #nvvm.mma_type<b1>, multiplicandBPtxType = #nvvm.mma_type<b1>,
    shape = #nvvm.shape<m = 8, n = 8, k = 128>
  } : (i32, i32, i32) -> !llvm.struct<(i32, i32)>
  llvm.return %d : !llvm.struct<(i32, i32)>
}

// CHECK-LABEL: llvm.func @larger
//       CHECK:   nvvm.mma.sync
//  CHECK-SAME:     m = 16, n = 8, k = 256
llvm.func @larger(%a: i32, %b: i32, %c: i32) -> !llvm.struct<(i32, i32, i32, i32)> {
  %d = nvvm.mma.sync A[%a, %a, %a, %a] B[%b, %b] C[%c, %c, %c, %c] {
    b1Op = #nvvm.mma_b1op<xor_popc>, layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>,
    multiplicandAPtxType = #nvvm.mma_type<b1>, multiplicandBPtxType = #nvvm.mma_type<b1>,
    shape = #nvvm.shape<m = 16, n = 8, k = 256>
  } : (i32, i32, i32) -> !llvm.struct<(i32, i32, i32, i32)>
  llvm.return %d : !llvm.struct<(i32, i32, i32, i32)>
}
