"""Normalization: by utterance, by speaker, and online."""

import numpy as np
import pytest

from nnet.errors import NnetError
from nnet.modelfile.adaptation import OnlineCmvnState
from nnet.modelfile.loading import open_file
from nnet.speech.cmvn import CmvnOptions, normalize, statistics
from nnet.speech.online_cmvn import OnlineCmvn, OnlineCmvnOptions
from tests.speech.digits import DIGITS, golden, golden_statistics


def global_statistics():
    return open_file(DIGITS / "extractor" / "global_cmvn.stats").double_matrix()


def frames_of(count, dim=3, seed=0):
    return np.random.default_rng(seed).normal(5, 2, (count, dim)).astype(np.float32)


def test_statistics_are_kaldis():
    frames = golden("mfcc")
    for utterance, expected in golden_statistics("cmvn_utt").items():
        np.testing.assert_allclose(statistics(frames[utterance]), expected, rtol=1e-6, atol=1e-3)
    total = sum(statistics(rows) for rows in frames.values())
    np.testing.assert_allclose(total, golden_statistics("cmvn_spk")["theo"], rtol=1e-6, atol=1e-2)


def test_normalization_is_kaldis():
    frames, stats = golden("mfcc"), golden_statistics("cmvn_utt")
    options = CmvnOptions(norm_vars=True)
    for utterance, expected in golden("cmvn_applied").items():
        rows = normalize(frames[utterance], stats[utterance], options)
        np.testing.assert_allclose(rows, expected, atol=1e-5)


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_online_normalization_is_kaldis(piece):
    frames, state = golden("mfcc_hires"), OnlineCmvnState(global_statistics())
    for utterance, expected in golden("cmvn_online").items():
        stream = OnlineCmvn(OnlineCmvnOptions(cmn_window=200), state)
        rows = frames[utterance]
        parts = [stream.accept(rows[i : i + piece]) for i in range(0, len(rows), piece)]
        np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-4)
        state = stream.state()


def test_a_full_window_forgets_everything_else():
    frames = frames_of(60)
    stream = OnlineCmvn(
        OnlineCmvnOptions(cmn_window=20, norm_vars=True), OnlineCmvnState(statistics(frames[:5]))
    )
    rows = stream.accept(frames)
    window = frames[40:60].astype(np.float64)
    expected = (frames[59] - window.mean(axis=0)) / window.std(axis=0)
    np.testing.assert_allclose(rows[59], expected, atol=1e-4)


def test_a_frozen_state_stays():
    frames = frames_of(30)
    stream = OnlineCmvn(OnlineCmvnOptions(), OnlineCmvnState(statistics(frames_of(100, seed=1))))
    last = stream.accept(frames)[-1]
    stream.freeze()
    np.testing.assert_allclose(stream.accept(frames[-1:])[0], last, atol=1e-6)
    again = OnlineCmvn(OnlineCmvnOptions(), stream.state())
    np.testing.assert_allclose(again.accept(frames[-1:])[0], last, atol=1e-6)


def test_the_speakers_past_comes_before_the_global_prior():
    speaker = statistics(frames_of(50, seed=2) + 100)
    state = OnlineCmvnState(statistics(frames_of(100)), speaker)
    rows = OnlineCmvn(OnlineCmvnOptions(cmn_window=51), state).accept(frames_of(1) + 100)
    assert np.abs(rows).max() < 10
    options = OnlineCmvnOptions(cmn_window=51, speaker_frames=0)
    assert OnlineCmvn(options, state).accept(frames_of(1) + 100).min() > 50


def test_skipped_dimensions_stay():
    frames = frames_of(10)
    rows = normalize(frames, statistics(frames), CmvnOptions(skip_dims="0:2"))
    np.testing.assert_array_equal(rows[:, [0, 2]], frames[:, [0, 2]])
    assert abs(rows[:, 1].mean()) < 1e-5


def test_statistics_with_weights():
    frames = frames_of(4)
    weights = np.array([0, 1, 0, 1], np.float32)
    np.testing.assert_allclose(statistics(frames, weights), statistics(frames[1::2]), rtol=1e-6)


@pytest.mark.parametrize(
    ("stats", "options", "message"),
    [
        (np.zeros((2, 4)), CmvnOptions(), "statistics of 0 frames; expected: at least 1"),
        (np.ones((2, 5)), CmvnOptions(), "CMVN statistics of 4 dimensions; the features have 3"),
        (np.ones((1, 4)), CmvnOptions(norm_vars=True), "--norm-vars=true needs variances"),
        (np.ones((3, 4)), CmvnOptions(), "expected: CMVN statistics, 2 rows"),
    ],
)
def test_statistics_that_do_not_fit(stats, options, message):
    with pytest.raises(NnetError, match=f"cmvn.ark: .*{message}"):
        normalize(frames_of(3), stats, options, "cmvn.ark")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm_means": False, "norm_vars": True}, "needs --norm-means=true"),
        ({"skip_dims": "a"}, "expected: dimensions such as 13:14:15"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(NnetError, match=message):
        CmvnOptions(**options)


def test_features_of_another_dimension_online():
    stream = OnlineCmvn(OnlineCmvnOptions(), OnlineCmvnState(global_statistics()))
    with pytest.raises(NnetError, match="statistics of 40 dimensions; the features have 3"):
        stream.accept(frames_of(2))
