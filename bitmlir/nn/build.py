"""From the steps of a network to one module in the `bit` dialect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mlir import ir
from mlir.dialects import arith, gpu, math

from bitmlir.dialects import bit
from bitmlir.entry_function import Values, module_of
from bitmlir.nn.steps import (
    Affine,
    Codes,
    Epilogue,
    Limits,
    Numbers,
    Plus,
    Pool,
    Product,
    Program,
    Reduce,
    Rounding,
    Start,
    Step,
)

__all__ = ["constants_of", "network_module", "results_of"]

INPUT, OUTPUT = "images", "result"


def results_of(program: Program, every: bool = False) -> dict[str, Codes | Numbers]:
    """The results of a network's function by name: its output, or what `every` step but the first leaves."""
    if not every:
        return {OUTPUT: program.output}
    left = [value for step in program.steps if not isinstance(step, Start) for value in step.results]
    return {f"{OUTPUT}{number}": value for number, value in enumerate(left, start=1)}


def constants_of(program: Program) -> dict[str, Any]:
    """The arguments of the module beside the input, by name: what products multiply with, and what epilogues read."""
    constants: dict[str, Any] = {}
    if program.input.is_normalised:
        channels = _start_of(program).source[-1]  # of images that are flat, all of their numbers
        constants = {"mean": np.resize(program.input.mean, channels), "std": np.resize(program.input.std, channels)}
    for number, step in enumerate(program.steps):
        if isinstance(step, Product):
            constants[f"weights{number}"] = step.weights
        if isinstance(step, (Product, Reduce)):
            constants |= {f"{name}{number}": array for name, array in _arrays(step.epilogue).items()}
    return constants


def _arrays(epilogue: Epilogue) -> dict[str, np.ndarray]:
    """What an epilogue reads beside numbers, by name."""
    arrays: dict[str, np.ndarray | None] = {"shift": epilogue.shift}
    if isinstance(epilogue.coding, Limits):
        arrays |= {"limits": epilogue.coding.limits, "signs": epilogue.coding.signs}
    for place, term in enumerate(epilogue.terms):
        if isinstance(term, Affine):
            arrays |= {f"scale{place}_": term.scale, f"bias{place}_": term.bias}
        elif epilogue.is_real and term.numbers.origin is not None:
            arrays[f"origin{place}_"] = term.numbers.origin.astype(np.int32)
    return {name: array for name, array in arrays.items() if array is not None}


def _start_of(program: Program) -> Start:
    """The first step."""
    start = program.steps[0]
    assert isinstance(start, Start)
    return start


def network_module(program: Program, batch: int, every: bool = False) -> ir.Module:
    """A module of one function `network`: input and constants in, `results_of` the program out.

    Needs a current context with the `bit` dialect loaded.
    """
    start = _start_of(program)
    arguments = {INPUT: _plain([batch, *start.source], "f32" if program.input.is_normalised else "i8")}
    arguments |= {name: _argument_type(value) for name, value in constants_of(program).items()}
    results = results_of(program, every)

    def body(values: Values) -> list[ir.Value]:
        made: dict[Codes | Numbers, ir.Value] = {}
        images = _bytes(values[INPUT], values) if program.input.is_normalised else values[INPUT]
        for number, step in enumerate(program.steps):
            own = {n: values[f"{n}{number}"] for n in _own_names(step)}
            types = [_type(result, batch) for result in step.results]
            emitted = _emit(step, images, made, own, types)
            made |= dict(zip(step.results, emitted, strict=True))
        return [made[result] for result in results.values()]

    return module_of("network", arguments, {name: _type(value, batch) for name, value in results.items()}, body)


def _own_names(step: Step) -> list[str]:
    names = ["weights"] if isinstance(step, Product) else []
    return names + (list(_arrays(step.epilogue)) if isinstance(step, (Product, Reduce)) else [])


