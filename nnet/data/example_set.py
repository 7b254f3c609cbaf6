"""Examples in archives as minibatches, epoch by epoch, without holding them in memory."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from nnet.data.examples import read_objects, shuffled
from nnet.data.merging import MergingRules, groups
from nnet.data.specifiers import parse_rspecifier
from nnet.errors import NnetError
from nnet.modelfile.chain_examples import ChainExample
from nnet.modelfile.examples import Example, read_example
from nnet.modelfile.tokens import Reader

AnyExample: TypeAlias = Example | ChainExample
"""An example of frames or of LF-MMI."""


@dataclass(frozen=True)
class _Scan:
    """What one reading of all archives found: minibatches, input rows, a checksum, and whether the
    examples were merged before."""

    minibatches: int
    rows: int
    checksum: int
    are_merged: bool


class ExampleSet:
    """Examples of a table or several, merged into minibatches by structure.

    Args:
        rspecifiers: tables that can be read again in every epoch; each epoch takes them in another
            order.
        rules: minibatch sizes; examples that were merged before are taken as they are.
        buffer_size: examples that are held for shuffling.
        seed: of the random order.
        read: reads an example.
        shifts: an epoch takes the examples so many times, with features moved by 0, 1, 2, ...
            frames (Kaldi's --frame-shift, for outputs at a lower rate than the features).

    Raises:
        NnetError: a table is standard input.
    """

    def __init__(
        self,
        rspecifiers: Sequence[str],
        rules: MergingRules,
        buffer_size: int,
        seed: int,
        *,
        read: Callable[[Reader], AnyExample] = read_example,
        shifts: int = 1,
    ) -> None:
        for text in rspecifiers:
            if parse_rspecifier(text).path == "-":
                raise NnetError(f"{text}: examples are read once an epoch; expected: files")
        self._read_example = read
        self._rspecifiers = tuple(rspecifiers)
        self._rules = rules
        self._buffer_size = buffer_size
        self._seed = seed
        self._shifts = shifts

    def __len__(self) -> int:
        """The number of minibatches in an epoch, which does not depend on the order."""
        return self._scan.minibatches * self._shifts

    @property
    def minibatches_unshifted(self) -> int:
        """The number of minibatches in which every example counts once."""
        return self._scan.minibatches

    @property
    def rows_per_minibatch(self) -> float:
        """Rows of the largest input or output, on average."""
        return self._scan.rows / self._scan.minibatches

    def fingerprint(self) -> dict[str, Any]:
        """Plain values that tell this set from another."""
        return {
            "examples": " ".join(self._rspecifiers),
            "minibatches": self._scan.minibatches,
            "checksum": self._scan.checksum,
            "minibatch sizes": str(self._rules.sizes),
            "frame shifts": self._shifts,
        }

    def groups(self, epoch: int | None) -> Iterator[list[AnyExample]]:
        """The examples of each minibatch of an epoch, to be merged; always the same for the same
        number; None: every example once, unshuffled and not moved."""
        if epoch is None:
            yield from self._groups(self._read(range(len(self._rspecifiers)), shift=0))
            return
        for number in range(epoch * self._shifts, (epoch + 1) * self._shifts):
            order = np.random.default_rng((self._seed, number)).permutation(len(self._rspecifiers))
            examples = self._read(order.tolist(), number % self._shifts)
            seed = self._seed * 1_000_003 + number
            yield from self._groups(shuffled(examples, self._buffer_size, seed))

    def _groups(self, examples: Iterator[AnyExample]) -> Iterator[list[AnyExample]]:
        if self._scan.are_merged:
            return ([example] for example in examples)
        return groups(examples, self._rules)

    def _read(self, order: Sequence[int], shift: int) -> Iterator[AnyExample]:
        for number in order:
            for _, example in read_objects(self._rspecifiers[number], self._read_example):
                yield example.shifted(shift) if shift else example

    @cached_property
    def _scan(self) -> _Scan:
        counts: Counter[tuple[object, ...]] = Counter()
        sizes: dict[tuple[object, ...], int] = {}
        rows = checksum = 0
        are_merged = False
        for text in self._rspecifiers:
            for key, example in read_objects(text, self._read_example):
                counts[example.structure] += 1
                sizes[example.structure] = example.size
                rows += example.size
                checksum = zlib.crc32(f"{key} {example.size}".encode(), checksum)
                are_merged = are_merged or example.is_merged
        if not counts:
            raise NnetError(f"{' '.join(self._rspecifiers)}: there are no examples")
        minibatches = sum(counts.values())
        if not are_merged:
            minibatches = sum(self._merged(sizes[s], count) for s, count in counts.items())
        if not minibatches:
            raise NnetError(
                f"{' '.join(self._rspecifiers)}: no {sum(counts.values())} examples make a "
                "minibatch; allow smaller ones, such as --egs-minibatch-size 128,1:64"
            )
        return _Scan(minibatches, rows, checksum, are_merged)

    def _merged(self, size: int, count: int) -> int:
        """How many minibatches `count` examples of one structure make."""
        largest = self._rules.minibatch_size(size, 1 << 30, ended=True)
        made, rest = divmod(count, largest)
        while rest and (taken := self._rules.minibatch_size(size, rest, ended=True)):
            made, rest = made + 1, rest - taken
        return made
