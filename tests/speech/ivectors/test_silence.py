"""Weights of frames from a recognizer's best path."""

import pytest

from nnet.errors import NnetError
from nnet.speech.ivectors.silence import SilenceWeighting, SilenceWeightingOptions

PHONES = [0, 1, 1, 2, 2]
"""Transition-ids 1 and 2 are of phone 1, silence; 3 and 4 of phone 2."""


def weighting(factor=1, **options):
    return SilenceWeighting(
        SilenceWeightingOptions("1", 0.25, **options), PHONES, frame_subsampling_factor=factor
    )


def weights_after(follower, total, *updates):
    """Sums of changes, one update (path, frames ready) after the other."""
    for path, ready in updates:
        follower.follow(path)
        for frame, change in follower.changes(ready):
            total[frame] = total.get(frame, 0.0) + change
    return [total[frame] for frame in sorted(total)]


def test_silence_gets_its_weight():
    assert weights_after(weighting(), {}, ([1, 2, 3, 4, 1], 5)) == [0.25, 0.25, 1, 1, 0.25]


def test_frames_before_any_path_count_as_silence():
    assert weights_after(weighting(), {}, ([], 3)) == [0.25] * 3


def test_frames_after_the_path_are_as_its_last():
    assert weights_after(weighting(), {}, ([1, 3], 4)) == [0.25, 1, 1, 1]


def test_a_path_that_changes_its_mind():
    updates = (([3, 3], 4), ([1, 1, 3], 4), ([1, 1, 3, 1], 6))
    assert weights_after(weighting(), {}, *updates) == [0.25, 0.25, 1, 0.25, 0.25, 0.25]


def test_subsampling():
    assert weights_after(weighting(3), {}, ([1, 3], 6)) == [0.25] * 3 + [1] * 3


def test_a_state_that_lasts_too_long_is_silence():
    path = [3, 3, 3, 4, 4, 3]
    weights = weights_after(weighting(max_state_duration=3), {}, (path, 6))
    assert weights == [0.25, 0.25, 0.25, 1, 1, 1]


def test_old_frames_stay_as_they_are():
    follower = weighting()
    weights_after(follower, {}, ([3] * 150, 150))
    follower.follow([1] * 150)
    frames = [frame for frame, _ in follower.changes(150)]
    assert frames == list(range(50, 150))


def test_the_newest_frame_is_always_told_of():
    follower = weighting()
    assert weights_after(follower, {}, ([3, 3], 2)) == [1, 1]
    follower.follow([3, 3])
    assert follower.changes(2) == [(1, 0.0)]


def test_nothing_is_said_about_no_frames():
    assert weighting().changes(0) == []


def test_phones_are_checked():
    with pytest.raises(NnetError, match="--silence-phones is '1:a'"):
        SilenceWeightingOptions("1:a")
    assert not SilenceWeightingOptions("", 0.5).active
    assert SilenceWeightingOptions("1:2,3", 0.5).active
