// RUN: bitmlir-opt %s --bit-to-cpu --split-input-file | FileCheck %s

// A product becomes a kernel for the rows from %first to %last, and a call of it on all rows.

// CHECK-LABEL: module
//   CHECK-DAG:   memref.global "private" constant @plane_matmul_0_0_links : memref<2x4xindex> = dense<{{\[}}[0, 1, 0, 0], [1, 2, 1, -1]]>
//   CHECK-DAG:   memref.global "private" constant @plane_matmul_0_0_pairs : memref<2x2xindex> = dense<{{\[}}[0, 1], [0, 0]]>

//       CHECK:   func.func @plane_matmul_0(%[[LHS:.*]]: memref<1x3x4xi32>, %[[RHS:.*]]: memref<2x100x4xi32>,
//  CHECK-SAME:     %[[OUT:.*]]: memref<3x100xf32>, %[[SUMS:.*]]: memref<3xi32>, %[[BIAS:.*]]: memref<100xf32>,
//  CHECK-SAME:     %[[FIRST:.*]]: index, %[[LAST:.*]]: index)
//  CHECK-SAME:     attributes {bit.row_block = 4 : i64}

// For each panel of 64 columns, the planes of rhs are copied with neighbouring columns side by side.

//       CHECK:   %[[PANEL:.*]] = memref.alloc() {alignment = 64 : i64} : memref<2x4x64xi32>
//       CHECK:   scf.for %[[COLUMN:.*]] = %{{.*}} to %{{.*}} step %{{.*}} {
//       CHECK:     %[[LAST_COLUMN:.*]] = arith.constant 99 : index
//       CHECK:     %[[C:.*]] = arith.minui %{{.*}}, %[[LAST_COLUMN]] : index
//       CHECK:       %[[WORD:.*]] = memref.load %[[RHS]][%[[PLANE:.*]], %[[C]], %[[K:.*]]] : memref<2x100x4xi32>
//       CHECK:       memref.store %[[WORD]], %[[PANEL]][%[[PLANE]], %[[K]], %{{.*}}] : memref<2x4x64xi32>

// Lanes past column 99 are masked; what depends on the column alone is read before the loop over rows.

//       CHECK:     %[[MASK:.*]] = vector.create_mask %{{.*}} : vector<16xi1>
//       CHECK:     %[[BIASES:.*]] = vector.maskedload %[[BIAS]][%[[COLUMN]]], %[[MASK]], %{{.*}} into vector<16xf32>
//       CHECK:     scf.for %[[ROW:.*]] = %[[FIRST]] to %[[LAST]] step %{{.*}} {

// Links of the chain of products, pairs of planes, chunks of words; in them counts in bytes, of 2 rows by 4 vectors.

//       CHECK:       scf.for {{.*}} -> (vector<16xi32>
//       CHECK:         arith.shli %{{.*}} : vector<16xi32>
//       CHECK:         scf.for {{.*}} -> (vector<16xi32>
//       CHECK:           scf.for {{.*}} -> (vector<16xi32>
//       CHECK:             scf.for {{.*}} -> (vector<64xi8>
//   CHECK-DAG:               %[[Y:.*]] = vector.load %[[PANEL]]{{.*}} : memref<2x4x64xi32>, vector<16xi32>
//   CHECK-DAG:               %[[X:.*]] = vector.broadcast %{{.*}} : i32 to vector<16xi32>
//       CHECK:               %[[XY:.*]] = arith.andi %{{.*}}, %{{.*}} : vector<16xi32>
//  CHECK-NEXT:               %[[BYTES:.*]] = vector.bitcast %[[XY]] : vector<16xi32> to vector<64xi8>
//  CHECK-NEXT:               %[[ONES:.*]] = math.ctpop %[[BYTES]] : vector<64xi8>
//  CHECK-NEXT:               arith.addi %{{.*}}, %[[ONES]] : vector<64xi8>
// CHECK-COUNT-7:             math.ctpop
//   CHECK-NOT:               math.ctpop

