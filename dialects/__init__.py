"""What the IR can say: encodings, and the `bit` dialect over IRDL.

`encoding`, `layout`, `errors` and `files` are plain Python: they import neither `mlir` nor anything above them, so the
runtime can use them on a machine without a compiler.
"""
