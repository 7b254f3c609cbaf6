"""Determinization, and minimization of acceptors without cycles."""

from __future__ import annotations

import math

import numpy as np

from nnet.fst.states import acceptor
from nnet.modelfile.fst import Fst

DELTA = 1 / 1024
"""To multiples of which OpenFst rounds the weights that are left in a subset."""
SAME_WEIGHT = 1e-6
Subset = tuple[tuple[int, float], ...]


def determinized(fst: Fst) -> Fst:
    """An equivalent acceptor in which no state has two arcs of the same label.

    By subsets of states with the weight that each still owes; as in OpenFst this is rounded to
    multiples of 1/1024. Of paths with the same labels the cheapest counts. The acceptor must have
    no epsilons and no cycles (with cycles it might not end). If it is connected, so is the result.
    """
    begins, labels = fst.offsets.tolist(), fst.ilabels.tolist()
    weights, nextstates = fst.weights.tolist(), fst.nextstates.tolist()
    old_finals = fst.finals.tolist()
    start: Subset = ((fst.start, 0.0),)
    subsets = {start: 0}
    queue = [start]
    finals: list[float] = []
    arcs: list[tuple[int, int, float, int]] = []
    for number, subset in enumerate(queue):  # grows as subsets are found
        finals.append(min(owed + old_finals[state] for state, owed in subset))
        reached: dict[int, dict[int, float]] = {}
        for state, owed in subset:
            for arc in range(begins[state], begins[state + 1]):
                following = reached.setdefault(labels[arc], {})
                cost = owed + weights[arc]
                if cost < following.get(nextstates[arc], math.inf):
                    following[nextstates[arc]] = cost
        for label in sorted(reached):
            least = min(reached[label].values())
            key = tuple(
                (state, math.floor((cost - least) / DELTA + 0.5) * DELTA)
                for state, cost in sorted(reached[label].items())
            )
            if key not in subsets:
                subsets[key] = len(queue)
                queue.append(key)
            arcs.append((number, label, least, subsets[key]))
    return _from_arcs(np.array(finals), arcs)


def minimized(fst: Fst) -> Fst:
    """The smallest equivalent deterministic acceptor; weights are pushed towards the start.

    The acceptor must be connected and without cycles, and as `determinized` gives it.
    """
    if fst.start < 0:
        return fst
    begins, labels = fst.offsets.tolist(), fst.ilabels.tolist()
    weights, nextstates = fst.weights.tolist(), fst.nextstates.tolist()
    old_finals = fst.finals.tolist()
    futures: dict[tuple[float, ...], int] = {}
    merged = [0] * fst.num_states  # the number of each state's future
    rest = [0.0] * fst.num_states  # the cheapest way to the end
    finals: list[float] = []
    arcs: list[tuple[int, int, float, int]] = []
    for state in _last_first(fst):
        span = range(begins[state], begins[state + 1])
        costs = [weights[arc] + rest[nextstates[arc]] for arc in span]
        least = rest[state] = min(old_finals[state], *costs) if costs else old_finals[state]
        key = [_rounded(old_finals[state] - least)]
        for arc, cost in zip(span, costs, strict=True):
            key += (labels[arc], _rounded(cost - least), merged[nextstates[arc]])
        number = futures.setdefault(tuple(key), len(finals))
        merged[state] = number
        if number == len(finals):
            finals.append(old_finals[state] - least)
            for arc, cost in zip(span, costs, strict=True):
                arcs.append((number, labels[arc], cost - least, merged[nextstates[arc]]))
    start, cost = merged[fst.start], rest[fst.start]  # nothing leads to the start
    arcs = [(s, label, w + cost if s == start else w, t) for s, label, w, t in arcs]
    finals[start] += cost
    return _from_arcs(np.array(finals), arcs, start)


def _rounded(cost: float) -> float:
    return round(cost / SAME_WEIGHT) if cost < math.inf else cost


def _last_first(fst: Fst) -> list[int]:
    """The states such that each comes after all that its arcs lead to."""
    begins, follow = fst.offsets.tolist(), fst.nextstates.tolist()
    missing = [begins[state + 1] - begins[state] for state in range(fst.num_states)]
    into: list[list[int]] = [[] for _ in range(fst.num_states)]
    for source, following in zip(fst.sources.tolist(), follow, strict=True):
        into[following].append(source)
    order = [state for state, count in enumerate(missing) if not count]
    for state in order:  # grows as states are ready
        for source in into[state]:
            missing[source] -= 1
            if not missing[source]:
                order.append(source)
    if len(order) != fst.num_states:
        raise ValueError("an acceptor with cycles cannot be minimized by its futures")
    return order


def _from_arcs(finals: np.ndarray, arcs: list[tuple[int, int, float, int]], start: int = 0) -> Fst:
    sources, labels, weights, nextstates = zip(*arcs, strict=True) if arcs else ((), (), (), ())
    return acceptor(start, finals, sources, labels, weights, nextstates)
