"""The denominator graph and the normalization graph (Kaldi's chain-make-den-fst)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nnet.data.chain.expansion import PhoneHmms, expanded
from nnet.errors import NnetError
from nnet.fst.epsilon import without_epsilons
from nnet.fst.merge import merged
from nnet.fst.push import pushed
from nnet.fst.states import acceptor, renumbered, sorted_by_label, turned_around
from nnet.modelfile.fst import Fst

PASSES = 3  # of merging the states with the same past, then those with the same future
QUANTUM = 10 / 1024  # weights are rounded to multiples of it before states are merged
PUSH_DELTA = 0.01 / 1024
ITERATIONS = 100  # of the walk whose average gives the initial probabilities


def denominator_graph(phone_lm: Fst, hmms: PhoneHmms) -> Fst:
    """The graph of all pdf sequences: an acceptor of pdfs + 1 without epsilons.

    States with the most arcs come first. As in Kaldi, weights are rounded to about 0.01 before
    states are merged, which keeps the graph small.

    Args:
        phone_lm: the phone language model.
        hmms: the phones' HMMs.

    Raises:
        NnetError: the language model has a phone without an HMM.
    """
    check_phones(phone_lm, hmms)
    graph = with_pdfs(expanded(phone_lm, hmms, transition_scale=1.0), hmms)
    for _ in range(PASSES):
        graph = _compacted(turned_around(_compacted(turned_around(graph))))
    graph = pushed(without_epsilons(graph), PUSH_DELTA)
    ends = np.concatenate((graph.sources, graph.nextstates))
    arcs = np.bincount(ends, minlength=graph.num_states)
    return renumbered(graph, np.argsort(-arcs, kind="stable"))


def _compacted(graph: Fst) -> Fst:
    return merged(pushed(graph, PUSH_DELTA), QUANTUM)


def check_phones(phones: Fst, hmms: PhoneHmms) -> None:
    """Raises NnetError unless an acceptor has states, and every phone of it has an HMM."""
    if not phones.num_arcs or phones.start < 0:
        raise NnetError("the graph of phones is empty; expected: one with arcs and a start state")
    missing = sorted(set(np.unique(phones.ilabels).tolist()) - set(hmms.phones))
    if missing:
        raise NnetError(
            f"phone {missing[0]} has no HMM; expected: phones of the topology, which has "
            f"{len(hmms.phones)} from {hmms.phones[0]} to {hmms.phones[-1]}"
        )


def with_pdfs(graph: Fst, hmms: PhoneHmms) -> Fst:
    """A graph of transition-ids as one of pdfs + 1."""
    labels = hmms.ids.pdfs[graph.ilabels] + 1
    return replace(graph, ilabels=labels, olabels=labels)


def initial_probabilities(graph: Fst) -> NDArray[np.float64]:
    """How likely a chunk of speech begins in each state of a denominator graph, (states,).

    The average over the states' probabilities in the first 100 frames from the start, as chunks
    may begin anywhere in an utterance.

    Raises:
        NnetError: no arcs that have a probability lead on from the start.
    """
    if graph.start < 0:
        raise NnetError("the denominator graph has no start state")
    probabilities = np.exp(-graph.weights.astype(np.float64))
    final = np.exp(-graph.finals.astype(np.float64))
    totals = final + np.bincount(graph.sources, probabilities, graph.num_states)
    current: NDArray[np.float64] = np.zeros(graph.num_states)
    current[graph.start] = 1.0
    average = np.zeros(graph.num_states)
    totals[totals == 0] = 1.0  # of states that nothing leaves
    for _ in range(ITERATIONS):
        average += current / ITERATIONS
        flow = (current / totals)[graph.sources] * probabilities
        reached = np.bincount(graph.nextstates, flow, graph.num_states)
        if not 0 < reached.sum() < np.inf:
            raise NnetError(
                "the denominator graph ends after some frames; expected: ways of any length on "
                "from its start, with probabilities above zero"
            )
        current = reached / reached.sum()
    return average


def normalization_graph(den_graph: Fst) -> Fst:
    """The graph that gives supervisions of chunks the weights which they have in the denominator.

    The denominator graph begun with its initial probabilities, and ended in any state at no cost.
    """
    count = den_graph.num_states
    costs = -np.log(initial_probabilities(den_graph).astype(np.float32))
    states = np.arange(count)
    begun = acceptor(
        count,
        np.append(np.zeros(count), np.inf),
        np.concatenate((den_graph.sources, np.full(count, count))),
        np.concatenate((den_graph.ilabels, np.zeros(count, np.int64))),
        np.concatenate((den_graph.weights, costs)),
        np.concatenate((den_graph.nextstates, states)),
    )
    return sorted_by_label(without_epsilons(begun))
