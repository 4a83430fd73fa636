// RUN: bitmlir-opt %s --bit-verify --split-input-file --verify-diagnostics

// What products of batches and of groups refuse.

!x = tensor<3x8x40xi1, #bit.encoding<"bipolar">>
!other = tensor<4x64x40xi2, #bit.encoding<"u2">>
func.func @sizes_of_batches(%x: !x, %w: !other) {
  // expected-error @below {{'bit.matmul' op lhs and rhs must be batches of equally many matrices, but have 3 and 4}}
  %y = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index, %batch: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !other) -> tensor<3x8x64xi32>
  return
}

// -----

!x = tensor<3x8x40xi1, #bit.encoding<"bipolar">>
!flat = tensor<64x40xi2, #bit.encoding<"u2">>
func.func @one_batch(%x: !x, %w: !flat) {
  // expected-error @below {{where all matrices of lhs meet the same rhs, make one matrix of their rows}}
  %y = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index, %batch: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !flat) -> tensor<3x8x64xi32>
  return
}

// -----

!x = tensor<3x8x40xi1, #bit.encoding<"bipolar">>
!long = tensor<3x64x41xi2, #bit.encoding<"u2">>
func.func @k(%x: !x, %w: !long) {
  // expected-error @below {{lhs and rhs must have the same K (their last size), but have 40 and 41}}
  %y = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index, %batch: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !long) -> tensor<3x8x64xi32>
  return
}

// -----

!x = tensor<3x8x40xi1, #bit.encoding<"bipolar">>
!w = tensor<3x64x40xi2, #bit.encoding<"u2">>
func.func @result(%x: !x, %w: !w) {
  // expected-error @below {{the result must be a 3x8x64 tensor, but is tensor<24x64xi32>}}
  %y = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index, %batch: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> tensor<24x64xi32>
  return
}

// -----

!x = tensor<3x8x40xi1, #bit.encoding<"bipolar">>
!w = tensor<3x64x40xi2, #bit.encoding<"u2">>
func.func @arguments(%x: !x, %w: !w) {
  // expected-error @below {{its region must have the arguments (i32, index, index, index), but has (i32, index, index)}}
  %y = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> tensor<3x8x64xi32>
  return
}

// -----

!m = tensor<8x40xi1, #bit.encoding<"bipolar">>
func.func @a_batch_index_too_many(%x: !m) {
  // expected-error @below {{its region must have the arguments (i32, index, index), but has (i32, index, index, index)}}
  %y = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index, %batch: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!m, !m) -> tensor<8x8xi32>
  return
}

// -----

!x = tensor<3x8x40xi1, #bit.encoding<"bipolar">>
!w = tensor<3x64x40xi2, #bit.encoding<"u2">>
func.func @reads_by_batch(%x: !x, %w: !w, %few: tensor<4xi32>) {
  // expected-error @below {{tensor.extract in its region reads tensor<4xi32> by the batch, of which there are 3}}
  %y = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index, %batch: index):
    %v = tensor.extract %few[%batch] : tensor<4xi32>
    gpu.yield %v : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> tensor<3x8x64xi32>
  return
}

// -----

