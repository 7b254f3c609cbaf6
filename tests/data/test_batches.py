"""Minibatches of an epoch: complete, repeatable, of even size, and as tensors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from nnet.data.batches import Batch, Sampling, Shape, covering_batches, epoch_batches
from nnet.data.corpus import Sources, load_corpus
from nnet.data.minibatch import Collator, DenseTargets, Minibatch, SparseTargets
from nnet.data.posteriors import Posterior
from nnet.data.prefetch import prefetch
from nnet.data.writers import MatrixWriter, PosteriorWriter
from nnet.plan.request import Request, TimeRange

Make = Callable[..., Sources]
LENGTHS = np.random.default_rng(0).integers(5, 400, 60)
SAMPLING = Sampling((50, 30), 4, seed=7)


def contents(batches: list[Batch]) -> list[list[tuple[int, int, int, int]]]:
    return [
        [(s.utterance, s.chunk.start, s.chunk.frames, s.ivector_frame) for s in batch]
        for batch in batches
    ]


def frames_counted(batches: list[Batch]) -> float:
    return sum(float(s.chunk.weights.sum()) for batch in batches for s in batch)


def test_an_epoch_is_the_same_each_time_and_another_epoch_is_not() -> None:
    first = contents(epoch_batches(SAMPLING, LENGTHS, 0))
    assert contents(epoch_batches(SAMPLING, LENGTHS, 0)) == first
    assert contents(epoch_batches(SAMPLING, LENGTHS, 1)) != first
    assert contents(epoch_batches(Sampling((50, 30), 4, seed=8), LENGTHS, 0)) != first


def test_chunks_of_a_batch_are_equally_long_and_batches_about_equally_large() -> None:
    batches = epoch_batches(SAMPLING, LENGTHS, 0)
    for batch in batches:
        assert len({s.chunk.frames for s in batch}) == 1
        assert sum(s.chunk.frames for s in batch) <= 1.1 * SAMPLING.frames
    assert frames_counted(batches) > 0.95 * LENGTHS.sum()


@pytest.mark.parametrize("frames_held", [500, 3000])
def test_blocks_cover_the_same_data(frames_held: int) -> None:
    batches = epoch_batches(SAMPLING, LENGTHS, 0, frames_held)
    assert {s.utterance for batch in batches for s in batch} == set(range(60))
    assert frames_counted(batches) > 0.95 * LENGTHS.sum()


def test_an_utterance_is_needed_for_a_short_time_if_memory_is_small() -> None:
    batches = epoch_batches(SAMPLING, LENGTHS, 0, 1000)
    uses: dict[int, list[int]] = {}
    for number, batch in enumerate(batches):
        for selection in batch:
            uses.setdefault(selection.utterance, []).append(number)
    spread = [max(numbers) - min(numbers) for numbers in uses.values()]
    assert np.median(spread) < len(batches) / 5


def test_validation_counts_every_frame_once() -> None:
    assert frames_counted(covering_batches(SAMPLING, LENGTHS)) == LENGTHS.sum()


def test_first_and_last_chunks_are_apart_if_they_have_a_context_of_their_own() -> None:
    sampling = Sampling((50, 30), 4, seed=7, edges=(True, True))
    for batches in (
        epoch_batches(sampling, LENGTHS, 0),
        covering_batches(sampling, LENGTHS),
    ):
        assert all(len({s.shape for s in batch}) == 1 for batch in batches)
        for utterance in range(len(LENGTHS)):
            chunks = [s for batch in batches for s in batch if s.utterance == utterance]
            chunks.sort(key=lambda s: s.chunk.start)
            assert [s.first for s in chunks] == [True] + [False] * (len(chunks) - 1)
            assert [s.last for s in chunks] == [False] * (len(chunks) - 1) + [True]
    left_only = epoch_batches(Sampling((50, 30), 4, edges=(True, False)), LENGTHS, 0)
    assert not any(s.last for batch in left_only for s in batch)


def request_of(shape: Shape) -> Request:
    """Context of 4 frames to the left and 2 to the right; of the first chunk none to the left."""
    frames, first, _ = shape
    if first:
        return Request.of(
            {"input": TimeRange(0, frames + 2), "ivector": TimeRange(0, 1)},
            {"output": TimeRange(0, frames)},
        )
    return Request.of(
        {"input": TimeRange(-4, frames + 6), "ivector": TimeRange(0, 1)},
        {"output": TimeRange(0, frames)},
    )


def whole_chunk(shape: Shape) -> Request:
    """Without context."""
    frames = shape[0]
    return Request.of({"input": TimeRange(0, frames)}, {"output": TimeRange(0, frames)})


def collated(sources: Sources, batch: Batch) -> Minibatch:
    return Collator(load_corpus(sources), request_of)(batch)


def test_features_have_their_context_and_edges_are_repeated(
    make_sources: Make, tmp_path: Path
) -> None:
    sources = make_sources(ivectors=f"ark:{tmp_path}/ivectors.ark", ivector_dim=2)
    (batch,) = covering_batches(Sampling((20,), 2), np.array([30]))
    minibatch = collated(sources, batch)
    times = minibatch.inputs["input"][..., 0].tolist()  # column 0 holds the frame's number
    assert times[0] == [0, 0, 0, 0, *range(22)]
    assert times[1] == [*range(6, 30), 29, 29]
    assert minibatch.utterances == ("a", "a")
    assert minibatch.inputs["ivector"].tolist() == [[[0, 0]], [[0, 0]]]


def test_a_first_chunk_has_its_own_context(make_sources: Make, tmp_path: Path) -> None:
    sources = make_sources(ivectors=f"ark:{tmp_path}/ivectors.ark", ivector_dim=2)
    first, last = covering_batches(Sampling((20,), 2, edges=(True, False)), np.array([30]))
    assert collated(sources, first).inputs["input"][0, :, 0].tolist() == [*range(22)]
    assert collated(sources, last).inputs["input"][0, :, 0].tolist() == [*range(6, 30), 29, 29]


def test_online_ivectors_are_those_of_a_frame_of_the_chunk(
    make_sources: Make, tmp_path: Path
) -> None:
    sources = make_sources(online_ivectors=f"ark:{tmp_path}/online.ark", ivector_dim=2)
    batches = covering_batches(Sampling((20,), 2), np.array([30, 47]))
    chunks = [s for batch in batches for s in batch if s.utterance == 1]
    minibatch = collated(sources, tuple(chunks[:2]))
    assert minibatch.inputs["ivector"][:, 0, 0].tolist() == [1, 3]  # frames 10 and 30


def test_alignments_become_one_pair_a_frame(make_sources: Make, tmp_path: Path) -> None:
    sources = make_sources(ivectors=f"ark:{tmp_path}/ivectors.ark", ivector_dim=2)
    (batch,) = covering_batches(Sampling((20,), 2), np.array([30]))
    targets = collated(sources, batch).targets["output"]
    assert isinstance(targets, SparseTargets)
    assert targets.ids[1, :, 0].tolist() == [t % 5 for t in range(10, 30)]
    assert targets.weights[0, :, 0].tolist() == [1.0] * 20
    assert targets.weights[1, :, 0].tolist() == [0.0] * 10 + [1.0] * 10


def test_targets_at_the_rate_of_a_subsampled_output(make_sources: Make) -> None:
    sources = make_sources(subsampling=3)
    (batch,) = covering_batches(Sampling((21,), 2, subsampling=3), np.array([30]))
    corpus = load_corpus(sources)
    minibatch = Collator(corpus, whole_chunk)(batch)
    targets = minibatch.targets["output"]
    assert isinstance(targets, SparseTargets)
    assert targets.ids[0, :, 0].tolist() == [t % 5 for t in range(0, 21, 3)]
    assert targets.ids.shape == (2, 7, 1)


def test_posteriors_are_padded_to_the_longest_frame(make_sources: Make, tmp_path: Path) -> None:
    with PosteriorWriter(f"ark:{tmp_path}/post.ark") as writer:
        writer.write(
            "a", Posterior.of([[(t % 5, 0.25), (0, 0.75)][: 1 + t % 2] for t in range(29)])
        )
    sources = make_sources(targets=f"ark:{tmp_path}/post.ark")
    (batch,) = covering_batches(Sampling((20,), 2), np.array([30]))
    corpus = load_corpus(sources)
    minibatch = Collator(corpus, whole_chunk)(batch)
    targets = minibatch.targets["output"]
    assert isinstance(targets, SparseTargets)
    assert targets.ids[0, 1].tolist() == [1, 0]
    assert targets.weights[0, 1].tolist() == [0.25, 0.75]
    assert targets.weights[0, 2].tolist() == [0.25, 0.0]
    assert targets.weights[1, -2].tolist() == [0.25, 0.0]
    assert targets.weights[1, -1].tolist() == [0.0, 0.0]  # there is no target 29


def test_matrices_stay_matrices(
    make_sources: Make, tmp_path: Path, features: dict[str, np.ndarray]
) -> None:
    with MatrixWriter(f"ark:{tmp_path}/dense.ark") as writer:
        writer.write("a", features["a"][:29])
    sources = make_sources(targets=f"ark:{tmp_path}/dense.ark", output_dim=3)
    (batch,) = covering_batches(Sampling((20,), 2), np.array([30]))
    minibatch = Collator(load_corpus(sources), whole_chunk)(batch)
    targets = minibatch.targets["output"]
    assert isinstance(targets, DenseTargets)
    assert targets.values[0, :, 0].tolist() == list(range(20))
    assert targets.weights[1].tolist() == [0.0] * 10 + [1.0] * 9 + [0.0]


def test_prefetched_items_come_in_order_and_end_with_the_block() -> None:
    with prefetch(lambda n: n * n, range(100), ahead=3) as results:
        assert [next(results) for _ in range(10)] == [n * n for n in range(10)]
    assert not any(thread.name == "prefetch" for thread in threading.enumerate())


def test_an_error_while_prefetching_comes_at_its_place() -> None:
    def make(n: int) -> float:
        return 1 / (3 - n)

    got: list[float] = []
    with pytest.raises(ZeroDivisionError), prefetch(make, range(10)) as results:
        got.extend(results)
    assert got == [1 / 3, 1 / 2, 1]


def test_tensors_are_float32_and_time_major_in_memory(make_sources: Make) -> None:
    (batch,) = covering_batches(Sampling((20,), 2), np.array([30]))
    corpus = load_corpus(make_sources())
    minibatch = Collator(corpus, whole_chunk)(batch)
    tensor = minibatch.inputs["input"]
    assert tensor.shape == (2, 20, 3)
    assert tensor.dtype == torch.float32
    assert tensor.transpose(0, 1).is_contiguous()
