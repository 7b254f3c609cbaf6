"""Language models in OpenFst's type `ngram`: a trie of contexts in bits (LOUDS).

A state is a context of words; the trie has at each state, below the shorter context that it backs
off to, an edge with the word that makes it longer, so that words further back are further down
(Sorensen and Allauzen, "Unary data structures for language models", 2011). States are numbered
breadth first; state 0 has no context.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.modelfile.fst import read_header, read_header_symbols
from nnet.modelfile.graph_files import mapped_file, view
from nnet.modelfile.symbols import SymbolTable
from nnet.modelfile.tokens import BinaryReader

Integers = NDArray[np.int64]
START = 1
COUNT = np.dtype("<u8")
LABEL = np.dtype("<i4")
COST = np.dtype("<f4")
BITS = 64


@dataclass(frozen=True, eq=False)
class NgramModel:
    """A back-off language model as an acceptor of words; costs are in nats.

    Args:
        start: the start state.
        backoff_states: int32 (states,); the state of the next shorter context, -1 for state 0.
        backoff_costs: float32 (states,).
        context_words: int32 (states,); the first word of each context, -1 for state 0.
        first_children: int64 (states + 1,); the states whose contexts are one word longer at
            their beginning than that of s are `first_children[s]:first_children[s + 1]`.
        first_words: int64 (states + 1,); the words after s are `first_words[s]:first_words[s + 1]`.
        words: int32 (n-grams,), rising after each state.
        costs: float32 (n-grams,).
        final_costs: float32 (states,), of the end of a sentence; infinite where it has none.
        symbols: names of the words, if the file has them.
        name: of the file, for errors.
    """

    start: int
    backoff_states: NDArray[np.int32]
    backoff_costs: NDArray[np.float32]
    context_words: NDArray[np.int32]
    first_children: Integers
    first_words: Integers
    words: NDArray[np.int32]
    costs: NDArray[np.float32]
    final_costs: NDArray[np.float32]
    symbols: SymbolTable | None = None
    name: str = "a language model"

    def __post_init__(self) -> None:
        """Checks what lookup relies on.

        Raises:
            NnetError: words do not rise after each state, a cost is no number, or a state does
                not back off to one of a lower number.
        """
        for words, firsts, what in (
            (self.words, self.first_words, "words"),
            (self.context_words[1:], self.first_children - 1, "contexts"),
        ):
            falls = words[1:] <= words[:-1]
            borders = firsts[(firsts > 0) & (firsts < len(words))] - 1
            falls[borders] = False
            if falls.any() or words.min(initial=0) < 0:
                raise NnetError(f"{self.name}: {what} are not in order; the file is damaged")
        if (self.backoff_states[1:] >= np.arange(1, len(self))).any():
            raise NnetError(
                f"{self.name}: a context backs off to none before it; the file is damaged"
            )
        for costs in (self.costs, self.backoff_costs, self.final_costs):
            if np.isnan(costs).any():
                raise NnetError(f"{self.name}: a cost is no number; the file is damaged")

    def __len__(self) -> int:
        """The number of states."""
        return len(self.context_words)

    def arc(self, state: int, word: int) -> tuple[int, float] | None:
        """The next state and the cost of a word after a state; None if it is no n-gram there."""
        begin, end = self.first_words[state : state + 2].tolist()
        place = begin + int(np.searchsorted(self.words[begin:end], word))
        if place == end or self.words[place] != word:
            return None
        return self.next_state(state, word), float(self.costs[place])

    def context(self, state: int) -> list[int]:
        """The words of a state's context, the last one first."""
        words: list[int] = []
        while state > 0:
            words.insert(0, int(self.context_words[state]))
            state = int(self.backoff_states[state])
        return words

    def next_state(self, state: int, word: int) -> int:
        """The state of the longest context that `word` after the context of a state ends with."""
        following = 0
        for label in (word, *self.context(state)):
            longer = self._child(following, label)
            if longer is None:
                break
            following = longer
        return following

    def _child(self, state: int, word: int) -> int | None:
        begin, end = self.first_children[state : state + 2].tolist()
        place = begin + int(np.searchsorted(self.context_words[begin:end], word))
        return place if place < end and self.context_words[place] == word else None


def read_ngram_model(path: str | os.PathLike[str]) -> NgramModel:
    """The language model in a file such as Vosk's `Gr.fst`.

    Raises:
        NnetError: there is no such file, or it is no FST of type ngram, or it is damaged.
    """
    reader = mapped_file(path)
    header = read_header(reader)
    if header.kind != "ngram" or header.arc_type != "standard":
        reader.fail("an FST of type ngram with standard arcs",
                    f"{header.kind} with {header.arc_type} arcs", at=header.place)  # fmt: skip
    symbols = read_header_symbols(reader, header)
    start = reader.position
    states, ngrams, finals = view(reader, COUNT, 3, "the sizes of a language model").tolist()
    if not 1 < states < 2**31 or max(ngrams, finals) > reader.remaining:
        reader.fail("a number of states, n-grams and final states",
                    f"{states}, {ngrams} and {finals}", at=start)  # fmt: skip
    children = _unary(reader, states, states, "contexts")
    following = _unary(reader, states, ngrams, "words")
    is_final = _bits(reader, states, "final states")
    if is_final.sum() != finals:
        reader.fail(f"{finals} final states", str(is_final.sum()))
    context_words = view(reader, LABEL, states + 1, "contexts")[:states]
    words = view(reader, LABEL, ngrams, "words")
    backoff_costs = view(reader, COST, states + 1, "back-off costs")[:states]
    final_costs = np.full(states, np.inf, np.float32)
    final_costs[is_final] = view(reader, COST, finals, "final costs")
    costs = view(reader, COST, ngrams, "costs")
    parents = np.repeat(np.arange(states, dtype=np.int32), np.diff(children))
    return NgramModel(
        START,
        np.concatenate((np.array([-1], np.int32), parents)),
        np.require(backoff_costs, requirements="A"),
        np.require(context_words, requirements="A"),
        children,
        following,
        np.require(words, requirements="A"),
        np.require(costs, requirements="A"),
        final_costs,
        symbols,
        reader.name,
    )


def _bits(reader: BinaryReader, count: int, what: str) -> NDArray[np.bool_]:
    words = view(reader, COUNT, -(-count // BITS), what)
    return np.unpackbits(words.view(np.uint8), bitorder="little", count=count).astype(bool)


def _unary(reader: BinaryReader, states: int, items: int, what: str) -> Integers:
    """Where the items of each state begin, (states + 1,), from counts as rows of ones.

    Each row ends with a zero; a zero stands in front of the first (for contexts, a row for the
    state 0 itself).
    """
    start = reader.position
    bits = _bits(reader, states + 1 + items, what)
    zeros = np.flatnonzero(~bits)
    if len(zeros) != states + 1 or zeros[0] != (what == "contexts"):
        reader.fail(f"{states} counts of {what}", f"{len(zeros) - 1}", at=start)
    return zeros - np.arange(states + 1)
