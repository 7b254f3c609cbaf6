"""Cutting utterances into chunks: nnet3's UtteranceSplitter, drawn anew for every epoch."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float32]
SHORT_CHUNK_STEP = 8  # output frames: utterances shorter than any chunk are padded to a multiple
TIE = 1.9999  # Kaldi chooses at random among splits whose cost is within 2 of the best


@dataclass(frozen=True, eq=False)
class Chunk:
    """Input frames `start` up to `start + frames` of an utterance.

    `weights` has one entry for each output frame: less than one where chunks overlap, so that
    every frame of the utterance counts once, and zero after the utterance's end.
    """

    start: int
    frames: int
    weights: Weights = field(repr=False)


class ChunkSplitter:
    """Chooses chunks for utterances of any length.

    As in nnet3-get-egs, most chunks have the first width and at most two of an utterance have one
    of the other widths, so that they cover it with little overlap and small gaps. Unlike there,
    gaps fall anywhere with equal chance (over the epochs every frame is seen), and an utterance
    shorter than all widths becomes one chunk of its own length instead of being lost.

    Args:
        widths: chunk widths in input frames, the usual one first; they are rounded up to
            multiples of `subsampling`.
        subsampling: input frames for each output frame.
    """

    def __init__(self, widths: tuple[int, ...], subsampling: int = 1) -> None:
        self.subsampling = subsampling
        self._widths = tuple(-(-width // subsampling) for width in widths)  # in output frames
        self._longest_tabulated = 2 * max(self._widths) + self._widths[0]
        self._splits = self._all_splits()
        self._choices: dict[int, list[tuple[int, ...]]] = {}

    def random_chunks(self, frames: int, random: np.random.Generator) -> list[Chunk]:
        """Chunks of an utterance of `frames` input frames, in order of time."""
        length = -(-frames // self.subsampling)
        if length < min(self._widths):
            return [self._whole(length)]
        sizes = self._random_sizes(length, random)
        spare = length - sum(sizes)
        gaps = _random_gaps(spare, sizes, random) if spare >= 0 else _overlaps(-spare, sizes)
        starts = np.cumsum(gaps) + np.concatenate([[0], np.cumsum(sizes[:-1])]).astype(int)
        chunks: dict[int, int] = {}  # those of few frames may lie in their neighbours
        for start, size in zip(starts.tolist(), sizes, strict=True):
            chunks[start] = max(size, chunks.get(start, 0))
        counts = np.zeros(length, np.int32)
        for start, size in chunks.items():
            counts[start : start + size] += 1
        return [
            self._chunk(start, size, (1.0 / counts[start : start + size]).astype(np.float32))
            for start, size in chunks.items()
        ]

    def covering_chunks(self, frames: int) -> list[Chunk]:
        """Chunks of the first width in which every frame counts once, the same at each call."""
        length, size = -(-frames // self.subsampling), self._widths[0]
        if length < size:
            return [self._whole(length)]
        chunks = []
        for end in [*range(size, length, size), length]:
            weights = np.ones(size, np.float32)
            weights[: -end % size] = 0.0
            chunks.append(self._chunk(end - size, size, weights))
        return chunks

    def _chunk(self, start: int, size: int, weights: Weights) -> Chunk:
        return Chunk(start * self.subsampling, size * self.subsampling, weights)

    def _whole(self, length: int) -> Chunk:
        size = -(-length // SHORT_CHUNK_STEP) * SHORT_CHUNK_STEP
        return self._chunk(0, size, (np.arange(size) < length).astype(np.float32))

    def _random_sizes(self, length: int, random: np.random.Generator) -> tuple[int, ...]:
        usual = self._widths[0]
        repeats = max(0, -(-(length - self._longest_tabulated) // usual))
        choices = self._splits_for(length - repeats * usual)
        sizes = sorted((usual,) * repeats + choices[random.integers(len(choices))])
        return tuple(sizes[:: 1 if random.integers(2) else -1])

    def _splits_for(self, length: int) -> list[tuple[int, ...]]:
        """The splits that Kaldi chooses from: a lost frame costs two frames seen twice."""
        if length not in self._choices:
            costs = [
                (sum(s) - length if sum(s) > length else 2 * (length - sum(s)), s)
                for s in self._splits
                if max(s) <= length
            ]
            best = min(cost for cost, _ in costs)
            self._choices[length] = [s for cost, s in costs if cost < best + TIE]
        return self._choices[length]

    def _all_splits(self) -> list[tuple[int, ...]]:
        """Any number of the usual width with up to two of the others."""
        usual, others = self._widths[0], self._widths[1:]
        longest = self._longest_tabulated + usual
        extras = [(), *((w,) for w in others), *itertools.product(others, repeat=2)]
        splits = {
            tuple(sorted(extra + (usual,) * n))
            for extra in extras
            for n in range(longest // usual + 1)
            if extra + (usual,) * n and sum(extra) + usual * n <= longest
        }
        return sorted(splits)


def _random_gaps(
    spare: int, sizes: tuple[int, ...], random: np.random.Generator
) -> NDArray[np.int64]:
    """Frames left out before each chunk: all ways to leave out up to `spare` are equally likely."""
    places = np.sort(random.choice(spare + len(sizes), len(sizes), replace=False))
    return np.diff(places, prepend=-1) - 1


def _overlaps(excess: int, sizes: tuple[int, ...]) -> NDArray[np.int64]:
    """Negative gaps before each chunk but the first, in proportion to the smaller neighbour."""
    smaller = np.minimum(sizes[:-1], sizes[1:])
    ends = np.round(np.cumsum(smaller) * (excess / smaller.sum())).astype(np.int64)
    return -np.concatenate([[0], np.diff(ends, prepend=0)])
