"""When each phone of espeak-ng's speech begins.

espeak-ng's times are exact, with these corrections:

- A stop is reported at its release, and its closure, which is silent, is left to the phone before
  it. Here the closure belongs to the stop.
- Any other silence of 20 ms or more at a phone's end is a pause.
- An l before a consonant is spoken as the end of its vowel and reported when it is over. It gets
  the vowel's last 60 ms, at most half of it.
"""

from dataclasses import dataclass

import numpy as np

from examples.speech.espeak import Speech
from examples.speech.phones import CLOSED_BEFORE_RELEASE, phone_of
from examples.speech.utterance import SILENCE, Segment, tile

QUIET = 8  # espeak-ng's pauses are zeros; full scale is 32768
SHORTEST_PAUSE_SECONDS = 0.02
SHORTEST_L_SECONDS = 0.02
L_SECONDS = 0.06


@dataclass(frozen=True)
class _Heard:
    """A phone as espeak-ng reports it: from sample `start` to `end`, the last `silent` silent."""

    phone: str
    start: int
    end: int
    silent: int


def label(speech: Speech, rate: int) -> tuple[Segment, ...]:
    """Phones that tile the samples of `speech`, taken at `rate` Hz."""
    count = len(speech.samples)
    heard = [_Heard(SILENCE, 0, 0, 0), *_heard(speech), _Heard(SILENCE, count, count, 0)]
    labels, starts = [SILENCE], [0]
    for before, this, after in zip(heard, heard[1:], heard[2:], strict=False):
        labels.append(this.phone)
        starts.append(_start(before, this, rate))
        closure = after.phone in CLOSED_BEFORE_RELEASE
        if not closure and this.silent >= SHORTEST_PAUSE_SECONDS * rate:
            labels.append(SILENCE)
            starts.append(this.end - this.silent)
    return tile(labels, starts, count)


def _heard(speech: Speech) -> list[_Heard]:
    quiet = np.abs(speech.samples) <= QUIET
    heard = []
    ends = [*speech.starts[1:], len(quiet)]
    for mnemonic, start, end in zip(speech.mnemonics, speech.starts, ends, strict=True):
        phone = phone_of(mnemonic)
        silent = 0 if phone == SILENCE else _length_of_tail(quiet[start:end])
        heard.append(_Heard(phone, start, end, silent))
    return heard


def _start(before: _Heard, this: _Heard, rate: int) -> int:
    if this.phone in CLOSED_BEFORE_RELEASE:
        return this.start - before.silent
    if this.phone == "L" and this.end - this.silent - this.start < SHORTEST_L_SECONDS * rate:
        return this.start - min(round(L_SECONDS * rate), (before.end - before.start) // 2)
    return this.start


def _length_of_tail(quiet: np.ndarray) -> int:
    """How many of the last elements of `quiet` are true without a break."""
    loud = np.flatnonzero(~quiet)
    return len(quiet) - (int(loud[-1]) + 1 if len(loud) else 0)
