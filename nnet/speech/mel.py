"""Mel filter banks (Kaldi's MelBanks), with vocal tract length normalization."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.speech.windows import FrameOptions

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class MelOptions:
    """Kaldi's MelBanksOptions.

    Args:
        num_mel_bins: triangular filters.
        low_freq: Hz where the first filter begins.
        high_freq: Hz where the last one ends; 0 or below: so much below half the sample frequency.
        vtln_low: Hz below which the warped frequency axis bends.
        vtln_high: Hz above which it bends; below 0: so much below half the sample frequency.
        htk_mode: as HTK: energies of at least 1, and the first filter without its first weight.
        debug_mel: Kaldi prints the filters.
    """

    num_mel_bins: int = 23
    low_freq: float = 20.0
    high_freq: float = 0.0
    vtln_low: float = 100.0
    vtln_high: float = -500.0
    htk_mode: bool = False
    debug_mel: bool = False

    def upper(self, sample_frequency: float) -> float:
        """The frequency in Hz where the last filter ends."""
        nyquist = 0.5 * sample_frequency
        return self.high_freq if self.high_freq > 0 else nyquist + self.high_freq


def mel(frequency: Doubles | float) -> Doubles:
    """Hz to mel."""
    return 1127.0 * np.log(1.0 + np.asarray(frequency) / 700.0)


def inverse_mel(value: Doubles) -> Doubles:
    """Mel to Hz."""
    return 700.0 * (np.exp(value / 1127.0) - 1.0)


@dataclass(frozen=True)
class MelBanks:
    """The filters of one warping factor.

    Args:
        weights: of the frequencies of a power spectrum, (num_mel_bins, fft_size / 2 + 1).
        centers: Hz of the filters' peaks, (num_mel_bins,).
        floor: the least energy of a filter.
    """

    weights: Floats
    centers: Doubles
    floor: float

    def energies(self, spectra: Floats) -> Floats:
        """Energies of the filters, (frames, num_mel_bins), of power spectra."""
        energies = spectra @ self.weights.T
        return np.maximum(energies, np.float32(self.floor)) if self.floor else energies


def mel_banks(options: MelOptions, frames: FrameOptions, vtln_warp: float = 1.0) -> MelBanks:
    """The filters for a sample frequency and a size of the Fourier transform.

    Raises:
        NnetError: the frequencies do not fit, or a filter has no frequency.
    """
    nyquist, high = 0.5 * frames.sample_frequency, options.upper(frames.sample_frequency)
    bins = options.num_mel_bins
    if bins < 3:
        raise NnetError(f"--num-mel-bins is {bins}; expected: at least 3")
    if not 0.0 <= options.low_freq < high <= nyquist:
        raise NnetError(
            f"--low-freq is {options.low_freq:g} and --high-freq {options.high_freq:g} ({high:g} "
            f"Hz); expected: 0 <= low < high <= {nyquist:g} Hz, half of --sample-frequency"
        )
    low_mel, high_mel = mel(options.low_freq), mel(high)
    edges: Doubles = np.linspace(low_mel, high_mel, bins + 2, dtype=np.float64)
    if vtln_warp != 1.0:
        edges = mel(_warped(inverse_mel(edges), options, nyquist, high, vtln_warp))
    left, center, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    size = frames.fft_size
    frequencies = np.arange(size // 2 + 1, dtype=np.float64) * frames.sample_frequency / size
    points = mel(np.asarray(frequencies, np.float64))
    points[size // 2 :] = np.inf  # half the sample frequency belongs to no filter
    rising, falling = (points - left) / (center - left), (right - points) / (right - center)
    inside = (points > left) & (points < right)
    weights = np.where(inside, np.where(points <= center, rising, falling), 0.0)
    empty = np.flatnonzero(~inside.any(axis=1))
    if len(empty):
        raise NnetError(
            f"--num-mel-bins is {bins}: filter {empty[0]} lies between two frequencies of a Fourier"
            f" transform of {size} samples; expected: fewer bins or longer frames"
        )
    if options.htk_mode and low_mel != 0.0:
        weights[0, inside[0].argmax()] = 0.0
    floor = 1.0 if options.htk_mode else 0.0
    return MelBanks(weights.astype(np.float32), inverse_mel(edges[1:-1]), floor)


def _warped(
    frequencies: Doubles, options: MelOptions, nyquist: float, high: float, warp: float
) -> Doubles:
    """Frequencies f / warp, bent at both ends so that the range stays the same."""
    low, lower = options.low_freq, options.vtln_low
    upper = options.vtln_high if options.vtln_high >= 0 else options.vtln_high + nyquist
    bend, end = lower * max(1.0, warp), upper * min(1.0, warp)
    if not (low < lower < upper < high and low < bend < end < high):
        raise NnetError(
            f"--vtln-low is {options.vtln_low:g} and --vtln-high {options.vtln_high:g} ({upper:g} "
            f"Hz) with the warping factor {warp:g}; expected: both between --low-freq ({low:g} Hz) "
            f"and --high-freq ({high:g} Hz), and so that the warped range does not vanish"
        )
    knots = np.array([low, bend, end, high])
    return np.interp(frequencies, knots, np.array([low, bend / warp, end / warp, high]))
