"""Copies of speech at other speeds and in noise."""

import numpy as np

from examples.speech.augment import at_speed, augment, in_noise
from examples.speech.utterance import Segment, Utterance, tile

RATE = 8000


def utterance() -> Utterance:
    samples = np.round(8000 * np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE)).astype(np.int16)
    return Utterance(
        "anna-yes-0", "anna", "yes", samples, RATE, tile(["SIL", "A"], [0, 2000], RATE)
    )


def test_a_faster_copy_is_shorter_higher_and_labelled_in_step() -> None:
    fast = at_speed(utterance(), 1.25)
    assert fast.segments == (Segment("SIL", 0, 1600), Segment("A", 1600, 6400))
    spectrum = np.abs(np.fft.rfft(fast.samples))
    assert spectrum.argmax() * RATE / len(fast.samples) == 625


def test_noise_is_as_soft_as_asked() -> None:
    samples = utterance().samples
    noisy = in_noise(samples, (20.0, 20.0), np.random.default_rng(0))
    noise = noisy.astype(float) - samples
    ratio = 10 * np.log10(np.mean(samples.astype(float) ** 2) / np.mean(noise**2))
    assert abs(ratio - 20) < 0.2


def test_every_copy_is_another_speaker() -> None:
    copies = augment([utterance()], seed=0)
    assert len({copy.name for copy in copies}) == len({copy.speaker for copy in copies}) == 6
    assert copies[0].name == "annax0.9-yes-0"
    assert {copy.text for copy in copies} == {"yes"}
    assert all(copy.segments[-1].end == len(copy.samples) for copy in copies)


def test_the_same_seed_gives_the_same_copies() -> None:
    first, again = augment([utterance()], seed=3), augment([utterance()], seed=3)
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(first, again, strict=True))
