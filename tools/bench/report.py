"""What a run measured: plain records that become JSON and come back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from bitmlir.dialects.errors import InputError
from bitmlir.tools.bench.timing import Timing

__all__ = ["FORMAT", "Limits", "Point", "Report"]

FORMAT = 1
"""The version of the JSON."""


@dataclass(frozen=True)
class Limits:
    """What the machine can do at most, measured in the same run. Empty on the CPU.

    Attributes:
        instructions: target → {"name", "operations_per_second" (1-bit), "timing", "exact"} of its matrix instruction.
        copy_bytes_per_second: read plus written, of the fastest way to copy.
        copies: how each way of copying did, in bytes a second.
        launch_seconds: an empty kernel, a node of a CUDA graph.
    """

    instructions: dict[str, dict[str, Any]] = field(default_factory=dict)
    copy_bytes_per_second: float | None = None
    copies: dict[str, float] = field(default_factory=dict)
    launch_seconds: float | None = None


@dataclass(frozen=True)
class Point:
    """One problem, measured and checked.

    Attributes:
        suite, size, kind: where it belongs and what it is, for people; `problem` says it in full.
        target: what it was compiled for.
        launches: the kernels that ran: name, grid, block, shared bytes. They show the tile.
        timing: of a run; None if there is none because of `fault`.
        operations: 2·m·n·k. bit_operations: the same for each pair of bit planes.
        bytes: of operands and results; for rotated weights those of the weights alone.
        copies: of the weights, which take turns.
        floor: seconds that no kernel can beat, by each limit: "unit", "memory", "launch".
        exact: whether all `checked` elements were right. fault: what was wrong, or why nothing could be measured.
        rivals: name → timing of the same task. quoted: name → seconds that it took elsewhere (see `published`).
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
    operations: int = 0
    bit_operations: int = 0
    bytes: int = 0
    copies: int = 1
    floor: dict[str, float] = field(default_factory=dict)
    checked: int = 0
    fault: str | None = None
    rivals: dict[str, Timing] = field(default_factory=dict)
    quoted: dict[str, float] = field(default_factory=dict)
    clocks: dict[str, float] = field(default_factory=dict)

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

    def to_json(self) -> dict[str, Any]:
        """Fields and what follows from them."""
        derived = {"median": self.seconds, "pops": _scaled(self.rate(self.operations), 1e-15)}
        derived |= {"bytes_per_second": self.rate(self.bytes), "bound": self.bound, "fraction": self.fraction}
        return asdict(self) | {"derived": derived}

    @classmethod
    def from_json(cls, point: dict[str, Any]) -> Point:
        """The point that `to_json` wrote."""
        fields: dict[str, Any] = {name: value for name, value in point.items() if name != "derived"}
        fields["timing"] = point["timing"] and _timing(point["timing"])
        fields["rivals"] = {name: _timing(timing) for name, timing in point["rivals"].items()}
        fields["launches"] = tuple(point["launches"])
        return cls(**fields)


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
            InputError: it is no report, or one of a newer format.
        """
        try:
            fields = json.loads(text)
            made_in = fields["format"]
            if made_in <= FORMAT:
                return cls(
                    fields["device"],
                    fields["tools"],
                    fields["clocks"],
                    Limits(**fields["limits"]),
                    tuple(Point.from_json(point) for point in fields["points"]),
                    tuple(fields["notes"]),
                    fields.get("summaries", {}),
                    fields.get("quoted", {}),
                )
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{name} is not what bitmlir-bench writes with --json: {error!r}") from None
        raise InputError(f"{name} has format {made_in}, but this bitmlir reads up to {FORMAT}: upgrade it")


def _timing(timing: dict[str, Any]) -> Timing:
    return Timing(tuple(timing["seconds"]), timing["runs"], timing.get("sustained"))


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
