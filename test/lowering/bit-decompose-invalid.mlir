// RUN: bitmlir-opt %s --bit-decompose=target=sm_75 --split-input-file --verify-diagnostics

// What a function must be so that a host can call it, and what one operation on tensors cannot become.

!x = tensor<8x40xi1, #bit.encoding<"u1">>

// expected-error @below {{a function must return results of operations, but this one returns an argument}}
func.func @returns_an_argument(%x: !x) -> !x {
  return %x : !x
}

// -----

// expected-error @below {{a function on packed tensors must return its results, but this one returns none}}
func.func @returns_nothing(%x: tensor<8x40xi1, #bit.encoding<"u1">>) {
  return
}

// -----

!x = tensor<8x40xi1, #bit.encoding<"u1">>

// expected-error @below {{a function must return each value once, but this one returns one twice}}
func.func @returns_one_twice(%x: !x) -> (tensor<8x40xi8>, tensor<8x40xi8>) {
  %y = "bit.unpack"(%x) : (!x) -> tensor<8x40xi8>
  return %y, %y : tensor<8x40xi8>, tensor<8x40xi8>
}

// -----

!x = tensor<8x40xi1, #bit.encoding<"u1">>

// expected-error @below {{'argument1' must be a tensor of static shape, but is i32}}
func.func @scalar(%x: !x, %n: i32) -> tensor<8x40xi8> {
  %y = "bit.unpack"(%x) : (!x) -> tensor<8x40xi8>
  return %y : tensor<8x40xi8>
}

// -----

!x = tensor<8x40xi1, #bit.encoding<"u1">>

// expected-error @below {{'limit' must be a tensor of static shape, but is tensor<?xi32>}}
func.func @dynamic(%x: !x, %limit: tensor<?xi32> {bit.name = "limit"}) -> tensor<8x40xi8> {
  %y = "bit.unpack"(%x) : (!x) -> tensor<8x40xi8>
  return %y : tensor<8x40xi8>
}

// -----

// A name is what the host calls an argument: two values of one name would share their buffers.

!x = tensor<8x40xi1, #bit.encoding<"u1">>

// expected-error @below {{arguments and results must have different names, but 'x' is there twice}}
func.func @name_given_twice(%x: !x {bit.name = "x"}, %y: !x {bit.name = "x"}) -> tensor<8x8xi32> {
  %z = "bit.matmul"(%x, %y) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !x) -> tensor<8x8xi32>
  return %z : tensor<8x8xi32>
}

// -----

!x = tensor<8x40xi1, #bit.encoding<"u1">>

// expected-error @below {{arguments and results must have different names, but 'result0' is there twice}}
func.func @name_of_a_result(%x: !x, %other: tensor<8x8xi32> {bit.name = "result0"}) -> tensor<8x8xi32> {
  %z = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %v = tensor.extract %other[%row, %col] : tensor<8x8xi32>
    gpu.yield %v : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !x) -> tensor<8x8xi32>
  return %z : tensor<8x8xi32>
}

// -----

!x = tensor<8x40xi1, #bit.encoding<"u1">>

// expected-error @below {{bit.name must be a string, but is 3 : i64}}
func.func @name_that_is_no_string(%x: !x {bit.name = 3}) -> tensor<8x40xi8> {
  %y = "bit.unpack"(%x) : (!x) -> tensor<8x40xi8>
  return %y : tensor<8x40xi8>
}

// -----

!x = tensor<8x40xi1, #bit.encoding<"u1">>

// expected-error @below {{a function on packed tensors must have one block, but this one has several}}
func.func @blocks(%x: !x) -> tensor<8x40xi8> {
  %y = "bit.unpack"(%x) : (!x) -> tensor<8x40xi8>
  cf.br ^bb1(%y : tensor<8x40xi8>)
^bb1(%z: tensor<8x40xi8>):
  return %z : tensor<8x40xi8>
}

// -----

// A declaration has nothing to decompose; what calls it has.

!x = tensor<8x40xi1, #bit.encoding<"u1">>

func.func private @declared(!x) -> !x

func.func @calls(%x: !x) -> tensor<8x40xi8> {
  // expected-error @below {{'func.call' cannot be decomposed: beside bit.* only arith.constant and func.return can stand here}}
  %p = func.call @declared(%x) : (!x) -> !x
  %y = "bit.unpack"(%p) : (!x) -> tensor<8x40xi8>
  return %y : tensor<8x40xi8>
}

// -----

!x = tensor<8x40xi1, #bit.encoding<"u1">>

func.func @branch(%x: !x) -> tensor<8x40xi8> {
  %yes = arith.constant true
  // expected-error @below {{'scf.if' cannot be decomposed}}
  %y = scf.if %yes -> tensor<8x40xi8> {
    %a = "bit.unpack"(%x) : (!x) -> tensor<8x40xi8>
    scf.yield %a : tensor<8x40xi8>
  } else {
    %b = "bit.unpack"(%x) : (!x) -> tensor<8x40xi8>
    scf.yield %b : tensor<8x40xi8>
  }
  return %y : tensor<8x40xi8>
}

// -----

!x = tensor<8x40xi1, #bit.encoding<"u1">>

func.func @constant_tensor(%x: !x) -> tensor<8x40xi8> {
  // expected-error @below {{'arith.constant' cannot be decomposed}}
  %c = arith.constant dense<1> : tensor<8xi32>
  %y = "bit.unpack"(%x) : (!x) -> tensor<8x40xi8>
  return %y : tensor<8x40xi8>
}

// -----

!x = tensor<8x40xi1, #bit.encoding<"u1">>
!u8 = tensor<8x8xi8, #bit.encoding<"u8">>

func.func @packed_read(%x: !x, %codes: !u8) -> tensor<8x8xi8> {
  %y = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    // expected-error @below {{an epilogue can read only plain tensors, but this is a packed matrix}}
    %v = tensor.extract %codes[%row, %col] : !u8
    gpu.yield %v : i8
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!x, !x) -> tensor<8x8xi8>
  return %y : tensor<8x8xi8>
}

// -----

// Turing has only XOR, which makes twice the product: one bit of int32 is lost.

!long = tensor<8x40000xi8, #bit.encoding<"u8@128">>

func.func @range(%x: !long) -> tensor<8x8xi32> {
  // expected-error @below {{K = 40000 with 'u8@128' times 'u8@128' can leave int32 on sm_75, which has only XOR and needs one bit more: split the product along K into parts of at most}}
  %y = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!long, !long) -> tensor<8x8xi32>
  return %y : tensor<8x8xi32>
}

// -----

!longest = tensor<8x16512xi8, #bit.encoding<"u8">>
!longer = tensor<8x16513xi8, #bit.encoding<"u8">>

func.func @limit(%x: !longest, %y: !longer) -> (tensor<8x8xi32>, tensor<8x8xi32>) {
  %a = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!longest, !longest) -> tensor<8x8xi32>
  // expected-error @below {{split the product along K into parts of at most 16512}}
  %b = "bit.matmul"(%y, %y) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    gpu.yield %acc : i32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (!longer, !longer) -> tensor<8x8xi32>
  return %a, %b : tensor<8x8xi32>, tensor<8x8xi32>
}
