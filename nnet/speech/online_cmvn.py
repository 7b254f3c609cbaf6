"""Normalization that looks at past frames alone (Kaldi's OnlineCmvn)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.modelfile.adaptation import OnlineCmvnState
from nnet.speech.cmvn import CmvnOptions, check_statistics, normalizer

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class OnlineCmvnOptions(CmvnOptions):
    """Kaldi's OnlineCmvnOptions.

    Args:
        cmn_window: frames of the window that ends with the frame.
        speaker_frames: while the window is not full: most frames from the speaker's past.
        global_frames: then most frames from the global statistics.
    """

    cmn_window: int = 600
    speaker_frames: int = 600
    global_frames: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cmn_window < 1 or self.speaker_frames < 0 or self.global_frames < 0:
            raise NnetError(
                f"--cmn-window is {self.cmn_window}, --speaker-frames {self.speaker_frames} and "
                f"--global-frames {self.global_frames}; expected: at least 1, 0 and 0"
            )


class OnlineCmvn:
    """Normalizes frames that come in pieces.

    Args:
        options: window and priors.
        state: global statistics, and what is known about the speaker.
    """

    def __init__(self, options: OnlineCmvnOptions, state: OnlineCmvnState) -> None:
        for name, stats in (("speaker", state.speaker), ("frozen", state.frozen)):
            if stats is not None:
                check_statistics(stats, state.dim, f"{name} CMVN statistics")
        self._options = options
        self._state = state
        self._window = np.zeros((0, state.dim))
        self._sums = np.zeros((2, state.dim + 1))
        self._total = np.zeros((2, state.dim + 1))
        self._frozen = state.frozen

    def accept(self, frames: Floats) -> Floats:
        """These frames, normalized, (frames, dim).

        Raises:
            NnetError: the frames have another dimension than the global statistics.
        """
        check_statistics(self._state.globals, frames.shape[1], "global CMVN statistics")
        if not self._options.norm_means or len(frames) == 0:
            self._add(frames)
            return frames
        stats = self._add(frames)
        stats = self._smoothed(stats) if self._frozen is None else self._frozen[None]
        norm_vars = self._options.norm_vars
        offset, scale = normalizer(stats, norm_vars, self._options.skipped())
        return (frames * scale if norm_vars else frames) + offset

    def freeze(self) -> None:
        """From now on all frames are normalized as the last one was."""
        if self._frozen is None:
            self._frozen = self._smoothed(self._sums[None])[0]

    def state(self) -> OnlineCmvnState:
        """The state with these frames added to what is known about the speaker."""
        known = self._state.speaker
        speaker = self._total if known is None else known + self._total
        if known is None and self._total[0, -1] == 0:
            return self._state
        return OnlineCmvnState(self._state.globals, speaker, self._frozen)

    def _add(self, frames: Floats) -> Doubles:
        """Statistics of the window of each frame, (frames, 2, dim + 1)."""
        count, size = len(frames), self._options.cmn_window
        new = np.ones((count, 2, frames.shape[1] + 1))
        new[:, 0, :-1] = frames
        new[:, 1, :-1] = frames.astype(np.float64) ** 2
        new[:, 1, -1] = 0.0
        self._total = self._total + new.sum(axis=0)
        rows = np.concatenate((self._window, frames.astype(np.float64)))
        held = len(self._window)
        leaving = np.zeros_like(new)
        first = max(0, size - held)  # of these frames, the first for which one leaves the window
        if first < count:
            old = rows[held + first - size : held + count - size]
            leaving[first:, 0, :-1] = old
            leaving[first:, 1, :-1] = old**2
            leaving[first:, 0, -1] = 1.0
        stats: Doubles = self._sums + np.cumsum(new - leaving, axis=0, dtype=np.float64)
        self._sums = stats[-1] if count else self._sums
        self._window = rows[max(0, len(rows) - size) :]
        return stats

    def _smoothed(self, stats: Doubles) -> Doubles:
        """Statistics filled up from the speaker's and then from the global ones."""
        options = self._options
        speaker = self._state.speaker
        if speaker is not None and speaker[0, -1] > 0:
            most = min(options.speaker_frames, speaker[0, -1])
            stats = self._filled(stats, speaker, most)
        return self._filled(stats, self._state.globals, options.global_frames)

    def _filled(self, stats: Doubles, prior: Doubles, most: float) -> Doubles:
        missing = np.maximum(0.0, self._options.cmn_window - stats[:, 0, -1])
        share = np.minimum(missing, most) / prior[0, -1]
        return stats + share[:, None, None] * prior
