"""Perturbed copies of recordings, made when they are read: speed, volume, noise.

A perturbation is drawn from a seed and the utterance's name, so that it does not depend on what
else is read, and in which order.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.speech.resample import resample
from nnet.speech.waves import FULL_SCALE, Wave

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class NoiseOptions:
    """Noise that is added to a share of the utterances.

    Args:
        snrs: signal-to-noise ratios in dB, one of which is drawn.
        probability: that an utterance gets noise.
    """

    snrs: tuple[float, ...] = (20.0, 15.0, 10.0, 5.0)
    probability: float = 1.0

    def __post_init__(self) -> None:
        if not self.snrs or not 0.0 <= self.probability <= 1.0:
            raise NnetError(
                f"--snrs are {self.snrs} and --noise-probability {self.probability:g}; expected: "
                "at least one ratio in dB, and a probability from 0 to 1"
            )


@dataclass(frozen=True, eq=False)
class Perturbation:
    """How recordings are changed.

    Args:
        speeds: factors, one of which is drawn; 1.1 is faster and higher.
        volume: the least and the greatest factor of the amplitude, between which one is drawn.
        noises: recordings of noise by name; none: white noise, if there is `noise`.
        noise: how it is added; None: it is not.
        seed: of all draws.
    """

    speeds: tuple[float, ...] = (1.0,)
    volume: tuple[float, float] | None = None
    noises: Mapping[str, Wave] = field(default_factory=dict)
    noise: NoiseOptions | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_speeds(self.speeds)
        if self.volume is not None and not 0.0 < self.volume[0] <= self.volume[1]:
            raise NnetError(f"--volume is {self.volume}; expected: two factors, 0 < least <= most")

    def apply(self, name: str, samples: Floats, rate: float, draw: int = 0) -> Floats:
        """A recording, perturbed.

        Args:
            name: of the utterance.
            samples: (samples,).
            rate: Hz.
            draw: which of the utterance's perturbations; the same number gives the same.
        """
        rng = np.random.default_rng((self.seed, draw, zlib.crc32(name.encode())))
        samples = change_speed(samples, rate, self.speeds[rng.integers(len(self.speeds))])
        if self.noise is not None and rng.random() < self.noise.probability:
            snr = self.noise.snrs[rng.integers(len(self.noise.snrs))]
            samples = add_noise(samples, self._noise(rng, len(samples), rate), snr)
        if self.volume is not None:
            samples = change_volume(samples, float(rng.uniform(*self.volume)))
        return samples

    def _noise(self, rng: np.random.Generator, count: int, rate: float) -> Floats:
        """A random part of a random noise, repeated if it is too short."""
        if not self.noises:
            return rng.standard_normal(count).astype(np.float32)
        names = sorted(self.noises)
        name = names[rng.integers(len(names))]
        wave = self.noises[name]
        noise = resample(wave.channel(-1, name), wave.sample_frequency, rate)
        start = int(rng.integers(len(noise)))
        return np.resize(np.roll(noise, -start), count)


def check_speeds(speeds: tuple[float, ...]) -> None:
    """Raises NnetError unless there are factors, and they are speeds."""
    if not speeds or min(speeds) < 0.2 or max(speeds) > 5.0:
        raise NnetError(f"--speeds are {speeds}; expected: factors from 0.2 to 5, such as 0.9,1.1")


def speed_prefix(speed: float) -> str:
    """What Kaldi puts before the names of a copy with another speed; nothing for 1."""
    return "" if speed == 1.0 else f"sp{speed:g}-"


def change_speed(samples: Floats, rate: float, speed: float) -> Floats:
    """A signal as if it were played faster: shorter, and with a higher pitch."""
    if speed == 1.0:
        return samples
    return resample(samples, float(round(rate * speed)), rate)


def change_volume(samples: Floats, factor: float) -> Floats:
    """A signal times a factor, clipped at the range of 16-bit samples."""
    return np.clip(samples * np.float32(factor), -FULL_SCALE, FULL_SCALE - 1)


def add_noise(samples: Floats, noise: Floats, snr: float) -> Floats:
    """A signal with noise at a signal-to-noise ratio in dB; silence stays silent."""
    power = float(np.mean(samples.astype(np.float64) ** 2))
    noise_power = float(np.mean(noise.astype(np.float64) ** 2))
    if power == 0.0 or noise_power == 0.0:
        return samples
    scale = np.sqrt(power / noise_power / 10.0 ** (snr / 10.0))
    return samples + noise * np.float32(scale)
