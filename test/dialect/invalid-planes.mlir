// RUN: bitmlir-opt %s --bit-verify --split-input-file --verify-diagnostics

// What the operations on planes refuse.

// --- bit.plane_matmul ---

// A row of 40 elements takes 4 words.

func.func @operands(%x: memref<1x8x4xi32>, %w: memref<2x64x4xi32>, %out: memref<8x64xi32>, %padded: memref<1x8x8xi32>,
                    %flat: memref<8x4xi32>, %float: memref<1x8x4xf32>, %tensor: tensor<1x8x4xi32>) {
  // expected-error @below {{'bit.plane_matmul' op lhs must be memref<PxRx4xi32> for K = 40, but is memref<1x8x8xi32>}}
  "bit.plane_matmul"(%padded, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %v = arith.constant 0 : i32
    gpu.yield %v : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x8x8xi32>, memref<2x64x4xi32>, memref<8x64xi32>) -> ()
  // expected-error @below {{rhs must be memref<PxRx4xi32> for K = 40, but is memref<8x4xi32>}}
  "bit.plane_matmul"(%x, %flat, %out) ({
  ^bb0(%row: index, %col: index):
    %v = arith.constant 0 : i32
    gpu.yield %v : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x8x4xi32>, memref<8x4xi32>, memref<8x64xi32>) -> ()
  // expected-error @below {{lhs must be memref<PxRx4xi32> for K = 40, but is memref<1x8x4xf32>}}
  "bit.plane_matmul"(%float, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %v = arith.constant 0 : i32
    gpu.yield %v : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x8x4xf32>, memref<2x64x4xi32>, memref<8x64xi32>) -> ()
  // expected-error @below {{lhs must be memref<PxRx4xi32> for K = 40, but is tensor<1x8x4xi32>}}
  "bit.plane_matmul"(%tensor, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %v = arith.constant 0 : i32
    gpu.yield %v : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (tensor<1x8x4xi32>, memref<2x64x4xi32>, memref<8x64xi32>) -> ()
  return
}

// -----

func.func @k(%x: memref<1x8x0xi32>, %out: memref<8x8xi32>) {
  // expected-error @below {{'bit.plane_matmul' op k must be at least 1, but is 0}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %v = arith.constant 0 : i32
    gpu.yield %v : i32
  }) {bitwise = #bit.bitwise<"and">, k = 0 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x8x0xi32>, memref<1x8x0xi32>, memref<8x8xi32>) -> ()
  return
}

// -----

func.func @tiles(%x: memref<1x8x4xi32>, %out: memref<8x8xi32>, %tiles: memref<1x2x1xi32>) {
  // expected-error @below {{'bit.plane_matmul' op lhs_tiles must be memref<1x1x1xi32>, but is memref<1x2x1xi32>}}
  "bit.plane_matmul"(%x, %x, %tiles, %out) ({
  ^bb0(%row: index, %col: index):
    %v = arith.constant 0 : i32
    gpu.yield %v : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x8x4xi32>, memref<1x8x4xi32>, memref<1x2x1xi32>, memref<8x8xi32>) -> ()
  return
}

// -----

// An empty tile adds nothing to an AND, but would add the other side's bits to a XOR.

func.func @tiles_with_xor(%x: memref<1x8x4xi32>, %out: memref<8x8xi32>, %tiles: memref<1x1x1xi32>) {
  // expected-error @below {{'bit.plane_matmul' op tile bitmaps need the bit operation "and", but it is "xor"}}
  "bit.plane_matmul"(%x, %x, %tiles, %out) ({
  ^bb0(%row: index, %col: index):
    %v = arith.constant 0 : i32
    gpu.yield %v : i32
  }) {bitwise = #bit.bitwise<"xor">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x8x4xi32>, memref<1x8x4xi32>, memref<1x1x1xi32>, memref<8x8xi32>) -> ()
  return
}

// -----

func.func @out(%x: memref<1x8x4xi32>, %w: memref<2x64x4xi32>, %out: memref<8x64xi32>, %turned: memref<64x8xi32>,
               %planes: memref<2x8x4xi32>, %sums: memref<8xi32>, %few: memref<7xi32>) {
  // expected-error @below {{'bit.plane_matmul' op out must have the sizes [8, 64], but is memref<64x8xi32>}}
  "bit.plane_matmul"(%x, %w, %turned) ({
  ^bb0(%row: index, %col: index):
    %v = arith.constant 0 : i32
    gpu.yield %v : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x8x4xi32>, memref<2x64x4xi32>, memref<64x8xi32>) -> ()
  // expected-error @below {{out must have the sizes [1, 8, 4], but is memref<2x8x4xi32>}}
  "bit.plane_matmul"(%x, %w, %planes, %sums) ({
  ^bb0(%row: index, %col: index):
    %v = arith.constant 0 : i1
    gpu.yield %v : i1
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 1, 0>,
      out_encoding = "bipolar"}
    : (memref<1x8x4xi32>, memref<2x64x4xi32>, memref<2x8x4xi32>, memref<8xi32>) -> ()
  // expected-error @below {{out_sums and out_encoding belong together: a packed result has both, a plain one neither}}
  "bit.plane_matmul"(%x, %w, %out, %sums) ({
  ^bb0(%row: index, %col: index):
    %v = arith.constant 0 : i32
    gpu.yield %v : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 1, 0>, out_encoding = ""}
    : (memref<1x8x4xi32>, memref<2x64x4xi32>, memref<8x64xi32>, memref<8xi32>) -> ()
  // expected-error @below {{out_sums and out_encoding belong together: a packed result has both, a plain one neither}}
  "bit.plane_matmul"(%x, %w, %planes) ({
  ^bb0(%row: index, %col: index):
    %v = arith.constant 0 : i2
    gpu.yield %v : i2
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>,
      out_encoding = "ternary"}
    : (memref<1x8x4xi32>, memref<2x64x4xi32>, memref<2x8x4xi32>) -> ()
  // expected-error @below {{out_encoding: unknown encoding 'u9'}}
  "bit.plane_matmul"(%x, %w, %planes, %sums) ({
  ^bb0(%row: index, %col: index):
    %v = arith.constant 0 : i2
    gpu.yield %v : i2
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 1, 0>, out_encoding = "u9"}
    : (memref<1x8x4xi32>, memref<2x64x4xi32>, memref<2x8x4xi32>, memref<8xi32>) -> ()
  // expected-error @below {{out_sums must be memref<8xi32>, but is memref<7xi32>}}
  "bit.plane_matmul"(%x, %w, %planes, %few) ({
  ^bb0(%row: index, %col: index):
    %v = arith.constant 0 : i2
    gpu.yield %v : i2
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 1, 0>,
      out_encoding = "ternary"}
    : (memref<1x8x4xi32>, memref<2x64x4xi32>, memref<2x8x4xi32>, memref<7xi32>) -> ()
  return
}

// -----

func.func @body(%x: memref<1x8x4xi32>, %out: memref<8x8xi32>, %table: memref<8xi32>) {
  // expected-error @below {{'bit.plane_matmul' op the body must yield one i32, the element of out, but yields index}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    gpu.yield %row : index
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x8x4xi32>, memref<1x8x4xi32>, memref<8x8xi32>) -> ()
  // expected-error @below {{its region must end in gpu.yield}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    "llvm.return"() : () -> ()
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x8x4xi32>, memref<1x8x4xi32>, memref<8x8xi32>) -> ()
  // expected-error @below {{memref.store cannot stand in its region: only arith.*, }}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %v = arith.constant 0 : i32
    memref.store %v, %table[%row] : memref<8xi32>
    gpu.yield %v : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x8x4xi32>, memref<1x8x4xi32>, memref<8x8xi32>) -> ()
  // expected-error @below {{memref.load in its region may index only by the row, the column or a constant}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %sum = arith.addi %row, %col : index
    %v = memref.load %table[%sum] : memref<8xi32>
    gpu.yield %v : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x8x4xi32>, memref<1x8x4xi32>, memref<8x8xi32>) -> ()
  return
}

// -----

// --- bit.plane_product ---

func.func @planes(%x: memref<1x8x4xi32>, %w: memref<2x64x4xi32>, %out: memref<8x64xi32>) {
  // expected-error @below {{'bit.plane_matmul' op bit.plane_product names planes [[0], [2]] of operands that have 1 and 2}}
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %v = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 2>} : (i32) -> i32
    gpu.yield %v : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x8x4xi32>, memref<2x64x4xi32>, memref<8x64xi32>) -> ()
  // expected-error @below {{bit.plane_product names planes [[0, -1], [0, 0]] of operands that have 1 and 2}}
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %v = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0, -1>, rhs_planes = array<i64: 0, 0>} : (i32) -> i32
    gpu.yield %v : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x8x4xi32>, memref<2x64x4xi32>, memref<8x64xi32>) -> ()
  // expected-error @below {{bit.plane_product needs equally many planes of both sides, at least one, but has [[0, 0], [0]]}}
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %v = "bit.plane_product"(%zero) {lhs_planes = array<i64: 0, 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %v : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x8x4xi32>, memref<2x64x4xi32>, memref<8x64xi32>) -> ()
  // expected-error @below {{bit.plane_product needs equally many planes of both sides, at least one, but has [[], []]}}
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    %v = "bit.plane_product"(%zero) {lhs_planes = array<i64>, rhs_planes = array<i64>} : (i32) -> i32
    gpu.yield %v : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x8x4xi32>, memref<2x64x4xi32>, memref<8x64xi32>) -> ()
  return
}

