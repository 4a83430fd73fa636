// RUN: bitmlir-opt %s --bit-verify | FileCheck %s
// RUN: bitmlir-opt %s --bit-verify | bitmlir-opt --bit-verify | FileCheck %s
// RUN: bitmlir-opt %s --mlir-print-op-generic | bitmlir-opt --bit-verify | FileCheck %s

// Every operation in text, and every optional operand present and absent.

// --- level 0 ---

// CHECK-LABEL: func.func @pack
//  CHECK-SAME:   %[[X:[^:]*]]: tensor<4x40xi8>, %[[Y:[^:]*]]: tensor<4x40xi32>, %[[ZEROS:[^:]*]]: tensor<4xi32>
//       CHECK:   "bit.pack"(%[[X]]) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"bipolar">>
//       CHECK:   "bit.pack"(%[[Y]]) : (tensor<4x40xi32>) -> tensor<4x40xi4, #bit.encoding<"u4@7">>
//       CHECK:   "bit.pack"(%[[Y]], %[[ZEROS]])
//  CHECK-SAME:     : (tensor<4x40xi32>, tensor<4xi32>) -> tensor<4x40xi8, #bit.encoding<"u8@row">>
func.func @pack(%x: tensor<4x40xi8>, %y: tensor<4x40xi32>, %zeros: tensor<4xi32>) {
  %a = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"bipolar">>
  %b = "bit.pack"(%y) : (tensor<4x40xi32>) -> tensor<4x40xi4, #bit.encoding<"u4@7">>
  %c = "bit.pack"(%y, %zeros) : (tensor<4x40xi32>, tensor<4xi32>) -> tensor<4x40xi8, #bit.encoding<"u8@row">>
  return
}

// CHECK-LABEL: func.func @quantise
//  CHECK-SAME:   %[[X:[^:]*]]: tensor<4x40xf32>, %[[Y:[^:]*]]: tensor<4x40xbf16>, %[[SCALE:[^:]*]]: tensor<4xf32>, %[[ZEROS:[^:]*]]: tensor<4xi32>
//       CHECK:   "bit.quantise"(%[[X]]) {operandSegmentSizes = array<i32: 1, 0, 0>}
//  CHECK-SAME:     : (tensor<4x40xf32>) -> tensor<4x40xi1, #bit.encoding<"bipolar">>
//       CHECK:   "bit.quantise"(%[[Y]], %[[SCALE]]) {operandSegmentSizes = array<i32: 1, 1, 0>}
//       CHECK:   "bit.quantise"(%[[Y]], %[[ZEROS]]) {operandSegmentSizes = array<i32: 1, 0, 1>}
//       CHECK:   "bit.quantise"(%[[X]], %[[SCALE]], %[[ZEROS]]) {operandSegmentSizes = array<i32: 1, 1, 1>}
func.func @quantise(%x: tensor<4x40xf32>, %y: tensor<4x40xbf16>, %scale: tensor<4xf32>, %zeros: tensor<4xi32>) {
  %a = "bit.quantise"(%x) {operandSegmentSizes = array<i32: 1, 0, 0>}
    : (tensor<4x40xf32>) -> tensor<4x40xi1, #bit.encoding<"bipolar">>
  %b = "bit.quantise"(%y, %scale) {operandSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<4x40xbf16>, tensor<4xf32>) -> tensor<4x40xi4, #bit.encoding<"u4@7">>
  %c = "bit.quantise"(%y, %zeros) {operandSegmentSizes = array<i32: 1, 0, 1>}
    : (tensor<4x40xbf16>, tensor<4xi32>) -> tensor<4x40xi8, #bit.encoding<"u8@row">>
  %d = "bit.quantise"(%x, %scale, %zeros) {operandSegmentSizes = array<i32: 1, 1, 1>}
    : (tensor<4x40xf32>, tensor<4xf32>, tensor<4xi32>) -> tensor<4x40xi8, #bit.encoding<"u8@row">>
  return
}

// The element is i8 where all values of the encoding fit, else i16.

