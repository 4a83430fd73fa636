"""Networks in `bitmlir-bench`: what is compiled and checked, which launch is of which layer, and torch's networks."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import fake_driver
import numpy as np
import pytest
from fake_driver import FakeDriver
from mlir import ir

from bitmlir import compiler, nn
from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.dialects import bit
from bitmlir.dialects.errors import InputError
from bitmlir.lowering.choose_tiles import plane_products
from bitmlir.lowering.cost import workload_of
from bitmlir.lowering.gpu.product import ProductProblem
from bitmlir.lowering.pipeline import run_pipeline
from bitmlir.lowering.targets import get_target
from bitmlir.lowering.workload import Workload
from bitmlir.nn import zoo
from bitmlir.nn.build import network_module
from bitmlir.nn.plan import program_of
from bitmlir.runtime.driver import Device
from bitmlir.runtime.plan import Launch, Memset, Plan, TensorMap, Value
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench import measure, networks
from bitmlir.tools.bench.aims import AIMS, aim_of
from bitmlir.tools.bench.network_layers import layer_problems, layers_as_problems
from bitmlir.tools.bench.networks import CompiledNetwork, NetworkSpec, Node, compile_network, layers_of_steps, nodes_of
from bitmlir.tools.bench.problems import Convolution, Network, Product
from bitmlir.tools.bench.published import small_convolution
from bitmlir.tools.bench.report import Limits
from bitmlir.tools.bench.suites import SUITES
from bitmlir.tools.bench.timing import Timing
from bitmlir.tools.bench.torch_networks import float_network
from bitmlir.tools.bench.tune import candidates

HOPPER = get_target("sm_90a")
MLP = NetworkSpec("mnist-mlp", 1, 5)


@functools.cache
def mlp() -> CompiledNetwork:
    return compile_network(MLP, "cpu", seed=3, cached=False)


def bench(**more: Any) -> measure.Bench:
    options = {"cached": False, "rivals": True, **more}
    return measure.Bench(get_target("cpu"), None, None, Limits(), 1, 3, **options)


# --- compiling and checking -----------------------------------------------------------------------


def test_a_network_is_measured_checked_and_divided_into_its_layers() -> None:
    point = bench().measure("networks", Network(MLP), mlp)
    assert (point.exact, point.fault) == (True, None)
    assert point.checked == 5 * 10
    assert point.images == 5
    assert point.operations == 5 * 2 * (784 * 1024 + 2 * 1024 * 1024 + 1024 * 10)
    assert point.bit_operations == point.operations + 7 * 5 * 2 * 784 * 1024  # the first layer's inputs have 8 bits
    assert list(point.shares()) == ["pack", "linear1", "linear2", "linear3", "linear4"]
    assert sum(point.shares().values()) == pytest.approx(1)
    assert len(point.parts) == len(mlp().executable.plan.steps)


@pytest.mark.parametrize("image", [0, 4])
def test_one_wrong_logit_is_found(image: int) -> None:
    expected = mlp().expected.copy()
    expected[image, 7] = np.nextafter(expected[image, 7], np.float32(np.inf))
    wrong = dataclasses.replace(mlp(), expected=expected)
    point = bench().measure("networks", Network(MLP), lambda: wrong)
    assert not point.exact
    assert (point.fault or "").startswith(f"result[{image}, 7] is")


def test_a_network_that_does_not_exist_is_a_fault_of_its_point() -> None:
    spec = NetworkSpec("no-such-network", 1, 2)
    point = bench().measure("networks", Network(spec), lambda: compile_network(spec, "cpu", 0, cached=False))
    assert "unknown network 'no-such-network'" in (point.fault or "")


@pytest.mark.parametrize(
    ("batch", "operations", "sampled"),
    [
        (512, 10**11, [0, 511]),
        (1, 10**11, [0]),
        (3, 1, [0, 1, 2]),
        (512, 5 * 10**9, [0, 170, 340, 511]),
    ],
)
def test_numpy_computes_the_first_input_the_last_and_what_is_cheap(
    batch: int, operations: int, sampled: list[int]
) -> None:
    assert networks._sampled(batch, operations).tolist() == sampled


def test_inputs_are_the_same_wherever_they_are_made() -> None:
    images = networks.random_images(MLP, mlp().nodes, 3)
    assert images.shape == (5, 28, 28, 1)
    assert (images == networks.random_images(MLP, mlp().nodes, 3)).all()
    assert (images != networks.random_images(MLP, mlp().nodes, 4)).any()
    assert images.min() < 10
    assert images.max() > 245


def test_the_suite_of_networks_holds_what_is_aimed_at() -> None:
    specs = {problem.spec for problem in SUITES["networks"].problems}
    assert specs >= AIMS.keys()
    known = [spec for spec in specs if spec.name in zoo.NETWORKS]
    assert len(known) >= 8


def test_convolutions_are_to_be_faster_than_those_that_were_published_and_right() -> None:
    assert aim_of(small_convolution(1, 128, "i2")) == pytest.approx(3.05e-6 / 1.5)
    assert aim_of(small_convolution(1, 512, "i2")) is None  # whose kernel is wrong
    assert aim_of(small_convolution(8, 128, "i2")) is None
    assert aim_of(MatmulSpec(64, 128, 128, "u2", "i2")) is None


# --- layers ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Sum:
    """A layer of two sources, as residual networks have."""

    sources: tuple[Any, ...]
    shape: tuple[int, ...] = (4, 4, 2)
    codes: None = None


def test_layers_come_once_and_after_their_sources() -> None:
    start = nn.Input((4, 4, 2))
    conv = nn.Conv2d(start, np.ones((2, 3, 3, 2), int), padding=1)
    nodes = nodes_of(Sum((Sum((conv, start)), conv)))  # type: ignore[arg-type]
    assert [node.kind for node in nodes] == ["Input", "Conv2d", "Sum", "Sum"]
    assert [node.sources for node in nodes] == [(), (0,), (1, 0), (2, 1)]
    assert nodes[1].weights == (2, 3, 3, 2)
    assert nodes[1].planes == 8
    assert dict(nodes[1].fields)["padding"] == (1, 1, 1, 1)
    assert [node.operations for node in nodes] == [0, 2 * 16 * 2 * 9 * 2, 0, 0]


def test_what_prepares_a_product_is_part_of_its_layer() -> None:
    steps = (
        launch("plane_byte_conv_0", "images.values", "weights1.planes"),
        launch("plane_pool_1", "scratch.1"),
        launch("plane_patch_sums_2", "scratch.2"),
        launch("plane_edge_sums_3", "weights3.sums"),
        Memset("scratch.3"),
        launch("zero_4_0", "scratch.4"),
        launch("plane_matmul_4", "scratch.2", TensorMap("weights3.planes", (4, 8, 1))),
        launch("plane_avg_pool_5", "scratch.5"),
        launch("plane_matmul_6", "weights5.planes"),
        launch("zero_7_0", "scratch.9"),
    )
    weights = {"weights1": (2, 1, 1, 18), "weights3": (4, 3, 3, 2), "weights5": (10, 4, 4, 4)}
    shapes = [("Conv2d", (2, 3, 3, 2)), ("Linear", (10, 64)), ("Conv2d", (4, 3, 3, 2))]  # as if the network forked
    nodes = [Node(kind, (), (1, 1, shape[0]), shape) for kind, shape in shapes]
    layers = ["conv1", "pool", *["conv3"] * 5, "avg_pool", "linear2", "the end"]
    assert layers_of_steps(plan(steps, weights), nodes) == layers


def test_the_launches_of_a_convolution_are_told_by_what_they_do() -> None:
    problem = Convolution(Conv2dSpec(3, 9, 8, 70, 40, "u2", "bipolar", "bit", stride=2, padding=1))
    point = bench().measure("conv", problem, lambda: compiler.compile(problem.spec, "cpu"))
    assert point.exact
    assert list(point.shares()) == ["patches", "patch_sums", "matmul"]
    assert [part.kernel for part in point.parts] == [launch["kernel"] for launch in point.launches]


@functools.cache
def mlp_for_hopper() -> CompiledNetwork:
    return compile_network(MLP, "sm_90a", seed=3, cached=False)


def test_on_a_gpu_the_whole_is_a_graph_and_each_launch_another(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = mlp_for_hopper()  # before the driver is made of Python
    fake: FakeDriver = request.getfixturevalue("fake")
    fake.cuStreamCreate = lambda _flags: fake._made("9")  # type: ignore[method-assign]
    monkeypatch.setattr(fake_driver, "MEMORY", 1 << 30)
    monkeypatch.setattr(measure, "read_clocks", lambda _device: {})
    on_gpu = measure.Bench(HOPPER, Device.current(), None, Limits(), 1, 3, cached=False, rivals=True)
    point = on_gpu.measure("networks", Network(MLP), lambda: network)
    assert "must be" in (point.fault or "")  # this driver runs no kernel
    assert point.timing == Timing((1.5e-3,), 1, 1.5e-3)
    assert [part.kernel for part in point.parts] == [launch["kernel"] for launch in point.launches]
    assert [part.seconds for part in point.parts] == [pytest.approx(1.5e-3 / 10)] * len(point.parts)
    assert list(point.shares()) == ["pack", "linear1", "linear2", "linear3", "linear4"]
    assert point.rivals == {}


def launch(kernel: str, *arguments: str | TensorMap) -> Launch:
    return Launch(kernel, (1, 1, 1), (32, 1, 1), 0, arguments)


def plan(steps: tuple[Launch | Memset, ...], weights: dict[str, tuple[int, ...]]) -> Plan:
    constants = tuple(Value(name, "packed", shape, {}, encoding="bipolar") for name, shape in weights.items())
    return Plan("network", "sm_90a", (), (), (), steps, constants)


# --- tuning ---------------------------------------------------------------------------------------


def workloads(output: nn.Layer, batch: int) -> set[Workload]:
    """Of the products of a network on a Hopper GPU."""
    context = ir.Context()
    with context, ir.Location.unknown():
        bit.load(context)
        module = network_module(program_of(output), batch)
        run_pipeline(module, "bit-decompose{target=sm_90a}")
        return {workload_of(ProductProblem(op, HOPPER)) for op in plane_products(module.operation)}


@pytest.mark.parametrize("bits", [1, 2])
@pytest.mark.parametrize("name", ["mnist-mlp", "cifar10-vgg", "vgg16"])
def test_tables_know_the_products_of_a_network_by_its_layers(name: str, bits: int) -> None:
    output = zoo.network(name, zoo.RandomParameters(0), bits)
    problems = layer_problems(nodes_of(output), 8)
    assert {candidates(problem.spec, HOPPER)[0] for problem in problems} == workloads(output, 8)
    assert problems == layers_as_problems(NetworkSpec(name, bits, 8))


def test_layers_whose_sums_are_used_otherwise_are_left_out() -> None:
    nodes = (
        Node("Input", (), (8,), codes="u8"),
        Node("Linear", (0,), (4,), (4, 8), encoding="bipolar"),
        Node("Sign", (1,), (4,), codes="bipolar"),
        Node("Linear", (2,), (5,), (5, 4), encoding="i2"),
        Node("Linear", (2,), (5,), (5, 4), encoding="i2"),
        Node("Add", (3, 4), (5,)),
        Node("Linear", (2,), (6,), (6, 4), encoding="i2"),
        Node("Linear", (2,), (7,), (7, 4), encoding="i2"),
        Node("Sign", (7,), (7,), codes="bipolar"),
        Node("BatchNorm", (7,), (7,)),
    )
    assert layer_problems(nodes, 3) == [
        Product(MatmulSpec(3, 4, 8, "u8", "bipolar", "bit")),
        Product(MatmulSpec(3, 6, 4, "bipolar", "i2")),
    ]


# --- rivals ---------------------------------------------------------------------------------------


def everything() -> nn.Layer:
    """A network with each kind of layer, uneven padding and a batch norm of its own."""
    rng = np.random.default_rng(0)

    def norm(layer: nn.Layer) -> nn.BatchNorm:
        return nn.BatchNorm(layer, *np.ones((4, layer.shape[-1])))

    x: nn.Layer = nn.Input((9, 9, 3))
    weights = rng.choice([-1, 1], (6, 3, 3, 3))
    x = nn.Sign(norm(nn.Conv2d(x, weights, stride=2, padding=(1, 0, 1, 2))))
    x = nn.MaxPool2d(x, 2, stride=1, padding=(0, 1, 1, 0))
    x = nn.Quantise(norm(norm(nn.Conv2d(x, rng.choice([-1, 1], (4, 2, 2, 6)), dilation=2))), 2)
    return norm(nn.Linear(nn.Flatten(x), rng.choice([-1, 1], (7, math.prod(x.shape)))))


def known(name: str) -> Callable[[], nn.Layer]:
    return lambda: zoo.network(name, zoo.RandomParameters(0))


@pytest.mark.parametrize(
    "network", [everything, known("mnist-mlp"), known("cifar10-vgg")], ids=["everything", "mnist-mlp", "cifar10-vgg"]
)
def test_the_network_of_torch_has_our_shapes_layer_by_layer(network: Callable[[], nn.Layer]) -> None:
    torch = pytest.importorskip("torch")
    nodes = nodes_of(network())
    model = float_network(torch, nodes, torch.float32)
    shapes: list[tuple[int, ...]] = []
    for layer in model.layers:
        layer.register_forward_hook(lambda _module, _given, result: shapes.append(tuple(result.shape)))
    with torch.no_grad():
        logits = model(torch.randint(0, 256, (2, *nodes[0].shape), dtype=torch.uint8))
    channels_first = [(*node.shape[2:], *node.shape[:2]) if len(node.shape) == 3 else node.shape for node in nodes]
    assert shapes == [(2, *shape) for shape in channels_first]
    assert torch.isfinite(logits).all()


def test_layers_of_residual_networks_are_known_to_torch() -> None:
    torch = pytest.importorskip("torch")
    nodes = (
        Node("Input", (), (4, 4, 3)),
        Node("AvgPool2d", (0,), (2, 2, 3), fields=(("size", (2, 2)), ("stride", (2, 2)), ("padding", (0, 0, 0, 0)))),
        Node("PadChannels", (1,), (2, 2, 5), fields=(("channels", 5),)),
        Node("BatchNorm", (2,), (2, 2, 5)),
        Node("Add", (3, 2), (2, 2, 5)),
        Node("Quantise", (4,), (2, 2, 5), fields=(("bits", 8), ("signed", True))),
    )
    result = float_network(torch, nodes, torch.float32)(torch.full((1, 4, 4, 3), 64, dtype=torch.uint8))
    assert tuple(result.shape) == (1, 5, 2, 2)
    assert (result[:, :3] <= 0).all()  # 64 is −1 once it is normalised; no ReLU follows what is signed
    assert (result[:, :3] < 0).any()


def test_a_layer_that_torch_has_none_for_is_named() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(InputError, match="no layer of torch is known for Warp"):
        float_network(torch, (Node("Warp", (), (3,)),), torch.float32)


def test_rivals_are_timed_once_for_each_shape_and_until_their_time_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    clock = iter(range(0, 1000, 10))

    def timings(_torch: Any, _device: Any, _nodes: Any, batch: int, _repeats: int) -> dict[str, Timing]:
        asked.append(batch)
        return {"fp16": Timing((1.0,), 1)}

    monkeypatch.setattr(measure, "network_timings", timings)
    monkeypatch.setattr(measure.time, "monotonic", lambda: next(clock))
    few = bench(rival_seconds=15)
    few.torch = few.device = object()  # type: ignore[assignment]  # no more is asked of them here

    def rivals(bits: int, batch: int) -> dict[str, Timing]:
        spec = NetworkSpec("mnist-mlp", bits, batch)
        operands = measure.NetworkOperands(dataclasses.replace(mlp(), spec=spec), {})
        return few._rivals(Network(spec), operands)

    assert rivals(1, 8) == rivals(2, 8) == rivals(1, 9) == {"fp16": Timing((1.0,), 1)}
    assert asked == [8, 9]
    assert few.without_rivals == 0
    assert rivals(1, 10) == {}
    assert few.without_rivals == 1
    assert few._rivals(Product(MatmulSpec(1, 1, 1, "u1", "u1")), measure.Operands(Network(MLP), {}, [])) == {}
