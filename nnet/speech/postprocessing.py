"""What follows features in a recipe: normalization, deltas, splicing, a linear transform."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnet.errors import NnetError
from nnet.modelfile.adaptation import OnlineCmvnState
from nnet.speech.cmvn import CmvnOptions, normalize, statistics
from nnet.speech.online_cmvn import OnlineCmvn, OnlineCmvnOptions
from nnet.speech.transforms import (
    DeltaOptions,
    SpliceOptions,
    add_deltas,
    check_transform,
    splice,
    transform,
)

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Table = Iterable[tuple[str, Floats]]


@dataclass(frozen=True, eq=False)
class Steps:
    """What is done to normalized features, in this order.

    Args:
        deltas: derivatives are appended.
        splice: neighbours are appended.
        matrix: of a linear or affine transform, such as LDA.
    """

    deltas: DeltaOptions | None = None
    splice: SpliceOptions | None = None
    matrix: Floats | None = None

    def apply(self, frames: Floats) -> Floats:
        """Frames, (frames, new dim).

        Raises:
            NnetError: the transform is for another dimension.
        """
        if self.deltas is not None:
            frames = add_deltas(frames, self.deltas)
        if self.splice is not None:
            frames = splice(frames, self.splice)
        if self.matrix is not None:
            check_transform(self.matrix, frames.shape[1], "--transform")
            frames = transform(frames, self.matrix)
        return frames


def speaker_statistics(table: Table, speakers: Mapping[str, str]) -> dict[str, Doubles]:
    """CMVN statistics by speaker; an utterance without speaker is one of its own.

    Args:
        table: features of utterances.
        speakers: by utterance.
    """
    stats: dict[str, Doubles] = {}
    for name, frames in table:
        speaker = speakers.get(name, name)
        added = statistics(frames)
        stats[speaker] = stats[speaker] + added if speaker in stats else added
    return stats


def normalized(
    table: Table, stats: Mapping[str, Doubles], speakers: Mapping[str, str], options: CmvnOptions
) -> Iterator[tuple[str, Floats]]:
    """Features normalized with the statistics of their speakers.

    Raises:
        NnetError: a speaker has no statistics, or of another dimension.
    """
    for name, frames in table:
        speaker = speakers.get(name, name)
        if speaker not in stats:
            raise NnetError(f"utterance '{name}': no CMVN statistics of its speaker '{speaker}'")
        yield name, normalize(frames, stats[speaker], options, f"CMVN of '{speaker}'")


def normalized_by_utterance(table: Table, options: CmvnOptions) -> Iterator[tuple[str, Floats]]:
    """Features, each utterance normalized with its own statistics."""
    for name, frames in table:
        yield name, normalize(frames, statistics(frames), options, f"CMVN of '{name}'")


def normalized_online(
    table: Table, globals_: Doubles, speakers: Mapping[str, str], options: OnlineCmvnOptions
) -> Iterator[tuple[str, Floats]]:
    """Features normalized from the frames before, in order; what is known of speakers is kept."""
    states: dict[str, OnlineCmvnState] = {}
    for name, frames in table:
        speaker = speakers.get(name)
        state = states.get(speaker, OnlineCmvnState(globals_)) if speaker else None
        stream = OnlineCmvn(options, state or OnlineCmvnState(globals_))
        yield name, stream.accept(frames)
        if speaker:
            states[speaker] = stream.state()