// -----

func.func @attributes_of_a_product(%acc: i32, %wide: i64) {
  // expected-error @below {{'bit.plane_product' op lhs_planes and rhs_planes must be array<i64: …>, but are 0 : i64 and array<i64: 0>}}
  %a = "bit.plane_product"(%acc) {lhs_planes = 0 : i64, rhs_planes = array<i64: 0>} : (i32) -> i32
  // expected-error @below {{'bit.plane_product' op the accumulator and the result must be i32, but are i64 and i64}}
  %b = "bit.plane_product"(%wide) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i64) -> i64
  return
}

// -----

// --- bit.plane_pack and bit.plane_unpack ---

func.func @plane_pack(%x: memref<4x40xi8>, %floats: memref<4x40xf32>, %planes: memref<3x4x4xi32>, %sums: memref<4xi32>,
                      %few: memref<3xi32>, %scale: memref<4xf32>) {
  // expected-error @below {{'bit.plane_pack' op encoding: unknown encoding 'u9'}}
  "bit.plane_pack"(%x, %planes, %sums) {encoding = #bit.encoding<"u9">, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0>}
    : (memref<4x40xi8>, memref<3x4x4xi32>, memref<4xi32>) -> ()
  // expected-error @below {{'bit.plane_pack' op planes must be memref<2x4x4xi32>, but is memref<3x4x4xi32>}}
  "bit.plane_pack"(%x, %planes, %sums) {encoding = #bit.encoding<"u2">, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0>}
    : (memref<4x40xi8>, memref<3x4x4xi32>, memref<4xi32>) -> ()
  // expected-error @below {{sums must be memref<4xi32>, but is memref<3xi32>}}
  "bit.plane_pack"(%x, %planes, %few) {encoding = #bit.encoding<"u3">, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0>}
    : (memref<4x40xi8>, memref<3x4x4xi32>, memref<3xi32>) -> ()
  // expected-error @below {{the source must be memref<MxKxi8|i16|i32|f16|bf16|f32>, but is memref<4xi32>}}
  "bit.plane_pack"(%sums, %planes, %sums) {encoding = #bit.encoding<"u3">, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0>}
    : (memref<4xi32>, memref<3x4x4xi32>, memref<4xi32>) -> ()
  // expected-error @below {{encoding 'u3@row' needs zeros and out_zeros}}
  "bit.plane_pack"(%x, %planes, %sums) {encoding = #bit.encoding<"u3@row">, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0>}
    : (memref<4x40xi8>, memref<3x4x4xi32>, memref<4xi32>) -> ()
  // expected-error @below {{integers take no scale: only f16, bf16, f32 do}}
  "bit.plane_pack"(%x, %planes, %sums, %scale)
    {encoding = #bit.encoding<"u3">, operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0>}
    : (memref<4x40xi8>, memref<3x4x4xi32>, memref<4xi32>, memref<4xf32>) -> ()
  // expected-error @below {{scale must be memref<4xf32>, but is memref<4xi32>}}
  "bit.plane_pack"(%floats, %planes, %sums, %sums)
    {encoding = #bit.encoding<"u3">, operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0>}
    : (memref<4x40xf32>, memref<3x4x4xi32>, memref<4xi32>, memref<4xi32>) -> ()
  return
}

// -----

func.func @plane_unpack(%planes: memref<3x4x4xi32>, %out: memref<4x40xi8>, %long: memref<4x400xi8>, %zeros: memref<4xi32>) {
  // expected-error @below {{'bit.plane_unpack' op planes must be memref<8x4x4xi32>, but is memref<3x4x4xi32>}}
  "bit.plane_unpack"(%planes, %out) {encoding = #bit.encoding<"i8">} : (memref<3x4x4xi32>, memref<4x40xi8>) -> ()
  // expected-error @below {{planes must be memref<3x4x16xi32>, but is memref<3x4x4xi32>}}
  "bit.plane_unpack"(%planes, %long) {encoding = #bit.encoding<"i3">} : (memref<3x4x4xi32>, memref<4x400xi8>) -> ()
  // expected-error @below {{encoding 'i3' takes no zeros: only u<p>@row does}}
  "bit.plane_unpack"(%planes, %out, %zeros) {encoding = #bit.encoding<"i3">}
    : (memref<3x4x4xi32>, memref<4x40xi8>, memref<4xi32>) -> ()
  return
}

// -----

// --- bit.tensor_map ---

func.func @tensor_map(%planes: memref<1x8x4xi32>, %flat: memref<8xi32>, %batch: memref<1x3x8x4xi32>) {
  // expected-error @below {{'bit.tensor_map' op the source must be a memref of two to four dimensions, but is memref<8xi32>}}
  %a = "bit.tensor_map"(%flat) {box = array<i64: 32, 64, 1>} : (memref<8xi32>) -> !llvm.ptr
  // expected-error @below {{box must be three sizes (words, rows, planes), but is array<i64: 32, 64>}}
  %b = "bit.tensor_map"(%planes) {box = array<i64: 32, 64>} : (memref<1x8x4xi32>) -> !llvm.ptr
  // expected-error @below {{box must be four sizes (words, rows, matrices, planes), but is array<i64: 32, 64, 1>}}
  %c = "bit.tensor_map"(%batch) {box = array<i64: 32, 64, 1>} : (memref<1x3x8x4xi32>) -> !llvm.ptr
  // expected-error @below {{a box must be 32, 64 or 128 bytes wide and have sizes from 1 to 256, but is array<i64: 12, 64, 1> of i32}}
  %d = "bit.tensor_map"(%planes) {box = array<i64: 12, 64, 1>} : (memref<1x8x4xi32>) -> !llvm.ptr
  // expected-error @below {{a box must be 32, 64 or 128 bytes wide and have sizes from 1 to 256, but is array<i64: 32, 257, 1> of i32}}
  %e = "bit.tensor_map"(%planes) {box = array<i64: 32, 257, 1>} : (memref<1x8x4xi32>) -> !llvm.ptr
  return
}

// -----

// --- what IRDL says when the text is parsed ---

func.func @no_encoding(%planes: memref<3x4x4xi32>, %out: memref<4x40xi8>) {
  // expected-error @below {{'bit.plane_unpack' op attribute "encoding" is expected but not provided}}
  "bit.plane_unpack"(%planes, %out) : (memref<3x4x4xi32>, memref<4x40xi8>) -> ()
  return
}

// -----

func.func @other_attribute(%planes: memref<3x4x4xi32>, %out: memref<4x40xi8>) {
  // expected-error @below {{expected base attribute 'bit.encoding' but got 'builtin.string'}}
  "bit.plane_unpack"(%planes, %out) {encoding = "i3"} : (memref<3x4x4xi32>, memref<4x40xi8>) -> ()
  return
}

// -----

func.func @bitwise(%x: memref<1x8x4xi32>, %out: memref<8x8xi32>) {
  // expected-error @below {{expected base attribute 'bit.bitwise' but got 'builtin.string'}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %v = arith.constant 0 : i32
    gpu.yield %v : i32
  }) {bitwise = "and", k = 40 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x8x4xi32>, memref<1x8x4xi32>, memref<8x8xi32>) -> ()
  return
}

// -----

func.func @k(%x: memref<1x8x4xi32>, %out: memref<8x8xi32>) {
  // expected-error @below {{expected base attribute 'builtin.integer' but got 'builtin.float'}}
  "bit.plane_matmul"(%x, %x, %out) ({
  ^bb0(%row: index, %col: index):
    %v = arith.constant 0 : i32
    gpu.yield %v : i32
  }) {bitwise = #bit.bitwise<"and">, k = 40.0 : f32, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x8x4xi32>, memref<1x8x4xi32>, memref<8x8xi32>) -> ()
  return
}

// -----

// --- too many rows ---

func.func @rows(%x: memref<1x9000000000x4xi32>, %w: memref<1x8x4xi32>, %out: memref<9000000000x8xi32>) {
  // expected-error @below {{lhs must have at most 134217728 rows in all, but is memref<1x9000000000x4xi32>}}
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    gpu.yield %zero : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>, out_encoding = ""}
    : (memref<1x9000000000x4xi32>, memref<1x8x4xi32>, memref<9000000000x8xi32>) -> ()
  return
}

// -----

func.func @whole_images(%x: memref<1x70x8xi32>, %w: memref<1x8x72xi32>, %out: memref<72x8xi32>) {
  // expected-error @below {{lhs must have whole images of 36 pixels, but have 70 rows}}
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    gpu.yield %zero : i32
  }) {bitwise = #bit.bitwise<"and">, k = 2304 : i64, out_encoding = "", operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>,
      window = array<i64: 6, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>} : (memref<1x70x8xi32>, memref<1x8x72xi32>, memref<72x8xi32>) -> ()
  return
}

// -----

func.func @patch_bits(%x: memref<1x72x8xi32>, %w: memref<1x8x72xi32>, %out: memref<72x8xi32>) {
  // expected-error @below {{k must be the 2304 bits of a patch of 9 taps, but is 2300}}
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    gpu.yield %zero : i32
  }) {bitwise = #bit.bitwise<"and">, k = 2300 : i64, out_encoding = "", operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>,
      window = array<i64: 6, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>} : (memref<1x72x8xi32>, memref<1x8x72xi32>, memref<72x8xi32>) -> ()
  return
}

// -----

func.func @window_by_xor(%x: memref<1x72x8xi32>, %w: memref<1x8x72xi32>, %out: memref<72x8xi32>) {
  // expected-error @below {{a product with a window has the bit operation "and" and no tile bitmaps}}
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    gpu.yield %zero : i32
  }) {bitwise = #bit.bitwise<"xor">, k = 2304 : i64, out_encoding = "", operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>,
      window = array<i64: 6, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>} : (memref<1x72x8xi32>, memref<1x8x72xi32>, memref<72x8xi32>) -> ()
  return
}

// -----

func.func @class_of_a_column(%x: memref<1x72x8xi32>, %w: memref<1x8x8xi32>, %out: memref<72x8xi32>, %edges: memref<9x8xi32>) {
  // expected-error @below {{bit.window_class must be asked for the row}}
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %class = "bit.window_class"(%col) {window = array<i64: 6, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>} : (index) -> index
    %edge = memref.load %edges[%class, %col] : memref<9x8xi32>
    gpu.yield %edge : i32
  }) {bitwise = #bit.bitwise<"and">, k = 256 : i64, out_encoding = "", operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>}
    : (memref<1x72x8xi32>, memref<1x8x8xi32>, memref<72x8xi32>) -> ()
  return
}

// -----

func.func @classes(%x: memref<1x72x8xi32>, %w: memref<1x8x8xi32>, %out: memref<72x8xi32>, %edges: memref<8x8xi32>) {
  // expected-error @below {{memref.load in its region reads memref<8x8xi32> by a number of which there are 9}}
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %class = "bit.window_class"(%row) {window = array<i64: 6, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>} : (index) -> index
    %edge = memref.load %edges[%class, %col] : memref<8x8xi32>
    gpu.yield %edge : i32
  }) {bitwise = #bit.bitwise<"and">, k = 256 : i64, out_encoding = "", operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>}
    : (memref<1x72x8xi32>, memref<1x8x8xi32>, memref<72x8xi32>) -> ()
  return
}

