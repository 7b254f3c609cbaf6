"""N-gram language models in ARPA form, as acceptors of words (arpa2fst)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

from nnet.errors import NnetError
from nnet.fst.transducers import Arc, transducer_of
from nnet.modelfile.fst import Fst
from nnet.modelfile.symbols import SymbolTable, read_lines

BEGIN, END = "<s>", "</s>"
LN10 = math.log(10.0)
NEVER = -90.0  # log10 probabilities below this stand for none, as that of <s>
Context = tuple[str, ...]


def read_arpa(
    path: str | os.PathLike[str], words: SymbolTable, backoff_symbol: str = "#0"
) -> tuple[Fst, set[str]]:
    """The acceptor of a language model; costs are in nats.

    Backing off is an arc with `backoff_symbol` on the input side and nothing on the output side.

    Args:
        path: an ARPA file.
        words: labels; n-grams with other words are left out.
        backoff_symbol: a symbol of `words`.

    Returns:
        The acceptor, and the words that were left out.

    Raises:
        NnetError: the file cannot be read, or is no ARPA file.
    """
    builder = _Arpa(words, words.label(backoff_symbol))
    for ngram, cost, backoff in _ngrams(os.fspath(path)):
        builder.add(ngram, cost, backoff)
    return builder.fst(os.fspath(path)), builder.left_out


def _ngrams(path: str) -> Iterator[tuple[Context, float, float]]:
    """N-grams with their costs and back-off costs, in the file's order."""
    order = 0
    counts: dict[int, int] = {}
    seen: dict[int, int] = {}
    for number, line in enumerate(read_lines(path), 1):
        text = line.strip()
        if text.startswith("ngram ") and not order:
            size, _, count = text.removeprefix("ngram ").partition("=")
            if not (size.strip().isdigit() and count.strip().isdigit()):
                raise NnetError(f"{path}:{number}: expected 'ngram ORDER=COUNT', found '{text}'")
            counts[int(size)] = int(count)
        elif text.endswith("-grams:") and text.startswith("\\"):
            order += 1
            if text != f"\\{order}-grams:":
                raise NnetError(f"{path}:{number}: expected \\{order}-grams:, found '{text}'")
        elif text == "\\end\\":
            break
        elif text and order:
            yield _ngram(text.split(), order, f"{path}:{number}")
            seen[order] = seen.get(order, 0) + 1
    else:
        raise NnetError(f"{path}: expected \\end\\, found the end of the file; it was cut short")
    wrong = next((n for n in counts if counts[n] != seen.get(n, 0)), None)
    if wrong is not None or not counts:
        found = "no n-grams" if wrong is None else f"{seen.get(wrong, 0)} {wrong}-grams"
        raise NnetError(f"{path}: expected {counts.get(wrong or 1, 'some')}, found {found}")


def _ngram(fields: list[str], order: int, place: str) -> tuple[Context, float, float]:
    try:
        if len(fields) not in (order + 1, order + 2):
            raise ValueError
        score = float(fields[0])
        backoff = float(fields[order + 1]) if len(fields) > order + 1 else 0.0
    except ValueError:
        raise NnetError(
            f"{place}: expected a log10 probability, {order} words and at most a back-off weight, "
            f"found '{' '.join(fields)}'"
        ) from None
    cost = math.inf if score < NEVER else -score * LN10
    return tuple(fields[1 : order + 1]), cost, -backoff * LN10


class _Arpa:
    """States are contexts; 0 is that of no word."""

    def __init__(self, words: SymbolTable, backoff: int) -> None:
        self._labels = words.labels
        self._backoff = backoff
        self._states: dict[Context, int] = {(): 0}
        self._backoffs: dict[Context, float] = {}
        self._ngrams: list[tuple[Context, float]] = []
        self.left_out: set[str] = set()

    def add(self, ngram: Context, cost: float, backoff: float) -> None:
        unknown = {w for w in ngram if w not in (BEGIN, END) and w not in self._labels}
        if unknown or BEGIN in ngram[1:] or END in ngram[:-1]:
            self.left_out |= unknown
            return
        self._backoffs[ngram] = backoff
        if cost < math.inf:
            self._ngrams.append((ngram, cost))
        if ngram[:-1] not in self._states:
            self._states[ngram[:-1]] = len(self._states)

    def fst(self, path: str) -> Fst:
        """The acceptor of what was added."""
        if not self._ngrams:
            raise NnetError(f"{path}: no n-gram has words of words.txt alone")
        arcs: list[Arc] = []
        finals: dict[int, float] = {}
        for ngram, cost in self._ngrams:
            state = self._states[ngram[:-1]]
            if ngram[-1] == END:
                finals[state] = cost
            elif ngram[-1] != BEGIN:
                label = self._labels[ngram[-1]]
                arcs.append((state, label, label, cost, self._longest(ngram)))
        for context, state in self._states.items():
            if context:
                cost = self._backoffs.get(context, 0.0)
                arcs.append((state, self._backoff, 0, cost, self._longest(context[1:])))
        start = self._longest((BEGIN,))
        return transducer_of(len(self._states), arcs, finals, start)

    def _longest(self, context: Context) -> int:
        """The state of the longest end of a context that has one."""
        while context not in self._states:
            context = context[1:]
        return self._states[context]
