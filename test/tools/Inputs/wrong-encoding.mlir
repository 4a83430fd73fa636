func.func @f(%x: tensor<4x40xi8>) {
  %p = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"u9">>
  return
}
