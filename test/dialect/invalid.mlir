// RUN: bitmlir-opt %s --bit-verify --split-input-file --verify-diagnostics

// What the operations on tensors refuse. Epilogues: invalid-epilogue.mlir; operations on planes: invalid-planes.mlir.

// --- packed matrices ---

func.func @type_of_a_packed_matrix(%x: tensor<4x40xi8>) {
  // expected-error @below {{'bit.pack' op the result: unknown encoding 'u9': expected one of u1…u8}}
  %a = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi8, #bit.encoding<"u9">>
  // expected-error @below {{the result: unknown encoding 'bipolar1': did you mean 'bipolar'?}}
  %b = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"bipolar1">>
  // expected-error @below {{the result: zero point 4 of 'u2' must lie in 0..3}}
  %c = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi2, #bit.encoding<"u2@4">>
  // expected-error @below {{the result: encoding 'ternary' takes no zero point: use u<p>@z}}
  %d = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi2, #bit.encoding<"ternary@1">>
  // expected-error @below {{the result: unknown tensor encoding "u2": expected #bit.encoding<"name">}}
  %e = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi2, "u2">
  // expected-error @below {{the result must be a packed matrix, tensor<MxKxi<p>, #bit.encoding<"name">>, but is tensor<4x40xi1>}}
  %f = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi1>
  // expected-error @below {{the result must be a packed matrix, tensor<MxKxi<p>, #bit.encoding<"name">>, but is memref<4x40xi1>}}
  %g = "bit.pack"(%x) : (tensor<4x40xi8>) -> memref<4x40xi1>
  // expected-error @below {{the result must have two or four static sizes of at least 1, but is tensor<160xi1}}
  %h = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<160xi1, #bit.encoding<"u1">>
  // expected-error @below {{the result must have two or four static sizes of at least 1, but is tensor<1x4x40xi1}}
  %i = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<1x4x40xi1, #bit.encoding<"u1">>
  // expected-error @below {{the result must have two or four static sizes of at least 1, but is tensor<?x40xi1}}
  %j = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<?x40xi1, #bit.encoding<"u1">>
  // expected-error @below {{the result must have two or four static sizes of at least 1, but is tensor<4x0xi1}}
  %k = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x0xi1, #bit.encoding<"u1">>
  // expected-error @below {{the result in encoding 'u2' must have elements of type i2, but is tensor<4x40xi8}}
  %l = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi8, #bit.encoding<"u2">>
  return
}

// -----

// --- bit.pack ---

