"""From groups of layers to steps: weights packed, thresholds folded, numbers in the narrowest type that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import InputError, ShapeError
from bitmlir.dialects.window import Window
from bitmlir.formats.packed import pack, unpack
from bitmlir.nn.fold import Thresholds, fold, fold_real
from bitmlir.nn.graph import Group, groups_of, rounds, users_of
from bitmlir.nn.layers import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Flatten,
    Input,
    Layer,
    Linear,
    MaxPool2d,
    PadChannels,
    Quantise,
)
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

__all__ = ["program_of"]

_FEW_CHANNELS = 64  # of images, of which words of bits would be mostly empty
_Bounds = tuple[np.ndarray, np.ndarray]


def program_of(output: Layer) -> Program:
    """The program that computes a layer.

    Raises:
        InputError: a layer cannot stand where it does.
    """
    groups = groups_of(output)
    maker = _Maker(output, groups)
    steps: list[Step] = []
    for group in groups:
        steps.append(maker.step(group, steps))
    result = next(value for step in steps for value in step.results if value.layer is output)
    return Program(tuple(steps), result, maker.input)


class _Maker:
    """Makes steps of groups, in order, and knows what the ones before have left."""

    def __init__(self, output: Layer, groups: Sequence[Group]) -> None:
        self.output = output
        layers = [layer for group in groups for layer in group.layers]
        self.input = next(layer for layer in layers if isinstance(layer, Input))
        self.users = users_of(_with_flattens(layers))
        read = [layer for group in groups for layer in group.reads if layer.codes is None]
        self.stored = {*read, output}
        # What is averaged over places outside images must be stored as it is.
        means = [g.root for g in groups if g.is_own and isinstance(g.root, AvgPool2d)]
        self.whole = {mean.source for mean in means if _has_edges(mean.window)}
        # What is reduced has places, and so do floats that become pixels: vectors have one.
        reduces_vectors = any(len(group.root.shape) == 1 for group in groups if _is_reduction(group))
        self.has_places = reduces_vectors or self.input.is_normalised
        self.left: dict[Layer, Codes | Numbers] = {}

    def step(self, group: Group, before: list[Step]) -> Step:
        """The step of a group. A first convolution may change the step before it."""
        root = group.root
        if isinstance(root, Input):
            step: Step = self._start(root)
        elif group.is_own and isinstance(root, (Linear, Conv2d)):
            step = self._product(group, root, before)
        elif group.is_own and isinstance(root, MaxPool2d) and root.codes is not None:
            source = self._codes(root.source)
            codes = Codes(root.shape, root.codes, root)
            step = Pool(source, codes, group.layers, root.size, root.stride, root.padding)  # pyright: ignore[reportArgumentType]  # spread
        else:
            step = self._reduce(group)
        self.left |= {value.layer: value for value in step.results}
        return step

    def _codes(self, layer: Layer) -> Codes:
        while isinstance(layer, Flatten):
            layer = layer.source
        codes = self.left[layer]
        assert isinstance(codes, Codes)
        return codes

    def _numbers(self, layer: Layer) -> Numbers:
        numbers = self.left[layer]
        assert isinstance(numbers, Numbers)
        return numbers

    def _start(self, layer: Input) -> Start:
        users = self.users[layer]
        # In memory images are flat already.
        shape = users[0].shape if users and all(isinstance(user, Flatten) for user in users) else layer.shape
        if self.has_places and len(shape) == 1:
            shape = (1, 1, *shape)
        return Start(Codes(shape, layer.codes, layer), shape, (layer,))

    # --- products ---

    def _product(self, group: Group, layer: Linear | Conv2d, before: list[Step]) -> Product:
        source, weights, encoding = self._codes(layer.source), layer.weights, Encoding.parse(layer.encoding)
        if isinstance(layer, Linear) and len(source.shape) == 3:  # a filter as large as images, or as a pixel
            weights = weights.reshape(-1, *source.shape)
        has_places = isinstance(layer, Conv2d) or len(source.shape) == 3
        shape = layer.shape if isinstance(layer, Conv2d) else (1, 1, *layer.shape) if has_places else layer.shape
        steps: dict[str, Any] = {}
        if isinstance(layer, Conv2d):
            steps = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
            steps["groups"] = layer.groups
        bounds = _sum_bounds(weights, source.encoding, isinstance(layer, Conv2d) and _has_edges(layer.window))
        epilogue, falls = self._epilogue(group, shape, bounds, None)
        if (
            falls is not None
            and encoding.minimum == -encoding.maximum
            and epilogue.numbers is None
            and not epilogue.terms
        ):
            weights = weights * np.where(falls, -1, 1).astype(weights.dtype).reshape(-1, *[1] * (weights.ndim - 1))
            epilogue = replace(epilogue, coding=_unsigned(epilogue.coding))
        product = Product(source, shape, pack(weights, encoding), epilogue, group.layers, **steps)
        if self._sees_patches(layer) and isinstance(start := before[-1], Start) and start.codes is source:
            before[-1], product = _through_window(start, layer, product)  # pyright: ignore[reportArgumentType]  # a Conv2d
            self.left[self.input] = before[-1].results[0]
        return product

    def _sees_patches(self, layer: Linear | Conv2d) -> bool:
        """Whether patches of a first convolution's images should be packed instead of pixels."""
        if not isinstance(layer, Conv2d) or layer.source is not self.input or len(self.users[self.input]) > 1:
            return False
        return layer.source.shape[2] < _FEW_CHANNELS and layer.dilation == (1, 1) and layer.groups == 1

    # --- reductions ---

    def _reduce(self, group: Group) -> Reduce:
        root, places = group.root, {}
        pools = group.is_own and isinstance(root, (MaxPool2d, AvgPool2d))
        source = self._numbers(root.source if group.is_own else root)  # pyright: ignore[reportAttributeAccessIssue]
        if pools:
            places = {"size": root.size, "stride": root.stride, "padding": root.padding}  # pyright: ignore[reportAttributeAccessIssue]
        shape = group.end.shape if len(source.shape) == len(group.end.shape) else (1, 1, *group.end.shape)
        if group.coders and not group.chain and not pools:
            shape = source.shape
        mean = root if isinstance(root, AvgPool2d) and pools else None
        epilogue, _ = self._epilogue(group, shape, source.bounds, source, mean)
        return Reduce(source, shape, "sum" if mean else "max", epilogue, group.layers, **places)

    # --- epilogues ---

    def _epilogue(
        self,
        group: Group,
        shape: tuple[int, ...],
        bounds: _Bounds,
        source: Numbers | None,
        mean: AvgPool2d | None = None,
    ) -> tuple[Epilogue, np.ndarray | None]:
        """What becomes of a product's sums, or of reduced numbers; and the channels in which codes fall with sums."""
        channels = shape[-1]
        low, high = (np.pad(end, (0, channels - len(end))) for end in bounds)
        origin = _origin(source, channels)
        addends = [self._numbers(layer) for layer in group.addends]
        coder = group.coders[-1] if group.coders else None
        is_real = (
            any(isinstance(layer, BatchNorm) for layer in group.chain)
            or mean is not None
            or any(numbers.is_real for numbers in ([] if source is None else [source]) + addends)
            or (coder is not None and rounds(coder))
        )
        if is_real:
            return self._real_epilogue(group, shape, (low, high), origin, addends, mean)
        return self._whole_epilogue(group, shape, (low, high), origin, addends)

    def _require_finite(self, group: Group, terms: Sequence[Affine | Plus]) -> None:
        """Refuse what float32 does not hold."""
        for term in terms:
            if isinstance(term, Affine) and not (np.isfinite(term.scale) & np.isfinite(term.bias)).all():
                channel = int(np.flatnonzero(~(np.isfinite(term.scale) & np.isfinite(term.bias)))[0])
                norm = next(layer for layer in group.chain if isinstance(layer, BatchNorm))
                raise InputError(
                    f"{norm.name} of {norm.shape[-1]} channels multiplies and adds numbers that float32 must hold, but "
                    f"not those of channel {channel}: take a smaller gamma, or a larger variance"
                )

    def _real_epilogue(
        self,
        group: Group,
        shape: tuple[int, ...],
        bounds: _Bounds,
        origin: np.ndarray,
        addends: list[Numbers],
        mean: AvgPool2d | None,
    ) -> tuple[Epilogue, np.ndarray | None]:
        """Of numbers that become floats."""
        channels = shape[-1]
        taps = 1
        if mean is not None:
            taps, bounds = mean.window.taps, _window_sums(bounds, mean.window)
        terms: list[Affine | Plus] = []
        remaining = iter(addends)
        scale, bias = np.full(channels, 1 / taps), np.zeros(channels)
        pending = taps > 1

        def affine() -> list[Affine | Plus]:
            with np.errstate(over="ignore"):
                return [Affine(scale.astype(np.float32), bias.astype(np.float32))] if pending else []

        for layer in group.chain:
            if isinstance(layer, BatchNorm):
                scale, bias, pending = scale * layer.scale, (bias - layer.mean) * layer.scale + layer.beta, True
            elif not isinstance(layer, PadChannels):
                terms += [*affine(), Plus(next(remaining))]
                scale, bias, pending = np.ones(channels), np.zeros(channels), False
        terms += affine()
        self._require_finite(group, terms)
        if bounds[0].dtype.kind == "i":
            _require_int32(group, *(end - taps * origin for end in bounds))
        numbers = None
        if group.end in self.stored:
            element, bounds = _narrowest_float(_after(terms, bounds), group.end is self.output)
            if group.end is not self.output and not np.isfinite(bounds).all():
                raise InputError(
                    f"numbers of {group.end.title} may leave float32, in which other layers read them: take smaller "
                    f"parameters of a BatchNorm before it"
                )
            numbers = Numbers(shape, element, group.end, bounds)
        shift = (-origin * taps).astype(np.int32) if origin.any() else None
        epilogue = Epilogue(True, shift, tuple(terms), numbers)
        if not group.coders:
            return epilogue, None
        last = group.coders[-1]
        if rounds(last):
            assert isinstance(last, Quantise)
            coding: Limits | Rounding = Rounding(last.scale, last.ends)
        else:
            coding = _limits(fold_real(group.coders, channels), last, np.float32)
        return self._coded(epilogue, group, shape, coding), None

    def _whole_epilogue(
        self, group: Group, shape: tuple[int, ...], bounds: _Bounds, origin: np.ndarray, addends: list[Numbers]
    ) -> tuple[Epilogue, np.ndarray | None]:
        """Of integers. What is stored is less its origin, by which more numbers fit in 16 bits."""
        low, high = bounds
        for numbers in addends:
            low, high = low + numbers.bounds[0], high + numbers.bounds[1]
            origin = origin + _origin(numbers, shape[-1])
        _require_int32(group, low, high)
        numbers, target = None, origin
        if group.end in self.stored:
            element, target = _narrowest(low, high, origin, group.end is self.output or group.end in self.whole)
            element = "i32" if group.end is self.output else element
            numbers = Numbers(shape, element, group.end, (low, high), target if target.any() else None)
        shift = target - origin
        plus = tuple(map(Plus, addends))
        epilogue = Epilogue(False, shift.astype(np.int32) if shift.any() else None, plus, numbers)
        if not group.coders:
            return epilogue, None
        reach = np.maximum(np.abs(low - target), np.abs(high - target))
        folded = fold(group.coders, reach, target)
        coding = _limits(folded, group.coders[-1], np.int32)
        return self._coded(epilogue, group, shape, coding), folded.falls

    def _coded(self, epilogue: Epilogue, group: Group, shape: tuple[int, ...], coding: Limits | Rounding) -> Epilogue:
        """The same with codes."""
        last = group.coders[-1]
        assert last.codes is not None
        codes = Codes(shape, last.codes, last)
        return replace(epilogue, codes=codes, coding=coding, coders=tuple(group.coders))


