// RUN: bitmlir-opt %s --bit-verify --split-input-file --verify-diagnostics | FileCheck %s
// RUN: bitmlir-opt %s --bit-verify -split-input-file -verify-diagnostics | FileCheck %s

// Every way to say where and what; parts that succeed are printed.

func.func @places(%x: tensor<4x40xi8>) {
  // expected-error @+1 {{unknown encoding 'u9'}}
  %a = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"u9">>
  %b = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"u9">> // expected-error {{unknown encoding}}
  %c = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"u9">>
  // expected-error @-1 {{unknown encoding 'u9'}}
  %d = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"u9">>
  // expected-error-re @above {{encoding 'u{{[0-9]}}': expected one of {{.+}}, ternary}}
  // expected-error @below {{'bit.pack' op the result}}
  // expected-error @+2 {{'bit.unpack' op the source}}
  %e = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"u9">>
  %f = "bit.unpack"(%e) : (tensor<4x40xi1, #bit.encoding<"u9">>) -> tensor<4x40xi8>
  return
}

// -----

// CHECK: func.func @fine
func.func @fine() {
  return
}

// -----

// expected-note @below {{see existing symbol definition here}}
func.func @twice() { return }
// expected-error @below {{redefinition of symbol named 'twice'}}
func.func @twice() { return }

// -----

// expected-error @unknown {{unknown encoding 'u9'}}
func.func @unknown(%x: tensor<4x40xi8>) {
  %a = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"u9">> loc(unknown)
  return
}
