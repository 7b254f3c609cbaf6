"""Transducers put together from columns of arcs, and with other labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from nnet.modelfile.fst import Fst

Arc = tuple[int, int, int, float, int]
"""State, input label, output label, cost, next state."""


def transducer(
    start: int,
    finals: ArrayLike,
    sources: ArrayLike,
    ilabels: ArrayLike,
    olabels: ArrayLike,
    weights: ArrayLike,
    nextstates: ArrayLike,
) -> Fst:
    """A transducer from its arcs, (arcs,) each, in any order; arcs of a state keep theirs."""
    sources = np.asarray(sources, np.int64)
    costs = np.asarray(finals, np.float32)
    order = np.argsort(sources, kind="stable")
    return Fst(
        start,
        costs,
        np.searchsorted(sources[order], np.arange(len(costs) + 1)),
        np.asarray(ilabels, np.int64)[order],
        np.asarray(olabels, np.int64)[order],
        np.asarray(weights, np.float32)[order],
        np.asarray(nextstates, np.int64)[order],
    )


def transducer_of(
    states: int, arcs: Iterable[Arc], finals: dict[int, float], start: int = 0
) -> Fst:
    """A transducer from arcs, in any order, and final costs."""
    columns = list(zip(*arcs, strict=True)) or [()] * 5
    costs = np.full(states, np.inf)
    for state, cost in finals.items():
        costs[state] = cost
    return transducer(start, costs, *columns)


def with_input_as_epsilon(fst: Fst, labels: Iterable[int]) -> Fst:
    """The transducer with some input labels replaced by epsilon (fstrmsymbols)."""
    removed = np.isin(fst.ilabels, list(labels))
    return replace(fst, ilabels=np.where(removed, 0, fst.ilabels), olabels=fst.olabels.copy())


def sorted_arcs(fst: Fst, *, by_output: bool) -> Fst:
    """The transducer with the arcs of each state sorted by one of their labels (fstarcsort)."""
    labels = fst.olabels if by_output else fst.ilabels
    order = np.lexsort((labels, fst.sources))
    return transducer(
        fst.start,
        fst.finals,
        fst.sources[order],
        fst.ilabels[order],
        fst.olabels[order],
        fst.weights[order],
        fst.nextstates[order],
    )
