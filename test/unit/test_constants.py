"""Arguments that became part of a program: in its plan, in its bundle, on the CPU and through the driver."""

from __future__ import annotations

import dataclasses
import io
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_driver import FakeDriver
from networks import SMALL, equal, random_images

import bitmlir
from bitmlir import nn, reference
from bitmlir.dialects.errors import BundleError, InputError, ShapeError
from bitmlir.formats.packed import pack
from bitmlir.runtime.bundle import Bundle
from bitmlir.runtime.cuda import CudaProgram, DeviceArray
from bitmlir.runtime.plan import Buffer, Launch, Memset, Plan, Value

ONE = (1, 1, 1)


def value(name: str) -> Value:
    return Value(name, "array", (3, 4), {"values": name}, dtype="i32")


def launch(kernel: str, *arguments: str, writes: tuple[str, ...]) -> Launch:
    return Launch(kernel, ONE, (32, 1, 1), 0, arguments, writes=writes)


def plan_of(*steps: Launch | Memset, scratch: str = "stu") -> Plan:
    """A plan with the arguments x, v and w, the result y, and scratch."""
    buffers = tuple(Buffer(name, "i32", (3, 4)) for name in ("x", "v", "w", "y", *scratch))
    return Plan("f", "sm_90", tuple(map(value, "xvw")), (value("y"),), buffers, steps)


# --- what the plan says -------------------------------------------------------------------------------

LAST = launch("last", "x", "s", "y", writes=("y",))


def test_arguments_become_constants_and_keep_their_order() -> None:
    plan = plan_of(LAST).holding({"w", "x"})
    assert [v.name for v in plan.arguments] == ["v"]
    assert [v.name for v in plan.constants] == ["x", "w"]
    assert plan.constant_buffers == {"x", "w"}
    again = plan.holding({"v"})
    assert (again.arguments, again.constant_buffers) == ((), {"x", "v", "w"})
    assert Plan.from_json(again.to_json()) == again


def test_what_follows_from_constants_alone_is_done_once() -> None:
    first = launch("first", "w", "t", writes=("t",))
    second = launch("second", "t", "v", "s", writes=("s",))
    plan = plan_of(first, second, LAST)
    assert plan.setup == ()
    assert plan.holding({"w"}).setup == (first,)
    held = plan.holding({"w", "v"})
    assert (held.setup, held.steps) == ((first, second), (LAST,))
    assert held.fixed_buffers == {"v", "w", "t", "s"}
    assert plan.holding({"v"}).holding({"w"}) == held
    assert Plan.from_json(held.to_json()) == held


@pytest.mark.parametrize(
    "steps",
    [
        (Memset("s"), launch("adds up", "x", "w", "s", writes=("s",)), LAST),
        (launch("zero", "s", writes=("s",)), launch("adds up", "x", "w", "s", writes=("s",)), LAST),
        (launch("to a result", "w", "y", writes=("y",)), launch("adds", "x", "y", writes=("y",))),
        (launch("first", "w", "s", writes=("s",)), launch("overwrites", "x", "s", writes=("s",))),
        (Launch("unknown", ONE, ONE, 0, ("w", "s")), LAST),  # as in bundles of earlier formats
    ],
    ids=["memset", "zeroed by a kernel", "a result", "overwritten", "unknown"],
)
def test_what_may_differ_from_run_to_run_is_done_in_each(steps: tuple[Launch | Memset, ...]) -> None:
    held = plan_of(*steps).holding({"v", "w"})
    assert (held.setup, held.steps) == ((), steps)


def test_an_argument_can_be_seen_as_another_type() -> None:
    plan = plan_of(LAST).seeing("x", "u8", (12, 4))
    assert (plan.arguments[0].dtype, plan.arguments[0].shape) == ("u8", (12, 4))
    assert plan.buffer("x") == Buffer("x", "u8", (3, 4))
    assert plan.buffer("w") == Buffer("w", "i32", (3, 4))


# --- bundles ----------------------------------------------------------------------------------------

CONTENTS = np.arange(12, dtype=np.int32).reshape(3, 4)
BUNDLE = Bundle(plan_of(LAST), {"cubin": b"cubin"}).holding({"w": {"w": CONTENTS}})


def altered(change: Any) -> bytes:
    """The bundle's file with its members as `change(members)` leaves them."""
    with zipfile.ZipFile(io.BytesIO(BUNDLE.to_bytes())) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def test_a_bundle_keeps_its_constants(tmp_path: Path) -> None:
    BUNDLE.save(tmp_path / "net.bitmlir")
    again = Bundle.load(tmp_path / "net.bitmlir")
    assert again == BUNDLE
    np.testing.assert_array_equal(again.constant_arrays()["w"], CONTENTS)
    with zipfile.ZipFile(tmp_path / "net.bitmlir") as archive, archive.open("constants/w.npy") as member:
        np.testing.assert_array_equal(np.load(member), CONTENTS)  # anybody's numpy reads them


