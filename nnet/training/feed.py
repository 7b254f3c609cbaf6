"""Minibatches of a corpus on the device, made ahead by a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from nnet.data.batches import Batch, Sampling, covering_batches, epoch_batches
from nnet.data.corpus import Corpus
from nnet.data.minibatch import Collator, Minibatch
from nnet.data.prefetch import prefetch
from nnet.plan.request import Request


class Feed:
    """Where minibatches come from.

    Args:
        corpus: the data.
        sampling: how minibatches are drawn.
        request_of: the request for a chunk of so many frames.
        device: where minibatches are wanted.
    """

    def __init__(
        self,
        corpus: Corpus,
        sampling: Sampling,
        request_of: Callable[[int], Request],
        device: torch.device,
    ) -> None:
        self._corpus = corpus
        self._sampling = sampling
        self._collate = Collator(corpus, request_of)
        self._device = device

    def epoch(self, number: int) -> list[Batch]:
        """The random batches of epoch `number`, always the same for the same number."""
        corpus, held = self._corpus, None
        if not corpus.is_held:
            held = corpus.sources.memory // (2 * corpus.bytes_per_frame)
        return epoch_batches(self._sampling, corpus.lengths, number, held)

    def whole(self) -> list[Batch]:
        """Batches in which every frame counts once."""
        return covering_batches(self._sampling, self._corpus.lengths)

    def frames(self, batch: Batch) -> int:
        """The input frames of a batch, without context."""
        return sum(selection.chunk.frames for selection in batch)

    @contextmanager
    def minibatches(self, batches: Sequence[Batch]) -> Iterator[Iterator[Minibatch]]:
        """The minibatches of `batches` in order."""
        if self._device.type == "cpu":
            with prefetch(self._collate, batches) as made:
                yield made
        else:
            with prefetch(lambda batch: self._collate(batch).pinned(), batches) as made:
                yield (minibatch.to(self._device) for minibatch in made)
