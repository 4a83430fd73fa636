"""The bundle file: it comes back as it was saved, or is refused with a reason."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import zipfile

import pytest

from bitmlir import __version__
from bitmlir.dialects.errors import BundleError, InputError
from bitmlir.runtime.bundle import FORMAT, STAGES, Bundle, _manifest_digest
from bitmlir.runtime.plan import Buffer, Launch, Memset, Plan, TensorMap, Value

PLAN = Plan(
    name="product",
    target="sm_90a",
    arguments=(Value("x", "packed", (3, 5), {"planes": "x_planes", "sums": "x_sums"}, encoding="bipolar"),),
    results=(Value("y", "array", (3, 3), {"values": "y"}, dtype="i32"),),
    buffers=(Buffer("x_planes", "i32", (1, 3, 4)), Buffer("x_sums", "i32", (3,)), Buffer("y", "i32", (3, 3))),
    steps=(Memset("y"), Launch("kernel", (1, 2, 3), (384, 1, 1), 65536, (TensorMap("x_planes", (32, 64, 1)), "y"))),
)
BUNDLE = Bundle(PLAN, {"bit": b"module {}\n", "ptx": b".version 8.0\n" * 9, "cubin": bytes(range(256))}, {"mlir": "22"})


def with_manifest(change) -> bytes:
    """The bundle's file with its manifest replaced by `change(manifest)`, which may be text."""
    with zipfile.ZipFile(io.BytesIO(BUNDLE.to_bytes())) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    changed = change(json.loads(members["manifest.json"]))
    members["manifest.json"] = changed if isinstance(changed, (bytes, str)) else json.dumps(changed)
    return zipped(members)


def zipped(members) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def test_a_saved_bundle_loads_as_it_was(tmp_path):
    BUNDLE.save(tmp_path / "k.bitmlir")
    assert Bundle.load(tmp_path / "k.bitmlir") == BUNDLE


def test_a_path_may_be_a_string(tmp_path):
    path = str(tmp_path / "k.bitmlir")
    BUNDLE.save(path)
    assert Bundle.load(path) == BUNDLE


def test_a_bundle_with_every_stage_keeps_each_under_its_own_name():
    bundle = Bundle(PLAN, {level: level.encode() for level in STAGES})
    with zipfile.ZipFile(io.BytesIO(bundle.to_bytes())) as archive:
        assert {name: archive.read(name) for name in STAGES.values()} == {p: s.encode() for s, p in STAGES.items()}
    assert Bundle.from_bytes(bundle.to_bytes()) == bundle


def test_an_unknown_stage_is_refused_when_the_bundle_is_made():
    with pytest.raises(InputError, match="unknown stage 'sass': expected one of bit, planes"):
        Bundle(PLAN, {"sass": b""})


def test_equal_bundles_are_equal_bytes_however_their_stages_are_ordered():
    reordered = Bundle(PLAN, dict(reversed(BUNDLE.stages.items())), dict(BUNDLE.versions))
    assert reordered.to_bytes() == BUNDLE.to_bytes()


def test_the_manifest_says_format_version_and_target():
    with zipfile.ZipFile(io.BytesIO(BUNDLE.to_bytes())) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    assert (manifest["format"], manifest["bitmlir"], manifest["target"]) == (FORMAT, __version__, "sm_90a")


def test_saving_to_a_link_writes_what_it_points_to(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link.bitmlir").symlink_to(tmp_path / "there" / "k.bitmlir")
    BUNDLE.save(tmp_path / "link.bitmlir")
    assert (tmp_path / "link.bitmlir").is_symlink()
    assert Bundle.load(tmp_path / "there" / "k.bitmlir") == BUNDLE


def test_saving_replaces_the_old_file_and_leaves_no_other(tmp_path):
    (tmp_path / "k.bitmlir").write_bytes(b"old")
    BUNDLE.save(tmp_path / "k.bitmlir")
    assert os.listdir(tmp_path) == ["k.bitmlir"]
    assert Bundle.load(tmp_path / "k.bitmlir") == BUNDLE


def test_a_save_that_fails_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch):
    (tmp_path / "k.bitmlir").write_bytes(b"old")

    def disk_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", disk_full)
    with pytest.raises(BundleError, match=r"cannot write bundle .*k\.bitmlir: No space left on device"):
        BUNDLE.save(tmp_path / "k.bitmlir")
    assert os.listdir(tmp_path) == ["k.bitmlir"]
    assert (tmp_path / "k.bitmlir").read_bytes() == b"old"


def test_saving_into_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(BundleError, match=r"cannot write bundle .*No such file or directory"):
        BUNDLE.save(tmp_path / "missing" / "k.bitmlir")


@pytest.mark.parametrize("path", [None, 5, b"k.bitmlir"])
def test_a_path_that_is_none_is_refused(path):
    with pytest.raises(BundleError, match=rf"expected the path of a bundle, got {type(path).__name__}"):
        BUNDLE.save(path)
    with pytest.raises(BundleError, match=rf"expected the path of a bundle, got {type(path).__name__}"):
        Bundle.load(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BundleError, match=r"cannot read bundle .*none\.bitmlir: No such file"):
        Bundle.load(tmp_path / "none.bitmlir")


