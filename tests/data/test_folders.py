"""Kaldi's data folders: read, checked, sorted, cut down, put together."""

import pytest

from nnet.data.folder_lines import FolderError
from nnet.data.folder_reading import examine_folder, read_folder, read_segments
from nnet.data.folders import Segment, combine_folders, write_folder

WHOLE = {
    "wav.scp": "a-1 a1.wav\na-2 a2.wav\nb-1 sph2pipe -f wav b1.sph |\n",
    "utt2spk": "a-1 a\na-2 a\nb-1 b\n",
    "spk2utt": "a a-1 a-2\nb b-1\n",
    "text": "a-1 one two\na-2 three\nb-1 four\n",
    "feats.scp": "a-1 f.ark:4\na-2 f.ark:99\nb-1 f.ark:200\n",
    "cmvn.scp": "a c.ark:2\nb c.ark:50\n",
}
CUT = {
    "wav.scp": "r1 r1.wav\nr2 r2.wav\n",
    "segments": "a-1 r1 0 1.5\na-2 r1 1.5 3 1\nb-1 r2 0.25 -1\n",
    "utt2spk": "a-1 a\na-2 a\nb-1 b\n",
    "reco2dur": "r1 3\nr2 2\n",
}


def folder_of(path, files):
    path.mkdir(exist_ok=True)
    for name, text in files.items():
        (path / name).write_text(text)
    return path


def problems(tmp_path, **changes):
    """What is wrong with the whole folder when some files are others, or gone."""
    files = {**WHOLE, **{name.replace("_", "."): text for name, text in changes.items()}}
    path = folder_of(tmp_path / "x", {name: text for name, text in files.items() if text})
    with pytest.raises(FolderError) as error:
        read_folder(path)
    return [problem.removeprefix(f"{path}/") for problem in error.value.problems]


def test_a_folder_of_whole_recordings(tmp_path):
    folder = read_folder(folder_of(tmp_path, WHOLE))
    assert folder.utterances == ("a-1", "a-2", "b-1")
    assert folder.utterances_of_speakers() == {"a": ("a-1", "a-2"), "b": ("b-1",)}
    assert folder.texts["a-1"] == "one two"
    assert folder.recordings["b-1"] == "sph2pipe -f wav b1.sph |"
    assert folder.segment("a-1") == Segment("a-1")
    assert folder.by_speaker["cmvn.scp"]["b"] == "c.ark:50"


def test_a_folder_of_segments(tmp_path):
    folder = read_folder(folder_of(tmp_path, CUT))
    assert folder.segment("a-2") == Segment("r1", 1.5, 3.0, 1)
    assert folder.segment("b-1").end == -1
    assert folder.by_recording["reco2dur"]["r2"] == "2"


@pytest.mark.parametrize("files", [WHOLE, CUT])
def test_what_is_read_is_written_sorted(files, tmp_path):
    shuffled = {
        name: "".join(f"{line}\n" for line in reversed(text.splitlines()))
        for name, text in files.items()
    }
    folder = read_folder(folder_of(tmp_path / "x", shuffled))
    write_folder(folder, tmp_path / "y")
    for name, text in files.items():
        assert (tmp_path / "y" / name).read_text() == text
    assert read_folder(tmp_path / "y") == folder


def test_speakers_may_come_from_spk2utt_alone(tmp_path):
    files = {name: text for name, text in WHOLE.items() if name != "utt2spk"}
    assert read_folder(folder_of(tmp_path, files)).speakers["b-1"] == "b"


def test_a_subset_takes_what_it_needs(tmp_path):
    folder = read_folder(folder_of(tmp_path, CUT)).subset(["b-1"])
    assert folder.utterances == ("b-1",)
    assert set(folder.recordings) == {"r2"}
    assert set(folder.by_recording["reco2dur"]) == {"r2"}
    whole = read_folder(folder_of(tmp_path / "w", WHOLE))
    assert whole.first(1, per_speaker=True).utterances == ("a-1", "b-1")
    assert whole.first(2).utterances == ("a-1", "a-2")
    assert set(whole.first(2).by_speaker["cmvn.scp"]) == {"a"}


@pytest.mark.parametrize(
    ("names", "message"), [(["c"], "no utterance 'c'"), ([], "a subset without utterances")]
)
def test_impossible_subsets(names, message, tmp_path):
    with pytest.raises(FolderError, match=message):
        read_folder(folder_of(tmp_path, WHOLE)).subset(names)


def test_folders_are_combined(tmp_path):
    whole = read_folder(folder_of(tmp_path / "w", WHOLE))
    parts = [whole.subset(["b-1"]), whole.subset(["a-1", "a-2"])]
    assert combine_folders(parts) == whole
    cut = read_folder(folder_of(tmp_path / "c", CUT)).renamed("x-")
    both = combine_folders([whole, cut])
    assert both.utterances == ("a-1", "a-2", "b-1", "x-a-1", "x-a-2", "x-b-1")
    assert both.segment("a-1") == Segment("a-1")
    assert "text" not in both.by_utterance
    write_folder(both, tmp_path / "both")
    assert read_folder(tmp_path / "both") == both


