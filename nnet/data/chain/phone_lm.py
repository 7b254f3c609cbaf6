"""The phone language model of the denominator graph (Kaldi's chain-est-phone-lm).

An n-gram model without smoothing and without back-off arcs: a state for each history, and from it
an arc for each phone that was seen after it. To keep the graph small, longer histories whose loss
costs least likelihood are given up; their counts go to the history without its first phone
(Povey et al. 2016, "Purely sequence-trained neural networks for ASR based on lattice-free MMI").
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nnet.errors import NnetError
from nnet.fst.states import acceptor, sorted_by_label
from nnet.modelfile.fst import Fst
from nnet.options import missing, option

EDGE = 0  # before the first phone of a sequence, and after its last
STAGES = 4  # the costs of all histories are computed again after each
SAME = 1e-3  # relative difference of costs that are still up to date
ESTIMATED = missing("phone_lm")
NEVER_SEEN = -1e-15  # cost of a count that moves to a history without counts


@dataclass(frozen=True)
class PhoneLmOptions:
    """Options of the phone language model; the defaults are Kaldi's.

    Args:
        ngram_order: phones in an n-gram.
        no_prune_ngram_order: histories of n-grams up to this order are all kept.
        num_extra_lm_states: how many longer histories to keep beside them.
    """

    ngram_order: int = option(4, "Order of the phone language model.", applies=ESTIMATED)
    no_prune_ngram_order: int = option(
        3, "Histories of n-grams up to this order are all kept.", applies=ESTIMATED
    )
    num_extra_lm_states: int = option(
        1000, "Longer histories to keep beside them.", applies=ESTIMATED
    )

    def __post_init__(self) -> None:
        if self.ngram_order < 2:
            raise NnetError(f"--ngram-order is {self.ngram_order}, expected at least 2")
        if not 1 <= self.no_prune_ngram_order <= self.ngram_order:
            raise NnetError(
                f"--no-prune-ngram-order is {self.no_prune_ngram_order}, expected 1 to "
                f"--ngram-order ({self.ngram_order})"
            )
        if self.num_extra_lm_states < 0:
            raise NnetError(
                f"--num-extra-lm-states is {self.num_extra_lm_states}, expected at least 0"
            )


def estimate_phone_lm(
    sequences: Iterable[Sequence[int]], options: PhoneLmOptions | None = None
) -> Fst:
    """The language model of phone sequences, as a deterministic acceptor of phones.

    Args:
        sequences: phones, from 1, of each utterance.
        options: order and pruning.

    Raises:
        NnetError: a phone is below 1, or there are none.
    """
    histories = _Histories(options or PhoneLmOptions())
    for phones in sequences:
        if min(phones, default=1) < 1:
            raise NnetError(f"found phone {min(phones)}; expected: phones from 1 on")
        histories.count(phones)
    if not histories.states:
        raise NnetError("there are no phone sequences to estimate a language model from")
    histories.prune()
    return histories.acceptor()


@dataclass
class _State:
    """A history, and how often each phone came after it.

    backoff: the number of the state of the history without its first phone; -1 if this state is
    always kept. with_longer: total, and that of all longer histories that back off to this one.
    """

    history: tuple[int, ...]
    backoff: int
    counts: dict[int, int] = field(default_factory=dict)
    total: int = 0
    with_longer: int = 0
    can_go: bool = False

    def add(self, counts: dict[int, int]) -> None:
        for phone, count in counts.items():
            self.counts[phone] = self.counts.get(phone, 0) + count
            self.total += count


class _Histories:
    def __init__(self, options: PhoneLmOptions) -> None:
        self._options = options
        self.states: list[_State] = []
        self._numbers: dict[tuple[int, ...], int] = {}

    def count(self, phones: Sequence[int]) -> None:
        history: tuple[int, ...] = (EDGE,)
        for phone in (*phones, EDGE):
            self.states[self._number(history)].add({phone: 1})
            history = (*history, phone)[-(self._options.ngram_order - 1) :]

    def _number(self, history: tuple[int, ...]) -> int:
        """The number of a history's state, which is made if it is new, with those it needs."""
        if history not in self._numbers:
            number = self._numbers[history] = len(self.states)
            state = _State(history, -1)
            self.states.append(state)
            if len(history) >= self._options.no_prune_ngram_order:
                state.backoff = self._number(history[1:])
            return number
        return self._numbers[history]

    @property
    def _active(self) -> int:
        return sum(state.total > 0 for state in self.states)

    def prune(self) -> None:
        """Gives up histories until few enough are left."""
        for state in self.states:
            longer = state
            longer.with_longer += state.total
            while longer.backoff >= 0:
                longer = self.states[longer.backoff]
                longer.with_longer += state.total
        kept_length = self._options.no_prune_ngram_order - 1
        kept = sum(len(state.history) == kept_length for state in self.states)
        first = self._active
        excess = kept + self._options.num_extra_lm_states - first
        for stage in range(1, STAGES + 1):
            self._prune_to(first + math.trunc(excess * stage / STAGES))

    def _prune_to(self, target: int) -> None:
        queue: list[tuple[float, int]] = []
        for number, state in enumerate(self.states):
            state.can_go = self._can_go(state)
            if state.can_go:
                queue.append((-self._change(state), -number))
        heapq.heapify(queue)
        active = self._active
        while active > target and queue:
            cost, negative = heapq.heappop(queue)
            state = self.states[-negative]
            now = -self._change(state)
            if abs(cost - now) > SAME * (abs(cost) + abs(now)):
                heapq.heappush(queue, (now, negative))
                continue
            shorter = self.states[state.backoff]
            active -= shorter.total > 0
            could_go = shorter.can_go
            self._give_up(state, shorter)
            if shorter.can_go and not could_go:
                heapq.heappush(queue, (-self._change(shorter), -state.backoff))

    def _give_up(self, state: _State, shorter: _State) -> None:
        shorter.add(state.counts)
        state.counts, state.total, state.with_longer, state.can_go = {}, 0, 0, False
        shorter.can_go = self._can_go(shorter)

    def _can_go(self, state: _State) -> bool:
        """Whether no other history needs this one: none that backs off to it or follows it."""
        if state.backoff < 0 or not state.total or state.total != state.with_longer:
            return False
        if len(state.history) == self._options.ngram_order - 1:
            return True
        following = (self._numbers.get((*state.history, p)) for p in state.counts if p != EDGE)
        return not any(n is not None and self.states[n].with_longer for n in following)

    def _change(self, state: _State) -> float:
        """The change of the data's log-likelihood, in nats, if the history is given up."""
        shorter = self.states[state.backoff]
        if not shorter.total:
            return float(np.float32(NEVER_SEEN * state.total))
        both = _State((), -1)
        both.add(shorter.counts)
        both.add(state.counts)
        change = _log_likelihood(both) - _log_likelihood(state) - _log_likelihood(shorter)
        return min(0.0, float(np.float32(change)))

    def acceptor(self) -> Fst:
        active = [state for state in self.states if state.total]
        numbers = {state.history: number for number, state in enumerate(active)}
        finals = np.full(len(active), np.inf)
        arcs: list[tuple[int, int, float, int]] = []
        for number, state in enumerate(active):
            for phone, count in state.counts.items():
                cost = -math.log(count / state.total)
                if phone == EDGE:
                    finals[number] = cost
                else:
                    arcs.append((number, phone, cost, _longest((*state.history, phone), numbers)))
        start = _longest((EDGE,), numbers)
        columns = zip(*arcs, strict=True) if arcs else ((), (), (), ())
        return sorted_by_label(acceptor(start, finals, *columns))


def _longest(history: tuple[int, ...], numbers: dict[tuple[int, ...], int]) -> int:
    """The state of the longest end of a history that was kept."""
    while history not in numbers:
        history = history[1:]
    return numbers[history]


def _log_likelihood(state: _State) -> float:
    return sum(count * math.log(count / state.total) for count in state.counts.values())
