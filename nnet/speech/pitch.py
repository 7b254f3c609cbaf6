"""Pitch and the probability of voicing (Ghahremani et al., ICASSP 2014), as Kaldi computes them.

The signal's normalized cross-correlation with itself (NCCF) is measured at many lags; the Viterbi
algorithm finds the path through the lags that is best correlated and does not jump.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.speech.features import Features
from nnet.speech.resample import LinearResample, check_rate, check_samples, windowed_sinc

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class PitchOptions:
    """Kaldi's PitchExtractionOptions.

    Args:
        sample_frequency: Hz of the signal.
        frame_length: milliseconds.
        frame_shift: milliseconds.
        preemphasis_coefficient: of the signal.
        min_f0: Hz of the lowest pitch.
        max_f0: Hz of the highest.
        soft_min_f0: Hz; a larger value favours a high pitch.
        penalty_factor: cost of a changing pitch.
        lowpass_cutoff: Hz above which the signal is cut off.
        resample_frequency: Hz that the signal is resampled to.
        delta_pitch: relative distance of the lags.
        nccf_ballast: a larger value makes quiet frames look less voiced.
        lowpass_filter_width: width of the filter for the signal.
        upsample_filter_width: width of the filter for the lags.
        max_frames_latency: in a stream, frames that are waited for before one is decided.
        frames_per_chunk: Kaldi's programs can imitate a stream; a stream here is one.
        simulate_first_pass_online: as `frames_per_chunk`.
        recompute_frame: frame after which Kaldi's stream corrects the ballast.
        nccf_ballast_online: the ballast from the signal so far instead of the whole signal.
        snip_edges: frames lie inside the signal.
    """

    sample_frequency: float = 16000.0
    frame_length: float = 25.0
    frame_shift: float = 10.0
    preemphasis_coefficient: float = 0.0
    min_f0: float = 50.0
    max_f0: float = 400.0
    soft_min_f0: float = 10.0
    penalty_factor: float = 0.1
    lowpass_cutoff: float = 1000.0
    resample_frequency: float = 4000.0
    delta_pitch: float = 0.005
    nccf_ballast: float = 7000.0
    lowpass_filter_width: int = 1
    upsample_filter_width: int = 5
    max_frames_latency: int = 0
    frames_per_chunk: int = 0
    simulate_first_pass_online: bool = False
    recompute_frame: int = 500
    nccf_ballast_online: bool = False
    snip_edges: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.min_f0 < self.max_f0 or self.delta_pitch <= 0:
            raise NnetError(
                f"--min-f0 is {self.min_f0:g}, --max-f0 {self.max_f0:g} and --delta-pitch "
                f"{self.delta_pitch:g}; expected: 0 < min < max, and a distance above 0"
            )
        nyquist = 0.5 * min(self.sample_frequency, self.resample_frequency)
        if not 0 < self.lowpass_cutoff <= nyquist:
            raise NnetError(
                f"--lowpass-cutoff is {self.lowpass_cutoff:g} Hz; expected: above 0, at most "
                f"{nyquist:g} Hz"
            )
        if self.shift < 1 or self.length < 2 or self.lowpass_filter_width < 1:
            raise NnetError(
                f"--frame-length {self.frame_length:g} ms and --frame-shift {self.frame_shift:g} ms"
                f" are {self.length} and {self.shift} samples at {self.resample_frequency:g} Hz; "
                "expected: at least 2 and 1, and filters of at least one zero"
            )

    @property
    def shift(self) -> int:
        """Resampled samples from one frame to the next."""
        return int(self.resample_frequency * self.frame_shift / 1000.0)

    @property
    def length(self) -> int:
        """Resampled samples that are correlated."""
        return int(self.resample_frequency * self.frame_length / 1000.0)

    def lag_range(self) -> tuple[int, int]:
        """The first and the last lag that is measured, in resampled samples."""
        margin = self.upsample_filter_width / (2.0 * self.resample_frequency)
        first = math.ceil(self.resample_frequency * (1.0 / self.max_f0 - margin))
        last = math.floor(self.resample_frequency * (1.0 / self.min_f0 + margin))
        return max(0, first), last

    @property
    def window(self) -> int:
        """Resampled samples that a frame depends on."""
        return self.length + self.lag_range()[1]

    def frames(self, samples: int, finished: bool) -> int:
        """How many frames so many resampled samples have, or have so far."""
        length = self.length if finished else self.window
        if samples < length:
            return 0
        if self.snip_edges:
            return (samples - length) // self.shift + 1
        usable = samples if finished else samples - length // 2
        return int(usable / self.shift + 0.5)

    def first_sample(self, frame: int) -> int:
        """Where the window of a frame begins."""
        if self.snip_edges:
            return frame * self.shift
        return int((frame + 0.5) * self.shift) - self.window // 2


class Correlation:
    """NCCFs of frames at lags that grow by `delta_pitch`."""

    def __init__(self, options: PitchOptions) -> None:
        self.options = options
        self.lags = _lags(options)
        self._first, self._last = options.lag_range()
        rate, zeros = options.resample_frequency, options.upsample_filter_width
        points = np.arange(self._last + 1 - self._first, dtype=np.float32) / np.float32(rate)
        # times in 32 bits, as Kaldi has them: the best path may hang on their rounding
        lags = self.lags.astype(np.float32) - np.float32(self._first / rate)
        delta = (lags[None, :] - points[:, None]).astype(np.float64)
        self._upsampling = windowed_sinc(delta, 0.5 * rate, zeros) / rate

    def measure(self, windows: Doubles, mean_squares: Doubles) -> tuple[Floats, Floats]:
        """NCCFs, (frames, lags), for the pitch (with ballast) and for the voicing (without).

        Args:
            windows: of the resampled signal, (frames, window).
            mean_squares: variance of the signal that the ballast is made of, (frames,).
        """
        length, coefficient = self.options.length, self.options.preemphasis_coefficient
        if coefficient:
            previous = np.concatenate((windows[:, :1], windows[:, :-1]), axis=1)
            windows = windows - coefficient * previous
        windows = windows - windows[:, :length].mean(axis=1, keepdims=True)
        fixed = windows[:, :length]
        squares = np.cumsum(np.pad(windows**2, ((0, 0), (1, 0))), axis=1)
        lags = np.arange(self._first, self._last + 1)
        energies = squares[:, lags + length] - squares[:, lags]
        products = np.stack(
            [np.einsum("fs,fs->f", fixed, windows[:, lag : lag + length]) for lag in lags], axis=1
        )
        norms = np.maximum(0.0, energies) * np.einsum("fs,fs->f", fixed, fixed)[:, None]
        ballast = (mean_squares * length) ** 2 * self.options.nccf_ballast
        for_pitch = _quotient(products, norms + ballast[:, None]) @ self._upsampling
        for_voicing = _quotient(products, norms) @ self._upsampling
        return for_pitch.astype(np.float32), for_voicing.astype(np.float32)


def _lags(options: PitchOptions) -> Doubles:
    """Lags in seconds, a geometric progression in 32-bit numbers as Kaldi's."""
    lags, lag = [], np.float32(1.0 / options.max_f0)
    while lag <= np.float32(1.0 / options.min_f0):
        lags.append(float(lag))
        lag = np.float32(float(lag) * (1.0 + float(np.float32(options.delta_pitch))))
    return np.array(lags)


