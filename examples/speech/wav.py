"""16-bit mono wav files."""

import wave
from pathlib import Path

import numpy as np

from nnet.errors import NnetError


def read_wav(path: Path) -> tuple[np.ndarray, int]:
    """int16 samples `(count,)` and their rate in Hz. Raises NnetError for other kinds of file."""
    try:
        with wave.open(str(path)) as file:
            channels, width, rate, count = file.getparams()[:4]
            data = file.readframes(count)
    except (wave.Error, EOFError) as error:
        why = str(error) or "the file ends early"
        raise NnetError(f"{path}: not a PCM wav file ({why}); convert it to 16-bit mono") from None
    if (channels, width) != (1, 2):
        raise NnetError(
            f"{path}: {channels} channel(s) of {8 * width} bits; expected 1 channel of 16 bits: "
            "convert it"
        )
    if len(data) != 2 * count:
        raise NnetError(
            f"{path}: {len(data)} bytes of sound; expected the {2 * count} that the header "
            "promises: copy the file again"
        )
    return np.frombuffer(data, dtype="<i2"), rate


def write_wav(path: Path, samples: np.ndarray, rate: int) -> None:
    """Writes int16 `samples` `(count,)` taken at `rate` Hz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
