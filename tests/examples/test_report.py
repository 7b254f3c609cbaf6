"""Scores and pictures."""

from pathlib import Path

import numpy as np
from matplotlib.image import imread

from examples.speech.pictures import Run, draw_confusion, draw_posteriors, runs
from examples.speech.scores import (
    Score,
    confusion,
    scores_by_speaker,
    total_score,
    typical_utterance,
)

ALIGNMENTS = {"a": np.array([0, 0, 1, 2]), "b": np.array([2, 2, 0])}
POSTERIORS = {"a": np.eye(3)[[0, 1, 1, 2]], "b": np.eye(3)[[2, 1, 0]]}
LABELS = ["SIL", "AA", "K"]


def test_frames_are_counted() -> None:
    score = total_score(POSTERIORS, ALIGNMENTS)
    assert score == Score(5, 7)
    assert round(score.percent, 1) == 71.4


def test_speakers_are_counted_apart() -> None:
    scores = scores_by_speaker(POSTERIORS, ALIGNMENTS, {"a": "anna", "b": "ben"})
    assert scores == {"anna": Score(3, 4), "ben": Score(2, 3)}


def test_confusion_has_the_truth_in_rows() -> None:
    expected = [[2, 1, 0], [0, 1, 0], [0, 1, 2]]
    assert confusion(POSTERIORS, ALIGNMENTS, 3).tolist() == expected


def test_the_typical_utterance_is_the_median_of_those_that_fit() -> None:
    alignments = {name: np.zeros(10, dtype=int) for name in "abcd"}
    right = {"a": 9, "b": 3, "c": 5, "d": 1}
    posteriors = {name: np.eye(2)[[0] * n + [1] * (10 - n)] for name, n in right.items()}
    posteriors["d"], alignments["d"] = posteriors["d"][:4], alignments["d"][:4]
    assert typical_utterance(posteriors, alignments, range(8, 12)) == "c"


def test_constant_stretches_are_found() -> None:
    assert runs(ALIGNMENTS["a"]) == [Run(0, 0, 2), Run(1, 2, 3), Run(2, 3, 4)]


def test_pictures_are_drawn(tmp_path: Path) -> None:
    matrix = confusion(POSTERIORS, ALIGNMENTS, 3)
    groups = {"pause": ["SIL"], "phones": ["K", "AA"]}
    draw_confusion(tmp_path / "c.png", matrix, LABELS, groups, "a title")
    features = np.random.default_rng(0).standard_normal((4, 40))
    posteriors = {"linear": POSTERIORS["a"], "TDNN-F": np.eye(3)[ALIGNMENTS["a"]]}
    targets = ALIGNMENTS["a"]
    draw_posteriors(tmp_path / "p.png", features, 16000, targets, posteriors, LABELS, "title")
    for name in ("c.png", "p.png"):
        height, width, _ = imread(tmp_path / name).shape
        assert min(height, width) > 600
