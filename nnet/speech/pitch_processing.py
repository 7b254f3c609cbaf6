"""From NCCF and pitch to features for a network (Kaldi's process-kaldi-pitch-feats)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.speech.features import Features
from nnet.speech.pitch import Pitch
from nnet.speech.transforms import DeltaOptions, add_deltas

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ProcessPitchOptions:
    """Kaldi's ProcessPitchOptions.

    Args:
        pitch_scale: factor of the normalized log-pitch.
        pov_scale: factor of the voicing feature.
        pov_offset: what is added to it.
        delta_pitch_scale: factor of the derivative of the log-pitch.
        delta_pitch_noise_stddev: noise that hides the steps between lags.
        normalization_left_context: frames before, of the log-pitch's moving average.
        normalization_right_context: frames after.
        delta_window: frames to each side that the derivative is estimated from.
        delay: frames by which the features come later than their sound.
        add_pov_feature: the voicing feature is one of the features.
        add_normalized_log_pitch: the log-pitch without its moving average is one.
        add_delta_pitch: the derivative is one.
        add_raw_log_pitch: the log-pitch is one.
    """

    pitch_scale: float = 2.0
    pov_scale: float = 2.0
    pov_offset: float = 0.0
    delta_pitch_scale: float = 10.0
    delta_pitch_noise_stddev: float = 0.005
    normalization_left_context: int = 75
    normalization_right_context: int = 75
    delta_window: int = 2
    delay: int = 0
    add_pov_feature: bool = True
    add_normalized_log_pitch: bool = True
    add_delta_pitch: bool = True
    add_raw_log_pitch: bool = False

    def __post_init__(self) -> None:
        if self.dim == 0:
            raise NnetError("no pitch feature was chosen; expected: at least one --add-... option")
        if min(self.normalization_left_context, self.normalization_right_context, self.delay) < 0:
            raise NnetError(
                f"--normalization-left-context is {self.normalization_left_context}, "
                f"--normalization-right-context {self.normalization_right_context} and --delay "
                f"{self.delay}; expected: at least 0"
            )

    @property
    def dim(self) -> int:
        """How many features there are."""
        return sum(
            (
                self.add_pov_feature,
                self.add_normalized_log_pitch,
                self.add_delta_pitch,
                self.add_raw_log_pitch,
            )
        )

    @property
    def lookahead(self) -> int:
        """Frames of pitch after a frame that its features depend on."""
        deltas = self.delta_window if self.add_delta_pitch else 0
        return max(self.normalization_right_context, deltas)


def process_pitch(
    pitch: Floats, options: ProcessPitchOptions, noise: np.random.Generator | None
) -> Floats:
    """Features, (frames + delay, dim), from NCCF and pitch, (frames, 2).

    Args:
        pitch: of a whole utterance.
        options: which features, and how they are scaled.
        noise: of the derivative; None: none.
    """
    if len(pitch) == 0:
        return np.zeros((0, options.dim), np.float32)
    nccf, log_pitch = pitch[:, 0].astype(np.float64), np.log(pitch[:, 1].astype(np.float64))
    columns = []
    if options.add_pov_feature:
        columns.append(options.pov_scale * _voicing_feature(nccf) + options.pov_offset)
    if options.add_normalized_log_pitch:
        average = _moving_average(log_pitch, _voicing_probability(nccf), options)
        columns.append(options.pitch_scale * (log_pitch - average))
    if options.add_delta_pitch:
        rows = log_pitch[:, None].astype(np.float32)
        delta = add_deltas(rows, DeltaOptions(1, options.delta_window))[:, 1].astype(np.float64)
        if noise is not None:
            delta += noise.standard_normal(len(delta)) * options.delta_pitch_noise_stddev
        columns.append(options.delta_pitch_scale * delta)
    if options.add_raw_log_pitch:
        columns.append(log_pitch)
    features = np.stack(columns, axis=1).astype(np.float32)
    return np.concatenate((np.repeat(features[:1], options.delay, axis=0), features))


def _voicing_feature(nccf: Doubles) -> Doubles:
    """A nearly Gaussian function of the NCCF."""
    return (1.0001 - np.clip(nccf, -1.0, 1.0)) ** 0.15 - 1.0


def _voicing_probability(nccf: Doubles) -> Doubles:
    """The probability that a frame is voiced; its log-odds were fitted to the Keele database."""
    size = np.minimum(np.abs(nccf), 1.0)
    odds = -5.2 + 5.4 * np.exp(7.5 * (size - 1.0)) + 4.8 * size - 2.0 * np.exp(-10.0 * size)
    odds += 4.2 * np.exp(20.0 * (size - 1.0))
    return 1.0 / (1.0 + np.exp(-odds))


def _moving_average(values: Doubles, weights: Doubles, options: ProcessPitchOptions) -> Doubles:
    """Weighted averages over the window around each frame."""
    frames = np.arange(len(values))
    first = np.maximum(0, frames - options.normalization_left_context)
    last = np.minimum(len(values), frames + options.normalization_right_context + 1)
    total, weight = (np.concatenate(([0.0], np.cumsum(x))) for x in (values * weights, weights))
    return (total[last] - total[first]) / (weight[last] - weight[first])


class ProcessedPitch(Features):
    """Pitch features as networks get them."""

    def __init__(self, pitch: Pitch, options: ProcessPitchOptions) -> None:
        super().__init__(pitch.sample_frequency, pitch.frame_shift)
        self.pitch = pitch
        self.options = options

    @property
    def dim(self) -> int:
        return self.options.dim

    def compute(
        self, samples: Floats, sample_frequency: float, *, vtln_warp: float = 1.0, seed: int = 0
    ) -> Floats:
        noise = np.random.default_rng(seed) if self.options.delta_pitch_noise_stddev else None
        return process_pitch(self.pitch.compute(samples, sample_frequency), self.options, noise)