// -----

func.func @places(%x: memref<1x70x8xi32>, %w: memref<1x8x8xi32>, %out: memref<70x8xi32>, %edges: memref<9x8xi32>) {
  // expected-error @below {{bit.window_class in its region has a window whose places are not those of 70 rows}}
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %class = "bit.window_class"(%row) {window = array<i64: 6, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>} : (index) -> index
    %edge = memref.load %edges[%class, %col] : memref<9x8xi32>
    gpu.yield %edge : i32
  }) {bitwise = #bit.bitwise<"and">, k = 256 : i64, out_encoding = "", operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>}
    : (memref<1x70x8xi32>, memref<1x8x8xi32>, memref<70x8xi32>) -> ()
  return
}

// -----

func.func @wide_window(%x: memref<1x72x8xi32>) {
  // expected-error @below {{TMA reads windows with strides up to 8, but this one has 9 along the rows}}
  %0 = "bit.tensor_map"(%x) {box = array<i64: 8, 64>, window = array<i64: 6, 3, 9, 1, 1, 1, 6, 3, 1, 1, 1, 1>} : (memref<1x72x8xi32>) -> !llvm.ptr
  return
}

// -----

func.func @odd_piece(%x: memref<1x72x8xi32>) {
  // expected-error @below {{box must be (words, places), words one of 4, 8, 16, 32 and places from 1 to 256, but is array<i64: 12, 64>}}
  %0 = "bit.tensor_map"(%x) {box = array<i64: 12, 64>, window = array<i64: 6, 3, 1, 1, 1, 1, 6, 3, 1, 1, 1, 1>} : (memref<1x72x8xi32>) -> !llvm.ptr
  return
}