def test_a_constant_that_was_altered_or_lost_is_named() -> None:
    with pytest.raises(BundleError, match=r"altered: its member constants/w\.npy is not the one that was saved"):
        Bundle.from_bytes(altered(lambda members: members.update({"constants/w.npy": b"\x93NUMPY"})))
    with pytest.raises(BundleError, match=r"altered: its member constants/w\.npy is missing"):
        Bundle.from_bytes(altered(lambda members: members.pop("constants/w.npy")))
    with pytest.raises(BundleError, match=r"altered: its member constants/x\.npy is not the one"):
        Bundle.from_bytes(altered(lambda members: members.update({"constants/x.npy": b""})))


def test_contents_and_the_plan_must_agree() -> None:
    with pytest.raises(InputError, match="constants in the buffers w, but contents are given of none"):
        Bundle(BUNDLE.plan, {})
    other = dataclasses.replace(BUNDLE, constants={"w": b"text"})
    with pytest.raises(BundleError, match=r"the constant w cannot be read \(.*\): compile again"):
        other.constant_arrays()
    narrow = Bundle(plan_of(LAST), {}).holding({"w": {"w": CONTENTS[1:]}})
    with pytest.raises(BundleError, match=r"the constant w must have the shape \(3, 4\), got \(2, 4\)"):
        narrow.constant_arrays()


def test_numbers_that_numpy_lacks_are_kept_too() -> None:
    from bitmlir.runtime.dtypes import numpy_dtype

    buffers = (Buffer("w", "bf16", (2,)),)
    plan = Plan("f", "sm_90", (Value("w", "array", (2,), {"values": "w"}, "bf16"),), (), buffers, ())
    array = np.array([1.5, -2], numpy_dtype("bf16"))
    held = Bundle.from_bytes(Bundle(plan, {}).holding({"w": {"w": array}}).to_bytes())
    np.testing.assert_array_equal(held.constant_arrays()["w"], array)


# --- programs ---------------------------------------------------------------------------------------

RNG = np.random.default_rng(2)
X, W = RNG.choice([-1, 1], (9, 200)), RNG.integers(0, 4, (30, 200))


@pytest.fixture(scope="module")
def product() -> bitmlir.Executable:
    spec = bitmlir.MatmulSpec(9, 30, 200, "bipolar", "u2", out="f32", column_scale=True, bias=True)
    return bitmlir.compile(spec, target="cpu")


def expected(bias: Any = 0) -> np.ndarray:
    return reference.matmul(X, W).astype(np.float32) * np.float32(0.5) + np.float32(bias)


