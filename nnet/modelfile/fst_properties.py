"""OpenFst's property bits, which its files hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]

EXPANDED, MUTABLE = 1, 2
ACCEPTOR = 1 << 16
I_DETERMINISTIC, O_DETERMINISTIC = 1 << 18, 1 << 20
EPSILONS, I_EPSILONS, O_EPSILONS = 1 << 22, 1 << 24, 1 << 26
I_LABEL_SORTED, O_LABEL_SORTED = 1 << 28, 1 << 30
WEIGHTED, CYCLIC, INITIAL_CYCLIC, TOP_SORTED = 1 << 32, 1 << 34, 1 << 36, 1 << 38
ACCESSIBLE, COACCESSIBLE, STRING, WEIGHTED_CYCLES = 1 << 40, 1 << 42, 1 << 44, 1 << 46


def properties(
    start: int,
    finals: Floats,
    offsets: Integers,
    ilabels: Integers,
    olabels: Integers,
    weights: Floats,
    nextstates: Integers,
) -> int:
    """All properties of an FST over the tropical semiring; the arguments are as in `Fst`.

    Each property has a bit for true, and the next higher one for false.
    """
    states = len(finals)
    sources = np.repeat(np.arange(states), np.diff(offsets))
    cycles = _cycles(start, offsets, sources, weights, nextstates)
    truths = {
        ACCEPTOR: (ilabels == olabels).all(),
        I_DETERMINISTIC: _deterministic(sources, ilabels),
        O_DETERMINISTIC: _deterministic(sources, olabels),
        EPSILONS: ((ilabels == 0) & (olabels == 0)).any(),
        I_EPSILONS: (ilabels == 0).any(),
        O_EPSILONS: (olabels == 0).any(),
        I_LABEL_SORTED: _sorted(sources, ilabels),
        O_LABEL_SORTED: _sorted(sources, olabels),
        WEIGHTED: weights.any() or finals[np.isfinite(finals)].any(),
        TOP_SORTED: (sources < nextstates).all(),
        ACCESSIBLE: _reached(states, [start] if start >= 0 else [], offsets, nextstates),
        COACCESSIBLE: _coaccessible(finals, sources, nextstates),
        STRING: _string(start, finals, offsets, nextstates),
        **cycles,
    }
    return sum(bit if true else bit << 1 for bit, true in truths.items())


def _deterministic(sources: Integers, labels: Integers) -> bool:
    pairs = np.stack((sources, labels), 1)
    return len(np.unique(pairs, axis=0)) == len(pairs)


def _sorted(sources: Integers, labels: Integers) -> bool:
    falls = (np.diff(labels) < 0) & (np.diff(sources) == 0)
    return not falls.any()


def _reached(states: int, roots: list[int], offsets: Integers, nextstates: Integers) -> bool:
    """Whether all states can be reached from some."""
    seen = np.zeros(states, bool)
    seen[roots] = True
    todo = list(roots)
    follow, begins = nextstates.tolist(), offsets.tolist()
    while todo:
        state = todo.pop()
        for following in follow[begins[state] : begins[state + 1]]:
            if not seen[following]:
                seen[following] = True
                todo.append(following)
    return bool(seen.all())


def _coaccessible(finals: Floats, sources: Integers, nextstates: Integers) -> bool:
    order = np.argsort(nextstates, kind="stable")
    offsets = np.searchsorted(nextstates[order], np.arange(len(finals) + 1))
    roots = np.flatnonzero(np.isfinite(finals)).tolist()
    return _reached(len(finals), roots, offsets, sources[order])


def _string(start: int, finals: Floats, offsets: Integers, nextstates: Integers) -> bool:
    """Whether there is one path only, through states in order."""
    counts = np.diff(offsets)
    inner = (counts == 1) & ~np.isfinite(finals)
    return bool(
        len(finals)
        and start == 0
        and inner[:-1].all()
        and counts[-1] == 0
        and np.isfinite(finals[-1])
        and (nextstates == np.arange(1, len(finals))).all()
    )


def _cycles(
    start: int, offsets: Integers, sources: Integers, weights: Floats, nextstates: Integers
) -> dict[int, bool]:
    """Whether there are cycles, some through the start state, and some with a cost."""
    if (sources < nextstates).all():
        return {CYCLIC: False, INITIAL_CYCLIC: False, WEIGHTED_CYCLES: False}
    component = _components(offsets, nextstates)
    inside = component[sources] == component[nextstates]
    return {
        CYCLIC: bool(inside.any()),
        INITIAL_CYCLIC: bool(
            start >= 0 and (inside & (component[sources] == component[start])).any()
        ),
        WEIGHTED_CYCLES: bool(weights[inside].any()),
    }


def _components(offsets: Integers, nextstates: Integers) -> Integers:
    """The strongly connected component of each state, by Tarjan's algorithm."""
    begins, follow = offsets.tolist(), nextstates.tolist()
    states = len(begins) - 1
    order, low, component = [-1] * states, [0] * states, [-1] * states
    path: list[int] = []
    counter = found = 0
    for root in range(states):
        if order[root] >= 0:
            continue
        calls = [(root, begins[root])]
        order[root] = low[root] = counter
        counter += 1
        path.append(root)
        while calls:
            state, arc = calls.pop()
            if arc < begins[state + 1]:
                calls.append((state, arc + 1))
                following = follow[arc]
                if order[following] < 0:
                    order[following] = low[following] = counter
                    counter += 1
                    path.append(following)
                    calls.append((following, begins[following]))
                elif component[following] < 0:
                    low[state] = min(low[state], order[following])
                continue
            if calls:
                low[calls[-1][0]] = min(low[calls[-1][0]], low[state])
            if low[state] == order[state]:
                while component[state] < 0:
                    component[path.pop()] = found
                found += 1
    return np.array(component, np.int64)