// -----

func.func @part_of_a_pixel(%x: memref<1x72x2xi32>, %w: memref<1x8x2xi32>, %out: memref<72x8xi32>) {
  // expected-error @below {{lhs must have pixels of whole 128 bits, but is memref<1x72x2xi32>}}
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    gpu.yield %zero : i32
  }) {bitwise = #bit.bitwise<"and">, k = 64 : i64, out_encoding = "", operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>,
      window = array<i64: 6, 1, 1, 0, 0, 1, 6, 1, 1, 0, 0, 1>} : (memref<1x72x2xi32>, memref<1x8x2xi32>, memref<72x8xi32>) -> ()
  return
}

// -----

func.func @odd_rows(%w: memref<1x2x12xi32>, %s: memref<6xi32>, %out: memref<1x4x8xi32>, %sums: memref<8xi32>) {
  // expected-error @below {{the window must see whole pairs of pixels along the columns, but is array<i64: 1, 1, 1, 0, 0, 1, 7, 3, 1, 0, 0, 1>}}
  "bit.plane_pair_filters"(%w, %s, %out, %sums) {offset = 0 : i64, scale = 1 : i64, window = array<i64: 1, 1, 1, 0, 0, 1, 7, 3, 1, 0, 0, 1>}
    : (memref<1x2x12xi32>, memref<6xi32>, memref<1x4x8xi32>, memref<8xi32>) -> ()
  return
}

