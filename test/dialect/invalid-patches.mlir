// RUN: bitmlir-opt %s --bit-verify --split-input-file --verify-diagnostics

func.func @window(%x: memref<1x30x4xi32>, %out: memref<1x30x36xi32>) {
  // expected-error @below {{'bit.plane_patches' op window must be array<i64: …> of size, taps, stride, before, after, dilation for rows and for columns, but is array<i64: 5, 3>}}
  "bit.plane_patches"(%x, %out) {window = array<i64: 5, 3>}
    : (memref<1x30x4xi32>, memref<1x30x36xi32>) -> ()
  return
}

// -----

func.func @stride(%x: memref<1x30x4xi32>, %out: memref<1x30x36xi32>) {
  // expected-error @below {{window must have sizes, taps, strides and dilations from 1 to 134217728, and padding up to that, but is array<i64: 5, 3, 0, 1, 1, 1, 6, 3, 1, 1, 1, 1>}}
  "bit.plane_patches"(%x, %out) {window = array<i64: 5, 3, 0, 1, 1, 1, 6, 3, 1, 1, 1, 1>}
    : (memref<1x30x4xi32>, memref<1x30x36xi32>) -> ()
  return
}

// -----

func.func @too_small(%x: memref<1x30x4xi32>, %out: memref<1x30x36xi32>) {
  // expected-error @below {{the window must fit into the padded image, but is array<i64: 5, 8, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>}}
  "bit.plane_patches"(%x, %out) {window = array<i64: 5, 8, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>}
    : (memref<1x30x4xi32>, memref<1x30x36xi32>) -> ()
  return
}

// -----

func.func @images(%x: memref<1x31x4xi32>, %out: memref<1x30x36xi32>) {
  // expected-error @below {{planes must have whole images of 30 pixels, but have 31 rows}}
  "bit.plane_patches"(%x, %out) {window = array<i64: 5, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>}
    : (memref<1x31x4xi32>, memref<1x30x36xi32>) -> ()
  return
}

// -----

func.func @out(%x: memref<1x30x4xi32>, %out: memref<1x30x32xi32>) {
  // expected-error @below {{out must be memref<1x30x36xi32>, but is memref<1x30x32xi32>}}
  "bit.plane_patches"(%x, %out) {window = array<i64: 5, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>}
    : (memref<1x30x4xi32>, memref<1x30x32xi32>) -> ()
  return
}

// -----

func.func @classes(%sums: memref<72xi32>, %out: memref<8x8xi32>) {
  // expected-error @below {{out must have a row for each of the window's 9 classes, but has 8}}
  "bit.plane_edge_sums"(%sums, %out) {scale = 2 : i64, offset = -40 : i64, window = array<i64: 5, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>}
    : (memref<72xi32>, memref<8x8xi32>) -> ()
  return
}

// -----

func.func @taps(%sums: memref<70xi32>, %out: memref<9x8xi32>) {
  // expected-error @below {{sums must be memref<72xi32>, but is memref<70xi32>}}
  "bit.plane_edge_sums"(%sums, %out) {scale = 2 : i64, offset = -40 : i64, window = array<i64: 5, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>}
    : (memref<70xi32>, memref<9x8xi32>) -> ()
  return
}

// -----

func.func @scale(%sums: memref<72xi32>, %out: memref<9x8xi32>) {
  // expected-error @below {{scale and offset must be whole numbers, but are "two" and -40 : i64}}
  "bit.plane_edge_sums"(%sums, %out) {scale = "two", offset = -40 : i64, window = array<i64: 5, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>}
    : (memref<72xi32>, memref<9x8xi32>) -> ()
  return
}

// -----

func.func @sums(%sums: memref<31xi32>, %out: memref<30xi32>) {
  // expected-error @below {{sums must have whole images of 30 pixels, but have 31 rows}}
  "bit.plane_patch_sums"(%sums, %out) {window = array<i64: 5, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>} : (memref<31xi32>, memref<30xi32>) -> ()
  return
}

// -----

func.func @places(%sums: memref<30xi32>, %out: memref<60xi32>) {
  // expected-error @below {{out must be memref<30xi32>, but is memref<60xi32>}}
  "bit.plane_patch_sums"(%sums, %out) {window = array<i64: 5, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>} : (memref<30xi32>, memref<60xi32>) -> ()
  return
}

// -----

func.func @bytes(%x: tensor<2x8x8x3xi16>) -> tensor<2x8x8x27xi8, #bit.encoding<"u8">> {
  // expected-error @below {{the source must be a tensor<NxHxWxCxi8> of static sizes, but is tensor<2x8x8x3xi16>}}
  %p = "bit.pack_patches"(%x) {size = array<i64: 3, 3>, stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>}
    : (tensor<2x8x8x3xi16>) -> tensor<2x8x8x27xi8, #bit.encoding<"u8">>
  return %p : tensor<2x8x8x27xi8, #bit.encoding<"u8">>
}

