// RUN: bitmlir-opt %s --bit-to-cpu --split-input-file --verify-diagnostics

// What only products of pixels in pairs have.

func.func @filters(%w: memref<1x2x12xi32>, %s: memref<6xi32>, %out: memref<1x4x8xi32>, %sums: memref<8xi32>) {
  // expected-error @below {{kernels for the CPU do not take pixels in pairs: run bit-decompose for the CPU}}
  "bit.plane_pair_filters"(%w, %s, %out, %sums) {offset = 0 : i64, scale = 1 : i64, window = array<i64: 1, 1, 1, 0, 0, 1, 6, 3, 1, 0, 0, 1>}
    : (memref<1x2x12xi32>, memref<6xi32>, memref<1x4x8xi32>, memref<8xi32>) -> ()
  return
}

// -----

func.func @no_padding(%x: memref<1x3x4xi32>, %w: memref<1x64x4xi32>, %out: memref<1x3x2xi32>, %sums: memref<3xi32>) {
  // expected-error @below {{kernels for the CPU do not take pixels in pairs}}
  "bit.plane_matmul"(%x, %w, %out, %sums) ({
  ^bb0(%row: index, %col: index):
    %bit = arith.constant true
    gpu.yield %bit : i1
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, out_encoding = "u1", operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 1, 0>}
    : (memref<1x3x4xi32>, memref<1x64x4xi32>, memref<1x3x2xi32>, memref<3xi32>) -> ()
  return
}

// -----

func.func @two_sums(%x: memref<1x3x4xi32>, %w: memref<1x128x4xi32>, %out: memref<1x3x4xi32>, %sums: memref<6xi32>) {
  // expected-error @below {{kernels for the CPU do not take pixels in pairs}}
  "bit.plane_matmul"(%x, %w, %out, %sums) ({
  ^bb0(%row: index, %col: index):
    %bit = arith.constant true
    gpu.yield %bit : i1
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, out_encoding = "u1", operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 1, 0>}
    : (memref<1x3x4xi32>, memref<1x128x4xi32>, memref<1x3x4xi32>, memref<6xi32>) -> ()
  return
}

// -----

func.func @computed(%x: memref<1x3x4xi32>, %w: memref<1x8x4xi32>, %a: memref<4xi32>, %out: memref<3x8xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %four = arith.constant 4 : index
    %at = arith.remui %col, %four : index
    // expected-error @below {{kernels for the CPU do not take pixels in pairs}}
    %number = memref.load %a[%at] : memref<4xi32>
    gpu.yield %number : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, out_encoding = "", operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>}
    : (memref<1x3x4xi32>, memref<1x8x4xi32>, memref<3x8xi32>) -> ()
  return
}

// -----

func.func @pool(%x: memref<1x4x2xi32>, %out: memref<1x4x2xi32>, %sums: memref<4xi32>) {
  // expected-error @below {{kernels for the CPU do not take pixels in pairs}}
  "bit.plane_pool"(%x, %out, %sums) {encoding = #bit.encoding<"u1">, window = array<i64: 2, 1, 1, 0, 0, 1, 2, 1, 1, 0, 0, 1>}
    : (memref<1x4x2xi32>, memref<1x4x2xi32>, memref<4xi32>) -> ()
  return
}

// -----

func.func @computed_sum(%x: memref<1x4x4xi32>, %w: memref<1x4x4xi32>, %a: memref<8xi32>, %out: memref<4x4xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %two = arith.constant 2 : index
    %twice = arith.muli %row, %two : index
    // expected-error @below {{kernels for the CPU do not take pixels in pairs}}
    %sum = "bit.window_sum"(%a, %twice) {window = array<i64: 2, 1, 1, 0, 0, 1, 4, 1, 1, 0, 0, 1>} : (memref<8xi32>, index) -> i32
    gpu.yield %sum : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, out_encoding = "", operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>}
    : (memref<1x4x4xi32>, memref<1x4x4xi32>, memref<4x4xi32>) -> ()
  return
}
