// RUN: bitmlir-opt %s --bit-to-gpu=target=sm_90a --split-input-file --verify-diagnostics
// RUN: bitmlir-opt %s --choose-tiles=target=sm_90a --split-input-file --verify-diagnostics

// A tile that the IR asks for is used or refused, never replaced.

func.func @product(%x: memref<1x64x4xi32>, %out: memref<64x64xi32>) {
  // expected-error @below {{a tile for sm_90a needs its stages}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = "",
      tile = {rows = 64 : i64, columns = 64 : i64}}
    : (memref<1x64x4xi32>, memref<1x64x4xi32>, memref<64x64xi32>) -> ()
  return
}

// -----

func.func @product(%x: memref<1x64x4xi32>, %out: memref<64x64xi32>) {
  // expected-error @below {{a tile for sm_90a has no field 'colunms'; did you mean 'columns'?}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = "",
      tile = {rows = 64 : i64, colunms = 64 : i64, stages = 4 : i64}}
    : (memref<1x64x4xi32>, memref<1x64x4xi32>, memref<64x64xi32>) -> ()
  return
}

// -----

func.func @product(%x: memref<1x64x4xi32>, %out: memref<64x64xi32>) {
  // expected-error @below {{the field 'alternate' of a tile must be a switch, but is 1}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = "",
      tile = {rows = 64 : i64, columns = 64 : i64, stages = 4 : i64, alternate = 1 : i64}}
    : (memref<1x64x4xi32>, memref<1x64x4xi32>, memref<64x64xi32>) -> ()
  return
}

// -----

func.func @product(%x: memref<1x64x4xi32>, %out: memref<64x64xi32>) {
  // expected-error @below {{the field 'rows' of a tile needs a number, as in rows=64,columns=256,stages=4,alternate}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = "",
      tile = {columns = 64 : i64, rows, stages = 4 : i64}}
    : (memref<1x64x4xi32>, memref<1x64x4xi32>, memref<64x64xi32>) -> ()
  return
}

// -----

func.func @product(%x: memref<1x64x4xi32>, %out: memref<64x64xi32>) {
  // expected-error @below {{tile must hold whole numbers and units, as in {alternate, columns = 256 : i64, rows = 64 : i64}, but its columns is 64 : i32}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = "",
      tile = {columns = 64 : i32, rows = 64 : i64, stages = 4 : i64}}
    : (memref<1x64x4xi32>, memref<1x64x4xi32>, memref<64x64xi32>) -> ()
  return
}

// -----

func.func @product(%x: memref<1x64x4xi32>, %out: memref<64x64xi32>) {
  // expected-error @below {{tile must be a dictionary such as {alternate, columns = 256 : i64, rows = 64 : i64}, but is "rows=64"}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = "",
      tile = "rows=64"}
    : (memref<1x64x4xi32>, memref<1x64x4xi32>, memref<64x64xi32>) -> ()
  return
}

// -----

func.func @product(%x: memref<1x64x4xi32>, %out: memref<64x64xi32>) {
  // expected-error @below {{the tile rows=96,columns=64,stages=4 is not possible here: rows must be 64, 128 or 192, and columns a multiple of 8}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = "",
      tile = {rows = 96 : i64, columns = 64 : i64, stages = 4 : i64}}
    : (memref<1x64x4xi32>, memref<1x64x4xi32>, memref<64x64xi32>) -> ()
  return
}

// -----

func.func @product(%x: memref<1x64x4xi32>, %out: memref<64x64xi32>) {
  // expected-error @below {{the tile rows=64,columns=40,stages=4 is not possible here: wgmma has no n of 40: expected 8, 16, 24, 32 or a multiple of 16 up to 256}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = "",
      tile = {rows = 64 : i64, columns = 40 : i64, stages = 4 : i64}}
    : (memref<1x64x4xi32>, memref<1x64x4xi32>, memref<64x64xi32>) -> ()
  return
}

// -----

