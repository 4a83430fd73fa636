"""Programs that keep numbers beside codes, and that reduce what windows see, with what numpy says of them: tests on the
CPU and on GPUs share them."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

import bitmlir
from bitmlir import reference
from bitmlir.dialects.window import Axis, Window
from bitmlir.formats.packed import Packed, pack, unpack

__all__ = ["KEPT", "REDUCTIONS", "Kept", "Reduction"]

_TYPES = {
    "i8": np.int8, "i16": np.int16, "i32": np.int32,
    "f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32,
}  # fmt: skip


def _packed(shape: tuple[int, ...], encoding: str) -> str:
    bits = 1 if encoding == "bipolar" else int(encoding[1:])
    return f'tensor<{"x".join(map(str, shape))}xi{bits}, #bit.encoding<"{encoding}">>'


def _plain(shape: tuple[int, ...], element: str) -> str:
    return f"tensor<{'x'.join(map(str, shape))}x{element}>"


def _require_equal(result: np.ndarray, expected: np.ndarray) -> None:
    """Floats bit for bit, but for the sign of zeros."""
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(np.asarray(result, np.float64), np.asarray(expected, np.float64))


@dataclass(frozen=True)
class Kept:
    """A convolution of 3 × 3 whose sums with a shortcut are kept beside their codes in u2, or with `images` = 0 a
    product of that many rows."""

    images: int
    height: int
    width: int
    channels: int
    filters: int
    element: str
    encoding: str = "bipolar"

    def check(self, target: str) -> None:
        """Compile it for a target, run it, and compare both results."""
        rng = np.random.default_rng(7)
        values = np.array([-1, 1]) if self.encoding == "bipolar" else np.arange(4)
        images, filters, out = self._shapes
        x, w = rng.choice(values, images), rng.choice([-1, 1], filters)
        shortcut = rng.integers(-300, 300, out).astype(_TYPES[self.element])
        limit = rng.integers(-30, 30, self.filters).astype(np.int32)
        program = bitmlir.compile(self._text, target)
        codes, kept = program(pack(x, self.encoding), pack(w, "bipolar"), shortcut, limit)
        if self.images:
            window = Window(Axis(self.height, 3, 1, 1, 1), Axis(self.width, 3, 1, 1, 1))
            sums = reference.conv2d(x, w, window) + shortcut
        else:
            sums = reference.matmul(x, w) + shortcut
        _require_equal(np.asarray(kept), sums.astype(_TYPES[self.element]))
        assert isinstance(codes, Packed)
        codes.check()
        np.testing.assert_array_equal(unpack(codes), (sums >= limit).astype(int) + (sums >= limit + 40))

    @property
    def _shapes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        if not self.images:
            return (self.height, self.channels), (self.filters, self.channels), (self.height, self.filters)
        images = (self.images, self.height, self.width)
        return (*images, self.channels), (self.filters, 3, 3, self.channels), (*images, self.filters)

    @property
    def _text(self) -> str:
        images, filters, out = self._shapes
        x, w, shortcut = _packed(images, self.encoding), _packed(filters, "bipolar"), _plain(out, self.element)
        codes, limit = _packed(out, "u2"), f"tensor<{self.filters}xi32>"
        places = ["%n", "%y", "%x", "%c"] if self.images else ["%y", "%c"]
        widen, narrow = ("%s = arith.extsi %v : i16 to i32", "%k = arith.trunci %t : i32 to i16")
        if self.element == "i32":
            widen, narrow = "%s = arith.addi %v, %zero : i32", "%k = arith.addi %t, %zero : i32"
        steps = "stride = array<i64: 1, 1>, padding = array<i64: 1, 1, 1, 1>, dilation = array<i64: 1, 1>"
        return f"""
        func.func @kept(%a: {x}, %w: {w}, %r: {shortcut}, %l: {limit}) -> ({codes}, {shortcut}) {{
          %codes, %kept = "bit.{"conv2d" if self.images else "matmul"}"(%a, %w) ({{
          ^bb0(%acc: i32, {", ".join(f"{place}: index" for place in places)}):
            %zero = arith.constant 0 : i32
            %forty = arith.constant 40 : i32
            %v = tensor.extract %r[{", ".join(places)}] : {shortcut}
            {widen}
            %t = arith.addi %acc, %s : i32
            %low = tensor.extract %l[%c] : {limit}
            %high = arith.addi %low, %forty : i32
            %first = arith.cmpi sge, %t, %low : i32
            %second = arith.cmpi sge, %t, %high : i32
            %one = arith.extui %first : i1 to i2
            %two = arith.extui %second : i1 to i2
            %code = arith.addi %one, %two : i2
            {narrow}
            gpu.yield %code, %k : i2, {self.element}
          }}) {{{steps if self.images else "operandSegmentSizes = array<i32: 1, 1, 0, 0>"}}}
            : ({x}, {w}) -> ({codes}, {shortcut})
          return %codes, %kept : {codes}, {shortcut}
        }}"""


@dataclass(frozen=True)
class Reduction:
    """A reduction of square windows over images; kept beside signs, or alone."""

    images: int
    height: int
    width: int
    channels: int
    more: int
    element: str
    reduction: str
    size: int
    stride: int
    padding: int
    has_signs: bool

    def check(self, target: str) -> None:
        """Compile it for a target, run it, and compare the result."""
        rng = np.random.default_rng(8)
        is_float = "f" in self.element
        shape = (self.images, self.height, self.width, self.channels)
        x = (rng.integers(-30, 30, shape) / (8 if is_float else 1)).astype(_TYPES[self.element])
        results = bitmlir.compile(self._text, target)(x)
        wide = x.astype(np.float32 if is_float else np.int64)
        seen = reference.reduce_window(wide, self._window, self.reduction)
        full = np.pad(seen, ((0, 0), (0, 0), (0, 0), (0, self.more - self.channels)))
        if not self.has_signs:
            _require_equal(np.asarray(results), full.astype(_TYPES[self.element]))
            return
        signs, kept = results
        _require_equal(np.asarray(kept), full.astype(_TYPES[self.element]))
        signs.check()
        np.testing.assert_array_equal(unpack(signs), np.where(full >= 0, 1, -1))

    @property
    def _window(self) -> Window:
        axes = (Axis(n, self.size, self.stride, self.padding, self.padding) for n in (self.height, self.width))
        return Window(*axes)

    @property
    def _text(self) -> str:
        is_float = "f" in self.element
        acc, narrower = ("f32", "arith.truncf") if is_float else ("i32", "arith.trunci")
        x = _plain((self.images, self.height, self.width, self.channels), self.element)
        out = (self.images, *self._window.places, self.more)
        plain, signs = _plain(out, self.element), _packed(out, "bipolar")
        results = f"{signs}, {plain}" if self.has_signs else plain
        number, narrow = (
            ("%acc", "") if self.element == acc else ("%k", f"%k = {narrower} %acc : {acc} to {self.element}")
        )
        sign = "arith.cmpf oge" if is_float else "arith.cmpi sge"
        pair = {"size": self.size, "stride": self.stride}
        window = ", ".join(f"{name} = array<i64: {n}, {n}>" for name, n in pair.items())
        around = ", ".join([str(self.padding)] * 4)
        names = "%signs, %kept" if self.has_signs else "%kept"
        return f"""
        func.func @reduction(%a: {x}) -> ({results}) {{
          {names} = "bit.reduce_window"(%a) ({{
          ^bb0(%acc: {acc}, %n: index, %y: index, %x: index, %c: index):
            %zero = arith.constant 0{".0" if is_float else ""} : {acc}
            %sign = {sign}, %acc, %zero : {acc}
            {narrow}
            gpu.yield {f"%sign, {number} : i1, {self.element}" if self.has_signs else f"{number} : {self.element}"}
          }}) {{reduction = "{self.reduction}", {window}, padding = array<i64: {around}>}} : ({x}) -> ({results})
          return {names} : {results}
        }}"""


KEPT = [
    Kept(2, 6, 5, 64, 64, "i16"),
    Kept(1, 7, 7, 70, 40, "i32"),
    Kept(2, 9, 8, 128, 200, "i16", "u2"),
    Kept(3, 14, 14, 256, 129, "i16"),
    Kept(9, 28, 28, 128, 128, "i16"),
    Kept(2, 8, 8, 512, 512, "i32"),
    Kept(0, 300, 1, 200, 70, "i16"),
    Kept(0, 5, 1, 1000, 256, "i32", "u2"),
]
REDUCTIONS = [
    Reduction(2, 6, 5, 64, 64, "i16", "max", 2, 2, 0, True),
    Reduction(1, 7, 7, 70, 100, "i32", "max", 3, 2, 1, True),
    Reduction(2, 9, 8, 33, 33, "f16", "sum", 2, 2, 0, False),
    Reduction(2, 9, 8, 34, 300, "f16", "max", 3, 2, 1, True),
    Reduction(2, 8, 8, 64, 128, "i16", "max", 2, 2, 0, True),
    Reduction(2, 5, 5, 20, 20, "i8", "sum", 1, 1, 0, True),
    Reduction(3, 7, 7, 129, 129, "f32", "sum", 7, 1, 0, False),
    Reduction(2, 33, 31, 64, 64, "bf16", "max", 1, 1, 0, True),
    Reduction(1, 90, 80, 3, 5, "i16", "sum", 3, 1, 1, True),
]
