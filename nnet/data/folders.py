"""Kaldi's data folders: recordings, utterances, speakers and texts, in files that belong together.

`wav.scp` names recordings, `segments` cuts utterances out of them (without it every recording is
one), `utt2spk` and `spk2utt` say who speaks, `text` what is said, `feats.scp` and `cmvn.scp` where
features and statistics are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from nnet.atomic import atomic_write
from nnet.data.folder_lines import FolderError

T = TypeVar("T")


@dataclass(frozen=True)
class Segment:
    """An utterance as a part of a recording.

    Args:
        recording: its name in `wav.scp`.
        start: seconds.
        end: seconds; below 0: the end of the recording.
        channel: of the recording; -1: the only one.
    """

    recording: str
    start: float = 0.0
    end: float = -1.0
    channel: int = -1

    def line(self) -> str:
        """As in the file `segments`."""
        channel = f" {self.channel}" if self.channel >= 0 else ""
        return f"{self.recording} {_seconds(self.start)} {_seconds(self.end)}{channel}"


def _seconds(value: float) -> str:
    return "-1" if value < 0 else f"{value:.6f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class DataFolder:
    """The content of a data folder; utterances, recordings and speakers are sorted by name.

    Args:
        speakers: the speaker of each utterance (`utt2spk`).
        recordings: extended file names by recording (`wav.scp`).
        segments: parts of recordings by utterance; None: each recording is an utterance.
        by_utterance: other files of one line an utterance, such as `text` and `feats.scp`.
        by_speaker: other files of one line a speaker, such as `cmvn.scp`.
        by_recording: other files of one line a recording.
    """

    speakers: Mapping[str, str]
    recordings: Mapping[str, str] = field(default_factory=dict)
    segments: Mapping[str, Segment] | None = None
    by_utterance: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    by_speaker: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    by_recording: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def utterances(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(self.speakers)

    @property
    def texts(self) -> Mapping[str, str]:
        """What is said, by utterance; none without a file `text`."""
        return self.by_utterance.get("text", {})

    def utterances_of_speakers(self) -> dict[str, tuple[str, ...]]:
        """`spk2utt`: the utterances of each speaker, in order."""
        found: dict[str, list[str]] = {}
        for utterance, speaker in self.speakers.items():
            found.setdefault(speaker, []).append(utterance)
        return {speaker: tuple(found[speaker]) for speaker in sorted(found)}

    def segment(self, utterance: str) -> Segment:
        """Where an utterance lies."""
        return self.segments[utterance] if self.segments is not None else Segment(utterance)

    def subset(self, utterances: Iterable[str]) -> DataFolder:
        """The same with some utterances alone, and with the speakers and recordings they need.

        Raises:
            FolderError: an utterance is not there, or none is left.
        """
        chosen = set(utterances)
        missing = sorted(chosen - set(self.speakers))
        if missing:
            raise FolderError([f"there is no utterance '{name}'" for name in missing])
        if not chosen:
            raise FolderError(["a subset without utterances; expected: at least one"])
        speakers = {utterance: self.speakers[utterance] for utterance in sorted(chosen)}
        recordings = {self.segment(utterance).recording for utterance in chosen}
        return DataFolder(
            speakers,
            _only(self.recordings, recordings),
            None if self.segments is None else _only(self.segments, chosen),
            _only_each(self.by_utterance, chosen),
            _only_each(self.by_speaker, set(speakers.values())),
            _only_each(self.by_recording, recordings),
        )

    def first(self, count: int, per_speaker: bool = False) -> DataFolder:
        """The first utterances, of all or of each speaker."""
        groups: Iterable[Sequence[str]] = (self.utterances,)
        if per_speaker:
            groups = self.utterances_of_speakers().values()
        return self.subset(name for group in groups for name in group[:count])

    def renamed(self, prefix: str) -> DataFolder:
        """The same with a prefix before the names of utterances and speakers, for a copy."""
        recordings = self.recordings
        segments = self.segments
        if segments is None:
            recordings = {prefix + name: value for name, value in recordings.items()}
        else:
            segments = {prefix + name: segment for name, segment in segments.items()}
        return DataFolder(
            {prefix + utterance: prefix + speaker for utterance, speaker in self.speakers.items()},
            recordings,
            segments,
            {file: _prefixed(lines, prefix) for file, lines in self.by_utterance.items()},
            {file: _prefixed(lines, prefix) for file, lines in self.by_speaker.items()},
            self.by_recording if segments is not None else _prefixed_all(self.by_recording, prefix),
        )


def _only(lines: Mapping[str, T], names: set[str]) -> dict[str, T]:
    return {name: value for name, value in lines.items() if name in names}


def _only_each(
    files: Mapping[str, Mapping[str, str]], names: set[str]
) -> dict[str, Mapping[str, str]]:
    return {file: _only(lines, names) for file, lines in files.items()}


def _prefixed(lines: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {prefix + name: value for name, value in lines.items()}


def _prefixed_all(
    files: Mapping[str, Mapping[str, str]], prefix: str
) -> dict[str, Mapping[str, str]]:
    return {file: _prefixed(lines, prefix) for file, lines in files.items()}


def combine_folders(folders: Sequence[DataFolder]) -> DataFolder:
    """All utterances of several folders. Files that not all of them have are left out.

    Raises:
        FolderError: a name stands for different things in two of them.
    """
    segmented = any(folder.segments is not None for folder in folders)
    problems: list[str] = []

    def merged(parts: Iterable[Mapping[str, T]], what: str) -> dict[str, T]:
        result: dict[str, T] = {}
        for part in parts:
            for name, value in part.items():
                if result.setdefault(name, value) != value:
                    problems.append(f"{what} '{name}' is in two folders with different content")
        return dict(sorted(result.items()))

    def files(attribute: str) -> dict[str, Mapping[str, str]]:
        parts = [getattr(folder, attribute) for folder in folders]
        common = set.intersection(*(set(part) for part in parts)) if parts else set()
        return {
            name: merged((part[name] for part in parts), f"{name}: entry")
            for name in sorted(common)
        }

    segments = (
        {name: folder.segment(name) for name in folder.speakers} if segmented else {}
        for folder in folders
    )
    result = DataFolder(
        merged((folder.speakers for folder in folders), "utterance"),
        merged((folder.recordings for folder in folders), "recording"),
        merged(segments, "segment") if segmented else None,
        files("by_utterance"),
        files("by_speaker"),
        files("by_recording"),
    )
    if problems:
        raise FolderError(problems)
    return result


def write_folder(folder: DataFolder, path: str | Path) -> None:
    """Writes all files of a folder, sorted as Kaldi's tools expect them, each whole or not at all.

    Files that the folder does not have stay as they are.
    """
    root = Path(path)
    root.mkdir(parents=True, exist_ok=True)
    contents: dict[str, Mapping[str, str]] = {
        "utt2spk": folder.speakers,
        "spk2utt": {
            speaker: " ".join(names) for speaker, names in folder.utterances_of_speakers().items()
        },
    }
    if folder.recordings:
        contents["wav.scp"] = folder.recordings
    if folder.segments is not None:
        contents["segments"] = {name: part.line() for name, part in folder.segments.items()}
    for files in (folder.by_utterance, folder.by_speaker, folder.by_recording):
        contents.update(files)
    for name, lines in contents.items():
        text = "".join(f"{key} {value}".rstrip() + "\n" for key, value in sorted(lines.items()))
        with atomic_write(root / name) as stream:
            stream.write(text.encode())
