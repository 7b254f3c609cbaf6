"""Utterances as sound: recordings cut into segments, with perturbed copies."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnet.data.errors import TableError
from nnet.data.folder_reading import read_folder, read_segments
from nnet.data.folders import DataFolder, Segment
from nnet.data.locations import OpenFiles, parse_location
from nnet.errors import NnetError
from nnet.speech.waves import Wave, read_wave, read_waves

Floats = NDArray[np.float32]
HELD = 2
"""Recordings that are held for the segments that come next."""
OVERSHOOT = 0.5
"""Seconds that the end of a segment may lie beyond that of its recording, as in Kaldi."""


@dataclass(frozen=True, eq=False)
class Recording:
    """The sound of one utterance.

    Args:
        name: of the utterance.
        samples: (samples,), in the range of 16-bit integers.
        sample_frequency: Hz.
    """

    name: str
    samples: Floats
    sample_frequency: float


def recordings(source: str, segments: str = "", channel: int = -1) -> Iterator[Recording]:
    """The utterances of a table of waves, of a data folder, or of segments of a table's waves.

    Args:
        source: an rspecifier such as `scp:wav.scp`, or a data folder.
        segments: a file of Kaldi's form, UTTERANCE RECORDING START END.
        channel: of the recordings; -1: the only one.

    Raises:
        NnetError: a recording cannot be read, has several channels, or lacks a segment.
    """
    if os.path.isdir(source):
        if segments:
            raise NnetError(f"{source} is a data folder, which has its own segments")
        yield from recordings_of_folder(read_folder(source), channel)
    elif segments:
        yield from _cut(source, read_segments(segments), channel)
    else:
        for name, wave in read_waves(source):
            yield Recording(name, wave.channel(channel, name), wave.sample_frequency)


def recordings_of_folder(
    folder: DataFolder, channel: int = -1, utterances: Iterable[str] | None = None
) -> Iterator[Recording]:
    """The utterances of a data folder, in its order or in that of `utterances`."""
    if not folder.recordings:
        raise NnetError("the data folder has no recordings; expected: a file wav.scp")
    table = _Recordings(folder.recordings)
    for name in folder.utterances if utterances is None else utterances:
        yield table.cut(name, folder.segment(name), channel)


class _Recordings:
    """The recordings of a `wav.scp`, of which the last ones are held."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places
        self._files = OpenFiles()
        self._held: OrderedDict[str, Wave] = OrderedDict()

    def cut(self, name: str, segment: Segment, channel: int) -> Recording:
        wave = self._held.pop(segment.recording, None)
        if wave is None:
            location = parse_location(self._places[segment.recording], "wav.scp")
            wave = self._files.load(segment.recording, location, read_wave)
        self._held[segment.recording] = wave
        if len(self._held) > HELD:
            self._held.popitem(last=False)
        return cut_segment(name, segment, wave, channel)


def cut_segment(name: str, segment: Segment, wave: Wave, channel: int = -1) -> Recording:
    """An utterance cut out of its recording.

    Raises:
        TableError: the segment lies outside.
    """
    if segment.channel >= 0:
        channel = segment.channel
    samples, rate = wave.channel(channel, segment.recording), wave.sample_frequency
    end = wave.duration if segment.end < 0 else segment.end
    if end > wave.duration + OVERSHOOT or segment.start >= wave.duration:
        raise TableError(
            segment.recording,
            f"a segment from {segment.start:g} to {end:g} s",
            utterance=name,
            expected=f"parts of the recording, which has {wave.duration:.2f} s",
        )
    first, last = int(segment.start * rate), min(int(end * rate), len(samples))
    if first >= last:
        raise TableError(segment.recording, "a segment without samples", utterance=name)
    return Recording(name, samples[first:last], rate)


def _cut(source: str, segments: Mapping[str, Segment], channel: int) -> Iterator[Recording]:
    """Segments of the recordings of a table, recording by recording."""
    by_recording: dict[str, list[str]] = {}
    for name, segment in segments.items():
        by_recording.setdefault(segment.recording, []).append(name)
    for recording, wave in read_waves(source):
        for name in by_recording.pop(recording, ()):
            yield cut_segment(name, segments[name], wave, channel)
    if by_recording:
        missing, names = next(iter(by_recording.items()))
        raise TableError(
            source, f"there is no recording '{missing}'", utterance=names[0],
            expected="the recordings of all segments",
        )  # fmt: skip