// -----

func.func @codes(%x: tensor<2x8x8x3xi8>) -> tensor<2x8x8x27xi1, #bit.encoding<"bipolar">> {
  // expected-error @below {{the result must be in u<p> or i<p>, in which 0 is code 0, but is in 'bipolar'}}
  %p = "bit.pack_patches"(%x) {size = array<i64: 3, 3>, stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>}
    : (tensor<2x8x8x3xi8>) -> tensor<2x8x8x27xi1, #bit.encoding<"bipolar">>
  return %p : tensor<2x8x8x27xi1, #bit.encoding<"bipolar">>
}

// -----

func.func @sizes(%x: tensor<2x8x8x3xi8>) -> tensor<2x8x8x9xi8, #bit.encoding<"u8">> {
  // expected-error @below {{the result must have the sizes 2x8x8x27, but is tensor<2x8x8x9xi8}}
  %p = "bit.pack_patches"(%x) {size = array<i64: 3, 3>, stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>}
    : (tensor<2x8x8x3xi8>) -> tensor<2x8x8x9xi8, #bit.encoding<"u8">>
  return %p : tensor<2x8x8x9xi8, #bit.encoding<"u8">>
}

// -----

func.func @too_large(%x: tensor<2x8x8x3xi8>) -> tensor<2x1x1x243xi8, #bit.encoding<"u8">> {
  // expected-error @below {{the window does not fit into the padded images}}
  %p = "bit.pack_patches"(%x) {size = array<i64: 9, 9>, stride = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>}
    : (tensor<2x8x8x3xi8>) -> tensor<2x1x1x243xi8, #bit.encoding<"u8">>
  return %p : tensor<2x1x1x243xi8, #bit.encoding<"u8">>
}

// -----

func.func @planes(%x: memref<128x3xi8>, %planes: memref<8x32x8xi32>, %sums: memref<32xi32>) {
  // expected-error @below {{planes must be memref<8x32x4xi32>, but is memref<8x32x8xi32>}}
  "bit.plane_pack_patches"(%x, %planes, %sums) {encoding = #bit.encoding<"u8">, window = array<i64: 8, 3, 2, 1, 1, 1, 8, 3, 2, 1, 1, 1>}
    : (memref<128x3xi8>, memref<8x32x8xi32>, memref<32xi32>) -> ()
  return
}

// -----

func.func @one_product(%x: memref<128x3xi8>, %w: memref<1x40x4xi32>, %out: memref<32x40xi32>) {
  // expected-error @below {{the body must have one bit.plane_product, of plane 0 with plane 0 on 0}}
  "bit.plane_byte_conv"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    gpu.yield %zero : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>, rhs_encoding = #bit.encoding<"bipolar">, out_encoding = "",
      window = array<i64: 8, 3, 2, 1, 1, 1, 8, 3, 2, 1, 1, 1>} : (memref<128x3xi8>, memref<1x40x4xi32>, memref<32x40xi32>) -> ()
  return
}

// -----

func.func @filters(%x: memref<128x3xi8>, %w: memref<1x40x8xi32>, %out: memref<32x40xi32>) {
  // expected-error @below {{rhs must be memref<1xOx4xi32>, but is memref<1x40x8xi32>}}
  "bit.plane_byte_conv"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>, rhs_encoding = #bit.encoding<"bipolar">, out_encoding = "",
      window = array<i64: 8, 3, 2, 1, 1, 1, 8, 3, 2, 1, 1, 1>} : (memref<128x3xi8>, memref<1x40x8xi32>, memref<32x40xi32>) -> ()
  return
}

// -----

func.func @dilated(%x: memref<128x3xi8>, %w: memref<1x40x4xi32>, %out: memref<16x40xi32>) {
  // expected-error @below {{the window must have no dilation, but is array<i64: 8, 3, 2, 1, 1, 2, 8, 3, 2, 1, 1, 1>}}
  "bit.plane_byte_conv"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>, rhs_encoding = #bit.encoding<"bipolar">, out_encoding = "",
      window = array<i64: 8, 3, 2, 1, 1, 2, 8, 3, 2, 1, 1, 1>} : (memref<128x3xi8>, memref<1x40x4xi32>, memref<16x40xi32>) -> ()
  return
}

// -----

func.func @no_filters(%x: memref<128x3xi8>, %w: memref<1x0x4xi32>, %out: memref<32x0xi32>) {
  // expected-error @below {{there must be 1 to 134217728 filters and places, but are 0 and 32}}
  "bit.plane_byte_conv"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>, rhs_encoding = #bit.encoding<"bipolar">, out_encoding = "",
      window = array<i64: 8, 3, 2, 1, 1, 1, 8, 3, 2, 1, 1, 1>} : (memref<128x3xi8>, memref<1x0x4xi32>, memref<32x0xi32>) -> ()
  return
}
