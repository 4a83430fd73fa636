"""What a run measured: plain records that become JSON and come back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from bitmlir.dialects.errors import InputError
from bitmlir.tools.bench.records import Positive, read_record
from bitmlir.tools.bench.timing import Timing

__all__ = ["FORMAT", "Instruction", "Limits", "Part", "Point", "Report"]

FORMAT = 1
"""The version of the JSON."""

_SIZES, _TEXTS = ("m", "n", "k"), ("lhs", "rhs", "out")  # what tables and pictures show of a point's `problem`


@dataclass(frozen=True)
class Instruction:
    """The rate of a target's matrix instruction, in 1-bit operations; exact: whether its results were right."""

    name: str
    operations_per_second: Positive
    exact: bool
    timing: Timing


@dataclass(frozen=True)
class Limits:
    """What the machine can do at most, measured in the same run. Empty on the CPU.

    Attributes:
        instructions: target → its matrix instruction.
        copy_bytes_per_second: read plus written, of the fastest way to copy.
        copies: how each way of copying did, in bytes a second.
        launch_seconds: an empty kernel, a node of a CUDA graph.
    """

    instructions: dict[str, Instruction] = field(default_factory=dict)
    copy_bytes_per_second: Positive | None = None
    copies: dict[str, Positive] = field(default_factory=dict)
    launch_seconds: Positive | None = None


@dataclass(frozen=True)
class Part:
    """A launch of a program of several: the layer that it is part of, its kernel, and the seconds it takes alone."""

    layer: str
    kernel: str
    seconds: Positive


@dataclass(frozen=True)
class Point:
    """One problem, measured and checked.

    Attributes:
        suite, size, kind: where it belongs and what it is, for people; `problem` says it in full.
        target: what it was compiled for.
        launches: the kernels that ran: name, grid, block, shared bytes. They show the tile.
        timing: of a run; None if there is none because of `fault`.
        images: of a network, that a run takes.
        parts: of a network or a convolution, its launches one by one. Alone they take longer in sum than together.
        operations: 2·m·n·k. bit_operations: the same for each pair of bit planes.
        bytes: of operands and results; for rotated weights those of the weights alone.
        copies: of the weights, which take turns.
        floor: seconds that no kernel can beat, by each limit: "unit", "memory", "launch".
        exact: whether all `checked` elements were right. fault: what was wrong, or why nothing could be measured.
        rivals: name → timing of the same task. quoted: name → seconds that it took elsewhere (see `published`).
        aim: seconds that it is to take at most, if any are set (see `aims`).
        clocks: after the measurement.
    """

    suite: str
    size: str
    kind: str
    problem: dict[str, Any]
    target: str
    exact: bool
    launches: tuple[dict[str, Any], ...] = ()
    timing: Timing | None = None
    images: int = 0
    parts: tuple[Part, ...] = ()
    operations: int = 0
    bit_operations: int = 0
    bytes: int = 0
    copies: int = 1
    floor: dict[str, Positive] = field(default_factory=dict)
    checked: int = 0
    fault: str | None = None
    rivals: dict[str, Timing] = field(default_factory=dict)
    quoted: dict[str, Positive] = field(default_factory=dict)
    aim: Positive | None = None
    clocks: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.timing and not self.bytes:
            raise ValueError("it was measured, but 'bytes' says that nothing was moved")
        for names, kind, expected in ((_SIZES, int, "a size"), (_TEXTS, str, "a text")):
            for name in names:
                is_needed = name in self.problem or (self.problem.get("rotated") and name != "out")
                if is_needed and not isinstance(self.problem.get(name), kind):
                    raise ValueError(f"its problem's '{name}' must be {expected}")

    @property
    def seconds(self) -> float | None:
        """The median."""
        return self.timing and self.timing.median

    @property
    def bound(self) -> str | None:
        """The limit that binds first."""
        return max(self.floor, key=lambda name: self.floor[name]) if self.floor else None

    @property
    def fraction(self) -> float | None:
        """The floor as a share of the time: 1 is all that the machine can do."""
        return self.floor[self.bound] / self.seconds if self.bound and self.seconds else None

    def rate(self, amount: float) -> float | None:
        """Amount a second."""
        return amount / self.seconds if self.seconds else None

    def times_faster(self, rival: str) -> float | None:
        """How many times faster than a rival, measured or quoted."""
        theirs = self.rivals[rival].median if rival in self.rivals else self.quoted.get(rival)
        return theirs / self.seconds if theirs and self.seconds else None

    def shares(self) -> dict[str, float]:
        """Layer → its share of what all launches take one by one, in the order in which layers begin."""
        layers = dict.fromkeys(part.layer for part in self.parts)
        total = sum(part.seconds for part in self.parts)
        return {layer: sum(p.seconds for p in self.parts if p.layer == layer) / total for layer in layers}

    def to_json(self) -> dict[str, Any]:
        """Fields and what follows from them."""
        derived = {"median": self.seconds, "pops": _scaled(self.rate(self.operations), 1e-15)}
        derived |= {"images_per_second": self.rate(self.images)} if self.images else {}
        derived |= {"bytes_per_second": self.rate(self.bytes), "bound": self.bound, "fraction": self.fraction}
        return asdict(self) | {"derived": derived}


@dataclass(frozen=True)
class Report:
    """A whole run.

    notes: what people should know of it; summaries: what each suite is; quoted: for each system whose figures stand in
    points' `quoted`, who measured them where.
    """

    device: dict[str, Any]
    tools: dict[str, str]
    clocks: dict[str, dict[str, float]]
    limits: Limits
    points: tuple[Point, ...]
    notes: tuple[str, ...] = ()
    summaries: dict[str, str] = field(default_factory=dict)
    quoted: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.device.get("name"), str):
            raise ValueError("the device has no name")

    def to_json(self) -> str:
        """JSON that `from_json` reads."""
        fields = {"device": self.device, "tools": self.tools, "clocks": self.clocks, "limits": asdict(self.limits)}
        fields |= {"notes": self.notes, "summaries": self.summaries, "quoted": self.quoted}
        points = [point.to_json() for point in self.points]
        return json.dumps({"format": FORMAT, **fields, "points": points}, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str = "the report") -> Report:
        """The report in a text; `name` is what errors call it.

        Raises:
            InputError: it is no report, or one of a newer format; the message names the first fault.
        """
        try:
            fields = json.loads(text)
            made_in = read_record(_Format, fields).format
            if made_in <= FORMAT:
                return read_record(cls, fields)
        except (ValueError, RecursionError, InputError) as error:
            raise InputError(f"{name} is not what bitmlir-bench writes with --json: {error}") from None
        raise InputError(f"{name} has format {made_in}, but this bitmlir reads up to {FORMAT}: upgrade it")


@dataclass(frozen=True)
class _Format:
    """What is looked at first."""

    format: int


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