func.func @source_of_pack(%short: tensor<4x39xi8>, %float: tensor<4x40xf32>, %packed: tensor<4x40xi8, #bit.encoding<"u8">>) {
  // expected-error @below {{'bit.pack' op the source must be tensor<4x40xi8|i16|i32>, but is tensor<4x39xi8>}}
  %a = "bit.pack"(%short) : (tensor<4x39xi8>) -> tensor<4x40xi1, #bit.encoding<"u1">>
  // expected-error @below {{the source must be tensor<4x40xi8|i16|i32>, but is tensor<4x40xf32>}}
  %b = "bit.pack"(%float) : (tensor<4x40xf32>) -> tensor<4x40xi1, #bit.encoding<"u1">>
  // expected-error @below {{the source must be tensor<4x40xi8|i16|i32>, but is tensor<4x40xi8, #bit.encoding<"u8">>}}
  %c = "bit.pack"(%packed) : (tensor<4x40xi8, #bit.encoding<"u8">>) -> tensor<4x40xi1, #bit.encoding<"u1">>
  return
}

// -----

func.func @zeros_of_pack(%x: tensor<4x40xi8>, %zeros: tensor<4xi32>, %few: tensor<3xi32>, %narrow: tensor<4xi8>) {
  // expected-error @below {{'bit.pack' op encoding 'u2@1' takes no zeros: only u<p>@row does}}
  %a = "bit.pack"(%x, %zeros) : (tensor<4x40xi8>, tensor<4xi32>) -> tensor<4x40xi2, #bit.encoding<"u2@1">>
  // expected-error @below {{encoding 'u2@row' needs its zeros, a tensor<4xi32>}}
  %b = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi2, #bit.encoding<"u2@row">>
  // expected-error @below {{zeros must be tensor<4xi32>, but is tensor<3xi32>}}
  %c = "bit.pack"(%x, %few) : (tensor<4x40xi8>, tensor<3xi32>) -> tensor<4x40xi2, #bit.encoding<"u2@row">>
  // expected-error @below {{zeros must be tensor<4xi32>, but is tensor<4xi8>}}
  %d = "bit.pack"(%x, %narrow) : (tensor<4x40xi8>, tensor<4xi8>) -> tensor<4x40xi2, #bit.encoding<"u2@row">>
  return
}

// -----

// --- bit.quantise ---

func.func @quantise(%x: tensor<4x40xf32>, %integers: tensor<4x40xi8>, %wide: tensor<4x40xf64>, %scale: tensor<4xf32>,
                    %few: tensor<3xf32>, %narrow: tensor<4xf16>, %zeros: tensor<4xi32>) {
  // expected-error @below {{'bit.quantise' op the source must be tensor<4x40xf16|bf16|f32>, but is tensor<4x40xi8>}}
  %a = "bit.quantise"(%integers) {operandSegmentSizes = array<i32: 1, 0, 0>}
    : (tensor<4x40xi8>) -> tensor<4x40xi4, #bit.encoding<"i4">>
  // expected-error @below {{the source must be tensor<4x40xf16|bf16|f32>, but is tensor<4x40xf64>}}
  %b = "bit.quantise"(%wide) {operandSegmentSizes = array<i32: 1, 0, 0>}
    : (tensor<4x40xf64>) -> tensor<4x40xi4, #bit.encoding<"i4">>
  // expected-error @below {{the source must be tensor<8x40xf16|bf16|f32>, but is tensor<4x40xf32>}}
  %c = "bit.quantise"(%x) {operandSegmentSizes = array<i32: 1, 0, 0>}
    : (tensor<4x40xf32>) -> tensor<8x40xi4, #bit.encoding<"i4">>
  // expected-error @below {{'bit.quantise' op scale must be tensor<4xf32>, but is tensor<3xf32>}}
  %d = "bit.quantise"(%x, %few) {operandSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<4x40xf32>, tensor<3xf32>) -> tensor<4x40xi4, #bit.encoding<"i4">>
  // expected-error @below {{scale must be tensor<4xf32>, but is tensor<4xf16>}}
  %e = "bit.quantise"(%x, %narrow) {operandSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<4x40xf32>, tensor<4xf16>) -> tensor<4x40xi4, #bit.encoding<"i4">>
  // expected-error @below {{encoding 'u4@row' needs its zeros, a tensor<4xi32>}}
  %f = "bit.quantise"(%x, %scale) {operandSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<4x40xf32>, tensor<4xf32>) -> tensor<4x40xi4, #bit.encoding<"u4@row">>
  // expected-error @below {{encoding 'u4@3' takes no zeros: only u<p>@row does}}
  %g = "bit.quantise"(%x, %zeros) {operandSegmentSizes = array<i32: 1, 0, 1>}
    : (tensor<4x40xf32>, tensor<4xi32>) -> tensor<4x40xi4, #bit.encoding<"u4@3">>
  // expected-error @below {{'bit.quantise' op the result must be a packed matrix}}
  %h = "bit.quantise"(%x) {operandSegmentSizes = array<i32: 1, 0, 0>} : (tensor<4x40xf32>) -> tensor<4x40xi4>
  return
}

// -----

// --- bit.unpack ---

func.func @unpack(%x: tensor<4x40xi8>, %u8: tensor<4x40xi8, #bit.encoding<"u8">>, %i8: tensor<4x40xi8, #bit.encoding<"i8">>) {
  // expected-error @below {{'bit.unpack' op the source must be a packed matrix}}
  %a = "bit.unpack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi8>
  // expected-error @below {{the result must be tensor<4x40xi16>, but is tensor<4x40xi8>}}
  %b = "bit.unpack"(%u8) : (tensor<4x40xi8, #bit.encoding<"u8">>) -> tensor<4x40xi8>
  // expected-error @below {{the result must be tensor<4x40xi8>, but is tensor<4x40xi32>}}
  %c = "bit.unpack"(%i8) : (tensor<4x40xi8, #bit.encoding<"i8">>) -> tensor<4x40xi32>
  // expected-error @below {{the result must be tensor<4x40xi8>, but is tensor<40x4xi8>}}
  %d = "bit.unpack"(%i8) : (tensor<4x40xi8, #bit.encoding<"i8">>) -> tensor<40x4xi8>
  return
}

// -----

// --- bit.matmul ---

!x = tensor<8x40xi1, #bit.encoding<"bipolar">>
!w = tensor<64x40xi2, #bit.encoding<"u2">>
!longer = tensor<64x41xi2, #bit.encoding<"u2">>

func.func @operands_of_matmul(%x: !x, %w: !w, %plain: tensor<64x40xi2>, %longer: !longer) {
  // expected-error @below {{'bit.matmul' op lhs must be a packed matrix}}
  %a = "bit.matmul"(%plain, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (tensor<64x40xi2>, !w) -> tensor<64x64xi32>
  // expected-error @below {{'bit.matmul' op rhs must be a packed matrix}}
  %b = "bit.matmul"(%x, %plain) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, tensor<64x40xi2>) -> tensor<8x64xi32>
  // expected-error @below {{lhs and rhs must have the same K (their last size), but have 40 and 41}}
  %c = "bit.matmul"(%x, %longer) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !longer) -> tensor<8x64xi32>
  return
}

// -----

// The largest K whose products fit in int32, and the first that does not: 33025 · 255 · 255 < 2³¹ ≤ 33026 · 255 · 255.

!fits = tensor<1x33025xi8, #bit.encoding<"u8">>
!leaves = tensor<1x33026xi8, #bit.encoding<"u8">>
!row = tensor<1x33026xi8, #bit.encoding<"u8@row">>

func.func @range(%fits: !fits, %leaves: !leaves, %row: !row) {
  %a = "bit.matmul"(%fits, %fits) ({
  ^bb0(%acc: i32, %r: index, %c: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!fits, !fits) -> tensor<1x1xi32>
  // expected-error @below {{K = 33026 with 'u8' (up to ±255) times 'u8' (up to ±255) can leave int32: split the product along K into parts of at most 33025}}
  %b = "bit.matmul"(%leaves, %leaves) ({
  ^bb0(%acc: i32, %r: index, %c: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!leaves, !leaves) -> tensor<1x1xi32>
  // expected-error @below {{K = 33026 with 'u8@row' (up to ±255) times 'u8' (up to ±255) can leave int32}}
  %c = "bit.matmul"(%row, %leaves) ({
  ^bb0(%acc: i32, %r: index, %c: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!row, !leaves) -> tensor<1x1xi32>
  return
}

// -----

// 300 rows are 3 tiles of 128, 1025 elements 2 tiles of 1024.

!x = tensor<300x1025xi1, #bit.encoding<"bipolar">>
!w = tensor<64x1025xi2, #bit.encoding<"u2">>

func.func @tiles(%x: !x, %w: !w, %of_x: tensor<1x3x2xi1>, %of_w: tensor<2x1x2xi1>, %words: tensor<2x1x1xi32>) {
  %sound = "bit.matmul"(%x, %w, %of_x, %of_w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 1, 1>} : (!x, !w, tensor<1x3x2xi1>, tensor<2x1x2xi1>) -> tensor<300x64xi32>
  // expected-error @below {{'bit.matmul' op lhs_tiles must be tensor<1x3x2xi1>, but is tensor<2x1x2xi1>}}
  %a = "bit.matmul"(%x, %w, %of_w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 1, 0>} : (!x, !w, tensor<2x1x2xi1>) -> tensor<300x64xi32>
  // expected-error @below {{rhs_tiles must be tensor<2x1x2xi1>, but is tensor<2x1x1xi32>}}
  %b = "bit.matmul"(%x, %w, %words) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 1>} : (!x, !w, tensor<2x1x1xi32>) -> tensor<300x64xi32>
  return
}

// -----

!x = tensor<8x40xi1, #bit.encoding<"bipolar">>
!w = tensor<64x40xi2, #bit.encoding<"u2">>

func.func @result_of_matmul(%x: !x, %w: !w) {
  // expected-error @below {{'bit.matmul' op the result must be a 8x64 tensor, but is tensor<64x8xi32>}}
  %a = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> tensor<64x8xi32>
  // expected-error @below {{the result must be a 8x64 tensor, but is memref<8x64xi32>}}
  %b = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> memref<8x64xi32>
  // expected-error @below {{the result: unknown encoding 'u0'}}
  %c = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> tensor<8x64xi32, #bit.encoding<"u0">>
  // expected-error @below {{the result in encoding 'bipolar' must have elements of type i1}}
  %d = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> tensor<8x64xi32, #bit.encoding<"bipolar">>
  // expected-error @below {{the result cannot have a zero point for each row: no epilogue makes one}}
  %e = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %code = arith.trunci %acc : i32 to i2
    gpu.yield %code : i2
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> tensor<8x64xi2, #bit.encoding<"u2@row">>
  return
}

// -----

// Elements that no array of numbers has: an epilogue must convert.

!x = tensor<8x40xi1, #bit.encoding<"bipolar">>

func.func @element_of_the_result(%x: !x) {
  // expected-error @below {{'bit.matmul' op the result must have elements of i8, i16, i32, i64, f16, bf16, f32 or f64, but is tensor<8x8xindex>}}
  %a = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %row : index
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !x) -> tensor<8x8xindex>
  // expected-error @below {{the result must have elements of i8, i16, i32, i64, f16, bf16, f32 or f64, but is tensor<8x8xi4>}}
  %b = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %low = arith.trunci %acc : i32 to i4
    gpu.yield %low : i4
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !x) -> tensor<8x8xi4>
  return
}

// -----

// --- what IRDL says when the text is parsed ---

func.func @operands() {
  // expected-error @below {{op expects exactly 1 operands, but got 0}}
  %a = "bit.unpack"() : () -> tensor<4x40xi8>
  return
}

// -----

func.func @optional_operands(%x: tensor<4x40xi8>) {
  // expected-error @below {{op expects at most 2 operands, but got 3}}
  %a = "bit.pack"(%x, %x, %x) : (tensor<4x40xi8>, tensor<4x40xi8>, tensor<4x40xi8>) -> tensor<4x40xi8>
  return
}

// -----

func.func @no_segments(%x: tensor<4x40xi8>) {
  // expected-error @below {{'operandSegmentSizes' attribute is expected but not provided}}
  %a = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) : (tensor<4x40xi8>, tensor<4x40xi8>) -> tensor<4x4xi32>
  return
}

// -----

func.func @segments_for_more_operands(%x: tensor<4x40xi8>) {
  // expected-error @below {{sum of elements in 'operandSegmentSizes' attribute must be equal to the number of operands}}
  %a = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 1, 0>} : (tensor<4x40xi8>, tensor<4x40xi8>) -> tensor<4x4xi32>
  return
}

// -----

func.func @segments_without_rhs(%x: tensor<4x40xi8>) {
  // expected-error @below {{element 1 in 'operandSegmentSizes' attribute must be equal to 1}}
  %a = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 0, 1, 0>} : (tensor<4x40xi8>, tensor<4x40xi8>) -> tensor<4x4xi32>
  return
}

// -----

func.func @encoding_without_a_name() {
  // expected-error @below {{expected attribute value}}
  %a = "bit.unpack"() : () -> tensor<4x40xi2, #bit.encoding<u2>>
  return
}

// -----

// expected-error @below {{'"or"' does not satisfy the constraint}}
func.func private @unknown_bit_operation() attributes {name = #bit.bitwise<"or">}

// -----

func.func @unknown_operation() {
  // expected-error @below {{unregistered operation 'bit.popcount' found in dialect ('bit')}}
  "bit.popcount"() : () -> ()
  return
}
