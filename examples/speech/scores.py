"""How often a network is right."""

from dataclasses import dataclass

import numpy as np

Table = dict[str, np.ndarray]


@dataclass(frozen=True)
class Score:
    """`right` of `total` frames or words."""

    right: int
    total: int

    @property
    def percent(self) -> float:
        return 100 * self.right / self.total

    def __add__(self, other: "Score") -> "Score":
        return Score(self.right + other.right, self.total + other.total)


def frame_score(posteriors: np.ndarray, targets: np.ndarray) -> Score:
    """Frames whose likeliest target is the true one. `(frames, count)` and `(frames,)`."""
    return Score(int(np.sum(posteriors.argmax(axis=1) == targets)), len(targets))


def total_score(posteriors: Table, alignments: Table) -> Score:
    """`frame_score` of all utterances together."""
    return sum(
        (frame_score(rows, alignments[name]) for name, rows in posteriors.items()), Score(0, 0)
    )


def scores_by_speaker(
    posteriors: Table, alignments: Table, speakers: dict[str, str]
) -> dict[str, Score]:
    """`total_score` of each speaker, given the speaker of each utterance."""
    scores: dict[str, Score] = {}
    for name, rows in posteriors.items():
        scores[speakers[name]] = scores.get(speakers[name], Score(0, 0)) + frame_score(
            rows, alignments[name]
        )
    return scores


def confusion(posteriors: Table, alignments: Table, count: int) -> np.ndarray:
    """`(count, count)` int64: frames of target i (row) that were taken for target j (column)."""
    matrix = np.zeros((count, count), dtype=np.int64)
    for name, rows in posteriors.items():
        np.add.at(matrix, (alignments[name], rows.argmax(axis=1)), 1)
    return matrix


def typical_utterance(posteriors: Table, alignments: Table, frames: range) -> str:
    """The utterance of median frame accuracy among those with a length in `frames`.

    If there are none, it is the median of all.
    """
    fitting = [name for name, rows in posteriors.items() if len(rows) in frames] or list(posteriors)
    ranked = sorted(
        fitting, key=lambda name: (frame_score(posteriors[name], alignments[name]).percent, name)
    )
    return ranked[len(ranked) // 2]
