"""The compile cache: what a key tells apart, and that nothing that happens to the folder gives a wrong bundle."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from bitmlir import cache as cache_module
from bitmlir.cache import Cache, cache_key
from bitmlir.runtime.bundle import Bundle
from bitmlir.runtime.plan import Plan


def bundle(name: str = "f", size: int = 0) -> Bundle:
    return Bundle(Plan(name, "sm_80", (), (), (), ()), {"cubin": os.urandom(size)})


class Counter:
    """A `create` that counts its calls."""

    def __init__(self, result: Bundle) -> None:
        self.result, self.calls = result, 0

    def __call__(self) -> Bundle:
        self.calls += 1
        return self.result


def never() -> Bundle:
    raise AssertionError("compiled again")


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture(autouse=True)
def _forget_warnings():
    cache_module._warn_unusable.cache_clear()


def test_a_bundle_is_made_once_and_then_read(cache):
    create = Counter(bundle())
    assert cache.get_or_create("key", create) == create.result
    assert cache.get_or_create("key", never) == create.result
    assert create.calls == 1


def test_different_keys_have_different_bundles(cache):
    assert cache.get_or_create("a", lambda: bundle("a")).plan.name == "a"
    assert cache.get_or_create("b", lambda: bundle("b")).plan.name == "b"
    assert cache.get_or_create("a", never).plan.name == "a"


def test_only_the_entry_is_left_in_the_folder(cache):
    cache.get_or_create("key", bundle)
    assert os.listdir(cache.folder) == ["key.bitmlir"]


def test_a_failed_compile_leaves_nothing_and_the_next_one_is_tried(cache):
    def fail() -> Bundle:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        cache.get_or_create("key", fail)
    assert os.listdir(cache.folder) == []
    assert cache.get_or_create("key", bundle).plan.name == "f"


@pytest.mark.parametrize("damage", [lambda data: data[:-30], lambda data: b"", lambda data: b"x" + data[1:]])
def test_a_damaged_entry_is_thrown_out_and_compiled_again(cache, caplog, damage):
    cache.get_or_create("key", bundle)
    entry = cache.folder / "key.bitmlir"
    entry.write_bytes(damage(entry.read_bytes()))
    create = Counter(bundle("again"))
    assert cache.get_or_create("key", create).plan.name == "again"
    assert str(entry) in caplog.text
    assert cache.get_or_create("key", never).plan.name == "again"


def test_switched_off_it_compiles_each_time_and_writes_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("BITMLIR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("BITMLIR_CACHE", "0")
    create = Counter(bundle())
    for _ in range(2):
        Cache.from_settings().get_or_create("key", create)
    assert create.calls == 2
    assert os.listdir(tmp_path) == []


def test_the_environment_says_where_it_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("BITMLIR_CACHE_DIR", str(tmp_path))
    cache = Cache.from_settings()
    cache.get_or_create("key", bundle)
    assert cache.folder is not None
    assert cache.folder.parent == tmp_path


def test_a_folder_that_cannot_be_made_costs_one_warning(tmp_path, caplog):
    (tmp_path / "file").touch()
    unusable = tmp_path / "file" / "cache"
    create = Counter(bundle())
    for key in ("a", "b"):
        assert Cache(unusable).get_or_create(key, create) == create.result
    assert create.calls == 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"cannot write the compile cache {unusable}" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every folder")
def test_a_read_only_folder_is_still_read(cache, caplog):
    kept = cache.get_or_create("kept", bundle)
    cache.folder.chmod(0o555)
    try:
        assert cache.get_or_create("kept", never) == kept
        assert cache.get_or_create("new", lambda: bundle("new")).plan.name == "new"
        assert "cannot write the compile cache" in caplog.text
    finally:
        cache.folder.chmod(0o755)


def test_a_full_disk_costs_a_warning_not_the_bundle(cache, caplog, monkeypatch):
    def disk_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", disk_full)
    assert cache.get_or_create("key", bundle).plan.name == "f"
    assert "No space left on device" in caplog.text
    assert os.listdir(cache.folder) == []


def test_trimming_keeps_what_was_used_last(tmp_path):
    size = 10_000
    cache = Cache(tmp_path, limit_bytes=3 * size + size // 2)
    for age, key in enumerate("abc"):
        cache.get_or_create(key, lambda: bundle(size=size))
        os.utime(tmp_path / f"{key}.bitmlir", (age, age))
    cache.get_or_create("a", never)  # used again: now `b` is the one used longest ago
    cache.get_or_create("d", lambda: bundle(size=size))
    assert sorted(os.listdir(tmp_path)) == ["a.bitmlir", "c.bitmlir", "d.bitmlir"]


def test_a_bundle_larger_than_the_limit_is_kept_until_the_next(tmp_path):
    cache = Cache(tmp_path, limit_bytes=10)
    for key in "ab":
        cache.get_or_create(key, bundle)
        assert os.listdir(tmp_path) == [f"{key}.bitmlir"]


def test_threads_that_want_the_same_key_compile_it_once(cache):
    create = Counter(bundle())
    together = threading.Barrier(4)
    results: list[Bundle] = []

    def slow_create() -> Bundle:
        time.sleep(0.2)
        return create()

    def work() -> None:
        together.wait()
        results.append(cache.get_or_create("key", slow_create))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [create.result] * 4
    assert create.calls == 1


PROCESS = """
import pathlib, sys, time
from bitmlir.cache import Cache
from bitmlir.runtime.bundle import Bundle
from bitmlir.runtime.plan import Plan

folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]

def create():
    (folder / f"made-by-{name}").touch()
    time.sleep(0.3)
    return Bundle(Plan(name, "sm_80", (), (), (), ()), {"cubin": bytes(100_000)})

(folder / f"ready-{name}").touch()
while not (folder / "go").exists():
    time.sleep(0.002)
print(Cache(folder / "cache").get_or_create("key", create).plan.name)
"""


def test_processes_that_want_the_same_key_compile_it_once(tmp_path):
    command = [sys.executable, "-c", PROCESS, str(tmp_path)]
    processes = [subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE, text=True) for n in range(4)]
    while len(list(tmp_path.glob("ready-*"))) < len(processes):
        assert {process.poll() for process in processes} == {None}
        time.sleep(0.01)
    (tmp_path / "go").touch()
    answers = {process.communicate()[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0] * len(processes)
    (maker,) = tmp_path.glob("made-by-*")
    assert answers == {maker.name.removeprefix("made-by-")}


def test_processes_that_die_while_they_compile_do_not_block_the_next(cache):
    death = "import os, pathlib, sys; from bitmlir.cache import Cache\n"
    death += "Cache(pathlib.Path(sys.argv[1])).get_or_create('key', lambda: os._exit(9))"
    dead = subprocess.run([sys.executable, "-c", death, str(cache.folder)], check=False)
    assert dead.returncode == 9
    assert cache.get_or_create("key", bundle).plan.name == "f"


def test_a_lock_held_too_long_is_not_waited_for(cache, monkeypatch, caplog):
    monkeypatch.setattr(cache_module, "_LONGEST_COMPILE_SECONDS", 0.05)
    cache.get_or_create("other", bundle)  # makes the folder
    with cache_module._locked(cache.folder / "key.bitmlir") as held:
        assert held
        assert cache.get_or_create("key", bundle).plan.name == "f"
    assert "compiling without it" in caplog.text


KEY = {"texts": ("module {}",), "options": {"target": "sm_80", "level": 3}, "tools": {"ptxas": "13.0"}}


def test_equal_inputs_have_equal_keys_in_every_process():
    code = f"from bitmlir.cache import cache_key; print(cache_key(**{KEY!r}))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert other.strip() == cache_key(**KEY)


def test_the_order_of_options_does_not_matter():
    assert cache_key(**{**KEY, "options": {"level": 3, "target": "sm_80"}}) == cache_key(**KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"texts": ("module { }",)},
        {"texts": ("module", " {}")},
        {"texts": ()},
        {"options": {"target": "sm_80", "level": "3"}},
        {"options": {"target": "sm_80"}},
        {"tools": {"ptxas": "13.1"}},
        {"tools": {"ptxas": None}},
    ],
)
def test_everything_that_matters_changes_the_key(change):
    assert cache_key(**{**KEY, **change}) != cache_key(**KEY)


def test_an_edited_source_file_changes_the_key(monkeypatch):
    before = cache_key(**KEY)
    monkeypatch.setattr(cache_module, "_source_digest", lambda: "edited")
    assert cache_key(**KEY) != before


def test_the_source_digest_covers_lowering_and_dialects(monkeypatch):
    monkeypatch.setattr(cache_module, "_source_digest", cache_module._source_digest.__wrapped__)
    whole = cache_module._source_digest()
    for left_out in ("bitmlir.dialects", "bitmlir.lowering"):
        rest = tuple(name for name in cache_module._COMPILER_PACKAGES if name != left_out)
        with monkeypatch.context() as patch:
            patch.setattr(cache_module, "_COMPILER_PACKAGES", rest)
            assert cache_module._source_digest() != whole
