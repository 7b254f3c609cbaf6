"""Phone acceptors expanded to acceptors of transition-ids: context, HMMs and self-loops.

What Kaldi gets by composing H, C and a grammar and adding self-loops, reordered so that a state's
self-loop comes after the transition that leaves it (hmm/hmm-utils.cc).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnet.fst.epsilon import without_epsilons
from nnet.fst.states import acceptor, connected
from nnet.modelfile.fst import Fst
from nnet.modelfile.transition_ids import TransitionIds
from nnet.modelfile.transitions import NO_PDF, TransitionModel
from nnet.modelfile.trees import ContextDependency

NOTHING = 0  # in place of a phone, before an utterance and after it
Window = tuple[int, ...]


@dataclass(frozen=True)
class _Arc:
    """An arc of a phone's HMM: transition-id (0: none), cost, and the HMM state that it enters."""

    transition: int
    cost: float
    nextstate: int


_Hmm = tuple[tuple[_Arc, ...], ...]


class PhoneHmms:
    """The HMMs of phones in context.

    Args:
        model: the transition model.
        tree: the phonetic context dependency of the same system.
    """

    def __init__(self, model: TransitionModel, tree: ContextDependency) -> None:
        self.tree = tree
        self.ids = TransitionIds(model)
        self.num_pdfs = model.num_pdfs
        self._topology = model.topology
        self._by_window: dict[Window, _Hmm] = {}
        self._by_states: dict[tuple[int, ...], _Hmm] = {}

    @property
    def phones(self) -> tuple[int, ...]:
        return self._topology.phones

    def hmm(self, window: Window) -> _Hmm:
        """The HMM of a window's central phone, without self-loops; the same object for the same.

        Raises:
            NnetError: tree and transition model do not belong together.
        """
        if window not in self._by_window:
            phone = window[self.tree.central_position]
            entry = self._topology.entries[self._topology.phone_to_entry[phone]]
            states = []
            for number, state in enumerate(entry):
                if state.forward_pdf_class == NO_PDF:
                    states.append(-1)
                    continue
                forward, loop = (
                    self.tree.pdf(window, pdf_class)
                    for pdf_class in (state.forward_pdf_class, state.self_loop_pdf_class)
                )
                states.append(self.ids.state(phone, number, forward, loop))
            key = (phone, *states)
            if key not in self._by_states:
                self._by_states[key] = self._arcs(phone, states)
            self._by_window[window] = self._by_states[key]
        return self._by_window[window]

    def _arcs(self, phone: int, states: list[int]) -> _Hmm:
        entry = self._topology.entries[self._topology.phone_to_entry[phone]]
        hmm = []
        for number, state in enumerate(entry):
            arcs = []
            for place, (destination, probability) in enumerate(state.transitions):
                if destination == number:
                    continue
                if states[number] < 0:
                    arcs.append(_Arc(0, -float(np.log(probability)), destination))
                    continue
                transition = self.ids.transition(states[number], place)
                arcs.append(_Arc(transition, self.ids.cost(transition), destination))
            hmm.append(tuple(arcs))
        return tuple(hmm)


def expanded(phones: Fst, hmms: PhoneHmms, transition_scale: float) -> Fst:
    """The transition-id sequences of phone sequences, without epsilons.

    Args:
        phones: an acceptor of phones without epsilons.
        hmms: the phones' HMMs.
        transition_scale: scales the transitions' costs.

    Raises:
        NnetError: there is a phone that the HMMs do not have.
    """
    expansion = _Expansion(phones, hmms, transition_scale)
    return without_epsilons(expansion.fst())


@dataclass(frozen=True)
class _Place:
    """Between phones: the phone acceptor's state and the phones read last; after its end, the
    number of places read there, with state -1."""

    state: int
    history: Window
    beyond: int = 0


