"""i-vectors while the person speaks (Kaldi's OnlineIvectorFeature)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.modelfile.adaptation import AdaptationState, OnlineCmvnState
from nnet.speech.ivectors.estimation import accumulate, default_ivector, estimate, exact, scaled
from nnet.speech.ivectors.extraction import IvectorExtraction
from nnet.speech.ivectors.posteriors import pruned_posteriors, threshold_for_weights
from nnet.speech.online_cmvn import OnlineCmvn
from nnet.speech.transforms import SpliceStream, transform

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
REMEMBERED = 2000
"""Frames before the newest whose weights can still be changed."""


class OnlineIvectors:
    """Estimates i-vectors of one utterance from features that come in pieces.

    Without weights every frame counts fully. With `update_weights` a frame counts as much as the
    weights that it was given say in sum; a frame without one does not count. A recognizer
    gives silence a small weight and corrects itself when its best path changes.

    Args:
        extraction: the extractor.
        state: what is known about the speaker; None: nothing.

    Raises:
        NnetError: the state belongs to another extractor.
    """

    def __init__(self, extraction: IvectorExtraction, state: AdaptationState | None = None) -> None:
        state = state or extraction.initial_state()
        if (
            state.ivector.ivector_dim != extraction.ivector_dim
            or state.cmvn.dim != extraction.feature_dim
        ):
            raise NnetError(
                f"the adaptation state is of i-vectors of {state.ivector.ivector_dim} and features "
                f"of {state.cmvn.dim} dimensions; the extractor has {extraction.ivector_dim} and "
                f"{extraction.feature_dim}"
            )
        self._extraction = extraction
        self._options = extraction.options
        self._cmvn = OnlineCmvn(extraction.cmvn, state.cmvn)
        dim = extraction.feature_dim
        self._raw, self._normal = (SpliceStream(extraction.splice, dim) for _ in range(2))
        self._frames = [np.zeros((0, extraction.ubm.dim), np.float32) for _ in range(2)]
        self._dropped = 0
        self._finished = False
        self._stats = state.ivector
        self._current = default_ivector(state.ivector)
        self._history: list[Doubles] = []
        self._done = 0
        self._weights: dict[int, float] | None = None
        self._log_likelihood = self._counted = 0.0

    @property
    def dim(self) -> int:
        """Numbers in an i-vector."""
        return self._extraction.ivector_dim

    @property
    def frames_ready(self) -> int:
        """Frames for which `ivector` can be asked; the splicing's right context is missing."""
        return self._dropped + len(self._frames[0])

    @property
    def log_likelihood(self) -> float:
        """Of the frames with the UBM, in nats a frame: how well the model fits."""
        return self._log_likelihood / self._counted if self._counted else 0.0

    def accept(self, frames: Floats) -> None:
        """New frames of features, (frames, feature_dim), before any normalization.

        Raises:
            NnetError: they have another dimension than the extractor's.
        """
        self._extraction.check_features(frames.shape[1], "i-vectors")
        self._append(self._raw.accept(frames), self._normal.accept(self._cmvn.accept(frames)))

    def finish(self) -> None:
        """No more frames will come: the last ones have all the context that they get."""
        if not self._finished:
            self._finished = True
            self._append(self._raw.finish(), self._normal.finish())

    def update_weights(self, changes: Sequence[tuple[int, float]]) -> None:
        """Adds to the weights of frames.

        Args:
            changes: frames, and what is added to their weights.

        Raises:
            NnetError: frames were already counted without weights, or lie too far back.
        """
        if self._weights is None:
            if self._done:
                raise NnetError("i-vectors: weights after frames that were counted without any")
            self._weights = {}
        for frame, change in changes:
            if frame < self._dropped:
                raise NnetError(
                    f"i-vectors: a weight for frame {frame}; only the last {REMEMBERED} frames "
                    "are remembered"
                )
            self._weights[frame] = self._weights.get(frame, 0.0) + change

    def ivector(self, frame: int) -> Floats:
        """The i-vector for a frame, (dim,), with the prior's mean taken away, as networks get it.

        Raises:
            NnetError: the frame is not ready.
        """
        if not 0 <= frame < self.frames_ready:
            raise NnetError(
                f"i-vectors: frame {frame} is not ready; expected: below {self.frames_ready}"
            )
        greedy = self._options.greedy_ivector_extractor
        self._update(self.frames_ready - 1 if greedy else frame)
        ivector = self._current
        if not (self._options.use_most_recent_ivector or greedy):
            ivector = self._history[frame // self._options.ivector_period]
        ivector = ivector.copy()
        ivector[0] -= self._extraction.extractor.prior_offset
        return ivector.astype(np.float32)

    def state(self) -> AdaptationState:
        """What this utterance hands on to the speaker's next one.

        Statistics of more than `max_remembered_frames` frames are scaled down.
        """
        most = self._options.max_remembered_frames
        cmvn, stats = self._cmvn.state(), self._stats
        if cmvn.speaker is not None and cmvn.speaker[0, -1] > most:
            speaker = cmvn.speaker * (most / cmvn.speaker[0, -1])
            cmvn = OnlineCmvnState(cmvn.globals, speaker, cmvn.frozen)
        most *= self._options.posterior_scale
        if stats.frames > most:
            stats = scaled(stats, most / stats.frames)
        return AdaptationState(cmvn, stats)

    def _append(self, raw: Floats, normal: Floats) -> None:
        matrix = self._extraction.transform
        for i, spliced in enumerate((raw, normal)):
            if len(spliced):
                new = transform(spliced, matrix)
                self._frames[i] = np.concatenate((self._frames[i], new))
        surplus = min(self._done, self.frames_ready - REMEMBERED) - self._dropped
        if surplus > REMEMBERED // 2:
            self._dropped += surplus
            self._frames = [frames[surplus:] for frames in self._frames]

    def _update(self, last: int) -> None:
        """Counts all frames up to `last`, and estimates at every period or at the end."""
        recent = self._options.use_most_recent_ivector or self._options.greedy_ivector_extractor
        while self._done <= last:
            period = self._options.ivector_period
            end = last if recent else min(last, -(-self._done // period) * period)
            self._count(self._done, end)
            self._done = end + 1
            if recent or end % period == 0:
                self._current = estimate(self._stats, self._current, self._options.num_cg_iters)
                if not recent:
                    self._history.append(self._current)

    def _count(self, first: int, last: int) -> None:
        """Adds frames `first` to `last`, or all changes of weights up to `last`."""
        if self._weights is None:
            frames, weights = np.arange(first, last + 1), np.ones(last + 1 - first, np.float32)
        else:
            due = sorted(frame for frame in self._weights if frame <= last)
            frames = np.array(due, np.int64)
            weights = np.array([self._weights.pop(frame) for frame in due], np.float32)
            frames, weights = frames[weights != 0], weights[weights != 0]
        if len(frames) == 0:
            return
        options, rows = self._options, frames - self._dropped
        raw, normal = (held[rows] for held in self._frames)
        thresholds = threshold_for_weights(options.min_post, weights)
        posteriors = pruned_posteriors(
            self._extraction.ubm.log_likelihoods(normal), options.num_gselect, thresholds
        )
        self._log_likelihood += float(weights @ posteriors.log_likelihoods)
        self._counted += float(weights.sum())
        self._stats = accumulate(
            self._stats,
            self._extraction.projections,
            normal if options.online_cmvn_iextractor else raw,
            posteriors.scaled(weights * np.float32(options.posterior_scale)),
        )


def utterance_ivectors(
    extraction: IvectorExtraction,
    frames: Floats,
    state: AdaptationState | None = None,
    *,
    weights: Floats | None = None,
    repeat: bool = False,
) -> tuple[Floats, AdaptationState]:
    """i-vectors of a whole utterance as a recognizer would have estimated them while it came in.

    Kaldi's ivector-extract-online2: each depends on the frames up to its own alone.

    Args:
        extraction: the extractor; `use_most_recent_ivector` counts as false.
        frames: features, (frames, feature_dim).
        state: what is known about the speaker.
        weights: of the frames, (frames,).
        repeat: an i-vector for each frame instead of one a period.

    Returns:
        the i-vectors, (i-vectors, dim), and what is known about the speaker now.
    """
    extraction = extraction.with_options(
        use_most_recent_ivector=False, greedy_ivector_extractor=False
    )
    stream = OnlineIvectors(extraction, state)
    stream.accept(frames)
    stream.finish()
    if weights is not None:
        stream.update_weights(list(enumerate(weights.tolist())))
    step = 1 if repeat else extraction.options.ivector_period
    rows = [stream.ivector(frame) for frame in range(0, len(frames), step)]
    ivectors = np.array(rows, np.float32).reshape(len(rows), stream.dim)
    return ivectors, stream.state()


def offline_ivector(
    extraction: IvectorExtraction, utterances: Iterable[tuple[Floats, Floats | None]]
) -> Floats:
    """One i-vector, (dim,), of all frames of some utterances, as the exact solution.

    Args:
        extraction: the extractor.
        utterances: features (frames, feature_dim) and, if there are any, weights (frames,).
    """
    extraction = extraction.with_options(
        greedy_ivector_extractor=True, max_remembered_frames=math.inf
    )
    state: AdaptationState | None = None
    for frames, weights in utterances:
        stream = OnlineIvectors(extraction, state)
        stream.accept(frames)
        stream.finish()
        if weights is not None:
            stream.update_weights(list(enumerate(weights.tolist())))
        if len(frames):
            stream.ivector(len(frames) - 1)
        state = stream.state()
    ivector = exact((state or extraction.initial_state()).ivector)
    ivector[0] -= extraction.extractor.prior_offset
    return ivector.astype(np.float32)
