"""Running compiled bundles: needs numpy, and cuda-python for the GPU, but neither `mlir` nor `bitmlir.lowering`."""
