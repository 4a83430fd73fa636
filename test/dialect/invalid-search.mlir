// RUN: bitmlir-opt %s --bit-verify --split-input-file --verify-diagnostics

// What a search refuses.

!x = tensor<8x40xi1, #bit.encoding<"bipolar">>
!w = tensor<64x40xi2, #bit.encoding<"u2">>
!short = tensor<3x40xi2, #bit.encoding<"u2">>
!deep = tensor<64x41xi2, #bit.encoding<"u2">>

func.func @search(%x: !x, %w: !w, %short: !short, %deep: !deep, %plain: tensor<64x40xi8>) {
  // expected-error @below {{'bit.search' op count must lie in 1..32 (32 at most, of 64 columns), but is 33}}
  %a:2 = "bit.search"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {count = 33 : i64, order = #bit.order<"largest">} : (!x, !w) -> (tensor<8x33xi32>, tensor<8x33xi32>)
  // expected-error @below {{count must lie in 1..3 (32 at most, of 3 columns), but is 4}}
  %b:2 = "bit.search"(%x, %short) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {count = 4 : i64, order = #bit.order<"largest">} : (!x, !short) -> (tensor<8x4xi32>, tensor<8x4xi32>)
  // expected-error @below {{lhs and rhs must have the same K (their last size), but have 40 and 41}}
  %c:2 = "bit.search"(%x, %deep) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {count = 4 : i64, order = #bit.order<"largest">} : (!x, !deep) -> (tensor<8x4xi32>, tensor<8x4xi32>)
  // expected-error @below {{rhs must be a packed matrix}}
  %d:2 = "bit.search"(%x, %plain) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {count = 4 : i64, order = #bit.order<"largest">} : (!x, tensor<64x40xi8>) -> (tensor<8x4xi32>, tensor<8x4xi32>)
  // expected-error @below {{values must be tensor<8x4xi32>, but is tensor<8x4xi64>}}
  %e:2 = "bit.search"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {count = 4 : i64, order = #bit.order<"largest">} : (!x, !w) -> (tensor<8x4xi64>, tensor<8x4xi32>)
  // expected-error @below {{columns must be tensor<8x4xi32>, but is tensor<8x5xi32>}}
  %f:2 = "bit.search"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {count = 4 : i64, order = #bit.order<"largest">} : (!x, !w) -> (tensor<8x4xi32>, tensor<8x5xi32>)
  // expected-error @below {{the epilogue must yield one i32, the score, but yields f32}}
  %g:2 = "bit.search"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %float = arith.sitofp %acc : i32 to f32
    gpu.yield %float : f32
  }) {count = 4 : i64, order = #bit.order<"largest">} : (!x, !w) -> (tensor<8x4xi32>, tensor<8x4xi32>)
  return
}

// -----

func.func @order(%x: tensor<8x40xi1, #bit.encoding<"bipolar">>) {
  %a:2 = "bit.search"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  // expected-error @below {{'"best"' does not satisfy the constraint}}
  }) {count = 4 : i64, order = #bit.order<"best">}
    : (tensor<8x40xi1, #bit.encoding<"bipolar">>, tensor<8x40xi1, #bit.encoding<"bipolar">>)
    -> (tensor<8x4xi32>, tensor<8x4xi32>)
  return
}

// -----

func.func @planes(%x: memref<1x8x4xi32>, %w: memref<2x64x4xi32>, %keys: memref<8x5xi64>, %many: memref<8x40xi64>,
                  %values: memref<8x5xi32>, %more: memref<8x6xi32>) {
  // expected-error @below {{'bit.plane_search' op out must be memref<8xCxi64>, but is memref<8x5xi32>}}
  "bit.plane_search"(%x, %w, %values) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    gpu.yield %zero : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, order = #bit.order<"largest">}
    : (memref<1x8x4xi32>, memref<2x64x4xi32>, memref<8x5xi32>) -> ()
  // expected-error @below {{count must lie in 1..32 (32 at most, of 64 columns), but is 40}}
  "bit.plane_search"(%x, %w, %many) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    gpu.yield %zero : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, order = #bit.order<"largest">}
    : (memref<1x8x4xi32>, memref<2x64x4xi32>, memref<8x40xi64>) -> ()
  // expected-error @below {{names planes [[0], [2]] of operands that have 1 and 2}}
  "bit.plane_search"(%x, %w, %keys) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %acc = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 2>} : (i32) -> i32
    gpu.yield %acc : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, order = #bit.order<"largest">}
    : (memref<1x8x4xi32>, memref<2x64x4xi32>, memref<8x5xi64>) -> ()
  // expected-error @below {{the body must yield one i32, the score, but yields index}}
  "bit.plane_search"(%x, %w, %keys) ({
  ^bb0(%row: index, %col: index):
    gpu.yield %row : index
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, order = #bit.order<"largest">}
    : (memref<1x8x4xi32>, memref<2x64x4xi32>, memref<8x5xi64>) -> ()
  // expected-error @below {{rhs must be memref<PxRx4xi32> for K = 40, but is memref<8x5xi32>}}
  "bit.plane_search"(%x, %values, %keys) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    gpu.yield %zero : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, order = #bit.order<"largest">}
    : (memref<1x8x4xi32>, memref<8x5xi32>, memref<8x5xi64>) -> ()
  // expected-error @below {{'bit.plane_ranks' op keys must be memref<MxCxi64>, but is memref<8x5xi32>}}
  "bit.plane_ranks"(%values, %values, %values) {order = #bit.order<"largest">}
    : (memref<8x5xi32>, memref<8x5xi32>, memref<8x5xi32>) -> ()
  // expected-error @below {{columns must be memref<8x5xi32>, but is memref<8x6xi32>}}
  "bit.plane_ranks"(%keys, %values, %more) {order = #bit.order<"largest">}
    : (memref<8x5xi64>, memref<8x5xi32>, memref<8x6xi32>) -> ()
  return
}
