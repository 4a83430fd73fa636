"""Packing floats and integers on the GPU, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from support import awkward_floats, packing_arguments, run_on_gpu

import bitmlir
from bitmlir import PackSpec
from bitmlir.compiler import lower, resolve_target
from bitmlir.formats.packed import pack
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.tools.evaluate import evaluate

pytestmark = pytest.mark.gpu

ENCODINGS = [
    "u1",
    "u4",
    "u4@7",
    "u8@128",
    "u3@row",
    "i4",
    "i8",
    "bipolar",
    "bipolar3",
    "bipolar7",
    "bipolar8",
    "ternary",
]
FLOATS = ("f32", "f16", "bf16")


def assert_packs(rng: np.random.Generator, spec: PackSpec, x: np.ndarray) -> None:
    """The program's planes, sums and zeros, in buffers between guard bytes, are those of the oracle's values."""
    given = packing_arguments(rng, spec, x)
    bundle = lower(spec, resolve_target("auto"))
    (values,) = evaluate(bundle.stages["bit"].decode(), "pack", list(given.values()))
    expected, result = pack(values, spec.encoding, given.get("zeros")), run_on_gpu(bundle, given)["result"]
    np.testing.assert_array_equal(result.planes, expected.planes)
    np.testing.assert_array_equal(result.sums, expected.sums)


@pytest.mark.parametrize("source", FLOATS)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("sizes", [(17, 65), (64, 2048), (33, 4100)], ids=str)
def test_floats_become_the_values_nearest_to_them(sizes: tuple[int, int], encoding: str, source: str) -> None:
    rng = np.random.default_rng(1)
    for scale in (False, True):
        assert_packs(rng, PackSpec(*sizes, encoding, source, scale), awkward_floats(rng, sizes, source))


@pytest.mark.parametrize("source", ["i8", "i16", "i32"])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("sizes", [(17, 65), (64, 2048), (33, 4100)], ids=str)
def test_integers_keep_their_low_bits(sizes: tuple[int, int], encoding: str, source: str) -> None:
    rng = np.random.default_rng(2)
    assert_packs(rng, PackSpec(*sizes, encoding, source), rng.integers(-128, 128, sizes).astype(numpy_dtype(source)))


@pytest.mark.parametrize("k", [1, 31, 32, 33, 127, 129, 1022, 1023, 1024, 1025, 2047, 3072, 4096])
@pytest.mark.parametrize("source", ["f32", "bf16", "i8"])
def test_rows_of_every_length_are_packed_and_padded(k: int, source: str) -> None:
    rng = np.random.default_rng(3)
    x = awkward_floats(rng, (5, k), source) if source in FLOATS else rng.integers(-8, 8, (5, k)).astype(np.int8)
    assert_packs(rng, PackSpec(5, k, "i4", source), x)


@pytest.mark.parametrize("sizes", [(1, 1), (3, 100_000), (1, 1 << 20), (20_000, 40)], ids=str)
def test_few_long_rows_are_shared_and_many_short_ones_too(sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(4)
    assert_packs(rng, PackSpec(*sizes, "i3", "f32", scale=True), awkward_floats(rng, sizes, "f32"))


def test_quotients_are_rounded_as_division_rounds_them() -> None:
    """Quotients within an ulp of a tie, where a product with the reciprocal often goes wrong."""
    rng = np.random.default_rng(5)
    scale = rng.uniform(0.5, 2, 512).astype(np.float32) * np.float32(2) ** rng.integers(-90, 90, 512).astype(np.float32)
    ties = rng.integers(-130, 130, (512, 2048)) + np.float32(0.5)
    x = (ties * scale[:, None].astype(np.float64)).astype(np.float32)
    x = (x.view(np.int32) + rng.integers(-2, 3, x.shape, dtype=np.int32)).view(np.float32)
    packed = bitmlir.compile(PackSpec(512, 2048, "i8", scale=True))(x, scale=scale)
    expected = np.clip(np.rint(x / scale[:, None]), -128, 127)
    np.testing.assert_array_equal(bitmlir.unpack(packed), expected)


def test_tensors_on_the_device_are_packed_there_and_feed_a_product() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(6)
    x, w = rng.normal(0, 1, (33, 500)).astype(np.float32), rng.integers(-1, 2, (20, 500))
    scale = (np.abs(x).max(axis=1) / 7).astype(np.float32)
    on_device = torch.from_numpy(x).cuda(), torch.from_numpy(scale).cuda()
    packed = bitmlir.compile(PackSpec(33, 500, "i4", scale=True))(*on_device)
    assert hasattr(packed.planes, "__cuda_array_interface__")
    product = bitmlir.MatmulSpec(33, 20, 500, "i4", "ternary", out="f32", row_scale=True)
    y = bitmlir.compile(product)(packed, w, row_scale=on_device[1]).cpu().numpy()
    np.testing.assert_array_equal(y, (np.rint(x / scale[:, None]) @ w.T).astype(np.float32) * scale[:, None])
