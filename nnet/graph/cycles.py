"""Recurrences: which nodes depend on themselves, and through what delay."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from nnet.graph.network import ComponentNode, DimRangeNode, InputNode, Network, Node
from nnet.text import syntax
from nnet.text.source import TextError
from nnet.text.syntax import Descriptor
from nnet.text.traverse import parts

N = TypeVar("N", bound=Hashable)

# Stands for "any frame": the offset of a ReplaceIndex of t.
ANY = 10**12


@dataclass(frozen=True)
class Read:
    """A node's frame t reads frames t + first up to t + last of node `source`, of row x + x."""

    source: str
    first: int
    last: int
    x: int = 0


def reads(network: Network, node: Node) -> list[Read]:
    """What a node reads, with the range of time offsets of each."""
    if isinstance(node, InputNode):
        return []
    if isinstance(node, DimRangeNode):
        return [Read(node.source, 0, 0)]
    first = last = 0
    if isinstance(node, ComponentNode):
        window = network.components[node.component].window
        if not window.offsets:
            return []
        first, last = window.first, window.last
    return list(_descriptor_reads(node.input, first, last, 0))


def _descriptor_reads(descriptor: Descriptor, first: int, last: int, x: int) -> Iterator[Read]:
    match descriptor:
        case syntax.NodeName(name):
            yield Read(name, first, last, x)
            return
        case syntax.Offset(_, t, dx):
            first, last, x = first + t, last + t, x + dx
        case syntax.Round(_, modulus):
            first -= modulus - 1
        case syntax.ReplaceIndex(_, "t"):
            first, last = -ANY, ANY
    for part in parts(descriptor):
        yield from _descriptor_reads(part, first, last, x)


def check_cycles(network: Network) -> None:
    """Raises TextError if a node depends on itself without delay.

    All cycles that hang together must go back in time, or all forward; else some frame would
    need itself.
    """
    edges = {name: reads(network, node) for name, node in network.nodes.items()}
    for group in cyclic_groups({name: [r.source for r in e] for name, e in edges.items()}):
        inside = [
            (name, read)
            for name in group
            for read in edges[name]
            if read.source in group and read.x == 0
        ]
        forward = _cycle_at_least_zero(group, [(n, r, r.last) for n, r in inside])
        backward = _cycle_at_least_zero(group, [(n, r, -r.first) for n, r in inside])
        if forward is not None and backward is not None:
            _refuse(network, forward, backward)


def _refuse(
    network: Network, forward: list[tuple[str, Read]], backward: list[tuple[str, Read]]
) -> None:
    for cycle in (forward, backward):
        if sum(r.first for _, r in cycle) <= 0 <= sum(r.last for _, r in cycle):
            raise TextError(
                network.nodes[cycle[0][0]].span,
                f"a cycle without delay: {_path(cycle)}",
                expected="a total time offset that is not zero around every cycle, such as "
                f"IfDefined(Offset({cycle[0][1].source}, -1))",
            )
    raise TextError(
        network.nodes[forward[0][0]].span,
        f"a cycle that goes forward in time ({_path(forward)}) hangs together with one that "
        f"goes back ({_path(backward)}): together they have no delay",
    )


def _path(cycle: list[tuple[str, Read]]) -> str:
    return " -> ".join(f"'{name}'" for name in (*(name for name, _ in cycle), cycle[0][0]))


def cyclic_groups(graph: Mapping[N, Sequence[N]]) -> list[list[N]]:
    """The strongly connected groups of a graph that contain a cycle."""
    groups = strongly_connected(graph)
    return [group for group in groups if len(group) > 1 or group[0] in graph[group[0]]]


def strongly_connected(graph: Mapping[N, Sequence[N]]) -> list[list[N]]:
    """The strongly connected groups of a graph, each after all that it leads to (Tarjan)."""
    index: dict[N, int] = {}
    low: dict[N, int] = {}
    stack: dict[N, None] = {}
    groups: list[list[N]] = []
    for root in graph:
        waiting = [] if root in index else [(root, iter(graph[root]))]
        while waiting:
            node, rest = waiting[-1]
            if node not in index:
                index[node] = low[node] = len(index)
                stack[node] = None
            new = None
            for target in rest:
                if target not in index:
                    new = target
                    break
                if target in stack:
                    low[node] = min(low[node], index[target])
            if new is not None:
                waiting.append((new, iter(graph[new])))
                continue
            waiting.pop()
            if waiting:
                parent = waiting[-1][0]
                low[parent] = min(low[parent], low[node])
            if low[node] == index[node]:
                group: list[N] = []
                while not group or group[-1] != node:
                    group.append(stack.popitem()[0])
                groups.append(group[::-1])
    return groups


def _cycle_at_least_zero(
    group: list[str], edges: list[tuple[str, Read, int]]
) -> list[tuple[str, Read]] | None:
    """A cycle whose weights sum to zero or more, or None (Bellman and Ford's algorithm).

    Weights are multiplied by more than the length of a cycle, and 1 is added to each: then the
    sums that were zero or more are exactly those above zero.
    """
    weighted = [(name, read, weight * (len(group) + 1) + 1) for name, read, weight in edges]
    best = dict.fromkeys(group, 0)
    came: dict[str, tuple[str, Read]] = {}
    changed = ""
    for _ in range(len(group) + 1):
        changed = ""
        for name, read, weight in weighted:
            if best[name] + weight > best[read.source]:
                best[read.source] = best[name] + weight
                came[read.source] = (name, read)
                changed = read.source
        if not changed:
            return None
    for _ in group:
        changed = came[changed][0]
    cycle = [came[changed]]
    while cycle[0][0] != changed:
        cycle.insert(0, came[cycle[0][0]])
    return cycle
