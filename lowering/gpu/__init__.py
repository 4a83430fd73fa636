"""Kernels for NVIDIA GPUs, in the gpu, nvvm, llvm, scf and arith dialects."""
