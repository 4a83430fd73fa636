// RUN: bitmlir-opt %s --bit-verify --split-input-file --verify-diagnostics

func.func @outside(%x: memref<1x30x4xi32>, %out: memref<1x56x4xi32>, %sums: memref<56xi32>) {
  // expected-error @below {{every window must see a place inside the image: take less padding than the window's size}}
  "bit.plane_pool"(%x, %out, %sums) {encoding = #bit.encoding<"bipolar">, window = array<i64: 5, 2, 1, 2, 2, 1, 6, 2, 1, 1, 1, 1>}
    : (memref<1x30x4xi32>, memref<1x56x4xi32>, memref<56xi32>) -> ()
  return
}

// -----

func.func @planes(%x: memref<2x30x4xi32>, %out: memref<2x20x4xi32>, %sums: memref<20xi32>) {
  // expected-error @below {{planes must be memref<1xRxVxi32>, but is memref<2x30x4xi32>}}
  "bit.plane_pool"(%x, %out, %sums) {encoding = #bit.encoding<"bipolar">, window = array<i64: 5, 2, 1, 0, 0, 1, 6, 2, 1, 0, 0, 1>}
    : (memref<2x30x4xi32>, memref<2x20x4xi32>, memref<20xi32>) -> ()
  return
}

// -----

func.func @images(%x: memref<1x31x4xi32>, %out: memref<1x20x4xi32>, %sums: memref<20xi32>) {
  // expected-error @below {{planes must have whole images of 30 pixels, but have 31 rows}}
  "bit.plane_pool"(%x, %out, %sums) {encoding = #bit.encoding<"bipolar">, window = array<i64: 5, 2, 1, 0, 0, 1, 6, 2, 1, 0, 0, 1>}
    : (memref<1x31x4xi32>, memref<1x20x4xi32>, memref<20xi32>) -> ()
  return
}

// -----

func.func @result(%x: memref<1x30x4xi32>, %out: memref<1x20x8xi32>, %sums: memref<20xi32>) {
  // expected-error @below {{out must be memref<1x20x4xi32>, but is memref<1x20x8xi32>}}
  "bit.plane_pool"(%x, %out, %sums) {encoding = #bit.encoding<"bipolar">, window = array<i64: 5, 2, 1, 0, 0, 1, 6, 2, 1, 0, 0, 1>}
    : (memref<1x30x4xi32>, memref<1x20x8xi32>, memref<20xi32>) -> ()
  return
}

// -----

func.func @sums(%x: memref<1x30x4xi32>, %out: memref<1x20x4xi32>, %sums: memref<30xi32>) {
  // expected-error @below {{out_sums must be memref<20xi32>, but is memref<30xi32>}}
  "bit.plane_pool"(%x, %out, %sums) {encoding = #bit.encoding<"bipolar">, window = array<i64: 5, 2, 1, 0, 0, 1, 6, 2, 1, 0, 0, 1>}
    : (memref<1x30x4xi32>, memref<1x20x4xi32>, memref<30xi32>) -> ()
  return
}

// -----

func.func @zeros(%x: memref<2x30x4xi32>, %out: memref<2x20x4xi32>, %sums: memref<20xi32>) {
  // expected-error @below {{encoding 'u2@row' has a zero point for each pixel: numbers of different pixels do not compare}}
  "bit.plane_pool"(%x, %out, %sums) {encoding = #bit.encoding<"u2@row">, window = array<i64: 5, 2, 1, 0, 0, 1, 6, 2, 1, 0, 0, 1>}
    : (memref<2x30x4xi32>, memref<2x20x4xi32>, memref<20xi32>) -> ()
  return
}
