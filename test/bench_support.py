"""What tests of `bitmlir-bench` share: an example of its reports, how a picture begins, and what problems mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.grouped_spec import GroupedSpec
from bitmlir.pack_spec import PackSpec
from bitmlir.search_spec import SearchSpec
from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench.networks import NetworkSpec
from bitmlir.tools.bench.problems import Network, Packing, Product
from bitmlir.tools.bench.report import Instruction, Limits, Part, Point, Report
from bitmlir.tools.bench.timing import Timing

PNG = b"\x89PNG\r\n\x1a\n"


def spec_of(problem: Mapping[str, Any]) -> MatmulSpec | GroupedSpec | Conv2dSpec | SearchSpec:
    """The product, convolution or search that reports and tuning tables describe so (`Problem.to_json`)."""
    kinds = {"product": MatmulSpec, "grouped product": GroupedSpec, "search": SearchSpec, "convolution": Conv2dSpec}
    kind = kinds[problem["kind"]]
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in problem.items() if name in names})


def example_report(**changes: object) -> Report:
    """A product that was measured, and a packing that was not; `changes` replace fields."""
    problem = Product(MatmulSpec(m=64, n=64, k=1024, lhs="u2", rhs="bipolar"))
    point = Point(
        suite="square",
        size=problem.size,
        kind=problem.kind,
        problem=problem.to_json(),
        target="sm_90a",
        exact=True,
        launches=({"kernel": "k", "grid": [1, 1, 1], "block": [128, 1, 1], "shared_bytes": 0},),
        timing=Timing((3e-6, 2e-6, 4e-6), 10),
        operations=problem.operations,
        bit_operations=problem.operations * 2,
        bytes=24576,
        floor={"unit": 1e-9, "memory": 1.5e-6, "launch": 1e-6},
        checked=4096,
        rivals={"int8": Timing((6e-6,), 10)},
        clocks={"sm_mhz": 1980.0},
    )
    packing = Packing(PackSpec(8, 8, "u4", "i8"))
    names = {"size": packing.size, "kind": packing.kind, "problem": packing.to_json()}
    unmeasured = Point(suite="pack", **names, target="sm_90a", exact=False, fault="the source must be i8")
    instruction = Instruction("wgmma and.popc", 15.5e15, True, Timing((1e-3,), 1))
    limits = Limits({"sm_90a": instruction}, 4e12, {"cuMemcpyDtoDAsync": 4e12}, 1e-6)
    device, tools = {"name": "NVIDIA H200", "driver": "580"}, {"date": "2026-11-21T12:00:00"}
    report = Report(device, tools, {"before": {"sm_mhz": 345.0}}, limits, (point, unmeasured), ("no torch",))
    return dataclasses.replace(report, **changes)


def example_networks() -> tuple[Point, Point]:
    """A network for latency, with rivals, and one for throughput, whose aim is missed."""
    few, many = (Network(spec) for spec in (NetworkSpec("alexnet", 1, 8), NetworkSpec("vgg16", 2, 512)))

    def point(network: Network, **more: Any) -> Point:
        names = {"size": network.size, "kind": network.kind, "problem": network.to_json()}
        work = {"images": network.spec.batch, "operations": 10**9, "bit_operations": 10**10, "bytes": 10**6}
        return Point("networks", target="sm_90a", exact=True, floor={"unit": 1e-6}, **names, **work, **more)

    first = point(
        few,
        timing=Timing((2e-4,), 5),
        parts=(Part("conv1", "k1", 3e-5), Part("pool", "k2", 1e-5), Part("conv1", "k3", 6e-5)),
        rivals={"fp16 compiled": Timing((6e-4,), 5)},
        quoted={"TCBNN": 1e-3},
        aim=3e-4,
    )
    return first, point(many, timing=Timing((1e-2,), 1), aim=512 / 60e3)
