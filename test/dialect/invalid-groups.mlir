// RUN: bitmlir-opt %s --bit-verify --split-input-file --verify-diagnostics

// What convolutions in groups refuse, and the operation that makes their filters filters of all channels.

func.func @a_number(%x: tensor<2x5x6x80xi1, #bit.encoding<"bipolar">>, %w: tensor<8x3x3x40xi1, #bit.encoding<"bipolar">>) {
  // expected-error @below {{'bit.conv2d' op groups must be a number of type i64, from 1 on, but is "two"}}
  %y = "bit.conv2d"(%x, %w) ({
  ^bb0(%acc: i32, %image: index, %row: index, %col: index, %channel: index):
    gpu.yield %acc : i32
  }) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = "two"}
    : (tensor<2x5x6x80xi1, #bit.encoding<"bipolar">>, tensor<8x3x3x40xi1, #bit.encoding<"bipolar">>) -> tensor<2x5x6x8xi32>
  return
}

// -----

func.func @of_that_type(%x: tensor<2x5x6x80xi1, #bit.encoding<"bipolar">>, %w: tensor<8x3x3x40xi1, #bit.encoding<"bipolar">>) {
  // expected-error @below {{groups must be a number of type i64, from 1 on, but is 2 : i32}}
  %y = "bit.conv2d"(%x, %w) ({
  ^bb0(%acc: i32, %image: index, %row: index, %col: index, %channel: index):
    gpu.yield %acc : i32
  }) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 2 : i32}
    : (tensor<2x5x6x80xi1, #bit.encoding<"bipolar">>, tensor<8x3x3x40xi1, #bit.encoding<"bipolar">>) -> tensor<2x5x6x8xi32>
  return
}

// -----

func.func @at_least_one(%x: tensor<2x5x6x80xi1, #bit.encoding<"bipolar">>, %w: tensor<8x3x3x40xi1, #bit.encoding<"bipolar">>) {
  // expected-error @below {{groups must be a number of type i64, from 1 on, but is 0 : i64}}
  %y = "bit.conv2d"(%x, %w) ({
  ^bb0(%acc: i32, %image: index, %row: index, %col: index, %channel: index):
    gpu.yield %acc : i32
  }) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 0 : i64}
    : (tensor<2x5x6x80xi1, #bit.encoding<"bipolar">>, tensor<8x3x3x40xi1, #bit.encoding<"bipolar">>) -> tensor<2x5x6x8xi32>
  return
}

// -----

func.func @no_multiple(%x: tensor<2x5x6x80xi1, #bit.encoding<"bipolar">>, %w: tensor<8x3x3x40xi1, #bit.encoding<"bipolar">>) {
  // expected-error @below {{channels and filters must be multiples of the 3 groups, but are 80 and 8}}
  %y = "bit.conv2d"(%x, %w) ({
  ^bb0(%acc: i32, %image: index, %row: index, %col: index, %channel: index):
    gpu.yield %acc : i32
  }) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 3 : i64}
    : (tensor<2x5x6x80xi1, #bit.encoding<"bipolar">>, tensor<8x3x3x40xi1, #bit.encoding<"bipolar">>) -> tensor<2x5x6x8xi32>
  return
}

// -----

func.func @filters_that_are_no_multiple(%x: tensor<2x5x6x80xi1, #bit.encoding<"bipolar">>, %w: tensor<8x3x3x5xi1, #bit.encoding<"bipolar">>) {
  // expected-error @below {{channels and filters must be multiples of the 16 groups, but are 80 and 8}}
  %y = "bit.conv2d"(%x, %w) ({
  ^bb0(%acc: i32, %image: index, %row: index, %col: index, %channel: index):
    gpu.yield %acc : i32
  }) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 16 : i64}
    : (tensor<2x5x6x80xi1, #bit.encoding<"bipolar">>, tensor<8x3x3x5xi1, #bit.encoding<"bipolar">>) -> tensor<2x5x6x8xi32>
  return
}

// -----

func.func @channels_of_all(%x: tensor<2x5x6x80xi1, #bit.encoding<"bipolar">>, %w: tensor<8x3x3x80xi1, #bit.encoding<"bipolar">>) {
  // expected-error @below {{rhs must have the 40 channels (its last size) of one of 2 groups, but has 80}}
  %y = "bit.conv2d"(%x, %w) ({
  ^bb0(%acc: i32, %image: index, %row: index, %col: index, %channel: index):
    gpu.yield %acc : i32
  }) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 2 : i64}
    : (tensor<2x5x6x80xi1, #bit.encoding<"bipolar">>, tensor<8x3x3x80xi1, #bit.encoding<"bipolar">>) -> tensor<2x5x6x8xi32>
  return
}

