"""Merging examples into minibatches by their structure, with the rules of nnet3-merge-egs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self, TypeVar

from nnet.errors import NnetError, quoted


class Mergeable(Protocol):
    """An example of whatever kind."""

    @property
    def structure(self) -> tuple[object, ...]:
        """Equal for examples that can be merged."""

    @property
    def size(self) -> int:
        """By which merging rules choose."""

    def merge(self, others: Sequence[Self]) -> Self:
        """One example with the sequences of this one and of others."""


E = TypeVar("E", bound=Mergeable)

FORMS = "such as 128, 128,64, 32:128 or 64=128/256=64,32"


@dataclass(frozen=True)
class Sizes:
    """Allowed minibatch sizes: ranges (least, most)."""

    ranges: tuple[tuple[int, int], ...]

    @property
    def largest(self) -> int:
        return max(most for _, most in self.ranges)

    def at_most(self, available: int) -> int:
        """The largest allowed size that is not above `available`; 0 if there is none."""
        return max(min(most, available) if least <= available else 0 for least, most in self.ranges)


@dataclass(frozen=True)
class MergingRules:
    """Which minibatch sizes an example of some size may be merged to.

    Args:
        sizes: by size of example (its largest number of rows); the nearest one is taken.
    """

    sizes: tuple[tuple[int, Sizes], ...]

    @staticmethod
    def parse(text: str) -> MergingRules:
        """Reads the text of nnet3-merge-egs' option --minibatch-size.

        Raises:
            NnetError: it is none.
        """
        rules: dict[int, Sizes] = {}
        parts = text.split("/")
        for part in parts:
            size, equals, allowed = part.rpartition("=")
            if (equals and not size.isdigit()) or (not equals and len(parts) > 1):
                raise _wrong(text, f"'{part}' does not begin with a size of examples and =")
            key = int(size) if equals else 0
            if key in rules:
                raise _wrong(text, f"the size {key} of examples is repeated")
            rules[key] = Sizes(tuple(_range(text, word) for word in allowed.split(",")))
        return MergingRules(tuple(rules.items()))

    def minibatch_size(self, size: int, available: int, *, ended: bool) -> int:
        """How many of `available` examples of a size to merge now; 0 if it is better to wait.

        Before the input has ended only the largest allowed size is taken.
        """
        sizes = min(self.sizes, key=lambda rule: abs(size - rule[0]))[1]
        if ended:
            return sizes.at_most(available)
        return sizes.largest if sizes.largest <= available else 0


def _range(text: str, word: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)(?::(\d+))?", word)
    if not found:
        raise _wrong(text, f"'{word}' is not a number or a range")
    least, most = int(found[1]), int(found[2] or found[1])
    if not 0 < least <= most:
        raise _wrong(text, f"the range '{word}' is empty or begins with 0")
    return least, most


def _wrong(text: str, found: str) -> NnetError:
    return NnetError(f"--egs-minibatch-size is '{quoted(text)}': {found}; expected: {FORMS}")


@dataclass
class MergingStats:
    """Minibatches written, by size of example and of minibatch, and examples discarded by size."""

    written: Counter[tuple[int, int]] = field(default_factory=Counter)
    discarded: Counter[int] = field(default_factory=Counter)

    def summary(self) -> str:
        """One line as nnet3-merge-egs logs it."""
        used = sum(size * count for (_, size), count in self.written.items())
        lost = sum(self.discarded.values())
        frames = sum(rows * size * count for (rows, size), count in self.written.items())
        frames += sum(rows * count for rows, count in self.discarded.items())
        total, minibatches = used + lost, sum(self.written.values())
        if not total:
            return "Processed 0 egs"
        kinds = len({rows for rows, _ in self.written} | set(self.discarded))
        return (
            f"Processed {total} egs of avg. size {frames / total:.4g} into {minibatches} "
            f"minibatches, discarding {100 * lost / total:.4g}% of egs.  Avg minibatch size was "
            f"{used / max(1, minibatches):.4g}, #distinct types of egs/minibatches was "
            f"{kinds}/{len(self.written)}"
        )


def merged(
    examples: Iterable[E], rules: MergingRules, stats: MergingStats | None = None
) -> Iterator[tuple[str, E]]:
    """Keys (`merged-NUMBER-SIZE`) and minibatches of examples of equal structure.

    At the end of the input what is left is merged to smaller allowed sizes, and the rest of it is
    discarded.

    Args:
        examples: in order.
        rules: which sizes are allowed.
        stats: is told what was done.
    """
    for number, group in enumerate(groups(examples, rules, stats)):
        yield f"merged-{number}-{len(group)}", joined(group)


def joined(group: list[E]) -> E:
    """Examples of equal structure as one."""
    return group[0].merge(group[1:]) if len(group) > 1 else group[0]


def groups(
    examples: Iterable[E], rules: MergingRules, stats: MergingStats | None = None
) -> Iterator[list[E]]:
    """The examples of each minibatch that `merged` makes."""
    stats = MergingStats() if stats is None else stats
    for group in _groups(examples, rules, stats):
        stats.written[group[0].size, len(group)] += 1
        yield group


def _groups(examples: Iterable[E], rules: MergingRules, stats: MergingStats) -> Iterator[list[E]]:
    waiting: dict[tuple[object, ...], list[E]] = {}
    for example in examples:
        group = waiting.setdefault(example.structure, [])
        group.append(example)
        if rules.minibatch_size(example.size, len(group), ended=False):
            del waiting[example.structure]
            yield group
    for group in waiting.values():
        size = group[0].size
        while group and (count := rules.minibatch_size(size, len(group), ended=True)):
            yield group[:count]
            del group[:count]
        if group:
            stats.discarded[size] += len(group)
