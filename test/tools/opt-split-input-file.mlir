// RUN: bitmlir-opt %s --split-input-file --cse | FileCheck %s
// RUN: bitmlir-opt %s -split-input-file --cse | FileCheck %s
// RUN: %exit-code 1 bitmlir-opt %s 2>&1 | FileCheck %s --check-prefix=WHOLE

// Each part is a module of its own: the names do not clash, and the parts are printed with the marker between them.

// WHOLE: opt-split-input-file.mlir:[[#@LINE+10]]:1: error: redefinition of symbol named 'f'

// CHECK:       func.func @f
// CHECK:       // -----
// CHECK:       func.func @f
// CHECK-NOT:   // -----
func.func @f() {
  return
}
// ----- the rest of the line is free
func.func @f() {
  return
}