def _quotient(products: Doubles, norms: Doubles) -> Doubles:
    roots = np.sqrt(norms)
    return np.divide(products, roots, out=np.zeros_like(products), where=roots > 0)


class LagPath:
    """The best path through the lags, frame by frame."""

    def __init__(self, correlation: Correlation) -> None:
        options = correlation.options
        self._lags = correlation.lags
        count = len(self._lags)
        factor = math.log(1.0 + options.delta_pitch) ** 2 * options.penalty_factor
        self._factor = factor
        self._jumps = (factor * np.arange(1.0 - count, count) ** 2).astype(np.float32)
        self._soft = (1.0 - options.soft_min_f0 * self._lags).astype(np.float32)
        self._costs = np.zeros(count, np.float32)
        self._back: list[Integers] = []
        self._voicing: list[Floats] = []
        self._dropped = 0

    @property
    def frames(self) -> int:
        """Frames so far."""
        return self._dropped + len(self._back)

    def extend(self, for_pitch: Floats, for_voicing: Floats) -> None:
        """One more frame; NCCFs (lags,)."""
        back, best = self._best_before()
        costs = best + 1.0 - for_pitch * self._soft
        self._costs = costs - costs.min()
        self._back.append(back)
        self._voicing.append(for_voicing)

    def _best_before(self) -> tuple[Integers, Floats]:
        """The best lag of the frame before for each lag, and its cost.

        Costs are 0 or more, so no lag is worth a jump that costs more than the highest of them.
        """
        count = len(self._costs)
        reach = min(count - 1, int(math.sqrt(float(self._costs.max()) / self._factor)) + 1)
        padded = np.pad(self._costs, reach, constant_values=np.inf)
        sums = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
        sums = sums + self._jumps[count - 1 - reach : count + reach]
        chosen = sums.argmin(axis=1)
        lags = np.arange(count)
        return lags + chosen - reach, sums[lags, chosen]

    def decide(self, first: int) -> Floats:
        """NCCF and pitch in Hz of the frames from `first` on, (frames, 2), on the best path."""
        rows = np.empty((self.frames - first, 2), np.float32)
        state = int(self._costs.argmin())
        for frame in range(self.frames - 1, first - 1, -1):
            place = frame - self._dropped
            rows[frame - first] = self._voicing[place][state], 1.0 / self._lags[state]
            state = int(self._back[place][state])
        return rows

    def drop_before(self, frame: int) -> None:
        """Forgets what no decision needs any more."""
        surplus = max(0, frame - self._dropped)
        del self._back[:surplus], self._voicing[:surplus]
        self._dropped += surplus