def test_one_name_for_two_things(tmp_path):
    first = read_folder(folder_of(tmp_path / "1", WHOLE))
    second = read_folder(folder_of(tmp_path / "2", {**WHOLE, "text": "a-1 x\na-2 y\nb-1 z\n"}))
    with pytest.raises(FolderError, match="3 mistakes") as error:
        combine_folders([first, second])
    assert "text: entry 'a-1' is in two folders" in error.value.problems[0]


def test_a_renamed_copy(tmp_path):
    copy = read_folder(folder_of(tmp_path, WHOLE)).renamed("sp0.9-")
    assert copy.speakers["sp0.9-a-1"] == "sp0.9-a"
    assert copy.recordings["sp0.9-a-1"] == "a1.wav"
    assert copy.texts["sp0.9-b-1"] == "four"


def test_all_mistakes_at_once(tmp_path):
    found = problems(
        tmp_path,
        wav_scp="a-1 a1.wav\na-1 a1.wav\n\nb-1 b1.wav\nc-1 c.wav\n",
        utt2spk="a-1 a\na-2 a x\nb-1 b\n",
        spk2utt="a a-1\nb b-1\nd\n",
        text="a-1 one\nz-1 two\n",
    )
    assert found == [
        "wav.scp:2: 'a-1' again, as in line 1",
        "wav.scp:3: an empty line",
        "spk2utt:3: speaker 'd' has no utterances",
        "utt2spk:2: 'a x'; expected: UTTERANCE SPEAKER",
        "utt2spk: utterance 'c-1' of wav.scp has no speaker",
        "text:2: there is no utterance 'z-1' in utt2spk",
        "text: no line for 1 of 2 utterances: b-1",
        "feats.scp:2: there is no utterance 'a-2' in utt2spk",
    ]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"spk2utt": "a a-1 a-2\nb\n"}, "spk2utt:2: speaker 'b' has no utterances"),
        (
            {"spk2utt": "a a-1\nb b-1 a-2\n"},
            "utt2spk:2: utterance 'a-2' has speaker 'a', in spk2utt 'b'",
        ),
        (
            {"spk2utt": "a a-1 a-2\nb b-1 a-2\n"},
            "spk2utt:2: utterance 'a-2' has a second speaker",
        ),
        ({"spk2utt": "a a-1 a-2\nb b-1 x\n"}, "spk2utt:2: utterance 'x' is not in utt2spk"),
        ({"cmvn_scp": "a c.ark:2\n"}, "cmvn.scp: no line for 1 of 2 speakers: b"),
        ({"wav_scp": "a-1 x\na-2 x\n"}, "utt2spk:3: there is no utterance 'b-1' in wav.scp"),
        ({"text": "\n"}, "text:1: an empty line"),
    ],
)
def test_each_mistake_has_its_place(changes, problem, tmp_path):
    assert problem in problems(tmp_path, **changes)


def test_mistakes_in_segments(tmp_path):
    lines = "a-1 r1 2 1\na-2 r3 0 1\nb-1 r2 x 1\n"
    path = folder_of(tmp_path, {**CUT, "segments": lines})
    _, found = examine_folder(path)
    assert [problem.removeprefix(f"{path}/") for problem in found][:3] == [
        "segments:1: 'r1 2 1'; expected: RECORDING START END, 0 <= START < END",
        "segments:2: there is no recording 'r3' in wav.scp",
        "segments:3: 'r2 x 1'; expected: RECORDING START END, 0 <= START < END",
    ]


def test_segments_that_stand_alone(tmp_path):
    (tmp_path / "segments").write_text(CUT["segments"])
    assert read_segments(tmp_path / "segments")["a-1"] == Segment("r1", 0.0, 1.5)
    with pytest.raises(FolderError, match="cannot read: no such file"):
        read_segments(tmp_path / "none")


def test_files_that_are_no_text(tmp_path):
    path = folder_of(tmp_path, WHOLE)
    (path / "text").write_bytes(b"a-1 \xff\xfe\n")
    with pytest.raises(FolderError, match="text:1: byte 4 is not UTF-8"):
        read_folder(path)
    (path / "text").write_bytes(b"")
    with pytest.raises(FolderError, match="text: the file is empty"):
        read_folder(path)


def test_no_folder_and_no_speakers(tmp_path):
    with pytest.raises(FolderError, match="there is no such folder"):
        read_folder(tmp_path / "none")
    with pytest.raises(FolderError, match="neither utt2spk nor spk2utt"):
        read_folder(folder_of(tmp_path, {"wav.scp": WHOLE["wav.scp"]}))


def test_many_mistakes_are_counted(tmp_path):
    lines = "".join(f"u{i} x\n" for i in range(100))
    with pytest.raises(FolderError, match=r"and \d+ more") as error:
        read_folder(folder_of(tmp_path, {**WHOLE, "text": lines}))
    assert str(error.value).startswith("101 mistakes in the data folder:")
