"""The diagonal UBM: a mixture of Gaussians, trained by expectation maximization.

Kaldi's gmm-global-init-from-feats (random frames, then splitting) and gmm-global-est.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nnet.data.matrices import Floats
from nnet.errors import NnetError
from nnet.modelfile.gaussians import DiagonalGmm

PIECE = 1 << 15
"""Frames that are treated at once."""
PERTURB = 0.1
"""Distance of the halves of a Gaussian that was split, in standard deviations."""
FRAMES_OF_A_GAUSSIAN = 10


@dataclass(frozen=True)
class UbmOptions:
    """How a diagonal UBM is trained.

    Args:
        num_gauss: Gaussians.
        initial_gauss_proportion: share of them to begin with; the others come from splitting.
        num_frames: frames held in memory for the first iterations.
        num_iters_init: iterations on them.
        num_iters: iterations on all frames.
        min_gaussian_weight: a Gaussian of less weight is removed.
        min_gaussian_occupancy: a Gaussian of fewer frames is removed.
        min_variance: least variance.
        seed: of the random frames and the splits.
    """

    num_gauss: int = 512
    initial_gauss_proportion: float = 0.5
    num_frames: int = 500_000
    num_iters_init: int = 20
    num_iters: int = 4
    min_gaussian_weight: float = 1.0e-4
    min_gaussian_occupancy: float = 10.0
    min_variance: float = 1.0e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_gauss < 1 or self.num_iters_init < 1 or self.num_iters < 0:
            raise NnetError(
                f"--num-gauss is {self.num_gauss}, --num-iters-init {self.num_iters_init} and "
                f"--num-iters-ubm {self.num_iters}; expected: at least 1, 1 and 0"
            )


@dataclass(frozen=True, eq=False)
class Mixture:
    """Weights (gaussians,), means and variances (gaussians, dim) in float64."""

    weights: Tensor
    means: Tensor
    variances: Tensor

    def posteriors(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Posteriors of frames, (frames, gaussians), and their log-likelihoods, (frames,)."""
        inverse = 1.0 / self.variances
        constants = (
            self.weights.log()
            - 0.5 * (math.log(2 * math.pi) + self.variances.log()).sum(1)
            - 0.5 * (self.means**2 * inverse).sum(1)
        )
        scores = frames @ (self.means * inverse).T.to(frames.dtype)
        scores = scores - 0.5 * (frames**2 @ inverse.T.to(frames.dtype))
        scores = scores + constants.to(frames.dtype)
        totals = scores.logsumexp(1)
        return (scores - totals[:, None]).exp(), totals

    def to_gmm(self) -> DiagonalGmm:
        """The same in Kaldi's parameters."""
        weights, means, variances = (
            value.cpu().numpy() for value in (self.weights, self.means, self.variances)
        )
        return DiagonalGmm.of(weights, means, variances)


@dataclass(eq=False)
class _Sums:
    """Statistics of frames: counts, sums and sums of squares of each Gaussian."""

    counts: Tensor
    sums: Tensor
    squares: Tensor
    log_likelihood: float = 0.0

    @classmethod
    def zeros(cls, mixture: Mixture) -> _Sums:
        zeros = torch.zeros_like
        return cls(zeros(mixture.weights), zeros(mixture.means), zeros(mixture.means))

    def add(self, mixture: Mixture, frames: Tensor) -> None:
        for piece in frames.split(PIECE):
            posteriors, totals = mixture.posteriors(piece)
            self.counts += posteriors.sum(0, dtype=torch.float64)
            self.sums += (posteriors.T @ piece).double()
            self.squares += (posteriors.T @ piece**2).double()
            self.log_likelihood += float(totals.sum(dtype=torch.float64))


def train_diagonal_ubm(
    utterances: Callable[[], Iterable[Floats]],
    options: UbmOptions,
    device: torch.device,
    report: Callable[[str], None],
) -> DiagonalGmm:
    """A diagonal UBM from frames.

    Args:
        utterances: gives the frames, (frames, dim) each, anew in each call.
        options: how it is trained.
        device: where it is computed.
        report: takes lines about the progress.

    Raises:
        NnetError: there are too few frames for so many Gaussians.
    """
    rng = np.random.default_rng(options.seed)
    held = torch.from_numpy(_random_frames(utterances(), options.num_frames, rng)).to(device)
    first = max(1, int(options.num_gauss * options.initial_gauss_proportion))
    if len(held) < FRAMES_OF_A_GAUSSIAN * first:
        raise NnetError(
            f"{len(held)} frames are too few for {options.num_gauss} Gaussians; expected: at least "
            f"{FRAMES_OF_A_GAUSSIAN * first}, or a smaller --num-gauss"
        )
    mixture = _begin(held, first, rng)
    mixture = _grown(mixture, held, options, rng, report)
    for iteration in range(options.num_iters):
        sums, count = _Sums.zeros(mixture), 0
        for frames in utterances():
            sums.add(mixture, torch.from_numpy(frames).to(device))
            count += len(frames)
        report(f"UBM on all frames, {iteration}: {sums.log_likelihood / count:.4f} nats a frame")
        mixture = _updated(mixture, sums, options, remove=iteration == options.num_iters - 1)
    return mixture.to_gmm()