// -----

func.func @filters_for_one(%w: memref<1x2x12xi32>, %s: memref<6xi32>, %out: memref<1x2x8xi32>, %sums: memref<8xi32>) {
  // expected-error @below {{out must be memref<1x4x8xi32>, but is}}
  "bit.plane_pair_filters"(%w, %s, %out, %sums) {offset = 0 : i64, scale = 1 : i64, window = array<i64: 1, 1, 1, 0, 0, 1, 6, 3, 1, 0, 0, 1>}
    : (memref<1x2x12xi32>, memref<6xi32>, memref<1x2x8xi32>, memref<8xi32>) -> ()
  return
}

// -----

func.func @a_scale_of_a_half(%w: memref<1x2x12xi32>, %s: memref<6xi32>, %out: memref<1x4x8xi32>, %sums: memref<8xi32>) {
  // expected-error @below {{scale and offset must be whole numbers, but are 5.000000e-01 : f32 and 0 : i64}}
  "bit.plane_pair_filters"(%w, %s, %out, %sums) {offset = 0 : i64, scale = 0.5 : f32, window = array<i64: 1, 1, 1, 0, 0, 1, 6, 3, 1, 0, 0, 1>}
    : (memref<1x2x12xi32>, memref<6xi32>, memref<1x4x8xi32>, memref<8xi32>) -> ()
  return
}

