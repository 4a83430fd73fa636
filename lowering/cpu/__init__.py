"""Kernels for CPUs, in the scf, vector, arith, math and memref dialects."""
