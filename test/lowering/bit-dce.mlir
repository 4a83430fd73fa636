// RUN: bitmlir-opt %s --bit-dce | FileCheck %s

// An operation that nobody uses goes, and then what only it used; what is returned stays.

// CHECK-LABEL: func.func @chain
//  CHECK-NEXT:   %[[KEPT:.*]] = "bit.pack"(%{{.*}}) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"bipolar">>
//  CHECK-NEXT:   return %[[KEPT]]
func.func @chain(%x: tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"bipolar">> {
  %kept = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"bipolar">>
  %dead = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi2, #bit.encoding<"u2">>
  %deader = "bit.unpack"(%dead) : (tensor<4x40xi2, #bit.encoding<"u2">>) -> tensor<4x40xi8>
  return %kept : tensor<4x40xi1, #bit.encoding<"bipolar">>
}

// A dead operation takes its region along, and the uses in that region with it.

// CHECK-LABEL: func.func @region
//   CHECK-NOT:   bit.
//       CHECK:   return
func.func @region(%x: tensor<4x40xi8>, %limit: tensor<4xi32>) {
  %p = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"bipolar">>
  %y = "bit.matmul"(%p, %p) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %l = tensor.extract %limit[%col] : tensor<4xi32>
    %bit = arith.cmpi sge, %acc, %l : i32
    gpu.yield %bit : i1
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>}
    : (tensor<4x40xi1, #bit.encoding<"bipolar">>, tensor<4x40xi1, #bit.encoding<"bipolar">>)
    -> tensor<4x4xi1, #bit.encoding<"bipolar">>
  return
}

// Blocks are swept until nothing changes: here the use stands before the definition in the text.

// CHECK-LABEL: func.func @blocks
//   CHECK-NOT:   bit.
func.func @blocks(%x: tensor<4x40xi8>) {
  cf.br ^first
^second:
  %u = "bit.unpack"(%p) : (tensor<4x40xi1, #bit.encoding<"bipolar">>) -> tensor<4x40xi8>
  return
^first:
  %p = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"bipolar">>
  cf.br ^second
}

// What is dead inside another operation's region goes as well; operations with effects, and other dialects', stay.

// CHECK-LABEL: func.func @others
//       CHECK:   scf.for
//  CHECK-NEXT:     arith.constant 7
//   CHECK-NOT:     bit.pack
//       CHECK:   "bit.plane_unpack"
func.func @others(%x: tensor<4x40xi8>, %n: index, %planes: memref<1x4x4xi32>, %out: memref<4x40xi8>) {
  scf.for %i = %n to %n step %n {
    %seven = arith.constant 7 : i32
    %dead = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"bipolar">>
  }
  "bit.plane_unpack"(%planes, %out) {encoding = #bit.encoding<"bipolar">}
    : (memref<1x4x4xi32>, memref<4x40xi8>) -> ()
  return
}
