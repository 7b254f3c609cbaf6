"""Minibatches as tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nnet.data.batches import Batch, Selection, Shape
from nnet.data.corpus import Corpus, Utterance
from nnet.data.matrices import Floats
from nnet.data.posteriors import Ids, Posterior
from nnet.data.targets import Target, TargetKind
from nnet.plan.request import AnyTimes, Request

Places = NDArray[np.int64]
Weights = NDArray[np.float32]


class AnyTargets(Protocol):
    """What an output is trained towards: tensors that move to a device together."""

    def each(self, change: Callable[[Tensor], Tensor]) -> AnyTargets:
        """The same with every tensor changed."""


@dataclass(frozen=True, eq=False)
class SparseTargets:
    """Alignments and posteriors: `ids` and `weights` (batch, time, pairs); unused pairs weigh 0."""

    ids: Tensor
    weights: Tensor

    def each(self, change: Callable[[Tensor], Tensor]) -> SparseTargets:
        return SparseTargets(change(self.ids), change(self.weights))


@dataclass(frozen=True, eq=False)
class DenseTargets:
    """Matrices: `values` (batch, time, dim) and the frames' `weights` (batch, time)."""

    values: Tensor
    weights: Tensor

    def each(self, change: Callable[[Tensor], Tensor]) -> DenseTargets:
        return DenseTargets(change(self.values), change(self.weights))


Targets = SparseTargets | DenseTargets


@dataclass(frozen=True, eq=False)
class Minibatch:
    """Sequences with the same times: what a module is given, and what its outputs should be.

    Args:
        request: times of inputs and outputs.
        inputs: (batch, time, dim) by node, at the request's times.
        targets: by output node.
        sequences: the batch size, by which nnet3 scales the l2 penalty.
        utterances: names, as far as they are known.
    """

    request: Request
    inputs: dict[str, Tensor]
    targets: Mapping[str, AnyTargets]
    sequences: int
    utterances: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """Output frames of all sequences, of the output that has most of them."""
        return self.sequences * max(times.count for _, times in self.request.outputs)

    def pinned(self) -> Minibatch:
        """The same in memory that a GPU can fetch by itself."""
        return self.each(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device) -> Minibatch:
        """The same on another device."""
        return self.each(lambda tensor: tensor.to(device, non_blocking=True))

    def each(self, change: Callable[[Tensor], Tensor]) -> Minibatch:
        """The same with every tensor changed."""
        return Minibatch(
            self.request,
            {name: change(tensor) for name, tensor in self.inputs.items()},
            {name: targets.each(change) for name, targets in self.targets.items()},
            self.sequences,
            self.utterances,
        )


class Collator:
    """Makes minibatches of a corpus with the targets of all outputs that are requested.

    An output that no frame of a minibatch has targets for is left out of its targets.

    Input node `input` gets features, with the first and last frame repeated beyond the edges of
    the utterance as in nnet3's egs; `ivector` gets the i-vector of one frame of the chunk.

    Args:
        corpus: where the utterances come from.
        request_of: the request for chunks of a shape.
    """

    def __init__(self, corpus: Corpus, request_of: Callable[[Shape], Request]) -> None:
        self._corpus = corpus
        self._request_of = request_of

    def __call__(self, batch: Batch) -> Minibatch:
        utterances = [self._corpus.load(selection.utterance) for selection in batch]
        request = self._request_of(batch[0].shape)
        times = dict(request.inputs)
        inputs = chunk_inputs(batch, utterances, times)
        made = {name: self._targets(name, batch, utterances) for name, _ in request.outputs}
        targets = {name: found for name, found in made.items() if found.weights.any()} or made
        names = tuple(utterance.name for utterance in utterances)
        return Minibatch(request, inputs, targets, len(batch), names)

    def _targets(self, output: str, batch: Batch, utterances: Sequence[Utterance]) -> Targets:
        step = self._corpus.sources.subsampling
        found = [utterance.target_of(output) for utterance in utterances]
        places = [
            _target_places(selection, target.frames_per_target, step)
            for selection, target in zip(batch, found, strict=True)
        ]
        weights = np.stack([selection.chunk.weights for selection in batch])
        kind = self._corpus.more_kinds.get(output, self._corpus.target_kind)
        return _TARGETS[kind]([target for target, _ in found], places, weights)


