"""i-vectors: Kaldi's numbers, weights, and what is remembered of a speaker."""

import numpy as np
import pytest

from nnet.errors import NnetError
from nnet.modelfile.adaptation import read_adaptation_state, write_adaptation_state
from nnet.modelfile.packed_matrix import unpack
from nnet.speech.ivectors.estimation import (
    accumulate,
    conjugate_gradients,
    estimate,
    exact,
    objective_change,
    prior,
    scaled,
)
from nnet.speech.ivectors.extraction import IvectorOptions, read_extraction
from nnet.speech.ivectors.online import OnlineIvectors, utterance_ivectors
from nnet.speech.ivectors.posteriors import Posteriors, pruned_posteriors, threshold_for_weights
from tests.speech.digits import DIGITS, golden

EXTRACTION = read_extraction(DIGITS / "extractor")
FRAMES = golden("mfcc_hires")
UTTERANCES = sorted(FRAMES)[:4]


@pytest.mark.parametrize(
    ("name", "options"),
    [("ivectors_spk", {}), ("ivectors_utt", {}), ("ivectors_max10", {"max_count": 10.0})],
)
def test_the_numbers_are_kaldis(name, options):
    extraction, state = EXTRACTION.with_options(**options), None
    for utterance in UTTERANCES:
        ivectors, after = utterance_ivectors(extraction, FRAMES[utterance], state)
        if name != "ivectors_utt":
            state = after
        expected = golden(name)[utterance]
        assert ivectors.shape == expected.shape
        np.testing.assert_allclose(ivectors, expected, atol=1e-4)


def test_pieces_give_the_same_ivectors():
    frames = FRAMES["theo-000"]
    expected, _ = utterance_ivectors(EXTRACTION, frames)
    stream = OnlineIvectors(EXTRACTION.with_options(use_most_recent_ivector=False))
    rows = []
    for start in range(0, len(frames), 9):
        stream.accept(frames[start : start + 9])
        while len(rows) * 10 < stream.frames_ready:
            rows.append(stream.ivector(len(rows) * 10))
    stream.finish()
    assert stream.frames_ready == len(frames)
    rows += [stream.ivector(frame) for frame in range(len(rows) * 10, len(frames), 10)]
    np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_the_most_recent_ivector_is_that_of_all_frames_so_far():
    frames = FRAMES["theo-000"]
    stream = OnlineIvectors(EXTRACTION.with_options(greedy_ivector_extractor=True))
    stream.accept(frames)
    stream.finish()
    late = stream.ivector(0)
    np.testing.assert_array_equal(late, stream.ivector(len(frames) - 1))
    other = OnlineIvectors(EXTRACTION)
    other.accept(frames)
    assert np.abs(other.ivector(0) - late).max() > 0.01


def test_weights_of_one_are_no_weights():
    frames = FRAMES["theo-001"]
    plain, _ = utterance_ivectors(EXTRACTION, frames)
    weighted, _ = utterance_ivectors(EXTRACTION, frames, weights=np.ones(len(frames), np.float32))
    np.testing.assert_allclose(weighted, plain, atol=1e-6)


def test_frames_without_weight_do_not_count():
    frames = FRAMES["theo-001"]
    weights = np.zeros(len(frames), np.float32)
    ivectors, state = utterance_ivectors(EXTRACTION, frames, weights=weights)
    np.testing.assert_allclose(ivectors, 0, atol=1e-5)
    assert state.ivector.frames == 0


def test_a_weight_that_is_taken_back_leaves_nothing():
    stream = OnlineIvectors(EXTRACTION)
    stream.accept(FRAMES["theo-001"])
    stream.update_weights([(frame, 1.0) for frame in range(40)])
    with_all = stream.ivector(39)
    stream.update_weights([(frame, -1.0) for frame in range(20, 40)])
    stream.update_weights([(40, 0.0)])
    without = stream.ivector(40)
    other = OnlineIvectors(EXTRACTION)
    other.accept(FRAMES["theo-001"])
    other.update_weights([(frame, 1.0) for frame in range(20)])
    np.testing.assert_allclose(without, other.ivector(40), atol=1e-3)
    assert np.abs(with_all - without).max() > 0.01


def test_weights_after_frames_without_any():
    stream = OnlineIvectors(EXTRACTION)
    stream.accept(FRAMES["theo-001"])
    stream.ivector(10)
    with pytest.raises(NnetError, match="weights after frames that were counted without any"):
        stream.update_weights([(0, 1.0)])


def test_long_streams_forget_old_frames():
    frames = np.tile(FRAMES["theo-003"], (20, 1))
    stream = OnlineIvectors(EXTRACTION)
    for start in range(0, len(frames), 500):
        stream.accept(frames[start : start + 500])
        last = stream.ivector(stream.frames_ready - 1)
    assert len(stream._frames[0]) < 4000  # what it holds does not grow with the stream
    stream.finish()
    assert stream.frames_ready == len(frames)
    whole = OnlineIvectors(EXTRACTION)
    whole.accept(frames)
    np.testing.assert_allclose(whole.ivector(len(frames) - 4), last, atol=0.01)


def test_a_weight_that_comes_too_late():
    stream = OnlineIvectors(EXTRACTION)
    frames = np.tile(FRAMES["theo-003"], (12, 1))
    stream.update_weights([(frame, 1.0) for frame in range(len(frames))])
    for part in (frames[:4000], frames[4000:]):
        stream.accept(part)
        stream.ivector(stream.frames_ready - 1)
    with pytest.raises(NnetError, match="frame 0; only the last 2000 frames"):
        stream.update_weights([(0, 1.0)])


