"""What `Executable.explain` says: computed when a program is compiled, kept in its bundle, readable without MLIR."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bitmlir
from bitmlir import compiler
from bitmlir.dialects.errors import BundleError, InputError
from bitmlir.executable import Executable
from bitmlir.explanation import Explanation
from bitmlir.lowering.targets import get_target
from bitmlir.pack_spec import PackSpec
from bitmlir.runtime.bundle import Bundle
from bitmlir.search_spec import SearchSpec
from bitmlir.spec import MatmulSpec

SPEC = MatmulSpec(m=8, n=200, k=3000, lhs="u2", rhs="i3")

WITHOUT_MLIR = """
import sys
sys.modules["mlir"] = None  # importing it fails
import bitmlir
explanation = bitmlir.load(sys.argv[1]).explain()
print(explanation)
"""


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return compiler.lower(SPEC, get_target("sm_90a"))


def test_each_part_of_the_explanation_is_a_field(bundle: Bundle) -> None:
    explanation = Executable(bundle).explain()
    (launch,) = explanation.launches
    assert (explanation.target, explanation.machine, explanation.measured) == ("sm_90a", "NVIDIA H200", True)
    assert launch.problem == "matmul 8×200×3000, 2 × 3 planes → i32"
    assert launch.operations == 2 * 8 * 200 * 3000 * 6
    assert (
        launch.order == "side by side: an accumulator for each of 2 planes of lhs, and each plane of rhs is read once"
    )
    assert launch.tile_source == "cost model"
    assert launch.bound == "launch"
    assert launch.seconds == explanation.seconds > launch.floor_seconds
    assert launch.parts is not None
    assert sum(launch.parts.values()) == pytest.approx(launch.seconds)
    assert launch.tile is not None
    assert launch.tile in str(explanation)


def test_what_clears_memory_before_the_launch_is_named_among_the_parts(bundle: Bundle) -> None:
    spec = dataclasses.replace(SPEC, out="u2")
    cleared = Executable(compiler.lower(spec, get_target("sm_90a"))).explain()
    assert cleared.launches[0].parts is not None
    assert list(cleared.launches[0].parts)[:3] == ["launch", "clearing", "start"]
    assert re.search(r"launch [\d.]+ µs; clearing [\d.]+ µs; start", str(cleared))
    assert "clearing" not in str(Executable(bundle).explain())


def test_a_saved_program_explains_itself_without_mlir(bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "k.bitmlir")
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_MLIR, str(tmp_path / "k.bitmlir")], capture_output=True, text=True, check=True
    )
    assert run.stdout == f"{Executable(bundle).explain()}\n"


def test_a_program_of_an_earlier_bitmlir_says_that_it_explains_nothing(bundle: Bundle) -> None:
    stages = {name: data for name, data in bundle.stages.items() if name != "explain"}
    with pytest.raises(InputError, match=r"holds no explanation: bitmlir 0\.0\.9 compiled it; compile it again"):
        Executable(Bundle(bundle.plan, stages, {"bitmlir": "0.0.9"})).explain()


def test_what_a_newer_bitmlir_adds_is_left_out_and_what_is_broken_is_refused(bundle: Bundle) -> None:
    values = json.loads(bundle.stages["explain"])
    values["launches"][0]["colour"] = "blue"
    assert Explanation.from_json(json.dumps(values)) == Executable(bundle).explain()
    del values["launches"][0]["seconds"]
    with pytest.raises(BundleError, match="cannot be read"):
        Explanation.from_json(json.dumps(values))


def test_a_program_for_the_cpu_cannot_be_explained() -> None:
    with pytest.raises(InputError, match="knows GPUs only"):
        bitmlir.compile(SPEC, "cpu").explain()


def test_every_kind_of_launch_is_explained_in_order() -> None:
    search = compiler.lower(SearchSpec(m=4, n=300, k=200, lhs="bipolar", rhs="bipolar", count=5), get_target("sm_80"))
    packing = compiler.lower(PackSpec(16, 1000, "u4", "f32"), get_target("sm_90a"))
    problems = [launch.problem for launch in Executable(search).explain().launches]
    assert problems == ["search 4×300×200, 1 × 1 plane → best5", "ranks 4×5"]
    (pack,) = Executable(packing).explain().launches
    assert pack.problem == "pack 16×1000"
    assert pack.read_bytes == 16 * 1000 * 4
    assert pack.written_bytes == 4 * 16 * 32 * 4 + 16 * 4
    assert "expected" in str(pack)
