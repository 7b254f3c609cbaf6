"""Rescoring: the costs of a language model in the place of, or beside, those of a lattice."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from nnet.modelfile.fst import Fst
from nnet.modelfile.lattices import CompactArc, CompactLattice, Final, compact_lattice
from nnet.modelfile.ngram_fst import NgramModel
from nnet.speech.lattices.paths import connected, topological


class LanguageModel(Protocol):
    """An acceptor of words in which each word has one arc, by backing off where need be."""

    start: int

    def follow(self, state: int, word: int) -> tuple[int, float] | None:
        """The next state and the cost of a word; None where it cannot come."""

    def end(self, state: int) -> float:
        """The cost of the end."""


class BackoffModel:
    """An n-gram language model; a word's cost is that of the longest context that has it.

    Args:
        model: an `NgramModel`, or an acceptor with arcs of label 0 (or `backoff`) to back off.
        backoff: the label of back-off arcs of an acceptor (that of #0).
    """

    def __init__(self, model: NgramModel | Fst, backoff: int = 0) -> None:
        self._model = model
        self._backoff = backoff
        self.start = model.start
        if isinstance(model, Fst):
            self._arcs = {
                (source, label): (following, cost)
                for source, label, cost, following in zip(
                    model.sources.tolist(),
                    model.ilabels.tolist(),
                    model.weights.tolist(),
                    model.nextstates.tolist(),
                    strict=True,
                )
            }

    def follow(self, state: int, word: int) -> tuple[int, float] | None:
        """The next state and the cost of a word; None where no context has it."""
        cost = 0.0
        while True:
            found = self._arc(state, word)
            if found is not None:
                return found[0], cost + found[1]
            shorter = self._shorter(state)
            if shorter is None:
                return None
            state, more = shorter
            cost += more

    def end(self, state: int) -> float:
        """The cost of the end; infinite where it cannot come."""
        cost = 0.0
        while True:
            costs = self._model.finals if isinstance(self._model, Fst) else self._model.final_costs
            final = float(costs[state])
            shorter = self._shorter(state)
            if np.isfinite(final) or shorter is None:
                return cost + final
            state, more = shorter
            cost += more

    def _arc(self, state: int, word: int) -> tuple[int, float] | None:
        if isinstance(self._model, Fst):
            return self._arcs.get((state, word))
        return self._model.arc(state, word)

    def _shorter(self, state: int) -> tuple[int, float] | None:
        if isinstance(self._model, Fst):
            return self._arcs.get((state, self._backoff))
        if state == 0:
            return None
        return int(self._model.backoff_states[state]), float(self._model.backoff_costs[state])


def rescored(lattice: CompactLattice, model: LanguageModel, scale: float = 1.0) -> CompactLattice:
    """The lattice with a language model's costs added to its graph costs (lattice-lmrescore).

    To put one model in the place of another, the old one's are first taken away with scale -1.
    States are told apart where the model needs it. Words that the model does not have are left
    out, with all paths through them.

    Args:
        lattice: a compact lattice; its words have the model's labels.
        model: the language model.
        scale: factor of its costs.
    """
    lattice = topological(lattice)
    if lattice.num_states == 0:
        return lattice
    first = (lattice.start, model.start)
    numbers = {first: 0}
    queue = [first]
    arcs: list[CompactArc] = []
    finals: dict[int, Final] = {}
    for source, (state, context) in enumerate(queue):  # grows
        end = model.end(context)
        graph = float(lattice.final_graph_costs[state]) + scale * end
        if np.isfinite(lattice.final_graph_costs[state]) and np.isfinite(end):
            acoustic = float(lattice.final_acoustic_costs[state])
            finals[source] = (graph, acoustic, lattice.final_strings[state])
        for arc in range(*lattice.offsets[state : state + 2].tolist()):
            word = int(lattice.words[arc])
            step = model.follow(context, word) if word else (context, 0.0)
            if step is None:
                continue
            pair = (int(lattice.nextstates[arc]), step[0])
            if pair not in numbers:
                numbers[pair] = len(queue)
                queue.append(pair)
            costs = float(lattice.graph_costs[arc]) + scale * step[1]
            acoustic = float(lattice.acoustic_costs[arc])
            arcs.append((source, word, costs, acoustic, lattice.strings[arc], numbers[pair]))
    return topological(connected(compact_lattice(len(queue), arcs, finals)))
