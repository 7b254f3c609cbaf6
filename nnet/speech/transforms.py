"""What is done to whole matrices of frames: deltas, splicing, linear transforms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class DeltaOptions:
    """Kaldi's DeltaFeaturesOptions.

    Args:
        delta_order: derivatives that are appended.
        delta_window: frames to each side that a derivative is estimated from.
    """

    delta_order: int = 2
    delta_window: int = 2

    def __post_init__(self) -> None:
        if self.delta_order < 0 or self.delta_window < 1:
            raise NnetError(
                f"--delta-order is {self.delta_order} and --delta-window {self.delta_window}; "
                "expected: at least 0 and at least 1"
            )

    @property
    def context(self) -> int:
        """Frames to each side that a frame depends on."""
        return self.delta_order * self.delta_window


@dataclass(frozen=True)
class SpliceOptions:
    """Frames that are appended to each other.

    Args:
        left_context: frames before.
        right_context: frames after.
    """

    left_context: int = 4
    right_context: int = 4

    def __post_init__(self) -> None:
        if self.left_context < 0 or self.right_context < 0:
            raise NnetError(
                f"--left-context is {self.left_context} and --right-context "
                f"{self.right_context}; expected: at least 0"
            )

    @property
    def width(self) -> int:
        """Frames that are appended to each other."""
        return 1 + self.left_context + self.right_context


def parse_splice(text: str) -> SpliceOptions:
    """Splicing as a command's option has it, such as `3,3`.

    Raises:
        NnetError: it is not two numbers of frames.
    """
    left, _, right = text.partition(",")
    if not (left.strip().isdigit() and right.strip().isdigit()):
        raise NnetError(f"--splice is '{text}'; expected: two numbers of frames such as 3,3")
    return SpliceOptions(int(left), int(right))


def add_deltas(frames: Floats, options: DeltaOptions) -> Floats:
    """Frames with their derivatives, (frames, dim (order + 1)). Edge frames are repeated."""
    filters = [np.ones(1)]
    slope = np.arange(-options.delta_window, options.delta_window + 1.0)
    for _ in range(options.delta_order):
        filters.append(np.convolve(filters[-1], slope) / (slope**2).sum())
    count = len(frames)
    context = options.context
    padded = np.pad(frames, ((context, context), (0, 0)), mode="edge") if count else frames
    parts = [frames]
    for taps in filters[1:]:
        first = context - len(taps) // 2
        windows = (padded[first + i : first + i + count] for i in range(len(taps)))
        scaled = (window * np.float32(tap) for window, tap in zip(windows, taps, strict=True))
        parts.append(np.sum(list(scaled), axis=0))
    return np.concatenate(parts, axis=1)


def splice(frames: Floats, options: SpliceOptions) -> Floats:
    """Each frame with its neighbours, (frames, dim width). Edge frames are repeated."""
    if len(frames) == 0:
        return np.zeros((0, frames.shape[1] * options.width), np.float32)
    padding = ((options.left_context, options.right_context), (0, 0))
    return splice_inside(np.pad(frames, padding, mode="edge"), options)


def splice_inside(frames: Floats, options: SpliceOptions) -> Floats:
    """Those frames that have all their neighbours, with these."""
    count = len(frames) - options.width + 1
    return np.concatenate([frames[i : i + count] for i in range(options.width)], axis=1)


def check_transform(matrix: Floats, dim: int, name: str) -> None:
    """Raises NnetError unless a matrix is a linear or affine transform of frames of `dim`."""
    if matrix.shape[1] not in (dim, dim + 1):
        raise NnetError(
            f"{name}: a matrix of {matrix.shape[0]} by {matrix.shape[1]}; expected: {dim} columns, "
            f"the dimension of the (spliced) features, or {dim + 1} for an affine transform"
        )


def transform(frames: Floats, matrix: Floats) -> Floats:
    """Frames times a linear or affine transform, such as LDA.

    Args:
        frames: (frames, dim).
        matrix: (new dim, dim), or (new dim, dim + 1) with offsets in its last column.
    """
    dim = frames.shape[1]
    product = frames @ matrix[:, :dim].T
    return product + matrix[:, dim] if matrix.shape[1] > dim else product


class SpliceStream:
    """Splices frames that come in pieces; a context of the last frames is kept."""

    def __init__(self, options: SpliceOptions, dim: int) -> None:
        self._options = options
        self._held = np.zeros((0, dim), np.float32)
        self._began = False

    def accept(self, frames: Floats) -> Floats:
        """The spliced frames that these complete."""
        if len(frames) and not self._began:
            self._began = True
            self._held = np.repeat(frames[:1], self._options.left_context, axis=0)
        self._held = np.concatenate((self._held, frames))
        if len(self._held) < self._options.width:
            return np.zeros((0, self._held.shape[1] * self._options.width), np.float32)
        spliced = splice_inside(self._held, self._options)
        self._held = self._held[len(spliced) :]
        return spliced

    def finish(self) -> Floats:
        """The last frames, the last one repeated."""
        if not self._began:
            return np.zeros((0, self._held.shape[1] * self._options.width), np.float32)
        return self.accept(np.repeat(self._held[-1:], self._options.right_context, axis=0))
