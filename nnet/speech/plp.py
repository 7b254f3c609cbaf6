"""Perceptual linear prediction (Hermansky 1990), as Kaldi computes it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.speech.features import SpectralFeatures, SpectralOptions, lifter_coefficients
from nnet.speech.mel import MelBanks

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
LEAST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class PlpOptions(SpectralOptions):
    """Kaldi's PlpOptions.

    Args:
        lpc_order: order of the linear prediction.
        num_ceps: cepstral coefficients, with C0.
        compress_factor: exponent from energy to loudness.
        cepstral_lifter: constant of the liftering; 0: none.
        cepstral_scale: factor of all coefficients.
    """

    lpc_order: int = 12
    num_ceps: int = 13
    compress_factor: float = 0.33333
    cepstral_lifter: int = 22
    cepstral_scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lpc_order < 1 or not 1 <= self.num_ceps <= self.lpc_order + 1:
            raise NnetError(
                f"--num-ceps is {self.num_ceps} and --lpc-order {self.lpc_order}; expected: an "
                "order of at least 1 and at most one coefficient more than the order"
            )


class Plp(SpectralFeatures):
    """Cepstral coefficients of an all-pole model of the loudness spectrum."""

    def __init__(self, options: PlpOptions) -> None:
        super().__init__(options)
        self.options = options

    @property
    def dim(self) -> int:
        return self.options.num_ceps

    @cached_property
    def _autocorrelation(self) -> Doubles:
        """From the loudness spectrum, its ends doubled, (bins + 2, order + 1)."""
        points = self.options.num_mel_bins + 2
        lags = np.arange(self.options.lpc_order + 1)
        cosine = np.cos(np.pi / (points - 1) * np.outer(np.arange(points), lags))
        weight = np.full(points, 2.0)
        weight[[0, -1]] = 1.0
        return weight[:, None] * cosine / (2.0 * (points - 1))

    def of_spectra(self, spectra: Floats, energies: Floats, banks: MelBanks) -> Floats:
        options = self.options
        loudness = banks.energies(spectra) * equal_loudness(banks.centers)
        loudness = loudness**options.compress_factor
        padded = np.pad(loudness, ((0, 0), (1, 1)), mode="edge")
        coefficients, error = linear_prediction(padded @ self._autocorrelation)
        frames = np.empty((len(spectra), options.num_ceps))
        frames[:, 0] = np.maximum(np.log(np.maximum(error, LEAST)), LEAST)
        frames[:, 1:] = cepstrum(coefficients)[:, : options.num_ceps - 1]
        frames *= lifter_coefficients(options.cepstral_lifter, options.num_ceps)
        frames *= options.cepstral_scale
        if options.use_energy:
            frames[:, 0] = energies
        if options.htk_compat:
            frames = np.roll(frames, -1, axis=1)
        return frames.astype(np.float32)


def equal_loudness(frequencies: Doubles) -> Doubles:
    """Weights of an equal-loudness curve at frequencies in Hz."""
    square = frequencies**2
    return (square / (square + 1.6e5)) ** 2 * (square + 1.44e6) / (square + 9.61e6)


def linear_prediction(autocorrelation: Doubles) -> tuple[Doubles, Doubles]:
    """Durbin's recursion.

    Args:
        autocorrelation: (frames, order + 1).

    Returns:
        the coefficients of the inverse filter without the leading 1, (frames, order), and the
        energy of the prediction error, (frames,).
    """
    order = autocorrelation.shape[1] - 1
    coefficients = np.zeros((len(autocorrelation), order))
    error = autocorrelation[:, 0].copy()
    for i in range(order):
        known = coefficients[:, :i]
        reflection = autocorrelation[:, i + 1] + np.einsum(
            "fj,fj->f", known, autocorrelation[:, i:0:-1]
        )
        reflection = reflection / np.where(error == 0.0, LEAST, error)
        error = error * np.maximum(1.0 - reflection**2, 1.0e-5)
        coefficients[:, :i] = known - reflection[:, None] * known[:, ::-1]
        coefficients[:, i] = -reflection
    return coefficients, error


def cepstrum(coefficients: Doubles) -> Doubles:
    """Cepstral coefficients from 1 on, (frames, order), of an all-pole model."""
    order = coefficients.shape[1]
    values = np.zeros_like(coefficients)
    for i in range(order):
        earlier = np.einsum(
            "j,fj,fj->f", np.arange(i, 0, -1.0), coefficients[:, :i], values[:, :i][:, ::-1]
        )
        values[:, i] = -coefficients[:, i] - earlier / (i + 1)
    return values
