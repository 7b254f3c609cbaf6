"""Minimum Bayes risk decoding of lattices: words, their times and confidences.

Xu, Povey, Mangu and Zhu, "Minimum Bayes Risk decoding and system combination based on a recursion
for edit distance" (2011), with the times of Kaldi's lat/sausages.cc. Nodes are numbered from 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nnet.modelfile.lattices import CompactLattice
from nnet.speech.lattices.paths import Scales, best_path, topological

MOST_ROUNDS = 100
PENALTY = 1e-5  # of words that are left out, so that the alignment is unique


@dataclass(frozen=True)
class WordTime:
    """A word with its place in time.

    Args:
        word: its label.
        begin: where it begins, in frames.
        end: where it ends.
        confidence: the probability that it is right, from 0 to 1.
    """

    word: int
    begin: float
    end: float
    confidence: float = 1.0


@dataclass(frozen=True)
class Bin:
    """What can stand at one place: words (0 for none) with probabilities and times."""

    words: tuple[WordTime, ...]

    def of(self, word: int) -> WordTime:
        for found in self.words:
            if found.word == word:
                return found
        return WordTime(word, self.words[0].begin, self.words[0].end, 0.0)


@dataclass(frozen=True)
class MinimumBayesRisk:
    """The words with the least expected number of errors.

    Args:
        words: with times and confidences.
        bins: the places for words, and between them.
        risk: the expected number of errors.
    """

    words: tuple[WordTime, ...]
    bins: tuple[Bin, ...]
    risk: float


def minimum_bayes_risk(
    lattice: CompactLattice,
    scales: Scales = Scales(),  # noqa: B008  (it is frozen)
    *,
    words: list[int] | None = None,
    decode: bool = True,
) -> MinimumBayesRisk:
    """Words, times and confidences of a lattice; times are exact where its words are aligned.

    Args:
        lattice: with one path for each sequence of words.
        scales: factors of the costs.
        words: where to begin, or with decode=False the words whose confidences are wanted;
            without them those of the best path.
        decode: whether words are changed to lower the risk (Kaldi's --decode-mbr).

    Raises:
        NnetError: the lattice has no path or has cycles.
    """
    arcs = _Arcs(topological(lattice), scales)
    present = best_path(lattice, scales).words.tolist() if words is None else list(words)
    for _ in range(MOST_ROUNDS):
        present = _with_gaps(present)
        bins, risk = arcs.bins(present)
        if not decode:
            break
        better = [found.words[0].word for found in bins]
        change = sum(
            bin_.of(old).confidence - bin_.words[0].confidence
            for bin_, old in zip(bins, present, strict=True)
        )
        present = better
        if change == 0:
            break
    return MinimumBayesRisk(_timed(bins, present), tuple(bins), risk)


def _with_gaps(words: list[int]) -> list[int]:
    """The words with 0 before, between and after them."""
    found = [0]
    for word in words:
        if word:
            found += [word, 0]
    return found


def _timed(bins: list[Bin], words: list[int]) -> tuple[WordTime, ...]:
    """The words of a choice; where two overlap their time is shared."""
    chosen = [bin_.of(word) for bin_, word in zip(bins, words, strict=True) if word]
    spans = [(word.begin, word.end) for word in chosen]
    for i in range(1, len(spans)):
        (begin, end), (following, last) = spans[i - 1], spans[i]
        if end <= following:
            continue
        before = spans[i - 2][1] if i > 1 else 0.0
        left, right = max(before, min(begin, following)), max(end, last)
        first, second = end - begin, last - following
        middle = left + (right - left) * first / (first + second) if first > 0 else left
        spans[i - 1], spans[i] = (left, middle), (middle, right)
    return tuple(
        WordTime(word.word, *span, word.confidence)
        for word, span in zip(chosen, spans, strict=True)
    )


class _Arcs:
    """The arcs into each node of a lattice with one last node, in topological order."""

    def __init__(self, lattice: CompactLattice, scales: Scales) -> None:
        costs, finals = scales.arcs(lattice), scales.finals(lattice)
        count = lattice.num_states
        self.into: list[list[tuple[int, int, float]]] = [[] for _ in range(count + 1)]
        self.times = [0.0] * (count + 1)
        columns = (lattice.sources, lattice.nextstates, lattice.words, costs)
        for arc, (source, target, word, cost) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        ):
            self.into[target].append((source, word, -cost))
            self.times[target] = self.times[source] + len(lattice.strings[arc])
        for state in np.flatnonzero(np.isfinite(finals)).tolist():
            self.into[count].append((state, 0, -float(finals[state])))
            end = self.times[state] + len(lattice.final_strings[state])
            self.times[count] = max(self.times[count], end)
        self._weigh()

    def _weigh(self) -> None:
        """Replaces log-likelihoods of arcs by their shares of what comes into each node."""
        forward = [0.0]
        for node in range(1, len(self.into)):
            values = [forward[source] + score for source, _, score in self.into[node]]
            total = float(np.logaddexp.reduce(values)) if values else -math.inf
            forward.append(total)
            self.into[node] = [
                (source, word, math.exp(value - total))
                for (source, word, _), value in zip(self.into[node], values, strict=True)
            ]

    def bins(self, words: list[int]) -> tuple[list[Bin], float]:
        """What the lattice has in the place of each word, and the expected number of errors."""
        distances = self._distances(words)
        size = len(words)
        shares = [[0.0] * (size + 1) for _ in self.into]
        shares[-1][size] = 1.0
        tallies: list[dict[int, list[float]]] = [{} for _ in range(size)]
        for node in range(len(self.into) - 1, 0, -1):
            for source, word, share in self.into[node]:
                _, steps = _align(distances[source], word, words)
                carried = 0.0
                for q in range(size, 0, -1):
                    carried += share * shares[node][q]
                    if steps[q] == 1:
                        shares[source][q - 1] += carried
                        _tally(tallies[q - 1], word, carried, self.times[source], self.times[node])
                        carried = 0.0
                    elif steps[q] == 2:
                        shares[source][q] += carried
                        carried = 0.0
                    else:
                        _tally(tallies[q - 1], 0, carried, self.times[node], self.times[node])
                shares[source][0] += carried + share * shares[node][0]
        carried = 0.0
        for q in range(size, 0, -1):
            carried += shares[0][q]
            _tally(tallies[q - 1], 0, carried, 0.0, 0.0)
        return [_bin(tally) for tally in tallies], distances[-1][size]

    def _distances(self, words: list[int]) -> list[list[float]]:
        """The expected edit distance of what leads to each node from each beginning of words."""
        first = [0.0]
        for word in words:
            first.append(first[-1] + _loss(0, word))
        distances = [first]
        for node in range(1, len(self.into)):
            row = [0.0] * (len(words) + 1)
            for source, word, share in self.into[node]:
                aligned, _ = _align(distances[source], word, words)
                row = [a + share * b for a, b in zip(row, aligned, strict=True)]
            distances.append(row)
        return distances


def _loss(a: int, b: int, penalty: float = 0.0) -> float:
    return 0.0 if a == b else 1.0 + penalty


def _align(before: list[float], word: int, words: list[int]) -> tuple[list[float], list[int]]:
    """The distances after an arc's word, and from where each comes.

    1: the word stands in the place of another, 2: it is left out, 3: there is no word in a place.
    """
    left_out = _loss(word, 0, PENALTY)
    row, steps = [before[0] + left_out], [0]
    for q, other in enumerate(words, 1):
        options = (
            before[q - 1] + _loss(word, other),
            before[q] + left_out,
            row[q - 1] + _loss(0, other),
        )
        best = min(options)
        row.append(best)
        steps.append(1 + options.index(best))
    return row, steps


def _tally(
    tally: dict[int, list[float]], word: int, share: float, begin: float, end: float
) -> None:
    if share:
        sums = tally.setdefault(word, [0.0, 0.0, 0.0])
        for place, value in enumerate((share, share * begin, share * end)):
            sums[place] += value


def _bin(tally: dict[int, list[float]]) -> Bin:
    found = [
        WordTime(word, begin / share, end / share, share)
        for word, (share, begin, end) in tally.items()
    ]
    return Bin(tuple(sorted(found, key=lambda word: (-word.confidence, word.word))))
