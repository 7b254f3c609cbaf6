"""Weights of frames from a recognizer's best path: silence says little about the speaker.

Kaldi's OnlineSilenceWeighting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError

Booleans = NDArray[np.bool_]
UNKNOWN = -1
FURTHEST = 100
"""Frames of the recognizer before the newest whose weights are corrected."""


@dataclass(frozen=True)
class SilenceWeightingOptions:
    """Kaldi's OnlineSilenceWeightingConfig (`--ivector-silence-weighting.…`).

    Args:
        silence_phones: phones such as `1:2:3`; none: all frames count fully.
        silence_weight: weight of frames with these phones.
        max_state_duration: frames after which a repeated transition-id counts as silence; below 1:
            never.
    """

    silence_phones: str = ""
    silence_weight: float = 1.0
    max_state_duration: float = -1.0

    def __post_init__(self) -> None:
        self.phones()

    def phones(self) -> frozenset[int]:
        """The phones of `silence_phones`."""
        words = [word for word in self.silence_phones.replace(",", ":").split(":") if word]
        if not all(word.isdigit() for word in words):
            raise NnetError(
                f"--silence-phones is '{self.silence_phones}'; expected: phones such as 1:2:3"
            )
        return frozenset(int(word) for word in words)

    @property
    def active(self) -> bool:
        """Whether any frame gets another weight."""
        return bool(self.phones()) and self.silence_weight != 1.0


class SilenceWeighting:
    """Follows the best path of one utterance.

    Args:
        options: which phones, and which weight.
        phones: the phone of each transition-id; the first entry belongs to none.
        frame_subsampling_factor: frames of features for one of the recognizer.
    """

    def __init__(
        self,
        options: SilenceWeightingOptions,
        phones: Sequence[int],
        frame_subsampling_factor: int = 1,
    ) -> None:
        silence = options.phones()
        self._options = options
        self._is_silence: Booleans = np.array([phone in silence for phone in phones])
        self._factor = frame_subsampling_factor
        self._path = np.zeros(0, np.int64)
        self._weights = np.zeros(0)

    def follow(self, path: Sequence[int]) -> None:
        """The best path as it is now: transition-ids of all frames that are decoded."""
        known = max(len(path), len(self._path))
        self._path = np.full(known, UNKNOWN)
        self._path[: len(path)] = path

    def changes(self, frames_ready: int, first_frame: int = 0) -> list[tuple[int, float]]:
        """Changes of weights for `OnlineIvectors.update_weights`.

        Args:
            frames_ready: frames of features that are there; those that are not decoded yet get the
                weight of the last one that is.
            first_frame: the frame of features that the recognizer's first one belongs to.
        """
        count = max(0, -(-(frames_ready - first_frame) // self._factor))
        before = len(self._weights)
        frames = max(count, len(self._path), before)
        path = np.full(frames, UNKNOWN)
        path[: len(self._path)] = self._path
        weights = np.zeros(frames)
        weights[:before] = self._weights
        begin = max(0, before - FURTHEST)
        if begin == frames:
            return []
        new = self._new_weights(path[begin:], weights[begin - 1] if begin else None)
        differences = new - weights[begin:]
        weights[begin:] = new
        self._weights = weights
        changed = differences != 0.0
        changed[-1] = True  # the newest frame is always told of
        return [
            (first_frame + (begin + int(frame)) * self._factor + i, float(differences[frame]))
            for frame in np.flatnonzero(changed)
            for i in range(self._factor)
        ]

    def _new_weights(self, path: NDArray[np.int64], previous: float | None) -> NDArray[np.float64]:
        """Weights of these frames; `previous` is that of the frame before."""
        silence_weight = self._options.silence_weight
        if path[0] == UNKNOWN:
            return np.full(len(path), silence_weight if previous is None else previous)
        decoded = int((path != UNKNOWN).sum())
        ids = path[:decoded]
        silent = self._is_silence[ids]
        longest = self._options.max_state_duration
        if longest > 0:
            starts = np.flatnonzero(np.diff(ids, prepend=UNKNOWN))
            lengths = np.diff(starts, append=decoded)
            silent = silent | np.repeat(lengths >= longest, lengths)
        weights = np.where(silent, silence_weight, 1.0)
        return np.concatenate((weights, np.full(len(path) - decoded, weights[-1])))
