"""The golden system on connected digits: recordings, and tables that Kaldi made of them."""

from __future__ import annotations

import numpy as np

from nnet.data.matrices import read_double_matrix
from nnet.data.tables import read_table
from nnet.speech.waves import load_wave
from tests.support import GOLDEN, table

DIGITS = GOLDEN / "digits"
UTTERANCES = [f"theo-{i:03d}" for i in range(4)]
RATE = 8000


def samples(utterance: str) -> np.ndarray:
    """A recording of the development set."""
    return load_wave(str(DIGITS / "dev" / "wav" / f"{utterance}.wav")).channel(0, utterance)


def golden(name: str) -> dict[str, np.ndarray]:
    """A table of the development set."""
    return table(DIGITS / "dev" / f"{name}.ark")


def golden_statistics(name: str) -> dict[str, np.ndarray]:
    """A table of CMVN statistics."""
    return dict(read_table(f"ark:{DIGITS}/dev/{name}.ark", read_double_matrix))


def pieces(signal: np.ndarray, longest: int, seed: int = 0) -> list[np.ndarray]:
    """A signal cut into pieces of 1 to `longest` samples at random."""
    rng, parts, start = np.random.default_rng(seed), [], 0
    while start < len(signal):
        size = int(rng.integers(1, longest + 1))
        parts.append(signal[start : start + size])
        start += size
    return parts


def streamed(stream, parts: list[np.ndarray]) -> np.ndarray:
    """All frames of a stream that gets a signal in parts."""
    frames = []
    for part in parts:
        stream.accept(part)
        frames.append(stream.take())
    stream.finish()
    frames.append(stream.take())
    return np.concatenate(frames)
