"""Kaldi-style data folders.

DATA/phones.txt            each label and its target number, from 0
DATA/SPLIT/wav.scp         utterance, wav file
DATA/SPLIT/text            utterance, words
DATA/SPLIT/utt2spk spk2utt
DATA/SPLIT/feats.ark .scp  features (frames, 40)
DATA/SPLIT/ali.ark .scp    target number of each frame, int32
DATA/wav/UTTERANCE.wav     16-bit mono
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import kaldiio
import numpy as np

from examples.speech.features import frame_labels, without_speaker_means
from examples.speech.utterance import Utterance
from examples.speech.wav import write_wav

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class DataFolder:
    """Where the tables of one data folder are; names of tables are Kaldi rspecifiers."""

    path: Path

    @property
    def labels(self) -> list[str]:
        """The label of each target number."""
        return [line.split()[0] for line in (self.path / "phones.txt").read_text().splitlines()]

    def features(self, split: str) -> str:
        return f"scp:{self.path / split / 'feats.scp'}"

    def targets(self, split: str) -> str:
        return f"ark:{self.path / split / 'ali.ark'}"

    def text(self, split: str) -> dict[str, str]:
        """The words of each utterance."""
        return dict(
            line.split(maxsplit=1) for line in (self.path / split / "text").read_text().splitlines()
        )

    def speakers(self, split: str) -> dict[str, str]:
        """The speaker of each utterance."""
        return dict(
            line.split() for line in (self.path / split / "utt2spk").read_text().splitlines()
        )

    def alignments(self, split: str) -> dict[str, np.ndarray]:
        """The target number of each frame, `(frames,)` int32, for each utterance."""
        return dict(kaldiio.load_ark(str(self.path / split / "ali.ark")))


def write_data(path: Path, splits: dict[str, list[Utterance]], labels: Iterable[str]) -> DataFolder:
    """Writes a data folder; `labels` are the targets in order, among them all segments' labels."""
    numbers = {label: number for number, label in enumerate(labels)}
    (path / "wav").mkdir(parents=True, exist_ok=True)
    _write_lines(path / "phones.txt", numbers.items())
    for split, utterances in splits.items():
        _write_split(
            path.absolute(),
            split,
            sorted(utterances, key=lambda utterance: utterance.name),
            numbers,
        )
    return DataFolder(path)


def _write_split(
    path: Path, split: str, utterances: list[Utterance], numbers: dict[str, int]
) -> None:
    folder = path / split
    folder.mkdir(exist_ok=True)
    features = without_speaker_means(utterances)
    alignments, files = {}, {}
    speakers = defaultdict(list)
    for utterance in utterances:
        name = utterance.name
        files[name] = path / "wav" / f"{name}.wav"
        write_wav(files[name], utterance.samples, utterance.rate)
        labels = frame_labels(utterance, len(features[name]))
        alignments[name] = np.array([numbers[label] for label in labels], dtype=np.int32)
        speakers[utterance.speaker].append(name)
    kaldiio.save_ark(str(folder / "feats.ark"), features, scp=str(folder / "feats.scp"))
    kaldiio.save_ark(str(folder / "ali.ark"), alignments, scp=str(folder / "ali.scp"))
    _write_lines(folder / "wav.scp", files.items())
    _write_lines(folder / "text", ((utterance.name, utterance.text) for utterance in utterances))
    _write_lines(
        folder / "utt2spk", ((utterance.name, utterance.speaker) for utterance in utterances)
    )
    _write_lines(
        folder / "spk2utt", ((speaker, " ".join(names)) for speaker, names in speakers.items())
    )


def _write_lines(path: Path, pairs: Iterable[tuple]) -> None:
    path.write_text("".join(f"{key} {value}\n" for key, value in pairs))
