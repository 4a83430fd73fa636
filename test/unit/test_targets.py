"""The targets: what each one has, how one is found by name or by a GPU's capability, and what "auto" picks."""

from __future__ import annotations

import re

import pytest

from bitmlir import compiler
from bitmlir.dialects.errors import TargetError
from bitmlir.lowering.gpu.mma_tile import MmaTile
from bitmlir.lowering.gpu.wgmma import WgmmaTile
from bitmlir.lowering.instructions import INSTRUCTIONS, wgmma
from bitmlir.lowering.targets import TARGETS, Target, get_target, target_for_capability
from bitmlir.runtime.driver import Device

NAMES = ["cpu", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_90a", "sm_100a", "sm_120"]
GPUS = [target for target in TARGETS.values() if target.is_gpu]


def name_of(target: Target) -> str:
    return target.name


def test_these_are_the_targets() -> None:
    assert list(TARGETS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_target_is_found_by_its_name(name: str) -> None:
    target = get_target(name)
    assert target.name == name
    assert target.is_gpu == (name != "cpu")
    assert target.summary
    assert set(target.operations) <= {"and", "xor"}


@pytest.mark.parametrize("target", GPUS, ids=name_of)
def test_the_name_of_a_chip_is_its_capability(target: Target) -> None:
    assert target.capability is not None
    major, minor = target.capability
    assert re.fullmatch(rf"sm_{major}{minor}a?", target.name)
    assert target.forward_compatible != target.name.endswith("a")


@pytest.mark.parametrize("target", GPUS, ids=name_of)
def test_every_chip_has_an_instruction_with_its_operations(target: Target) -> None:
    """PTX ISA, mma for .b1: m8n8k128 with XOR since sm_75, m16n8k256 and AND since sm_80, XOR removed after sm_89.

    Since sm_100 all of it is a routine of the assembler.
    """
    assert target.instruction in {*INSTRUCTIONS, wgmma(8).name}
    assert target.capability is not None
    expected = {(7, 5): {"xor"}, (8, 0): {"xor", "and"}, (8, 6): {"xor", "and"}, (8, 9): {"xor", "and"}}
    assert set(target.operations) == expected.get(target.capability, {"and"})
    assert (target.instruction == "mma.m8n8k128") == (target.capability < (8, 0))
    assert (target.instruction == "wgmma.k256") == (target.name == "sm_90a")
    assert (target.instruction == "mma.m16n8k32.u8") == (target.capability >= (10, 0))


@pytest.mark.parametrize("target", GPUS, ids=name_of)
def test_the_smallest_tiles_fit_into_the_chips_shared_memory(target: Target) -> None:
    stages = 2 if target.copy == "load" else 4
    assert MmaTile(64, 64, 32, 32, stages=stages).shared_bytes <= target.shared_bytes
    if target.copy == "tma":
        assert 4 * WgmmaTile(128, 256, 4).stage_bytes <= target.shared_bytes


# --- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"), [("sm90a", "sm_90a"), ("90a", "sm_90a"), ("SM_80", "sm_80"), ("sm_100", "sm_100a")]
)
def test_an_unknown_name_is_refused_with_the_known_ones_and_the_closest(name: str, meant: str) -> None:
    known = ", ".join(NAMES)
    message = f"unknown target '{name}': expected one of {known}, or 'auto'; did you mean '{meant}'?"
    with pytest.raises(TargetError, match=f"^{re.escape(message)}$"):
        get_target(name)


def test_a_name_like_no_other_gets_no_suggestion() -> None:
    with pytest.raises(TargetError, match=r"or 'auto'$"):
        get_target("opencl")


@pytest.mark.parametrize("name", ["", None, 90, "sm_90a "])
def test_what_is_no_name_is_refused(name: object) -> None:
    with pytest.raises(TargetError, match="unknown target"):
        get_target(name)  # type: ignore[arg-type]


# --- capabilities ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ((7, 5), "sm_75"),
        ((8, 0), "sm_80"),
        ((8, 6), "sm_86"),
        ((8, 7), "sm_86"),
        ((8, 9), "sm_89"),
        ((9, 0), "sm_90a"),
        ((10, 0), "sm_100a"),
        ((12, 0), "sm_120"),
    ],
)
def test_a_gpu_gets_the_best_target_it_can_run(capability: tuple[int, int], name: str) -> None:
    assert target_for_capability(*capability).name == name


@pytest.mark.parametrize("capability", [(10, 3), (11, 0), (12, 1), (13, 0)])
def test_a_gpu_that_came_later_gets_the_newest_target_whose_ptx_it_can_recompile(capability: tuple[int, int]) -> None:
    target = target_for_capability(*capability)
    assert target.forward_compatible
    assert target.capability == max(t.capability for t in GPUS if t.forward_compatible and t.capability <= capability)


@pytest.mark.parametrize("capability", [(7, 0), (6, 1), (3, 5)])
def test_a_gpu_older_than_every_target_is_refused(capability: tuple[int, int]) -> None:
    major, minor = capability
    with pytest.raises(TargetError, match=rf"compute capability {major}\.{minor} is older .*; use target='cpu'"):
        target_for_capability(*capability)


# --- auto ------------------------------------------------------------------------------------------


def device(capability: tuple[int, int]) -> Device:
    return Device(ordinal=0, name="a GPU", capability=capability, sm_count=1, shared_bytes=0, context=0)


@pytest.mark.parametrize(("capability", "name"), [((9, 0), "sm_90a"), ((8, 9), "sm_89"), ((12, 1), "sm_120")])
def test_auto_is_the_target_of_the_gpu_that_is_present(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], name: str
) -> None:
    monkeypatch.setattr(Device, "find", classmethod(lambda cls: device(capability)))
    assert compiler.resolve_target("auto").name == name


def test_auto_is_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "find", classmethod(lambda cls: None))
    assert compiler.resolve_target("auto").name == "cpu"


def test_a_name_is_taken_whatever_gpu_is_present(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "find", classmethod(lambda cls: device((9, 0))))
    assert compiler.resolve_target("sm_75").name == "sm_75"
    with pytest.raises(TargetError, match="unknown target 'sm_76'"):
        compiler.resolve_target("sm_76")