def test_a_frame_that_is_not_ready():
    stream = OnlineIvectors(EXTRACTION)
    stream.accept(FRAMES["theo-001"][:10])
    assert stream.frames_ready == 7
    with pytest.raises(NnetError, match="frame 7 is not ready; expected: below 7"):
        stream.ivector(7)


def test_a_state_is_saved_and_loaded(tmp_path):
    _, state = utterance_ivectors(EXTRACTION, FRAMES["theo-000"])
    for binary in (True, False):
        write_adaptation_state(state, tmp_path / "state", binary)
        loaded = read_adaptation_state(tmp_path / "state")
        expected, _ = utterance_ivectors(EXTRACTION, FRAMES["theo-001"], state)
        ivectors, _ = utterance_ivectors(EXTRACTION, FRAMES["theo-001"], loaded)
        np.testing.assert_allclose(ivectors, expected, atol=1e-6 if binary else 1e-2)


def test_an_utterance_hands_on_a_limited_number_of_frames():
    extraction = EXTRACTION.with_options(max_remembered_frames=50.0)
    _, state = utterance_ivectors(extraction, FRAMES["theo-003"])
    assert state.ivector.frames == pytest.approx(50 * 0.1)
    assert state.cmvn.speaker[0, -1] == pytest.approx(50)
    assert unpack(state.ivector.quadratic)[0, 0] > 1.0


def test_scaled_statistics_keep_the_prior():
    stats = prior(EXTRACTION.extractor)
    frames = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)
    posteriors = Posteriors(np.zeros((30, 1), int), np.ones((30, 1), np.float32), np.zeros(30))
    stats = accumulate(stats, EXTRACTION.projections, frames, posteriors)
    half = scaled(stats, 0.5)
    identity = unpack(half.quadratic) - 0.5 * unpack(stats.quadratic)
    np.testing.assert_allclose(identity, 0.5 * np.eye(30), atol=1e-6)
    assert half.frames == 15


def test_beyond_max_count_the_prior_grows():
    frames = np.ones((40, 40), np.float32)
    posteriors = Posteriors(np.zeros((40, 1), int), np.ones((40, 1), np.float32), np.zeros(40))
    few, many = (
        accumulate(prior(EXTRACTION.extractor, limit), EXTRACTION.projections, frames, posteriors)
        for limit in (0.0, 10.0)
    )
    difference = unpack(many.quadratic) - unpack(few.quadratic)
    np.testing.assert_allclose(difference, 3.0 * np.eye(30), atol=1e-9)
    for stats in (few, many):
        again = scaled(stats, 0.25)
        assert again.frames == 10


def test_conjugate_gradients_solve():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(12, 12))
    matrix, target = root @ root.T + 0.1 * np.eye(12), rng.normal(size=12)
    solution = conjugate_gradients(matrix, target, np.zeros(12), -1)
    np.testing.assert_allclose(matrix @ solution, target, atol=1e-8)


def test_many_iterations_give_the_exact_ivector():
    _, state = utterance_ivectors(EXTRACTION, FRAMES["theo-000"])
    near = estimate(state.ivector, np.zeros(30), -1)
    np.testing.assert_allclose(near, exact(state.ivector), atol=1e-6)
    assert objective_change(state.ivector, near) > 0


def test_no_frames_give_the_prior():
    stats = prior(EXTRACTION.extractor)
    np.testing.assert_array_equal(estimate(stats, np.ones(30), 15), exact(stats))
    assert objective_change(stats, np.ones(30)) == 0.0


def test_pruned_posteriors():
    likelihoods = np.log(np.array([[0.6, 0.3, 0.06, 0.04], [1.0, 0, 0, 0]]) + 1e-30)
    posteriors = pruned_posteriors(likelihoods.astype(np.float32), 3, 0.1)
    np.testing.assert_allclose(np.sort(posteriors.values[0]), [0, 1 / 3, 2 / 3], atol=1e-5)
    assert posteriors.values[1].max() == 1.0
    np.testing.assert_allclose(posteriors.log_likelihoods, [np.log(0.9), 0.0], atol=1e-5)


def test_small_weights_prune_more():
    weights = np.array([1.0, -0.5, 0.0, 1e-6], np.float32)
    np.testing.assert_allclose(threshold_for_weights(0.025, weights), [0.025, 0.05, 0.99, 0.99])


def test_features_of_another_dimension():
    stream = OnlineIvectors(EXTRACTION)
    with pytest.raises(NnetError, match=r"features of 13 dimensions; .* trained on 40"):
        stream.accept(np.zeros((5, 13), np.float32))


def test_a_state_of_another_extractor(tmp_path):
    from nnet.modelfile.adaptation import AdaptationState, IvectorStatistics

    state = EXTRACTION.initial_state()
    other = AdaptationState(state.cmvn, IvectorStatistics(np.zeros(3), np.zeros(6), 0.0, 1.0))
    with pytest.raises(NnetError, match=r"state is of i-vectors of 3 and features of 40 .* has 30"):
        OnlineIvectors(EXTRACTION, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ivector_period": 0}, "--ivector-period is 0; expected: at least 1"),
        ({"min_post": 0.5}, "--min-post is 0.5"),
        ({"posterior_scale": 0.0}, "--posterior-scale is 0"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(NnetError, match=message):
        IvectorOptions(**options)