def chunk_inputs(
    batch: Batch, utterances: Sequence[Utterance], times: Mapping[str, AnyTimes]
) -> dict[str, Tensor]:
    """Features and, if there are times for them, i-vectors of chunks: (batch, time, dim)."""
    inputs = {"input": _features(batch, utterances, times["input"])}
    if "ivector" in times:
        inputs["ivector"] = _ivectors(batch, utterances)
    return inputs


def _features(batch: Batch, utterances: Sequence[Utterance], times: AnyTimes) -> Tensor:
    dim = utterances[0].features.shape[1]
    rows = np.empty((times.count, len(batch), dim), np.float32)  # time first, as the module wants
    offsets = np.fromiter(times, np.int64, times.count)
    for i, (selection, utterance) in enumerate(zip(batch, utterances, strict=True)):
        place = selection.chunk.start + selection.shift + offsets
        rows[:, i] = utterance.features[place.clip(0, len(utterance.features) - 1)]
    return torch.from_numpy(rows).transpose(0, 1)


def _ivectors(batch: Batch, utterances: Sequence[Utterance]) -> Tensor:
    rows = []
    for selection, utterance in zip(batch, utterances, strict=True):
        if utterance.ivectors is None:
            raise ValueError(f"{utterance.name} was loaded without i-vectors")
        row = selection.ivector_frame // utterance.frames_per_ivector
        rows.append(utterance.ivectors[min(row, len(utterance.ivectors) - 1)])
    return torch.from_numpy(np.stack(rows)[:, None])


def _target_places(selection: Selection, frames_per_target: int, step: int) -> Places:
    """The row of an utterance's targets for each output frame of the chunk."""
    chunk = selection.chunk
    return np.arange(chunk.start, chunk.start + chunk.frames, step) // frames_per_target


def _from_alignments(
    targets: Sequence[Target], places: Sequence[Places], weights: Weights
) -> Targets:
    ids = np.zeros(weights.shape, np.int64)
    weights = weights.copy()
    alignments = [cast(Ids, target) for target in targets]
    for i, (alignment, place) in enumerate(zip(alignments, places, strict=True)):
        inside = place < len(alignment)
        ids[i, inside] = alignment[place[inside]]
        weights[i, ~inside] = 0.0
    return SparseTargets(torch.from_numpy(ids[..., None]), torch.from_numpy(weights[..., None]))


def _from_posteriors(
    targets: Sequence[Target], places: Sequence[Places], weights: Weights
) -> Targets:
    posteriors = [cast(Posterior, target) for target in targets]
    counts = np.zeros(weights.shape, np.int64)
    for i, (posterior, place) in enumerate(zip(posteriors, places, strict=True)):
        inside = place < len(posterior)
        counts[i, inside] = np.diff(posterior.offsets)[place[inside]]
    most = max(1, int(counts.max()))
    ids = np.zeros((*weights.shape, most), np.int64)
    scaled = np.zeros((*weights.shape, most), np.float32)
    used = np.arange(most) < counts[..., None]
    for i, (posterior, place) in enumerate(zip(posteriors, places, strict=True)):
        first = posterior.offsets[place.clip(0, len(posterior))]
        pairs = (first[:, None] + np.arange(most))[used[i]]
        ids[i, used[i]] = posterior.ids[pairs]
        scaled[i, used[i]] = posterior.weights[pairs]
    scaled *= weights[..., None]
    return SparseTargets(torch.from_numpy(ids), torch.from_numpy(scaled))


def _from_matrices(
    targets: Sequence[Target], places: Sequence[Places], weights: Weights
) -> Targets:
    matrices = [cast(Floats, target) for target in targets]
    values = np.zeros((*weights.shape, matrices[0].shape[1]), np.float32)
    weights = weights.copy()
    for i, (matrix, place) in enumerate(zip(matrices, places, strict=True)):
        if len(matrix):
            values[i] = matrix[place.clip(0, len(matrix) - 1)]
        weights[i, place >= len(matrix)] = 0.0
    return DenseTargets(torch.from_numpy(values), torch.from_numpy(weights))


_TARGETS: dict[TargetKind, Callable[..., Targets]] = {
    TargetKind.ALIGNMENT: _from_alignments,
    TargetKind.POSTERIOR: _from_posteriors,
    TargetKind.MATRIX: _from_matrices,
}
