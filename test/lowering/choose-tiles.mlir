// RUN: bitmlir-opt %s --choose-tiles=target=sm_90a | FileCheck %s --check-prefixes=CHECK,MODEL
// RUN: bitmlir-opt %s --choose-tiles='target=sm_90a tables=%S/Inputs/table.json' | FileCheck %s --check-prefixes=CHECK,TABLE
// RUN: bitmlir-opt %s --choose-tiles='target=sm_90a tile=rows=64,columns=32,stages=2,band=2' | FileCheck %s --check-prefixes=CHECK,FORCED
// RUN: bitmlir-opt %s --choose-tiles='target=sm_90a tables=%S/Inputs/table.json' --bit-to-gpu=target=sm_90a | FileCheck %s --check-prefix=KERNEL
// RUN: %exit-code 2 bitmlir-opt %s --choose-tiles=target=cpu 2>&1 | FileCheck %s --check-prefix=CPU
// RUN: %exit-code 2 bitmlir-opt %s --choose-tiles='target=sm_90a tile=rows=64' 2>&1 | FileCheck %s --check-prefix=FIELDS
// RUN: %exit-code 1 bitmlir-opt %s --choose-tiles='target=sm_90a tables=%s' 2>&1 | FileCheck %s --check-prefix=NO-TABLE

// CPU: choose-tiles needs a GPU target, not 'cpu'
// FIELDS: pass 'choose-tiles': a tile for sm_90a needs its columns and stages
// NO-TABLE: choose-tiles.mlir is not a tuning table

// The first product is in the table, the second one's tile was written by hand, the third is near one in the table, and
// the fourth has a tile there that no kernel can have.

// CHECK-LABEL: func.func @products
// MODEL:  {bit.tile_source = "cost model", {{.*}}tile = {{[{].*}}rows = {{64|128}} : i64, stages = {{[0-9]+}} : i64}}
// TABLE:  {bit.tile_source = "tuned: table.json, NVIDIA H200, 2026-11-21, 3 {{.*}}s", {{.*}}tile = {columns = 32 : i64, rows = 64 : i64, stages = 9 : i64}}
// FORCED: {bit.tile_source = "asked for", {{.*}}tile = {band = 2 : i64, columns = 32 : i64, rows = 64 : i64, stages = 2 : i64}}
// CHECK:  {bitwise = {{.*}}tile = {alternate, columns = 256 : i64, rows = 64 : i64, stages = 4 : i64}}
// TABLE:  {bit.tile_source = "tuned for 512x384x3000: table.json, NVIDIA H200, 2026-11-21, 3 {{.*}}s", {{.*}}tile = {columns = 32 : i64
// TABLE:  {bit.tile_source = "cost model"

// KERNEL: arith.constant 12288 : i32
// KERNEL: "bit.tensor_map"(%arg0) {box = array<i64: 32, 64, 1>}
// KERNEL: "bit.tensor_map"(%arg1) {box = array<i64: 32, 32, 1>}
// KERNEL: "bit.tensor_map"(%arg0) {box = array<i64: 32, 64, 1>}
// KERNEL: "bit.tensor_map"(%arg1) {box = array<i64: 32, 256, 1>}
func.func @products(%x: memref<1x512x96xi32>, %w: memref<1x384x96xi32>, %out: memref<512x384xi32>,
                    %near: memref<1x500x96xi32>, %near_out: memref<500x384xi32>,
                    %far: memref<1x8192x96xi32>, %far_out: memref<8192x384xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 3000 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x512x96xi32>, memref<1x384x96xi32>, memref<512x384xi32>) -> ()
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 3000 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = "",
      tile = {alternate, columns = 256 : i64, rows = 64 : i64, stages = 4 : i64}}
    : (memref<1x512x96xi32>, memref<1x384x96xi32>, memref<512x384xi32>) -> ()
  "bit.plane_matmul"(%near, %w, %near_out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 3000 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x500x96xi32>, memref<1x384x96xi32>, memref<500x384xi32>) -> ()
  "bit.plane_matmul"(%far, %w, %far_out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 3000 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x8192x96xi32>, memref<1x384x96xi32>, memref<8192x384xi32>) -> ()
  return
}
