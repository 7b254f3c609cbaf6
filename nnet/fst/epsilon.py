"""Removal of epsilon arcs."""

from __future__ import annotations

import heapq

import numpy as np

from nnet.fst.states import acceptor, connected
from nnet.modelfile.fst import Fst


def without_epsilons(fst: Fst) -> Fst:
    """An equivalent acceptor without epsilon arcs (OpenFst's RmEpsilon).

    Of several ways through epsilons the cheapest counts, as the tropical semiring says. Costs of
    epsilon arcs must not be negative on cycles.
    """
    if not (fst.ilabels == 0).any():
        return fst
    arcs = _Arcs(fst)
    finals = fst.finals.astype(np.float64)
    is_plain = fst.ilabels != 0
    is_kept = is_plain & ~arcs.leaves_by_epsilon[fst.sources]
    parts = [
        (fst.sources[is_kept], fst.ilabels[is_kept], fst.weights[is_kept], fst.nextstates[is_kept])
    ]
    for state in np.flatnonzero(arcs.leaves_by_epsilon).tolist():
        closure = arcs.closure(state)
        finals[state] = min(cost + float(fst.finals[other]) for other, cost in closure.items())
        found: dict[tuple[int, int], float] = {}
        for other, cost in closure.items():
            for label, weight, following in arcs.plain(other):
                key = (label, following)
                found[key] = min(found.get(key, np.inf), cost + weight)
        labels, targets = np.array(list(found), np.int64).reshape(-1, 2).T
        parts.append((np.full(len(found), state), labels, np.array([*found.values()]), targets))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return connected(acceptor(fst.start, finals, *columns))


class _Arcs:
    """The arcs of an FST as lists, epsilons apart."""

    def __init__(self, fst: Fst) -> None:
        self._begins = fst.offsets.tolist()
        self._labels = fst.ilabels.tolist()
        self._weights = fst.weights.tolist()
        self._nextstates = fst.nextstates.tolist()
        self.leaves_by_epsilon = np.zeros(fst.num_states, bool)
        self.leaves_by_epsilon[fst.sources[fst.ilabels == 0]] = True

    def plain(self, state: int) -> list[tuple[int, float, int]]:
        """(label, cost, next state) of the arcs with a label."""
        return [
            (self._labels[arc], self._weights[arc], self._nextstates[arc])
            for arc in range(self._begins[state], self._begins[state + 1])
            if self._labels[arc]
        ]

    def closure(self, state: int) -> dict[int, float]:
        """The states reached through epsilons, with the cheapest cost (Dijkstra's algorithm)."""
        costs: dict[int, float] = {}
        queue = [(0.0, state)]
        while queue:
            cost, state = heapq.heappop(queue)
            if state in costs:
                continue
            costs[state] = cost
            for arc in range(self._begins[state], self._begins[state + 1]):
                following = self._nextstates[arc]
                if not self._labels[arc] and following not in costs:
                    heapq.heappush(queue, (cost + self._weights[arc], following))
        return costs
