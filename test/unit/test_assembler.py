"""PTX to cubin: every tool that is here, the order in which they are tried, and what a refusal says."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from bitmlir import assembler
from bitmlir.assembler import Resources, assemble, find_assembler, resources
from bitmlir.dialects.errors import AssemblerError, InputError

GOOD = b"""
.version 8.0
.target sm_80
.address_size 64
.visible .entry store(.param .u64 p_out)
{
  .reg .b32 %r<2>;
  .reg .b64 %rd<2>;
  .shared .align 4 .b8 tile[1024];
  ld.param.u64 %rd1, [p_out];
  mov.u32 %r1, %tid.x;
  st.shared.u32 [tile], %r1;
  ld.shared.u32 %r1, [tile+4];
  st.global.u32 [%rd1], %r1;
  ret;
}
.visible .entry nothing() { ret; }
"""
BAD = GOOD.replace(b"mov.u32 %r1, %tid.x", b"move.u32 %r1, %tid.x")
BAD_LINE = 1 + BAD[: BAD.index(b"move")].count(b"\n")
ELF = b"\x7fELF"


def tool(kind: type) -> assembler._Tool:
    found = next((tool for tool in assembler._tools() if isinstance(tool, kind)), None)
    return found or pytest.skip(f"this machine has no {kind.__name__.strip('_').lower()}")


KINDS = pytest.mark.parametrize("kind", [assembler._Ptxas, assembler._NvJitLink], ids=["ptxas", "nvjitlink"])


def fake_ptxas(folder, body: str) -> str:
    """A program called ptxas, of version 11.0, that runs `body` when it is to assemble."""
    path = folder / "ptxas"
    path.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo V11.0.1; exit 0; fi\n{body}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.fixture
def no_tools(monkeypatch, tmp_path):
    """A machine without any assembler."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("BITMLIR_PTXAS", raising=False)
    monkeypatch.setattr(assembler, "_wheel_ptxas", lambda: None)
    monkeypatch.setattr(assembler, "_nvjitlink_version", lambda: None)


def test_this_machine_has_an_assembler():
    assert find_assembler(), "without one, none of the tests that assemble can run: pip install 'bitmlir[test,cuda]'"


@KINDS
def test_a_tool_makes_a_cubin_and_says_what_the_kernels_take(kind):
    made = tool(kind).assemble(GOOD, "sm_80")
    assert made.cubin.startswith(ELF)
    assert made.tool == tool(kind).name
    taken = resources(made.log)
    assert taken.keys() == {"store", "nothing"}
    assert taken["store"].registers > 0
    assert (taken["store"].shared_bytes, taken["store"].spill_bytes) == (1024, 0)
    assert (taken["nothing"].shared_bytes, taken["nothing"].spill_bytes) == (0, 0)


@KINDS
def test_a_tool_refuses_bad_ptx_with_its_own_words(kind):
    with pytest.raises(assembler._Refused, match=rf"line {BAD_LINE}; error.*\n*.*'?move'?"):
        tool(kind).assemble(BAD, "sm_80")


@KINDS
def test_an_unknown_chip_reads_as_a_tool_that_is_too_old(kind):
    with pytest.raises(assembler._Refused) as refusal:
        tool(kind).assemble(GOOD, "sm_999")
    assert assembler._TOO_OLD.search(str(refusal.value))


@KINDS
def test_a_ptx_version_of_the_future_reads_as_a_tool_that_is_too_old(kind):
    with pytest.raises(assembler._Refused) as refusal:
        tool(kind).assemble(GOOD.replace(b".version 8.0", b".version 99.0"), "sm_80")
    assert assembler._TOO_OLD.search(str(refusal.value))


def test_assemble_uses_the_tool_that_find_assembler_names():
    if find_assembler() is None:
        pytest.skip("this machine has no assembler")
    assert assemble(GOOD, "sm_80").tool == find_assembler()


def test_a_refusal_names_tool_and_chip_and_quotes_the_line():
    if find_assembler() is None:
        pytest.skip("this machine has no assembler")
    with pytest.raises(AssemblerError) as error:
        assemble(BAD, "sm_86")
    message = str(error.value)
    assert message.startswith(f"{find_assembler()} refused the PTX for sm_86:\n")
    assert message.endswith(f"  line {BAD_LINE}: move.u32 %r1, %tid.x;")


