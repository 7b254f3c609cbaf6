"""Which Gaussians a frame belongs to: pruned posteriors, as VectorToPosteriorEntry makes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
MOST_CERTAIN = 0.99
"""The highest threshold: with it the most likely Gaussian alone is left."""


@dataclass(frozen=True, eq=False)
class Posteriors:
    """Posteriors of the most likely Gaussians of each frame.

    Args:
        gaussians: (frames, num_gselect).
        values: of these Gaussians, (frames, num_gselect); 0 where they were pruned.
        log_likelihoods: of the frames, (frames,).
    """

    gaussians: Integers
    values: Floats
    log_likelihoods: Floats

    def scaled(self, scales: Floats) -> Posteriors:
        """Posteriors times a scale for each frame, (frames,)."""
        return Posteriors(self.gaussians, self.values * scales[:, None], self.log_likelihoods)


def pruned_posteriors(
    log_likelihoods: Floats, num_gselect: int, min_post: Floats | float
) -> Posteriors:
    """Posteriors of at most `num_gselect` Gaussians, none below `min_post`, with the sum 1.

    Args:
        log_likelihoods: (frames, gaussians).
        num_gselect: Gaussians for a frame.
        min_post: least posterior, for all frames or for each, (frames,).
    """
    count = min(num_gselect, log_likelihoods.shape[1])
    if count < log_likelihoods.shape[1]:
        best = np.argpartition(log_likelihoods, -count, axis=1)[:, -count:]
    else:
        best = np.broadcast_to(np.arange(count), log_likelihoods.shape)
    likelihoods = np.take_along_axis(log_likelihoods, best, axis=1)
    highest = likelihoods.max(axis=1, keepdims=True)
    values = np.exp(likelihoods - highest)
    threshold = np.broadcast_to(np.asarray(min_post, np.float32), len(values))[:, None]
    values[(values <= threshold) & (values < 1.0)] = 0.0
    values[(values < threshold * values.sum(axis=1, keepdims=True)) & (values < 1.0)] = 0.0
    total = values.sum(axis=1, keepdims=True)
    return Posteriors(best, values / total, (highest + np.log(total))[:, 0])


def threshold_for_weights(min_post: float, weights: Floats) -> Floats:
    """Thresholds of frames that are counted with a weight: a small weight prunes more."""
    size = np.abs(weights)
    thresholds = np.full(len(weights), MOST_CERTAIN, np.float32)
    np.divide(min_post, size, out=thresholds, where=size > 0)
    return np.minimum(thresholds, np.float32(MOST_CERTAIN))
