// RUN: bitmlir-opt %s --bit-verify --split-input-file --verify-diagnostics

func.func @window(%x: memref<1x30x4xi32>, %out: memref<1x30x36xi32>) {
  // expected-error @below {{'bit.plane_patches' op window must be array<i64: …> of size, taps, stride, before, after, dilation for rows and for columns, but is array<i64: 5, 3>}}
  "bit.plane_patches"(%x, %out) {window = array<i64: 5, 3>}
    : (memref<1x30x4xi32>, memref<1x30x36xi32>) -> ()
  return
}

// -----

func.func @stride(%x: memref<1x30x4xi32>, %out: memref<1x30x36xi32>) {
  // expected-error @below {{window must have sizes, taps, strides and dilations of at least 1, but is array<i64: 5, 3, 0, 1, 1, 1, 6, 3, 1, 1, 1, 1>}}
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
