"""The language model that Vosk makes of phrases, for graphs that are composed with one."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from nnet.errors import NnetError
from nnet.fst.transducers import Arc, transducer_of
from nnet.modelfile.fst import Fst
from nnet.modelfile.ngram_fst import NgramModel
from nnet.modelfile.symbols import SymbolTable

log = logging.getLogger(__name__)
KEPT = 0.5
"""Share of the probability that words seen after a word have; the rest is for backing off."""
END = 0


def phrase_model(phrases: Sequence[str], words: SymbolTable, kept: float = KEPT) -> NgramModel:
    """A model of pairs of words that come after each other in phrases.

    The probability of a word is `kept` times its share of what was seen after the word before; the
    rest is for backing off to words alone, whose probabilities are so much of their shares likewise
    (vosk-api's language_model.cc with order 2 and discount 0.5). Words that are not known are left
    out with a warning.

    Args:
        phrases: words with spaces between them.
        words: their labels.
        kept: probability of words that were seen after a word, together.

    Raises:
        NnetError: no word is known.
    """
    pairs = _counts(phrases, words)
    if not set(pairs[None]) - {END}:
        raise NnetError("the grammar has no word that is known; expected: phrases of known words")
    contexts = sorted(word for word in pairs if word is not None)
    tables = [pairs[None], *(pairs[word] for word in contexts)]
    costs = [
        {word: -math.log(kept * count / table.total()) for word, count in table.items()}
        for table in tables
    ]
    listed = [sorted(word for word in table if word != END) for table in costs]
    count = len(tables)
    return NgramModel(
        0,
        np.array([-1] + [0] * len(contexts), np.int32),
        np.full(count, -math.log(1 - kept), np.float32),
        np.array([-1, *contexts], np.int32),
        np.array([1] + [count] * count),
        np.concatenate(([0], np.cumsum([len(after) for after in listed]))),
        np.array([word for after in listed for word in after], np.int32),
        np.array(
            [table[word] for table, after in zip(costs, listed, strict=True) for word in after],
            np.float32,
        ),
        np.array([table.get(END, np.inf) for table in costs], np.float32),
        words,
        "the grammar",
    )


def _counts(phrases: Sequence[str], words: SymbolTable) -> dict[int | None, Counter[int]]:
    """How often each word comes after each word, and at all (after None)."""
    unknown = {w for phrase in phrases for w in phrase.split() if w not in words.labels}
    if unknown:
        log.warning("words that are not known are left out: %s", " ".join(sorted(unknown)))
    pairs: dict[int | None, Counter[int]] = {None: Counter()}
    for phrase in phrases:
        before: int | None = None
        for word in [*(words.labels[w] for w in phrase.split() if w in words.labels), END]:
            pairs.setdefault(before, Counter())[word] += 1
            if before is not None:
                pairs[None][word] += 1
            before = word
    return pairs


def phrase_acceptor(model: NgramModel, backoff: int) -> Fst:
    """The same as an acceptor whose back-off arcs have the label `backoff` on the input side."""
    arcs: list[Arc] = []
    for state in range(len(model)):
        if state:
            back = float(model.backoff_costs[state])
            arcs.append((state, backoff, 0, back, int(model.backoff_states[state])))
        for place in range(*model.first_words[state : state + 2].tolist()):
            word = int(model.words[place])
            cost = float(model.costs[place])
            arcs.append((state, word, word, cost, model.next_state(state, word)))
    finals = {s: c for s, c in enumerate(model.final_costs.tolist()) if c < math.inf}
    return transducer_of(len(model), arcs, finals, model.start)