@dataclass(frozen=True)
class _Node:
    """A state of the expansion: a place, the part of an HMM that is still to come on the way to it,
    and the transition-state that was left last, whose self-loop can follow (-1: none)."""

    place: _Place
    hmm: _Hmm | None
    hmm_state: int
    left: int


class _Expansion:
    def __init__(self, phones: Fst, hmms: PhoneHmms, scale: float) -> None:
        self._hmms, self._scale = hmms, scale
        self._width, self._central = hmms.tree.width, hmms.tree.central_position
        self._start = phones.start
        self._finals = phones.finals.tolist()
        arcs = zip(
            phones.ilabels.tolist(), phones.weights.tolist(), phones.nextstates.tolist(),
            strict=True,
        )  # fmt: skip
        listed = list(arcs)
        begins = phones.offsets.tolist()
        self._arcs = [listed[begins[s] : begins[s + 1]] for s in range(phones.num_states)]
        self._numbers: dict[_Node, int] = {}
        self._queue: list[_Node] = []
        self._found: list[tuple[int, int, float, int]] = []

    def fst(self) -> Fst:
        start = _Place(self._start, (NOTHING,) * (self._width - 1))
        self._number(_Node(start, None, 0, -1))
        finals = []
        for number, node in enumerate(self._queue):  # grows as nodes are found
            finals.append(self._leave(number, node))
        columns = zip(*self._found, strict=True) if self._found else ((), (), (), ())
        return connected(acceptor(0, np.array(finals), *columns))

    def _number(self, node: _Node) -> int:
        if node not in self._numbers:
            self._numbers[node] = len(self._queue)
            self._queue.append(node)
        return self._numbers[node]

    def _leave(self, number: int, node: _Node) -> float:
        """Adds the arcs that leave a node; returns its final cost."""
        cost = 0.0
        if node.left >= 0:
            ids = self._hmms.ids
            cost = self._scale * float(ids.leave_costs[node.left])
            if loop := int(ids.self_loops[node.left]):
                stay = self._scale * float(ids.stay_costs[node.left])
                self._found.append((number, loop, stay, number))
        if node.hmm is not None:
            self._step(number, node.place, node.hmm, node.hmm_state, cost)
            return np.inf
        for phone, weight, place in self._onward(node.place):
            window = (*node.place.history, phone)
            if window[self._central] == NOTHING:
                following = self._number(_Node(place, None, 0, -1))
                self._found.append((number, 0, weight + cost, following))
            else:
                self._step(number, place, self._hmms.hmm(window), 0, weight + cost)
        return cost + self._final(node.place)

    def _step(self, number: int, place: _Place, hmm: _Hmm, state: int, cost: float) -> None:
        """Adds the arcs out of an HMM's state, on the way to `place`."""
        for arc in hmm[state]:
            left = int(self._hmms.ids.states[arc.transition])
            is_end = arc.nextstate == len(hmm) - 1
            node = _Node(place, None if is_end else hmm, 0 if is_end else arc.nextstate, left)
            total = cost + self._scale * arc.cost
            self._found.append((number, arc.transition, total, self._number(node)))

    def _onward(self, place: _Place) -> list[tuple[int, float, _Place]]:
        """Phone, cost and next place of every way on."""
        history = (*place.history, NOTHING)[1:]
        if place.state < 0:
            beyond = place.beyond + 1
            return [(NOTHING, 0.0, _Place(-1, history, beyond))] if self._unread(place) else []
        ways = [
            (phone, weight, _Place(state, (*place.history, phone)[1:]))
            for phone, weight, state in self._arcs[place.state]
        ]
        final = self._finals[place.state]
        if self._unread(place) and np.isfinite(final):
            ways.append((NOTHING, final, _Place(-1, history, 1)))
        return ways

    def _unread(self, place: _Place) -> bool:
        """Whether phones are still to come, because their right context was not known."""
        return place.beyond < self._width - 1 - self._central

    def _final(self, place: _Place) -> float:
        if self._unread(place):
            return np.inf
        return 0.0 if place.state < 0 else self._finals[place.state]