// -----

func.func @channels_of_one_group(%x: tensor<2x5x6x80xi1, #bit.encoding<"bipolar">>, %w: tensor<8x3x3x40xi1, #bit.encoding<"bipolar">>) {
  // expected-error @below {{lhs and rhs must have the same channels (their last size), but have 80 and 40}}
  %y = "bit.conv2d"(%x, %w) ({
  ^bb0(%acc: i32, %image: index, %row: index, %col: index, %channel: index):
    gpu.yield %acc : i32
  }) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 1 : i64}
    : (tensor<2x5x6x80xi1, #bit.encoding<"bipolar">>, tensor<8x3x3x40xi1, #bit.encoding<"bipolar">>) -> tensor<2x5x6x8xi32>
  return
}

// -----

func.func @nine_bits(%x: tensor<2x5x6x80xi1, #bit.encoding<"bipolar">>, %w: tensor<8x3x3x40xi8, #bit.encoding<"bipolar8">>) {
  // expected-error @below {{filters in groups count as 0 for other channels: 'bipolar8' would take nine bits with a 0, use fewer bits}}
  %y = "bit.conv2d"(%x, %w) ({
  ^bb0(%acc: i32, %image: index, %row: index, %col: index, %channel: index):
    gpu.yield %acc : i32
  }) {stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>, groups = 2 : i64}
    : (tensor<2x5x6x80xi1, #bit.encoding<"bipolar">>, tensor<8x3x3x40xi8, #bit.encoding<"bipolar8">>) -> tensor<2x5x6x8xi32>
  return
}

// -----

func.func @planes(%w: memref<2x8x36xi32>, %sums: memref<72xi32>, %out: memref<2x8x36xi32>, %out_sums: memref<72xi32>) {
  // expected-error @below {{'bit.plane_spread_filters' op planes must be memref<1xOxKxi32>, but is memref<2x8x36xi32>}}
  "bit.plane_spread_filters"(%w, %sums, %out, %out_sums) {encoding = #bit.encoding<"bipolar">, groups = 2 : i64, channels = 80 : i64}
    : (memref<2x8x36xi32>, memref<72xi32>, memref<2x8x36xi32>, memref<72xi32>) -> ()
  return
}

// -----

func.func @row_zeros(%w: memref<1x8x36xi32>, %sums: memref<72xi32>, %out: memref<2x8x36xi32>, %out_sums: memref<72xi32>) {
  // expected-error @below {{encoding 'u1@row' has a zero point for each tap: use one for all, u<p>@z}}
  "bit.plane_spread_filters"(%w, %sums, %out, %out_sums) {encoding = #bit.encoding<"u1@row">, groups = 2 : i64, channels = 80 : i64}
    : (memref<1x8x36xi32>, memref<72xi32>, memref<2x8x36xi32>, memref<72xi32>) -> ()
  return
}

// -----

func.func @without_zero(%w: memref<1x8x36xi32>, %sums: memref<72xi32>, %out: memref<2x8x36xi32>, %out_sums: memref<72xi32>) {
  // expected-error @below {{encoding: 'bipolar8' would take nine bits with a 0, use fewer bits}}
  "bit.plane_spread_filters"(%w, %sums, %out, %out_sums) {encoding = #bit.encoding<"bipolar8">, groups = 2 : i64, channels = 80 : i64}
    : (memref<1x8x36xi32>, memref<72xi32>, memref<2x8x36xi32>, memref<72xi32>) -> ()
  return
}

// -----

func.func @unknown(%w: memref<1x8x36xi32>, %sums: memref<72xi32>, %out: memref<2x8x36xi32>, %out_sums: memref<72xi32>) {
  // expected-error @below {{encoding: unknown encoding 'u9'}}
  "bit.plane_spread_filters"(%w, %sums, %out, %out_sums) {encoding = #bit.encoding<"u9">, groups = 2 : i64, channels = 80 : i64}
    : (memref<1x8x36xi32>, memref<72xi32>, memref<2x8x36xi32>, memref<72xi32>) -> ()
  return
}

// -----

func.func @more_groups_than_channels(%w: memref<1x8x36xi32>, %sums: memref<72xi32>, %out: memref<2x8x36xi32>, %out_sums: memref<72xi32>) {
  // expected-error @below {{there must be 1 to 134217728 channels, and no more groups, but are 80 and 81}}
  "bit.plane_spread_filters"(%w, %sums, %out, %out_sums) {encoding = #bit.encoding<"bipolar">, groups = 81 : i64, channels = 80 : i64}
    : (memref<1x8x36xi32>, memref<72xi32>, memref<2x8x36xi32>, memref<72xi32>) -> ()
  return
}

// -----

func.func @no_groups(%w: memref<1x8x36xi32>, %sums: memref<72xi32>, %out: memref<2x8x36xi32>, %out_sums: memref<72xi32>) {
  // expected-error @below {{there must be 1 to 134217728 channels, and no more groups, but are 80 and 0}}
  "bit.plane_spread_filters"(%w, %sums, %out, %out_sums) {encoding = #bit.encoding<"bipolar">, groups = 0 : i64, channels = 80 : i64}
    : (memref<1x8x36xi32>, memref<72xi32>, memref<2x8x36xi32>, memref<72xi32>) -> ()
  return
}

// -----

func.func @parts(%w: memref<1x8x36xi32>, %sums: memref<72xi32>, %out: memref<2x8x36xi32>, %out_sums: memref<72xi32>) {
  // expected-error @below {{channels and filters must be multiples of the 5 groups, but are 80 and 8}}
  "bit.plane_spread_filters"(%w, %sums, %out, %out_sums) {encoding = #bit.encoding<"bipolar">, groups = 5 : i64, channels = 80 : i64}
    : (memref<1x8x36xi32>, memref<72xi32>, memref<2x8x36xi32>, memref<72xi32>) -> ()
  return
}

// -----

func.func @taps(%w: memref<1x8x38xi32>, %sums: memref<72xi32>, %out: memref<2x8x36xi32>, %out_sums: memref<72xi32>) {
  // expected-error @below {{planes must have filters of taps of 4 words, 1 to 134217728 taps in all, but are memref<1x8x38xi32>}}
  "bit.plane_spread_filters"(%w, %sums, %out, %out_sums) {encoding = #bit.encoding<"bipolar">, groups = 2 : i64, channels = 80 : i64}
    : (memref<1x8x38xi32>, memref<72xi32>, memref<2x8x36xi32>, memref<72xi32>) -> ()
  return
}

// -----

func.func @no_filters(%w: memref<1x0x36xi32>, %sums: memref<72xi32>, %out: memref<2x8x36xi32>, %out_sums: memref<72xi32>) {
  // expected-error @below {{planes must have filters of taps of 4 words, 1 to 134217728 taps in all, but are memref<1x0x36xi32>}}
  "bit.plane_spread_filters"(%w, %sums, %out, %out_sums) {encoding = #bit.encoding<"bipolar">, groups = 2 : i64, channels = 80 : i64}
    : (memref<1x0x36xi32>, memref<72xi32>, memref<2x8x36xi32>, memref<72xi32>) -> ()
  return
}

// -----

func.func @sums(%w: memref<1x8x36xi32>, %sums: memref<8xi32>, %out: memref<2x8x36xi32>, %out_sums: memref<72xi32>) {
  // expected-error @below {{sums must be memref<72xi32>, but is memref<8xi32>}}
  "bit.plane_spread_filters"(%w, %sums, %out, %out_sums) {encoding = #bit.encoding<"bipolar">, groups = 2 : i64, channels = 80 : i64}
    : (memref<1x8x36xi32>, memref<8xi32>, memref<2x8x36xi32>, memref<72xi32>) -> ()
  return
}

// -----

func.func @out(%w: memref<1x8x36xi32>, %sums: memref<72xi32>, %out: memref<1x8x36xi32>, %out_sums: memref<72xi32>) {
  // expected-error @below {{out must be memref<2x8x36xi32>, but is memref<1x8x36xi32>}}
  "bit.plane_spread_filters"(%w, %sums, %out, %out_sums) {encoding = #bit.encoding<"bipolar">, groups = 2 : i64, channels = 80 : i64}
    : (memref<1x8x36xi32>, memref<72xi32>, memref<1x8x36xi32>, memref<72xi32>) -> ()
  return
}

// -----

func.func @out_sums(%w: memref<1x8x36xi32>, %sums: memref<72xi32>, %out: memref<2x8x36xi32>, %out_sums: memref<8xi32>) {
  // expected-error @below {{out_sums must be memref<72xi32>, but is memref<8xi32>}}
  "bit.plane_spread_filters"(%w, %sums, %out, %out_sums) {encoding = #bit.encoding<"bipolar">, groups = 2 : i64, channels = 80 : i64}
    : (memref<1x8x36xi32>, memref<72xi32>, memref<2x8x36xi32>, memref<8xi32>) -> ()
  return
}
