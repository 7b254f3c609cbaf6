"""Word error rates: counts of errors, and which word stands for which."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """What counts where a hypothesis is missing (compute-wer's --mode)."""

    STRICT = "strict"
    """That is an error."""
    ALL = "all"
    """It is an empty hypothesis."""
    PRESENT = "present"
    """The utterance does not count."""


@dataclass(frozen=True)
class Counts:
    """Numbers of words and errors.

    Args:
        words: of the reference.
        insertions: words that only the hypothesis has.
        deletions: words that only the reference has.
        substitutions: words that are others.
        sentences: how many there are.
        wrong_sentences: how many have an error.
    """

    words: int = 0
    insertions: int = 0
    deletions: int = 0
    substitutions: int = 0
    sentences: int = 0
    wrong_sentences: int = 0

    @property
    def errors(self) -> int:
        return self.insertions + self.deletions + self.substitutions

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.words + other.words,
            self.insertions + other.insertions,
            self.deletions + other.deletions,
            self.substitutions + other.substitutions,
            self.sentences + other.sentences,
            self.wrong_sentences + other.wrong_sentences,
        )

    def word_line(self) -> str:
        """`%WER 35.37 [ 58 / 164, 11 ins, 1 del, 46 sub ]`, as compute-wer writes it."""
        return (
            f"%WER {_percent(self.errors, self.words)} [ {self.errors} / {self.words}, "
            f"{self.insertions} ins, {self.deletions} del, {self.substitutions} sub ]"
        )

    def sentence_line(self) -> str:
        """`%SER 82.50 [ 33 / 40 ]`."""
        share = _percent(self.wrong_sentences, self.sentences)
        return f"%SER {share} [ {self.wrong_sentences} / {self.sentences} ]"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}" if whole else "nan" if not part else "inf"


Pair = tuple[str | None, str | None]
"""A word of the reference and of the hypothesis; None where there is none."""


def aligned_words(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Pair]:
    """Which words stand for which, with the fewest errors (Kaldi's LevenshteinEditDistance)."""
    costs = list(range(len(reference) + 1))
    steps = [["deletion"] * (len(reference) + 1)]
    for word in hypothesis:
        row, step = [costs[0] + 1], ["insertion"]
        for place, other in enumerate(reference, 1):
            substitution = costs[place - 1] + (word != other)
            deletion, insertion = row[place - 1] + 1, costs[place] + 1
            if substitution < min(deletion, insertion):
                row.append(substitution)
                step.append("substitution")
            elif deletion < insertion:
                row.append(deletion)
                step.append("deletion")
            else:
                row.append(insertion)
                step.append("insertion")
        costs = row
        steps.append(step)
    pairs: list[Pair] = []
    i, j = len(hypothesis), len(reference)
    while i or j:
        kind = steps[i][j]
        takes_hypothesis, takes_reference = kind != "deletion", kind != "insertion"
        i, j = i - takes_hypothesis, j - takes_reference
        pairs.append(
            (reference[j] if takes_reference else None, hypothesis[i] if takes_hypothesis else None)
        )
    return pairs[::-1]


def counts_of(pairs: Iterable[Pair]) -> Counts:
    """The errors of an utterance's aligned words."""
    words = insertions = deletions = substitutions = 0
    for reference, hypothesis in pairs:
        words += reference is not None
        insertions += reference is None
        deletions += hypothesis is None
        substitutions += None not in (reference, hypothesis) and reference != hypothesis
    is_wrong = bool(insertions + deletions + substitutions)
    return Counts(words, insertions, deletions, substitutions, 1, int(is_wrong))


def report_lines(utterance: str, pairs: Sequence[Pair]) -> list[str]:
    """An utterance's words under each other, `***` for none, and what each pair is.

    C: right, S: another word, D: missing, I: too much (align-text and wer_per_utt_details.pl).
    """
    rows = [
        (r or "***", h or "***", "I" if r is None else "D" if h is None else "CS"[r != h])
        for r, h in pairs
    ]
    widths = [max(len(r), len(h)) for r, h, _ in rows]
    lines = []
    for name, column in (("ref", 0), ("hyp", 1), ("op", 2)):
        cells = [row[column].ljust(width) for row, width in zip(rows, widths, strict=True)]
        lines.append(f"{utterance} {name:3} {' '.join(cells)}".rstrip())
    kinds = "".join(row[2] for row in rows)
    lines.append(f"{utterance} #csid {' '.join(str(kinds.count(kind)) for kind in 'CSID')}")
    return lines
