"""Pronunciation lexicons, and the transducers from phones to words that they make (L.fst)."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nnet.errors import NnetError, nearest
from nnet.fst.transducers import Arc, transducer_of
from nnet.modelfile.fst import Fst
from nnet.modelfile.symbols import EPSILON, SymbolTable, read_lines

START, LOOP, SILENCE = range(3)


@dataclass(frozen=True)
class Pronunciation:
    """One way to say a word.

    Args:
        word: its name.
        phones: their names.
        probability: from above 0 to 1.
    """

    word: str
    phones: tuple[str, ...]
    probability: float = 1.0


def read_lexicon(path: str | os.PathLike[str], with_probabilities: bool) -> list[Pronunciation]:
    """A lexicon as lines of a word, its probability (in a `lexiconp.txt`) and its phones.

    Raises:
        NnetError: the file cannot be read, or a line is not like that.
    """
    name = os.fspath(path)
    entries = []
    for number, line in enumerate(read_lines(path), 1):
        fields = line.split()
        if not fields:
            continue
        probability, phones = 1.0, fields[1:]
        if with_probabilities:
            try:
                probability, phones = float(fields[1]), fields[2:]
            except (ValueError, IndexError):
                raise NnetError(
                    f"{name}:{number}: expected a word, a probability and phones, found '{line}'"
                ) from None
        if not phones or not 0 < probability <= 1:
            raise NnetError(
                f"{name}:{number}: expected a word, phones and a probability above 0 and up to 1, "
                f"found '{line}'"
            )
        entries.append(Pronunciation(fields[0], tuple(phones), probability))
    if not entries:
        raise NnetError(f"{name}: expected words and their phones, found none")
    return entries


def with_word_positions(entries: Iterable[Pronunciation]) -> list[Pronunciation]:
    """Phones marked by their place in the word: _B, _I, _E, and _S for those alone in it."""
    found = []
    for entry in entries:
        last = len(entry.phones) - 1
        marks = ["S"] if not last else ["B", *"I" * (last - 1), "E"]
        phones = tuple(f"{p}_{m}" for p, m in zip(entry.phones, marks, strict=True))
        found.append(Pronunciation(entry.word, phones, entry.probability))
    return found


def with_disambiguation(entries: Sequence[Pronunciation]) -> tuple[list[Pronunciation], int]:
    """Symbols #1, #2 and so on after phones that are those, or the beginning of those, of another.

    Returns:
        The lexicon, and how many symbols it needs (add_lex_disambig.pl).
    """
    counts = Counter(entry.phones for entry in entries)
    beginnings = {entry.phones[:size] for entry in entries for size in range(1, len(entry.phones))}
    used: Counter[tuple[str, ...]] = Counter()
    found, most = [], 0
    for entry in entries:
        phones = entry.phones
        if counts[phones] > 1 or phones in beginnings:
            used[phones] += 1
            most = max(most, used[phones])
            phones = (*phones, f"#{used[phones]}")
        found.append(Pronunciation(entry.word, phones, entry.probability))
    return found, most


@dataclass(frozen=True)
class OptionalSilence:
    """Silence that can stand before the first word and after each.

    Args:
        phone: its name.
        probability: of silence, between 0 and 1.
        disambiguation: the symbol that follows it in a graph that will be determinized.
    """

    phone: str
    probability: float = 0.5
    disambiguation: str = ""


def lexicon_fst(
    entries: Sequence[Pronunciation],
    phones: SymbolTable,
    words: SymbolTable,
    silence: OptionalSilence | None = None,
    word_disambiguation: tuple[str, str] | None = None,
) -> Fst:
    """The transducer from phones to words (make_lexicon_fst.py).

    Args:
        entries: the lexicon.
        phones: labels of the phones, with those of disambiguation symbols.
        words: labels of the words.
        silence: where it can stand between words.
        word_disambiguation: the phone's and the word's name of #0, which the grammar's back-off
            arcs have; it gets a loop.

    Raises:
        NnetError: a phone or a word has no label.
    """
    builder = _Builder(phones, words)
    loop = LOOP if silence else START
    if silence:
        builder.states = 3
        stay = -math.log(1 - silence.probability)
        go = -math.log(silence.probability)
        builder.arc(START, EPSILON, EPSILON, stay, LOOP)
        builder.arc(START, EPSILON, EPSILON, go, SILENCE)
        if silence.disambiguation:
            middle = builder.state()
            builder.arc(SILENCE, silence.phone, EPSILON, 0.0, middle)
            builder.arc(middle, silence.disambiguation, EPSILON, 0.0, LOOP)
        else:
            builder.arc(SILENCE, silence.phone, EPSILON, 0.0, LOOP)
        ends = [(LOOP, stay), (SILENCE, go)]
    else:
        ends = [(START, 0.0)]
    for entry in entries:
        builder.word(entry, loop, ends)
    if word_disambiguation:
        builder.arc(loop, *word_disambiguation, 0.0, loop)
    return transducer_of(builder.states, builder.arcs, {loop: 0.0})


class _Builder:
    def __init__(self, phones: SymbolTable, words: SymbolTable) -> None:
        self._phones, self._words = phones, words
        self.states = 1
        self.arcs: list[Arc] = []

    def state(self) -> int:
        self.states += 1
        return self.states - 1

    def arc(self, source: int, phone: str, word: str, cost: float, target: int) -> None:
        labels = (_label(phone, self._phones), _label(word, self._words))
        self.arcs.append((source, *labels, cost, target))

    def word(self, entry: Pronunciation, loop: int, ends: Sequence[tuple[int, float]]) -> None:
        cost = -math.log(entry.probability)
        state, word = loop, entry.word
        for phone in entry.phones[:-1]:
            following = self.state()
            self.arc(state, phone, word, cost, following)
            state, word, cost = following, EPSILON, 0.0
        for end, more in ends:
            self.arc(state, entry.phones[-1], word, cost + more, end)


def _label(symbol: str, table: SymbolTable) -> int:
    if symbol == EPSILON:
        return 0
    if symbol not in table.labels:
        meant = nearest(symbol, table.labels)
        hint = f"; did you mean '{meant}'?" if meant else ""
        raise NnetError(f"the lexicon has '{symbol}', which is not in {table.name}{hint}")
    return table.labels[symbol]
