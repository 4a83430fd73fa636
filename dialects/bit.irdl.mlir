module {
  irdl.dialect @bit {
    irdl.attribute @encoding {
      %0 = irdl.base "#builtin.string" 
      irdl.parameters(name: %0)
    }
    irdl.attribute @bitwise {
      %0 = irdl.is "and" 
      %1 = irdl.is "xor" 
      %2 = irdl.any_of(%0, %1) 
      irdl.parameters(name: %2)
    }
    irdl.attribute @order {
      %0 = irdl.is "largest" 
      %1 = irdl.is "smallest" 
      %2 = irdl.any_of(%0, %1) 
      irdl.parameters(name: %2)
    }
    irdl.operation @conv2d {
      %0 = irdl.any
      %1 = irdl.any
      irdl.operands(lhs: %0, rhs: %1)
      %2 = irdl.any
      %3 = irdl.any
      irdl.results(result: %2, kept: optional %3)
      %4 = irdl.any
      %5 = irdl.any
      %6 = irdl.any
      irdl.attributes {"stride" = %4, "padding" = %5, "dilation" = %6}
      %7 = irdl.is i32 
      %8 = irdl.is index 
      %9 = irdl.is index 
      %10 = irdl.is index 
      %11 = irdl.is index 
      %12 = irdl.region(%7, %8, %9, %10, %11) with size 1
      irdl.regions(epilogue: %12)
    }
    irdl.operation @pool {
      %0 = irdl.any
      irdl.operands(source: %0)
      %1 = irdl.any
      irdl.results(result: %1)
      %2 = irdl.any
      %3 = irdl.any
      %4 = irdl.any
      irdl.attributes {"size" = %2, "stride" = %3, "padding" = %4}
    }
    irdl.operation @pack_patches {
      %0 = irdl.any
      irdl.operands(source: %0)
      %1 = irdl.any
      irdl.results(result: %1)
      %2 = irdl.any
      %3 = irdl.any
      %4 = irdl.any
      irdl.attributes {"size" = %2, "stride" = %3, "padding" = %4}
    }
    irdl.operation @reduce_window {
      %0 = irdl.any
      irdl.operands(source: %0)
      %1 = irdl.any
      %2 = irdl.any
      irdl.results(result: %1, kept: optional %2)
      %3 = irdl.is "max" 
      %4 = irdl.is "sum" 
      %5 = irdl.any_of(%3, %4) 
      %6 = irdl.any
      %7 = irdl.any
      %8 = irdl.any
      irdl.attributes {"reduction" = %5, "size" = %6, "stride" = %7, "padding" = %8}
      %9 = irdl.region with size 1
      irdl.regions(epilogue: %9)
    }
    irdl.operation @plane_patches {
      %0 = irdl.any
      %1 = irdl.any
      irdl.operands(planes: %0, out: %1)
      %2 = irdl.any
      irdl.attributes {"window" = %2}
    }
    irdl.operation @plane_spread_filters {
      %0 = irdl.any
      %1 = irdl.any
      %2 = irdl.any
      %3 = irdl.any
      irdl.operands(planes: %0, sums: %1, out: %2, out_sums: %3)
      %4 = irdl.base @bit::@encoding 
      %5 = irdl.base "#builtin.integer" 
      %6 = irdl.base "#builtin.integer" 
      irdl.attributes {"encoding" = %4, "groups" = %5, "channels" = %6}
    }
    irdl.operation @plane_pair_filters {
      %0 = irdl.any
      %1 = irdl.any
      %2 = irdl.any
      %3 = irdl.any
      irdl.operands(planes: %0, sums: %1, out: %2, out_sums: %3)
      %4 = irdl.any
      %5 = irdl.any
      %6 = irdl.any
      irdl.attributes {"scale" = %4, "offset" = %5, "window" = %6}
    }
    irdl.operation @plane_pack_patches {
      %0 = irdl.any
      %1 = irdl.any
      %2 = irdl.any
      irdl.operands(source: %0, planes: %1, sums: %2)
      %3 = irdl.base @bit::@encoding 
      %4 = irdl.any
      irdl.attributes {"encoding" = %3, "window" = %4}
    }
    irdl.operation @plane_patch_sums {
      %0 = irdl.any
      %1 = irdl.any
      irdl.operands(sums: %0, out: %1)
      %2 = irdl.any
      irdl.attributes {"window" = %2}
    }
    irdl.operation @plane_pool {
      %0 = irdl.any
      %1 = irdl.any
      %2 = irdl.any
      irdl.operands(planes: %0, out: %1, out_sums: %2)
      %3 = irdl.base @bit::@encoding 
      %4 = irdl.any
      irdl.attributes {"encoding" = %3, "window" = %4}
    }
    irdl.operation @plane_reduce_window {
      %0 = irdl.any
      %1 = irdl.any
      %2 = irdl.any
      %3 = irdl.any
      irdl.operands(source: %0, out: %1, out_sums: optional %2, kept: optional %3)
      %4 = irdl.base "#builtin.integer" 
      %5 = irdl.is "max" 
      %6 = irdl.is "sum" 
      %7 = irdl.any_of(%5, %6) 
      %8 = irdl.base "#builtin.string" 
      %9 = irdl.any
      irdl.attributes {"channels" = %4, "reduction" = %7, "out_encoding" = %8, "window" = %9}
      %10 = irdl.is index 
      %11 = irdl.is index 
      %12 = irdl.region(%10, %11) with size 1
      irdl.regions(body: %12)
    }
    irdl.operation @window_value {
      %0 = irdl.any
      irdl.results(result: %0)
    }
    irdl.operation @window_class {
      %0 = irdl.any
      irdl.operands(place: %0)
      %1 = irdl.any
      irdl.results(result: %1)
      %2 = irdl.any
      irdl.attributes {"window" = %2}
    }
    irdl.operation @window_sum {
      %0 = irdl.any
      %1 = irdl.any
      irdl.operands(sums: %0, place: %1)
      %2 = irdl.any
      irdl.results(result: %2)
      %3 = irdl.any
      irdl.attributes {"window" = %3}
    }
    irdl.operation @plane_edge_sums {
      %0 = irdl.any
      %1 = irdl.any
      irdl.operands(sums: %0, out: %1)
      %2 = irdl.any
      %3 = irdl.any
      %4 = irdl.any
      irdl.attributes {"scale" = %2, "offset" = %3, "window" = %4}
    }
    irdl.operation @plane_matmul {
      %0 = irdl.any
      %1 = irdl.any
      %2 = irdl.any
      %3 = irdl.any
      %4 = irdl.any
      %5 = irdl.any
      %6 = irdl.any
      irdl.operands(lhs: %0, rhs: %1, lhs_tiles: optional %2, rhs_tiles: optional %3, out: %4, out_sums: optional %5, kept: optional %6)
      %7 = irdl.base "#builtin.integer" 
      %8 = irdl.base @bit::@bitwise 
      %9 = irdl.base "#builtin.string" 
      irdl.attributes {"k" = %7, "bitwise" = %8, "out_encoding" = %9}
      %10 = irdl.region with size 1
      irdl.regions(body: %10)
    }
    irdl.operation @plane_grouped_matmul {
      %0 = irdl.any
      %1 = irdl.any
      %2 = irdl.any
      %3 = irdl.any
      %4 = irdl.any
      irdl.operands(lhs: %0, rhs: %1, offsets: %2, out: %3, out_sums: optional %4)
      %5 = irdl.base "#builtin.integer" 
      %6 = irdl.base @bit::@bitwise 
      %7 = irdl.base "#builtin.string" 
      irdl.attributes {"k" = %5, "bitwise" = %6, "out_encoding" = %7}
      %8 = irdl.is index 
      %9 = irdl.is index 
      %10 = irdl.is index 
      %11 = irdl.region(%8, %9, %10) with size 1
      irdl.regions(body: %11)
    }
    irdl.operation @plane_byte_conv {
      %0 = irdl.any
      %1 = irdl.any
      %2 = irdl.any
      %3 = irdl.any
      %4 = irdl.any
      irdl.operands(source: %0, rhs: %1, out: %2, out_sums: optional %3, kept: optional %4)
      %5 = irdl.base @bit::@encoding 
      %6 = irdl.base "#builtin.string" 
      %7 = irdl.any
      irdl.attributes {"rhs_encoding" = %5, "out_encoding" = %6, "window" = %7}
      %8 = irdl.is index 
      %9 = irdl.is index 
      %10 = irdl.region(%8, %9) with size 1
      irdl.regions(body: %10)
    }
    irdl.operation @plane_search {
      %0 = irdl.any
      %1 = irdl.any
      %2 = irdl.any
      irdl.operands(lhs: %0, rhs: %1, out: %2)
      %3 = irdl.base "#builtin.integer" 
      %4 = irdl.base @bit::@bitwise 
      %5 = irdl.base @bit::@order 
      irdl.attributes {"k" = %3, "bitwise" = %4, "order" = %5}
      %6 = irdl.is index 
      %7 = irdl.is index 
      %8 = irdl.region(%6, %7) with size 1
      irdl.regions(body: %8)
    }
    irdl.operation @plane_ranks {
      %0 = irdl.any
      %1 = irdl.any
      %2 = irdl.any
      irdl.operands(keys: %0, values: %1, columns: %2)
      %3 = irdl.base @bit::@order 
      irdl.attributes {"order" = %3}
    }
    irdl.operation @plane_product {
      %0 = irdl.any
      irdl.operands(acc: %0)
      %1 = irdl.any
      irdl.results(result: %1)
      %2 = irdl.any
      %3 = irdl.any
      irdl.attributes {"lhs_planes" = %2, "rhs_planes" = %3}
    }
    irdl.operation @plane_pack {
      %0 = irdl.any
      %1 = irdl.any
      %2 = irdl.any
      %3 = irdl.any
      %4 = irdl.any
      %5 = irdl.any
      irdl.operands(source: %0, planes: %1, sums: %2, scale: optional %3, zeros: optional %4, out_zeros: optional %5)
      %6 = irdl.base @bit::@encoding 
      irdl.attributes {"encoding" = %6}
    }
    irdl.operation @plane_unpack {
      %0 = irdl.any
      %1 = irdl.any
      %2 = irdl.any
      irdl.operands(planes: %0, out: %1, zeros: optional %2)
      %3 = irdl.base @bit::@encoding 
      irdl.attributes {"encoding" = %3}
    }
    irdl.operation @tensor_map {
      %0 = irdl.any
      irdl.operands(source: %0)
      %1 = irdl.any
      irdl.results(result: %1)
      %2 = irdl.any
      irdl.attributes {"box" = %2}
    }
    irdl.operation @pack {
      %0 = irdl.any
      %1 = irdl.any
      irdl.operands(source: %0, zeros: optional %1)
      %2 = irdl.any
      irdl.results(result: %2)
    }
    irdl.operation @quantise {
      %0 = irdl.any
      %1 = irdl.any
      %2 = irdl.any
      irdl.operands(source: %0, scale: optional %1, zeros: optional %2)
      %3 = irdl.any
      irdl.results(result: %3)
    }
    irdl.operation @unpack {
      %0 = irdl.any
      irdl.operands(source: %0)
      %1 = irdl.any
      irdl.results(result: %1)
    }
    irdl.operation @matmul {
      %0 = irdl.any
      %1 = irdl.any
      %2 = irdl.any
      %3 = irdl.any
      irdl.operands(lhs: %0, rhs: %1, lhs_tiles: optional %2, rhs_tiles: optional %3)
      %4 = irdl.any
      %5 = irdl.any
      irdl.results(result: %4, kept: optional %5)
      %6 = irdl.region with size 1
      irdl.regions(epilogue: %6)
    }
    irdl.operation @grouped_matmul {
      %0 = irdl.any
      %1 = irdl.any
      %2 = irdl.any
      irdl.operands(lhs: %0, rhs: %1, offsets: %2)
      %3 = irdl.any
      irdl.results(result: %3)
      %4 = irdl.is i32 
      %5 = irdl.is index 
      %6 = irdl.is index 
      %7 = irdl.is index 
      %8 = irdl.region(%4, %5, %6, %7) with size 1
      irdl.regions(epilogue: %8)
    }
    irdl.operation @search {
      %0 = irdl.any
      %1 = irdl.any
      irdl.operands(lhs: %0, rhs: %1)
      %2 = irdl.any
      %3 = irdl.any
      irdl.results(values: %2, columns: %3)
      %4 = irdl.base "#builtin.integer" 
      %5 = irdl.base @bit::@order 
      irdl.attributes {"count" = %4, "order" = %5}
      %6 = irdl.is i32 
      %7 = irdl.is index 
      %8 = irdl.is index 
      %9 = irdl.region(%6, %7, %8) with size 1
      irdl.regions(epilogue: %9)
    }
  }
}

