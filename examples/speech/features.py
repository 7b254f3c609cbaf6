"""Log-mel features, and the label of each frame."""

from collections import defaultdict

import kaldi_native_fbank
import numpy as np

from examples.speech.utterance import Utterance

BINS = 40
LOWEST_HERTZ = 20.0
FRAME_SECONDS = 0.025
SHIFT_SECONDS = 0.010


def log_mel(samples: np.ndarray, rate: int) -> np.ndarray:
    """Kaldi's fbank features of int16 `samples` `(count,)`: `(frames, 40)` float32.

    A frame takes 25 ms and begins 10 ms after the one before it; there is no dither.
    """
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = rate
    options.frame_opts.dither = 0
    options.frame_opts.frame_length_ms = FRAME_SECONDS * 1000
    options.frame_opts.frame_shift_ms = SHIFT_SECONDS * 1000
    options.mel_opts.num_bins = BINS
    options.mel_opts.low_freq = LOWEST_HERTZ
    extractor = kaldi_native_fbank.OnlineFbank(options)
    extractor.accept_waveform(rate, samples.astype(np.float32))
    extractor.input_finished()
    return np.stack([extractor.get_frame(frame) for frame in range(extractor.num_frames_ready)])


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
    low, high = _mel(LOWEST_HERTZ), _mel(rate / 2)
    mels = low + (high - low) * np.arange(1, BINS + 1) / (BINS + 1)
    return 700 * np.expm1(mels / 1127)


def _mel(hertz: float) -> float:
    return 1127 * float(np.log1p(hertz / 700))