def test_only_the_first_few_of_many_bad_lines_are_quoted():
    log = "\n".join(f"ptxas kernel.ptx, line {n}; error   : bad" for n in (3, 3, 2, 9, 4, 1))
    assert assembler._quote(b"a\nb\nc\nd\n", log) == ["  line 3: c", "  line 2: b", "  line 4: d"]


def test_without_a_tool_the_error_says_what_was_looked_for_and_what_to_install(no_tools):
    assert find_assembler() is None
    with pytest.raises(AssemblerError, match=r"no PTX assembler found: .*PATH.*pip install 'bitmlir\[cuda\]'"):
        assemble(GOOD, "sm_80")


def test_the_variable_comes_before_the_path(no_tools, monkeypatch, tmp_path):
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    fake_ptxas(tmp_path, "echo one of the path; exit 1")
    assert find_assembler() == "ptxas 11.0.1"
    monkeypatch.setenv("BITMLIR_PTXAS", fake_ptxas(chosen, "echo the chosen one; exit 1"))
    with pytest.raises(AssemblerError, match="the chosen one"):
        assemble(GOOD, "sm_80")


def test_the_ptxas_of_the_nvcc_wheel_is_found(monkeypatch, tmp_path):
    folder = tmp_path / "nvidia" / "cu13" / "bin"
    folder.mkdir(parents=True)
    path = fake_ptxas(folder, "exit 1")
    monkeypatch.syspath_prepend(tmp_path)
    assert assembler._wheel_ptxas() == Path(path)


def test_a_variable_that_names_no_program_is_an_error_naming_it(monkeypatch, tmp_path):
    monkeypatch.setenv("BITMLIR_PTXAS", str(tmp_path / "none"))
    for use in (find_assembler, lambda: assemble(GOOD, "sm_80")):
        with pytest.raises(InputError, match=r"BITMLIR_PTXAS='.*none'.*expected the path of a ptxas"):
            use()


def test_a_tool_too_old_for_the_chip_is_passed_over_with_a_note(monkeypatch, tmp_path, caplog):
    second = tool(assembler._NvJitLink)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(assembler, "_wheel_ptxas", lambda: None)
    fake_ptxas(tmp_path, "echo \"ptxas fatal   : Value 'sm_80' is not defined for option 'gpu-name'\"; exit 255")
    with caplog.at_level("INFO", "bitmlir"):
        assert assemble(GOOD, "sm_80").tool == second.name
    assert "ptxas 11.0.1 is too old for sm_80" in caplog.text


def test_a_refusal_that_is_not_about_age_does_not_try_another_tool(no_tools, monkeypatch, tmp_path):
    fake_ptxas(tmp_path, "exit 3")
    monkeypatch.setattr(assembler, "_nvjitlink_version", lambda: pytest.fail("the next tool was tried"))
    with pytest.raises(AssemblerError, match=r"ptxas 11\.0\.1 refused the PTX for sm_80:\nexit status 3"):
        assemble(GOOD, "sm_80")


def test_a_program_that_does_not_run_is_passed_over(no_tools, tmp_path, caplog):
    broken = tmp_path / "ptxas"
    broken.write_bytes(b"\0not a program")
    broken.chmod(0o755)
    assert find_assembler() is None
    assert f"cannot run {broken}" in caplog.text


def test_resources_add_up_the_spills_of_a_kernel_and_what_it_calls():
    log = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'a' for 'sm_90a'
ptxas info    : Function properties for a
    8 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 168 registers, used 9 barriers, 8 bytes cumulative stack size, 1024 bytes smem, 528 bytes cmem[0]
ptxas info    : Function properties for helper
    0 bytes stack frame, 16 bytes spill stores, 0 bytes spill loads
ptxas info    : Compiling entry function 'b' for 'sm_90a'
ptxas info    : Function properties for b
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 0 barriers
info    : used 168 registers, used 9 barriers, 0 stack, 1024 bytes smem, 528 bytes cmem[0], 0 bytes lmem
"""
    assert resources(log) == {"a": Resources(168, 28, 1024), "b": Resources(40, 0, 0)}


def test_no_file_is_left_behind(monkeypatch, tmp_path):
    ptxas = tool(assembler._Ptxas)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ptxas.assemble(GOOD, "sm_80")
    with pytest.raises(assembler._Refused):
        ptxas.assemble(BAD, "sm_80")
    assert os.listdir(tmp_path) == []
