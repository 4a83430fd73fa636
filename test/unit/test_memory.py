"""Scratch that shares memory: how long buffers live, where they lie, and that programs allocate no more."""

from __future__ import annotations

import dataclasses
from itertools import combinations, pairwise

import numpy as np
import pytest
from fake_driver import FakeDriver
from networks import SMALL

import bitmlir
from bitmlir import nn
from bitmlir.dialects.errors import DeviceError
from bitmlir.jit import CpuProgram
from bitmlir.nn import zoo
from bitmlir.runtime.bundle import Bundle
from bitmlir.runtime.cuda import CudaProgram, DeviceArray
from bitmlir.runtime.memory import ALIGNMENT, arena_bytes, buffer_bytes, lifetimes, share_memory
from bitmlir.runtime.plan import Buffer, Launch, Memset, Plan, TensorMap, Value


def launch(*arguments: str | TensorMap) -> Launch:
    return Launch("k", (1, 1, 1), (32, 1, 1), 0, arguments)


def plan_of(*steps: Launch | Memset, **sizes: int) -> Plan:
    """A plan from x to y; sizes: bytes of scratch."""
    arguments, results = ((Value(name, "array", (8,), {"values": name}, "i8"),) for name in "xy")
    buffers = (Buffer("x", "i8", (8,)), Buffer("y", "i8", (8,)), *(Buffer(n, "i8", (s,)) for n, s in sizes.items()))
    return Plan("f", "sm_90", arguments, results, buffers, steps)


def spans(plan: Plan) -> dict[str, tuple[int, int]]:
    """Where buffers of scratch begin and end."""
    return {b.name: (b.offset, b.offset + buffer_bytes(b)) for b in plan.buffers if b.offset is not None}


def require_apart(plan: Plan) -> None:
    """What is needed at the same time must not overlap."""
    lives, places = lifetimes(plan.steps), spans(plan)
    for a, b in combinations(places, 2):
        assert not lives[a] & lives[b] or places[a][1] <= places[b][0] or places[b][1] <= places[a][0], (a, b)
    assert all(start % ALIGNMENT == 0 for start, _ in places.values())
    assert arena_bytes(plan) == max((end for _, end in places.values()), default=0)


def test_a_buffer_lives_from_the_first_step_that_touches_it_to_the_last() -> None:
    steps = (Memset("s"), launch("x", "s"), launch(TensorMap("s", (4, 1)), "t"), launch("t", "y"))
    lives = {"s": {0, 1, 2}, "x": {1}, "t": {2, 3}, "y": {3}}
    assert lifetimes(steps) == lives


def test_launches_that_overlap_leave_what_was_just_read_alone_for_two_steps() -> None:
    overlapping = [dataclasses.replace(launch(a, b), overlap_previous=True) for a, b in pairwise("xabcdey")]
    lives = lifetimes(overlapping)
    assert lives["b"] == {1, 2, 3, 4}
    assert lives["e"] == {4, 5, 0, 1}  # in the next run
    plan = share_memory(plan_of(*overlapping, a=9, b=9, c=9, d=9, e=9))
    require_apart(plan)
    assert len(set(spans(plan).values())) == 5
    barrier = [*overlapping[:3], dataclasses.replace(overlapping[3], overlap_previous=False), *overlapping[4:]]
    assert lifetimes(barrier)["b"] == {1, 2}
    assert lifetimes(barrier)["a"] == {0, 1, 2}
    assert lifetimes([Memset("a"), overlapping[1]])["b"] == {1}


def test_a_chain_needs_two_of_its_buffers_at_a_time() -> None:
    chain = plan_of(*(launch(a, b) for a, b in zip("xabcd", "abcdy", strict=True)), a=1000, b=600, c=1000, d=600)
    shared = share_memory(chain)
    require_apart(shared)
    assert spans(shared) == {"a": (0, 1000), "b": (1024, 1624), "c": (0, 1000), "d": (1024, 1624)}
    assert Plan.from_json(shared.to_json()) == shared
    assert share_memory(shared) == shared


def test_what_is_read_much_later_keeps_its_place() -> None:
    plan = share_memory(
        plan_of(launch("x", "a"), launch("a", "b"), launch("b", "c"), launch("c", "a", "y"), a=9, b=9, c=9)
    )
    assert len(set(spans(plan).values())) == 3


def test_a_buffer_fills_a_gap_that_is_large_enough() -> None:
    steps = (launch("x", "a", "b", "c"), launch("b", "d"), launch("b", "c", "d", "y"))
    plan = share_memory(plan_of(*steps, a=600, b=800, c=300, d=500))
    require_apart(plan)
    assert spans(plan)["d"][0] == spans(plan)["a"][0]


