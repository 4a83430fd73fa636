// RUN: bitmlir-opt %s --bit-decompose=target=sm_80 --bit-verify | FileCheck %s --check-prefixes=CHECK,BOTH
// RUN: bitmlir-opt %s --bit-decompose=target=sm_90 --bit-verify | FileCheck %s --check-prefixes=CHECK,AND
// RUN: bitmlir-opt %s --bit-decompose=target=sm_75 --bit-verify | FileCheck %s --check-prefixes=CHECK,XOR

!bipolar = tensor<8x40xi1, #bit.encoding<"bipolar">>

// A packed argument becomes planes and sums, the result a last argument. On ±1, XOR needs no row sums:
// acc = K − 2 · popc(x ^ y); AND does: acc = 4 · popc(x & y) − 2 · sums[row] − 2 · sums[col] + K.

// CHECK-LABEL: func.func @bipolar
//  CHECK-SAME:   %[[X:[^:]*]]: memref<1x8x4xi32> {bit.encoding = "bipolar", bit.part = "planes",
//  CHECK-SAME:     bit.shape = array<i64: 8, 40>, bit.value = "argument0"}
//  CHECK-SAME:   %[[X_SUMS:[^:]*]]: memref<8xi32> {bit.encoding = "bipolar", bit.part = "sums",
//  CHECK-SAME:   %[[W:[^:]*]]: memref<1x8x4xi32> {bit.encoding = "bipolar", bit.part = "planes",
//  CHECK-SAME:   %[[W_SUMS:[^:]*]]: memref<8xi32> {bit.encoding = "bipolar", bit.part = "sums",
//  CHECK-SAME:   %[[OUT:[^:]*]]: memref<8x8xi32> {bit.part = "values", bit.result, bit.shape = array<i64: 8, 8>,
//  CHECK-SAME:     bit.value = "result0"}
//       CHECK:   "bit.plane_matmul"(%[[X]], %[[W]], %[[OUT]]) ({
//       CHECK:   ^bb0(%[[ROW:.*]]: index, %[[COL:.*]]: index):
//       CHECK:     %[[ZERO:.*]] = arith.constant 0 : i32
//       CHECK:     %[[ACC:.*]] = "bit.plane_product"(%[[ZERO]])
//  CHECK-SAME:       {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>}
//    BOTH-NOT:     memref.load
//     XOR-NOT:     memref.load
//         AND:     memref.load %[[X_SUMS]][%[[ROW]]]
//         AND:     memref.load %[[W_SUMS]][%[[COL]]]
//         AND:     arith.shli %[[ACC]]
//       CHECK:     gpu.yield
//        BOTH:   bitwise = #bit.bitwise<"xor">, k = 40
//         XOR:   bitwise = #bit.bitwise<"xor">, k = 40
//         AND:   bitwise = #bit.bitwise<"and">, k = 40
//       CHECK:   return
func.func @bipolar(%x: !bipolar, %w: !bipolar) -> tensor<8x8xi32> {
  %y = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!bipolar, !bipolar) -> tensor<8x8xi32>
  return %y : tensor<8x8xi32>
}

// Horner's rule: products of falling weight, a shift between them; i3's top plane is negative. AND needs no correction,
// XOR leaves twice the product and the sums: halved.

// CHECK-LABEL: func.func @horner
//       CHECK:     %[[ZERO:.*]] = arith.constant 0 : i32
//       CHECK:     %[[A:.*]] = "bit.plane_product"(%[[ZERO]]) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 2>}
//       CHECK:     %[[A_SHIFTED:.*]] = arith.shli %[[A]], %{{.*}} : i32
//       CHECK:     %[[A_NEGATED:.*]] = arith.subi %{{.*}}, %[[A_SHIFTED]] : i32
//       CHECK:     %[[B:.*]] = "bit.plane_product"(%[[A_NEGATED]]) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 1>}
//       CHECK:     %[[B_SHIFTED:.*]] = arith.shli %[[B]], %{{.*}} : i32
//       CHECK:     %[[C:.*]] = "bit.plane_product"(%[[B_SHIFTED]]) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>}
//    BOTH-NOT:     memref.load
//     AND-NOT:     memref.load
// XOR-COUNT-2:     memref.load
//         XOR:     %[[HALF:.*]] = arith.shrsi
//    BOTH-NEXT:     gpu.yield %[[C]] : i32
//     AND-NEXT:     gpu.yield %[[C]] : i32
//    XOR-NEXT:     gpu.yield %[[HALF]] : i32
func.func @horner(%x: tensor<8x40xi1, #bit.encoding<"u1">>, %w: tensor<8x40xi3, #bit.encoding<"i3">>) -> tensor<8x8xi32> {
  %y = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>}
    : (tensor<8x40xi1, #bit.encoding<"u1">>, tensor<8x40xi3, #bit.encoding<"i3">>) -> tensor<8x8xi32>
  return %y : tensor<8x8xi32>
}

