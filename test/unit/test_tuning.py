"""Tuning tables: as files, which of them are used, and that compiling takes their tiles."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from bench_support import spec_of
from mlir import ir

from bitmlir import compiler, tuning
from bitmlir.dialects import bit
from bitmlir.dialects.errors import InputError
from bitmlir.grouped_spec import GroupedSpec
from bitmlir.lowering import choose_tiles
from bitmlir.lowering.gpu.tiles import read_fields
from bitmlir.lowering.machines import MACHINES
from bitmlir.lowering.pipeline import run_pipeline
from bitmlir.lowering.targets import get_target
from bitmlir.lowering.tuning_table import FORMAT, Entry, TuningTable, quoted_path
from bitmlir.lowering.workload import Workload
from bitmlir.runtime.driver import Device
from bitmlir.search_spec import SearchSpec
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench.tune import candidates

SPEC = MatmulSpec(m=130, n=200, k=300, lhs="bipolar", rhs="bipolar")
WORK = Workload("sm_90a", "matmul", 130, 200, 300, 1, 1, (1,), "i32")
TILE: dict[str, int | bool] = {"rows": 64, "columns": 48, "stages": 3}
TABLE = TuningTable({"name": "NVIDIA H200"}, "a test", (Entry(WORK, TILE, 3e-6, {"date": "2026-11-21", "note": [1]}),))
HOPPER = get_target("sm_90a")
SHIPPED_FILE = Path(tuning.__file__).parent / "h200.json"
SHIPPED = TuningTable.load(SHIPPED_FILE)


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BITMLIR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("BITMLIR_TUNING", raising=False)
    present(monkeypatch, None)


def present(monkeypatch: pytest.MonkeyPatch, name: str | None, capability: tuple[int, int] = (9, 0)) -> None:
    """Make this the GPU that is there."""
    device = None if name is None else Device(0, name, capability, 132, 232448, 0)
    monkeypatch.setattr(Device, "find", classmethod(lambda cls: device))


def tile_of(planes: str) -> str:
    return re.findall(r"tile = ({.*?})", planes)[0]


def chosen(spec: MatmulSpec | GroupedSpec | SearchSpec, target: str, table: Path) -> tuple[dict[str, int | bool], str]:
    """The tile that a product is compiled with, as fields, and where it comes from."""
    with ir.Context() as context, ir.Location.unknown():
        bit.load(context)
        module = compiler.build_module(spec)
        tables = quoted_path(str(table))
        run_pipeline(module, f"bit-decompose{{target={target}}},choose-tiles{{target={target} tables={{{tables}}}}}")
        (op,) = choose_tiles.plane_products(module.operation)
        return read_fields(op.attributes["tile"]), ir.StringAttr(op.attributes[choose_tiles.SOURCE]).value


def tile_source(spec: MatmulSpec, target: str, table: Path) -> str:
    return chosen(spec, target, table)[1]


# --- files -----------------------------------------------------------------------------------------


def test_a_table_comes_back_from_its_file_whole(tmp_path: Path) -> None:
    TABLE.save(tmp_path / "deep" / "table.json")
    assert TuningTable.load(tmp_path / "deep" / "table.json") == TABLE
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["table.json"]


def test_a_new_entry_replaces_the_one_for_the_same_workload_alone() -> None:
    other = Entry(dataclasses.replace(WORK, k=301), TILE, 1e-6)
    newer = Entry(WORK, {**TILE, "stages": 4}, 2e-6)
    merged = TABLE.merged([other]).merged([newer])
    assert merged.entries == (newer, other)
    assert merged.digest != TABLE.digest


def test_a_table_finds_the_same_and_near_problems_of_a_class() -> None:
    assert TABLE.find(WORK) == TABLE.entries[0]
    assert TABLE.find(dataclasses.replace(WORK, m=131)) is None
    assert TABLE.near(dataclasses.replace(WORK, m=131)) == [TABLE.entries[0]]
    for changed in (
        {"m": 261},
        {"m": 200, "n": 320},
        {"out": "f16"},
        {"rhs_planes": 2},
        {"chains": (2,)},
        {"reads": 4},
    ):
        assert TABLE.near(dataclasses.replace(WORK, **changed)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"format": "1"},
        {"format": None},
        {"device": {}},
        {"device": "NVIDIA H200"},
        {"entries": 3},
        {"source": "\ud800"},
    ],
)
def test_a_file_that_is_no_table_is_refused_by_name(tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / "t.json").write_text(json.dumps(json.loads(TABLE.to_json()) | change))
    with pytest.raises(InputError, match=r"t\.json is not a tuning table .*: remove it, or write it anew"):
        TuningTable.load(tmp_path / "t.json")


@pytest.mark.parametrize(
    "change",
    [
        {"tile": None},
        {"tile": {"rows": "64"}},
        {"tile": {"rows": 64.0}},
        {"tile": {"rows": -64}},
        {"tile": {"rows": 10**30}},
        {"seconds": "soon"},
        {"seconds": float("nan")},
        {"seconds": 10**400},
        {"seconds": 0},
        {"workload": {}},
        {"workload": {**WORK.to_json(), "m": 0}},
        {"workload": {**WORK.to_json(), "m": 10**30}},
        {"workload": {**WORK.to_json(), "m": "8"}},
        {"workload": {**WORK.to_json(), "m": 8.0}},
        {"workload": {**WORK.to_json(), "size": 8}},
        {"workload": {**WORK.to_json(), "chains": [2**40]}},
        {"workload": {**WORK.to_json(), "reads": -1}},
        {"workload": {**WORK.to_json(), "groups": 10**30}},
        {"workload": {**WORK.to_json(), "window": [1] * 12}},
        {"workload": {**WORK.to_json(), "window": 3}},
        {"workload": {**WORK.to_json(), "kind": "conv2d"}},
        {"workload": {**WORK.to_json(), "kind": "conv2d", "window": [1] * 11}},
        {"workload": {**WORK.to_json(), "kind": "conv2d", "window": [1] * 11 + [-1]}},
        {"workload": {**WORK.to_json(), "kind": "conv2d", "window": [1] * 11 + ["1"]}},
    ],
)
def test_an_entry_that_is_none_is_left_out_with_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, Any]
) -> None:
    table = json.loads(TABLE.to_json())
    table["entries"].insert(0, table["entries"][0] | change)
    (tmp_path / "t.json").write_text(json.dumps(table))
    assert TuningTable.load(tmp_path / "t.json") == TuningTable.load(tmp_path / "t.json") == TABLE
    (message,) = caplog.messages
    assert message.startswith(f"the tuning table {tmp_path / 't.json'}: 1 of 2 entries is ignored; the first because")


def test_a_table_of_nothing_but_damage_is_one_line_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = json.loads(SHIPPED.to_json())
    for number, entry in enumerate(table["entries"]):
        entry["seconds"] = -number
    (tmp_path / "t.json").write_text(json.dumps(table))
    assert TuningTable.load(tmp_path / "t.json").entries == ()
    count = len(SHIPPED.entries)
    assert caplog.messages == [
        f"the tuning table {tmp_path / 't.json'}: {count} of {count} entries are ignored; the first because of "
        "ValueError('seconds must be a number above 0, but are 0.0')"
    ]


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.json").write_bytes(content)
    with pytest.raises(InputError, match=r"t\.json is not a tuning table"):
        TuningTable.load(tmp_path / "t.json")


def test_a_newer_file_asks_for_a_newer_bitmlir(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps({"format": FORMAT + 1}))
    with pytest.raises(
        InputError, match=rf"has format {FORMAT + 1}, but this bitmlir reads up to {FORMAT}: upgrade it"
    ):
        TuningTable.load(tmp_path / "t.json")


def test_a_table_that_cannot_be_written_or_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write the tuning table"):
        TABLE.save(tmp_path / "file" / "t.json")
    with pytest.raises(InputError, match="cannot read the tuning table"):
        TuningTable.load(tmp_path / "nothing.json")


# --- which tables count ------------------------------------------------------------------------------


def test_tables_are_looked_into_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    TABLE.save(tmp_path / "named.json")
    TABLE.save(tuning.user_table_path("NVIDIA H200"))
    monkeypatch.setenv("BITMLIR_TUNING", str(tmp_path / "named.json"))
    assert [source.path.name for source in tuning.tables_for(HOPPER)] == ["named.json", "nvidia-h200.json", "h200.json"]
    assert tuning.tables_for(get_target("cpu")) == ()
    assert tuning.tables_for(get_target("sm_80")) == ()  # there are no entries for it


def test_a_table_of_another_device_is_ignored_with_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    TABLE.save(tmp_path / "named.json")
    monkeypatch.setenv("BITMLIR_TUNING", str(tmp_path / "named.json"))
    present(monkeypatch, "NVIDIA H100")
    with caplog.at_level(logging.WARNING, "bitmlir"):
        assert tuning.tables_for(HOPPER) == ()
    assert caplog.messages == [
        f"the tuning table {tmp_path / 'named.json'} is of NVIDIA H200, not of NVIDIA H100: ignored for sm_90a"
    ]


def test_a_gpu_that_the_target_is_not_for_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    present(monkeypatch, "NVIDIA A100", (8, 0))
    assert [source.path.name for source in tuning.tables_for(HOPPER)] == ["h200.json"]


def test_the_variable_must_name_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BITMLIR_TUNING", str(tmp_path))
    with pytest.raises(InputError, match=r"BITMLIR_TUNING='.*': it is a folder: name a table in it"):
        compiler.compile(SPEC, "sm_90a")
    monkeypatch.setenv("BITMLIR_TUNING", str(tmp_path / "nothing.json"))
    with pytest.raises(InputError, match=r"BITMLIR_TUNING='.*nothing\.json': there is no such file"):
        compiler.compile(SPEC, "sm_90a")


@pytest.mark.parametrize("is_named", [False, True], ids=["in the cache folder", "by the variable"])
@pytest.mark.parametrize("content", [b"{", b'{"format": 1}', b"\xff"])
def test_a_table_that_cannot_be_read_is_left_out_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_named: bool, content: bytes
) -> None:
    path = tuning.user_table_path("mine")
    path = path.with_suffix(".table") if is_named else path
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    if is_named:
        monkeypatch.setenv("BITMLIR_TUNING", str(path))
    assert [source.path.name for source in tuning.tables_for(HOPPER)] == ["h200.json"]
    (message,) = caplog.messages
    assert message.startswith(f"{path} is not a tuning table")
    assert message.endswith(": ignored")


def test_a_folder_among_the_tables_is_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    tuning.user_table_path("mine").mkdir(parents=True)
    assert [source.path.name for source in tuning.tables_for(HOPPER)] == ["h200.json"]
    assert "cannot read the tuning table" in caplog.text


# --- compiling ---------------------------------------------------------------------------------------


def test_compiling_takes_the_tile_in_the_table_and_caches_by_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    TABLE.save(tmp_path / "t.json")
    by_model = compiler.compile(SPEC, "sm_90a")
    monkeypatch.setenv("BITMLIR_TUNING", str(tmp_path / "t.json"))
    tuned = compiler.compile(SPEC, "sm_90a")
    by_hand = compiler.compile(SPEC, "sm_90a", tile="rows=64,columns=32,stages=4")
    assert by_model.explain().launches[0].tile_source == "cost model"
    assert tuned.explain().launches[0].tile_source == "tuned: t.json, NVIDIA H200, 2026-11-21, 3 µs"
    assert tile_of(str(tuned.emit("planes"))) == "{columns = 48 : i64, rows = 64 : i64, stages = 3 : i64}"
    assert tile_of(str(by_hand.emit("planes"))) == "{columns = 32 : i64, rows = 64 : i64, stages = 4 : i64}"
    TABLE.merged([Entry(WORK, {**TILE, "stages": 5}, 1e-6)]).save(tmp_path / "t.json")
    assert "stages=5" in str(compiler.compile(SPEC, "sm_90a").explain())


@pytest.mark.parametrize("name", ["a b.json", "a:b.json", "{a}.json", "}.json", "'a\".json", "50%20.json", "é,\n.json"])
def test_a_table_is_found_whatever_characters_its_path_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    TABLE.save(tmp_path / name / name)
    monkeypatch.setenv("BITMLIR_TUNING", str(tmp_path / name / name))
    tuned = compiler.compile(SPEC, "sm_90a").explain().launches[0]
    assert tuned.tile_source == f"tuned: {name}, NVIDIA H200, 2026-11-21, 3 µs"


def test_a_path_that_is_no_text_is_shown_as_far_as_it_can_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.json"))
    TABLE.save(path)
    monkeypatch.setenv("BITMLIR_TUNING", str(path))
    source = compiler.compile(SPEC, "sm_90a").explain().launches[0].tile_source
    assert source == "tuned: \ufffd.json, NVIDIA H200, 2026-11-21, 3 µs"


def test_the_cache_tells_tables_of_other_names_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("one.json", "two.json"):
        TABLE.save(tmp_path / name)
        monkeypatch.setenv("BITMLIR_TUNING", str(tmp_path / name))
        source = compiler.compile(SPEC, "sm_90a").explain().launches[0].tile_source
        assert source == f"tuned: {name}, NVIDIA H200, 2026-11-21, 3 µs"


@pytest.mark.parametrize(
    ("tile", "reason"),
    [
        ({"rows": 64}, "a tile for sm_90a needs its columns and stages, as in rows=64,columns=256,stages=4,alternate"),
        (
            {"rows": 64, "columns": 4096, "stages": 3},
            "the tile rows=64,columns=4096,stages=3 is not possible here: wgmma has no n of 4096: expected 8, 16, 24, "
            "32 or a multiple of 16 up to 256",
        ),
        ({"depth": 3}, "a tile for sm_90a has no field 'depth': expected rows, columns, stages, "),
    ],
)
def test_a_tile_that_kernels_no_longer_have_is_passed_over_with_one_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    tile: dict[str, int | bool],
    reason: str,
) -> None:
    path = tmp_path / "t.json"
    TuningTable(TABLE.device, "", (Entry(WORK, tile, 3e-6),)).save(path)
    with caplog.at_level(logging.INFO, "bitmlir"):
        sources = [tile_source(SPEC, "sm_90a", path) for _ in range(2)]
    assert sources == ["cost model"] * 2
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"the tuning table {path}: the tile for 130x200x300 is ignored: {reason}")


def test_a_tile_is_refused_where_there_are_none() -> None:
    with pytest.raises(InputError, match="tiles are for GPU kernels, but the target is 'cpu'"):
        compiler.compile(SPEC, "cpu", tile="rows=64,columns=32,stages=4")


# --- the shipped table -------------------------------------------------------------------------------


def test_the_shipped_table_says_what_it_was_measured_on_and_how() -> None:
    assert SHIPPED.device_name == "NVIDIA H200"
    assert SHIPPED.source
    assert all(entry.details["date"] and entry.details["timings"] for entry in SHIPPED.entries)
    assert len({entry.workload for entry in SHIPPED.entries}) == len(SHIPPED.entries)


def test_each_shipped_tile_is_the_fastest_of_those_that_were_measured() -> None:
    for entry in SHIPPED.entries:
        medians = [(median(t["seconds"]), t["tile"]) for t in entry.details["timings"] if "seconds" in t]
        assert (entry.seconds, entry.tile) in medians
        assert entry.seconds == pytest.approx(min(seconds for seconds, _ in medians), rel=1e-12)  # of a tie, either


def test_large_products_of_signs_are_compiled_by_the_shipped_table() -> None:
    spec = MatmulSpec(8192, 8192, 8192, "bipolar", "bipolar")
    workload, ranked = candidates(spec, HOPPER)
    entry = SHIPPED.find(workload)
    assert entry is not None
    shape = {name: value for name, value in entry.tile.items() if name != "band"}
    assert any(shape.items() <= candidate.tile.items() for candidate in ranked)


def test_nothing_was_faster_than_the_model_says_is_possible() -> None:
    for entry in SHIPPED.entries:
        machine = MACHINES[entry.workload.target]
        assert entry.seconds > machine.launch_seconds
        if not entry.workload.sparse:
            assert entry.seconds > entry.workload.operations / machine.operations_per_second


def test_every_shipped_tile_is_legal_and_what_its_problem_is_compiled_with() -> None:
    for entry in SHIPPED.entries:
        spec = spec_of(entry.details["problem"])
        tile, source = chosen(spec, entry.workload.target, SHIPPED_FILE)
        took = f"{round(entry.seconds * 1e6, 2):.8g} µs"
        assert (tile, source) == (entry.tile, f"tuned: h200.json, NVIDIA H200, {entry.details['date'][:10]}, {took}"), (
            spec
        )
