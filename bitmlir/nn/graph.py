"""The graph of a network's layers, parted into groups of which each becomes one step of the program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bitmlir.dialects.errors import InputError
from bitmlir.nn.layers import (
    Add,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Flatten,
    Input,
    Layer,
    Linear,
    MaxPool2d,
    PadChannels,
    Quantise,
    Sign,
)

__all__ = ["Group", "groups_of", "layers_before", "rounds", "users_of"]

_MOST_THRESHOLDS = 7  # of a quantiser: more codes are cheaper by arithmetic


@dataclass(eq=False)
class Group:
    """Layers that one step computes: a root, layers on its numbers in turn, and what makes codes of the last of these.

    A root that `is_own` is computed from its source; another one was stored by a group before, and is only read.
    """

    root: Layer
    is_own: bool = True
    chain: list[Layer] = field(default_factory=list)
    coders: list[Layer] = field(default_factory=list)

    @property
    def end(self) -> Layer:
        """The last layer that yields numbers, or the root."""
        return self.chain[-1] if self.chain else self.root

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What it computes, in order."""
        return (*([self.root] if self.is_own else []), *self.chain, *self.coders)

    @property
    def addends(self) -> list[Layer]:
        """The layers whose numbers are added to those of the chain."""
        before = [self.root, *self.chain]
        return [
            layer.second if layer.first is earlier else layer.first
            for earlier, layer in zip(before, self.chain, strict=False)
            if isinstance(layer, Add)
        ]

    @property
    def reads(self) -> list[Layer]:
        """The layers whose numbers or codes it reads."""
        return [*(self.root.sources if self.is_own else [self.root]), *self.addends]


def rounds(layer: Layer) -> bool:
    """Whether a layer makes codes by arithmetic, not by thresholds."""
    return isinstance(layer, Quantise) and layer.ends[1] - layer.ends[0] > _MOST_THRESHOLDS


def layers_before(output: Layer) -> list[Layer]:
    """All layers that one is computed from, and it, in an order in which sources come first.

    Raises:
        InputError: there is not one input.
    """
    order: dict[Layer, None] = {}
    waiting = [output]
    while waiting:
        layer = waiting[-1]
        missing = [source for source in layer.sources if source not in order]
        if missing and layer not in order:
            waiting += reversed(missing)
        else:
            order.setdefault(waiting.pop())
    inputs = sum(isinstance(layer, Input) for layer in order)
    if inputs != 1:
        raise InputError(f"a network has one Input, but this one has {inputs}")
    return list(order)


def users_of(layers: Sequence[Layer]) -> dict[Layer, list[Layer]]:
    """The layers that take each layer's numbers, as often as they do."""
    users: dict[Layer, list[Layer]] = {layer: [] for layer in layers}
    for layer in layers:
        for source in layer.sources:
            users[source].append(layer)
    return users


def groups_of(output: Layer) -> list[Group]:
    """The groups of a network, in an order in which what a group reads comes first.

    Raises:
        InputError: a layer cannot stand where it does.
    """
    layers = layers_before(output)
    parts = _Parts(output, layers, users_of(layers))
    for layer in layers:
        parts.place(layer)
    return _sorted(parts.groups)


class _Parts:
    """Layers on their way into groups, each after its sources."""

    def __init__(self, output: Layer, layers: Sequence[Layer], users: dict[Layer, list[Layer]]) -> None:
        self.output, self.users = output, users
        self.groups: list[Group] = []
        self.open: dict[Layer, Group] = {}  # groups by their last layer that yields numbers
        self.paths = {layer: self._coders(layer) for layer in layers if isinstance(layer, (Sign, Quantise))}
        self.claimed = {norm for _, coders in self.paths.values() for norm in coders[:-1]}  # by what makes codes

    def place(self, layer: Layer) -> None:
        """Put a layer into a group, its own or one before."""
        if isinstance(layer, (Sign, Quantise)):
            self._place_coder(*self.paths[layer])
        elif isinstance(layer, Flatten):
            self._check_flatten(layer)
        elif isinstance(layer, (Input, Linear, Conv2d, MaxPool2d, AvgPool2d)):
            self._begin(Group(layer))
        elif isinstance(layer, PadChannels):
            group = self._extensible(layer.source)
            is_bare = group is not None and not group.chain and isinstance(group.root, (MaxPool2d, AvgPool2d))
            self._extend(group if is_bare else None, layer.source, layer)
        elif isinstance(layer, BatchNorm) and layer not in self.claimed:
            self._extend(self._extensible(layer.source), layer.source, layer)
        elif isinstance(layer, Add):
            self._place_add(layer)

    def _begin(self, group: Group) -> None:
        self.groups.append(group)
        self.open[group.end] = group

    def _is_used_once(self, layer: Layer) -> bool:
        return len(self.users[layer]) == 1 and layer is not self.output

    def _extensible(self, end: Layer) -> Group | None:
        """The group that ends in a layer which nothing else needs."""
        return self.open.get(end) if self._is_used_once(end) else None

    def _extend(self, group: Group | None, source: Layer, layer: Layer) -> None:
        """Put a layer behind its source: into its group, or one that reads what was stored."""
        if group is None:
            self._begin(Group(source, is_own=False, chain=[layer]))
            return
        del self.open[group.end]
        group.chain.append(layer)
        self.open[layer] = group

    def _place_add(self, layer: Add) -> None:
        """Behind the source that is computed last; best a product, whose sums need not be stored then."""
        candidates = [group for source in layer.sources if (group := self._extensible(source)) is not None]

        def preference(group: Group) -> tuple[bool, int]:
            return isinstance(group.root, (Linear, Conv2d)), self.groups.index(group)

        best = max(candidates, key=preference, default=None)
        self._extend(best, layer.first if best is None else best.end, layer)

    def _coders(self, layer: Sign | Quantise) -> tuple[Layer, list[Layer]]:
        """What makes codes, with the batch norms before it that nothing else needs; and what these begin with."""
        coders: list[Layer] = [layer]
        at = layer.source
        if isinstance(at, Flatten) and self._is_used_once(at):
            at = at.source  # in memory numbers lie as they did
        while not rounds(layer) and isinstance(at, BatchNorm) and self._is_used_once(at):
            coders.insert(0, at)
            at = at.source
        return at, coders

    def _place_coder(self, start: Layer, coders: list[Layer]) -> None:
        group = self.open.get(start)
        fits = (
            group is not None
            and not group.coders
            and (start.is_real or self._is_used_once(start) or not rounds(coders[-1]))
        )
        if group is not None and fits:
            group.coders = coders
        else:
            self.groups.append(Group(start, is_own=False, coders=coders))

    def _check_flatten(self, layer: Flatten) -> None:
        if layer is self.output:
            raise InputError("a network cannot end in Flatten: leave it out")
        users = self.users[layer]
        if layer.source.codes is None and not (len(users) == 1 and isinstance(users[0], (Sign, Quantise))):
            raise InputError(f"Flatten of numbers must come before one Sign or Quantise, not {users[0].name}")


def _sorted(groups: list[Group]) -> list[Group]:
    """The groups, each after those whose layers it reads."""
    maker = {layer: group for group in groups for layer in group.layers}

    def made_by(layer: Layer) -> Group:
        while isinstance(layer, Flatten):
            layer = layer.source
        return maker[layer]

    done: dict[Group, None] = {}
    for group in groups:
        waiting = [group]
        while waiting:
            current = waiting[-1]
            missing = [other for layer in current.reads if (other := made_by(layer)) not in done]
            if missing and current not in done:
                waiting += missing
            else:
                done.setdefault(waiting.pop())
    return list(done)
