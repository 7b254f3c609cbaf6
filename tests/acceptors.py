"""Acceptors in tests: the sequences that they accept, and whether two are the same."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from nnet.modelfile.fst import Fst

Arcs = list[tuple[int, float, int]]


def arcs_of(fst: Fst, state: int) -> Arcs:
    """(label, cost, next state) of the arcs that leave a state."""
    span = slice(int(fst.offsets[state]), int(fst.offsets[state + 1]))
    return list(
        zip(
            fst.ilabels[span].tolist(),
            fst.weights[span].tolist(),
            fst.nextstates[span].tolist(),
            strict=True,
        )
    )


def language(fst: Fst) -> dict[tuple[int, ...], float]:
    """The sequences that an acceptor without cycles accepts, with the cost of the cheapest path."""
    found: dict[tuple[int, ...], float] = {}
    paths = [(fst.start, (), 0.0)] if fst.start >= 0 else []
    for state, labels, cost in paths:  # grows
        final = cost + float(fst.finals[state])
        if math.isfinite(final):
            found[labels] = min(final, found.get(labels, math.inf))
        for label, weight, following in arcs_of(fst, state):
            paths.append((following, (*labels, label) if label else labels, cost + weight))
    return found


def difference(ours: Fst, theirs: Fst) -> float:
    """The largest difference of a cost between two acceptors that are the same otherwise.

    States are matched from the start on, arcs by label and, of the same label, by cost.
    """
    matched = {ours.start: theirs.start}
    queue = [ours.start]
    worst = 0.0
    for state in queue:  # grows
        pairs = zip(
            sorted(arcs_of(ours, state)), sorted(arcs_of(theirs, matched[state])), strict=True
        )
        for (label, cost, following), (their_label, their_cost, their_following) in pairs:
            assert label == their_label
            worst = max(worst, abs(cost - their_cost))
            if following not in matched:
                matched[following] = their_following
                queue.append(following)
            assert matched[following] == their_following
        final, their_final = ours.finals[state], theirs.finals[matched[state]]
        assert math.isfinite(final) == math.isfinite(their_final)
        worst = max(worst, abs(final - their_final) if math.isfinite(final) else 0.0)
    assert len(matched) == ours.num_states == theirs.num_states
    return worst


def path_difference(ours: Fst, theirs: Fst) -> float:
    """The largest difference of the costs of a path, between two deterministic acceptors.

    They must accept the same sequences; how costs lie along the paths does not matter.
    """
    owed = {(ours.start, theirs.start): 0.0}
    queue = [(ours.start, theirs.start)]
    worst = 0.0
    for pair in queue:  # grows
        mine = {label: (cost, state) for label, cost, state in arcs_of(ours, pair[0])}
        others = {label: (cost, state) for label, cost, state in arcs_of(theirs, pair[1])}
        assert mine.keys() == others.keys()
        for label in mine:
            following = (mine[label][1], others[label][1])
            now = owed[pair] + mine[label][0] - others[label][0]
            if following not in owed:
                owed[following] = now
                queue.append(following)
            worst = max(worst, abs(now - owed[following]))
        final, their_final = float(ours.finals[pair[0]]), float(theirs.finals[pair[1]])
        assert math.isfinite(final) == math.isfinite(their_final)
        if math.isfinite(final):
            worst = max(worst, abs(owed[pair] + final - their_final))
    return worst


@st.composite
def acyclic_acceptors(draw: st.DrawFn, epsilons: bool = False, labels: int = 3) -> Fst:
    """Small acceptors without cycles, some with costs that cannot be told apart."""
    states = draw(st.integers(1, 6))
    costs = st.integers(0, 12).map(lambda quarter: quarter / 4)
    arcs = draw(
        st.lists(
            st.tuples(
                st.integers(0, states - 1),
                st.integers(0 if epsilons else 1, labels),
                costs,
                st.integers(0, states - 1),
            ).filter(lambda arc: arc[0] < arc[3]),
            max_size=12,
        )
        if states > 1
        else st.just([])
    )
    finals = draw(st.dictionaries(st.integers(0, states - 1), costs, min_size=1))
    return Fst.of(states, sorted(arcs, key=lambda arc: arc[0]), finals)
