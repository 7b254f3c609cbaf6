"""The i-vector extractor, trained by expectation maximization (Kaldi's ivector-extractor-est).

The mean of Gaussian g for an utterance with the i-vector x is M_g x; x has a normal prior with the
mean (prior offset, 0, 0, ...) and unit variance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nnet.data.matrices import Floats
from nnet.errors import NnetError
from nnet.modelfile.gaussians import DiagonalGmm
from nnet.modelfile.ivector_extractor import IvectorExtractor
from nnet.modelfile.packed_matrix import pack
from nnet.speech.ivectors.posteriors import Posteriors

PRIOR_OFFSET = 100.0
CONDITION = 1.0e4
"""Directions in which statistics say so much less than in the best one stay as they were."""


@dataclass(frozen=True)
class ExtractorOptions:
    """How an extractor is trained.

    Args:
        ivector_dim: numbers in an i-vector.
        num_iters: iterations.
        variance_floor_factor: least variance, as a share of the average one.
        gaussian_min_count: a Gaussian of fewer frames stays as it is.
        diagonalize: make the dimensions of i-vectors independent, the most telling ones first.
        seed: of the first parameters.
    """

    ivector_dim: int = 100
    num_iters: int = 10
    variance_floor_factor: float = 0.1
    gaussian_min_count: float = 100.0
    diagonalize: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.ivector_dim < 2 or self.num_iters < 1:
            raise NnetError(
                f"--ivector-dim is {self.ivector_dim} and --num-iters {self.num_iters}; expected: "
                "at least 2 and 1"
            )
        if not 0.0 < self.variance_floor_factor <= 1.0:
            raise NnetError(
                f"--variance-floor-factor is {self.variance_floor_factor:g}; expected: above 0, at "
                "most 1"
            )


@dataclass(eq=False)
class ExtractorModel:
    """An extractor's parameters as float64 tensors.

    Args:
        weights: (gaussians,).
        projections: M, (gaussians, dim, ivector_dim).
        inverse: inverse covariances, (gaussians, dim, dim).
        offset: mean of the first number of an i-vector.
    """

    weights: Tensor
    projections: Tensor
    inverse: Tensor
    offset: float

    @classmethod
    def begin(
        cls, ubm: DiagonalGmm, options: ExtractorOptions, device: torch.device
    ) -> ExtractorModel:
        """From a diagonal UBM: its means, and random directions (ivector-extractor-init)."""
        rng = np.random.default_rng(options.seed)
        shape = (len(ubm.weights), ubm.dim, options.ivector_dim)
        projections = torch.from_numpy(rng.standard_normal(shape))
        projections[:, :, 0] = torch.from_numpy(ubm.means) / PRIOR_OFFSET
        inverse = torch.diag_embed(torch.from_numpy(ubm.inv_vars.astype(np.float64)))
        weights = torch.from_numpy(ubm.weights.astype(np.float64))
        return cls(weights.to(device), projections.to(device), inverse.to(device), PRIOR_OFFSET)

    def to_extractor(self) -> IvectorExtractor:
        """As it is stored in `final.ie`."""
        weights, projections, inverse = (
            value.cpu().numpy() for value in (self.weights, self.projections, self.inverse)
        )
        return IvectorExtractor(np.zeros((0, 0)), weights, projections, pack(inverse), self.offset)

    def linear(self) -> Tensor:
        """Inverse covariances times projections, (gaussians, dim, ivector_dim)."""
        return self.inverse @ self.projections

    def quadratic(self) -> Tensor:
        """M^T Sigma^-1 M of each Gaussian, (gaussians, ivector_dim, ivector_dim)."""
        return self.projections.transpose(1, 2) @ self.linear()


@dataclass(eq=False)
class UtteranceStatistics:
    """Counts (utterances, gaussians) and sums of frames (utterances, gaussians, dim)."""

    counts: Tensor
    sums: Tensor


@dataclass(eq=False)
class ExtractorSums:
    """Statistics of an iteration.

    Args:
        counts: frames of each Gaussian, (gaussians,).
        cross: sums of frames times i-vectors, Kaldi's Y, (gaussians, dim, ivector_dim).
        scatter: i-vectors' second moments by counts, R, (gaussians, ivector_dim, ivector_dim).
        frames: second moments of the frames, S, (gaussians, dim, dim).
        ivectors: how many there are.
        ivector_sum: (ivector_dim,).
        ivector_scatter: second moments, (ivector_dim, ivector_dim).
        objective: the auxiliary function, in nats.
    """

    counts: Tensor
    cross: Tensor
    scatter: Tensor
    frames: Tensor
    ivectors: int
    ivector_sum: Tensor
    ivector_scatter: Tensor
    objective: float = 0.0

    @classmethod
    def zeros(cls, model: ExtractorModel) -> ExtractorSums:
        """Of no frames."""
        gaussians, dim, size = model.projections.shape
        zeros = model.projections.new_zeros
        return cls(
            zeros(gaussians),
            zeros(gaussians, dim, size),
            zeros(gaussians, size, size),
            zeros(gaussians, dim, dim),
            0,
            zeros(size),
            zeros(size, size),
        )


class Accumulator:
    """The expectation step: i-vectors of utterances, and statistics with them."""

    def __init__(self, model: ExtractorModel) -> None:
        self._model = model
        self._linear, self._quadratic = model.linear(), model.quadratic()
        _, self._determinants = torch.linalg.slogdet(model.inverse)
        self.sums = ExtractorSums.zeros(model)

    def add(self, batch: Iterable[tuple[Floats, Posteriors]]) -> None:
        """Utterances: frames (frames, dim), and their posteriors times the posterior scale."""
        counts, sums, squares = [], [], 0.0
        for frames, posteriors in batch:
            dense = self._dense(posteriors)
            values = torch.from_numpy(frames).to(dense.device)
            counts.append(dense.sum(0, dtype=torch.float64))
            sums.append((dense.T @ values).double())
            products = (values[:, :, None] * values[:, None, :]).flatten(1)
            added = (dense.T @ products).double().view_as(self.sums.frames)
            self.sums.frames += added
            squares += float((added * self._model.inverse).sum())
        if counts:
            self._ivectors(UtteranceStatistics(torch.stack(counts), torch.stack(sums)), squares)

    def _dense(self, posteriors: Posteriors) -> Tensor:
        """Posteriors of all Gaussians, (frames, gaussians)."""
        shape = (len(posteriors.values), len(self._model.weights))
        dense = torch.zeros(shape)
        dense.scatter_(
            1,
            torch.from_numpy(np.ascontiguousarray(posteriors.gaussians)),
            torch.from_numpy(posteriors.values),
        )
        return dense.to(self._model.weights.device)

    def _ivectors(self, stats: UtteranceStatistics, squares: float) -> None:
        """Adds to the sums what the posterior distributions of the i-vectors say."""
        model, sums = self._model, self.sums
        size = model.projections.shape[2]
        linear = torch.einsum("ugd,gds->us", stats.sums, self._linear)
        linear[:, 0] += model.offset
        data = torch.einsum("ug,gst->ust", stats.counts, self._quadratic)
        quadratic = data + torch.eye(size, dtype=data.dtype, device=data.device)
        factor = torch.linalg.cholesky(quadratic)
        variances = torch.cholesky_inverse(factor)
        means = torch.einsum("ust,ut->us", variances, linear)
        moments = variances + means[:, :, None] * means[:, None, :]
        sums.counts += stats.counts.sum(0)
        sums.cross += torch.einsum("ugd,us->gds", stats.sums, means)
        sums.scatter += torch.einsum("ug,ust->gst", stats.counts, moments)
        sums.ivectors += len(means)
        sums.ivector_sum += means.sum(0)
        sums.ivector_scatter += moments.sum(0)
        log_determinants = 2.0 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
        sums.objective += self._objective(stats, linear, means, log_determinants, squares)

    def _objective(
        self,
        stats: UtteranceStatistics,
        linear: Tensor,
        means: Tensor,
        log_determinants: Tensor,
        squares: float,
    ) -> float:
        """The log-likelihood of the frames with i-vectors integrated out, given the posteriors."""
        model = self._model
        constants = model.weights.log() + 0.5 * (
            self._determinants - model.inverse.shape[1] * math.log(2 * math.pi)
        )
        frames = float((stats.counts @ constants).sum()) - 0.5 * squares
        evidence = 0.5 * (linear * means).sum(1) - 0.5 * log_determinants - 0.5 * model.offset**2
        return frames + float(evidence.sum())


def maximize(model: ExtractorModel, sums: ExtractorSums, options: ExtractorOptions) -> None:
    """The maximization step: new projections, covariances and prior.

    A Gaussian of too few frames stays as it is, with the random directions that it began with, as
    in Kaldi.

    Raises:
        NnetError: no Gaussian has enough frames.
    """
    enough = sums.counts >= options.gaussian_min_count
    if not enough.any():
        raise NnetError(
            f"no Gaussian has {options.gaussian_min_count:g} frames (times the posterior scale); "
            "expected: more data, or a smaller --gaussian-min-count"
        )
    model.projections[enough] = _projections(
        model.projections[enough], sums.cross[enough], sums.scatter[enough]
    )
    model.inverse[enough] = _inverse_covariances(model, sums, enough, options)
    _renew_prior(model, sums, options)


def _projections(old: Tensor, cross: Tensor, scatter: Tensor) -> Tensor:
    """The most likely projections; where there is little evidence, the old ones.

    Scatters are scaled to a diagonal of ones first: the first number of an i-vector is far larger
    than the others.
    """
    scale = scatter.diagonal(dim1=1, dim2=2).clamp_min(1.0e-40).rsqrt()
    values, vectors = torch.linalg.eigh(scale[:, :, None] * scatter * scale[:, None, :])
    values = torch.maximum(values, values[:, -1:] / CONDITION)
    gradient = (cross - old @ scatter) * scale[:, None, :]
    step = ((gradient @ vectors) / values[:, None, :]) @ vectors.transpose(1, 2)
    return old + step * scale[:, None, :]


def _inverse_covariances(
    model: ExtractorModel, sums: ExtractorSums, enough: Tensor, options: ExtractorOptions
) -> Tensor:
    """Inverse covariances, floored at a share of the average covariance."""
    projections, cross = model.projections[enough], sums.cross[enough]
    mixed = cross @ projections.transpose(1, 2)
    modelled = projections @ sums.scatter[enough] @ projections.transpose(1, 2)
    raw = sums.frames[enough] - mixed - mixed.transpose(1, 2) + modelled
    counts = sums.counts[enough]
    floor = options.variance_floor_factor * raw.sum(0) / counts.sum()
    values, vectors = torch.linalg.eigh(floor)
    values = values.clamp_min(float(values[-1]) * 1.0e-4)
    root = vectors * values.sqrt()
    inverse_root = (vectors / values.sqrt()).T
    whitened = inverse_root @ (raw / counts[:, None, None]) @ inverse_root.T
    sizes, directions = torch.linalg.eigh(0.5 * (whitened + whitened.transpose(1, 2)))
    floored = directions * sizes.clamp_min(1.0)[:, None, :] @ directions.transpose(1, 2)
    inverse = torch.linalg.inv(root @ floored @ root.T)
    return 0.5 * (inverse + inverse.transpose(1, 2))


def _renew_prior(model: ExtractorModel, sums: ExtractorSums, options: ExtractorOptions) -> None:
    """Changes the i-vectors' coordinates so that they have unit variance and their mean lies along
    the first one."""
    mean = sums.ivector_sum / sums.ivectors
    covariance = sums.ivector_scatter / sums.ivectors - torch.outer(mean, mean)
    values, vectors = torch.linalg.eigh(covariance)
    whitening = vectors.T / values.clamp_min(1.0e-7).sqrt()[:, None]
    direction = whitening @ mean
    direction = direction / direction.norm()
    change = _reflection(direction) @ whitening
    if options.diagonalize:
        change[1:] = _independent(model, change) @ change[1:]
    model.offset = float((change @ mean)[0])
    model.projections = model.projections @ torch.linalg.inv(change)


def _reflection(direction: Tensor) -> Tensor:
    """A Householder reflection that sends a unit vector to the first axis."""
    axis = torch.zeros_like(direction)
    axis[0] = 1.0
    difference = direction - axis
    length = difference.norm()
    identity = torch.eye(len(direction), dtype=direction.dtype, device=direction.device)
    if length < 1.0e-12:
        return identity
    difference = difference / length
    return identity - 2.0 * torch.outer(difference, difference)


def _independent(model: ExtractorModel, change: Tensor) -> Tensor:
    """A rotation of all dimensions but the first that makes the average evidence diagonal."""
    average = torch.einsum("g,gst->st", model.weights, model.quadratic())
    inverse = torch.linalg.inv(change)
    evidence = (inverse.T @ average @ inverse)[1:, 1:]
    values, vectors = torch.linalg.eigh(0.5 * (evidence + evidence.T))
    return vectors[:, values.argsort(descending=True)].T
