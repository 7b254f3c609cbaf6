"""How good a network is on the test split."""

from dataclasses import dataclass

from examples.speech.experiment import Experiment
from examples.speech.scores import Score, Table, scores_by_speaker, total_score
from examples.speech.words import log_priors, recognize


@dataclass(frozen=True)
class Result:
    """One network on the test split.

    posteriors: log posteriors `(frames, targets)` by utterance. words: how many utterances' words
    were recognised, None if they are sentences.
    """

    title: str
    posteriors: Table
    frames: Score
    speakers: dict[str, Score]
    words: Score | None


def evaluate(experiment: Experiment, title: str, posteriors: Table) -> Result:
    data = experiment.data
    alignments = data.alignments("test")
    return Result(
        title=title,
        posteriors=posteriors,
        frames=total_score(posteriors, alignments),
        speakers=scores_by_speaker(posteriors, alignments, data.speakers("test")),
        words=_word_score(experiment, posteriors) if experiment.words else None,
    )


def _word_score(experiment: Experiment, posteriors: Table) -> Score:
    data, words = experiment.data, experiment.words
    labels, said = data.labels, data.text("test")
    priors = log_priors(data.alignments("train"), len(labels))
    right = sum(
        recognize(rows, priors, labels, words) == said[name] for name, rows in posteriors.items()
    )
    return Score(right, len(posteriors))
