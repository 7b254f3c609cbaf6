"""Grammars: lists of phrases, and rules with alternatives such as those of JSGF."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from nnet.errors import NnetError
from nnet.fst.transducers import Arc, transducer_of
from nnet.modelfile.fst import Fst
from nnet.modelfile.symbols import SymbolTable

TOKEN = re.compile(r"\s*(<[^<>\s]+>|/[\d.]+/|[()\[\]|*+;=]|[^\s()\[\]|*+;=<>]+)")
LEAST_WEIGHT = 1e-10
MOST_DEPTH = 50
HEADER = re.compile(r"\A\s*#JSGF[^;]*;(\s*grammar\s[^;]*;)?")


def phrases_fst(phrases: Sequence[str], words: SymbolTable) -> Fst:
    """The acceptor of any of some phrases, one after the other, equally likely.

    So a list of words is a grammar of their sequences, and so Vosk understands its grammars.

    Raises:
        NnetError: a word is not in the table, or there is no phrase.
    """
    sequences = [[words.label(word) for word in phrase.split()] for phrase in phrases]
    sequences = [sequence for sequence in sequences if sequence]
    if not sequences:
        raise NnetError("the grammar has no phrase; expected: words, such as 'turn on'")
    cost = math.log(len(sequences) + 1)
    arcs: list[Arc] = []
    states = 1
    for sequence in sequences:
        source = 0
        for place, label in enumerate(sequence):
            target = 0 if place + 1 == len(sequence) else states
            states += bool(target)
            arcs.append((source, label, label, 0.0 if place else cost, target))
            source = target
    return transducer_of(states, arcs, {0: cost})


def word_list_fst(probabilities: Sequence[tuple[str, float]], words: SymbolTable) -> Fst:
    """The acceptor of all sequences of some words, with the words' probabilities.

    What is left of 1 is the probability of the end; where nothing is, all are made a little less.

    Raises:
        NnetError: a word is not in the table, or probabilities are not above 0.
    """
    total = sum(probability for _, probability in probabilities)
    if not probabilities or not all(p > 0 for _, p in probabilities):
        raise NnetError("expected: words with probabilities above 0")
    scale = min(1.0, len(probabilities) / (len(probabilities) + 1) / total)
    arcs = []
    for word, probability in probabilities:
        label = words.label(word)
        arcs.append((0, label, label, -math.log(scale * probability), 0))
    return transducer_of(1, arcs, {0: -math.log(1 - scale * total)})


@dataclass(frozen=True)
class _Token:
    text: str
    place: int


def rules_fst(text: str, words: SymbolTable, name: str = "the grammar") -> Fst:
    """The acceptor of a grammar with alternatives, options and repetitions (a part of JSGF).

    `turn (on | off) [the] /0.7/ light | (stop)+ ;` where `|` stands between alternatives, `/0.7/`
    in front of one is its weight, `[...]` may be left out, `*` and `+` repeat. Rules such as
    `<color> = red | blue;` can be used in later ones; the last, or the one marked `public`, is the
    grammar. A text without `=` is one rule.

    Args:
        text: the grammar.
        words: labels of the words.
        name: of its file, for errors.

    Raises:
        NnetError: the text is no such grammar, or has a word that is not in the table.
    """
    plain = HEADER.sub(lambda match: " " * len(match[0]), text)
    return _Rules(plain, words, name).fst()


class _Rules:
    """A parser that makes states and arcs as it reads; a rule is read anew where it is used."""

    def __init__(self, text: str, words: SymbolTable, name: str) -> None:
        self._text, self._words, self._name = text, words, name
        self._tokens = self._split()
        self._at = 0
        self._arcs: list[Arc] = []
        self._states = 0
        self._bodies: dict[str, int] = {}  # where the body of each rule begins
        self._depth = 0

    def _split(self) -> list[_Token]:
        tokens, place = [], 0
        while self._text[place:].strip():
            match = TOKEN.match(self._text, place)
            if match is None:
                self._fail("a word, ( ) [ ] | * + or <rule>", place)
            tokens.append(_Token(match[1], match.start(1)))
            place = match.end()
        return [*tokens, _Token("", len(self._text))]

    def _fail(self, expected: str, place: int) -> NoReturn:
        line = self._text.count("\n", 0, place) + 1
        column = place - self._text.rfind("\n", 0, place)
        found = self._text[place : place + 20].split("\n")[0] or "the end"
        raise NnetError(f"{self._name}:{line}:{column}: expected {expected}, found '{found}'")

    @property
    def _next(self) -> str:
        return self._tokens[self._at].text

    def _take(self, *texts: str) -> str:
        token = self._tokens[self._at]
        if texts and token.text not in texts:
            self._fail(" or ".join(texts), token.place)
        self._at += 1
        return token.text

    def _state(self) -> int:
        self._states += 1
        return self._states - 1

    def _link(self, source: int, target: int, label: int = 0, cost: float = 0.0) -> None:
        self._arcs.append((source, label, label, cost, target))

    def fst(self) -> Fst:
        """The acceptor of the grammar."""
        begin = self._find_rules()
        self._at = begin
        start, end = self._state(), self._state()
        self._alternatives(start, end)
        if self._next not in (";", ""):
            self._fail("the end of the rule", self._tokens[self._at].place)
        return transducer_of(self._states, self._arcs, {end: 0.0}, start)

    def _find_rules(self) -> int:
        """Where the grammar's rule begins; notes where all of them do."""
        if not any(token.text == "=" for token in self._tokens):
            return 0
        public = last = 0
        while self._next:
            is_public = self._next == "public"
            if is_public:
                self._take()
            name = self._take()
            if not name.startswith("<"):
                self._fail("a rule such as <name> = ...;", self._tokens[self._at - 1].place)
            self._take("=")
            last = self._bodies[name] = self._at
            public = self._at if is_public else public
            while self._take() != ";":
                if not self._next:
                    self._fail("';' at the end of a rule", self._tokens[self._at].place)
        return public or last

    def _alternatives(self, source: int, end: int) -> None:
        while True:
            weight = self._take() if self._next.startswith("/") else "/1/"
            cost = -math.log(max(float(weight.strip("/")), LEAST_WEIGHT))
            begin = self._state()
            self._link(source, begin, cost=cost)
            self._link(self._sequence(begin), end)
            if self._next != "|":
                return
            self._take()

    def _sequence(self, state: int) -> int:
        """Reads items up to the end of an alternative; the state after them."""
        empty = True
        while self._next not in ("", "|", ")", "]", ";"):
            state = self._item(state)
            empty = False
        if empty:
            self._fail("words", self._tokens[self._at].place)
        return state

    def _item(self, source: int) -> int:
        token = self._tokens[self._at]
        begin, end = self._state(), self._state()
        self._link(source, begin)
        self._take()
        if token.text in ("(", "["):
            self._alternatives(begin, end)
            self._take(")" if token.text == "(" else "]")
            if token.text == "[":
                self._link(begin, end)
        elif token.text.startswith("<"):
            self._rule(token, begin, end)
        elif token.text in self._words.labels:
            self._link(begin, end, self._words.labels[token.text])
        else:
            self._fail(f"words of {self._words.name}", token.place)
        if self._next in ("*", "+"):
            if self._take() == "*":
                self._link(begin, end)
            self._link(end, begin)
        return end

    def _rule(self, token: _Token, begin: int, end: int) -> None:
        if token.text not in self._bodies or self._depth == MOST_DEPTH:
            self._fail("a rule that is there and does not contain itself", token.place)
        after, self._at = self._at, self._bodies[token.text]
        self._depth += 1
        self._alternatives(begin, end)
        self._take(";")
        self._depth -= 1
        self._at = after