class Pitch(Features):
    """NCCF (how voiced a frame is) and pitch in Hz."""

    def __init__(self, options: PitchOptions) -> None:
        super().__init__(options.sample_frequency, options.frame_shift)
        self.options = options
        self.correlation = Correlation(options)

    @property
    def dim(self) -> int:
        return 2

    @property
    def resampler(self) -> LinearResample:
        """The filter from the signal to the resampled one."""
        options = self.options
        rates = int(options.sample_frequency), int(options.resample_frequency)
        return LinearResample(*rates, options.lowpass_cutoff, options.lowpass_filter_width)

    def compute(
        self, samples: Floats, sample_frequency: float, *, vtln_warp: float = 1.0, seed: int = 0
    ) -> Floats:
        check_rate(sample_frequency, self.options.sample_frequency, False, False)
        samples = check_samples(samples)
        resampler = self.resampler
        signal = resampler.run(samples, 0, 0, resampler.outputs(len(samples)))
        frames = self.options.frames(len(signal), finished=True)
        path = LagPath(self.correlation)
        if frames:
            early = resampler.outputs(len(samples), finished=False)
            mean_squares = self.mean_squares(signal, early, frames)
            cut = self.windows(signal, 0, 0, frames)
            for rows in zip(*self.correlation.measure(cut, mean_squares), strict=True):
                path.extend(*rows)
        return path.decide(0)

    def mean_squares(self, signal: Floats, early_samples: int, frames: int) -> Doubles:
        """The variance of the signal for each frame: of all of it, or of what came so far.

        Args:
            signal: the resampled signal.
            early_samples: those that the resampler gives before the signal has ended.
            frames: how many there are.
        """
        values = signal.astype(np.float64)
        if not self.options.nccf_ballast_online:
            # Kaldi computes most frames before the resampler gives its last samples
            early = values[:early_samples]
            first = self.options.frames(len(early), finished=False)
            return np.where(np.arange(frames) < first, early.var(), values.var())
        ends = [
            min(len(signal), self.options.first_sample(frame) + self.options.window)
            for frame in range(frames)
        ]
        counts = np.arange(1, len(signal) + 1)
        means, squares = np.cumsum(values) / counts, np.cumsum(values**2) / counts
        return (squares - means**2)[np.array(ends) - 1]

    def windows(self, signal: Floats, offset: int, first: int, last: int) -> Doubles:
        """Windows of frames `first` to `last` - 1, with zeros where there is no signal.

        Args:
            signal: the resampled signal from `offset` on.
            offset: where it begins.
            first: the first frame.
            last: the frame after the last one.
        """
        options = self.options
        start = options.first_sample(first) - offset
        end = options.first_sample(last - 1) - offset + options.window
        before, after = max(0, -start), max(0, end - len(signal))
        padded = np.pad(signal.astype(np.float64), (before, after))[start + before :]
        views = np.lib.stride_tricks.sliding_window_view(padded, options.window)
        starts = [options.first_sample(frame) - offset - start for frame in range(first, last)]
        return views[starts]
