"""A folder of recorded words, `LABEL_SPEAKER_INDEX.wav`, one word each, 16-bit mono.

Nobody has marked phones here. Each word is divided evenly in time into a few states, between the
silence at its ends: a linear alignment. One speaker is held out for testing; every tenth recording
of the others is for validation.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from examples.speech.utterance import SILENCE, Segment, Utterance, tile
from examples.speech.wav import read_wav
from nnet.errors import NnetError, nearest

STATES_PER_WORD = 5
SILENCE_DECIBELS = 40.0  # this far below the loudest block counts as silence at the ends
BLOCK_SECONDS = 0.01
SHORTEST_SECONDS = 0.1
VALIDATION_EVERY = 10

_NAME = re.compile(r"(?P<label>[^_\s]+)_(?P<speaker>[^_\s]+)_(?P<index>\d+)\.wav")
_PATTERN = "LABEL_SPEAKER_INDEX.wav, such as 7_anna_3.wav"


@dataclass(frozen=True)
class Recordings:
    """Words as utterances, `text` being the word; only `test` has the speaker `held_out`."""

    splits: dict[str, list[Utterance]]
    words: list[str]
    held_out: str

    @property
    def labels(self) -> list[str]:
        """Silence and the states of all words."""
        return [SILENCE, *states_of(self.words)]

    @property
    def rate(self) -> int:
        """Sampling rate in Hz."""
        return self.splits["test"][0].rate


def read_recordings(folder: Path, held_out: str | None = None) -> Recordings:
    """Reads every wav file of `folder` and holds out a speaker, by default the last by alphabet.

    Raises NnetError for a missing or empty folder, a name that does not fit, a wav file of another
    format, mixed sampling rates, an unknown speaker, too few recordings.
    """
    if not folder.is_dir():
        raise NnetError(f"{folder}: no such folder; expected recordings named {_PATTERN}")
    paths = sorted(folder.glob("*.wav"))
    if not paths:
        raise NnetError(f"{folder}: no wav file in it; expected recordings named {_PATTERN}")
    utterances = [read_recording(path) for path in paths]
    _check_one_rate(paths, utterances)
    held_out = _choose_held_out(folder, utterances, held_out)
    words = sorted({utterance.text for utterance in utterances})
    return Recordings(_split(folder, utterances, held_out), words, held_out)


def states_of(words: list[str]) -> list[str]:
    """The states of all words, in order: `one.1 one.2 … one.5 two.1 …`."""
    return [f"{word}.{state}" for word in words for state in range(1, STATES_PER_WORD + 1)]


def read_recording(path: Path) -> Utterance:
    """One recording with its linear alignment."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise NnetError(f"{path}: expected a name like {_PATTERN}: rename or remove the file")
    samples, rate = read_wav(path)
    if len(samples) < SHORTEST_SECONDS * rate:
        raise NnetError(
            f"{path}: {len(samples) / rate:.3f} s long; expected a word of at least "
            f"{SHORTEST_SECONDS} s: remove the file"
        )
    word, speaker, index = match["label"], match["speaker"], match["index"]
    segments = align_linearly(samples, rate, word)
    return Utterance(f"{speaker}-{word}-{index}", speaker, word, samples, rate, segments)


def align_linearly(samples: np.ndarray, rate: int, word: str) -> tuple[Segment, ...]:
    """Silence at the ends, and between them the states of `word`, each as long as the others."""
    start, end = find_speech(samples, rate)
    bounds = np.linspace(start, end, STATES_PER_WORD + 1).round().astype(int).tolist()
    return tile([SILENCE, *states_of([word]), SILENCE], [0, *bounds], len(samples))


def find_speech(samples: np.ndarray, rate: int) -> tuple[int, int]:
    """Where the first 10 ms block within 40 dB of the loudest starts, and where the last ends."""
    block = round(BLOCK_SECONDS * rate)
    blocks = samples[: len(samples) // block * block].astype(np.float64).reshape(-1, block)
    energy = np.mean(blocks**2, axis=1)
    loud = np.flatnonzero(energy >= energy.max() * 10 ** (-SILENCE_DECIBELS / 10))
    return int(loud[0]) * block, int(loud[-1] + 1) * block


def _check_one_rate(paths: list[Path], utterances: list[Utterance]) -> None:
    for path, utterance in zip(paths, utterances, strict=True):
        if utterance.rate != utterances[0].rate:
            raise NnetError(
                f"{path}: {utterance.rate} Hz, but {paths[0].name} has {utterances[0].rate} Hz; "
                "expected one sampling rate in the folder: resample the file"
            )


def _choose_held_out(folder: Path, utterances: list[Utterance], held_out: str | None) -> str:
    speakers = sorted({utterance.speaker for utterance in utterances})
    if len(speakers) < 2:
        raise NnetError(
            f"{folder}: {speakers[0]!r} is the only speaker; expected at least two, since one is "
            "held out: add recordings of another"
        )
    if held_out is None:
        return speakers[-1]
    if held_out not in speakers:
        meant = nearest(held_out, speakers)
        hint = f"did you mean {meant!r}?" if meant else f"choose one of {', '.join(speakers)}"
        raise NnetError(f"{folder}: no recording by the held-out speaker {held_out!r}; {hint}")
    return held_out


def _split(folder: Path, utterances: list[Utterance], held_out: str) -> dict[str, list[Utterance]]:
    ordered = sorted(utterances, key=lambda utterance: utterance.name)
    others = [utterance for utterance in ordered if utterance.speaker != held_out]
    if len(others) < VALIDATION_EVERY:
        raise NnetError(
            f"{folder}: {len(others)} recording(s) without those of {held_out!r}; expected at "
            f"least {VALIDATION_EVERY} to train on: add recordings"
        )
    return {
        "train": [
            utterance for place, utterance in enumerate(others, 1) if place % VALIDATION_EVERY
        ],
        "valid": others[VALIDATION_EVERY - 1 :: VALIDATION_EVERY],
        "test": [utterance for utterance in ordered if utterance.speaker == held_out],
    }
