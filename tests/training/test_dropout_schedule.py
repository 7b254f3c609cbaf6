"""Dropout schedules in train.py's notation."""

from __future__ import annotations

import pytest

from nnet.errors import NnetError
from nnet.training.dropout_schedule import DropoutSchedule


@pytest.mark.parametrize(
    ("text", "done", "expected"),
    [
        ("0.1,0.5@0.5,0.1", 0.0, 0.1),
        ("0.1,0.5@0.5,0.1", 0.25, 0.3),
        ("0.1,0.5,0.1", 0.75, 0.3),
        ("0,0@0.20,0.5@0.5,0", 0.2, 0.0),
        ("0,0@0.20,0.5@0.5,0", 0.35, 0.25),
        ("0,0@0.20,0.5@0.5,0", 1.0, 0.0),
        ("0.0,0.3@0.75,0.0", 0.75, 0.3),
        ("0,0.2@0.4,0.5@0.4,0", 0.4, 0.5),
    ],
)
def test_proportions_lie_on_straight_lines(text: str, done: float, expected: float) -> None:
    assert DropoutSchedule.parse(text).proportions(["a"], done)["a"] == pytest.approx(expected)


def test_a_later_pattern_overrules() -> None:
    schedule = DropoutSchedule.parse("*=0.2,0.2 lstm*=0.5,0.5")
    assert schedule.proportions(["lstm1", "tdnn"], 0.3) == {"lstm1": 0.5, "tdnn": 0.2}
    assert DropoutSchedule.parse("lstm*=0,1").proportions(["tdnn"], 0.3) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("0.5", "'0.5' has no proportion for the end"),
        ("0,x,0", "'x' is not a number"),
        ("0,1.5,0", "1.5 is not between 0 and 1"),
        ("0,0.1@0.5,0.2@0.3,0", "the shares of '0,0.1@0.5,0.2@0.3,0' do not rise"),
    ],
)
def test_wrong_schedules_are_explained(text: str, message: str) -> None:
    with pytest.raises(NnetError, match=message):
        DropoutSchedule.parse(text)
