// RUN: bitmlir-opt %s --bit-verify --split-input-file --verify-diagnostics

// Each operation that its Python verifier refuses is reported at its own place, and sound ones are not.

func.func @all(%x: tensor<4x40xi8>, %y: tensor<4x41xi8>) {
  %sound = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"bipolar">>
  // expected-error @below {{'bit.pack' op the result: unknown encoding 'u9'}}
  %a = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"u9">>
  // expected-error @+1 {{'bit.pack' op the source must be tensor<4x40x}}
  %b = "bit.pack"(%y) : (tensor<4x41xi8>) -> tensor<4x40xi1, #bit.encoding<"bipolar">>
  return
}

// -----

// Operations inside other operations' regions are verified too.

func.func @nested(%x: tensor<4x40xi8>, %c: i1) {
  scf.if %c {
    // expected-error @below {{'bit.pack' op the result: unknown encoding 'bi'}}
    %a = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"bi">>
  }
  return
}

// -----

// What IRDL can say is said when the text is parsed, before any pass.

func.func @irdl(%x: tensor<4x40xi8>) {
  // expected-error @below {{op expects exactly 1 results, but got 0}}
  "bit.unpack"(%x) : (tensor<4x40xi8>) -> ()
  return
}
