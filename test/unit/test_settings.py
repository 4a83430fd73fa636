"""The environment variables: defaults, types, and the errors of malformed values."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bitmlir.dialects.errors import InputError
from bitmlir.settings import Settings, settings, table

NAMES = ["BITMLIR_CACHE_DIR", "BITMLIR_CACHE", "BITMLIR_TUNING", "BITMLIR_PTXAS", "BITMLIR_DUMP_DIR", "BITMLIR_DEBUG"]


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_an_empty_environment_gives_the_defaults():
    assert settings() == Settings()
    assert settings().cache
    assert not settings().debug
    assert settings().cache_dir.name == "bitmlir"


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_value_means_unset(monkeypatch, name):
    monkeypatch.setenv(name, "")
    assert settings() == Settings()


def test_every_variable_reaches_its_field(monkeypatch, tmp_path):
    values = {
        "CACHE_DIR": str(tmp_path),
        "CACHE": "0",
        "TUNING": "t.json",
        "PTXAS": "/opt/ptxas",
        "DUMP_DIR": "dumps",
        "DEBUG": "1",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"BITMLIR_{name}", value)
    assert settings() == Settings(
        cache_dir=tmp_path,
        cache=False,
        tuning=Path("t.json"),
        ptxas=Path("/opt/ptxas"),
        dump_dir=Path("dumps"),
        debug=True,
    )


def test_the_environment_is_read_at_each_call(monkeypatch):
    monkeypatch.setenv("BITMLIR_DEBUG", "1")
    assert settings().debug
    monkeypatch.setenv("BITMLIR_DEBUG", "0")
    assert not settings().debug


def test_a_tilde_stands_for_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("BITMLIR_CACHE_DIR", "~/cache")
    assert settings().cache_dir == Path("/home/somebody/cache")


@pytest.mark.parametrize("name", ["BITMLIR_CACHE", "BITMLIR_DEBUG"])
@pytest.mark.parametrize("value", ["2", "yes", "true", " 1"])
def test_a_switch_that_is_not_0_or_1_is_an_error_naming_variable_and_value(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=rf"{name}={value!r}.*expected 0 or 1"):
        settings()


@pytest.mark.parametrize("name", ["BITMLIR_CACHE_DIR", "BITMLIR_DUMP_DIR"])
def test_a_folder_that_is_a_file_is_an_error_naming_variable_and_value(monkeypatch, tmp_path, name):
    (tmp_path / "file").touch()
    monkeypatch.setenv(name, str(tmp_path / "file"))
    with pytest.raises(InputError, match=rf"{name}='.*file'.*expected a folder"):
        settings()


def test_the_table_has_a_row_with_name_value_and_meaning_for_each_field(monkeypatch):
    monkeypatch.setenv("BITMLIR_CACHE", "0")
    rows = table()
    assert [name for name, _, _ in rows] == NAMES
    assert len(rows) == len(dataclasses.fields(Settings))
    assert {name: value for name, value, _ in rows}["BITMLIR_CACHE"] == "0"
    assert all(meaning for _, _, meaning in rows)


def test_the_table_shows_a_wrong_value_with_what_is_expected(monkeypatch):
    monkeypatch.setenv("BITMLIR_CACHE", "maybe")
    values = {name: value for name, value, _ in table()}
    assert values["BITMLIR_CACHE"] == "'maybe': expected 0 or 1"
    assert values["BITMLIR_DEBUG"] == "0"


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings().debug = True  # type: ignore[misc]
