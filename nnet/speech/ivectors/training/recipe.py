"""From features to an extractor's folder: transform, diagonal UBM, extractor."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from nnet.atomic import atomic_write
from nnet.data.matrices import Floats
from nnet.modelfile.gaussians import DiagonalGmm, write_diagonal_gmm
from nnet.modelfile.ivector_extractor import IvectorExtractor, write_ivector_extractor
from nnet.modelfile.writing import BinaryWriter, TextWriter, save_bytes
from nnet.speech.ivectors.extraction import IvectorOptions
from nnet.speech.ivectors.posteriors import Posteriors, pruned_posteriors
from nnet.speech.ivectors.training.diagonal_ubm import UbmOptions, train_diagonal_ubm
from nnet.speech.ivectors.training.extractor import (
    Accumulator,
    ExtractorModel,
    ExtractorOptions,
    maximize,
)
from nnet.speech.ivectors.training.frames import FrontEnd, TrainingData, principal_components
from nnet.speech.online_cmvn import OnlineCmvnOptions
from nnet.speech.transforms import SpliceOptions, check_transform

BATCH = 64
"""Utterances whose i-vectors are estimated at once."""


@dataclass(frozen=True)
class RecipeOptions:
    """How an extractor is trained from features.

    Args:
        splice: frames that the transform gets.
        cmvn: online normalization for posteriors.
        pca_dim: principal components, if no transform is given.
        subsample: of the frames, every so many are used in training.
        ubm: how the diagonal UBM is trained.
        extractor: how the extractor is.
        ivectors: posteriors' pruning and scale, which are those of estimation too.
    """

    splice: SpliceOptions = field(default_factory=lambda: SpliceOptions(3, 3))
    cmvn: OnlineCmvnOptions = field(default_factory=OnlineCmvnOptions)
    pca_dim: int = 40
    subsample: int = 2
    ubm: UbmOptions = field(default_factory=UbmOptions)
    extractor: ExtractorOptions = field(default_factory=ExtractorOptions)
    ivectors: IvectorOptions = field(default_factory=IvectorOptions)


def train_extractor(
    data: TrainingData,
    folder: Path,
    options: RecipeOptions,
    *,
    transform: Floats | None = None,
    device: torch.device | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Trains an extractor and writes its folder, which `nnet ivectors` reads.

    Args:
        data: features and speakers.
        folder: gets final.ie, final.dubm, final.mat, global_cmvn.stats and the options.
        options: how.
        transform: LDA, (dim, spliced dim); None: principal components are estimated.
        device: where it is computed; None: a CPU.
        report: takes lines about the progress.

    Raises:
        NnetError: the data are too few, or the transform does not fit.
    """
    device = device or torch.device("cpu")
    statistics = data.global_cmvn()
    if transform is None:
        transform = principal_components(data, options.splice, options.pca_dim)
    dim = (statistics.shape[1] - 1) * options.splice.width
    check_transform(transform, dim, "--lda-matrix")
    front = FrontEnd(options.splice, options.cmvn, transform, statistics, options.subsample)
    ubm = train_diagonal_ubm(
        lambda: (normal for _, normal in front.run(data)), options.ubm, device, report
    )
    report(f"UBM: {len(ubm.weights)} Gaussians of {ubm.dim} dimensions")
    extractor = _extractor(data, front, ubm, options, device, report)
    _write(folder, options, transform, statistics, ubm, extractor)


def _extractor(
    data: TrainingData,
    front: FrontEnd,
    ubm: DiagonalGmm,
    options: RecipeOptions,
    device: torch.device,
    report: Callable[[str], None],
) -> IvectorExtractor:
    model = ExtractorModel.begin(ubm, options.extractor, device)
    for iteration in range(options.extractor.num_iters):
        accumulator = Accumulator(model)
        utterances = _with_posteriors(data, front, ubm, options)
        while batch := list(itertools.islice(utterances, BATCH)):
            accumulator.add(batch)
        sums = accumulator.sums
        frames = float(sums.counts.sum())
        report(f"extractor, iteration {iteration}: {sums.objective / frames:.4f} nats a frame")
        maximize(model, sums, options.extractor)
    return model.to_extractor()


def _with_posteriors(
    data: TrainingData, front: FrontEnd, ubm: DiagonalGmm, options: RecipeOptions
) -> Iterator[tuple[Floats, Posteriors]]:
    """Frames of each utterance, with the posteriors of their normalized form."""
    how = options.ivectors
    scale = np.float32(how.posterior_scale * options.subsample)
    for raw, normal in front.run(data):
        posteriors = pruned_posteriors(ubm.log_likelihoods(normal), how.num_gselect, how.min_post)
        frames = normal if how.online_cmvn_iextractor else raw
        yield frames, posteriors.scaled(np.full(len(frames), scale))


def _write(
    folder: Path,
    options: RecipeOptions,
    transform: Floats,
    statistics: np.ndarray,
    ubm: DiagonalGmm,
    extractor: IvectorExtractor,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    matrix, stats = BinaryWriter(), TextWriter()
    matrix.matrix(transform)
    stats.double_matrix(statistics)
    save_bytes(bytes(matrix), folder / "final.mat")
    save_bytes(bytes(stats), folder / "global_cmvn.stats")
    write_diagonal_gmm(ubm, folder / "final.dubm")
    write_ivector_extractor(extractor, folder / "final.ie")
    splice = options.splice
    words = f"--left-context={splice.left_context} --right-context={splice.right_context}\n"
    with atomic_write(folder / "splice_opts") as stream:
        stream.write(words.encode())
    with atomic_write(folder / "online_cmvn.conf") as stream:
        stream.write(_changed(options.cmvn).encode())


def _changed(options: OnlineCmvnOptions) -> str:
    """The options that are not the defaults, one a line."""
    defaults = vars(OnlineCmvnOptions())
    changed = {name: value for name, value in vars(options).items() if value != defaults[name]}
    return "".join(
        f"--{name.replace('_', '-')}={str(value).lower()}\n" for name, value in changed.items()
    )