// The epilogue goes on with the corrected accumulator; it reads memrefs. Names come from `bit.name`. A packed result is
// planes and sums.

// CHECK-LABEL: func.func @epilogue
//  CHECK-SAME:   bit.value = "x"
//  CHECK-SAME:   %[[LIMIT:[^:]*]]: memref<8xi32> {bit.part = "values", bit.shape = array<i64: 8>, bit.value = "limit"}
//  CHECK-SAME:   %[[PLANES:[^:]*]]: memref<1x8x4xi32> {bit.encoding = "bipolar", bit.part = "planes", bit.result,
//  CHECK-SAME:     bit.value = "y"}
//  CHECK-SAME:   %[[SUMS:[^:]*]]: memref<8xi32> {bit.encoding = "bipolar", bit.part = "sums", bit.result,
//       CHECK:   "bit.plane_matmul"(%{{.*}}, %{{.*}}, %[[PLANES]], %[[SUMS]]) ({
//       CHECK:   ^bb0(%{{.*}}: index, %[[COL:.*]]: index):
//       CHECK:     %[[T:.*]] = memref.load %[[LIMIT]][%[[COL]]] : memref<8xi32>
//       CHECK:     %[[BIT:.*]] = arith.cmpi sge, %{{.*}}, %[[T]] : i32
//       CHECK:     gpu.yield %[[BIT]] : i1
//       CHECK:   out_encoding = "bipolar"
func.func @epilogue(%x: !bipolar {bit.name = "x"}, %limit: tensor<8xi32> {bit.name = "limit"})
    -> (tensor<8x8xi1, #bit.encoding<"bipolar">> {bit.name = "y"}) {
  %y = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %t = tensor.extract %limit[%col] : tensor<8xi32>
    %bit = arith.cmpi sge, %acc, %t : i32
    gpu.yield %bit : i1
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!bipolar, !bipolar) -> tensor<8x8xi1, #bit.encoding<"bipolar">>
  return %y : tensor<8x8xi1, #bit.encoding<"bipolar">>
}

// Zero points a row come on top: − zeros[row] · rowsum(w).

// CHECK-LABEL: func.func @zeros
//  CHECK-SAME:   %[[ZEROS:[^:]*]]: memref<8xi32> {bit.encoding = "u2@row", bit.part = "zeros"
//  CHECK-SAME:   %[[SUMS:[^:]*]]: memref<8xi32> {bit.encoding = "u1", bit.part = "sums"
//       CHECK:   ^bb0(%[[ROW:.*]]: index, %[[COL:.*]]: index):
//         AND:     %[[SUM:.*]] = memref.load %[[SUMS]][%[[COL]]]
//         AND:     %[[ZERO:.*]] = memref.load %[[ZEROS]][%[[ROW]]]
//         AND:     %[[MORE:.*]] = arith.muli %[[ZERO]], %[[SUM]]
//         AND:     arith.subi %{{.*}}, %[[MORE]]
func.func @zeros(%x: tensor<8x40xi2, #bit.encoding<"u2@row">>, %w: tensor<8x40xi1, #bit.encoding<"u1">>) -> tensor<8x8xi32> {
  %y = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>}
    : (tensor<8x40xi2, #bit.encoding<"u2@row">>, tensor<8x40xi1, #bit.encoding<"u1">>) -> tensor<8x8xi32>
  return %y : tensor<8x8xi32>
}

// A bitmap becomes words and says which operand it covers; it needs AND, whatever the target prefers.

// CHECK-LABEL: func.func @tiles
//  CHECK-SAME:   %[[TILES:[^:]*]]: memref<1x1x1xi32>
//  CHECK-SAME:     {bit.encoding = "bipolar", bit.part = "tiles", bit.shape = array<i64: 8, 40>, bit.value = "argument1"}
//       CHECK:   "bit.plane_matmul"(%{{.*}}, %{{.*}}, %[[TILES]], %{{.*}}) ({
//       CHECK:   bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 0>
func.func @tiles(%x: !bipolar, %tiles: tensor<1x1x1xi1>) -> tensor<8x8xi32> {
  %y = "bit.matmul"(%x, %x, %tiles) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 1, 0>} : (!bipolar, !bipolar, tensor<1x1x1xi1>) -> tensor<8x8xi32>
  return %y : tensor<8x8xi32>
}

