func.func @packs(%x: tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"bipolar">> {
  %used = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"bipolar">>
  %same = "bit.pack"(%x) : (tensor<4x40xi8>) -> tensor<4x40xi1, #bit.encoding<"bipolar">>
  %unused = "bit.unpack"(%same) : (tensor<4x40xi1, #bit.encoding<"bipolar">>) -> tensor<4x40xi8>
  return %used : tensor<4x40xi1, #bit.encoding<"bipolar">>
}
