"""Pointers, kernel functions and shared memory: what the llvm dialect asks for, said once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from mlir import ir
from mlir.dialects import gpu, llvm, nvvm, vector

from bitmlir.lowering.emit import Scalar, const, i32, i64

__all__ = [
    "GLOBAL",
    "SHARED",
    "SHARED_ALIGNMENT",
    "SHARED_CLUSTER",
    "WIDEST_STORE",
    "Box",
    "Kernel",
    "barrier",
    "block_count",
    "block_index",
    "container",
    "element_bytes",
    "kernel_function",
    "load",
    "offset",
    "overlap_launches",
    "pointer",
    "shared_memory",
    "shuffle_xor",
    "store",
    "store_async",
    "store_past_l1",
    "struct_elements",
    "thread_index",
]

GLOBAL, SHARED, SHARED_CLUSTER = 1, 3, 7  # NVPTX address spaces; the last is that of a whole cluster
_SHARED_SYMBOL = "shared_memory"
SHARED_ALIGNMENT = 1024  # what the 128-byte swizzle of TMA and wgmma repeats over (PTX ISA, swizzling modes)
_DYNAMIC = -(2**31)  # llvm.getelementptr's mark for "this index is an operand"
_MOST_STATIC = 1 << 28  # what its other indices end below: they have 29 bits


@dataclass(frozen=True)
class Box:
    """How a tensor map reads or writes an array, in another shape if one is given: see `bit.tensor_map`."""

    sizes: tuple[int, ...]
    window: ir.Attribute | None = None
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Kernel:
    """A kernel in the module and how the host launches it.

    `arguments` are the host's memrefs in the order of the kernel's parameters; those at positions in `boxes` are passed
    as tensor maps with that box (see `bit.tensor_map`). `zeroed` are those that must be zero before each launch. A
    kernel that `overlaps` may start before the launch ahead of it has ended: it waits by itself. One that is
    `persistent` works through its tiles with however many blocks there are, of which a multiprocessor has room for so
    many; `grid` is then the most that have work. `cluster` blocks run together.
    """

    name: str
    grid: tuple[int, int, int]
    threads: int
    shared_bytes: int
    arguments: tuple[ir.Value, ...]
    boxes: dict[int, Box] = field(default_factory=dict)
    zeroed: tuple[ir.Value, ...] = ()
    overlaps: bool = False
    persistent: int | None = None
    cluster: int = 1


def pointer(space: int = 0) -> ir.Type:
    """A pointer type."""
    return llvm.PointerType.get(address_space=space)  # pyright: ignore[reportAttributeAccessIssue]  # not in the stubs


def offset(base: ir.Value, distance: Scalar | int, space: int) -> ir.Value:
    """base plus a distance in bytes."""
    byte = ir.TypeAttr.get(ir.IntegerType.get_signless(8))
    if isinstance(distance, int) and abs(distance) >= _MOST_STATIC:
        distance = const(distance, i64())
    if isinstance(distance, int):
        if distance == 0:
            return base
        indices, dynamic = ir.DenseI32ArrayAttr.get([distance]), []
    else:
        indices, dynamic = ir.DenseI32ArrayAttr.get([_DYNAMIC]), [distance.value]
    return llvm.GEPOp(pointer(space), base, dynamic, indices, byte, None).result


def load(type_: ir.Type, address: ir.Value, alignment: int | None = None) -> ir.Value:
    """Read a value."""
    return llvm.LoadOp(type_, address, alignment=alignment).result


def store(value: ir.Value, address: ir.Value, alignment: int | None = None) -> None:
    """Write a value."""
    llvm.StoreOp(value, address, alignment=alignment)


WIDEST_STORE = 16
"""The most bytes that a lane stores at once."""


def store_past_l1(value: ir.Value, address: ir.Value) -> None:
    """Write a vector of `WIDEST_STORE` bytes to global memory, and keep it out of the L1 cache.

    As PTX: LLVM has no cache operators for stores. On an H200 results of mma.sync take 2 to 3 % less time so.
    Source: PTX ISA, st, level::eviction_priority.
    """
    words = vector.bitcast(ir.VectorType.get([WIDEST_STORE // 4], i32()), value)
    parts = [vector.extract(words, [], [i]) for i in range(WIDEST_STORE // 4)]
    text = "st.global.L1::no_allocate.v4.b32 [$0], {$1, $2, $3, $4};"
    llvm.inline_asm(None, [address, *parts], text, "l,r,r,r,r,~{memory}", has_side_effects=True)


def store_async(words: list[ir.Value], address: ir.Value, barrier: ir.Value) -> None:
    """Write four i32 to shared memory of a block of the cluster; the barrier there counts their bytes as they arrive.

    As PTX: neither LLVM nor NVVM has it. Source: PTX ISA, st.async.
    """
    text = "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [$0], {$1, $2, $3, $4}, [$5];"
    llvm.inline_asm(None, [address, *words, barrier], text, "l,r,r,r,r,l,~{memory}", has_side_effects=True)


def struct_elements(struct: ir.Value, count: int) -> list[ir.Value]:
    """The first so many i32 of a struct, as matrix instructions return their registers."""
    return [llvm.extractvalue(i32(), struct, ir.DenseI64ArrayAttr.get([i])) for i in range(count)]


def element_bytes(type_: ir.Type) -> int:
    """Bytes that an element takes in memory."""
    width = ir.IntegerType(type_).width if isinstance(type_, ir.IntegerType) else ir.FloatType(type_).width
    return max(width // 8, 1)


def shared_memory(module_body: ir.Block) -> ir.Value:
    """The start of dynamic shared memory; declares it in the module at its first use."""
    if not any("sym_name" in op.attributes and _symbol(op) == _SHARED_SYMBOL for op in module_body.operations):
        with ir.InsertionPoint.at_block_begin(module_body):
            bytes_ = ir.TypeAttr.get(ir.Type.parse("!llvm.array<0 x i8>"))
            external = ir.Attribute.parse("#llvm.linkage<external>")
            name = ir.StringAttr.get(_SHARED_SYMBOL)
            llvm.GlobalOp(bytes_, name, external, addr_space=SHARED, alignment=SHARED_ALIGNMENT)
    return llvm.mlir_addressof(pointer(SHARED), ir.FlatSymbolRefAttr.get(_SHARED_SYMBOL))


def _symbol(op: ir.OpView) -> str:
    return ir.StringAttr(op.attributes["sym_name"]).value


def kernel_function(
    name: str,
    threads: int,
    arguments: Sequence[ir.Value],
    boxes: dict[int, Box],
    body: Callable[..., None],
    cluster: int = 1,
) -> None:
    """A kernel as `llvm.func`: upstream refuses `nvvm.grid_constant`, which tensor maps need, on `gpu.func`.

    body receives the kernel's parameters: global pointers, or generic ones to tensor maps.
    """
    tensor_map = ir.Attribute.parse("{llvm.byval = !llvm.array<16 x i64>, nvvm.grid_constant, llvm.align = 64 : i64}")
    plain = ir.Attribute.parse("{llvm.noalias}")
    types = [pointer() if i in boxes else pointer(GLOBAL) for i in range(len(arguments))]
    signature = ir.TypeAttr.get(ir.Type.parse(f"!llvm.func<void ({', '.join(map(str, types))})>"))
    attributes = ir.ArrayAttr.get([tensor_map if i in boxes else plain for i in range(len(arguments))])
    function = llvm.LLVMFuncOp(name, signature, arg_attrs=attributes)
    function.operation.attributes["nvvm.kernel"] = ir.UnitAttr.get()
    function.operation.attributes["gpu.kernel"] = ir.UnitAttr.get()
    function.operation.attributes["nvvm.reqntid"] = ir.DenseI32ArrayAttr.get([threads, 1, 1])
    function.operation.attributes["nvvm.minctasm"] = ir.IntegerAttr.get(i32(), 1)
    if cluster > 1:
        function.operation.attributes["nvvm.cluster_dim"] = ir.DenseI32ArrayAttr.get([cluster, 1, 1])
    block = function.operation.regions[0].blocks.append(*types)
    with ir.InsertionPoint(block):
        body(*block.arguments)
        llvm.return_()


def thread_index() -> Scalar:
    """The thread's number in its block."""
    return Scalar(nvvm.read_ptx_sreg_tid_x(i32()))