// CHECK-LABEL: func.func @unpack
//       CHECK:   "bit.unpack"(%{{.*}}) : (tensor<4x40xi2, #bit.encoding<"ternary">>) -> tensor<4x40xi8>
//       CHECK:   "bit.unpack"(%{{.*}}) : (tensor<4x40xi8, #bit.encoding<"bipolar8">>) -> tensor<4x40xi16>
func.func @unpack(%x: tensor<4x40xi2, #bit.encoding<"ternary">>, %y: tensor<4x40xi8, #bit.encoding<"bipolar8">>) {
  %a = "bit.unpack"(%x) : (tensor<4x40xi2, #bit.encoding<"ternary">>) -> tensor<4x40xi8>
  %b = "bit.unpack"(%y) : (tensor<4x40xi8, #bit.encoding<"bipolar8">>) -> tensor<4x40xi16>
  return
}

!lhs = tensor<8x40xi1, #bit.encoding<"bipolar">>
!rhs = tensor<64x40xi2, #bit.encoding<"u2">>

// CHECK-LABEL: func.func @matmul
//  CHECK-SAME:   %[[X:[^:]*]]: tensor<8x40xi1, #bit.encoding<"bipolar">>, %[[W:[^:]*]]: tensor<64x40xi2, #bit.encoding<"u2">>
//       CHECK:   "bit.matmul"(%[[X]], %[[W]]) ({
//  CHECK-NEXT:   ^bb0(%[[ACC:.*]]: i32, %{{.*}}: index, %{{.*}}: index):
//  CHECK-NEXT:     gpu.yield %[[ACC]] : i32
//  CHECK-NEXT:   }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>}
//  CHECK-SAME:     : (tensor<8x40xi1, #bit.encoding<"bipolar">>, tensor<64x40xi2, #bit.encoding<"u2">>) -> tensor<8x64xi32>
func.func @matmul(%x: !lhs, %w: !rhs) -> tensor<8x64xi32> {
  %y = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!lhs, !rhs) -> tensor<8x64xi32>
  return %y : tensor<8x64xi32>
}

// CHECK-LABEL: func.func @tiles
//  CHECK-SAME:   %[[X:[^:]*]]: {{[^:]*}}, %[[W:[^:]*]]: {{[^:]*}}, %[[OF_X:[^:]*]]: tensor<1x1x1xi1>, %[[OF_W:[^:]*]]: tensor<2x1x1xi1>
//       CHECK:   "bit.matmul"(%[[X]], %[[W]], %[[OF_X]], %[[OF_W]])
//       CHECK:   operandSegmentSizes = array<i32: 1, 1, 1, 1>
//       CHECK:   "bit.matmul"(%[[X]], %[[W]], %[[OF_W]])
//       CHECK:   operandSegmentSizes = array<i32: 1, 1, 0, 1>
func.func @tiles(%x: !lhs, %w: !rhs, %of_x: tensor<1x1x1xi1>, %of_w: tensor<2x1x1xi1>) {
  %both = "bit.matmul"(%x, %w, %of_x, %of_w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 1, 1>}
    : (!lhs, !rhs, tensor<1x1x1xi1>, tensor<2x1x1xi1>) -> tensor<8x64xi32>
  %one = "bit.matmul"(%x, %w, %of_w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 1>} : (!lhs, !rhs, tensor<2x1x1xi1>) -> tensor<8x64xi32>
  return
}

// An epilogue may read arrays at the row, the column, both, or a constant, and yield the code of a packed result.

// CHECK-LABEL: func.func @epilogue
//       CHECK:   ^bb0(%[[ACC:.*]]: i32, %[[ROW:.*]]: index, %[[COL:.*]]: index):
//       CHECK:     %[[FIRST:.*]] = arith.constant 0 : index
//       CHECK:     tensor.extract %{{.*}}[%[[ROW]], %[[COL]]] : tensor<8x64xi32>
//       CHECK:     tensor.extract %{{.*}}[%[[COL]]] : tensor<64xi32>
//       CHECK:     tensor.extract %{{.*}}[%[[FIRST]]] : tensor<64xi32>
//       CHECK:     arith.cmpi sge, %[[ACC]]
//       CHECK:     gpu.yield %{{.*}} : i1
//       CHECK:   -> tensor<8x64xi1, #bit.encoding<"bipolar">>
func.func @epilogue(%x: !lhs, %w: !rhs, %whole: tensor<8x64xi32>, %of_column: tensor<64xi32>) {
  %y = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %first = arith.constant 0 : index
    %a = tensor.extract %whole[%row, %col] : tensor<8x64xi32>
    %b = tensor.extract %of_column[%col] : tensor<64xi32>
    %c = tensor.extract %of_column[%first] : tensor<64xi32>
    %ab = arith.addi %a, %b : i32
    %abc = arith.addi %ab, %c : i32
    %bit = arith.cmpi sge, %acc, %abc : i32
    gpu.yield %bit : i1
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!lhs, !rhs) -> tensor<8x64xi1, #bit.encoding<"bipolar">>
  return
}

// --- level 1 ---

// CHECK-LABEL: func.func @plane_matmul
//       CHECK:   "bit.plane_matmul"(%{{.*}}, %{{.*}}, %{{.*}}) ({
//  CHECK-NEXT:   ^bb0(%{{.*}}: index, %{{.*}}: index):
//       CHECK:     "bit.plane_product"(%{{.*}}) {lhs_planes = array<i64: 0, 0>, rhs_planes = array<i64: 1, 0>} : (i32) -> i32
//       CHECK:     gpu.yield
//  CHECK-NEXT:   }) {bitwise = #bit.bitwise<"xor">, k = 40 : i64,
//  CHECK-SAME:     operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
//  CHECK-SAME:     : (memref<1x8x4xi32>, memref<2x64x4xi32>, memref<8x64xi32>) -> ()
func.func @plane_matmul(%x: memref<1x8x4xi32>, %w: memref<2x64x4xi32>, %out: memref<8x64xi32>) {
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0, 0>, rhs_planes = array<i64: 1, 0>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"xor">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x8x4xi32>, memref<2x64x4xi32>, memref<8x64xi32>) -> ()
  return
}

// A packed result has sums; bitmaps are words here.

