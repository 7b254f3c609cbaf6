"""Word alignment of lattices: arcs that have the transition-ids of one word, or of silence."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nnet.data.phone_alignments import is_reordered
from nnet.errors import NnetError
from nnet.modelfile.lattices import CompactArc, CompactLattice, Final, compact_lattice
from nnet.modelfile.transition_ids import TransitionIds
from nnet.modelfile.word_boundary import Boundary, Pronunciation
from nnet.speech.lattices.paths import best_path, connected, topological

END = -1
MOST_STATES = 100_000
"""Of the result; beyond that the lattice and the lexicon do not fit together."""


@dataclass(frozen=True, order=True)
class Match:
    """One word at the beginning of what is pending.

    Args:
        word: what to put out; 0 for silence.
        words: how many of the pending words it takes, 0 or 1.
        phones: how many of the complete phones.
    """

    word: int
    words: int
    phones: int


class WordFinder(Protocol):
    """Finds words at the beginning of phones."""

    def matches(self, phones: Sequence[int], words: Sequence[int]) -> Iterator[Match]:
        """The words that the first phones can be."""

    def may_grow(self, phones: Sequence[int], words: Sequence[int]) -> bool:
        """Whether other words can be found when more phones and words are known."""


@dataclass(frozen=True)
class BoundaryFinder:
    """Words by their phones' places in them (lattice-align-words).

    Args:
        places: of each phone.
        silence: the word that is put out for phones outside words.
    """

    places: Mapping[int, Boundary]
    silence: int = 0

    def matches(self, phones: Sequence[int], words: Sequence[int]) -> Iterator[Match]:
        place = self.places.get(phones[0])
        if place is None:
            raise NnetError(
                f"word_boundary.int has no phone {phones[0]}, which the lattice has; expected: "
                "the word boundaries of the same system"
            )
        if place is Boundary.NONWORD:
            yield Match(self.silence, 0, 1)
        elif place is Boundary.SINGLETON and words:
            yield Match(words[0], 1, 1)
        elif words:
            for count, phone in enumerate(phones, 1):
                if self.places.get(phone) is Boundary.END:
                    yield Match(words[0], 1, count)
                    return

    def may_grow(self, phones: Sequence[int], words: Sequence[int]) -> bool:
        return not phones or not any(True for _ in self.matches(phones, words))


@dataclass(frozen=True)
class LexiconFinder:
    """Words by their pronunciations (lattice-align-words-lexicon)."""

    entries: Mapping[int, Sequence[tuple[int, Pronunciation]]]

    def matches(self, phones: Sequence[int], words: Sequence[int]) -> Iterator[Match]:
        for taken in (0, 1):
            if taken > len(words):
                return
            key = words[0] if taken else 0
            for out, pronunciation in self.entries.get(key, ()):
                size = len(pronunciation)
                if size and tuple(phones[:size]) == pronunciation:
                    yield Match(out, taken, size)

    def may_grow(self, phones: Sequence[int], words: Sequence[int]) -> bool:
        if not words:
            return True
        size = len(phones)
        return any(
            len(pronunciation) > size and pronunciation[:size] == tuple(phones)
            for key in (0, words[0])
            for _, pronunciation in self.entries.get(key, ())
        )


@dataclass(frozen=True)
class _Pending:
    """What was read of the lattice and not yet put out.

    Matches that were passed over to see more are kept, so that they are not taken later.
    """

    state: int
    transitions: tuple[int, ...] = ()
    words: tuple[int, ...] = ()
    graph_cost: float = 0.0
    acoustic_cost: float = 0.0
    passed_over: frozenset[Match] = frozenset()

    @property
    def is_done(self) -> bool:
        """Whether everything was put out."""
        return self.state == END and not self.transitions and not self.words

    @property
    def key(self) -> Hashable:
        costs = round(self.graph_cost * 1024), round(self.acoustic_cost * 1024)
        return (self.state, self.transitions, self.words, costs, self.passed_over)


class WordAligner:
    """Aligns the words of compact lattices.

    Args:
        ids: of the transition model.
        finder: what a word is.
        silence: the word that is put out for what is left over without a word.
    """

    def __init__(self, ids: TransitionIds, finder: WordFinder, silence: int = 0) -> None:
        self._ids = ids
        self._finder = finder
        self._silence = silence
        self._is_final = ids.is_final.tolist()
        self._is_loop = ids.is_self_loop.tolist()
        self._states = ids.states.tolist()
        self._phones = ids.phones.tolist()

    def __call__(self, lattice: CompactLattice) -> CompactLattice:
        """The lattice with one arc for each word and each silence.

        What does not fit the words' phones, such as a word that the recording cuts off, gets all
        the frames that are left.

        Raises:
            NnetError: it has transition-ids of another model.
        """
        lattice = topological(lattice)
        if lattice.num_states == 0:
            return lattice
        reordered = self._reordered(lattice)
        for force in (isinstance(self._finder, BoundaryFinder), True):
            found = self._aligned(lattice, reordered, force)
            if found.num_states:
                break
        return found

    def _aligned(self, lattice: CompactLattice, reordered: bool, force: bool) -> CompactLattice:
        start = _Pending(lattice.start)
        numbers = {start.key: 0}
        queue = [start]
        arcs: list[CompactArc] = []
        finals: dict[int, Final] = {}
        for source, pending in enumerate(queue):  # grows
            if pending.is_done:
                finals[source] = (pending.graph_cost, pending.acoustic_cost, ())
            for word, graph, acoustic, string, rest in self._steps(
                lattice, pending, reordered, force
            ):
                if rest.key not in numbers:
                    numbers[rest.key] = len(queue)
                    queue.append(rest)
                arcs.append((source, word, graph, acoustic, string, numbers[rest.key]))
            if len(queue) > MOST_STATES:
                raise NnetError(
                    "the lattice grows without end where its words are aligned; expected: the "
                    "phones' places or the lexicon of the same system"
                )
        found = topological(connected(compact_lattice(len(queue), arcs, finals)))
        return without_empty_arcs(found)

    def _reordered(self, lattice: CompactLattice) -> bool:
        """Whether self-loops follow the transition that leaves their state."""
        transitions = best_path(lattice).transitions
        largest = len(self._phones) - 1
        every = np.concatenate([transitions, *lattice.strings, *lattice.final_strings])
        if every.min(initial=1) < 1 or every.max(initial=1) > largest:
            raise NnetError(
                f"the lattice has transition-ids outside 1 to {largest}; expected: the model that "
                "it was made with"
            )
        if not len(transitions):
            return True
        states = self._ids.states[transitions]
        return is_reordered(self._ids.is_self_loop[transitions], states[1:] != states[:-1])

    def _steps(
        self, lattice: CompactLattice, pending: _Pending, reordered: bool, force: bool
    ) -> Iterator[tuple[int, float, float, tuple[int, ...], _Pending]]:
        """Words put out, and ways on through the lattice (arcs without word, frames and cost)."""
        at_end = pending.state == END
        phones, ends = self._complete(pending.transitions, reordered, at_end)
        matches = list(self._finder.matches(phones, pending.words)) if phones else []
        for match in sorted(set(matches) - pending.passed_over):
            size = ends[match.phones - 1]
            left = pending.transitions[size:], pending.words[match.words :]
            string = pending.transitions[:size]
            rest = _Pending(pending.state, *left)
            yield match.word, pending.graph_cost, pending.acoustic_cost, string, rest
        if at_end:
            if force and not matches and not pending.is_done:
                word = pending.words[0] if pending.words else self._silence
                rest = _Pending(END, (), pending.words[1:])
                costs = pending.graph_cost, pending.acoustic_cost
                yield word, *costs, pending.transitions, rest
        elif self._finder.may_grow(phones, pending.words):
            passed_over = pending.passed_over.union(matches)
            for rest in _advanced(lattice, pending, passed_over):
                yield 0, 0.0, 0.0, (), rest

    def _complete(
        self, transitions: Sequence[int], reordered: bool, at_end: bool
    ) -> tuple[list[int], list[int]]:
        """The phones that are there as a whole, and where each ends."""
        phones: list[int] = []
        ends: list[int] = []
        place, count = 0, len(transitions)
        while place < count:
            while place < count and not self._is_final[transitions[place]]:
                place += 1
            if place == count:
                if at_end and (not ends or ends[-1] < count):
                    phones.append(self._phones[transitions[-1]])
                    ends.append(count)
                break
            last = transitions[place]
            place += 1
            if reordered:
                while place < count and self._continues(transitions[place], last):
                    place += 1
                if place == count and not at_end:
                    break
            phones.append(self._phones[last])
            ends.append(place)
        return phones, ends

    def _continues(self, transition: int, last: int) -> bool:
        return self._is_loop[transition] and self._states[transition] == self._states[last]


def _advanced(
    lattice: CompactLattice, pending: _Pending, passed_over: frozenset[Match]
) -> Iterator[_Pending]:
    """What is pending after each arc of the present state, and at its end."""
    state = pending.state
    if np.isfinite(lattice.final_graph_costs[state]):
        yield _Pending(
            END,
            (*pending.transitions, *lattice.final_strings[state].tolist()),
            pending.words,
            pending.graph_cost + float(lattice.final_graph_costs[state]),
            pending.acoustic_cost + float(lattice.final_acoustic_costs[state]),
            passed_over,
        )
    for arc in range(*lattice.offsets[state : state + 2].tolist()):
        word = int(lattice.words[arc])
        yield _Pending(
            int(lattice.nextstates[arc]),
            (*pending.transitions, *lattice.strings[arc].tolist()),
            (*pending.words, word) if word else pending.words,
            pending.graph_cost + float(lattice.graph_costs[arc]),
            pending.acoustic_cost + float(lattice.acoustic_costs[arc]),
            passed_over,
        )


def without_empty_arcs(lattice: CompactLattice) -> CompactLattice:
    """The lattice without arcs that have neither word, transition-ids nor cost."""
    offsets, nextstates = lattice.offsets.tolist(), lattice.nextstates.tolist()
    is_empty = [
        not (word or graph or acoustic or len(string))
        for word, graph, acoustic, string in zip(
            lattice.words.tolist(),
            lattice.graph_costs.tolist(),
            lattice.acoustic_costs.tolist(),
            lattice.strings,
            strict=True,
        )
    ]
    arcs: list[CompactArc] = []
    finals: dict[int, Final] = {}
    for state in range(lattice.num_states):
        reached = [state]
        for other in reached:  # grows
            for arc in range(offsets[other], offsets[other + 1]):
                if not is_empty[arc]:
                    arcs.append(
                        (
                            state,
                            int(lattice.words[arc]),
                            float(lattice.graph_costs[arc]),
                            float(lattice.acoustic_costs[arc]),
                            lattice.strings[arc],
                            nextstates[arc],
                        )
                    )
                elif nextstates[arc] not in reached:
                    reached.append(nextstates[arc])
            cost = float(lattice.final_graph_costs[other])
            if cost < finals.get(state, (np.inf,))[0]:
                final = float(lattice.final_acoustic_costs[other])
                finals[state] = (cost, final, lattice.final_strings[other])
    found = compact_lattice(lattice.num_states, arcs, finals, lattice.start)
    return topological(connected(found))