func.func @product(%x: memref<1x64x4xi32>, %out: memref<64x64xi32>) {
  // expected-error @below {{the tile rows=64,columns=64,stages=1 is not possible here: stages must be at least 2, and cluster, band, planes and split at least 1}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = "",
      tile = {rows = 64 : i64, columns = 64 : i64, stages = 1 : i64}}
    : (memref<1x64x4xi32>, memref<1x64x4xi32>, memref<64x64xi32>) -> ()
  return
}

// -----

func.func @product(%x: memref<1x64x4xi32>, %out: memref<64x64xi32>) {
  // expected-error @below {{the tile rows=192,columns=256,stages=3 is not possible here: 3 warp groups leave 128 registers a thread, too few for 128 accumulators}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = "",
      tile = {rows = 192 : i64, columns = 256 : i64, stages = 3 : i64}}
    : (memref<1x64x4xi32>, memref<1x64x4xi32>, memref<64x64xi32>) -> ()
  return
}

// -----

func.func @product(%x: memref<1x64x4xi32>, %out: memref<64x64xi32>) {
  // expected-error @below {{the tile rows=128,columns=64,stages=3,alternate is not possible here: warp groups that alternate have tiles of 64 rows, on sides that are not swapped}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = "",
      tile = {rows = 128 : i64, columns = 64 : i64, stages = 3 : i64, alternate}}
    : (memref<1x64x4xi32>, memref<1x64x4xi32>, memref<64x64xi32>) -> ()
  return
}

// -----

func.func @product(%x: memref<1x64x4xi32>, %out: memref<64x64xi32>) {
  // expected-error @below {{the tile rows=64,columns=64,stages=3,planes=2 is not possible here: planes side by side must be all planes of lhs, on swapped sides, without bitmaps}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = "",
      tile = {rows = 64 : i64, columns = 64 : i64, stages = 3 : i64, planes = 2 : i64}}
    : (memref<1x64x4xi32>, memref<1x64x4xi32>, memref<64x64xi32>) -> ()
  return
}

// -----

func.func @product(%x: memref<1x64x4xi32>, %out: memref<64x64xi32>) {
  // expected-error @below {{the tile rows=64,columns=48,stages=3,cluster=3 is not possible here: a cluster has 1, 2 or 4 blocks, not 3}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = "",
      tile = {rows = 64 : i64, columns = 48 : i64, stages = 3 : i64, cluster = 3 : i64}}
    : (memref<1x64x4xi32>, memref<1x64x4xi32>, memref<64x64xi32>) -> ()
  return
}

// -----

func.func @product(%x: memref<1x64x4xi32>, %out: memref<64x64xi32>) {
  // expected-error @below {{the tile rows=64,columns=24,stages=3,cluster=2 is not possible here: clusters need dense operands, sides as they are, and columns that divide into parts of 8}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = "",
      tile = {rows = 64 : i64, columns = 24 : i64, stages = 3 : i64, cluster = 2 : i64}}
    : (memref<1x64x4xi32>, memref<1x64x4xi32>, memref<64x64xi32>) -> ()
  return
}

// -----

func.func @product(%x: memref<1x64x4xi32>, %out: memref<64x64xi32>) {
  // expected-error @below {{the tile rows=64,columns=64,stages=3,split=8 is not possible here: 4 warps cannot be divided among 8 blocks, of 2 or 4}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = "",
      tile = {rows = 64 : i64, columns = 64 : i64, stages = 3 : i64, split = 8 : i64}}
    : (memref<1x64x4xi32>, memref<1x64x4xi32>, memref<64x64xi32>) -> ()
  return
}

// -----

func.func @product(%x: memref<1x64x4xi32>, %out: memref<64x64xi32>) {
  // expected-error @below {{the tile rows=64,columns=64,stages=3,cluster=2,split=2 is not possible here: K is split for dense operands, up to 128 rows, without clusters and alternation}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = "",
      tile = {rows = 64 : i64, columns = 64 : i64, stages = 3 : i64, cluster = 2 : i64, split = 2 : i64}}
    : (memref<1x64x4xi32>, memref<1x64x4xi32>, memref<64x64xi32>) -> ()
  return
}
