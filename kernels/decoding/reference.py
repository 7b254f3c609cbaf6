"""What a search must find, by definition and without pruning: for tests on small graphs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Words = tuple[int, ...]
Hypotheses = dict[int, dict[Words, float]]


def word_sequences(
    arcs: Sequence[tuple[int, int, int, float, int]],
    finals: Sequence[float],
    start: int,
    pdfs: Sequence[int],
    scores: NDArray[np.floating],
) -> dict[Words, float]:
    """The cost of the cheapest path of every word sequence.

    Args:
        arcs: state, input label, word, cost and next state each.
        finals: the final cost of each state.
        start: the start state.
        pdfs: for each input label its column of the scores; -1 if it takes no frame.
        scores: log-likelihoods (frames, pdfs).
    """
    present: Hypotheses = _through_epsilons({start: {(): 0.0}}, arcs, pdfs)
    for frame in scores:
        following: Hypotheses = {}
        for source, ilabel, word, cost, target in arcs:
            if pdfs[ilabel] >= 0:
                _extend(present, following, source, target, word, cost - frame[pdfs[ilabel]])
        present = _through_epsilons(following, arcs, pdfs)
    ends: dict[Words, float] = {}
    for state, hypotheses in present.items():
        for words, cost in hypotheses.items():
            total = cost + finals[state]
            if total < ends.get(words, np.inf):
                ends[words] = total
    return ends


def _through_epsilons(
    present: Hypotheses, arcs: Sequence[tuple[int, int, int, float, int]], pdfs: Sequence[int]
) -> Hypotheses:
    changed = True
    while changed:
        changed = False
        for source, ilabel, word, cost, target in arcs:
            if pdfs[ilabel] < 0:
                changed |= _extend(present, present, source, target, word, cost)
    return present


def _extend(
    present: Hypotheses, following: Hypotheses, source: int, target: int, word: int, cost: float
) -> bool:
    """Takes an arc from all hypotheses at its source; whether that made any cheaper."""
    changed = False
    reached = following.setdefault(target, {})
    for words, before in list(present.get(source, {}).items()):
        longer = (*words, word) if word else words
        if before + cost < reached.get(longer, np.inf) - 1e-9:
            reached[longer] = before + cost
            changed = True
    return changed
