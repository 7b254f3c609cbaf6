"""Cepstral mean and variance normalization from the statistics of an utterance or a speaker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
VARIANCE_FLOOR = 1.0e-20


@dataclass(frozen=True)
class CmvnOptions:
    """What is normalized.

    Args:
        norm_means: the means; otherwise nothing is.
        norm_vars: the variances too.
        skip_dims: dimensions that stay as they are, such as `13:14:15`.
    """

    norm_means: bool = True
    norm_vars: bool = False
    skip_dims: str = ""

    def __post_init__(self) -> None:
        if self.norm_vars and not self.norm_means:
            raise NnetError("--norm-vars=true needs --norm-means=true")
        self.skipped()

    def skipped(self) -> list[int]:
        """The dimensions of `skip_dims`."""
        words = [word for word in self.skip_dims.replace(",", ":").split(":") if word]
        if not all(word.isdigit() for word in words):
            raise NnetError(
                f"--skip-dims is '{self.skip_dims}'; expected: dimensions such as 13:14:15"
            )
        return [int(word) for word in words]


def statistics(frames: Floats, weights: Floats | None = None) -> Doubles:
    """Kaldi's CMVN statistics, (2, dim + 1): sums and the count, sums of squares and 0.

    Args:
        frames: (frames, dim).
        weights: (frames,).
    """
    values = frames.astype(np.float64)
    weighted = values if weights is None else values * weights[:, None]
    stats = np.zeros((2, frames.shape[1] + 1))
    stats[0, :-1] = weighted.sum(axis=0)
    stats[1, :-1] = (weighted * values).sum(axis=0)
    stats[0, -1] = len(frames) if weights is None else weights.sum(dtype=np.float64)
    return stats


def check_statistics(stats: Doubles, dim: int | None, name: str) -> None:
    """Raises NnetError unless a matrix is CMVN statistics, of frames of `dim` if it is given."""
    if stats.ndim != 2 or stats.shape[0] not in (1, 2) or stats.shape[1] < 2:
        raise NnetError(f"{name}: a matrix of {stats.shape}; expected: CMVN statistics, 2 rows")
    if dim is not None and stats.shape[1] != dim + 1:
        raise NnetError(
            f"{name}: CMVN statistics of {stats.shape[1] - 1} dimensions; the features have {dim}"
        )


def normalize(frames: Floats, stats: Doubles, options: CmvnOptions, name: str = "CMVN") -> Floats:
    """Frames with the means, and perhaps the variances, of `stats` taken away.

    Args:
        frames: (frames, dim).
        stats: (2, dim + 1), or (1, dim + 1) for means alone.
        options: what is normalized.
        name: of the statistics, for errors.

    Raises:
        NnetError: the statistics are of another dimension or of less than one frame.
    """
    if not options.norm_means:
        return frames
    check_statistics(stats, frames.shape[1], name)
    if stats[0, -1] < 1.0:
        raise NnetError(f"{name}: statistics of {stats[0, -1]:g} frames; expected: at least 1")
    if options.norm_vars and len(stats) == 1:
        raise NnetError(f"{name}: statistics of means alone; --norm-vars=true needs variances")
    offset, scale = normalizer(stats, options.norm_vars, options.skipped())
    return (frames * scale if options.norm_vars else frames) + offset


def normalizer(
    stats: Doubles, norm_vars: bool, skipped: list[int] | None = None
) -> tuple[Floats, Floats]:
    """Offset and scale, (dim,) each, so that x scale + offset is normalized.

    Args:
        stats: one frame's statistics, (2, dim + 1), or those of many, (frames, 2, dim + 1).
        norm_vars: whether variances are normalized.
        skipped: dimensions that stay as they are.
    """
    count = stats[..., 0, -1:]
    mean = stats[..., 0, :-1] / count
    scale = np.ones_like(mean)
    if norm_vars:
        variance = stats[..., 1, :-1] / count - mean**2
        scale = 1.0 / np.sqrt(np.maximum(variance, VARIANCE_FLOOR))
    offset = -mean * scale
    for dim in skipped or ():
        offset[..., dim], scale[..., dim] = 0.0, 1.0
    return offset.astype(np.float32), scale.astype(np.float32)
