"""LLVM IR from the lowest MLIR level of a program."""

from __future__ import annotations

from mlir import ir
from mlir.dialects import llvm

from bitmlir.dialects import bit

__all__ = ["llvm_ir"]


def llvm_ir(text: str) -> str:
    """The LLVM IR of a module in LLVM's dialect; of one with a `gpu.module`, that of its kernels."""
    context = ir.Context()
    with context, ir.Location.unknown():
        bit.load(context)  # the host function may hold bit.tensor_map
        module = ir.Module.parse(text)
        for op in module.body.operations:
            if op.operation.name == "gpu.module":
                kernels = ir.Module.create()
                for function in list(op.operation.regions[0].blocks[0].operations):
                    function.operation.detach_from_parent()
                    kernels.body.append(function)
                return _translated(kernels)
        return _translated(module)


def _translated(module: ir.Module) -> str:
    translate = llvm.translate_module_to_llvmir  # pyright: ignore[reportAttributeAccessIssue]  # not in the stubs
    return translate(module.operation)
