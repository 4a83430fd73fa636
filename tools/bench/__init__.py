"""`bitmlir-bench`: measures products and packing beside the limits of the machine and beside other libraries."""
