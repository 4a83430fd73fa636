"""What a GPU program is expected to cost, and why: what `Executable.explain` returns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from bitmlir.dialects.errors import BundleError

__all__ = ["Explanation", "LaunchExplanation"]

_LEAST_SECONDS = 1e-9  # of what is shown as a part of the whole


@dataclass(frozen=True)
class LaunchExplanation:
    """One launch. What only products have is None or empty for others.

    Attributes:
        problem: the operation, its sizes, planes and result. kernel: the name of its kernel.
        read_bytes, written_bytes: from and to device memory, each once.
        floor: seconds that no kernel can beat, by the limit: "matrix unit", "memory", "launch".
        seconds: what is expected.
        operations: of the matrix unit, on bits. l2_bytes: what blocks read, from L2.
        workload: the problem as tuning tables have it.
        order: how planes are multiplied.
        tile: how the work is divided. tile_source: why so: "tuned: …" with table, device, date and
            what it took there, or "cost model".
        parts: of the expected seconds: "launch", "clearing" (of memory before it, where that is needed),
            "start", "main loop", "storing" (what of it is not hidden), "held up".
        paced_by: what paces the main loop. held_up_by: what all blocks share and wait for. hides_stores: whether tiles
            are stored while others are computed.
        tiles, blocks, waves: output tiles, blocks at a time, and tiles of the busiest block.
    """

    problem: str
    read_bytes: int
    written_bytes: int
    floor: Mapping[str, float]
    seconds: float
    operations: int = 0
    l2_bytes: int = 0
    workload: Mapping[str, Any] | None = None
    order: str | None = None
    tile: str | None = None
    tile_source: str | None = None
    parts: Mapping[str, float] | None = None
    paced_by: str | None = None
    held_up_by: str | None = None
    hides_stores: bool = False
    tiles: int = 0
    blocks: int = 0
    waves: int = 0
    kernel: str = ""

    @property
    def floor_seconds(self) -> float:
        """The largest of the floors."""
        return max(self.floor.values())

    @property
    def bound(self) -> str:
        """The floor that binds."""
        return max(self.floor, key=lambda name: self.floor[name])

    def __str__(self) -> str:
        return "\n".join([self.problem, *(f"  {name:9} {text}" for name, text in self._lines())])

    def _lines(self) -> list[tuple[str, str]]:
        moved = f"{_amount(self.read_bytes)}B read, {_amount(self.written_bytes)}B written"
        floors = ", ".join(f"{name} {_time(limit)}" for name, limit in self.floor.items())
        floor = ("floor", f"{_time(self.floor_seconds)}, by the {self.bound} ({floors})")
        if self.parts is None:
            return [("work", moved), floor, ("expected", _time(self.seconds))]
        notes = {"main loop": f", paced by the {self.paced_by}", "held up": f" by {self.held_up_by}"}
        seen = ((name, seconds) for name, seconds in self.parts.items() if seconds >= _LEAST_SECONDS)
        parts = (f"{name} {_time(seconds)}{notes.get(name, '')}" for name, seconds in seen)
        stores = "stored while others are computed" if self.hides_stores else "stored before the block's next one"
        work = f"{_amount(self.operations)}op on bits; {moved}, {_amount(self.l2_bytes)}B through L2"
        return [
            ("order", self.order or ""),
            ("work", work),
            floor,
            ("tile", f"{self.tile} ({self.tile_source})"),
            (
                "schedule",
                f"{_count(self.tiles, 'tile')}, {_count(self.blocks, 'block')}, at most {self.waves} each; {stores}",
            ),
            ("expected", f"{_time(self.seconds)}: {'; '.join(parts)}"),
        ]


@dataclass(frozen=True)
class Explanation:
    """A GPU program's launches, and the machine on which they are judged; `print` shows it all.

    Attributes:
        target: what the program was compiled for.
        machine: the card whose numbers the model has. measured: whether they were measured, or else are its maker's.
        launches: in order; what clears memory for another one is not listed.
    """

    target: str
    machine: str
    measured: bool
    launches: tuple[LaunchExplanation, ...]

    @property
    def seconds(self) -> float:
        """What is expected of all launches."""
        return sum(launch.seconds for launch in self.launches)

    @classmethod
    def from_json(cls, text: str) -> Explanation:
        """The explanation in a bundle; what a newer bitmlir has added to it is left out.

        Raises:
            BundleError: it is none.
        """
        known = {field.name for field in fields(LaunchExplanation)}
        try:
            values = json.loads(text)
            launches = tuple(
                LaunchExplanation(**{name: value for name, value in launch.items() if name in known})
                for launch in values["launches"]
            )
            return cls(values["target"], values["machine"], values["measured"], launches)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(f"the explanation in the bundle cannot be read ({error!r}): compile again") from None

    def __str__(self) -> str:
        numbers = "measured" if self.measured else "as its maker says"
        head = f"for {self.target}, with the numbers of the {self.machine} ({numbers})"
        return "\n".join([head, *map(str, self.launches)])


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _amount(value: float) -> str:
    """A number with a prefix, for a unit to follow.

    Example:
        >>> _amount(33554432) + "B"
        '33.6 MB'
    """
    for prefix in ("", "k", "M", "G", "T"):
        if value < 1000:
            return f"{value:.3g} {prefix}"
        value /= 1000
    return f"{value:.3g} P"


def _time(seconds: float) -> str:
    """A time with its unit.

    Example:
        >>> _time(1.6e-11), _time(0.0001234), _time(0.01234)
        ('0.016 ns', '123 µs', '12.3 ms')
    """
    unit, factor = ("ns", 1e9) if seconds < 1e-8 else ("µs", 1e6) if seconds < 1e-3 else ("ms", 1e3)
    return f"{seconds * factor:.3g} {unit}"
