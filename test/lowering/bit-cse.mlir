// RUN: bitmlir-opt %s --bit-cse | FileCheck %s

!packed = tensor<4x40xi1, #bit.encoding<"bipolar">>
!unsigned = tensor<4x40xi1, #bit.encoding<"u1">>

// CHECK-LABEL: func.func @equal
//       CHECK:   %[[P:.*]] = "bit.pack"
//   CHECK-NOT:   "bit.pack"
//       CHECK:   return %[[P]], %[[P]]
func.func @equal(%x: tensor<4x40xi8>) -> (!packed, !packed) {
  %a = "bit.pack"(%x) : (tensor<4x40xi8>) -> !packed
  %b = "bit.pack"(%x) : (tensor<4x40xi8>) -> !packed
  return %a, %b : !packed, !packed
}

// Merging one pair makes another pair equal.

// CHECK-LABEL: func.func @chain
//       CHECK:   "bit.pack"
//  CHECK-NEXT:   %[[U:.*]] = "bit.unpack"
//  CHECK-NEXT:   return %[[U]], %[[U]]
func.func @chain(%x: tensor<4x40xi8>) -> (tensor<4x40xi8>, tensor<4x40xi8>) {
  %a = "bit.pack"(%x) : (tensor<4x40xi8>) -> !packed
  %b = "bit.pack"(%x) : (tensor<4x40xi8>) -> !packed
  %c = "bit.unpack"(%a) : (!packed) -> tensor<4x40xi8>
  %d = "bit.unpack"(%b) : (!packed) -> tensor<4x40xi8>
  return %c, %d : tensor<4x40xi8>, tensor<4x40xi8>
}

// Operands, result types and attributes tell operations apart.

// CHECK-LABEL: func.func @different
// CHECK-COUNT-4: "bit.pack"
//       CHECK:   return
func.func @different(%x: tensor<4x40xi8>, %y: tensor<4x40xi8>) -> (!packed, !packed, !unsigned, !packed) {
  %a = "bit.pack"(%x) : (tensor<4x40xi8>) -> !packed
  %b = "bit.pack"(%y) : (tensor<4x40xi8>) -> !packed
  %c = "bit.pack"(%x) : (tensor<4x40xi8>) -> !unsigned
  %d = "bit.pack"(%x) {note = "kept apart"} : (tensor<4x40xi8>) -> !packed
  return %a, %b, %c, %d : !packed, !packed, !unsigned, !packed
}

// A nested region sees what stands before it; the other branch, and what follows, see nothing of it.

func.func private @use(!packed)

// CHECK-LABEL: func.func @nested
//  CHECK-SAME:   %[[X:.*]]: tensor<4x40xi8>, %[[Y:.*]]: tensor<4x40xi8>, %{{.*}}: i1
//       CHECK:   %[[OUTER:.*]] = "bit.pack"(%[[X]])
//       CHECK:   scf.if
//  CHECK-NEXT:     call @use(%[[OUTER]])
//  CHECK-NEXT:     %[[THEN:.*]] = "bit.pack"(%[[Y]])
//  CHECK-NEXT:     call @use(%[[THEN]])
//  CHECK-NEXT:   } else {
//  CHECK-NEXT:     %[[ELSE:.*]] = "bit.pack"(%[[Y]])
//  CHECK-NEXT:     call @use(%[[ELSE]])
//       CHECK:   %[[AFTER:.*]] = "bit.pack"(%[[Y]])
//  CHECK-NEXT:   call @use(%[[OUTER]])
//  CHECK-NEXT:   return %[[AFTER]]
func.func @nested(%x: tensor<4x40xi8>, %y: tensor<4x40xi8>, %c: i1) -> !packed {
  %outer = "bit.pack"(%x) : (tensor<4x40xi8>) -> !packed
  scf.if %c {
    %again = "bit.pack"(%x) : (tensor<4x40xi8>) -> !packed
    func.call @use(%again) : (!packed) -> ()
    %then = "bit.pack"(%y) : (tensor<4x40xi8>) -> !packed
    func.call @use(%then) : (!packed) -> ()
  } else {
    %else = "bit.pack"(%y) : (tensor<4x40xi8>) -> !packed
    func.call @use(%else) : (!packed) -> ()
  }
  %after = "bit.pack"(%y) : (tensor<4x40xi8>) -> !packed
  func.call @use(%outer) : (!packed) -> ()
  return %after : !packed
}

// The entry block dominates the others; two successors do not see each other.

// CHECK-LABEL: func.func @blocks
//  CHECK-SAME:   %[[X:.*]]: tensor<4x40xi8>, %[[Y:.*]]: tensor<4x40xi8>, %{{.*}}: i1
//       CHECK:   %[[ENTRY:.*]] = "bit.pack"(%[[X]])
//       CHECK: ^bb1:
//  CHECK-NEXT:   %[[FIRST:.*]] = "bit.pack"(%[[Y]])
//       CHECK:   return %[[ENTRY]], %[[FIRST]]
//       CHECK: ^bb2:
//  CHECK-NEXT:   %[[SECOND:.*]] = "bit.pack"(%[[Y]])
//       CHECK:   return %[[ENTRY]], %[[SECOND]]
func.func @blocks(%x: tensor<4x40xi8>, %y: tensor<4x40xi8>, %c: i1) -> (!packed, !packed) {
  %entry = "bit.pack"(%x) : (tensor<4x40xi8>) -> !packed
  cf.cond_br %c, ^first, ^second
^first:
  %a = "bit.pack"(%x) : (tensor<4x40xi8>) -> !packed
  %b = "bit.pack"(%y) : (tensor<4x40xi8>) -> !packed
  return %a, %b : !packed, !packed
^second:
  %d = "bit.pack"(%x) : (tensor<4x40xi8>) -> !packed
  %e = "bit.pack"(%y) : (tensor<4x40xi8>) -> !packed
  return %d, %e : !packed, !packed
}

// Operations with a region are not merged.

// CHECK-LABEL: func.func @regions
// CHECK-COUNT-2: "bit.matmul"
func.func @regions(%p: !packed) -> (tensor<4x4xi32>, tensor<4x4xi32>) {
  %a = "bit.matmul"(%p, %p) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!packed, !packed) -> tensor<4x4xi32>
  %b = "bit.matmul"(%p, %p) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!packed, !packed) -> tensor<4x4xi32>
  return %a, %b : tensor<4x4xi32>, tensor<4x4xi32>
}
