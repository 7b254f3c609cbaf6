"""Which word was said: the best path through each word's states."""

import numpy as np

from examples.speech.recordings import states_of
from examples.speech.utterance import SILENCE


def log_priors(alignments: dict[str, np.ndarray], count: int) -> np.ndarray:
    """`(count,)`: log of how often each target occurs in the alignments.

    A target counts as at least half as frequent as the average one; otherwise one that training
    hardly had, such as the silence of closely cut recordings, would seem sure wherever it is
    thought of at all.
    """
    occurrences = np.bincount(np.concatenate(list(alignments.values())), minlength=count)
    return np.log(np.maximum(occurrences / occurrences.sum(), 0.5 / count))


def recognize(
    log_posteriors: np.ndarray, priors: np.ndarray, labels: list[str], words: list[str]
) -> str:
    """The word whose best path explains the frames best.

    log_posteriors: `(frames, targets)` in nats. priors: `(targets,)`, log. A frame's likelihood
    under a target is taken as posterior over prior (Bourlard and Morgan, "Connectionist Speech
    Recognition", 1994).
    """
    likelihoods = log_posteriors - priors
    scores = [_best_path(likelihoods[:, _path_of(word, labels)]) for word in words]
    return words[int(np.argmax(scores))]


def _path_of(word: str, labels: list[str]) -> list[int]:
    return [labels.index(label) for label in (SILENCE, *states_of([word]), SILENCE)]


def _best_path(likelihoods: np.ndarray) -> float:
    """Viterbi score of `(frames, states)` left to right; silences at the ends may be skipped."""
    scores = np.full(likelihoods.shape[1], -np.inf)
    scores[:2] = likelihoods[0, :2]
    for frame in likelihoods[1:]:
        scores[1:] = np.maximum(scores[1:], scores[:-1])
        scores += frame
    return float(max(scores[-1], scores[-2]))