!x = tensor<3x8x40xi1, #bit.encoding<"bipolar">>
!w = tensor<3x64x40xi2, #bit.encoding<"u2">>
func.func @bitmaps(%x: !x, %w: !w, %tiles: tensor<1x1x1xi1>) {
  // expected-error @below {{lhs_tiles: tile bitmaps cover single matrices, but lhs is a batch of 3}}
  %y = "bit.matmul"(%x, %w, %tiles) ({
  ^bb0(%acc: i32, %row: index, %col: index, %batch: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 1, 0>} : (!x, !w, tensor<1x1x1xi1>) -> tensor<3x8x64xi32>
  return
}

// -----

!huge = tensor<131072x2048x40xi1, #bit.encoding<"bipolar">>
func.func @rows_in_all(%x: !huge) {
  // expected-error @below {{lhs must have at most 134217728 rows in all}}
  %y = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index, %batch: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!huge, !huge) -> tensor<131072x2048x2048xi32>
  return
}

// -----

func.func @packing(%x: tensor<3x4x40xi8>) {
  // expected-error @below {{'bit.pack' op the result must have two or four static sizes of at least 1}}
  %a = "bit.pack"(%x) : (tensor<3x4x40xi8>) -> tensor<3x4x40xi1, #bit.encoding<"u1">>
  return
}

// -----

!m = tensor<100x40xi1, #bit.encoding<"bipolar">>
!flat = tensor<64x40xi2, #bit.encoding<"u2">>
func.func @one_group(%x: !m, %w: !flat, %o: tensor<2xi32>) {
  // expected-error @below {{'bit.grouped_matmul' op rhs must have three sizes (groups, N, K), but is}}
  %y = "bit.grouped_matmul"(%x, %w, %o) ({
  ^bb0(%acc: i32, %row: index, %col: index, %group: index):
    gpu.yield %acc : i32
  }) : (!m, !flat, tensor<2xi32>) -> tensor<100x64xi32>
  return
}

// -----

!m = tensor<100x40xi1, #bit.encoding<"bipolar">>
!w = tensor<3x64x40xi2, #bit.encoding<"u2">>
func.func @offsets(%x: !m, %w: !w, %o: tensor<3xi32>) {
  // expected-error @below {{offsets must be tensor<4xi32>, but is tensor<3xi32>}}
  %y = "bit.grouped_matmul"(%x, %w, %o) ({
  ^bb0(%acc: i32, %row: index, %col: index, %group: index):
    gpu.yield %acc : i32
  }) : (!m, !w, tensor<3xi32>) -> tensor<100x64xi32>
  return
}

// -----

!x = tensor<3x8x40xi1, #bit.encoding<"bipolar">>
!w = tensor<3x64x40xi2, #bit.encoding<"u2">>
func.func @batch_of_rows(%x: !x, %w: !w, %o: tensor<4xi32>) {
  // expected-error @below {{lhs must have two static sizes of at least 1}}
  %y = "bit.grouped_matmul"(%x, %w, %o) ({
  ^bb0(%acc: i32, %row: index, %col: index, %group: index):
    gpu.yield %acc : i32
  }) : (!x, !w, tensor<4xi32>) -> tensor<8x64xi32>
  return
}

// -----

!m = tensor<100x40xi1, #bit.encoding<"bipolar">>
!long = tensor<3x64x41xi2, #bit.encoding<"u2">>
func.func @k_of_groups(%x: !m, %w: !long, %o: tensor<4xi32>) {
  // expected-error @below {{lhs and rhs must have the same K (their last size), but have 40 and 41}}
  %y = "bit.grouped_matmul"(%x, %w, %o) ({
  ^bb0(%acc: i32, %row: index, %col: index, %group: index):
    gpu.yield %acc : i32
  }) : (!m, !long, tensor<4xi32>) -> tensor<100x64xi32>
  return
}

// -----

!m = tensor<100x40xi1, #bit.encoding<"bipolar">>
!w = tensor<3x64x40xi2, #bit.encoding<"u2">>
func.func @result_of_groups(%x: !m, %w: !w, %o: tensor<4xi32>) {
  // expected-error @below {{the result must be a 100x64 tensor, but is tensor<3x64xi32>}}
  %y = "bit.grouped_matmul"(%x, %w, %o) ({
  ^bb0(%acc: i32, %row: index, %col: index, %group: index):
    gpu.yield %acc : i32
  }) : (!m, !w, tensor<4xi32>) -> tensor<3x64xi32>
  return
}

// -----

func.func @planes_of_batches(%x: memref<1x3x8x4xi32>, %w: memref<2x4x64x4xi32>, %out: memref<3x8x64xi32>) {
  // expected-error @below {{'bit.plane_matmul' op lhs and rhs must be batches of equally many matrices, but have 3 and 4}}
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index, %batch: index):
    %v = arith.constant 0 : i32
    gpu.yield %v : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""} : (memref<1x3x8x4xi32>, memref<2x4x64x4xi32>, memref<3x8x64xi32>) -> ()
  return
}

// -----

func.func @planes_of_one_batch(%x: memref<1x3x8x4xi32>, %w: memref<2x64x4xi32>, %out: memref<3x8x64xi32>) {
  // expected-error @below {{rhs must be memref<PxBxRx4xi32> for K = 40, but is memref<2x64x4xi32>}}
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index, %batch: index):
    %v = arith.constant 0 : i32
    gpu.yield %v : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""} : (memref<1x3x8x4xi32>, memref<2x64x4xi32>, memref<3x8x64xi32>) -> ()
  return
}

// -----

func.func @out_of_batches(%x: memref<1x3x8x4xi32>, %w: memref<2x3x64x4xi32>, %out: memref<24x64xi32>) {
  // expected-error @below {{out must have the sizes [3, 8, 64], but is memref<24x64xi32>}}
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index, %batch: index):
    %v = arith.constant 0 : i32
    gpu.yield %v : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""} : (memref<1x3x8x4xi32>, memref<2x3x64x4xi32>, memref<24x64xi32>) -> ()
  return
}

// -----

func.func @bitmaps_of_batches(%x: memref<1x3x8x4xi32>, %w: memref<2x3x64x4xi32>, %tiles: memref<1x1x1xi32>, %out: memref<3x8x64xi32>) {
  // expected-error @below {{tile bitmaps cover single matrices, but lhs and rhs are batches of 3}}
  "bit.plane_matmul"(%x, %w, %tiles, %out) ({
  ^bb0(%row: index, %col: index, %batch: index):
    %v = arith.constant 0 : i32
    gpu.yield %v : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 0>, out_encoding = ""} : (memref<1x3x8x4xi32>, memref<2x3x64x4xi32>, memref<1x1x1xi32>, memref<3x8x64xi32>) -> ()
  return
}
