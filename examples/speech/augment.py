"""Speech made different: faster, slower, noisier."""

from dataclasses import replace

import numpy as np

from examples.speech.resample import resample
from examples.speech.utterance import Utterance, tile

SPEEDS = (0.9, 1.0, 1.1)
SIGNAL_TO_NOISE_DECIBELS = (10.0, 40.0)


def augment(utterances: list[Utterance], seed: int) -> list[Utterance]:
    """Each utterance at three speeds, each of them as it is and in noise.

    Speed perturbation as in Ko et al., "Audio augmentation for speech recognition", Interspeech
    2015: resampling moves pitch and formants too. Every copy counts as another speaker.
    """
    generator = np.random.default_rng(seed)
    copies = []
    for speed in SPEEDS:
        for utterance in utterances:
            fast = at_speed(utterance, speed)
            samples = in_noise(fast.samples, SIGNAL_TO_NOISE_DECIBELS, generator)
            copies += [_as_speaker(fast, f"{speed}"), _as_speaker(fast, f"{speed}noisy", samples)]
    return copies


def at_speed(utterance: Utterance, speed: float) -> Utterance:
    """The utterance played `speed` times as fast."""
    samples = _to_int16(resample(utterance.samples, round(utterance.rate * speed), utterance.rate))
    labels = [segment.label for segment in utterance.segments]
    starts = [round(segment.start / speed) for segment in utterance.segments]
    return replace(utterance, samples=samples, segments=tile(labels, starts, len(samples)))


def in_noise(
    samples: np.ndarray, decibels: tuple[float, float], generator: np.random.Generator
) -> np.ndarray:
    """`samples` `(count,)` as int16 in white noise softer by a number drawn from `decibels`."""
    clean = samples.astype(np.float64)
    level = np.sqrt(np.mean(clean**2)) * 10 ** (-generator.uniform(*decibels) / 20)
    return _to_int16(clean + generator.standard_normal(len(clean)) * level)


def _to_int16(samples: np.ndarray) -> np.ndarray:
    return np.clip(np.round(samples), -32768, 32767).astype(np.int16)


def _as_speaker(utterance: Utterance, suffix: str, samples: np.ndarray | None = None) -> Utterance:
    speaker = f"{utterance.speaker}x{suffix}"
    return replace(
        utterance,
        name=speaker + utterance.name.removeprefix(utterance.speaker),
        speaker=speaker,
        samples=utterance.samples if samples is None else samples,
    )
