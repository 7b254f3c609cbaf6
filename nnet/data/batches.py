"""Batches of chunks, drawn for one epoch: the same seed and epoch give the same batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnet.data.chunks import Chunk, ChunkSplitter

Shape = tuple[int, bool, bool]
"""What the chunks of a minibatch have in common: frames, and whether each is the first or the last
of its utterance where these have a context of their own."""


@dataclass(frozen=True, eq=False)
class Selection:
    """A chunk of an utterance. `ivector_frame` is the frame whose i-vector it gets; its features
    are taken `shift` frames later than where it lies, its targets are not."""

    utterance: int
    chunk: Chunk
    ivector_frame: int
    shift: int = 0
    first: bool = False
    last: bool = False

    @property
    def shape(self) -> Shape:
        return self.chunk.frames, self.first, self.last


Batch = tuple[Selection, ...]


@dataclass(frozen=True)
class Sampling:
    """How minibatches are drawn.

    Args:
        widths: chunk widths in frames, the usual one first.
        minibatch_size: chunks of the usual width in a minibatch; of shorter or longer chunks so
            many are taken that the number of frames is about the same.
        subsampling: frame subsampling factor.
        seed: of the random choices.
        largest_shift: features are taken from up to so many frames earlier or later (what Kaldi's
            --frame-shift is for, where the output is at a lower rate than the features).
        edges: whether the first and the last chunk of an utterance have a context of their own.
    """

    widths: tuple[int, ...]
    minibatch_size: int
    subsampling: int = 1
    seed: int = 0
    largest_shift: int = 0
    edges: tuple[bool, bool] = (False, False)

    def selections(
        self, utterance: int, chunks: Sequence[Chunk], draw: Callable[[Chunk], tuple[int, int]]
    ) -> Iterator[Selection]:
        """The chunks of an utterance; `draw` gives the frame of the i-vector and the shift."""
        starts = [chunk.start for chunk in chunks]
        for chunk in chunks:
            first = self.edges[0] and chunk.start == min(starts)
            last = self.edges[1] and chunk.start == max(starts)
            yield Selection(utterance, chunk, *draw(chunk), first, last)

    @property
    def frames(self) -> int:
        """Input frames of a full minibatch."""
        return self.minibatch_size * self.widths[0]

    def chunks_of(self, frames: int) -> int:
        """How many chunks of `frames` frames make a minibatch."""
        return max(1, round(self.frames / frames))


def epoch_batches(
    sampling: Sampling, lengths: NDArray[np.int64], epoch: int, frames_held: int | None = None
) -> list[Batch]:
    """The minibatches of one epoch, in order.

    Chunks of all utterances are shuffled together. If not all of them can be held in memory, random
    blocks of utterances are shuffled one after the other, so that a reader who goes through
    the batches in order needs each utterance for a short time only.

    Args:
        sampling: how to draw.
        lengths: frames of each utterance, (utterances,).
        epoch: from 0.
        frames_held: frames that can be held at a time; None for all.
    """
    random = np.random.default_rng((sampling.seed, epoch))
    splitter = ChunkSplitter(sampling.widths, sampling.subsampling)
    batches: list[Batch] = []
    waiting: dict[Shape, list[Selection]] = {}

    def draw(chunk: Chunk) -> tuple[int, int]:
        frame = chunk.start + int(random.integers(chunk.frames))
        return frame, _random_shift(sampling.largest_shift, random)

    blocks = list(_blocks(random.permutation(len(lengths)), lengths, frames_held))
    for number, block in enumerate(blocks):
        for utterance in block:
            chunks = splitter.random_chunks(int(lengths[utterance]), random)
            for selection in sampling.selections(int(utterance), chunks, draw):
                waiting.setdefault(selection.shape, []).append(selection)
        ready = _take_batches(waiting, sampling, random, last=number == len(blocks) - 1)
        batches.extend(ready[i] for i in random.permutation(len(ready)))
    return batches


def covering_batches(sampling: Sampling, lengths: NDArray[np.int64]) -> list[Batch]:
    """Batches in which every frame of every utterance counts once, for validation."""
    splitter = ChunkSplitter(sampling.widths, sampling.subsampling)
    by_shape: dict[Shape, list[Selection]] = {}
    for utterance, length in enumerate(lengths.tolist()):
        chunks = splitter.covering_chunks(length)
        for selection in sampling.selections(utterance, chunks, _middle):
            by_shape.setdefault(selection.shape, []).append(selection)
    batches: list[Batch] = []
    for (frames, _, _), selections in by_shape.items():
        size = sampling.chunks_of(frames)
        batches.extend(tuple(selections[i : i + size]) for i in range(0, len(selections), size))
    return batches


def _middle(chunk: Chunk) -> tuple[int, int]:
    return chunk.start + chunk.frames // 2, 0


def _random_shift(largest: int, random: np.random.Generator) -> int:
    return int(random.integers(-largest, largest + 1)) if largest else 0


def _blocks(
    order: NDArray[np.int64], lengths: NDArray[np.int64], frames_held: int | None
) -> Iterator[NDArray[np.int64]]:
    if frames_held is None:
        yield order
        return
    number = np.cumsum(lengths[order]) // max(1, frames_held)
    for block in np.unique(number):
        yield order[number == block]


def _take_batches(
    waiting: dict[Shape, list[Selection]],
    sampling: Sampling,
    random: np.random.Generator,
    last: bool,
) -> list[Batch]:
    """Full batches of equal chunks, taken out of `waiting`; at the last block, all that is left."""
    batches: list[Batch] = []
    for shape, selections in waiting.items():
        shuffled = [selections[i] for i in random.permutation(len(selections))]
        size = sampling.chunks_of(shape[0])
        count = -(-len(shuffled) // size) if last else len(shuffled) // size
        used = len(shuffled) if last else count * size
        batches.extend(_even_parts(shuffled[:used], count))
        waiting[shape] = shuffled[used:]
    return batches


def _even_parts(selections: Sequence[Selection], count: int) -> Iterator[Batch]:
    """`count` parts whose sizes differ by one at most: no batch is a small rest."""
    bounds = [len(selections) * i // count for i in range(count + 1)] if count else [0]
    for start, end in itertools.pairwise(bounds):
        yield tuple(selections[start:end])
