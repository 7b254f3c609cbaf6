"""Minibatches of a corpus on the device, made ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from nnet.data.batches import Batch, Sampling, covering_batches, epoch_batches
from nnet.data.corpus import Corpus
from nnet.data.minibatch import Minibatch
from nnet.data.prefetch import prefetch
from nnet.data.workers import made_ahead

S = TypeVar("S")


class Feed:
    """Where minibatches come from.

    Args:
        corpus: the data.
        sampling: how minibatches are drawn.
        collate: makes a minibatch of a batch.
        device: where minibatches are wanted.
        workers: processes that make minibatches ahead; 0: a thread.
    """

    def __init__(
        self,
        corpus: Corpus,
        sampling: Sampling,
        collate: Callable[[Batch], Minibatch],
        device: torch.device,
        workers: int = 0,
    ) -> None:
        self._corpus = corpus
        self._sampling = sampling
        self._collate = collate
        self._device = device
        self._workers = workers

    def epoch(self, number: int) -> list[Batch]:
        """The random batches of epoch `number`, always the same for the same number."""
        corpus, held = self._corpus, None
        if not corpus.is_held:
            held = corpus.sources.memory // (2 * corpus.bytes_per_frame)
        return epoch_batches(self._sampling, corpus.lengths, number, held)

    def halves(self, batch: Batch) -> list[Batch]:
        """A batch in two parts, unless it is a single chunk."""
        return [part for part in (batch[::2], batch[1::2]) if part]

    def whole(self) -> list[Batch]:
        """Batches in which every frame counts once."""
        return covering_batches(self._sampling, self._corpus.lengths)

    def frames(self, batch: Batch) -> int:
        """The input frames of a batch, without context."""
        return sum(selection.chunk.frames for selection in batch)

    @contextmanager
    def minibatches(self, batches: Sequence[Batch]) -> Iterator[Iterator[Minibatch]]:
        """The minibatches of `batches` in order."""
        with on_device(lambda: self._collate, batches, self._device, self._workers) as made:
            yield made


@contextmanager
def on_device(
    maker: Callable[[], Callable[[S], Minibatch]],
    items: Sequence[S],
    device: torch.device,
    workers: int,
) -> Iterator[Iterator[Minibatch]]:
    """The minibatches that a function makes of items, as `made_ahead`, on a device.

    For a GPU a thread puts them into memory that it can fetch by itself.
    """
    with made_ahead(maker, items, workers) as made:
        if device.type == "cpu":
            yield made
        else:
            with prefetch(lambda _: next(made).pinned(), items) as pinned:
                yield (minibatch.to(device) for minibatch in pinned)


def first_batches(feed: Any, epoch: int, frames: int) -> list[Any]:
    """Batches from the beginning of an epoch of a feed, with at least `frames` input frames."""
    batches = []
    for batch in feed.epoch(epoch):
        if frames <= 0:
            break
        batches.append(batch)
        frames -= feed.frames(batch)
    return batches
