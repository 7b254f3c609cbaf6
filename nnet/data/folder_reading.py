"""Data folders, read and checked: all mistakes at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nnet.data.folder_lines import FolderError, FolderFile, read_lines
from nnet.data.folders import DataFolder, Segment

BY_UTTERANCE = ("text", "feats.scp", "utt2dur", "utt2num_frames", "utt2lang", "vad.scp", "utt2uniq")
BY_SPEAKER = ("cmvn.scp", "spk2gender")
BY_RECORDING = ("reco2dur", "reco2file_and_channel")


def read_folder(path: str | Path) -> DataFolder:
    """A data folder, checked.

    Raises:
        FolderError: with all that is wrong, each with file and line.
    """
    folder, problems = examine_folder(path)
    if problems or folder is None:
        raise FolderError(problems)
    return folder


def examine_folder(path: str | Path) -> tuple[DataFolder | None, list[str]]:
    """A data folder as far as it can be read, and all that is wrong with it."""
    root = Path(path)
    if not root.is_dir():
        return None, [f"{path}: there is no such folder; expected: wav.scp, utt2spk, ..."]
    problems: list[str] = []

    def file(name: str) -> FolderFile:
        return read_lines(root / name, problems)

    recordings, utt2spk, spk2utt = file("wav.scp"), file("utt2spk"), file("spk2utt")
    known_recordings = recordings.values if recordings.exists else None
    segments = _segments(file("segments"), known_recordings, problems)
    utterances = _utterances(root, utt2spk, spk2utt, segments, recordings, problems)
    known = set(utterances)
    speakers = set(utterances.values())
    by_utterance = {name: file(name) for name in BY_UTTERANCE}
    by_speaker = {name: file(name) for name in BY_SPEAKER}
    by_recording = {name: file(name) for name in BY_RECORDING}
    for lines in by_utterance.values():
        lines.compare(known, "utterance", utt2spk.path.name, problems)
    for lines in by_speaker.values():
        lines.compare(speakers, "speaker", utt2spk.path.name, problems)
    for lines in by_recording.values():
        lines.compare(set(recordings.values), "recording", "wav.scp", problems)
    folder = DataFolder(
        dict(sorted(utterances.items())),
        recordings.sorted(),
        None if segments is None else dict(sorted(segments.items())),
        _present(by_utterance),
        _present(by_speaker),
        _present(by_recording),
    )
    return folder, problems


def _present(files: Mapping[str, FolderFile]) -> dict[str, Mapping[str, str]]:
    return {name: file.sorted() for name, file in files.items() if file.exists}


def read_speakers(path: str | Path) -> dict[str, str]:
    """A file `utt2spk` that stands alone: speakers by utterance, in its order.

    Raises:
        FolderError: with all that is wrong, each with the line.
    """
    problems: list[str] = []
    file = _needed(path, problems)
    for name, speaker in file.values.items():
        if len(speaker.split()) != 1:
            file.report(name, f"'{speaker}'; expected: UTTERANCE SPEAKER", problems)
    if problems:
        raise FolderError(problems)
    return file.values


def read_utterances_of_speakers(path: str | Path) -> dict[str, tuple[str, ...]]:
    """A file `spk2utt` that stands alone: utterances by speaker, in its order.

    Raises:
        FolderError: with all that is wrong, such as a speaker without utterances.
    """
    problems: list[str] = []
    file = _needed(path, problems)
    for speaker, names in file.values.items():
        if not names.split():
            file.report(speaker, f"speaker '{speaker}' has no utterances", problems)
    if problems:
        raise FolderError(problems)
    return {speaker: tuple(names.split()) for speaker, names in file.values.items()}


def _needed(path: str | Path, problems: list[str]) -> FolderFile:
    """A file that has to be there; `ark:FILE` is FILE, as in Kaldi's scripts."""
    place = Path(str(path).removeprefix("ark,t:").removeprefix("ark:"))
    file = read_lines(place, problems)
    if not file.exists:
        problems.append(f"{place}: cannot read: no such file")
    return file