// -----

func.func @sums_of_thirds(%x: memref<1x4x4xi32>, %w: memref<1x96x4xi32>, %out: memref<1x4x4xi32>, %sums: memref<8xi32>) {
  // expected-error @below {{out_sums must be memref<4xi32>, but is memref<8xi32>}}
  "bit.plane_matmul"(%x, %w, %out, %sums) ({
  ^bb0(%row: index, %col: index):
    %bit = arith.constant true
    gpu.yield %bit : i1
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, out_encoding = "u1", operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 1, 0>}
    : (memref<1x4x4xi32>, memref<1x96x4xi32>, memref<1x4x4xi32>, memref<8xi32>) -> ()
  return
}

// -----

func.func @past_the_end(%x: memref<1x4x4xi32>, %w: memref<1x8x4xi32>, %a: memref<8xi32>, %out: memref<4x8xi32>) {
  // expected-error @below {{memref.load in its region reads memref<8xi32> by a number of which there are 9}}
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %two = arith.constant 2 : index
    %twice = arith.muli %row, %two : index
    %at = arith.addi %twice, %two : index
    %number = memref.load %a[%at] : memref<8xi32>
    gpu.yield %number : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, out_encoding = "", operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>}
    : (memref<1x4x4xi32>, memref<1x8x4xi32>, memref<4x8xi32>) -> ()
  return
}

