"""Log-mel features, and the label of each frame."""

from collections import defaultdict

import numpy as np

from examples.speech.utterance import Utterance
from nnet.speech.features import Fbank, FbankOptions

BINS = 40
LOWEST_HERTZ = 20.0
FRAME_SECONDS = 0.025
SHIFT_SECONDS = 0.010


def log_mel(samples: np.ndarray, rate: int) -> np.ndarray:
    """Kaldi's fbank features of int16 `samples` `(count,)`: `(frames, 40)` float32.

    A frame takes 25 ms and begins 10 ms after the one before it; there is no dither.
    """
    return _fbank(rate).compute(samples.astype(np.float32), rate)


def _fbank(rate: int) -> Fbank:
    return Fbank(
        FbankOptions(
            sample_frequency=rate,
            dither=0.0,
            frame_length=FRAME_SECONDS * 1000,
            frame_shift=SHIFT_SECONDS * 1000,
            num_mel_bins=BINS,
            low_freq=LOWEST_HERTZ,
        )
    )


def without_speaker_means(utterances: list[Utterance]) -> dict[str, np.ndarray]:
    """`log_mel` of each utterance, minus the mean of each bin over all frames of its speaker.

    That takes away most of the colour of voice and room (Kaldi's cepstral mean normalisation).
    """
    features = {each.name: log_mel(each.samples, each.rate) for each in utterances}
    names = defaultdict(list)
    for utterance in utterances:
        names[utterance.speaker].append(utterance.name)
    for spoken in names.values():
        mean = np.concatenate([features[name] for name in spoken]).mean(axis=0)
        features |= {name: features[name] - mean for name in spoken}
    return features


def frame_labels(utterance: Utterance, frames: int) -> list[str]:
    """The label of the segment in which each frame's centre lies."""
    centres = (np.arange(frames) * SHIFT_SECONDS + FRAME_SECONDS / 2) * utterance.rate
    ends = [segment.end for segment in utterance.segments]
    return [
        utterance.segments[place].label for place in np.searchsorted(ends, centres, side="right")
    ]


def centre_frequencies(rate: int) -> np.ndarray:
    """The centre of each bin in Hz, `(40,)`, as in Kaldi's MelBanks.

    They are equal steps in mel from 20 Hz to half the sampling rate.
    """
    return _fbank(rate).banks(1.0).centers
