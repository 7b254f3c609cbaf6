"""States and arcs of FSTs: put together, trimmed, numbered anew, turned around."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnet.modelfile.fst import Fst

Integers = NDArray[np.int64]
Floats = NDArray[np.floating]


def acceptor(
    start: int,
    finals: Floats,
    sources: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike,
    nextstates: ArrayLike,
) -> Fst:
    """An acceptor from its arcs, (arcs,) each, in any order; arcs of a state keep theirs.

    Args:
        start: the start state.
        finals: final costs (states,).
        sources: the states that the arcs leave.
        labels: their labels.
        weights: their costs.
        nextstates: the states that they enter.
    """
    sources = np.asarray(sources, np.int64)
    order = np.argsort(sources, kind="stable")
    labels = np.asarray(labels, np.int64)[order]
    return Fst(
        start,
        np.asarray(finals, np.float32),
        np.searchsorted(sources[order], np.arange(len(finals) + 1)),
        labels,
        labels,
        np.asarray(weights, np.float32)[order],
        np.asarray(nextstates, np.int64)[order],
    )


EMPTY = acceptor(-1, np.zeros(0), [], [], [], [])
"""The acceptor of nothing."""


def linear_acceptor(labels: ArrayLike) -> Fst:
    """The acceptor of one sequence of labels, at no cost."""
    labels = np.asarray(labels, np.int64)
    count = len(labels)
    finals = np.full(count + 1, np.inf)
    finals[count] = 0.0
    return acceptor(0, finals, np.arange(count), labels, np.zeros(count), np.arange(1, count + 1))


def reached(fst: Fst) -> NDArray[np.bool_]:
    """Which states can be reached from the start, (states,)."""
    return _reached(fst.num_states, [fst.start], fst.sources, fst.nextstates)


def _reached(
    count: int, roots: list[int], sources: Integers, targets: Integers
) -> NDArray[np.bool_]:
    """Which states can be reached from `roots`, in steps of all states at a time."""
    seen = np.zeros(count, bool)
    seen[roots] = True
    number = len(roots)
    while True:
        seen[targets[seen[sources]]] = True
        now = int(seen.sum())
        if now == number:
            return seen
        number = now


def connected(fst: Fst) -> Fst:
    """The FST without states that are on no path from the start to a final state."""
    if fst.start < 0:
        return fst
    back = _reached(
        fst.num_states, np.flatnonzero(np.isfinite(fst.finals)).tolist(), fst.nextstates,
        fst.sources,
    )  # fmt: skip
    return restricted(fst, reached(fst) & back)


def restricted(fst: Fst, kept: NDArray[np.bool_]) -> Fst:
    """The FST with some of its states only, in their order; empty if the start is not kept."""
    if not kept[fst.start]:
        return EMPTY
    number = np.cumsum(kept) - 1
    arcs = kept[fst.sources] & kept[fst.nextstates]
    return acceptor(
        int(number[fst.start]),
        fst.finals[kept],
        number[fst.sources[arcs]],
        fst.ilabels[arcs],
        fst.weights[arcs],
        number[fst.nextstates[arcs]],
    )


def renumbered(fst: Fst, order: Integers) -> Fst:
    """The FST with its states in another order: state `order[i]` becomes state i."""
    number = np.empty(fst.num_states, np.int64)
    number[order] = np.arange(fst.num_states)
    return acceptor(
        int(number[fst.start]),
        fst.finals[order],
        number[fst.sources],
        fst.ilabels,
        fst.weights,
        number[fst.nextstates],
    )


def turned_around(fst: Fst) -> Fst:
    """The acceptor of the reversed sequences (OpenFst's Reverse).

    A new state 0, the start, has an epsilon arc to each state that was final; state s becomes
    s + 1.
    """
    ends = np.flatnonzero(np.isfinite(fst.finals))
    finals = np.full(fst.num_states + 1, np.inf)
    finals[fst.start + 1] = 0.0
    return acceptor(
        0,
        finals,
        np.concatenate((np.zeros(len(ends), np.int64), fst.nextstates + 1)),
        np.concatenate((np.zeros(len(ends), np.int64), fst.ilabels)),
        np.concatenate((fst.finals[ends], fst.weights)),
        np.concatenate((ends + 1, fst.sources + 1)),
    )


def sorted_by_label(fst: Fst) -> Fst:
    """The acceptor with the arcs of each state sorted by label."""
    order = np.lexsort((fst.ilabels, fst.sources))
    return acceptor(
        fst.start, fst.finals, fst.sources[order], fst.ilabels[order], fst.weights[order],
        fst.nextstates[order],
    )  # fmt: skip