def test_a_program_with_constants_takes_the_rest(product: bitmlir.Executable, tmp_path: Path) -> None:
    layer = product.with_constants(rhs=pack(W, "u2"), column_scale=0.5)
    assert repr(layer) == "<Executable matmul(lhs: 9x200xbipolar, bias: 30xf32) -> result: 9x30xf32 for cpu>"
    layer.save(tmp_path / "layer.bitmlir")
    for program in (layer, bitmlir.load(tmp_path / "layer.bitmlir"), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(program(X, 3), expected(3))
        np.testing.assert_array_equal(program(lhs=X, bias=-1), expected(-1))
    whole = layer.with_constants(bias=2).with_constants(lhs=X)
    np.testing.assert_array_equal(whole(), expected(2))
    np.testing.assert_array_equal(product(X, W, 0.5, 3), expected(3))  # which is as it was


def test_constants_are_copies(product: bitmlir.Executable) -> None:
    weights, bias = pack(W, "u2"), np.zeros(30, np.float32)
    layer = product.with_constants(rhs=weights, column_scale=0.5, bias=bias)
    weights.planes[:], bias[:] = 0, 7
    np.testing.assert_array_equal(layer(X), expected())


def test_images_as_constants() -> None:
    spec = bitmlir.Conv2dSpec(2, 6, 5, channels=40, filters=8, lhs="i2", rhs="bipolar", size=3, padding=1)
    images, filters = RNG.integers(-2, 2, (2, 6, 5, 40)), RNG.choice([-1, 1], (8, 3, 3, 40))
    program = bitmlir.compile(spec, target="cpu")
    right = reference.conv2d(images, filters, spec.window)
    np.testing.assert_array_equal(program.with_constants(rhs=filters)(images), right)
    np.testing.assert_array_equal(program.with_constants(lhs=images)(rhs=filters), right)


def test_what_is_no_argument_any_more_is_refused(product: bitmlir.Executable) -> None:
    layer = product.with_constants(rhs=W)
    with pytest.raises(InputError, match="matmul holds its argument 'rhs' as a constant: leave it out"):
        layer(X, rhs=W, column_scale=1, bias=0)
    with pytest.raises(InputError, match="matmul holds its argument 'rhs' as a constant"):
        layer.with_constants(rhs=W)
    with pytest.raises(InputError, match="matmul has no argument 'weights': expected lhs, rhs, column_scale, bias"):
        product.with_constants(weights=W)
    with pytest.raises(InputError, match=r"matmul takes 3 arguments \(lhs, column_scale, bias\), got 4"):
        layer(X, W, 1, 0)
    with pytest.raises(ShapeError, match=r"rhs must have the shape \(30, 200\), got \(200, 30\)"):
        product.with_constants(rhs=W.T)


def test_a_program_for_the_cpu_says_that_it_needs_mlir(product: bitmlir.Executable, tmp_path: Path) -> None:
    product.save(tmp_path / "k.bitmlir")
    code = f"""
import sys
sys.modules["mlir"] = None  # importing it fails
import bitmlir
try:
    bitmlir.load({str(tmp_path / "k.bitmlir")!r})([[1] * 200] * 9, [[1] * 200] * 30, 1, 1)
except bitmlir.BundleError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(
        "a program for the CPU is compiled by MLIR where it runs, which is not installed here"
    )


# --- networks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_a_saved_network_is_the_network(name: str, tmp_path: Path) -> None:
    model = nn.compile(SMALL[name], batch=3, target="cpu", every=True)
    model.save(tmp_path / "net.bitmlir")
    network, images = bitmlir.load(tmp_path / "net.bitmlir"), random_images(model)
    (argument,) = network.plan.arguments
    dtype = "f32" if model.program.input.is_normalised else "u8"
    assert (argument.name, argument.dtype, argument.shape) == ("images", dtype, images.shape)
    equal(network(images), model.reference(images))
    bound = network.bind(images)
    images[:] = random_images(model, seed=6)
    equal(bound(), model.reference(images))


def test_each_run_leaves_out_what_weights_alone_decide() -> None:
    model = nn.compile(SMALL["images of many channels"], batch=1, target="cpu")
    plan = model.executable.plan
    done_once = [step.kernel for step in plan.setup if isinstance(step, Launch)]
    assert done_once
    assert all(kernel.startswith("plane_edge_sums") for kernel in done_once)
    assert not [step for step in plan.steps if isinstance(step, Launch) and "edge_sums" in step.kernel]


def test_the_explanation_is_of_what_each_run_does() -> None:
    executable = nn.compile(SMALL["images of many channels"], batch=1, target="sm_90a").executable
    explained = [launch.kernel for launch in executable.explain().launches]
    assert explained == [step.kernel for step in executable.plan.steps if step.kernel in explained]
    assert executable.plan.setup
    assert not {step.kernel for step in executable.plan.setup}.intersection(explained)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.full((1, 5, 5, 80), 0.5), "images must hold integers, got float64"),
        (np.full((1, 5, 5, 80), 256), r"images must lie in 0\.\.255, but reaches 256\.\.256"),
        (np.full((1, 5, 5, 80), -1), r"images must lie in 0\.\.255, but reaches -1\.\.-1"),
        (np.zeros((2, 5, 5, 80), np.uint8), r"images must have the shape \(1, 5, 5, 80\).*, got \(2, 5, 5, 80\)"),
    ],
)
def test_a_loaded_network_looks_at_its_images(images: np.ndarray, message: str) -> None:
    model = nn.compile(SMALL["images of many channels"], batch=1, target="cpu")
    network = bitmlir.Executable(Bundle.from_bytes(model.executable.bundle.to_bytes()))
    with pytest.raises(InputError, match=message):
        network(images)


def test_a_network_for_a_gpu_is_loaded_without_the_compiler(tmp_path: Path) -> None:
    model = nn.compile(SMALL["vectors"], batch=2, target="sm_90a")
    model.save(tmp_path / "net.bitmlir")
    code = f"""
import sys, bitmlir
network = bitmlir.load({str(tmp_path / "net.bitmlir")!r})
network.bundle.constant_arrays()
print(network)
assert not [name for name in sys.modules if name.partition(".")[0] == "mlir" or name.startswith("bitmlir.lowering")]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "<Executable network(images: 2x7x5x2xu8) -> result: 2x10xf32 for sm_90a>\n"


# --- through the driver -----------------------------------------------------------------------------


def test_constants_go_to_the_gpu_once_and_so_does_what_follows_from_them(fake: FakeDriver) -> None:
    twice = launch("double", "s", "w", writes=("s",))
    plan = plan_of(Memset("s"), twice, launch("double", "y", "x", writes=("y",)), scratch="s")
    bundle = Bundle(plan, {"cubin": b"cubin"}).holding({"v": {"v": CONTENTS}, "w": {"w": CONTENTS}})
    assert (len(bundle.plan.setup), len(bundle.plan.steps)) == (2, 1)
    program = CudaProgram(bundle)
    queued = [entry[0] for entry in fake.log]
    assert queued.count("to device") == 2
    assert queued[-3:] == ["fill", "launch", "synchronize"]
    x = DeviceArray.from_numpy(CONTENTS)
    fake.log.clear()
    for _ in range(2):
        bound = program.bind({"x": x})
        np.testing.assert_array_equal(bound.buffers["s"].numpy(), 2 * CONTENTS)
        np.testing.assert_array_equal(bound.buffers["w"].numpy(), CONTENTS)
    assert [entry[0] for entry in fake.log if entry[0] in ("to device", "launch", "fill")] == []
    bound.run()
    assert [entry[0] for entry in fake.log if entry[0] in ("launch", "fill")] == ["launch"]
    with pytest.raises(InputError, match="unknown buffer w: expected x, y"):
        program.bind({"x": x, "w": x})
