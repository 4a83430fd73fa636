// RUN: bitmlir-opt %s --bit-to-gpu=target=sm_90 --split-input-file --verify-diagnostics
// RUN: bitmlir-opt %s --bit-to-gpu=target=sm_90a --split-input-file --verify-diagnostics
// RUN: %exit-code 2 bitmlir-opt %s --bit-to-gpu=target=cpu 2>&1 | FileCheck %s --check-prefix=CPU
// RUN: %exit-code 2 bitmlir-opt %s --bit-to-gpu 2>&1 | FileCheck %s --check-prefix=NO-TARGET

// CPU: bit-to-gpu needs a GPU target, not 'cpu'
// NO-TARGET: pass 'bit-to-gpu' needs {{.*}}target

// Hopper's unit has no XOR, and nothing may quietly compute AND in its place.

func.func @xor(%x: memref<1x64x4xi32>, %out: memref<64x64xi32>) {
  // expected-error-re @below {{{{sm_90a?}} has no XOR, but this product is by XOR: run bit-decompose for {{sm_90a?$}}}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"xor">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x64x4xi32>, memref<1x64x4xi32>, memref<64x64xi32>) -> ()
  return
}

// -----

// A module may have symbols of its own, whatever they are called.

func.func private @kernels()

func.func @product(%x: memref<1x64x4xi32>, %out: memref<64x64xi32>) {
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x64x4xi32>, memref<1x64x4xi32>, memref<64x64xi32>) -> ()
  return
}
