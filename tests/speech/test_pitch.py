"""Pitch: Kaldi's numbers where they are not a matter of rounding, and streams."""

import numpy as np
import pytest

from nnet.errors import NnetError
from nnet.speech.online_pitch import OnlinePitch, OnlineProcessedPitch
from nnet.speech.pitch import Correlation, Pitch, PitchOptions
from nnet.speech.pitch_processing import ProcessedPitch, ProcessPitchOptions, process_pitch
from tests.speech.digits import RATE, golden, pieces, samples, streamed


def path_cost(pitch, signal, frames):
    """The cost of a path through the lags, which the algorithm minimizes, in float64."""
    options, correlation = pitch.options, pitch.correlation
    resampler = pitch.resampler
    resampled = resampler.run(signal, 0, 0, resampler.outputs(len(signal)))
    early = resampler.outputs(len(signal), finished=False)
    windows = pitch.windows(resampled, 0, 0, len(frames))
    nccf, _ = correlation.measure(windows, pitch.mean_squares(resampled, early, len(frames)))
    states = np.abs(1.0 / correlation.lags - frames[:, 1:2]).argmin(axis=1)
    chosen = nccf[np.arange(len(frames)), states].astype(np.float64)
    local = 1.0 - chosen * (1.0 - options.soft_min_f0 * correlation.lags[states])
    factor = np.log(1.0 + options.delta_pitch) ** 2 * options.penalty_factor
    return local.sum() + factor * (np.diff(states) ** 2).sum()


@pytest.mark.parametrize("utterance", golden("pitch"))
def test_the_path_is_kaldis(utterance):
    """Where paths differ in cost by less than 32-bit rounding, either may be chosen.

    The ballast makes the correlations of quiet frames as small as the cost of one step.
    """
    pitch, signal = Pitch(PitchOptions(sample_frequency=RATE)), samples(utterance)
    expected = golden("pitch")[utterance]
    frames = pitch.compute(signal, RATE)
    assert frames.shape == expected.shape
    same = np.abs(frames - expected).max(axis=1) < 1e-3
    assert same.mean() > 0.7
    np.testing.assert_allclose(frames[:, 1], expected[:, 1], rtol=0.05)
    ours, theirs = (path_cost(pitch, signal, rows) for rows in (frames, expected))
    assert abs(ours - theirs) < 1e-6


@pytest.mark.parametrize("utterance", golden("pitch"))
def test_processing_is_kaldis(utterance):
    options = ProcessPitchOptions(delta_pitch_noise_stddev=0.0)
    frames = process_pitch(golden("pitch")[utterance], options, None)
    np.testing.assert_allclose(frames, golden("pitch_processed")[utterance], atol=1e-4)


def test_a_tone_has_its_pitch():
    time = np.arange(RATE) / RATE
    signal = sum(np.sin(2 * np.pi * 160 * k * time) / k for k in range(1, 5))
    frames = Pitch(PitchOptions(sample_frequency=RATE)).compute(
        (5000 * signal).astype(np.float32), RATE
    )
    np.testing.assert_allclose(frames[5:-5, 1], 160, rtol=0.01)
    assert frames[5:-5, 0].min() > 0.95


@pytest.mark.parametrize("latency", [0, 30])
def test_pieces_give_the_same_frames(latency):
    options = PitchOptions(sample_frequency=RATE, max_frames_latency=latency)
    pitch, signal = Pitch(options), samples("theo-001")
    processed = ProcessedPitch(pitch, ProcessPitchOptions(delay=2))
    for open_stream in (
        lambda: OnlinePitch(pitch, RATE),
        lambda: OnlineProcessedPitch(processed, RATE, seed=4),
    ):
        whole = streamed(open_stream(), [signal])
        for longest in (7, 500):
            frames = streamed(open_stream(), pieces(signal, longest))
            np.testing.assert_array_equal(frames, whole)


def test_a_stream_that_waits_for_the_end_is_the_whole_signal():
    options = PitchOptions(
        sample_frequency=RATE, max_frames_latency=10_000, nccf_ballast_online=True
    )
    processed = ProcessedPitch(Pitch(options), ProcessPitchOptions())
    signal = samples("theo-001")
    frames = streamed(OnlineProcessedPitch(processed, RATE, seed=4), pieces(signal, 500))
    np.testing.assert_allclose(frames, processed.compute(signal, RATE, seed=4), atol=1e-5)


def test_a_stream_gives_frames_before_the_end():
    stream = OnlinePitch(Pitch(PitchOptions(sample_frequency=RATE, max_frames_latency=30)), RATE)
    stream.accept(samples("theo-001"))
    assert stream.frames_ready == 80 - 30 - 2


def test_silence_has_a_pitch_and_no_voice():
    frames = Pitch(PitchOptions(sample_frequency=RATE)).compute(np.zeros(RATE, np.float32), RATE)
    assert np.isfinite(frames).all()
    assert (frames[:, 0] == 0).all()


def test_lags_cover_the_range_of_pitch():
    lags = Correlation(PitchOptions()).lags
    assert lags[0] == pytest.approx(1 / 400)
    assert 1 / 50 / 1.005 < lags[-1] <= 1 / 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_f0": 500.0}, "0 < min < max"),
        ({"lowpass_cutoff": 3000.0}, "--lowpass-cutoff is 3000 Hz; expected: .* 2000 Hz"),
        ({"frame_shift": 0.0}, "at least 2 and 1"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(NnetError, match=message):
        PitchOptions(**options)


def test_a_signal_of_another_rate():
    with pytest.raises(NnetError, match="the signal has 8000 Hz, expected 16000 Hz"):
        Pitch(PitchOptions()).compute(samples("theo-001"), RATE)


def test_no_pitch_feature_at_all():
    none = dict.fromkeys(("add_pov_feature", "add_normalized_log_pitch", "add_delta_pitch"), False)
    with pytest.raises(NnetError, match="at least one --add-"):
        ProcessPitchOptions(**none)