def _argument_type(value: Any) -> ir.Type:
    if isinstance(value, np.ndarray):
        return _plain(list(value.shape), {"int32": "i32", "float32": "f32"}[str(value.dtype)])
    return bit.packed_type(list(value.shape), value.encoding)


def _type(value: Codes | Numbers, batch: int) -> ir.Type:
    shape = [batch, *value.shape]
    return bit.packed_type(shape, value.encoding) if isinstance(value, Codes) else _plain(shape, value.element)


def _plain(shape: list[int], element: str) -> ir.Type:
    return ir.RankedTensorType.get(shape, ir.Type.parse(element))


def _bytes(images: ir.Value, constants: Values) -> ir.Value:
    """The pixels of images that are normalised: an operation that sees each number by itself."""
    window = {"size": [1, 1], "stride": [1, 1], "padding": [0, 0, 0, 0]}
    types = [_plain(list(ir.ShapedType(images.type).shape), "i8")]
    op = bit.ReduceWindowOp(source=images, reduction=ir.StringAttr.get("max"), results=types, **window)
    with ir.InsertionPoint(op.epilogue):
        x, *places = op.epilogue.arguments
        x = arith.mulf(x, bit.extract(constants["std"], places[-1]))
        x = arith.addf(x, bit.extract(constants["mean"], places[-1]))
        x = arith.mulf(x, arith.constant(ir.F32Type.get(), 255.0))
        gpu.YieldOp([arith.trunci(ir.IntegerType.get_signless(8), _nearest(x, 0, 255))])
    return op.result


def _nearest(x: ir.Value, least: int, most: int) -> ir.Value:
    """The whole number nearest to x, from the least to the most, in 32 bits; NaN becomes the least."""
    low, high = (arith.constant(ir.F32Type.get(), float(end)) for end in (least, most))
    x = math.roundeven(arith.minnumf(arith.maxnumf(x, low), high))
    x = arith.minnumf(arith.maxnumf(x, low), high)  # as arith.fptosi asks for
    return arith.fptosi(ir.IntegerType.get_signless(32), x)


def _emit(
    step: Step, images: ir.Value, made: Mapping[Codes | Numbers, ir.Value], constants: Values, types: list[ir.Type]
) -> list[ir.Value]:
    """The operation of a step, and what it yields."""
    if isinstance(step, Start):
        if step.size is None:
            return [bit.PackOp(source=images, results=types).result]
        window = {"size": list(step.size), "stride": list(step.stride), "padding": list(step.padding)}
        return [bit.PackPatchesOp(source=images, results=types, **window).result]
    source = made[step.source]
    if isinstance(step, Pool):
        padding = list(step.padding)
        return [bit.PoolOp(source=source, size=list(step.size), stride=list(step.stride), padding=padding).result]
    if isinstance(step, Reduce):
        window = {"size": list(step.size), "stride": list(step.stride), "padding": list(step.padding)}
        reduction = ir.StringAttr.get(step.reduction)
        op = bit.ReduceWindowOp(source=source, reduction=reduction, results=types, **window)
    elif len(step.shape) == 1:
        op = bit.MatmulOp(lhs=source, rhs=constants["weights"], results=types)
    else:
        steps: dict[str, Any] = {name: list(getattr(step, name)) for name in ("stride", "padding", "dilation")}
        steps["groups"] = step.groups if step.groups > 1 else None
        op = bit.Conv2dOp(lhs=source, rhs=constants["weights"], results=types, **steps)
    with ir.InsertionPoint(op.epilogue):
        acc, *places = op.epilogue.arguments
        gpu.YieldOp(_Element(step.epilogue, constants, made, places).of(acc))
    return list(op.operation.results)