def test_a_folder_is_not_a_bundle(tmp_path):
    with pytest.raises(BundleError, match=r"cannot read bundle .*: Is a directory"):
        Bundle.load(tmp_path)


def test_another_kind_of_file_is_not_a_bundle():
    with pytest.raises(BundleError, match=r"x\.txt is not a bundle: expected a \.bitmlir file"):
        Bundle.from_bytes(b"some text", "x.txt")


def test_a_zip_without_a_manifest_is_not_a_bundle():
    with pytest.raises(BundleError, match=r"is not a bundle: it is a zip without manifest\.json"):
        Bundle.from_bytes(zipped({"stages/kernel.ptx": b""}))


def test_a_bundle_cut_off_anywhere_is_refused():
    data = BUNDLE.to_bytes()
    for length in range(len(data)):
        with pytest.raises(BundleError, match="truncated"):
            Bundle.from_bytes(data[:length])


def test_no_changed_bit_gives_another_bundle():
    # Some bits, such as the time stamps, say nothing: then the bundle must be the same.
    data = BUNDLE.to_bytes()
    refused = 0
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            assert Bundle.from_bytes(bytes(changed)) == BUNDLE
        except BundleError:
            refused += 1
    assert refused > 4 * len(data)


def test_a_replaced_member_is_named():
    manifest_of = zipfile.ZipFile(io.BytesIO(BUNDLE.to_bytes()))
    members = {name: manifest_of.read(name) for name in manifest_of.namelist()}
    with pytest.raises(BundleError, match=r"altered: its member stages/kernel\.ptx is not the one that was saved"):
        Bundle.from_bytes(zipped({**members, "stages/kernel.ptx": b".version 8.1"}))
    with pytest.raises(BundleError, match=r"altered: its member extra is not the one"):
        Bundle.from_bytes(zipped({**members, "extra": b""}))
    del members["stages/kernel.cubin"]
    with pytest.raises(BundleError, match=r"altered: its member stages/kernel\.cubin is missing"):
        Bundle.from_bytes(zipped(members))


@pytest.mark.parametrize(
    ("field", "value"), [("target", "sm_80"), ("versions", {}), ("members", {}), ("format", 0), ("plan", {})]
)
def test_an_edited_manifest_is_refused(field, value):
    with pytest.raises(BundleError, match=r"altered: its manifest\.json is not the one that was saved"):
        Bundle.from_bytes(with_manifest(lambda manifest: {**manifest, field: value}))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', "{}", '{"format": "one"}', '{"format": null}'])
def test_a_malformed_manifest_is_refused(text):
    with pytest.raises(BundleError, match=r"malformed manifest\.json"):
        Bundle.from_bytes(with_manifest(lambda _: text))


def test_a_newer_format_says_who_made_it_and_what_to_do():
    newer = with_manifest(lambda manifest: {"format": FORMAT + 1, "bitmlir": "9.8", "anything": "else"})
    message = rf"made by bitmlir 9\.8 with bundle format {FORMAT + 1}; .* reads formats up to {FORMAT}: upgrade"
    with pytest.raises(BundleError, match=message):
        Bundle.from_bytes(newer)


def in_format(number: int, change) -> bytes:
    """The bundle's file as an earlier bitmlir wrote it: its plan as `change(plan)` leaves it."""
    with zipfile.ZipFile(io.BytesIO(BUNDLE.to_bytes())) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members["manifest.json"])
    del manifest["sha256"]
    manifest["format"] = number
    change(manifest["plan"])
    manifest["sha256"] = _manifest_digest(manifest)
    return zipped({**members, "manifest.json": json.dumps(manifest)})


def without_what_is_new_in_format_4(plan) -> None:
    del plan["constants"], plan["setup"]
    for buffer in plan["buffers"]:
        del buffer["offset"]
    for step in plan["steps"]:
        step.get("launch", {}).pop("writes", None)


def test_a_bundle_of_the_third_format_has_neither_constants_nor_shared_memory():
    assert Bundle.from_bytes(in_format(3, without_what_is_new_in_format_4)) == BUNDLE


def test_a_bundle_of_the_first_format_has_neither_clusters_nor_overlap():
    def change(plan) -> None:
        without_what_is_new_in_format_4(plan)
        (launch,) = (step["launch"] for step in plan["steps"] if "launch" in step)
        del launch["cluster"], launch["overlap_previous"], launch["persistent"]

    assert Bundle.from_bytes(in_format(1, change)) == BUNDLE


def test_clusters_and_overlap_are_kept():
    launch = Launch("kernel", (4, 1, 1), (128, 1, 1), 0, ("y",), cluster=(2, 1, 1), overlap_previous=True)
    saved = Bundle(dataclasses.replace(PLAN, steps=(launch,)), {})
    assert Bundle.from_bytes(saved.to_bytes()).plan.steps == (launch,)