def _grown(
    mixture: Mixture,
    frames: Tensor,
    options: UbmOptions,
    rng: np.random.Generator,
    report: Callable[[str], None],
) -> Mixture:
    """After iterations on frames in memory, in the first half of which Gaussians are split."""
    wanted = len(mixture.weights)
    step = -(-(options.num_gauss - wanted) // max(1, options.num_iters_init // 2))
    for iteration in range(options.num_iters_init):
        sums = _Sums.zeros(mixture)
        sums.add(mixture, frames)
        report(f"UBM, iteration {iteration}: {sums.log_likelihood / len(frames):.4f} nats a frame")
        mixture = _updated(mixture, sums, options, remove=True)
        wanted = min(options.num_gauss, wanted + step)
        mixture = _split(mixture, wanted, rng)
    return mixture


def _random_frames(utterances: Iterable[Floats], most: int, rng: np.random.Generator) -> Floats:
    """At most so many frames, each as likely as any other (reservoir sampling)."""
    held: Floats | None = None
    seen = 0
    for frames in utterances:
        if held is None:
            held = np.empty((0, frames.shape[1]), np.float32)
        free = max(0, most - len(held))
        held = np.concatenate((held, frames[:free]))
        rest = frames[free:]
        places = rng.integers(0, seen + free + np.arange(1, len(rest) + 1))
        kept = places < most
        held[places[kept]] = rest[kept]
        seen += len(frames)
    return np.zeros((0, 1), np.float32) if held is None else held


def _begin(frames: Tensor, count: int, rng: np.random.Generator) -> Mixture:
    """Gaussians around random frames, with the variance of all."""
    chosen = torch.from_numpy(rng.choice(len(frames), count, replace=False)).to(frames.device)
    variance = frames.double().var(0, correction=0)
    if not (variance > 0).all():
        place = int((variance <= 0).nonzero()[0])
        raise NnetError(
            f"dimension {place} of the frames is constant; nothing can be learned of it"
        )
    weights = torch.full((count,), 1.0 / count, dtype=torch.float64, device=frames.device)
    return Mixture(weights, frames[chosen].double(), variance.expand(count, -1).clone())


def _updated(mixture: Mixture, sums: _Sums, options: UbmOptions, remove: bool) -> Mixture:
    """The most likely parameters; Gaussians of too few frames are removed or stay as they were."""
    weights = sums.counts / sums.counts.sum()
    enough = (sums.counts > options.min_gaussian_occupancy) & (
        weights > options.min_gaussian_weight
    )
    if not enough.any():
        enough[sums.counts.argmax()] = True
    counts = sums.counts.clamp_min(1.0e-20)[:, None]
    means = sums.sums / counts
    variances = (sums.squares / counts - means**2).clamp_min(options.min_variance)
    if remove:
        kept = weights[enough]
        return Mixture(kept / kept.sum(), means[enough], variances[enough])
    means = torch.where(enough[:, None], means, mixture.means)
    variances = torch.where(enough[:, None], variances, mixture.variances)
    weights = torch.where(enough, weights, weights.clamp_min(options.min_gaussian_weight))
    return Mixture(weights / weights.sum(), means, variances)


def _split(mixture: Mixture, wanted: int, rng: np.random.Generator) -> Mixture:
    """More Gaussians: the heaviest are split in two until there are as many as wanted."""
    weights, means, variances = mixture.weights, mixture.means, mixture.variances
    while len(weights) < wanted:
        heaviest = int(weights.argmax())
        noise = torch.from_numpy(rng.standard_normal(means.shape[1])).to(means.device)
        shift = PERTURB * noise * variances[heaviest].sqrt()
        weights = torch.cat((weights, weights[heaviest : heaviest + 1] / 2))
        weights[heaviest] /= 2
        means = torch.cat((means, (means[heaviest] + shift)[None]))
        means[heaviest] -= shift
        variances = torch.cat((variances, variances[heaviest : heaviest + 1]))
    return Mixture(weights, means, variances)
