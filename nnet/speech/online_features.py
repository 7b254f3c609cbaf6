"""Features of a signal that comes in pieces: the same frames as of the whole signal."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.speech.features import SpectralFeatures
from nnet.speech.resample import LinearResample, check_rate, check_samples, signal_resampler

Floats = NDArray[np.float32]


class OnlineFeatures(ABC):
    """A stream of frames.

    `accept` takes samples, `take` gives each frame once, as soon as it is ready.
    """

    @property
    @abstractmethod
    def dim(self) -> int:
        """Numbers in a frame."""

    @property
    @abstractmethod
    def frames_ready(self) -> int:
        """Frames since the beginning that are ready, with those that were taken."""

    @abstractmethod
    def accept(self, samples: Floats) -> None:
        """The next samples of the signal, (samples,), in any number."""

    @abstractmethod
    def finish(self) -> None:
        """The signal has ended: the last frames become ready."""

    @abstractmethod
    def take(self) -> Floats:
        """The frames that became ready since the last call, (frames, dim)."""


class SignalStream:
    """Resamples a signal that comes in pieces, and keeps the end of it that is still needed.

    Args:
        given: Hz of the signal.
        wanted: Hz of what is made.
    """

    def __init__(self, given: float, wanted: float) -> None:
        self._resampler: LinearResample | None = None
        if given != wanted:
            self._resampler = signal_resampler(int(given), int(wanted))
        self._input = Buffer()
        self._made = 0

    def push(self, samples: Floats, finished: bool) -> Floats:
        """The new samples that these give."""
        samples = check_samples(samples, self._input.end)
        resampler = self._resampler
        if resampler is None:
            self._input.offset += len(samples)  # nothing is held, but samples are counted
            return samples
        self._input.append(samples)
        end = resampler.outputs(self._input.end, finished)
        made = resampler.run(self._input.samples, self._input.offset, self._made, end)
        self._made = max(self._made, end)
        self._input.drop_before(resampler.first_input(self._made))
        return made


class Buffer:
    """The end of a signal.

    Args (attributes):
        samples: (samples,).
        offset: where they begin in the signal.
    """

    def __init__(self) -> None:
        self.samples: Floats = np.zeros(0, np.float32)
        self.offset = 0

    @property
    def end(self) -> int:
        """Samples of the signal so far."""
        return self.offset + len(self.samples)

    def append(self, samples: Floats) -> None:
        """More of the signal."""
        self.samples = np.concatenate((self.samples, samples))

    def drop_before(self, sample: int) -> None:
        """Forgets what lies before a sample."""
        surplus = min(max(0, sample - self.offset), len(self.samples))
        self.samples = self.samples[surplus:]
        self.offset += surplus


class OnlineSpectralFeatures(OnlineFeatures):
    """A stream of MFCC, filter banks or PLP.

    Args:
        features: what is computed.
        sample_frequency: Hz of the signal; None: that of the features.
        seed: of the dither, as in `Features.compute`.

    Raises:
        NnetError: the signal has another rate and may not be resampled.
    """

    def __init__(
        self, features: SpectralFeatures, sample_frequency: float | None = None, seed: int = 0
    ) -> None:
        options = features.frames
        rate = options.sample_frequency if sample_frequency is None else sample_frequency
        check_rate(rate, options.sample_frequency, options.allow_downsample, options.allow_upsample)
        self._features = features
        self._signal = SignalStream(rate, options.sample_frequency)
        self._noise = np.random.default_rng(seed) if options.dither else None
        self._held = Buffer()
        self._ready: list[Floats] = []
        self._frames = 0
        self._finished = False

    @property
    def dim(self) -> int:
        return self._features.dim

    @property
    def frames_ready(self) -> int:
        return self._frames

    def accept(self, samples: Floats) -> None:
        if self._finished:
            raise NnetError("samples after the end of the signal; begin a new stream")
        self._push(samples)

    def finish(self) -> None:
        if not self._finished:
            self._finished = True
            self._push(np.zeros(0, np.float32))

    def take(self) -> Floats:
        frames = np.concatenate((np.zeros((0, self.dim), np.float32), *self._ready))
        self._ready = []
        return frames

    def _push(self, samples: Floats) -> None:
        options, held = self._features.frames, self._held
        held.append(self._signal.push(samples, self._finished))
        last = options.frames(held.end, self._finished)
        if last > self._frames:
            made = self._features.of_samples(
                held.samples, held.offset, self._frames, last, 1.0, self._noise
            )
            self._ready.append(made)
            self._frames = last
        # a window that is mirrored at the end needs as much before the end as beyond it
        held.drop_before(options.first_sample(self._frames) - options.length)