// The body on vectors, what depends on the row alone as a scalar; then the masked store.

//       CHECK:       %[[ROW_SUM:.*]] = memref.load %[[SUMS]][%[[ROW]]] : memref<3xi32>
//       CHECK:       vector.broadcast %[[ROW_SUM]] : i32 to vector<16xi32>
//       CHECK:       arith.addf %{{.*}}, %[[BIASES]] : vector<16xf32>
//       CHECK:       vector.maskedstore %[[OUT]][%[[ROW]], %[[COLUMN]]], %[[MASK]], %{{.*}} : memref<3x100xf32>
//       CHECK:   memref.dealloc %[[PANEL]]

// CHECK-LABEL: func.func @product(
//       CHECK:   %[[ZERO:.*]] = arith.constant 0 : index
//       CHECK:   %[[ROWS:.*]] = arith.constant 3 : index
//       CHECK:   call @plane_matmul_0(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %[[ZERO]], %[[ROWS]])
//   CHECK-NOT:   bit.plane
func.func @product(%lhs: memref<1x3x4xi32>, %sums: memref<3xi32>, %rhs: memref<2x100x4xi32>, %bias: memref<100xf32>,
                   %out: memref<3x100xf32>) {
  "bit.plane_matmul"(%lhs, %rhs, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %one = arith.constant 1 : i32
    %high = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 1>} : (i32) -> i32
    %doubled = arith.shli %high, %one : i32
    %negated = arith.subi %zero, %doubled : i32
    %acc = "bit.plane_product"(%negated) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    %sum = memref.load %sums[%row] : memref<3xi32>
    %corrected = arith.addi %acc, %sum : i32
    %float = arith.sitofp %corrected : i32 to f32
    %b = memref.load %bias[%col] : memref<100xf32>
    %y = arith.addf %float, %b : f32
    gpu.yield %y : f32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, k = 70, bitwise = #bit.bitwise<"and">, out_encoding = ""}
    : (memref<1x3x4xi32>, memref<2x100x4xi32>, memref<3x100xf32>) -> ()
  return
}

// -----

// A packed result: row sums begin at 0, words past the last panel are 0, 16 columns give 16 bits. Whole panels: no mask.

// CHECK-LABEL: func.func @plane_matmul_0
//       CHECK:   scf.for %[[ROW:.*]] = %{{.*}} to %{{.*}} step
//       CHECK:     memref.store %{{.*}}, %[[SUMS:.*]][%[[ROW]]] : memref<3xi32>
// CHECK-COUNT-2:   memref.store %{{.*}}, %[[OUT:.*]][%{{.*}}, %[[ROW]], %{{.*}}] : memref<1x3x4xi32>
//   CHECK-NOT:     memref.store %{{.*}} : memref<1x3x4xi32>
//   CHECK-NOT:   create_mask
//       CHECK:   arith.xori %{{.*}} : vector<16xi32>
//       CHECK:   %[[BITS:.*]] = arith.cmpi slt, %{{.*}} : vector<16xi32>
//       CHECK:   %[[OLD:.*]] = memref.load %[[SUMS]][%{{.*}}] : memref<3xi32>
//       CHECK:   vector.bitcast %[[BITS]] : vector<16xi1> to vector<1xi16>
//       CHECK:   memref.store %[[WORD:.*]], %[[OUT]]
//  CHECK-NEXT:   %[[ONES:.*]] = math.ctpop %[[WORD]] : i32
//  CHECK-NEXT:   arith.addi %[[OLD]], %[[ONES]]
func.func @packed(%lhs: memref<1x3x4xi32>, %rhs: memref<1x64x4xi32>, %out: memref<1x3x4xi32>, %sums: memref<3xi32>) {
  "bit.plane_matmul"(%lhs, %rhs, %out, %sums) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %limit = arith.constant 35 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    %y = arith.cmpi slt, %acc, %limit : i32
    gpu.yield %y : i1
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 1, 0>, k = 70, bitwise = #bit.bitwise<"xor">,
      out_encoding = "bipolar"}
    : (memref<1x3x4xi32>, memref<1x64x4xi32>, memref<1x3x4xi32>, memref<3xi32>) -> ()
  return
}

