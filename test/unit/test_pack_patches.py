"""Patches of photographs: packed exactly on the CPU and by GPU kernels, and used by more than one operation."""

from __future__ import annotations

import numpy as np
import pytest
from support import run
from warp_interpreter import InterpretedProgram

import bitmlir
from bitmlir import compiler, reference
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.window import Axis, Window
from bitmlir.formats.packed import Packed, unpack
from bitmlir.lowering.targets import get_target

WINDOW = Window(Axis(9, 3, 2, 1, 1), Axis(7, 2, 1, 0, 1))
ENCODINGS = ["u1", "u2", "u3", "u8", "i4", "i8"]


def text(encoding: str, channels: int) -> str:
    p, q = WINDOW.places
    bits, k = Encoding.parse(encoding).bits, WINDOW.taps * channels
    packed = f'tensor<3x{p}x{q}x{k}xi{bits}, #bit.encoding<"{encoding}">>'
    return f"""
func.func @patches(%x: tensor<3x9x7x{channels}xi8> {{bit.name = "x"}}) -> ({packed} {{bit.name = "patches"}}) {{
  %p = "bit.pack_patches"(%x) {{size = array<i64: 3, 2>, stride = array<i64: 2, 1>, padding = array<i64: 1, 0, 1, 1>}}
    : (tensor<3x9x7x{channels}xi8>) -> {packed}
  return %p : {packed}
}}"""


def expected(images: np.ndarray, encoding: str) -> np.ndarray:
    """What the window sees, in the order of taps; codes keep their low bits."""
    e = Encoding.parse(encoding)
    codes = images.astype(np.int64) & (1 << e.bits) - 1
    values = codes - (codes >> e.bits - 1 << e.bits) if e.kind == "i" else codes
    taps = np.eye(WINDOW.taps * images.shape[-1], dtype=np.int64).reshape(-1, 3, 2, images.shape[-1])
    return reference.conv2d(values, taps, WINDOW)


def images_of(channels: int) -> np.ndarray:
    return np.random.default_rng(channels).integers(-128, 128, (3, 9, 7, channels), np.int8)


@pytest.mark.parametrize("channels", [1, 3, 23])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_patches_are_packed_exactly_on_the_cpu(encoding: str, channels: int) -> None:
    images = images_of(channels)
    result = bitmlir.compile(text(encoding, channels), target="cpu")(images)
    result.check()
    np.testing.assert_array_equal(unpack(result), expected(images, encoding))


@pytest.mark.parametrize("channels", [1, 3, 23])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_patches_are_packed_exactly_by_gpu_kernels(encoding: str, channels: int) -> None:
    """Also where the words of a place are no power of two, and its sum is added up."""
    images = images_of(channels)
    bundle = compiler.lower(text(encoding, channels), get_target("sm_80"))
    result = run(InterpretedProgram(bundle), {"x": images})["patches"]
    assert isinstance(result, Packed)
    result.check()
    np.testing.assert_array_equal(unpack(result), expected(images, encoding))
