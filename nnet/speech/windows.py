"""A signal cut into overlapping windows, as all of Kaldi's spectral features begin."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError, nearest

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
EPSILON = float(np.finfo(np.float32).eps)
"""Floor of energies before their logarithm is taken."""


@dataclass(frozen=True)
class FrameOptions:
    """Kaldi's FrameExtractionOptions.

    Args:
        sample_frequency: Hz; that of the signal, unless it may be resampled.
        frame_length: milliseconds of a window.
        frame_shift: milliseconds from one window to the next.
        preemphasis_coefficient: of the high-pass filter x[i] - c x[i - 1].
        remove_dc_offset: subtract the mean of each window.
        dither: standard deviation of noise that is added to each sample; 0: none.
        window_type: hamming, hanning, povey, rectangular, sine or blackman.
        blackman_coeff: constant of the blackman window.
        round_to_power_of_two: pad windows with zeros for the Fourier transform.
        snip_edges: windows lie inside the signal; otherwise the signal is mirrored at its ends and
            the number of frames depends on the shift alone.
        allow_downsample: resample a signal with a higher rate.
        allow_upsample: resample a signal with a lower rate.
        max_feature_vectors: frames that Kaldi's streams keep; a stream here keeps none.
    """

    sample_frequency: float = 16000.0
    frame_length: float = 25.0
    frame_shift: float = 10.0
    preemphasis_coefficient: float = 0.97
    remove_dc_offset: bool = True
    dither: float = 1.0
    window_type: str = "povey"
    blackman_coeff: float = 0.42
    round_to_power_of_two: bool = True
    snip_edges: bool = True
    allow_downsample: bool = False
    allow_upsample: bool = False
    max_feature_vectors: int = -1

    def __post_init__(self) -> None:
        if self.window_type not in WINDOWS:
            meant = nearest(self.window_type, WINDOWS)
            raise NnetError(
                f"--window-type is '{self.window_type}'; expected: {', '.join(WINDOWS)}"
                + (f"; did you mean '{meant}'?" if meant else "")
            )
        if self.shift < 1 or self.length < 2:
            raise NnetError(
                f"--frame-length {self.frame_length:g} ms and --frame-shift {self.frame_shift:g} ms"
                f" are {self.length} and {self.shift} samples at {self.sample_frequency:g} Hz; "
                "expected: windows of at least 2 samples and shifts of at least 1"
            )
        if not 0.0 <= self.preemphasis_coefficient <= 1.0:
            raise NnetError(
                f"--preemphasis-coefficient is {self.preemphasis_coefficient:g}; expected: 0 to 1"
            )

    @property
    def shift(self) -> int:
        """Samples from one window to the next."""
        return int(self.sample_frequency * 0.001 * self.frame_shift)

    @property
    def length(self) -> int:
        """Samples of a window."""
        return int(self.sample_frequency * 0.001 * self.frame_length)

    @property
    def fft_size(self) -> int:
        """Samples of a window with the zeros that follow it."""
        return 1 << (self.length - 1).bit_length() if self.round_to_power_of_two else self.length

    def first_sample(self, frame: int) -> int:
        """Where the window of a frame begins; below 0 without `snip_edges`."""
        if self.snip_edges:
            return frame * self.shift
        return self.shift * frame + self.shift // 2 - self.length // 2

    def frames(self, samples: int, finished: bool = True) -> int:
        """How many frames so many samples have, or have so far if more are to come."""
        if self.snip_edges:
            return 0 if samples < self.length else 1 + (samples - self.length) // self.shift
        count = (samples + self.shift // 2) // self.shift
        if finished:
            return count
        beyond = self.first_sample(count - 1) + self.length - samples
        return max(0, count - max(0, -(-beyond // self.shift)))


WINDOWS = ("hamming", "hanning", "povey", "rectangular", "sine", "blackman")


def window_function(options: FrameOptions) -> Doubles:
    """The weights of a window, (length,)."""
    phase = 2 * np.pi / (options.length - 1) * np.arange(options.length)
    if options.window_type == "hanning":
        return 0.5 - 0.5 * np.cos(phase)
    if options.window_type == "hamming":
        return 0.54 - 0.46 * np.cos(phase)
    if options.window_type == "povey":
        return (0.5 - 0.5 * np.cos(phase)) ** 0.85
    if options.window_type == "sine":
        return np.sin(0.5 * phase)
    if options.window_type == "blackman":
        constant = options.blackman_coeff
        return constant - 0.5 * np.cos(phase) + (0.5 - constant) * np.cos(2 * phase)
    return np.ones(options.length)


@dataclass(frozen=True)
class Windows:
    """Cuts windows and takes their power spectra."""

    options: FrameOptions

    @cached_property
    def _weights(self) -> Floats:
        return window_function(self.options).astype(np.float32)

    def cut(self, samples: Floats, offset: int, first: int, last: int) -> Floats:
        """Views of the windows of frames `first` to `last` - 1, (frames, length).

        Args:
            samples: part of the signal, (samples,).
            offset: where that part begins in the signal.
            first: the first frame.
            last: the frame after the last one.
        """
        options = self.options
        start = options.first_sample(first) - offset
        end = options.first_sample(last - 1) - offset + options.length
        before, after = max(0, -start), max(0, end - len(samples))
        if before or after:  # the signal is mirrored at its ends
            samples = np.pad(samples, (before, after), mode="symmetric")
        views = np.lib.stride_tricks.sliding_window_view(
            samples[start + before : end + before], options.length
        )
        return views[:: options.shift]

    def prepare(self, windows: Floats, noise: Doubles | None) -> tuple[Floats, Floats]:
        """Dither, removal of the mean, pre-emphasis and the window's weights.

        Args:
            windows: parts of the signal, (frames, length).
            noise: standard normal numbers of the same shape, for dither.

        Returns:
            the windows, (frames, length), and the logarithms of their energies before
            pre-emphasis, (frames,).
        """
        options = self.options
        prepared = np.empty(windows.shape, np.float32)
        signal = windows if noise is None else windows + (options.dither * noise).astype(np.float32)
        if options.remove_dc_offset:
            np.subtract(signal, signal.mean(axis=1, keepdims=True), out=prepared)
            signal = prepared.copy() if options.preemphasis_coefficient else prepared
        else:
            prepared[:] = signal
        energies = log_energies(prepared)
        coefficient = np.float32(options.preemphasis_coefficient)
        if coefficient:
            signal = signal * coefficient
            prepared[:, 1:] -= signal[:, :-1]
            prepared[:, 0] -= signal[:, 0]
        prepared *= self._weights
        return prepared, energies

    def power_spectra(self, windows: Floats) -> Floats:
        """Squared magnitudes from 0 to half the sample frequency, (frames, fft_size / 2 + 1)."""
        spectra = np.fft.rfft(windows, self.options.fft_size, axis=1)
        return np.asarray(spectra.real**2 + spectra.imag**2, np.float32)


def log_energies(windows: Floats) -> Floats:
    """The logarithm of each window's energy, (frames,)."""
    energies = np.einsum("fs,fs->f", windows, windows)
    return np.log(np.maximum(energies, np.float32(EPSILON)))
