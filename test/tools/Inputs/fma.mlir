func.func @fused(%x: tensor<3x64xi1, #bit.encoding<"u1">>) -> tensor<3x3xf32> {
  %y = "bit.matmul"(%x, %x) ({
  ^bb0(%acc: i32, %row: index, %col: index):
    %f = arith.sitofp %acc : i32 to f32
    %sum = math.fma %f, %f, %f : f32
    gpu.yield %sum : f32
  }) {operandSegmentSizes = array<i32: 1, 1, 0, 0>}
    : (tensor<3x64xi1, #bit.encoding<"u1">>, tensor<3x64xi1, #bit.encoding<"u1">>) -> tensor<3x3xf32>
  return %y : tensor<3x3xf32>
}
