"""Features that are computed when they are asked for, each time from another perturbed copy.

Training reads them like a table (`nnet.data.corpus.Sources.open_features`), so that augmented data
are never stored.
"""

from __future__ import annotations

import threading
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from nnet.data.folders import DataFolder
from nnet.data.locations import OpenFiles, parse_location
from nnet.errors import NnetError
from nnet.speech.features import SpectralFeatures
from nnet.speech.perturbation import Perturbation
from nnet.speech.recordings import cut_segment
from nnet.speech.resample import resampled_length
from nnet.speech.waves import read_wave

Floats = NDArray[np.float32]


class RecordedFeatures(Mapping[str, Floats]):
    """Features of a data folder's recordings, by utterance. Safe to use from threads.

    Each load of an utterance draws the next of its perturbations, so that an epoch sees other noise
    than the one before. The number of frames stays that of the recording: targets stay aligned.

    Args:
        folder: recordings and segments.
        features: what is computed.
        perturbation: volume and noise; its speeds must be 1.
        channel: of the recordings; -1: the only one.

    Raises:
        NnetError: the perturbation would change the number of frames.
    """

    def __init__(
        self,
        folder: DataFolder,
        features: SpectralFeatures,
        perturbation: Perturbation,
        channel: int = -1,
    ) -> None:
        if perturbation.speeds != (1.0,):
            raise NnetError(
                "a speed changes the number of frames, and targets would no longer be aligned; "
                "expected: volume and noise, or copies with targets of their own"
            )
        self._folder = folder
        self._features = features
        self._perturbation = perturbation
        self._channel = channel
        self._files = OpenFiles()
        self._frames: dict[str, int] = {}
        self._draws: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[str]:
        return iter(self._folder.speakers)

    def __len__(self) -> int:
        return len(self._folder.speakers)

    def __getitem__(self, utterance: str) -> Floats:
        if utterance not in self._folder.speakers:
            raise KeyError(utterance)
        with self._lock:
            draw = self._draws[utterance]
            self._draws[utterance] += 1
        samples, rate = self._samples(utterance)
        samples = self._perturbation.apply(utterance, samples, rate, draw)
        seed = zlib.crc32(f"{utterance} {draw}".encode()) + self._perturbation.seed
        try:
            return self._features.compute(samples, rate, seed=seed)
        except NnetError as error:
            raise NnetError(f"utterance '{utterance}': {error}") from None

    def shape(self, utterance: str) -> tuple[int, int]:
        """(frames, dim); the recording is read the first time."""
        if utterance not in self._frames:
            samples, rate = self._samples(utterance)
            options = self._features.frames
            count = resampled_length(len(samples), rate, options.sample_frequency)
            self._frames[utterance] = options.frames(count)
        return self._frames[utterance], self._features.dim

    def _samples(self, utterance: str) -> tuple[Floats, float]:
        segment = self._folder.segment(utterance)
        location = parse_location(self._folder.recordings[segment.recording], "wav.scp")
        wave = self._files.load(segment.recording, location, read_wave)
        recording = cut_segment(utterance, segment, wave, self._channel)
        return recording.samples, recording.sample_frequency
