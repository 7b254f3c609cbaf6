"""Decoding graphs: HCLG from a lexicon, a grammar, a tree and a transition model (mkgraph.sh)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnet.data.chain.expansion import PhoneHmms
from nnet.errors import NnetError
from nnet.fst.local_epsilons import without_local_epsilons
from nnet.fst.push import pushed
from nnet.fst.transducers import Arc, transducer, transducer_of, with_input_as_epsilon
from nnet.modelfile.fst import Fst
from nnet.modelfile.transition_ids import TransitionIds
from nnet.speech.graphs.openfst import (
    Windows,
    composed,
    determinized_star,
    in_context,
    minimized_encoded,
)

PUSH_DELTA = 1 / 1024
NO_STATE = -1


@dataclass(frozen=True)
class GraphScales:
    """Factors of the costs of transitions (mkgraph.sh).

    Args:
        transition: of those between states (--transition-scale).
        self_loop: of self-loops, and of leaving a state (--self-loop-scale): 1 for chain models.
    """

    transition: float = 1.0
    self_loop: float = 0.1


def grammar_graph(lexicon: Fst, grammar: Fst) -> Fst:
    """LG: from phones to words, deterministic, small, and with costs spread evenly.

    Args:
        lexicon: L_disambig, from phones to words.
        grammar: G, an acceptor of words.

    Raises:
        NnetError: no sentence of the grammar is in the lexicon.
    """
    both = composed(lexicon, grammar)
    if both.start < 0:
        raise NnetError(
            "no sentence of the grammar can be said with the lexicon; expected: words with "
            "pronunciations"
        )
    return pushed(minimized_encoded(determinized_star(both)), PUSH_DELTA)


def context_graph(
    phones: Fst, disambiguation: Sequence[int], width: int, central_position: int
) -> tuple[Fst, Windows]:
    """CLG: from windows of phones to words, and the windows."""
    return in_context(phones, disambiguation, width, central_position)


def hmm_transducer(
    windows: Windows, hmms: PhoneHmms, transition_scale: float
) -> tuple[Fst, list[int]]:
    """H: from transition-ids to windows of phones, without self-loops (make-h-transducer).

    Returns:
        The transducer, and the labels of disambiguation symbols on its input side.
    """
    next_label = len(hmms.ids.phones)
    builder = _HmmTransducer(hmms, transition_scale)
    disambiguation = []
    for number, window in enumerate(windows[1:], 1):
        if len(window) == 1 and window[0] <= 0:
            disambiguation.append(next_label)
            builder.arcs.append((0, next_label, number, 0.0, 0))
            next_label += 1
        else:
            builder.add(tuple(window), number)
    return transducer_of(builder.states, builder.arcs, {0: 0.0}), disambiguation


class _HmmTransducer:
    """HMMs that begin and end in state 0; those of windows with the same HMM are shared."""

    def __init__(self, hmms: PhoneHmms, scale: float) -> None:
        self._hmms, self._scale = hmms, scale
        self.states = 1
        self.arcs: list[Arc] = []
        self._first_arcs: dict[int, list[tuple[int, float, int]]] = {}

    def add(self, window: tuple[int, ...], number: int) -> None:
        hmm = self._hmms.hmm(window)
        if id(hmm) not in self._first_arcs:
            begin = self.states
            self.states += len(hmm)
            for state, arcs in enumerate(hmm):
                for arc in arcs:
                    cost = self._scale * arc.cost
                    step = (arc.transition, 0, cost, begin + arc.nextstate)
                    self.arcs.append((begin + state, *step))
            self.arcs.append((begin + len(hmm) - 1, 0, 0, 0.0, 0))
            first = [
                (arc.transition, self._scale * arc.cost, begin + arc.nextstate) for arc in hmm[0]
            ]
            shared = len(first) == 1 and all(a.nextstate for arcs in hmm for a in arcs)
            self._first_arcs[id(hmm)] = first if shared else [(0, 0.0, begin)]
        for label, cost, target in self._first_arcs[id(hmm)]:
            self.arcs.append((0, label, number, cost, target))


def with_self_loops(fst: Fst, ids: TransitionIds, scale: float) -> Fst:
    """HCLG from HCLGa: self-loops after the transitions that leave their states (add-self-loops).

    Args:
        fst: from transition-ids, none of them a self-loop, to words.
        ids: of the transition model.
        scale: factor of the costs of staying and leaving.
    """
    fst, entered = _separated(fst, ids.states)
    loops = np.flatnonzero(entered >= 0)
    leave = np.zeros(fst.num_states)
    leave[loops] = scale * ids.leave_costs[entered[loops]]
    finals = fst.finals + leave
    with_loop = loops[ids.self_loops[entered[loops]] > 0]
    labels = ids.self_loops[entered[with_loop]]
    costs = scale * ids.stay_costs[entered[with_loop]]
    arcs = [
        np.concatenate((fst.sources, with_loop)),
        np.concatenate((fst.ilabels, labels)),
        np.concatenate((fst.olabels, np.zeros(len(labels), np.int64))),
        np.concatenate((fst.weights + leave[fst.sources], costs)),
        np.concatenate((fst.nextstates, with_loop)),
    ]
    return transducer(fst.start, finals, *arcs)


def _separated(fst: Fst, states_of: np.ndarray) -> tuple[Fst, np.ndarray]:
    """Each state entered after one transition-state only, and which; -1 for none.

    Where a state is entered after several, each of these gets a state of its own in front of it.
    """
    classes = np.where(fst.ilabels > 0, states_of[fst.ilabels], NO_STATE)
    entered: list[set[int]] = [set() for _ in range(fst.num_states)]
    entered[fst.start].add(NO_STATE)
    for target, own in zip(fst.nextstates.tolist(), classes.tolist(), strict=True):
        entered[target].add(own)
    mixed = np.array([len(own) > 1 for own in entered])
    nextstates = fst.nextstates.copy()
    numbers: dict[tuple[int, int], int] = {}
    for arc in np.flatnonzero(mixed[fst.nextstates] & (fst.ilabels > 0)).tolist():
        key = (int(fst.nextstates[arc]), int(classes[arc]))
        nextstates[arc] = numbers.setdefault(key, fst.num_states + len(numbers))
    count = fst.num_states + len(numbers)
    after = [NO_STATE if many else next(iter(own or {NO_STATE})) for own, many in
             zip(entered, mixed.tolist(), strict=True)]  # fmt: skip
    arcs = list(
        zip(
            fst.sources.tolist(),
            fst.ilabels.tolist(),
            fst.olabels.tolist(),
            fst.weights.tolist(),
            nextstates.tolist(),
            strict=True,
        )
    )
    arcs += [(number, 0, 0, 0.0, target) for (target, _), number in numbers.items()]
    finals = dict(enumerate(fst.finals.tolist()))
    found = transducer_of(count, arcs, finals, fst.start)
    return found, np.array([*after, *(own for _, own in numbers)], np.int64)


def decoding_graph(
    phones: Fst,
    disambiguation: Sequence[int],
    hmms: PhoneHmms,
    scales: GraphScales,
) -> Fst:
    """HCLG: from transition-ids to words.

    Args:
        phones: LG, from phones to words.
        disambiguation: labels of disambiguation symbols among the phones.
        hmms: the phones' HMMs in context.
        scales: factors of the transitions' costs.
    """
    in_windows, windows = context_graph(
        phones, disambiguation, hmms.tree.width, hmms.tree.central_position
    )
    transitions, symbols = hmm_transducer(windows, hmms, scales.transition)
    both = determinized_star(composed(transitions, in_windows))
    small = without_local_epsilons(with_input_as_epsilon(both, symbols))
    return with_self_loops(minimized_encoded(small), hmms.ids, scales.self_loop)
