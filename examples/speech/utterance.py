"""What a source of speech hands on: samples with labelled segments."""

from dataclasses import dataclass

import numpy as np

SILENCE = "SIL"


@dataclass(frozen=True)
class Segment:
    """`label` holds from sample `start` up to, not including, sample `end`."""

    label: str
    start: int
    end: int


@dataclass(frozen=True)
class Utterance:
    """One recording.

    `name` starts with `speaker`, so that sorting by name also sorts by speaker (Kaldi's rule).
    samples: `(count,)` int16, `rate` of them a second; the segments tile them in order.
    """

    name: str
    speaker: str
    text: str
    samples: np.ndarray
    rate: int
    segments: tuple[Segment, ...]

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


def tile(labels: list[str], starts: list[int], end: int) -> tuple[Segment, ...]:
    """Segments that each last until the next one's start, the last until `end`.

    Labels that last no sample are left out, and neighbouring silences become one.
    """
    segments: list[Segment] = []
    for label, start, stop in zip(labels, starts, [*starts[1:], end], strict=True):
        if start == stop:
            continue
        if segments and segments[-1].label == label == SILENCE:
            segments[-1] = Segment(label, segments[-1].start, stop)
        else:
            segments.append(Segment(label, start, stop))
    return tuple(segments)
