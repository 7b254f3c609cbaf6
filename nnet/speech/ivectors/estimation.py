"""i-vectors from statistics of frames: accumulation, scaling, conjugate gradients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.modelfile.adaptation import IvectorStatistics
from nnet.modelfile.ivector_extractor import IvectorExtractor
from nnet.modelfile.packed_matrix import pack, triangle, unpack
from nnet.speech.ivectors.posteriors import Posteriors

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
EXTRA_ITERATIONS = 5
"""Iterations of conjugate gradients beyond the dimension, for rounding errors."""
RECOMPUTE = 0.01**2
"""Change of the squared residual after which it is computed anew."""
LEAST = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Projections:
    """What estimation needs of an extractor, worked out once."""

    extractor: IvectorExtractor

    def __post_init__(self) -> None:
        if len(self.extractor.weight_projections):
            raise NnetError(
                "this i-vector extractor's weights depend on the i-vector (it was made with "
                "--use-weights=true); expected: one with constant weights"
            )

    @cached_property
    def linear(self) -> Doubles:
        """Inverse variances times projections, (gaussians, feature_dim, ivector_dim)."""
        inverse = unpack(self.extractor.inverse_variances)
        return inverse @ self.extractor.projections

    @cached_property
    def quadratic(self) -> Doubles:
        """Projections around inverse variances, lower triangles, (gaussians, S (S + 1) / 2)."""
        products = self.extractor.projections.transpose(0, 2, 1) @ self.linear
        return pack(products)


def prior(extractor: IvectorExtractor, max_count: float = 0.0) -> IvectorStatistics:
    """The statistics of no frames: the prior distribution of i-vectors."""
    dim = extractor.ivector_dim
    linear, quadratic = np.zeros(dim), pack(np.eye(dim))
    linear[0] = extractor.prior_offset
    return IvectorStatistics(linear, quadratic, 0.0, extractor.prior_offset, max_count)


def accumulate(
    stats: IvectorStatistics, projections: Projections, frames: Floats, posteriors: Posteriors
) -> IvectorStatistics:
    """Statistics with some frames added.

    Args:
        stats: the statistics so far.
        projections: of the extractor.
        frames: (frames, feature_dim).
        posteriors: of the Gaussians, times the posterior scale and the weights of the frames, which
            may be negative: what was added before is taken away.
    """
    used = posteriors.values != 0.0
    gaussians, places = np.unique(posteriors.gaussians[used], return_inverse=True)
    if len(gaussians) == 0:
        return stats
    table = np.zeros((len(gaussians), len(frames)))
    np.add.at(table, (places, np.nonzero(used)[0]), posteriors.values[used])
    counts, sums = table.sum(axis=1), table @ frames.astype(np.float64)
    linear = stats.linear + np.einsum("gd,gds->s", sums, projections.linear[gaussians])
    quadratic = stats.quadratic + counts @ projections.quadratic[gaussians]
    total = stats.frames + float(counts.sum())
    change = _prior_scale(total, stats.max_count) - _prior_scale(stats.frames, stats.max_count)
    return _with_prior(stats, linear, quadratic, total, change)


def scaled(stats: IvectorStatistics, scale: float) -> IvectorStatistics:
    """Statistics that count less, so that what comes counts more; the prior stays as it is."""
    total = stats.frames * scale
    old = scale * _prior_scale(stats.frames, stats.max_count)
    change = _prior_scale(total, stats.max_count) - old
    return _with_prior(stats, stats.linear * scale, stats.quadratic * scale, total, change)


def _prior_scale(frames: float, max_count: float) -> float:
    """The weight of the prior: beyond `max_count` frames it grows as their number does."""
    return max(frames, max_count) / max_count if max_count > 0.0 else 1.0


def _with_prior(
    stats: IvectorStatistics, linear: Doubles, quadratic: Doubles, frames: float, change: float
) -> IvectorStatistics:
    if change != 0.0:
        linear, quadratic = linear.copy(), quadratic.copy()
        linear[0] += stats.prior_offset * change
        quadratic[diagonal(stats.ivector_dim)] += change
    return IvectorStatistics(linear, quadratic, frames, stats.prior_offset, stats.max_count)


def diagonal(dim: int) -> Integers:
    """Where the diagonal is in a lower triangle."""
    return np.array([triangle(row + 1) - 1 for row in range(dim)])


def default_ivector(stats: IvectorStatistics) -> Doubles:
    """The mean of the prior, (ivector_dim,)."""
    ivector = np.zeros(stats.ivector_dim)
    ivector[0] = stats.prior_offset
    return ivector


def estimate(stats: IvectorStatistics, start: Doubles, iterations: int) -> Doubles:
    """The i-vector, (ivector_dim,), by conjugate gradients from `start`.

    With few iterations the result depends on where they begin, as Kaldi's does.

    Args:
        stats: of the frames so far.
        start: (ivector_dim,).
        iterations: at most; below 0: as many as there are dimensions.
    """
    if stats.frames <= 0.0:
        return default_ivector(stats)
    if start[0] == 0.0:
        start = start.copy()
        start[0] = stats.prior_offset
    return conjugate_gradients(unpack(stats.quadratic), stats.linear, start, iterations)


def exact(stats: IvectorStatistics) -> Doubles:
    """The i-vector, (ivector_dim,), as the solution of the linear equations."""
    if stats.frames <= 0.0:
        return default_ivector(stats)
    solution = np.linalg.solve(unpack(stats.quadratic), stats.linear)
    return np.asarray(solution, np.float64)


def conjugate_gradients(
    matrix: Doubles, target: Doubles, start: Doubles, iterations: int
) -> Doubles:
    """Solves matrix @ x = target for a positive definite matrix (Kaldi's LinearCgd)."""
    x = start.copy()
    direction = target - matrix @ x
    residual = -direction
    current = initial = reference = float(residual @ residual)
    most = len(x) + EXTRA_ITERATIONS
    for _ in range(most if iterations < 0 else min(iterations, most)):
        if current <= LEAST:
            break
        product = matrix @ direction
        step = -float(direction @ residual) / float(direction @ product)
        x += step * direction
        residual += step * product
        following = float(residual @ residual)
        if not RECOMPUTE * reference <= following <= reference / RECOMPUTE:
            residual = matrix @ x - target
            following = reference = float(residual @ residual)
        if following <= LEAST:
            return x
        direction = following / current * direction - residual
        current = following
    if current > initial + 1.0e-10 * float(target @ target):
        x = np.asarray(np.linalg.solve(matrix, target), np.float64)
    return x


def objective_change(stats: IvectorStatistics, ivector: Doubles) -> float:
    """How much an i-vector is better than the prior's mean, in nats a frame."""
    if stats.frames <= 0.0:
        return 0.0
    matrix = unpack(stats.quadratic)

    def objective(x: Doubles) -> float:
        return float(x @ stats.linear - 0.5 * x @ matrix @ x)

    return (objective(ivector) - objective(default_ivector(stats))) / stats.frames
