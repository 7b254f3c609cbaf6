"""Change of sampling rate."""

import numpy as np
import pytest

from examples.speech.resample import resample


def tone(hertz: float, rate: int, seconds: float = 0.5) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("hertz", [50, 440, 3000, 6500])
def test_a_tone_keeps_frequency_amplitude_and_phase(hertz: float) -> None:
    changed = resample(tone(hertz, 22050), 22050, 16000)
    np.testing.assert_allclose(changed[500:-500], tone(hertz, 16000)[500:-500], atol=2e-3)


@pytest.mark.parametrize("hertz", [8700, 9500, 11000])
def test_what_the_new_rate_cannot_hold_is_gone(hertz: float) -> None:
    changed = resample(tone(hertz, 22050), 22050, 16000)
    assert np.abs(changed[500:-500]).max() < 1e-4


def test_a_higher_rate_adds_nothing() -> None:
    changed = resample(tone(440, 8000, 0.48), 8000, 11025)
    np.testing.assert_allclose(changed[500:-500], tone(440, 11025, 0.48)[500:-500], atol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 440, 441, 442, 1000])
def test_the_duration_stays(count: int) -> None:
    assert len(resample(np.ones(count), 22050, 16000)) == -(-count * 320 // 441)


def test_the_same_rate_changes_nothing_below_the_cutoff() -> None:
    np.testing.assert_allclose(resample(np.ones(300), 8000, 8000)[60:-60], 1.0, atol=1e-9)