// -----

func.func @sums_of_too_few_places(%x: memref<1x4x4xi32>, %w: memref<1x8x4xi32>, %a: memref<4xi32>, %out: memref<4x8xi32>) {
  // expected-error @below {{bit.window_sum in its region has a window whose places are not those of 8 rows}}
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %two = arith.constant 2 : index
    %one = arith.constant 1 : index
    %twice = arith.muli %row, %two : index
    %at = arith.addi %twice, %one : index
    %sum = "bit.window_sum"(%a, %at) {window = array<i64: 2, 1, 1, 0, 0, 1, 2, 1, 1, 0, 0, 1>} : (memref<4xi32>, index) -> i32
    gpu.yield %sum : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, out_encoding = "", operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>}
    : (memref<1x4x4xi32>, memref<1x8x4xi32>, memref<4x8xi32>) -> ()
  return
}

// -----

func.func @halves_with_padding(%x: memref<1x4x4xi32>, %w: memref<1x64x4xi32>, %out: memref<1x4x4xi32>, %sums: memref<8xi32>) {
  // expected-error @below {{out_sums must be memref<4xi32>, but is memref<8xi32>}}
  "bit.plane_matmul"(%x, %w, %out, %sums) ({
  ^bb0(%row: index, %col: index):
    %bit = arith.constant true
    gpu.yield %bit : i1
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, out_encoding = "u1", operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 1, 0>}
    : (memref<1x4x4xi32>, memref<1x64x4xi32>, memref<1x4x4xi32>, memref<8xi32>) -> ()
  return
}

// -----

func.func @a_number(%x: memref<1x4x4xi32>, %w: memref<1x64x4xi32>, %out: memref<i32>, %sums: memref<4xi32>) {
  // expected-error @below {{out must have the sizes [1, 4, 4], but is memref<i32>}}
  "bit.plane_matmul"(%x, %w, %out, %sums) ({
  ^bb0(%row: index, %col: index):
    %bit = arith.constant true
    gpu.yield %bit : i1
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, out_encoding = "u1", operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 1, 0>}
    : (memref<1x4x4xi32>, memref<1x64x4xi32>, memref<i32>, memref<4xi32>) -> ()
  return
}

// -----

func.func @sum_of_the_column(%x: memref<1x4x4xi32>, %w: memref<1x4x4xi32>, %a: memref<4xi32>, %out: memref<4x4xi32>) {
  // expected-error @below {{bit.window_sum must be asked for the row}}
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %sum = "bit.window_sum"(%a, %col) {window = array<i64: 2, 1, 1, 0, 0, 1, 2, 1, 1, 0, 0, 1>} : (memref<4xi32>, index) -> i32
    gpu.yield %sum : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, out_encoding = "", operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>}
    : (memref<1x4x4xi32>, memref<1x4x4xi32>, memref<4x4xi32>) -> ()
  return
}

// -----

func.func @a_layout(%x: memref<1x4x4xi32, strided<[16, 4, 1], offset: 8>>, %w: memref<1x4x4xi32>, %out: memref<4x4xi32>) {
  // expected-error @below {{lhs must be memref<PxRx4xi32> for K = 128, but is memref<1x4x4xi32, strided<[16, 4, 1], offset: 8>>}}
  "bit.plane_matmul"(%x, %w, %out) ({
  ^bb0(%row: index, %col: index):
    %zero = arith.constant 0 : i32
    gpu.yield %zero : i32
  }) {bitwise = #bit.bitwise<"and">, k = 128 : i64, out_encoding = "", operandSegmentSizes = array<i32: 1, 1, 0, 0, 1, 0, 0>}
    : (memref<1x4x4xi32, strided<[16, 4, 1], offset: 8>>, memref<1x4x4xi32>, memref<4x4xi32>) -> ()
  return
}

// -----

func.func @pixels_of_three_words(%x: memref<1x4x3xi32>, %out: memref<1x4x3xi32>, %sums: memref<4xi32>) {
  // expected-error @below {{planes must have pixels of whole 128 bits, or of 64, but are memref<1x4x3xi32>}}
  "bit.plane_pool"(%x, %out, %sums) {encoding = #bit.encoding<"u1">, window = array<i64: 2, 1, 1, 0, 0, 1, 2, 1, 1, 0, 0, 1>}
    : (memref<1x4x3xi32>, memref<1x4x3xi32>, memref<4xi32>) -> ()
  return
}

// -----

func.func @patches_of_two_words(%x: memref<1x4x2xi32>, %out: memref<1x4x2xi32>) {
  // expected-error @below {{planes must have pixels of whole 128 bits, but are memref<1x4x2xi32>}}
  "bit.plane_patches"(%x, %out) {window = array<i64: 2, 1, 1, 0, 0, 1, 2, 1, 1, 0, 0, 1>} : (memref<1x4x2xi32>, memref<1x4x2xi32>) -> ()
  return
}

// -----

func.func @too_many_filters_for_pairs(%w: memref<1x67108865x4xi32>, %s: memref<67108865xi32>, %out: memref<1x134217730x4xi32>, %sums: memref<134217730xi32>) {
  // expected-error @below {{there must be filters, of up to 134217728 taps in all, but are 67108865 of 1}}
  "bit.plane_pair_filters"(%w, %s, %out, %sums) {offset = 0 : i64, scale = 1 : i64, window = array<i64: 1, 1, 1, 0, 0, 1, 6, 1, 1, 0, 0, 1>}
    : (memref<1x67108865x4xi32>, memref<67108865xi32>, memref<1x134217730x4xi32>, memref<134217730xi32>) -> ()
  return
}
