"""Products whose elements lie far apart: distances that no constant index of MLIR's holds."""

from __future__ import annotations

import pytest

from bitmlir import compiler
from bitmlir.lowering.targets import get_target
from bitmlir.spec import MatmulSpec


@pytest.mark.parametrize(
    ("target", "sizes", "lhs", "out", "tile"),
    [
        ("sm_90", (64, 1_250_000, 128), "bipolar", "f32", None),
        ("sm_90a", (64, 2**21, 128), "u4", "i32", None),
        ("sm_90a", (64, 2**24 + 1, 128), "bipolar", "i32", None),
        ("sm_80", (256, 256, 2**26), "bipolar", "i32", None),
        ("sm_90a", (128, 2**25, 128), "bipolar", "i32", "rows=64,columns=8,stages=4,swapped"),
    ],
)
def test_elements_may_lie_as_far_apart_as_sizes_allow(
    target: str, sizes: tuple[int, int, int], lhs: str, out: str, tile: str | None
) -> None:
    spec = MatmulSpec(*sizes, lhs, "bipolar", out)
    assert b".entry" in compiler.lower(spec, get_target(target), tile=tile).stages["ptx"]