def _with_flattens(layers: Sequence[Layer]) -> list[Layer]:
    """Layers with those between them that no group has."""
    found: dict[Layer, None] = {}
    for layer in layers:
        for source in layer.sources:
            while isinstance(source, Flatten):
                found.setdefault(source)
                source = source.source
        found.setdefault(layer)
    return list(found)


def _origin(numbers: Numbers | None, channels: int) -> np.ndarray:
    """What stored numbers are to be moved by, for so many channels."""
    origin = np.zeros(channels, np.int64)
    if numbers is not None and numbers.origin is not None:
        origin[: len(numbers.origin)] = numbers.origin
    return origin


def _narrowest(low: np.ndarray, high: np.ndarray, origin: np.ndarray, is_whole: bool) -> tuple[str, np.ndarray]:
    """The type that holds numbers between these ends, less an origin: the one that they have, if that will do."""
    origins = [np.zeros_like(origin)] if is_whole else [origin, (low + high + 1) // 2]
    for bits in (8, 16):
        for at in origins:
            if (low - at >= -(2 ** (bits - 1))).all() and (high - at < 2 ** (bits - 1)).all():
                return f"i{bits}", at
    return "i32", origins[0]


def _narrowest_float(bounds: _Bounds, is_whole: bool) -> tuple[str, _Bounds]:
    """The type that holds numbers between these ends, and the ends as it has them."""
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = (end.astype(np.float16).astype(np.float32) for end in bounds)
    return ("f32", bounds) if is_whole or not np.isfinite([low, high]).all() else ("f16", (low, high))


def _after(terms: Sequence[Affine | Plus], bounds: _Bounds) -> _Bounds:
    """The ends of numbers in float32 once terms are applied to them; inf or NaN where numbers may be.

    Rounding leaves numbers in their order: so nothing that the program computes lies outside, not even by a rounding.
    """
    low, high = (end.astype(np.float32) for end in bounds)
    with np.errstate(over="ignore", invalid="ignore"):
        for term in terms:
            if isinstance(term, Affine):
                ends = [end * term.scale + term.bias for end in (low, high)]
                low, high = np.minimum(*ends), np.maximum(*ends)
            else:
                low, high = (a + b.astype(np.float32) for a, b in zip((low, high), term.numbers.bounds, strict=True))
    return low, high


def _window_sums(bounds: _Bounds, window: Window) -> _Bounds:
    """The ends of what a window adds up, number by number; those outside images are 0."""
    low, high = (np.minimum(bounds[0], 0), np.maximum(bounds[1], 0)) if _has_edges(window) else bounds
    if low.dtype.kind == "i":
        return window.taps * low, window.taps * high
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = (np.add.accumulate(np.repeat(end[:, None], window.taps, 1), 1)[:, -1] for end in (low, high))
    return low, high


def _is_reduction(group: Group) -> bool:
    """Whether a group reads numbers that are stored."""
    root = group.root
    is_product = isinstance(root, (Input, Linear, Conv2d))
    return not group.is_own or not (is_product or root.codes is not None)


def _require_int32(group: Group, low: np.ndarray, high: np.ndarray) -> None:
    """Refuse sums that 32 bits do not hold."""
    least, most = int(low.min()), int(high.max())
    if least < -(2**31) or most >= 2**31:
        names = " and ".join(dict.fromkeys(layer.title for layer in (group.root, *group.chain)))
        is_product = isinstance(group.root, (Linear, Conv2d)) and not group.addends
        advice = "take weights or codes of fewer bits" if is_product else "put a BatchNorm, Sign or Quantise between"
        raise ShapeError(f"numbers of {names} may lie from {least} to {most}, but must fit in int32: {advice}")


def _has_edges(window: Window) -> bool:
    """Whether a window reaches outside images."""
    return any((window.rows.before, window.rows.after, window.columns.before, window.columns.after))


def _sum_bounds(weights: np.ndarray, codes: Encoding, has_edges: bool) -> _Bounds:
    """The least and the greatest sum of each filter; at an image's edges some of its weights see nothing."""
    flat = weights.reshape(len(weights), -1)
    above = np.maximum(flat, 0).sum(1, dtype=np.int64)
    below = flat.sum(1, dtype=np.int64) - above
    least, most = codes.minimum, codes.maximum
    if has_edges:
        least, most = min(least, 0), max(most, 0)
    return least * above + most * below, most * above + least * below


def _limits(folded: Thresholds, last: Layer, dtype: type) -> Limits:
    """Thresholds as the program has them."""
    limits = folded.limits
    if dtype is np.int32:
        limits = np.clip(limits, -(2**31), 2**31 - 1)
    signs = np.where(folded.falls, -1, 1).astype(dtype) if folded.falls.any() else None
    return Limits(limits.astype(dtype), signs, last.ends[0] if isinstance(last, Quantise) else 0)


def _unsigned(coding: Limits | Rounding | None) -> Limits:
    """The same limits for numbers that were turned already."""
    assert isinstance(coding, Limits)
    return replace(coding, signs=None)


def _through_window(start: Start, layer: Conv2d, product: Product) -> tuple[Start, Product]:
    """A first convolution of few channels: patches are packed, and each is a pixel for filters of 1 × 1."""
    filters, rows, columns, channels = layer.weights.shape
    k = rows * columns * channels
    stride, padding = product.stride, product.padding
    codes = replace(start.codes, shape=(*layer.window.places, k))
    seen = replace(start, codes=codes, size=(rows, columns), stride=stride, padding=padding)
    weights = pack(unpack(product.weights).reshape(filters, 1, 1, k), product.weights.encoding)
    return seen, replace(product, source=codes, weights=weights, stride=(1, 1), padding=(0, 0, 0, 0))
