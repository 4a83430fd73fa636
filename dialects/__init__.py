"""What the IR can say: encodings, and the `bit` dialect over IRDL.

`bitmlir.dialects.encoding` and `bitmlir.dialects.errors` are plain Python: they import neither `mlir` nor anything
above them, so the runtime can use them on a machine without a compiler.
"""