// CHECK-LABEL: func.func @plane_matmul_packed
//       CHECK:   "bit.plane_matmul"(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}) ({
//       CHECK:   }) {bitwise = #bit.bitwise<"and">, k = 40 : i64,
//  CHECK-SAME:     operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0>, out_encoding = "ternary"}
func.func @plane_matmul_packed(%x: memref<1x8x4xi32>, %w: memref<2x64x4xi32>, %of_x: memref<1x1x1xi32>,
                               %of_w: memref<2x1x1xi32>, %planes: memref<2x8x4xi32>, %sums: memref<8xi32>) {
  "bit.plane_matmul"(%x, %w, %of_x, %of_w, %planes, %sums) ({
  ^bb0(%row: index, %col: index):
    %code = arith.constant 1 : i2
    gpu.yield %code : i2
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 0>,
      out_encoding = "ternary"}
    : (memref<1x8x4xi32>, memref<2x64x4xi32>, memref<1x1x1xi32>, memref<2x1x1xi32>, memref<2x8x4xi32>, memref<8xi32>)
    -> ()
  return
}

// CHECK-LABEL: func.func @plane_pack
//       CHECK:   "bit.plane_pack"(%{{.*}}, %{{.*}}, %{{.*}}) {encoding = #bit.encoding<"i3">
//       CHECK:   "bit.plane_pack"(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}) {encoding = #bit.encoding<"u3@row">
//       CHECK:   "bit.plane_pack"(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}) {encoding = #bit.encoding<"u3">
//  CHECK-SAME:     : (memref<4x40xf16>, memref<3x4x4xi32>, memref<4xi32>, memref<4xf32>) -> ()
func.func @plane_pack(%x: memref<4x40xi8>, %y: memref<4x40xf16>, %planes: memref<3x4x4xi32>, %sums: memref<4xi32>,
                      %scale: memref<4xf32>, %zeros: memref<4xi32>, %out_zeros: memref<4xi32>) {
  "bit.plane_pack"(%x, %planes, %sums) {encoding = #bit.encoding<"i3">, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0>}
    : (memref<4x40xi8>, memref<3x4x4xi32>, memref<4xi32>) -> ()
  "bit.plane_pack"(%x, %planes, %sums, %zeros, %out_zeros)
    {encoding = #bit.encoding<"u3@row">, operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 1>}
    : (memref<4x40xi8>, memref<3x4x4xi32>, memref<4xi32>, memref<4xi32>, memref<4xi32>) -> ()
  "bit.plane_pack"(%y, %planes, %sums, %scale)
    {encoding = #bit.encoding<"u3">, operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0>}
    : (memref<4x40xf16>, memref<3x4x4xi32>, memref<4xi32>, memref<4xf32>) -> ()
  return
}

// CHECK-LABEL: func.func @plane_unpack
//       CHECK:   "bit.plane_unpack"(%{{.*}}, %{{.*}}) {encoding = #bit.encoding<"i3">}
//       CHECK:   "bit.plane_unpack"(%{{.*}}, %{{.*}}, %{{.*}}) {encoding = #bit.encoding<"u3@row">}
func.func @plane_unpack(%planes: memref<3x4x4xi32>, %out: memref<4x40xi8>, %zeros: memref<4xi32>) {
  "bit.plane_unpack"(%planes, %out) {encoding = #bit.encoding<"i3">} : (memref<3x4x4xi32>, memref<4x40xi8>) -> ()
  "bit.plane_unpack"(%planes, %out, %zeros) {encoding = #bit.encoding<"u3@row">}
    : (memref<3x4x4xi32>, memref<4x40xi8>, memref<4xi32>) -> ()
  return
}

// CHECK-LABEL: func.func @plane_pair_filters
//       CHECK:   "bit.plane_pair_filters"(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}) {offset = -64 : i64, scale = 2 : i64, window = array<i64: 1, 1, 1, 0, 0, 1, 6, 3, 1, 0, 0, 1>}
//  CHECK-SAME:     : (memref<1x2x12xi32>, memref<6xi32>, memref<1x4x8xi32>, memref<8xi32>) -> ()
func.func @plane_pair_filters(%w: memref<1x2x12xi32>, %sums: memref<6xi32>, %out: memref<1x4x8xi32>, %out_sums: memref<8xi32>) {
  "bit.plane_pair_filters"(%w, %sums, %out, %out_sums) {offset = -64 : i64, scale = 2 : i64, window = array<i64: 1, 1, 1, 0, 0, 1, 6, 3, 1, 0, 0, 1>}
    : (memref<1x2x12xi32>, memref<6xi32>, memref<1x4x8xi32>, memref<8xi32>) -> ()
  return
}

// --- level 2 ---

// CHECK-LABEL: func.func @tensor_map
//       CHECK:   "bit.tensor_map"(%{{.*}}) {box = array<i64: 32, 64, 1>} : (memref<1x8x4xi32>) -> !llvm.ptr
func.func @tensor_map(%planes: memref<1x8x4xi32>) {
  %map = "bit.tensor_map"(%planes) {box = array<i64: 32, 64, 1>} : (memref<1x8x4xi32>) -> !llvm.ptr
  return
}