def block_count() -> Scalar:
    """Blocks of the launch."""
    return Scalar(nvvm.read_ptx_sreg_nctaid_x(i32()))


def block_index() -> Scalar:
    """The block's number. Grids have one dimension, whose limit is 2^31 − 1: that of the others is 65535."""
    return Scalar(nvvm.read_ptx_sreg_ctaid_x(i32()))


def shuffle_xor(value: Scalar, mask: int) -> Scalar:
    """The value of the lane whose number differs by mask."""
    everyone, clamp = const(-1), const(31)
    kind = nvvm.ShflKind.bfly
    return Scalar(nvvm.shfl_sync(i32(), everyone.value, value.value, const(mask).value, clamp.value, kind))


def barrier() -> None:
    """Wait for all threads of the block."""
    nvvm.barrier0()


def overlap_launches(pointers: Iterable[ir.Value]) -> None:
    """What a kernel that overlaps its neighbours does before it touches memory: let the next launch prepare itself, and
    wait until what was queued before has ended (PTX ISA, griddepcontrol). pointers: the kernel's parameters.

    As PTX: the wait is told that memory changes behind these pointers. From an operation that is not, LLVM concludes
    that what is only read is constant while the kernel runs and makes `ld.global.nc` of it, which ptxas moves up, to
    before the wait.
    """
    nvvm.griddepcontrol(nvvm.GridDepActionKind.launch_dependents)
    arrays = [value for value in pointers if value.type == pointer(GLOBAL)]
    constraints = ",".join([*["l"] * len(arrays), "~{memory}"])
    llvm.inline_asm(None, arrays, "griddepcontrol.wait;", constraints, has_side_effects=True)


def container(module: ir.Operation, name: str, chip: str, features: str) -> ir.Block:
    """A new `gpu.module` for that chip at the module's beginning; returns its block."""
    module.attributes["gpu.container_module"] = ir.UnitAttr.get()
    target = ir.Attribute.parse(f'#nvvm.target<O = 1, chip = "{chip}", features = "{features}">')
    with ir.InsertionPoint.at_block_begin(module.regions[0].blocks[0]):
        kernels = gpu.GPUModuleOp(name, targets=ir.ArrayAttr.get([target]))
        return kernels.bodyRegion.blocks.append()
