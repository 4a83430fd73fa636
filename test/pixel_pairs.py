"""Convolutions of images whose pixels of 64 channels lie in pairs: for the interpreter of kernels, and for GPUs."""

from __future__ import annotations

from dataclasses import dataclass

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.window import Axis, Window

__all__ = ["CHAINS", "Chain"]


@dataclass(frozen=True)
class Chain:
    """Two convolutions, the first 3×3 over images of 20 channels and to 64, the second as it says, and perhaps a pool
    between them. A third one, 1×1, takes the second one's packed result.

    codes: of the images between them. result: of the second, an encoding or "i32"; padding as of `Conv2dSpec`.
    """

    height: int
    width: int
    codes: str = "bipolar"
    filters: str = "bipolar"
    size: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (1, 1, 1, 1)
    channels: int = 64
    result: str = "i32"
    pool: bool = False
    kept: bool = False

    def text(self, images: int = 2) -> str:
        """The program: tensors as types, `bit.conv2d` twice or three times."""
        codes, down, across = Encoding.parse(self.codes), self.height, self.width
        given, first = _images(images, down, across, 20, "u2"), _images(64, 3, 3, 20, "u2")
        hidden = _images(images, down, across, 64, codes)
        lines = [_conv("%h", ("%x", "%w0"), given, first, 1).format(body=_coded(codes, "%t"), result=hidden)]
        if self.pool:
            down, across = down // 2, across // 2
            pooled = _images(images, down, across, 64, codes)
            sizes = "size = array<i64: 2, 2>, stride = array<i64: 2, 2>, padding = array<i64: 0, 0, 0, 0>"
            lines.append(f'%p = "bit.pool"(%h) {{{sizes}}} : ({hidden}) -> {pooled}')
            hidden = pooled
        window = self._window(down, across)
        filters = _images(self.channels, *self.size, 64, self.filters)
        plain = f"tensor<{images}x{window.places[0]}x{window.places[1]}x{self.channels}xi32>"
        source = "%p" if self.pool else "%h"
        second = _conv("%y", (source, "%w1"), hidden, filters, 1, self.stride, self.padding)
        arguments = [f"%x: {given}", f"%w0: {first}", "%t: tensor<64xi32>", f"%w1: {filters}", f"%r: {plain}"]
        read = f"%residual = tensor.extract %r[%n, %q, %s, %o] : {plain}\n%sum = arith.addi %acc, %residual : i32\n"
        if self.result == "i32":
            lines.append(second.format(body=read + "gpu.yield %sum : i32", result=plain))
            return _function(arguments, lines, {"%y": plain})
        coded = _images(images, *window.places, self.channels, self.result)
        width = Encoding.parse(self.result).bits
        body = f"{read}%code = arith.trunci %sum : i32 to i{width}\ngpu.yield %code"
        result = {"%z": plain}
        if self.kept:
            second = second.replace("%y =", "%y, %k =")
            body, coded_and = f"{body}, %sum : i{width}, i32", f"({coded}, {plain})"
            result["%k"] = plain
        else:
            body, coded_and = f"{body} : i{width}", coded
        lines.append(second.format(body=body, result=coded_and))
        last = _images(self.channels, 1, 1, self.channels, "bipolar")
        third = _conv("%z", ("%y", "%w2"), coded, last, 0)
        lines.append(third.format(body="gpu.yield %acc : i32", result=plain))
        return _function([*arguments, f"%w2: {last}"], lines, result)

    def _window(self, height: int, width: int) -> Window:
        (rows, columns), (down, right), (top, left, bottom, end) = self.size, self.stride, self.padding
        return Window(Axis(height, rows, down, top, bottom), Axis(width, columns, right, left, end))


def _images(images: int, height: int, width: int, channels: int, encoding: Encoding | str) -> str:
    bits = Encoding.parse(encoding).bits
    return f'tensor<{images}x{height}x{width}x{channels}xi{bits}, #bit.encoding<"{encoding}">>'


def _conv(
    name: str,
    operands: tuple[str, str],
    images: str,
    filters: str,
    pad: int,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, ...] = (),
) -> str:
    """A convolution whose body and result are left open."""
    sides = ", ".join(map(str, padding or [pad] * 4))
    steps = f"stride = array<i64: {stride[0]}, {stride[1]}>, padding = array<i64: {sides}>"
    return (
        f'{name} = "bit.conv2d"({", ".join(operands)}) ({{{{\n'
        "^bb0(%acc: i32, %n: index, %q: index, %s: index, %o: index):\n{body}\n"
        f"}}}}) {{{{{steps}, dilation = array<i64: 1, 1>}}}} : ({images}, {filters}) -> {{result}}"
    )


def _coded(encoding: Encoding, limits: str) -> str:
    """What makes codes of sums: the lowest bits of what they are above a limit."""
    width = encoding.bits
    return (
        f"%limit = tensor.extract {limits}[%o] : tensor<64xi32>\n%above = arith.subi %acc, %limit : i32\n"
        f"%code = arith.trunci %above : i32 to i{width}\ngpu.yield %code : i{width}"
    )


def _function(arguments: list[str], lines: list[str], results: dict[str, str]) -> str:
    types, body = ", ".join(results.values()), "\n".join(lines)
    head = f"func.func @chain({', '.join(arguments)}) -> ({types})"
    return f"{head} {{\n{body}\nreturn {', '.join(results)} : {types}\n}}"


CHAINS: dict[str, Chain] = {
    "±1": Chain(5, 6),
    "to bits": Chain(4, 6, result="bipolar"),
    "to bits, kept": Chain(4, 4, result="u2", kept=True),
    "to more bits": Chain(3, 6, channels=128, result="bipolar"),
    "to fewer channels": Chain(4, 6, channels=33, result="u1"),
    "two bits, a zero point": Chain(5, 4, "u2@1", "u3@2", size=(2, 3)),
    "signs on one side": Chain(4, 6, "u2", "bipolar2", size=(2, 5), padding=(1, 2, 0, 2)),
    "both two's complement": Chain(4, 6, "i2", "ternary", size=(1, 1), padding=(0, 0, 0, 0)),
    "strides": Chain(6, 8, stride=(2, 2)),
    "one by one, strides": Chain(6, 8, "u2", size=(1, 1), stride=(2, 2), padding=(0, 0, 0, 0)),
    "strides along the rows alone": Chain(5, 8, stride=(1, 2), padding=(0, 2, 1, 1), channels=40),
    "wide filters": Chain(3, 10, "bipolar2", size=(1, 7), padding=(0, 3, 0, 3)),
    "no borders": Chain(4, 8, padding=(0, 0, 0, 0), channels=20),
    "an odd number of places": Chain(4, 8, size=(3, 2), padding=(1, 0, 1, 0)),
    "rows of odd length": Chain(4, 7),
    "pooled": Chain(6, 8, pool=True),
    "pooled to rows of odd length": Chain(4, 6, pool=True),
    "an even filter": Chain(3, 6, "u2", "i3", size=(2, 2), padding=(0, 0, 1, 1), result="bipolar"),
}