// What is neither argument nor result is allocated, and the operations stay in order.

// CHECK-LABEL: func.func @pack_matmul_unpack
//  CHECK-SAME:   %[[X:[^:]*]]: memref<8x40xi8> {{.*}}, %[[ZEROS:[^:]*]]: memref<8xi32> {{.*}}, %[[OUT:[^:]*]]: memref<8x8xi8>
//   CHECK-DAG:   %[[PLANES:.*]] = memref.alloc() : memref<2x8x4xi32>
//   CHECK-DAG:   %[[SUMS:.*]] = memref.alloc() : memref<8xi32>
//   CHECK-DAG:   %[[OWN_ZEROS:.*]] = memref.alloc() : memref<8xi32>
//       CHECK:   "bit.plane_pack"(%[[X]], %{{.*}}, %{{.*}}, %[[ZEROS]], %{{.*}}) {encoding = #bit.encoding<"u2@row">
//       CHECK:   %[[BITS:.*]] = memref.alloc() : memref<1x8x4xi32>
//       CHECK:   "bit.plane_matmul"(%[[PLANES]], %[[PLANES]], %[[BITS]], %{{.*}})
//       CHECK:   "bit.plane_unpack"(%[[BITS]], %[[OUT]]) {encoding = #bit.encoding<"u1">
func.func @pack_matmul_unpack(%x: tensor<8x40xi8>, %zeros: tensor<8xi32>) -> tensor<8x8xi8> {
  %p = "bit.pack"(%x, %zeros) : (tensor<8x40xi8>, tensor<8xi32>) -> tensor<8x40xi2, #bit.encoding<"u2@row">>
  %q = "bit.matmul"(%p, %p) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %bit = arith.trunci %acc : i32 to i1
    gpu.yield %bit : i1
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>}
    : (tensor<8x40xi2, #bit.encoding<"u2@row">>, tensor<8x40xi2, #bit.encoding<"u2@row">>)
    -> tensor<8x8xi1, #bit.encoding<"u1">>
  %r = "bit.unpack"(%q) : (tensor<8x8xi1, #bit.encoding<"u1">>) -> tensor<8x8xi8>
  return %r : tensor<8x8xi8>
}

// Constants outside an epilogue may be used in it.

// CHECK-LABEL: func.func @constant
//       CHECK:   %[[SEVEN:.*]] = arith.constant 7 : i32
//       CHECK:   "bit.plane_matmul"
//       CHECK:     arith.addi %{{.*}}, %[[SEVEN]]
func.func @constant(%x: !bipolar) -> tensor<8x8xi32> {
  %seven = arith.constant 7 : i32
  %y = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %v = arith.addi %acc, %seven : i32
    gpu.yield %v : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!bipolar, !bipolar) -> tensor<8x8xi32>
  return %y : tensor<8x8xi32>
}

// Functions that hold nothing of ours are left alone.

// CHECK-LABEL: func.func @other
//  CHECK-SAME:   tensor<4xi32>
//       CHECK:   return %{{.*}} : tensor<4xi32>
func.func @other(%x: tensor<4xi32>) -> tensor<4xi32> {
  return %x : tensor<4xi32>
}

// Quantising keeps its scales; floats and integers are packed by one operation.

// CHECK-LABEL: func.func @quantise
//  CHECK-SAME:   %[[X:[^:]*]]: memref<8x40xf32> {{.*}}, %[[SCALE:[^:]*]]: memref<8xf32> {{.*}}, %[[PLANES:[^:]*]]: memref<4x8x4xi32>
//       CHECK:   "bit.plane_pack"(%[[X]], %[[PLANES]], %{{.*}}, %[[SCALE]]) {encoding = #bit.encoding<"i4">, operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0>}
func.func @quantise(%x: tensor<8x40xf32>, %scale: tensor<8xf32>) -> tensor<8x40xi4, #bit.encoding<"i4">> {
  %q = "bit.quantise"(%x, %scale) {operandSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<8x40xf32>, tensor<8xf32>) -> tensor<8x40xi4, #bit.encoding<"i4">>
  return %q : tensor<8x40xi4, #bit.encoding<"i4">>
}
