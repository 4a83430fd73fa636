"""From the steps of a network to one module in the `bit` dialect."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlir import ir
from mlir.dialects import arith

from bitmlir.dialects import bit
from bitmlir.dialects.encoding import Encoding
from bitmlir.entry_function import Values, module_of
from bitmlir.nn.steps import Pool, Product, Start, Step

__all__ = ["constants_of", "network_module"]

INPUT, OUTPUT = "images", "result"
CONSTANTS = ("weights", "limits", "signs", "scale", "bias")


def constants_of(steps: Sequence[Step]) -> dict[str, object]:
    """The arguments of the module beside the input: what each product multiplies with and compares to, by name."""
    constants: dict[str, object] = {}
    for number, step in enumerate(steps):
        if isinstance(step, Product):
            given = {name: getattr(step, name) for name in CONSTANTS}
            constants |= {f"{name}{number}": value for name, value in given.items() if value is not None}
    return constants


def network_module(steps: Sequence[Step], batch: int, every: bool = False) -> ir.Module:
    """A module of one function `network`: input and constants in, the last step's result out, or that of `every`
    step but the first, by number.

    Needs a current context with the `bit` dialect loaded.
    """
    start = steps[0]
    assert isinstance(start, Start)
    arguments: dict[str, ir.Type] = {INPUT: _plain([batch, *start.source], "i8")}
    for number, step in enumerate(steps):
        if isinstance(step, Product):
            channels = step.shape[-1]
            arguments[f"weights{number}"] = bit.packed_type(list(step.weights.shape), step.weights.encoding)
            if step.limits is not None:
                arguments[f"limits{number}"] = _plain(list(step.limits.shape), "i32")
            if step.signs is not None:
                arguments[f"signs{number}"] = _plain([channels], "i32")
            if step.scale is not None:
                arguments |= {f"{name}{number}": _plain([channels], "f32") for name in ("scale", "bias")}
    types = _types(steps, batch)
    wanted = {f"{OUTPUT}{number}": number for number in range(1, len(steps))} if every else {OUTPUT: len(steps) - 1}

    def body(values: Values) -> list[ir.Value]:
        made = [values[INPUT]]
        for number, step in enumerate(steps):
            own = {name: values[f"{name}{number}"] for name in CONSTANTS if f"{name}{number}" in values}
            made.append(_emit(step, made[-1], own, types[number]))
        return [made[number + 1] for number in wanted.values()]

    return module_of("network", arguments, {name: types[number] for name, number in wanted.items()}, body)


def _types(steps: Sequence[Step], batch: int) -> list[ir.Type]:
    """The types of what the steps leave."""
    types: list[ir.Type] = []
    codes: Encoding | None = None
    for step in steps:
        codes = codes if isinstance(step, Pool) else step.codes
        shape = [batch, *step.shape]
        if codes is not None:
            types.append(bit.packed_type(shape, codes))
        else:
            types.append(_plain(shape, "f32" if isinstance(step, Product) and step.scale is not None else "i32"))
    return types


def _plain(shape: list[int], element: str) -> ir.Type:
    return ir.RankedTensorType.get(shape, ir.Type.parse(element))


def _emit(step: Step, value: ir.Value, constants: Values, result: ir.Type) -> ir.Value:
    """The operation of a step on what the one before left."""
    if isinstance(step, Start):
        if step.size is None:
            return bit.PackOp(source=value, results=[result]).result
        window = {"size": list(step.size), "stride": list(step.stride), "padding": list(step.padding)}
        return bit.PackPatchesOp(source=value, results=[result], **window).result
    if isinstance(step, Pool):
        padding = list(step.padding)
        return bit.PoolOp(source=value, size=list(step.size), stride=list(step.stride), padding=padding).result
    weights, epilogue = constants["weights"], _epilogue(step, constants)
    if len(step.shape) == 1:
        return bit.matmul(value, weights, result=result, epilogue=lambda acc, _row, column: epilogue(acc, column))
    return bit.conv2d(
        value,
        weights,
        stride=step.stride,
        padding=step.padding,
        dilation=step.dilation,
        result=result,
        epilogue=lambda acc, *places: epilogue(acc, places[-1]),
    )


def _epilogue(step: Product, constants: Values) -> Callable[[ir.Value, ir.Value], ir.Value]:
    """What becomes of a sum in a channel: a code or a number."""

    def element(acc: ir.Value, channel: ir.Value) -> ir.Value:
        if step.signs is not None:
            acc = arith.muli(acc, bit.extract(constants["signs"], channel))
        if step.codes is None:
            if step.scale is None:
                return acc
            value = arith.sitofp(ir.F32Type.get(), acc)
            value = arith.mulf(value, bit.extract(constants["scale"], channel))
            return arith.addf(value, bit.extract(constants["bias"], channel))
        assert step.limits is not None
        index = ir.IndexType.get()
        reached = [
            bit.threshold(acc, bit.extract(constants["limits"], arith.constant(index, number), channel))
            for number in range(len(step.limits))
        ]
        if len(reached) == 1:
            return reached[0]
        count = arith.extui(acc.type, reached[0])
        for more in reached[1:]:
            count = arith.addi(count, arith.extui(acc.type, more))
        return arith.trunci(ir.IntegerType.get_signless(step.codes.bits), count)

    return element