def read_segments(path: str | Path) -> dict[str, Segment]:
    """A file `segments` that stands alone, in its order.

    Raises:
        FolderError: with all that is wrong, each with the line.
    """
    problems: list[str] = []
    file = _needed(path, problems)
    segments = _segments(file, None, problems)
    if problems or segments is None:
        raise FolderError(problems)
    return segments


def _segments(
    file: FolderFile, recordings: Mapping[str, str] | None, problems: list[str]
) -> dict[str, Segment] | None:
    if not file.exists:
        return None
    segments = {}
    for utterance, text in file.values.items():
        segment = _segment(text)
        if segment is None:
            file.report(
                utterance,
                f"'{text}'; expected: RECORDING START END, 0 <= START < END",
                problems,
            )
        elif recordings is not None and segment.recording not in recordings:
            file.report(
                utterance, f"there is no recording '{segment.recording}' in wav.scp", problems
            )
        else:
            segments[utterance] = segment
    return segments


def _segment(text: str) -> Segment | None:
    words = text.split()
    if not 3 <= len(words) <= 4:
        return None
    try:
        start, end = float(words[1]), float(words[2])
        channel = int(words[3]) if len(words) == 4 else -1
    except ValueError:
        return None
    if not (0 <= start < end or (start >= 0 and end == -1)) or end == float("inf"):
        return None
    return Segment(words[0], start, end, channel)


def _utterances(
    root: Path,
    utt2spk: FolderFile,
    spk2utt: FolderFile,
    segments: Mapping[str, Segment] | None,
    recordings: FolderFile,
    problems: list[str],
) -> dict[str, str]:
    """The speaker of each utterance, from whichever file says it."""
    listed: dict[str, str] = {}
    for speaker, text in spk2utt.values.items():
        names = text.split()
        if not names:
            spk2utt.report(speaker, f"speaker '{speaker}' has no utterances", problems)
        for name in names:
            if name in listed:
                spk2utt.report(speaker, f"utterance '{name}' has a second speaker", problems)
            listed[name] = speaker
    speakers = {}
    for utterance, text in utt2spk.values.items():
        words = text.split()
        if len(words) != 1:
            utt2spk.report(utterance, f"'{text}'; expected: UTTERANCE SPEAKER", problems)
        else:
            speakers[utterance] = words[0]
    if utt2spk.exists and spk2utt.exists:
        _compare_speakers(utt2spk, spk2utt, speakers, listed, problems)
    elif spk2utt.exists:
        speakers = listed
    source = segments if segments is not None else recordings.values
    if not utt2spk.exists and not spk2utt.exists:
        problems.append(f"{root}: there is neither utt2spk nor spk2utt")
        return {name: name for name in source}
    if not (recordings.exists or segments is not None):
        return speakers
    of = "segments" if segments is not None else "wav.scp"
    known = utt2spk if utt2spk.exists else spk2utt
    for name in sorted(source.keys() - speakers.keys()):
        problems.append(f"{known.path}: utterance '{name}' of {of} has no speaker")
    for name in sorted(speakers.keys() - source.keys()):
        known.report(name, f"there is no utterance '{name}' in {of}", problems)
    return {name: speaker for name, speaker in speakers.items() if name in source}


def _compare_speakers(
    utt2spk: FolderFile,
    spk2utt: FolderFile,
    speakers: Mapping[str, str],
    listed: Mapping[str, str],
    problems: list[str],
) -> None:
    for name, speaker in speakers.items():
        if listed.get(name) != speaker:
            other = f"'{listed[name]}'" if name in listed else "none"
            utt2spk.report(
                name, f"utterance '{name}' has speaker '{speaker}', in spk2utt {other}", problems
            )
    for name in sorted(listed.keys() - speakers.keys()):
        spk2utt.report(listed[name], f"utterance '{name}' is not in utt2spk", problems)
