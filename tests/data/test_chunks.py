"""Cutting utterances into chunks. Kaldi: UtteranceSplitter in nnet3/nnet-example-utils.cc."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnet.data.chunks import ChunkSplitter

widths = st.lists(st.integers(1, 40), min_size=1, max_size=4).map(tuple)


@given(widths, st.integers(1, 3), st.integers(1, 500), st.integers(0, 2**32))
def test_chunks_lie_in_the_utterance_and_no_frame_counts_more_than_once(
    widths: tuple[int, ...], subsampling: int, frames: int, seed: int
) -> None:
    splitter = ChunkSplitter(widths, subsampling)
    length = -(-frames // subsampling)
    counts = np.zeros(length + 100)
    chunks = splitter.random_chunks(frames, np.random.default_rng(seed))
    assert [c.start for c in chunks] == sorted({c.start for c in chunks})
    for chunk in chunks:
        start = chunk.start // subsampling
        assert chunk.start % subsampling == 0
        assert chunk.frames == subsampling * len(chunk.weights)
        assert 0 <= start < length
        counts[start : start + len(chunk.weights)] += chunk.weights
    assert not counts[length:].any()
    assert np.isclose(counts[:length], 0).sum() + np.isclose(counts[:length], 1).sum() == length


@given(widths, st.integers(1, 3), st.integers(1, 500))
def test_covering_chunks_count_every_frame_once(
    widths: tuple[int, ...], subsampling: int, frames: int
) -> None:
    length = -(-frames // subsampling)
    counts = np.zeros(length + 100)
    for chunk in ChunkSplitter(widths, subsampling).covering_chunks(frames):
        start = chunk.start // subsampling
        counts[start : start + len(chunk.weights)] += chunk.weights
    assert (counts[:length] == 1).all()
    assert not counts[length:].any()


def sizes(splitter: ChunkSplitter, frames: int) -> set[tuple[int, ...]]:
    random = np.random.default_rng(0)
    return {
        tuple(sorted(chunk.frames for chunk in splitter.random_chunks(frames, random)))
        for _ in range(100)
    }


@pytest.mark.parametrize(
    ("widths", "frames", "expected"),
    [
        ((150,), 300, {(150, 150)}),
        ((150,), 340, {(150, 150)}),  # a gap of 40 costs 80, an overlap of 110 costs 110
        ((150,), 360, {(150, 150, 150)}),  # 120 against 90
        ((150,), 350, {(150, 150), (150, 150, 150)}),  # a tie
        ((150, 110, 100), 330, {(100, 100, 150)}),
        ((150, 110, 100), 260, {(110, 150)}),
        ((150, 110, 100), 105, {(100,)}),  # 150 does not fit
        ((150, 110, 100), 1510, {(150,) * 10}),
        ((1,), 5, {(1,) * 5}),  # six chunks are within a tie, but two would be the same
    ],
)
def test_splits_are_those_that_cost_least(
    widths: tuple[int, ...], frames: int, expected: set[tuple[int, ...]]
) -> None:
    assert sizes(ChunkSplitter(widths), frames) == expected


def test_gaps_fall_anywhere_so_that_every_frame_is_seen() -> None:
    splitter, random = ChunkSplitter((150,)), np.random.default_rng(0)
    seen = np.zeros(200)
    for _ in range(200):
        for chunk in splitter.random_chunks(200, random):
            seen[chunk.start : chunk.start + chunk.frames] += chunk.weights
    assert seen.min() > 0


def test_an_utterance_shorter_than_all_widths_is_one_padded_chunk() -> None:
    (chunk,) = ChunkSplitter((150, 100)).random_chunks(37, np.random.default_rng(0))
    assert (chunk.start, chunk.frames) == (0, 40)
    assert chunk.weights.tolist() == [1.0] * 37 + [0.0] * 3


def test_overlapping_frames_share_their_weight() -> None:
    first, second = ChunkSplitter((150,)).random_chunks(250, np.random.default_rng(0))
    assert (first.start, second.start) == (0, 100)
    assert first.weights[[0, 99, 100, 149]].tolist() == [1, 1, 0.5, 0.5]
    assert second.weights[[0, 49, 50]].tolist() == [0.5, 0.5, 1]
