"""Examples in archives as minibatches, epoch by epoch, without holding them in memory."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nnet.data.examples import read_examples, shuffled
from nnet.data.merging import MergingRules, merged
from nnet.data.specifiers import parse_rspecifier
from nnet.errors import NnetError
from nnet.modelfile.examples import Example


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

    Raises:
        NnetError: a table is standard input.
    """

    def __init__(
        self, rspecifiers: Sequence[str], rules: MergingRules, buffer_size: int, seed: int
    ) -> None:
        for text in rspecifiers:
            if parse_rspecifier(text).path == "-":
                raise NnetError(f"{text}: examples are read once an epoch; expected: files")
        self._rspecifiers = tuple(rspecifiers)
        self._rules = rules
        self._buffer_size = buffer_size
        self._seed = seed

    def __len__(self) -> int:
        """The number of minibatches in an epoch, which does not depend on the order."""
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
        }

    def minibatches(self, epoch: int | None) -> Iterator[Example]:
        """The minibatches of an epoch, always the same for the same number; None: unshuffled."""
        examples = self._shuffled(epoch)
        if self._scan.are_merged:
            return examples
        return (minibatch for _, minibatch in merged(examples, self._rules))

    def _shuffled(self, epoch: int | None) -> Iterator[Example]:
        if epoch is None:
            return self._read(range(len(self._rspecifiers)))
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._rspecifiers))
        seed = self._seed * 1_000_003 + epoch
        return shuffled(self._read(order.tolist()), self._buffer_size, seed)

    def _read(self, order: Sequence[int]) -> Iterator[Example]:
        for number in order:
            for _, example in read_examples(self._rspecifiers[number]):
                yield example

    @cached_property
    def _scan(self) -> _Scan:
        counts: Counter[tuple[object, ...]] = Counter()
        sizes: dict[tuple[object, ...], int] = {}
        rows = checksum = 0
        are_merged = False
        for text in self._rspecifiers:
            for key, example in read_examples(text):
                counts[example.structure] += 1
                sizes[example.structure] = example.size
                rows += example.size
                checksum = zlib.crc32(f"{key} {example.size}".encode(), checksum)
                are_merged = are_merged or any(io.sequences > 1 for io in example.io)
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
