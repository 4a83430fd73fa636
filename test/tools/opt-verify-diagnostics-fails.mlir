// RUN: %exit-code 1 bitmlir-opt %s --bit-verify --split-input-file --verify-diagnostics 2>&1 | FileCheck %s

// What is reported and not expected, or expected and not reported, is an error; none of the IR is printed.

// CHECK-NOT: func.func
// CHECK:     opt-verify-diagnostics-fails.mlir:[[#@LINE+2]]: error: unexpected error: 'bit.pack' op the result: unknown encoding 'u9'
func.func @unexpected(%x: tensor<4x40xi8>) {
  %a = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"u9">>
  return
}

// -----

// CHECK:     opt-verify-diagnostics-fails.mlir:[[#@LINE+1]]: error: expected error "nothing is wrong" was not produced
// expected-error @below {{nothing is wrong}}
func.func @missing() {
  return
}

// -----

// CHECK:     opt-verify-diagnostics-fails.mlir:[[#@LINE+4]]: error: unexpected error (expected as warning): 'bit.pack' op
// CHECK:     opt-verify-diagnostics-fails.mlir:[[#@LINE+2]]: error: expected warning "unknown encoding" was not produced
func.func @kind(%x: tensor<4x40xi8>) {
  // expected-warning @below {{unknown encoding}}
  %a = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"u9">>
  return
}

// -----

// CHECK:     opt-verify-diagnostics-fails.mlir:[[#@LINE+2]]: error: unexpected note: see existing symbol
// CHECK-NOT: func.func
func.func @note() { return }
// expected-error @below {{redefinition of symbol named 'note'}}
func.func @note() { return }