def test_arguments_results_constants_and_setup_have_memory_of_their_own() -> None:
    steps = (
        Launch("k", (1, 1, 1), (32, 1, 1), 0, ("w", "made"), writes=("made",)),
        Launch("k", (1, 1, 1), (32, 1, 1), 0, ("x", "made", "s"), writes=("s",)),
        Launch("k", (1, 1, 1), (32, 1, 1), 0, ("s", "y"), writes=("y",)),
    )
    plan = plan_of(*steps, w=8, made=8, s=8)
    weights = Value("w", "array", (8,), {"values": "w"}, "i8")
    plan = Plan(plan.name, plan.target, (*plan.arguments, weights), plan.results, plan.buffers, plan.steps)
    assert spans(share_memory(plan)).keys() == {"made", "s"}
    assert spans(share_memory(share_memory(plan).holding({"w"}))).keys() == {"s"}


@pytest.mark.parametrize("seed", range(30))
def test_random_plans_keep_apart_what_is_needed_together(seed: int) -> None:
    random = np.random.default_rng(seed)
    names = [f"s{number}" for number in range(25)]
    steps = [launch(*map(str, random.choice(names, 3, replace=False))) for _ in range(20)]
    plan = share_memory(plan_of(*steps, **{name: int(random.integers(1, 3000)) for name in names}))
    require_apart(plan)
    assert arena_bytes(plan) < sum(buffer_bytes(b) + ALIGNMENT for b in plan.buffers if b.offset is not None)


@pytest.mark.parametrize("target", ["cpu", "sm_90a", "sm_80"])
def test_a_network_takes_less_memory_than_its_buffers(target: str) -> None:
    plan = nn.compile(zoo.network("cifar10-vgg", zoo.RandomParameters(1)), 2, target).executable.plan
    require_apart(plan)
    apart = [buffer_bytes(buffer) for buffer in plan.buffers if buffer.offset is not None]
    assert max(apart) <= arena_bytes(plan) < sum(apart) * 0.9
    assert not spans(plan).keys() & plan.fixed_buffers


@pytest.mark.parametrize("target", ["sm_90a", "sm_90"])
def test_kernels_that_wait_for_others_do_not_take_memory_for_constant(target: str) -> None:
    """An assembler may move `ld.global.nc` to before the wait."""
    text = nn.compile(SMALL["pixels in pairs"], 3, target).executable.emit("ptx")
    kernels = str(text).split(".visible .entry")[1:]
    assert len(kernels) > 10
    for kernel in kernels:
        assert kernel.count("griddepcontrol.wait") == 1
        assert "ld.global.nc" not in kernel


def test_what_every_step_leaves_is_kept() -> None:
    model = nn.compile(SMALL["images"], 2, "cpu", every=True)
    results = {name for value in model.executable.plan.results for name in value.buffers.values()}
    assert not spans(model.executable.plan).keys() & results


# --- in programs ------------------------------------------------------------------------------------


def test_scratch_lies_in_one_array_on_the_cpu() -> None:
    text = zoo.network("mnist-mlp", zoo.RandomParameters(1))
    bundle = nn.compile(text, 3, "cpu").executable.bundle
    program = CpuProgram(bundle.stages["cpu"].decode(), bundle.plan, 1, bundle.constant_arrays())
    images = np.zeros((3, 784), np.uint8)
    buffers = program.bind({"images.values": images}).buffers
    places = spans(bundle.plan)
    starts = {buffers[name].ctypes.data - start for name, (start, _) in places.items()}
    assert len(starts) == 1
    assert buffers.keys() == {buffer.name for buffer in bundle.plan.buffers}


def test_scratch_is_one_allocation_on_a_gpu(fake: FakeDriver) -> None:
    plan = share_memory(
        plan_of(launch("x", "a"), launch("a", "b"), launch("b", "c"), launch("c", "y"), a=900, b=8, c=900)
    )
    x = DeviceArray.from_numpy(np.zeros(8, np.int8))
    program = CudaProgram(Bundle(plan, {"cubin": b""}))
    before = set(fake.memory)
    bound = program.bind({"x": x})
    assert len(set(fake.memory) - before) == 2  # the result and the arena
    start = bound.buffers["a"].address
    assert {name: bound.buffers[name].address - start for name in "abc"} == {"a": 0, "b": 1024, "c": 0}
    own = DeviceArray.from_numpy(np.zeros(900, np.int8))
    assert program.bind({"x": x, "c": own}).buffers["c"] is own  # scratch that is given lies where it is
    kept = bound.buffers["c"]
    del bound, program
    kept.numpy()
    del kept
    assert len(fake.memory) == 2


def test_out_of_memory_counts_what_is_shared_once(fake: FakeDriver) -> None:
    size = 1 << 20
    plan = share_memory(plan_of(launch("x", "a"), launch("a", "y"), launch("x", "b"), launch("b", "y"), a=size, b=size))
    with pytest.raises(DeviceError, match=rf"'f' needs {size + 8:,} bytes on the GPU beside what it was given"):
        CudaProgram(Bundle(plan, {"cubin": b""})).bind({"x": DeviceArray.from_numpy(np.zeros(8, np.int8))})


def test_programs_that_are_no_networks_share_memory_too() -> None:
    spec = bitmlir.Conv2dSpec(1, 6, 6, channels=40, filters=8, lhs="bipolar", rhs="bipolar", size=3, padding=1)
    plan = bitmlir.compile(spec, target="sm_80").plan
    assert spans(plan)
    require_apart(plan)
