"""The programs that measure limits, as far as that goes without a GPU: what they hold, and what must come out."""

from __future__ import annotations

import re

import numpy as np
import pytest
from support import assembled

from bitmlir.assembler import find_assembler, resources
from bitmlir.compiler import lower
from bitmlir.dialects.errors import TargetError
from bitmlir.lowering.gpu.ceiling import empty_program, expected_sums, instruction_ceiling
from bitmlir.lowering.targets import TARGETS, get_target
from bitmlir.runtime.plan import Launch

CHIPS = [name for name, target in TARGETS.items() if target.is_gpu]
MULTIPROCESSORS, REPEATS = 132, 100


@pytest.mark.parametrize("chip", CHIPS)
def test_the_inner_loop_holds_matrix_instructions_and_nothing_that_waits_for_memory(chip: str) -> None:
    target = get_target(chip)
    ptx = lower(instruction_ceiling(target, MULTIPROCESSORS, REPEATS).text, target).stages["ptx"].decode()
    (begin, end) = next(
        (ptx.index(f"{match[1]}:"), match.end())
        for match in re.finditer(r"\bbra(?:\.uni)?\s+(\$\w+);", ptx)
        if 0 <= ptx.find(f"{match[1]}:") < match.end() and "mma" in ptx[ptx.index(f"{match[1]}:") : match.end()]
    )
    loop = ptx[begin:end]
    assert re.search(r"wgmma\.mma_async|mma\.sync", loop)
    assert not re.search(r"\b(ld|st|bar|cp)\.", loop)


@pytest.mark.parametrize("chip", CHIPS)
def test_the_programs_assemble_without_spills(chip: str) -> None:
    if find_assembler() is None:
        pytest.skip("no PTX assembler: pip install 'bitmlir[cuda]'")
    target = get_target(chip)
    for text in (instruction_ceiling(target, MULTIPROCESSORS, REPEATS).text, empty_program(target)):
        bundle, made = assembled(text, chip)
        (used,) = resources(made.log).values()
        (launch,) = bundle.plan.steps
        assert isinstance(launch, Launch)
        assert used.spill_bytes == 0
        assert used.registers * launch.block[0] <= 1 << 16


@pytest.mark.parametrize("chip", ["sm_75", "sm_80", "sm_90a", "sm_120"])
def test_operations_are_those_of_the_instructions_that_the_blocks_issue(chip: str) -> None:
    target = get_target(chip)
    ceiling = instruction_ceiling(target, MULTIPROCESSORS, REPEATS)
    warps = ceiling.blocks * ceiling.threads // 32
    a_warp = {
        "sm_75": 8 * (8 * 8 * 128),  # 8 pairs of fragments by m8n8k128
        "sm_80": 8 * (16 * 8 * 256),
        "sm_90a": 16 * 256 * 1024,  # a quarter of 64 rows, 256 columns, all 1024 bits of a tile
        "sm_120": 8 * (16 * 8 * 32),  # of a register's 32 bits, the four that its numbers hold
    }[chip]
    assert ceiling.operations == 2 * warps * a_warp * REPEATS


@pytest.mark.parametrize("chip", ["sm_75", "sm_80", "sm_90a", "sm_120"])
def test_expected_sums_grow_with_the_repeats_and_fit_random_bits(chip: str) -> None:
    target = get_target(chip)
    once, often = expected_sums(target, 1), expected_sums(target, 7)
    ceiling = instruction_ceiling(target, 1, 1)
    assert once.shape == (ceiling.threads,)
    assert (often == 7 * once).all()
    # A product of random bits is 1 with probability 1/4, their XOR with 1/2.
    products = ceiling.operations // 2
    share = 0.5 if "xor" in ceiling.instruction else 0.25
    assert int(once.sum(dtype=np.int64)) * ceiling.blocks == pytest.approx(share * products, rel=0.1)


def test_the_cpu_has_no_matrix_instruction_to_measure() -> None:
    with pytest.raises(TargetError, match="cpu has no matrix instruction"):
        instruction_ceiling(get_target("cpu"), 1, 1)
