"""Changes of the sample frequency (Kaldi's LinearResample and ArbitraryResample)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]


def check_rate(given: float, wanted: float, allow_downsample: bool, allow_upsample: bool) -> None:
    """Raises NnetError if a signal has another rate than the features and may not be resampled."""
    if given == wanted:
        return
    option, verb = (
        ("allow-downsample", "downsample") if given > wanted else ("allow-upsample", "upsample")
    )
    if not (allow_downsample if given > wanted else allow_upsample):
        raise NnetError(
            f"the signal has {given:g} Hz, expected {wanted:g} Hz (--sample-frequency); give "
            f"--{option}=true to {verb} it"
        )


def check_samples(samples: Floats, before: int = 0) -> Floats:
    """Samples of one channel as 32-bit floats.

    Args:
        samples: (samples,), of any type of numbers.
        before: samples of the signal that came before, for the message.

    Raises:
        NnetError: there are several channels, or a sample is no number.
    """
    if samples.ndim != 1:
        raise NnetError(
            f"samples of shape {samples.shape}; expected: one channel, an array (samples,)"
        )
    finite = np.isfinite(samples)
    if not finite.all():
        place = int(finite.argmin())
        raise NnetError(f"sample {before + place} of the signal is {samples[place]}")
    return samples.astype(np.float32, copy=False)


@dataclass(frozen=True)
class LinearResample:
    """A low-pass filter, evaluated at the times of the new samples.

    Args:
        rate_in: Hz, a whole number.
        rate_out: Hz, a whole number.
        cutoff: Hz of the filter, at most half of either rate.
        zeros: width of its window, in half periods of the cutoff on each side.
    """

    rate_in: int
    rate_out: int
    cutoff: float
    zeros: int

    @property
    def width(self) -> float:
        """Seconds that the filter reaches to each side."""
        return self.zeros / (2.0 * self.cutoff)

    @cached_property
    def _unit(self) -> tuple[int, int]:
        """Samples in and out, after which times repeat."""
        common = math.gcd(self.rate_in, self.rate_out)
        return self.rate_in // common, self.rate_out // common

    @cached_property
    def _filters(self) -> tuple[NDArray[np.int64], Doubles]:
        """First input samples of the outputs of a unit, and weights (outputs, taps)."""
        times = np.arange(self._unit[1]) / self.rate_out
        first = np.ceil((times - self.width) * self.rate_in).astype(np.int64)
        last = np.floor((times + self.width) * self.rate_in).astype(np.int64)
        taps = first[:, None] + np.arange((last - first).max() + 1)
        delta = taps / self.rate_in - times[:, None]
        weights = windowed_sinc(delta, self.cutoff, self.zeros) / self.rate_in
        return first, np.where(taps <= last[:, None], weights, 0.0)

    def outputs(self, samples: int, finished: bool = True) -> int:
        """How many new samples there are, or so far if more are to come."""
        ticks = math.lcm(self.rate_in, self.rate_out)
        interval = samples * (ticks // self.rate_in)
        if not finished:
            interval -= math.floor(np.float32(self.width) * ticks)
        if interval <= 0:
            return 0
        return -(-interval // (ticks // self.rate_out))

    def first_input(self, output: int) -> int:
        """The first input sample that an output needs; may be below 0."""
        unit, within = divmod(output, self._unit[1])
        return int(self._filters[0][within]) + unit * self._unit[0]

    def run(self, samples: Floats, offset: int, first: int, last: int) -> Floats:
        """Outputs `first` to `last` - 1 of the part of a signal from `offset` on."""
        if last <= first:
            return np.zeros(0, np.float32)
        indices, weights = self._filters
        unit_in, unit_out = self._unit
        taps = weights.shape[1]
        start, end = self.first_input(first) - offset, self.first_input(last - 1) - offset + taps
        end += unit_in  # other outputs of the last unit may reach further
        before, after = max(0, -start), max(0, end - len(samples))
        padded = np.pad(samples[max(0, start) : max(0, end)], (before, after))
        windows = np.lib.stride_tricks.sliding_window_view(padded, taps)
        made = np.empty(last - first, np.float32)
        for place in range(min(unit_out, last - first)):  # these all have the same weights
            unit, within = divmod(first + place, unit_out)
            begin = int(indices[within]) + unit * unit_in - offset - start
            count = -(-(last - first - place) // unit_out)
            made[place::unit_out] = windows[begin::unit_in][:count] @ weights[within]
        return made


def windowed_sinc(times: Doubles, cutoff: float, zeros: int) -> Doubles:
    """A low-pass filter's response at times in seconds, under a Hann window."""
    inside = np.abs(times) < zeros / (2.0 * cutoff)
    window = np.where(inside, 0.5 * (1.0 + np.cos(2 * np.pi * cutoff / zeros * times)), 0.0)
    return window * 2.0 * cutoff * np.sinc(2.0 * cutoff * times)


@lru_cache(maxsize=16)
def signal_resampler(rate_in: int, rate_out: int) -> LinearResample:
    """The filter that Kaldi resamples signals with."""
    return LinearResample(rate_in, rate_out, 0.99 * 0.5 * min(rate_in, rate_out), 6)


def resample(samples: Floats, given: float, wanted: float) -> Floats:
    """A whole signal at another rate; the same signal if the rates are equal."""
    if given == wanted:
        return samples
    resampler = signal_resampler(int(given), int(wanted))
    return resampler.run(samples, 0, 0, resampler.outputs(len(samples)))


def resampled_length(samples: int, given: float, wanted: float) -> int:
    """How many samples `resample` makes of so many."""
    return (
        samples if given == wanted else signal_resampler(int(given), int(wanted)).outputs(samples)
    )
