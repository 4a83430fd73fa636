// Two layers: ±1 from bytes and back by a threshold, then scaled floats and what lies between as integers.
func.func @network(
    %x: tensor<40x130xi8> {bit.name = "x"},
    %w1: tensor<70x130xi2, #bit.encoding<"ternary">> {bit.name = "w1"},
    %threshold: tensor<70xi32> {bit.name = "threshold"},
    %w2: tensor<9x70xi4, #bit.encoding<"i4">> {bit.name = "w2"},
    %scale: tensor<9xf32> {bit.name = "scale"},
    %residual: tensor<40x9xf32> {bit.name = "residual"})
    -> (tensor<40x9xf32> {bit.name = "y"}, tensor<40x70xi8> {bit.name = "hidden"}) {
  %a = "bit.pack"(%x) : (tensor<40x130xi8>) -> tensor<40x130xi1, #bit.encoding<"bipolar">>
  %h = "bit.matmul"(%a, %w1) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %t = tensor.extract %threshold[%col] : tensor<70xi32>
    %bit = arith.cmpi sge, %acc, %t : i32
    gpu.yield %bit : i1
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>}
    : (tensor<40x130xi1, #bit.encoding<"bipolar">>, tensor<70x130xi2, #bit.encoding<"ternary">>)
    -> tensor<40x70xi1, #bit.encoding<"bipolar">>
  %hidden = "bit.unpack"(%h) : (tensor<40x70xi1, #bit.encoding<"bipolar">>) -> tensor<40x70xi8>
  %y = "bit.matmul"(%h, %w2) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %s = tensor.extract %scale[%col] : tensor<9xf32>
    %r = tensor.extract %residual[%row, %col] : tensor<40x9xf32>
    %f = arith.sitofp %acc : i32 to f32
    %scaled = arith.mulf %f, %s : f32
    %sum = arith.addf %scaled, %r : f32
    %zero = arith.constant 0.0 : f32
    %relu = arith.maximumf %sum, %zero : f32
    gpu.yield %relu : f32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>}
    : (tensor<40x70xi1, #bit.encoding<"bipolar">>, tensor<9x70xi4, #bit.encoding<"i4">>) -> tensor<40x9xf32>
  return %y, %hidden : tensor<40x9xf32>, tensor<40x70xi8>
}