class _Element:
    """One element at its places, the last of them its channel."""

    def __init__(
        self,
        epilogue: Epilogue,
        constants: Values,
        made: Mapping[Codes | Numbers, ir.Value],
        places: Sequence[ir.Value],
    ) -> None:
        self.epilogue, self.constants, self.made, self.places = epilogue, constants, made, places

    def of(self, x: ir.Value) -> list[ir.Value]:
        """What becomes of a number: a code, what is stored of it, or both."""
        epilogue, f32 = self.epilogue, ir.F32Type.get()
        if epilogue.shift is not None:
            x = arith.subi(x, self._by_channel("shift"))
        if epilogue.is_real and not isinstance(x.type, ir.FloatType):
            x = arith.sitofp(f32, x)
        for place, term in enumerate(epilogue.terms):
            if isinstance(term, Affine):
                x = arith.mulf(x, self._by_channel(f"scale{place}_"))
                x = arith.addf(x, self._by_channel(f"bias{place}_"))
            else:
                x = self._plus(x, place, term)
        stored: list[ir.Value] = []
        if epilogue.numbers is not None:
            stored, x = _narrowed(x, ir.Type.parse(epilogue.numbers.element))
        if epilogue.coding is None:
            return stored
        code = self._limited(x) if isinstance(epilogue.coding, Limits) else self._rounded(x, epilogue.coding)
        return [code, *stored]

    def _by_channel(self, name: str) -> ir.Value:
        return bit.extract(self.constants[name], self.places[-1])

    def _plus(self, x: ir.Value, place: int, term: Plus) -> ir.Value:
        """x and what lies at the same place."""
        added = bit.extract(self.made[term.numbers], *self.places)
        if not term.numbers.is_real:
            added = added if term.numbers.element == "i32" else arith.extsi(ir.IntegerType.get_signless(32), added)
            if not self.epilogue.is_real:
                return arith.addi(x, added)
            if term.numbers.origin is not None:
                added = arith.addi(added, self._by_channel(f"origin{place}_"))
            return arith.addf(x, arith.sitofp(ir.F32Type.get(), added))
        added = added if term.numbers.element == "f32" else arith.extf(ir.F32Type.get(), added)
        return arith.addf(x, added)

    def _limited(self, x: ir.Value) -> ir.Value:
        """A code by how many limits are reached."""
        coding, codes = self.epilogue.coding, self.epilogue.codes
        assert isinstance(coding, Limits)
        assert codes is not None
        is_real = isinstance(x.type, ir.FloatType)
        if coding.signs is not None:
            x = (arith.mulf if is_real else arith.muli)(x, self._by_channel("signs"))
        index, code = ir.IndexType.get(), ir.IntegerType.get_signless(codes.encoding.bits)

        def reached(number: int) -> ir.Value:
            limit = bit.extract(self.constants["limits"], arith.constant(index, number), self.places[-1])
            if is_real:
                return arith.cmpf(arith.CmpFPredicate.OGE, x, limit)
            return bit.threshold(x, limit)

        if len(coding.limits) == 1:
            return reached(0)
        wide = ir.IntegerType.get_signless(32)
        count = arith.extui(wide, reached(0))
        for number in range(1, len(coding.limits)):
            count = arith.addi(count, arith.extui(wide, reached(number)))
        if coding.lowest:
            count = arith.addi(count, arith.constant(wide, coding.lowest))
        return arith.trunci(code, count)

    def _rounded(self, x: ir.Value, coding: Rounding) -> ir.Value:
        """A code by rounding."""
        codes, f32 = self.epilogue.codes, ir.F32Type.get()
        assert codes is not None
        if coding.scale != 1.0:
            x = arith.divf(x, arith.constant(f32, coding.scale))
        return arith.trunci(ir.IntegerType.get_signless(codes.encoding.bits), _nearest(x, *coding.ends))


def _narrowed(x: ir.Value, element: ir.Type) -> tuple[list[ir.Value], ir.Value]:
    """A number as it is stored, and what of it is left for what is computed next."""
    if x.type == element:
        return [x], x
    if isinstance(element, ir.FloatType):
        narrow = arith.truncf(element, x)
        return [narrow], arith.extf(x.type, narrow)
    return [arith.trunci(element, x)], x
