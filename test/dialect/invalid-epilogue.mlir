// RUN: bitmlir-opt %s --bit-verify --split-input-file --verify-diagnostics

// What `bit.matmul` refuses of its epilogue.

!x = tensor<8x40xi1, #bit.encoding<"bipolar">>
!w = tensor<64x40xi2, #bit.encoding<"u2">>

func.func @yield(%x: !x, %w: !w) {
  // expected-error @below {{'bit.matmul' op the epilogue must yield one i32, the result's element, but yields index}}
  %a = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %row : index
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> tensor<8x64xi32>
  // expected-error @below {{the epilogue must yield one i32, the result's element, but yields i32, i32}}
  %b = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc, %acc : i32, i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> tensor<8x64xi32>
  // expected-error @below {{the epilogue must yield one i32, the result's element, but yields nothing}}
  %c = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> tensor<8x64xi32>
  // expected-error @below {{the epilogue must yield one i2, the result's element, but yields i32}}
  %d = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> tensor<8x64xi2, #bit.encoding<"u2">>
  // expected-error @below {{'bit.matmul' op its region must end in gpu.yield}}
  %e = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    "llvm.return"(%acc) : (i32) -> ()
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> tensor<8x64xi32>
  return
}

// -----

// Only what every target computes alike, one element at a time.

!x = tensor<8x40xi1, #bit.encoding<"bipolar">>

func.func @foreign_operations(%x: !x, %buffer: memref<8xi32>, %whole: tensor<8x8xi32>) {
  // expected-error @below {{'bit.matmul' op memref.load cannot stand in its region: only arith.*, }}
  %a = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %v = memref.load %buffer[%row] : memref<8xi32>
    gpu.yield %v : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !x) -> tensor<8x8xi32>
  // expected-error @below {{math.exp cannot stand in its region}}
  %b = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %f = arith.sitofp %acc : i32 to f32
    %e = math.exp %f : f32
    gpu.yield %e : f32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !x) -> tensor<8x8xf32>
  // expected-error @below {{scf.if cannot stand in its region}}
  %c = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %yes = arith.constant true
    scf.if %yes {
    }
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !x) -> tensor<8x8xi32>
  // expected-error @below {{bit.pack cannot stand in its region}}
  %d = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %p = "bit.pack"(%whole) : (tensor<8x8xi32>) -> tensor<8x8xi1, #bit.encoding<"u1">>
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !x) -> tensor<8x8xi32>
  // expected-error @below {{bit.plane_product cannot stand in its region}}
  %e = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %v = "bit.plane_product"(%acc) {lhs_planes = array<i64: 0>, rhs_planes = array<i64: 0>} : (i32) -> i32
    gpu.yield %v : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !x) -> tensor<8x8xi32>
  // expected-error @below {{arith.mulsi_extended in its region must have one result}}
  %f = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %low, %high = arith.mulsi_extended %acc, %acc : i32
    gpu.yield %high : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !x) -> tensor<8x8xi32>
  return
}

// -----

// An epilogue is arithmetic on elements: no operation in it may take or make whole tensors.

!x = tensor<8x40xi1, #bit.encoding<"bipolar">>

func.func @whole_tensors(%x: !x, %t: tensor<8xi32>) {
  // expected-error @below {{'bit.matmul' op arith.addi in its region must work on single elements, but takes or makes a tensor<8xi32>}}
  %a = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %twice = arith.addi %t, %t : tensor<8xi32>
    %v = tensor.extract %twice[%col] : tensor<8xi32>
    gpu.yield %v : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !x) -> tensor<8x8xi32>
  // expected-error @below {{arith.constant in its region must work on single elements, but takes or makes a tensor<8xi32>}}
  %b = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %ones = arith.constant dense<1> : tensor<8xi32>
    %v = tensor.extract %ones[%col] : tensor<8xi32>
    gpu.yield %v : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !x) -> tensor<8x8xi32>
  return
}

// -----

!x = tensor<8x40xi1, #bit.encoding<"bipolar">>
!w = tensor<64x40xi1, #bit.encoding<"bipolar">>

func.func @indices(%x: !x, %w: !w, %table: tensor<64xi32>) {
  // expected-error @below {{'bit.matmul' op tensor.extract in its region may index only by the row, the column or a constant}}
  %a = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %sum = arith.addi %row, %col : index
    %v = tensor.extract %table[%sum] : tensor<64xi32>
    gpu.yield %v : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> tensor<8x64xi32>
  // expected-error @below {{tensor.extract in its region may index only by the row, the column or a constant}}
  %b = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %at = arith.index_cast %acc : i32 to index
    %v = tensor.extract %table[%at] : tensor<64xi32>
    gpu.yield %v : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> tensor<8x64xi32>
  return
}

// -----

// No element outside an array may be read: 8 rows and 64 columns must lie inside it.

!x = tensor<8x40xi1, #bit.encoding<"bipolar">>
!w = tensor<64x40xi1, #bit.encoding<"bipolar">>

