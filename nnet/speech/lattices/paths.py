"""Best paths of lattices, their order, and pruning."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.modelfile.lattices import NO_LABELS, CompactLattice, Lattice, LatticeArcs

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
L = TypeVar("L", bound=LatticeArcs)


@dataclass(frozen=True)
class Scales:
    """Factors of the costs where paths are compared (Kaldi's --lm-scale, --acoustic-scale)."""

    lm: float = 1.0
    acoustic: float = 1.0

    def arcs(self, lattice: LatticeArcs) -> Doubles:
        """The costs of the arcs, (arcs,)."""
        return self._sum(lattice.graph_costs, lattice.acoustic_costs)

    def finals(self, lattice: LatticeArcs) -> Doubles:
        """The final costs of the states, (states,)."""
        graph, acoustic = lattice.final_graph_costs, lattice.final_acoustic_costs
        is_final = np.isfinite(graph)
        return np.where(is_final, self._sum(np.where(is_final, graph, 0), acoustic), np.inf)

    def _sum(self, graph: NDArray[np.float32], acoustic: NDArray[np.float32]) -> Doubles:
        finite = np.where(np.isfinite(acoustic), acoustic, 0).astype(np.float64)
        return self.lm * graph.astype(np.float64) + self.acoustic * finite


@dataclass(frozen=True, eq=False)
class LatticePath:
    """One path of a lattice.

    Args:
        words: int32 (words,).
        transitions: int32 (frames,).
        graph_cost: without a scale, in nats.
        acoustic_cost: likewise.
        arcs: the arcs on the way.
    """

    words: NDArray[np.int32]
    transitions: NDArray[np.int32]
    graph_cost: float
    acoustic_cost: float
    arcs: tuple[int, ...]


def scaled(lattice: L, scales: Scales) -> L:
    """The lattice with its costs multiplied (lattice-scale)."""
    return replace(
        lattice,
        graph_costs=lattice.graph_costs * np.float32(scales.lm),
        acoustic_costs=lattice.acoustic_costs * np.float32(scales.acoustic),
        final_graph_costs=lattice.final_graph_costs * np.float32(scales.lm),
        final_acoustic_costs=lattice.final_acoustic_costs * np.float32(scales.acoustic),
    )


def topological(lattice: L) -> L:
    """The lattice with its states in an order such that arcs lead to higher ones.

    Raises:
        NnetError: it has cycles.
    """
    if lattice.num_states == 0 or (
        lattice.start == 0 and bool((lattice.nextstates > lattice.sources).all())
    ):
        return lattice
    missing = np.bincount(lattice.nextstates, minlength=lattice.num_states)
    ready = [lattice.start] if not missing[lattice.start] else []
    ready += [s for s in np.flatnonzero(missing == 0).tolist() if s != lattice.start]
    offsets, nextstates = lattice.offsets.tolist(), lattice.nextstates.tolist()
    for state in ready:  # grows as states are ready
        for following in nextstates[offsets[state] : offsets[state + 1]]:
            missing[following] -= 1
            if not missing[following]:
                ready.append(following)
    if len(ready) < lattice.num_states or ready[0] != lattice.start:
        raise NnetError("the lattice has cycles; expected: one of a decoder")
    return restricted(lattice, np.array(ready), np.ones(lattice.num_arcs, bool))


def restricted(lattice: L, states: Integers, arcs: NDArray[np.bool_]) -> L:
    """The lattice with some of its states, in the order given, and some of the arcs between."""
    number = np.full(lattice.num_states, -1)
    number[states] = np.arange(len(states))
    sources, targets = number[lattice.sources], number[lattice.nextstates]
    kept = np.flatnonzero(arcs & (sources >= 0) & (targets >= 0))
    kept = kept[np.argsort(sources[kept], kind="stable")]
    changes: dict[str, Any] = {
        "start": int(number[lattice.start]) if len(states) else -1,
        "offsets": np.searchsorted(sources[kept], np.arange(len(states) + 1)),
        "words": lattice.words[kept],
        "graph_costs": lattice.graph_costs[kept],
        "acoustic_costs": lattice.acoustic_costs[kept],
        "nextstates": targets[kept].astype(np.int32),
        "final_graph_costs": lattice.final_graph_costs[states],
        "final_acoustic_costs": lattice.final_acoustic_costs[states],
    }
    return replace(lattice, **changes, **lattice.labels(kept, states))


def connected(lattice: L) -> L:
    """The lattice without states that are on no path from the start to an end."""
    return pruned(lattice, np.inf)


def pruned(lattice: L, beam: float, scales: Scales = Scales()) -> L:
    """The lattice without what only paths go through that cost `beam` more than the best one.

    Raises:
        NnetError: it has cycles.
    """
    lattice = topological(lattice)
    if lattice.num_states == 0:
        return lattice
    costs, finals = scales.arcs(lattice), scales.finals(lattice)
    forward, backward = forward_costs(lattice, costs), backward_costs(lattice, costs, finals)
    most = backward[lattice.start] + beam
    if not backward[lattice.start] < np.inf:
        return restricted(lattice, np.zeros(0, np.int64), np.zeros(lattice.num_arcs, bool))
    slack = 1e-5 * (1 + abs(most)) if np.isfinite(most) else 0.0
    through = forward[lattice.sources] + costs + backward[lattice.nextstates]
    arcs = np.isfinite(through) & (through <= most + slack)
    total = forward + backward
    states = np.flatnonzero(np.isfinite(total) & (total <= most + slack))
    kept = restricted(lattice, states, arcs)
    ends = (forward + finals)[states] <= most + slack
    return replace(
        kept,
        final_graph_costs=np.where(ends, kept.final_graph_costs, np.float32(np.inf)),
        final_acoustic_costs=np.where(ends, kept.final_acoustic_costs, np.float32(np.inf)),
    )


def forward_costs(lattice: LatticeArcs, costs: Doubles) -> Doubles:
    """The cost of the cheapest way to each state; the lattice is in topological order."""
    forward = np.full(lattice.num_states, np.inf)
    forward[lattice.start] = 0.0
    for state in range(lattice.num_states):
        arcs = slice(*lattice.offsets[state : state + 2].tolist())
        np.minimum.at(forward, lattice.nextstates[arcs], forward[state] + costs[arcs])
    return forward


def backward_costs(lattice: LatticeArcs, costs: Doubles, finals: Doubles) -> Doubles:
    """The cost of the cheapest way from each state to an end, likewise."""
    backward = finals.copy()
    for state in range(lattice.num_states - 1, -1, -1):
        arcs = slice(*lattice.offsets[state : state + 2].tolist())
        ahead = costs[arcs] + backward[lattice.nextstates[arcs]]
        backward[state] = min(backward[state], ahead.min(initial=np.inf))
    return backward


def best_path(lattice: Lattice | CompactLattice, scales: Scales = Scales()) -> LatticePath:
    """The cheapest path.

    Raises:
        NnetError: there is none.
    """
    for path in paths(lattice, scales):
        return path
    raise NnetError("the lattice has no path")


def paths(lattice: Lattice | CompactLattice, scales: Scales = Scales()) -> Iterator[LatticePath]:
    """All paths, the cheapest first.

    In a lattice that was determinized each has other words.
    """
    lattice = topological(lattice)
    if lattice.num_states == 0:
        return
    costs, finals = scales.arcs(lattice), scales.finals(lattice)
    backward = backward_costs(lattice, costs, finals)
    offsets, nextstates = lattice.offsets.tolist(), lattice.nextstates.tolist()
    queue: list[tuple[float, int, float, int, tuple[int, ...], bool]] = []
    counter = 0  # of equal ones the first that was found comes first
    if backward[lattice.start] < np.inf:
        queue.append((backward[lattice.start], 0, 0.0, lattice.start, (), False))
    while queue:
        _, _, cost, state, arcs, is_end = heapq.heappop(queue)
        if is_end:
            yield _path(lattice, arcs, state)
            continue
        steps = [(cost + finals[state], cost, state, arcs, True)]
        for arc in range(offsets[state], offsets[state + 1]):
            reached = cost + costs[arc]
            total = reached + backward[nextstates[arc]]
            steps.append((total, reached, nextstates[arc], (*arcs, arc), False))
        for total, *step in steps:
            if total < np.inf:
                counter += 1
                heapq.heappush(queue, (total, counter, *step))


def _path(lattice: Lattice | CompactLattice, arcs: Sequence[int], end: int) -> LatticePath:
    taken = np.array(arcs, np.int64)
    words = lattice.words[taken]
    graph = lattice.graph_costs[taken].sum(dtype=np.float64) + lattice.final_graph_costs[end]
    acoustic = lattice.acoustic_costs[taken].sum(dtype=np.float64)
    if isinstance(lattice, CompactLattice):
        strings = [lattice.strings[arc] for arc in arcs]
        transitions = np.concatenate([NO_LABELS, *strings, lattice.final_strings[end]])
    else:
        transitions = lattice.transitions[taken]
        transitions = transitions[transitions > 0]
    return LatticePath(
        words[words > 0],
        transitions,
        float(graph),
        float(acoustic + lattice.final_acoustic_costs[end]),
        tuple(arcs),
    )
