"""Sums of scores over minibatches, and their averages per frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nnet.training.objectives import Scores


@dataclass(frozen=True)
class Tally:
    """What a Score holds, as numbers that can be added up; averages are NaN where weight is 0."""

    total: float = 0.0
    weight: float = 0.0
    correct: float | None = 0.0
    auxiliary: float = 0.0
    regularizes: bool = False

    def __add__(self, other: Tally) -> Tally:
        known = self.correct is not None and other.correct is not None
        return Tally(
            self.total + other.total,
            self.weight + other.weight,
            (self.correct or 0.0) + (other.correct or 0.0) if known else None,
            self.auxiliary + other.auxiliary,
            self.regularizes or other.regularizes,
        )

    @property
    def objective(self) -> float:
        """The average per frame of the objective, without what is trained beside it."""
        return self._average(self.total)

    @property
    def accuracy(self) -> float | None:
        """The share of the frames that are right; None where that means nothing."""
        return None if self.correct is None else self._average(self.correct)

    def _average(self, value: float) -> float:
        return value / self.weight if self.weight else float("nan")


Tallies = Mapping[str, Tally]
"""By the names of the scores."""


@dataclass(frozen=True, eq=False)
class ScoreNumbers:
    """The numbers of scores side by side, so that they are fetched from a device at once.

    Attributes:
        names: of the scores.
        with_accuracy, regularizing: those that have one; those that are regularizers.
        tensor: four numbers a score, float64.
    """

    names: tuple[str, ...]
    with_accuracy: frozenset[str]
    regularizing: frozenset[str]
    tensor: Tensor

    @staticmethod
    def of(scores: Scores) -> ScoreNumbers:
        tensors = []
        for score in scores.values():
            zero = torch.zeros_like(score.total)
            correct = zero if score.correct is None else score.correct
            auxiliary = zero if score.auxiliary is None else score.auxiliary
            tensors += [score.total, score.weight, correct, auxiliary]
        return ScoreNumbers(
            tuple(scores),
            frozenset(name for name, score in scores.items() if score.correct is not None),
            frozenset(name for name, score in scores.items() if score.regularizer is not None),
            torch.stack([tensor.detach().double() for tensor in tensors]),
        )

    def tallies(self, fetched: Sequence[float]) -> dict[str, Tally]:
        """The scores, by the numbers that the tensor holds."""
        numbers = iter(fetched)
        return {
            name: Tally(total, weight, correct if name in self.with_accuracy else None, auxiliary,
                        name in self.regularizing)
            for name, total, weight, correct, auxiliary in zip(
                self.names, numbers, numbers, numbers, numbers, strict=True
            )
        }  # fmt: skip


def tallies(scores: Scores) -> dict[str, Tally]:
    """The numbers of scores, fetched from the device at once."""
    numbers = ScoreNumbers.of(scores)
    return numbers.tallies(numbers.tensor.tolist())


def added(some: Tallies, more: Tallies) -> dict[str, Tally]:
    """The sums of two, name by name; names need not be the same."""
    sums = dict(some)
    for name, tally in more.items():
        sums[name] = sums[name] + tally if name in sums else tally
    return sums


def overall(of: Tallies) -> Tally:
    """All outputs together, without regularizers."""
    return sum_of(tally for tally in of.values() if not tally.regularizes)


def sum_of(several: Iterable[Tally]) -> Tally:
    """The sum of tallies."""
    total = Tally()
    for tally in several:
        total = total + tally
    return total
