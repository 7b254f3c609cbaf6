"""What the transition-ids of a transition model stand for, and transition models made anew."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.modelfile.transitions import NO_PDF, HmmState, Topology, TransitionModel
from nnet.modelfile.trees import PDF_CLASS, ContextDependency

Integers = NDArray[np.int64]
LEAST_PROBABILITY = 1e-10  # of leaving a state, where its self-loop has nearly all


class TransitionIds:
    """Transition-ids, from 1, and transition-states, from 0, of a transition model.

    Attributes:
        states: the transition-state of each transition-id, (transition-ids + 1,); -1 for id 0.
        phones: the phone of each; 0 for id 0.
        pdfs: the pdf of each; -1 for id 0.
        is_self_loop: whether each is a self-loop.
        is_final: whether each leads to the last state of its HMM.
        self_loops: for each transition-state the transition-id of its self-loop, 0 if it has none.
        stay_costs: for each transition-state the cost in nats of its self-loop.
        leave_costs: the cost of all its other transitions together.
    """

    def __init__(self, model: TransitionModel) -> None:
        self._model = model
        self._numbers = {states: number for number, states in enumerate(model.tuples)}
        hmm_states = [
            model.topology.entries[model.topology.phone_to_entry[phone]][state]
            for phone, state, _, _ in model.tuples
        ]
        counts = [len(state.transitions) for state in hmm_states]
        self._first = [1, *(1 + total for total in itertools.accumulate(counts))]
        count = len(model.tuples)
        self.states = np.concatenate(([-1], np.repeat(np.arange(count), counts)))
        self.phones = np.zeros(len(self.states), np.int64)
        self.pdfs = np.full(len(self.states), -1, np.int64)
        self.is_self_loop = np.zeros(len(self.states), bool)
        self.is_final = np.zeros(len(self.states), bool)
        self.self_loops = np.zeros(count, np.int64)
        self.stay_costs = np.zeros(count)
        self.leave_costs = np.zeros(count)
        for number, (states, hmm_state) in enumerate(zip(model.tuples, hmm_states, strict=True)):
            self._describe(number, states, hmm_state)

    def _describe(
        self, number: int, states: tuple[int, int, int, int], hmm_state: HmmState
    ) -> None:
        phone, state, forward_pdf, self_loop_pdf = states
        last = len(self._model.topology.entries[self._model.topology.phone_to_entry[phone]]) - 1
        for place, (destination, _) in enumerate(hmm_state.transitions):
            transition = self._first[number] + place
            is_loop = destination == state
            self.is_self_loop[transition] = is_loop
            self.is_final[transition] = destination == last
            self.phones[transition] = phone
            self.pdfs[transition] = self_loop_pdf if is_loop else forward_pdf
            if is_loop:
                log_probability = float(self._model.log_probs[transition])
                leaves = max(1 - math.exp(log_probability), LEAST_PROBABILITY)
                self.self_loops[number] = transition
                self.stay_costs[number] = -log_probability
                self.leave_costs[number] = -math.log(leaves)

    def state(self, phone: int, hmm_state: int, forward_pdf: int, self_loop_pdf: int) -> int:
        """The transition-state.

        Raises:
            NnetError: there is none, because model and tree do not belong together.
        """
        key = (phone, hmm_state, forward_pdf, self_loop_pdf)
        if key not in self._numbers:
            raise NnetError(
                f"the transition model has no state {hmm_state} of phone {phone} with the pdfs "
                f"{forward_pdf} and {self_loop_pdf}, which the tree gives it; expected: a tree "
                "and a transition model of the same system"
            )
        return self._numbers[key]

    def transition(self, state: int, place: int) -> int:
        """The transition-id of the transition at `place` of a transition-state's HMM state."""
        return self._first[state] + place

    def cost(self, transition: int) -> float:
        """The cost of a transition that is no self-loop among those that are none."""
        state = int(self.states[transition])
        return -float(self._model.log_probs[transition]) - float(self.leave_costs[state])


def chain_topology(phones: Sequence[int]) -> Topology:
    """The topology of chain models: a phone takes one frame or more; its first frame has pdf-class
    0, all others have pdf-class 1 (steps/nnet3/chain/gen_topo.py)."""
    chosen = set(phones)
    if not chosen or min(chosen) < 1:
        raise NnetError(f"found the phones {sorted(chosen)}; expected: phones from 1 on")
    table = tuple(0 if phone in chosen else -1 for phone in range(max(chosen) + 1))
    first = HmmState(0, 1, ((0, 0.5), (1, 0.5)))
    return Topology(tuple(sorted(chosen)), table, ((first, HmmState(NO_PDF, NO_PDF, ())),))


def pdf_class_counts(topology: Topology) -> dict[int, int]:
    """How many pdf-classes each phone has."""
    counts = {}
    for phone in topology.phones:
        entry = topology.entries[topology.phone_to_entry[phone]]
        classes = (
            c for state in entry for c in (state.forward_pdf_class, state.self_loop_pdf_class)
        )
        counts[phone] = 1 + max(classes)
    return counts


def make_transition_model(topology: Topology, tree: ContextDependency) -> TransitionModel:
    """The transition model of a topology and a tree, with the topology's probabilities.

    Raises:
        NnetError: the tree has no pdfs for a phone of the topology.
    """
    tuples = []
    for phone in topology.phones:
        entry = topology.entries[topology.phone_to_entry[phone]]
        for number, state in enumerate(entry):
            if state.forward_pdf_class != NO_PDF:
                pairs = _pdf_pairs(tree, topology.phones, phone, state)
                tuples += [(phone, number, *pair) for pair in pairs]
    tuples.sort()
    log_probs = [0.0]
    for phone, number, _, _ in tuples:
        state = topology.entries[topology.phone_to_entry[phone]][number]
        for _, probability in state.transitions:
            if not 0 < probability <= 1:
                raise NnetError(
                    f"the topology has a transition of phone {phone} with probability "
                    f"{probability}; expected more than 0 and at most 1"
                )
            log_probs.append(math.log(probability))
    return TransitionModel(topology, tuple(tuples), np.array(log_probs, np.float32))


def _pdf_pairs(
    tree: ContextDependency, phones: Sequence[int], phone: int, state: HmmState
) -> list[tuple[int, int]]:
    """The pairs of forward and self-loop pdf that a state of a phone can have, in any context."""
    found = set()
    pending = [{tree.central_position: phone}]
    for event in pending:  # grows where a phone of the context must be known
        forward, loop = (
            sorted(tree.pdfs({**event, PDF_CLASS: pdf_class}))
            for pdf_class in (state.forward_pdf_class, state.self_loop_pdf_class)
        )
        if state.forward_pdf_class == state.self_loop_pdf_class:
            found |= {(pdf, pdf) for pdf in forward}
        elif len(forward) <= 1 or len(loop) <= 1:
            found |= set(itertools.product(forward, loop))
        else:
            unknown = [place for place in range(tree.width) if place not in event]
            nearest = min(unknown, key=lambda place: abs(place - tree.central_position))
            pending += [{**event, nearest: value} for value in (0, *phones)]
    if not found:
        raise NnetError(f"the tree has no pdf for phone {phone} of the topology")
    return sorted(found)
