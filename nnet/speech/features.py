"""Features: frames from samples. MFCC and filter banks; see plp.py and pitch.py for the others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.speech.mel import MelBanks, MelOptions, mel_banks
from nnet.speech.resample import check_rate, check_samples, resample
from nnet.speech.windows import EPSILON, FrameOptions, Windows, log_energies

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
BLOCK = 256
"""Frames that are computed at once: enough for fast products, few enough for the cache."""


class Features(ABC):
    """Computes frames of one kind from samples.

    A signal has the range of 16-bit integers, -32768 to 32767, as Kaldi reads it.

    Args:
        sample_frequency: Hz that the features are made for.
        frame_shift: milliseconds from one frame to the next.
    """

    def __init__(self, sample_frequency: float, frame_shift: float) -> None:
        self.sample_frequency = sample_frequency
        self.frame_shift = frame_shift

    @property
    @abstractmethod
    def dim(self) -> int:
        """Numbers in a frame."""

    @abstractmethod
    def compute(
        self, samples: Floats, sample_frequency: float, *, vtln_warp: float = 1.0, seed: int = 0
    ) -> Floats:
        """The frames of a whole signal, (frames, dim).

        Args:
            samples: (samples,).
            sample_frequency: Hz of the signal.
            vtln_warp: factor of vocal tract length normalization.
            seed: of everything random, such as dither.

        Raises:
            NnetError: the signal has another rate and may not be resampled, several channels, or
                samples that are no numbers.
        """


@dataclass(frozen=True)
class SpectralOptions(FrameOptions, MelOptions):
    """What all features have that begin with mel filters.

    Args:
        use_energy: the energy of the window is (or replaces) the first number.
        energy_floor: least energy; 0: none.
        raw_energy: the energy before pre-emphasis and the window's weights.
        htk_compat: the order of HTK: energy last.
    """

    use_energy: bool = True
    energy_floor: float = 0.0
    raw_energy: bool = True
    htk_compat: bool = False


class SpectralFeatures(Features):
    """Features whose frames each depend on the samples of one window."""

    def __init__(self, options: SpectralOptions) -> None:
        super().__init__(options.sample_frequency, options.frame_shift)
        self.windows = Windows(options)
        self.frames = options
        self._banks: dict[float, MelBanks] = {}
        self.banks(1.0)

    def banks(self, vtln_warp: float) -> MelBanks:
        """The mel filters for a warping factor."""
        if vtln_warp not in self._banks:
            self._banks[vtln_warp] = mel_banks(self.frames, self.frames, vtln_warp)
        return self._banks[vtln_warp]

    def compute(
        self, samples: Floats, sample_frequency: float, *, vtln_warp: float = 1.0, seed: int = 0
    ) -> Floats:
        options = self.frames
        check_rate(
            sample_frequency,
            options.sample_frequency,
            options.allow_downsample,
            options.allow_upsample,
        )
        samples = check_samples(samples)
        samples = resample(samples, sample_frequency, options.sample_frequency)
        noise = np.random.default_rng(seed) if options.dither else None
        return self.of_samples(samples, 0, 0, options.frames(len(samples)), vtln_warp, noise)

    def of_samples(
        self,
        samples: Floats,
        offset: int,
        first: int,
        last: int,
        vtln_warp: float,
        noise: np.random.Generator | None,
    ) -> Floats:
        """Frames `first` to `last` - 1, (frames, dim), of the part of a signal from `offset` on."""
        frames = np.empty((last - first, self.dim), np.float32)
        banks = self.banks(vtln_warp)
        for begin in range(first, last, BLOCK):
            end = min(begin + BLOCK, last)
            cut = self.windows.cut(samples, offset, begin, end)
            drawn = noise.standard_normal(cut.shape) if noise is not None else None
            windows, energies = self.windows.prepare(cut, drawn)
            if self.frames.use_energy and not self.frames.raw_energy:
                energies = log_energies(windows)
            if self.frames.energy_floor > 0:
                energies = np.maximum(energies, np.float32(np.log(self.frames.energy_floor)))
            spectra = self.windows.power_spectra(windows)
            frames[begin - first : end - first] = self.of_spectra(spectra, energies, banks)
        return frames

    @abstractmethod
    def of_spectra(self, spectra: Floats, energies: Floats, banks: MelBanks) -> Floats:
        """Frames, (frames, dim), of power spectra and the logarithms of the windows' energies."""


@dataclass(frozen=True)
class MfccOptions(SpectralOptions):
    """Kaldi's MfccOptions.

    Args:
        num_ceps: cepstral coefficients, with C0.
        cepstral_lifter: constant of the liftering; 0: none.
    """

    num_ceps: int = 13
    cepstral_lifter: float = 22.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.num_ceps <= self.num_mel_bins:
            raise NnetError(
                f"--num-ceps is {self.num_ceps}; expected: 1 to {self.num_mel_bins}, the number of "
                "mel bins"
            )


class Mfcc(SpectralFeatures):
    """Mel-frequency cepstral coefficients."""

    def __init__(self, options: MfccOptions) -> None:
        super().__init__(options)
        self.options = options

    @property
    def dim(self) -> int:
        return self.options.num_ceps

    @cached_property
    def _transform(self) -> Floats:
        """Cosine transform and lifter, (num_mel_bins, num_ceps)."""
        bins, ceps = self.options.num_mel_bins, np.arange(self.options.num_ceps)
        cosine = np.sqrt(2.0 / bins) * np.cos(np.pi / bins * np.outer(np.arange(bins) + 0.5, ceps))
        cosine[:, 0] = np.sqrt(1.0 / bins)
        lifter = lifter_coefficients(self.options.cepstral_lifter, self.options.num_ceps)
        return (cosine * lifter).astype(np.float32)

    def of_spectra(self, spectra: Floats, energies: Floats, banks: MelBanks) -> Floats:
        frames = _log(banks.energies(spectra)) @ self._transform
        if self.options.use_energy:
            frames[:, 0] = energies
        if self.options.htk_compat:
            if not self.options.use_energy:
                frames[:, 0] *= np.float32(np.sqrt(2.0))
            frames = np.roll(frames, -1, axis=1)
        return frames


def lifter_coefficients(constant: float, count: int) -> Doubles:
    """Scales of cepstral coefficients, (count,)."""
    if constant == 0.0:
        return np.ones(count)
    return 1.0 + 0.5 * constant * np.sin(np.pi * np.arange(count) / constant)


@dataclass(frozen=True)
class FbankOptions(SpectralOptions):
    """Kaldi's FbankOptions.

    Args:
        use_log_fbank: logarithms of the energies.
        use_power: energies from squared magnitudes; otherwise from magnitudes.
    """

    use_energy: bool = False
    use_log_fbank: bool = True
    use_power: bool = True


class Fbank(SpectralFeatures):
    """Energies of mel filters."""

    def __init__(self, options: FbankOptions) -> None:
        super().__init__(options)
        self.options = options

    @property
    def dim(self) -> int:
        return self.options.num_mel_bins + (1 if self.options.use_energy else 0)

    def of_spectra(self, spectra: Floats, energies: Floats, banks: MelBanks) -> Floats:
        frames = banks.energies(spectra if self.options.use_power else np.sqrt(spectra))
        if self.options.use_log_fbank:
            frames = _log(frames)
        if self.options.use_energy:
            parts = (frames, energies[:, None])
            frames = np.concatenate(parts if self.options.htk_compat else parts[::-1], axis=1)
        return frames


def _log(energies: Floats) -> Floats:
    return np.log(np.maximum(energies, np.float32(EPSILON)))
