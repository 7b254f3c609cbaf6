"""Composition of acceptors: the sequences that both accept, with the sum of their costs."""

from __future__ import annotations

import numpy as np

from nnet.fst.states import EMPTY, acceptor, connected, sorted_by_label
from nnet.modelfile.fst import Fst


class Composer:
    """Composes acceptors with a fixed one.

    Args:
        fst: an acceptor without epsilons.
    """

    def __init__(self, fst: Fst) -> None:
        fst = sorted_by_label(fst)
        self._fst = fst
        self._finals = fst.finals.tolist()
        self._weights = fst.weights.tolist()
        self._nextstates = fst.nextstates.tolist()
        pairs = np.stack((fst.sources, fst.ilabels), 1)
        keys, begins, counts = np.unique(pairs, axis=0, return_index=True, return_counts=True)
        self._spans = {
            (state, label): range(begin, begin + count)
            for (state, label), begin, count in zip(
                keys.tolist(), begins.tolist(), counts.tolist(), strict=True
            )
        }

    def __call__(self, fst: Fst) -> Fst:
        """The composition, connected; it is empty if no sequence is accepted by both."""
        if fst.start < 0 or self._fst.start < 0:
            return EMPTY
        begins, labels = fst.offsets.tolist(), fst.ilabels.tolist()
        weights, nextstates = fst.weights.tolist(), fst.nextstates.tolist()
        old_finals = fst.finals.tolist()
        start = (fst.start, self._fst.start)
        numbers = {start: 0}
        queue = [start]
        finals: list[float] = []
        sources: list[int] = []
        new_labels: list[int] = []
        costs: list[float] = []
        targets: list[int] = []
        for number, (state, other) in enumerate(queue):  # grows as pairs are found
            finals.append(old_finals[state] + self._finals[other])
            for arc in range(begins[state], begins[state + 1]):
                for match in self._spans.get((other, labels[arc]), ()):
                    pair = (nextstates[arc], self._nextstates[match])
                    if pair not in numbers:
                        numbers[pair] = len(queue)
                        queue.append(pair)
                    sources.append(number)
                    new_labels.append(labels[arc])
                    costs.append(weights[arc] + self._weights[match])
                    targets.append(numbers[pair])
        return connected(acceptor(0, np.array(finals), sources, new_labels, costs, targets))
