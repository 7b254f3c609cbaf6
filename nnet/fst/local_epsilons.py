"""Removal of epsilons where it does not make a transducer larger (Kaldi's RemoveEpsLocal)."""

from __future__ import annotations

import numpy as np

from nnet.fst.states import reached
from nnet.fst.transducers import Arc, transducer
from nnet.modelfile.fst import Fst

GONE = -1


def without_local_epsilons(fst: Fst) -> Fst:
    """An equivalent transducer in which pairs of arcs are one arc where labels allow it.

    An arc is joined with those after it if its next state has no other arc into it, or has just one
    way on. Costs stay what they are on every path, and the sum over the ways out of each state, in
    the sense of the tropical semiring, too.
    """
    if fst.start < 0:
        return fst
    removal = _Removal(fst)
    for state in range(fst.num_states):
        removal.leave(state)
    return removal.result()


class _Removal:
    """The transducer while arcs are joined; arcs that are gone stay in their places."""

    def __init__(self, fst: Fst) -> None:
        columns = (fst.ilabels, fst.olabels, fst.weights, fst.nextstates)
        arcs = [list(arc) for arc in zip(*(c.tolist() for c in columns), strict=True)]
        begins = fst.offsets.tolist()
        self._start = fst.start
        self._arcs = [arcs[begins[s] : begins[s + 1]] for s in range(fst.num_states)]
        self._finals = fst.finals.astype(np.float64).tolist()
        self._into = np.bincount(fst.nextstates, minlength=fst.num_states).tolist()
        self._into[fst.start] += 1
        self._out = (np.diff(fst.offsets) + np.isfinite(fst.finals)).tolist()

    def leave(self, state: int) -> None:
        """Joins the arcs of a state with those after them; the list grows meanwhile."""
        for arc in self._arcs[state]:
            following = arc[3]
            if following in (GONE, state):
                continue
            if self._into[following] == 1 and self._out[following] > 1:
                self._join_all(state, arc)
            elif self._out[following] == 1:
                self._join_one(state, arc)

    def _remove(self, state: int, arc: list) -> None:
        self._out[state] -= 1
        self._into[arc[3]] -= 1
        arc[3] = GONE

    def _add(self, state: int, arc: list) -> None:
        self._out[state] += 1
        self._into[arc[3]] += 1
        self._arcs[state].append(arc)

    def _add_final(self, state: int, cost: float) -> None:
        if self._finals[state] == np.inf:
            self._out[state] += 1
        self._finals[state] = min(self._finals[state], cost)

    def _remove_final(self, state: int) -> None:
        self._out[state] -= 1
        self._finals[state] = np.inf

    def _join_all(self, state: int, arc: list) -> None:
        """The next state is entered by this arc only, and has several ways on."""
        following = arc[3]
        removed = kept = np.inf
        joined = []
        for after in self._arcs[following]:
            if after[3] == GONE:
                continue
            both = _joined(arc, after)
            if both is None:
                kept = min(kept, after[2])
                continue
            removed = min(removed, after[2])
            self._remove(following, after)
            joined.append(both)
        final = self._finals[following]
        if final < np.inf:
            if arc[0] or arc[1]:
                kept = min(kept, final)
            else:
                removed = min(removed, final)
                self._add_final(state, arc[2] + final)
                self._remove_final(following)
        if removed < np.inf:
            if kept == np.inf:
                self._remove(state, arc)
            else:
                self._reweigh(arc, kept - min(removed, kept))
        for both in joined:
            self._add(state, both)

    def _reweigh(self, arc: list, cost: float) -> None:
        """Moves a cost from the ways out of the next state to the arc that enters it."""
        arc[2] += cost
        following = arc[3]
        for after in self._arcs[following]:
            if after[3] != GONE:
                after[2] -= cost
        self._finals[following] -= cost

    def _join_one(self, state: int, arc: list) -> None:
        """The next state has one way on."""
        following = arc[3]
        is_last = self._into[following] == 1
        final = self._finals[following]
        if final < np.inf:
            if arc[0] or arc[1]:
                return
            self._add_final(state, arc[2] + final)
            if is_last:
                self._remove_final(following)
            self._remove(state, arc)
            return
        after = next(other for other in self._arcs[following] if other[3] != GONE)
        both = _joined(arc, after)
        if both is None:
            return
        if is_last:
            self._remove(following, after)
        self._add(state, both)
        self._remove(state, arc)

    def result(self) -> Fst:
        arcs: list[Arc] = [
            (state, *arc) for state, own in enumerate(self._arcs) for arc in own if arc[3] != GONE
        ]
        columns = list(zip(*arcs, strict=True)) or [()] * 5
        return connected(transducer(self._start, self._finals, *columns))


def _joined(arc: list, after: list) -> list | None:
    if (arc[0] and after[0]) or (arc[1] and after[1]):
        return None
    return [arc[0] or after[0], arc[1] or after[1], arc[2] + after[2], after[3]]


def connected(fst: Fst) -> Fst:
    """The transducer without states that are on no path from the start to a final state."""
    ends = np.flatnonzero(np.isfinite(fst.finals))
    count = fst.num_states
    back = transducer(  # arcs turned around, from a new state to all ends
        count,
        np.zeros(count + 1),
        np.concatenate((fst.nextstates, np.full(len(ends), count))),
        np.zeros(fst.num_arcs + len(ends)),
        np.zeros(fst.num_arcs + len(ends)),
        np.zeros(fst.num_arcs + len(ends)),
        np.concatenate((fst.sources, ends)),
    )
    kept = reached(fst) & reached(back)[:count]
    if not kept[fst.start]:
        return transducer(-1, [], *[[]] * 5)
    number = np.cumsum(kept) - 1
    arcs = kept[fst.sources] & kept[fst.nextstates]
    return transducer(
        int(number[fst.start]),
        fst.finals[kept],
        number[fst.sources[arcs]],
        fst.ilabels[arcs],
        fst.olabels[arcs],
        fst.weights[arcs],
        number[fst.nextstates[arcs]],
    )