func.func @bounds(%x: !x, %w: !w, %rows: tensor<8xi32>, %whole: tensor<8x64xi32>, %any: tensor<?xi32>) {
  // expected-error @below {{'bit.matmul' op tensor.extract in its region reads tensor<8xi32> by the column, of which there are 64}}
  %a = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %v = tensor.extract %rows[%col] : tensor<8xi32>
    gpu.yield %v : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> tensor<8x64xi32>
  // expected-error @below {{tensor.extract in its region reads tensor<8x64xi32> by the column, of which there are 64}}
  %b = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %v = tensor.extract %whole[%col, %row] : tensor<8x64xi32>
    gpu.yield %v : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> tensor<8x64xi32>
  // expected-error @below {{tensor.extract in its region reads tensor<8xi32> at 8}}
  %c = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %at = arith.constant 8 : index
    %v = tensor.extract %rows[%at] : tensor<8xi32>
    gpu.yield %v : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> tensor<8x64xi32>
  // expected-error @below {{tensor.extract in its region reads tensor<8xi32> at -1}}
  %d = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %at = arith.constant -1 : index
    %v = tensor.extract %rows[%at] : tensor<8xi32>
    gpu.yield %v : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> tensor<8x64xi32>
  // expected-error @below {{tensor.extract in its region reads tensor<?xi32> by the row, of which there are 8}}
  %e = "bit.matmul"(%x, %w) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %v = tensor.extract %any[%row] : tensor<?xi32>
    gpu.yield %v : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !w) -> tensor<8x64xi32>
  return
}

// -----

// --- what IRDL and MLIR say when the text is parsed ---

func.func @no_region(%x: tensor<4x40xi8>) {
  // expected-error @below {{'bit.matmul' op unexpected number of regions: expected 1 but got 0}}
  %a = "bit.matmul"(%x, %x) {operandSegmentSizes = array<i32: 1, 1, 0, 0>}
    : (tensor<4x40xi8>, tensor<4x40xi8>) -> tensor<4x4xi32>
  return
}

// -----

!bits = tensor<4x40xi1, #bit.encoding<"u1">>
func.func @arguments(%x: !bits) {
  // expected-error @below {{'bit.matmul' op its region must have the arguments (i32, index, index), but has (i32)}}
  %a = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!bits, !bits) -> tensor<4x4xi32>
  return
}

// -----

!bits = tensor<4x40xi1, #bit.encoding<"u1">>
func.func @type_of_an_argument(%x: !bits) {
  // expected-error @below {{its region must have the arguments (i32, index, index), but has (i64, index, index)}}
  %a = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i64, %row: index, %col: index):
    gpu.yield %acc : i64
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!bits, !bits) -> tensor<4x4xi64>
  return
}

// -----

func.func @blocks(%x: tensor<4x40xi8>) {
  // expected-error @below {{expected region 0 to have 1 block(s) but got 2}}
  %a = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    cf.br ^bb1
  ^bb1:
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (tensor<4x40xi8>, tensor<4x40xi8>) -> tensor<4x4xi32>
  return
}

// -----

func.func @no_terminator(%x: tensor<4x40xi8>) {
  %a = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    // expected-error @below {{block with no terminator}}
    %twice = arith.addi %acc, %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (tensor<4x40xi8>, tensor<4x40xi8>) -> tensor<4x4xi32>
  return
}

// -----

// Integers are made only of floats that they can hold.

!x = tensor<8x40xi1, #bit.encoding<"bipolar">>

func.func @float_to_integer(%x: !x, %limit: tensor<8xf32>) {
  // expected-error @below {{arith.fptosi in its region must take what arith.maxnumf and arith.minnumf have just clamped to constants in -2147483648..2147483647}}
  %a = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %f = arith.sitofp %acc : i32 to f32
    %v = arith.fptosi %f : f32 to i32
    gpu.yield %v : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !x) -> tensor<8x8xi32>
  // expected-error @below {{arith.fptoui in its region must take what arith.maxnumf and arith.minnumf have just clamped to constants in 0..15}}
  %b = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %f = arith.sitofp %acc : i32 to f32
    %low = arith.constant -1.0 : f32
    %high = arith.constant 15.0 : f32
    %l = arith.maxnumf %f, %low : f32
    %h = arith.minnumf %l, %high : f32
    %v = arith.fptoui %h : f32 to i4
    gpu.yield %v : i4
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !x) -> tensor<8x8xi4, #bit.encoding<"u4">>
  // expected-error @below {{arith.fptosi in its region must take what arith.maxnumf}}
  %c = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %f = arith.sitofp %acc : i32 to f32
    %high = arith.constant 100.0 : f32
    %low = tensor.extract %limit[%row] : tensor<8xf32>
    %l = arith.maxnumf %f, %low : f32
    %h = arith.minnumf %l, %high : f32
    %v = arith.fptosi %h : f32 to i8
    gpu.yield %v : i8
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !x) -> tensor<8x8xi8>
  // expected-error @below {{arith.fptosi in its region must take what arith.maxnumf}}
  %d = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %f = arith.sitofp %acc : i32 to f32
    %high = arith.constant 100.0 : f32
    %h = arith.minnumf %f, %high : f32
    %twice = arith.minnumf %h, %high : f32
    %v = arith.fptosi %twice : f32 to i8
    gpu.yield %v : i8
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !x) -> tensor<8x8xi8>
  // expected-error @below {{constants in -128..127}}
  %e = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %low = arith.constant -129.0 : f32
    %high = arith.constant 100.0 : f32
    %h = arith.minnumf %low, %high : f32
    %v = arith.fptosi %h : f32 to i8
    gpu.yield %v : i8
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !x) -> tensor<8x8xi8>
  // In either order, on either side.
  %fine = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %f = arith.sitofp %acc : i32 to f32
    %low = arith.constant -128.0 : f32
    %high = arith.constant 127.0 : f32
    %h = arith.minimumf %high, %f : f32
    %l = arith.maxnumf %h, %low : f32
    %v = arith.fptosi %l : f32 to i8
    gpu.yield %v : i8
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !x) -> tensor<8x8xi8>
  return
}
