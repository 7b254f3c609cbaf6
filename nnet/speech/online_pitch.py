"""Pitch of a signal that comes in pieces.

The whole signal's energy and the best path to its end are not known yet. So the ballast is made
of the signal so far, and a frame is decided once `max_frames_latency` more frames are known. Pieces
of any size give the same frames; they differ somewhat from those of the whole signal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.speech.online_features import Buffer, OnlineFeatures
from nnet.speech.pitch import LagPath, Pitch
from nnet.speech.pitch_processing import ProcessedPitch, process_pitch
from nnet.speech.resample import check_rate, check_samples

Floats = NDArray[np.float32]


class OnlinePitch(OnlineFeatures):
    """A stream of NCCF and pitch.

    Args:
        pitch: what is computed.
        sample_frequency: Hz of the signal; it must be that of the features.
    """

    def __init__(self, pitch: Pitch, sample_frequency: float | None = None) -> None:
        rate = pitch.sample_frequency
        check_rate(sample_frequency or rate, rate, False, False)
        self._pitch = pitch
        self._resampler = pitch.resampler
        self._signal, self._resampled = Buffer(), Buffer()
        self._path = LagPath(pitch.correlation)
        self._count, self._sum, self._square = 0, 0.0, 0.0
        self._ready: list[Floats] = []
        self._decided = 0
        self._finished = False

    @property
    def dim(self) -> int:
        return 2

    @property
    def frames_ready(self) -> int:
        return self._decided

    def accept(self, samples: Floats) -> None:
        if self._finished:
            raise NnetError("samples after the end of the signal; begin a new stream")
        self._signal.append(check_samples(samples, self._signal.end))
        self._advance()

    def finish(self) -> None:
        if not self._finished:
            self._finished = True
            self._advance()

    def take(self) -> Floats:
        frames = np.concatenate((np.zeros((0, 2), np.float32), *self._ready))
        self._ready = []
        return frames

    def _advance(self) -> None:
        signal, resampled = self._signal, self._resampled
        end = self._resampler.outputs(signal.end, self._finished)
        resampled.append(self._resampler.run(signal.samples, signal.offset, resampled.end, end))
        signal.drop_before(self._resampler.first_input(resampled.end))
        options = self._pitch.options
        frames = options.frames(resampled.end, self._finished)
        for frame in range(self._path.frames, frames):
            window = self._pitch.windows(resampled.samples, resampled.offset, frame, frame + 1)
            variance = np.array([self._variance(options.first_sample(frame) + options.window)])
            (for_pitch,), (for_voicing,) = self._pitch.correlation.measure(window, variance)
            self._path.extend(for_pitch, for_voicing)
            if not self._finished:
                self._decide(frame + 1 - options.max_frames_latency)
        if self._finished:
            self._decide(frames)
        needed = min(options.first_sample(self._path.frames), self._count)
        resampled.drop_before(needed)

    def _variance(self, end: int) -> float:
        """Of the resampled signal up to a sample."""
        first = self._count - self._resampled.offset
        part = self._resampled.samples[first : end - self._resampled.offset].astype(np.float64)
        self._count += len(part)
        self._sum += float(part.sum())
        self._square += float(part @ part)
        return self._square / self._count - (self._sum / self._count) ** 2

    def _decide(self, last: int) -> None:
        """Frames up to `last` - 1 are what the best path says now."""
        if last > self._decided:
            rows = self._path.decide(self._decided)
            self._ready.append(rows[: last - self._decided])
            self._decided = last
            self._path.drop_before(last)


class OnlineProcessedPitch(OnlineFeatures):
    """A stream of pitch features as networks get them."""

    def __init__(
        self, features: ProcessedPitch, sample_frequency: float | None = None, seed: int = 0
    ) -> None:
        self._source = OnlinePitch(features.pitch, sample_frequency)
        self._options = features.options
        noisy = features.options.add_delta_pitch and features.options.delta_pitch_noise_stddev > 0
        self._noise = np.random.default_rng(seed) if noisy else None
        self._pitch = np.zeros((0, 2), np.float32)
        self._offset = 0
        self._source_frames = 0
        self._ready: list[Floats] = []
        self._frames = 0
        self._finished = False

    @property
    def dim(self) -> int:
        return self._options.dim

    @property
    def frames_ready(self) -> int:
        return self._frames

    def accept(self, samples: Floats) -> None:
        self._source.accept(samples)
        self._advance()

    def finish(self) -> None:
        if not self._finished:
            self._finished = True
            self._source.finish()
            self._advance()

    def take(self) -> Floats:
        frames = np.concatenate((np.zeros((0, self.dim), np.float32), *self._ready))
        self._ready = []
        return frames

    def _advance(self) -> None:
        options = self._options
        self._pitch = np.concatenate((self._pitch, self._source.take()))
        end = self._offset + len(self._pitch)
        last = end if self._finished else max(0, end - options.lookahead)
        first = self._source_frames
        if last > first:
            rows = process_pitch(self._pitch, options, None)[options.delay :]
            rows = rows[first - self._offset : last - self._offset]
            if self._noise is not None:
                column = options.add_pov_feature + options.add_normalized_log_pitch
                noise = self._noise.standard_normal(len(rows)) * options.delta_pitch_noise_stddev
                rows[:, column] += (options.delta_pitch_scale * noise).astype(np.float32)
            if first == 0:
                rows = np.concatenate((np.repeat(rows[:1], options.delay, axis=0), rows))
            self._ready.append(rows)
            self._frames += len(rows)
            self._source_frames = last
        # deltas look `lookahead` frames back too
        keep = max(options.normalization_left_context, options.delta_window)
        surplus = max(0, self._source_frames - keep - self._offset)
        self._pitch = self._pitch[surplus:]
        self._offset += surplus
