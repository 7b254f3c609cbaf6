"""Frames that i-vector extractors are trained on: spliced, transformed, with and without CMVN."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnet.data.matrices import Floats
from nnet.errors import NnetError
from nnet.modelfile.adaptation import OnlineCmvnState
from nnet.speech.cmvn import statistics
from nnet.speech.online_cmvn import OnlineCmvn, OnlineCmvnOptions
from nnet.speech.transforms import SpliceOptions, splice, transform

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Features of utterances, in the order of their speakers.

    Args:
        features: by utterance, (frames, dim).
        speakers: the utterances of each speaker, in order.
    """

    features: Mapping[str, Floats]
    speakers: Mapping[str, tuple[str, ...]]

    def __iter__(self) -> Iterator[Floats]:
        """Features of all utterances."""
        for names in self.speakers.values():
            for name in names:
                yield self.features[name]

    def global_cmvn(self) -> Doubles:
        """CMVN statistics of all frames, (2, dim + 1).

        Raises:
            NnetError: there are no frames, or features of several dimensions.
        """
        total: Doubles | None = None
        for names in self.speakers.values():
            for name in names:
                added = statistics(self.features[name])
                if total is not None and added.shape != total.shape:
                    raise NnetError(
                        f"utterance '{name}': features of {added.shape[1] - 1} dimensions; those "
                        f"before have {total.shape[1] - 1}"
                    )
                total = added if total is None else total + added
        if total is None or total[0, -1] == 0:
            raise NnetError("no utterance has any frames; expected: features to train on")
        return total


@dataclass(frozen=True, eq=False)
class FrontEnd:
    """What is done to features before Gaussians see them.

    Args:
        splice: frames that the transform gets.
        cmvn: normalization of the features for posteriors.
        matrix: LDA or PCA, (dim, spliced dim).
        global_cmvn: CMVN statistics of all frames.
        subsample: of the frames, every so many are used.
    """

    splice: SpliceOptions
    cmvn: OnlineCmvnOptions
    matrix: Floats
    global_cmvn: Doubles
    subsample: int = 1

    def run(self, data: TrainingData) -> Iterator[tuple[Floats, Floats]]:
        """Frames of each utterance without and with normalization, (frames, dim) each."""
        for names in data.speakers.values():
            state = OnlineCmvnState(self.global_cmvn)
            for name in names:
                frames = data.features[name]
                stream = OnlineCmvn(self.cmvn, state)
                normal = stream.accept(frames)
                state = stream.state()
                if len(frames):
                    yield self._transformed(frames), self._transformed(normal)

    def _transformed(self, frames: Floats) -> Floats:
        return transform(splice(frames, self.splice)[:: self.subsample], self.matrix)


def principal_components(data: TrainingData, context: SpliceOptions, dim: int) -> Floats:
    """The transform to the first principal components of spliced frames (Kaldi's est-pca).

    Args:
        data: features.
        context: how they are spliced.
        dim: components.

    Returns:
        a matrix, (dim, spliced dim).

    Raises:
        NnetError: there are fewer dimensions than components.
    """
    count, total, products = 0, None, None
    for frames in data:
        spliced = splice(frames, context).astype(np.float64)
        count += len(spliced)
        sums, squares = spliced.sum(axis=0), spliced.T @ spliced
        total = sums if total is None else total + sums
        products = squares if products is None else products + squares
    if total is None or products is None or count == 0:
        raise NnetError("no utterance has any frames; expected: features to train on")
    if dim > len(total):
        raise NnetError(
            f"--pca-dim is {dim}; expected: at most {len(total)}, the spliced dimension"
        )
    mean = total / count
    values, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    best = np.argsort(values)[::-1][:dim]
    return np.ascontiguousarray(vectors[:, best].T, np.float32)
