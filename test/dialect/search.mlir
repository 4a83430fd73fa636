// RUN: bitmlir-opt %s --bit-verify | bitmlir-opt --bit-verify | FileCheck %s

// A search prints, parses and verifies at both levels.

!x = tensor<8x40xi1, #bit.encoding<"bipolar">>
!w = tensor<64x40xi2, #bit.encoding<"u2">>

// CHECK-LABEL: func.func @search
//       CHECK:   %{{.*}}:2 = "bit.search"(%{{.*}}, %{{.*}}) ({
//  CHECK-NEXT:   ^bb0(%{{.*}}: i32, %{{.*}}: index, %{{.*}}: index):
//       CHECK:   }) {count = 5 : i64, order = #bit.order<"smallest">}
//  CHECK-SAME:     -> (tensor<8x5xi32>, tensor<8x5xi32>)
func.func @search(%x: !x, %w: !w, %weights: tensor<64xi32>) -> (tensor<8x5xi32>, tensor<8x5xi32>) {
  %v, %c = "bit.search"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %weight = tensor.extract %weights[%col] : tensor<64xi32>
    %score = arith.addi %acc, %weight : i32
    gpu.yield %score : i32
  }) {count = 5 : i64, order = #bit.order<"smallest">} : (!x, !w) -> (tensor<8x5xi32>, tensor<8x5xi32>)
  return %v, %c : tensor<8x5xi32>, tensor<8x5xi32>
}

// CHECK-LABEL: func.func @plane_search
//       CHECK:   "bit.plane_search"(%{{.*}}, %{{.*}}, %{{.*}}) ({
//       CHECK:   }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, order = #bit.order<"largest">}
//       CHECK:   "bit.plane_ranks"(%{{.*}}, %{{.*}}, %{{.*}}) {order = #bit.order<"largest">}
func.func @plane_search(%x: memref<1x8x4xi32>, %w: memref<2x64x4xi32>, %keys: memref<8x5xi64>,
                        %values: memref<8x5xi32>, %columns: memref<8x5xi32>) {
  "bit.plane_search"(%x, %w, %keys) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 1>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, order = #bit.order<"largest">}
    : (memref<1x8x4xi32>, memref<2x64x4xi32>, memref<8x5xi64>) -> ()
  "bit.plane_ranks"(%keys, %values, %columns) {order = #bit.order<"largest">}
    : (memref<8x5xi64>, memref<8x5xi32>, memref<8x5xi32>) -> ()
  return
}
