"""The places of a network that outputs depend on, in an order in which they can be computed.

A place is a node and an x index; times stay symbolic. Places that depend on themselves, through a
delay, are put in order as if what they read from other times were there already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from nnet.graph.cycles import ANY, cyclic_groups
from nnet.graph.network import ComponentNode, DimRangeNode, InputNode, Network
from nnet.text import syntax
from nnet.text.source import TextError
from nnet.text.syntax import Descriptor
from nnet.text.traverse import parts

LARGEST_X = 100
"""Rows further out than this are taken to be undefined."""


class NodePlace(NamedTuple):
    """A node name and the x index at which its rows are wanted."""

    node: str
    x: int


@dataclass(frozen=True)
class Reference:
    """Row t of a place reads rows t + first .. t + last of another."""

    place: NodePlace
    first: int
    last: int


class NodePlaces:
    """What a network's places read, and which of them can have rows at all."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._possible: dict[NodePlace, bool] = {}

    def references(self, place: NodePlace) -> list[Reference]:
        """What a place reads, as far as that can have rows."""
        match self.network.nodes[place.node]:
            case DimRangeNode(source=source):
                return [Reference(NodePlace(source, place.x), 0, 0)]
            case ComponentNode(component=component, input=descriptor):
                spec = self.network.components[component]
                if not spec.window.offsets:
                    return []
                x, _ = spec.input_place(place.x)
                return self.described(descriptor, x, spec.window.first, spec.window.last)
        return []

    def described(
        self, descriptor: Descriptor, x: int, first: int = 0, last: int = 0
    ) -> list[Reference]:
        """What row x of a descriptor reads when it is read at times t + first .. t + last."""
        references = self._described(descriptor, x, first, last)
        return [reference for reference in references if self.possible(reference.place)]

    def _described(
        self, descriptor: Descriptor, x: int, first: int, last: int
    ) -> Iterator[Reference]:
        match descriptor:
            case syntax.NodeName(name=name):
                yield Reference(NodePlace(name, x), first, last)
                return
            case syntax.Offset(t=t, x=dx):
                first, last, x = first + t, last + t, x + dx
            case syntax.Round(modulus=modulus):
                first -= modulus - 1
            case syntax.ReplaceIndex(variable="x", value=value):
                x = value
            case syntax.ReplaceIndex():
                first, last = -ANY, ANY
        for part in parts(descriptor):
            yield from self._described(part, x, first, last)

    def possible(self, place: NodePlace) -> bool:
        """False if a place has no row at any time, whatever inputs are given at x = 0."""
        if place not in self._possible:
            self._possible[place] = abs(place.x) <= LARGEST_X
            if self._possible[place]:
                self._possible[place] = self._possible_here(place)
        return self._possible[place]

    def _possible_here(self, place: NodePlace) -> bool:
        match self.network.nodes[place.node]:
            case InputNode():
                return place.x == 0
            case DimRangeNode(source=source):
                return self.possible(NodePlace(source, place.x))
            case ComponentNode(component=component, input=descriptor):
                spec = self.network.components[component]
                x, _ = spec.input_place(place.x)
                return not spec.window.offsets or self.can_be(descriptor, x)
        return True

    def can_be(self, descriptor: Descriptor, x: int) -> bool:
        """False if row x of a descriptor cannot be computed at any time."""
        match descriptor:
            case syntax.NodeName(name=name):
                return self.possible(NodePlace(name, x))
            case syntax.IfDefined() | syntax.Const():
                return True
            case syntax.Failover(first=first, second=second):
                return self.can_be(first, x) or self.can_be(second, x)
            case syntax.Switch(sources=sources):
                return any(self.can_be(source, x) for source in sources)
            case syntax.Offset(source=source, x=dx):
                return self.can_be(source, x + dx)
            case syntax.ReplaceIndex(source=source, variable="x", value=value):
                return self.can_be(source, value)
        return all(self.can_be(part, x) for part in parts(descriptor))

    def in_order(self, roots: Iterable[NodePlace]) -> list[NodePlace]:
        """All places that `roots` depend on, and they, each after what it reads.

        Inside a recurrence, references to other times may lead to later places.

        Raises:
            TextError: a place depends on its own row.
        """
        graph: dict[NodePlace, list[Reference]] = {}
        waiting = list(roots)
        while waiting:
            place = waiting.pop()
            if place not in graph:
                graph[place] = self.references(place)
                waiting.extend(r.place for r in graph[place])
        delayed = self._delayed(graph)
        order: dict[NodePlace, None] = {}
        for root in graph:
            stack = [(root, False)]
            while stack:
                place, finished = stack.pop()
                if finished:
                    order[place] = None
                elif place not in order:
                    stack.append((place, True))
                    following = (r.place for r in graph[place] if (place, r) not in delayed)
                    stack.extend((p, False) for p in following if p not in order)
        return list(order)

    def _delayed(
        self, graph: Mapping[NodePlace, list[Reference]]
    ) -> set[tuple[NodePlace, Reference]]:
        """The references inside recurrences that do not order the places."""
        delayed: set[tuple[NodePlace, Reference]] = set()
        for group in cyclic_groups({p: [r.place for r in rs] for p, rs in graph.items()}):
            members = set(group)
            inside = [(p, r) for p in group for r in graph[p] if r.place in members]
            slack = _slack(group, inside)
            if slack is None:
                raise _no_order(self.network, group)
            delayed |= slack
        return delayed


def _slack(
    group: list[NodePlace], edges: list[tuple[NodePlace, Reference]]
) -> set[tuple[NodePlace, Reference]] | None:
    """The references that leave time between a row and what it reads; None if there is no order.

    Longest paths in frames, for a recurrence that goes forward in time, or else backward: without
    the references that are not on one, no cycle is left.
    """
    for forward in (True, False):
        lead = dict.fromkeys(group, 0)
        for _ in range(len(group) + 1):
            changed = False
            for place, reference in edges:
                reach = reference.last if forward else -reference.first
                if lead[place] < lead[reference.place] + reach:
                    lead[place] = lead[reference.place] + reach
                    changed = True
            if not changed:
                return {
                    (place, r)
                    for place, r in edges
                    if lead[place] > lead[r.place] + (r.last if forward else -r.first)
                }
    return None


def _no_order(network: Network, group: list[NodePlace]) -> TextError:
    names = " -> ".join(f"'{place.node}'" for place in (*group, group[0]))
    return TextError(
        network.nodes[group[0].node].span,
        f"a recurrence without order in time: {names}",
        expected="every cycle to go back in time, or every cycle to go forward",
    )