// -----

// With bitmaps, a panel's empty tiles are not copied, and no word of a pair is read where one of both tiles is empty.

// CHECK-LABEL: func.func @plane_matmul_0
//       CHECK:   %[[WORD:.*]] = memref.load %[[RHS_TILES:.*]][{{.*}}] : memref<1x2x1xi32>
//       CHECK:   %[[BIT:.*]] = arith.trunci %{{.*}} : i32 to i1
//       CHECK:   scf.if %[[BIT]] {
//       CHECK:     memref.load %{{.*}} : memref<1x200x64xi32>
//       CHECK:   memref.load %[[LHS_TILES:.*]][{{.*}}] : memref<1x1x1xi32>
//       CHECK:   memref.load %[[RHS_TILES]]
//       CHECK:   %[[BOTH:.*]] = arith.andi %{{.*}}, %{{.*}} : i1
//       CHECK:   scf.if %[[BOTH]] -> (vector<16xi32>
//       CHECK:     memref.load %{{.*}} : memref<1x100x64xi32>
//       CHECK:     math.ctpop
//       CHECK:   } else {
//  CHECK-NEXT:     scf.yield
func.func @sparse(%lhs: memref<1x100x64xi32>, %rhs: memref<1x200x64xi32>, %lhs_tiles: memref<1x1x1xi32>,
                  %rhs_tiles: memref<1x2x1xi32>, %out: memref<100x200xi32>) {
  "bit.plane_matmul"(%lhs, %rhs, %lhs_tiles, %rhs_tiles, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 0, 0>, k = 2048, bitwise = #bit.bitwise<"and">, out_encoding = ""}
    : (memref<1x100x64xi32>, memref<1x200x64xi32>, memref<1x1x1xi32>, memref<1x2x1xi32>, memref<100x200xi32>) -> ()
  return
}

// -----

// Packing: 16 elements to half a word of each plane, the rest of the row, its padding; then the row's sum. Kernels are
// numbered in the order of the calls.

// CHECK-LABEL: func.func @plane_pack_0
//       CHECK:   scf.for
// CHECK-COUNT-2:   vector.load %[[SOURCE:.*]][{{.*}}] : memref<3x70xi8>, vector<16xi8>
//       CHECK:     memref.store %{{.*}}, %[[PLANES:.*]][{{.*}}] : memref<2x3x4xi32>
//       CHECK:   vector.maskedload
//       CHECK:   math.ctpop
//       CHECK:   memref.store %{{.*}}, %{{.*}}[{{.*}}] : memref<3xi32>
// CHECK-LABEL: func.func @plane_unpack_1
//       CHECK:   memref.load %{{.*}} : memref<2x3x4xi32>
//       CHECK:   memref.store %{{.*}} : memref<3x70xi8>
// CHECK-LABEL: func.func @both
//       CHECK:   %[[PLANES:.*]] = memref.alloc() : memref<2x3x4xi32>
//       CHECK:   call @plane_pack_0(%{{.*}}, %[[PLANES]], %{{.*}})
//       CHECK:   call @plane_unpack_1(%[[PLANES]], %{{.*}})
func.func @both(%x: memref<3x70xi8>, %y: memref<3x70xi8>) {
  %planes = memref.alloc() : memref<2x3x4xi32>
  %sums = memref.alloc() : memref<3xi32>
  "bit.plane_pack"(%x, %planes, %sums) {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0>, encoding = #bit.encoding<"i2">}
    : (memref<3x70xi8>, memref<2x3x4xi32>, memref<3xi32>) -> ()
  "bit.plane_unpack"(%planes, %y) {encoding = #bit.encoding<"i2">} : (memref<2x3x4xi32>, memref<3x70xi8>) -> ()
  return
}

// -----

// Operations that are alike share a kernel, each with its own arrays. Others do not: the third product has one array for
// both operands, and the numbers that the last two take from outside their bodies differ.

//       CHECK: func.func @plane_matmul_0(
//   CHECK-NOT: func.func @plane_matmul_1(
//       CHECK: func.func @plane_matmul_2(%{{.*}}: memref<1x5x4xi32>, %{{.*}}: memref<5x5xi32>, %{{.*}}: index, %{{.*}}: index)
//       CHECK: @plane_matmul_3_0_links : memref<2x4xindex> = dense<{{\[}}[0, 1, 0, 0], [1, 2, 7, 0]]>
//       CHECK: func.func @plane_matmul_3(
//       CHECK: @plane_matmul_4_0_links : memref<2x4xindex> = dense<{{\[}}[0, 1, 0, 0], [1, 2, 8, 0]]>
//       CHECK: func.func @plane_matmul_4(
// CHECK-LABEL: func.func @alike(
//  CHECK-SAME:   %[[X:.*]]: memref<1x5x4xi32>, %[[Y:.*]]: memref<1x5x4xi32>, %[[P:.*]]: memref<5x5xi32>, %[[Q:.*]]: memref<5x5xi32>)
//       CHECK:   call @plane_matmul_0(%[[X]], %[[Y]], %[[P]], %{{.*}}) {bit.writes = array<i64: 2>}
//       CHECK:   call @plane_matmul_0(%[[Y]], %[[X]], %[[Q]], %{{.*}}) {bit.writes = array<i64: 2>}
//       CHECK:   call @plane_matmul_2(%[[X]], %[[P]], %{{.*}}) {bit.writes = array<i64: 1>}
//       CHECK:   call @plane_matmul_3(%[[X]], %[[Y]], %[[P]], %{{.*}})
//       CHECK:   call @plane_matmul_4(%[[X]], %[[Y]], %[[P]], %{{.*}})
func.func @alike(%x: memref<1x5x4xi32>, %y: memref<1x5x4xi32>, %p: memref<5x5xi32>, %q: memref<5x5xi32>) {
  %seven = arith.constant 7 : i32
  %eight = arith.constant 8 : i32
  "bit.plane_matmul"(%x, %y, %p) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, k = 100, bitwise = #bit.bitwise<"and">, out_encoding = ""}
    : (memref<1x5x4xi32>, memref<1x5x4xi32>, memref<5x5xi32>) -> ()
  "bit.plane_matmul"(%y, %x, %q) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, k = 100, bitwise = #bit.bitwise<"and">, out_encoding = ""}
    : (memref<1x5x4xi32>, memref<1x5x4xi32>, memref<5x5xi32>) -> ()
  "bit.plane_matmul"(%x, %x, %p) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, k = 100, bitwise = #bit.bitwise<"and">, out_encoding = ""}
    : (memref<1x5x4xi32>, memref<1x5x4xi32>, memref<5x5xi32>) -> ()
  "bit.plane_matmul"(%x, %y, %p) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    %shifted = arith.shli %acc, %seven : i32
    %sum = "bit.plane_product"(%shifted) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %sum : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, k = 100, bitwise = #bit.bitwise<"and">, out_encoding = ""}
    : (memref<1x5x4xi32>, memref<1x5x4xi32>, memref<5x5xi32>) -> ()
  "bit.plane_matmul"(%x, %y, %p) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    %shifted = arith.shli %acc, %eight : i32
    %sum = "bit.plane_product"(%shifted) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %sum : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, k = 100, bitwise = #bit.bitwise<"and">, out_encoding = ""}
    : (memref<1x5x4xi32>, memref<1x5x4xi32>, memref<5x5xi32>) -> ()
  return
}

// -----

// Functions without plane operations, and declarations, stay as they are.

// CHECK-LABEL: func.func private @outside()
// CHECK-LABEL: func.func @other
//  CHECK-NEXT:   return
func.func private @outside()
func.func @other() {
  return
}
