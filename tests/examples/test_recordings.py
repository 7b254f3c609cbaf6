"""A folder of recorded words."""

import wave
from pathlib import Path

import numpy as np
import pytest

from examples.speech.recordings import align_linearly, read_recordings
from examples.speech.utterance import Segment
from examples.speech.wav import write_wav
from examples.speech.words import log_priors, recognize
from nnet.errors import NnetError

RATE = 8000


def word(silence: float = 0.1, sound: float = 0.5) -> np.ndarray:
    """A tone between two silences, seconds."""
    hush = np.zeros(round(silence * RATE))
    tone = 9000 * np.sin(np.arange(round(sound * RATE)))
    return np.concatenate([hush, tone, hush]).round().astype(np.int16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in ("yes", "no"):
        for speaker in ("anna", "ben", "carl"):
            for index in range(3):
                write_wav(tmp_path / f"{label}_{speaker}_{index}.wav", word(), RATE)
    return tmp_path


def test_a_word_is_divided_evenly_between_its_silences() -> None:
    assert align_linearly(word(), RATE, "yes") == (
        Segment("SIL", 0, 800),
        Segment("yes.1", 800, 1600),
        Segment("yes.2", 1600, 2400),
        Segment("yes.3", 2400, 3200),
        Segment("yes.4", 3200, 4000),
        Segment("yes.5", 4000, 4800),
        Segment("SIL", 4800, 5600),
    )


def test_the_last_speaker_is_held_out(folder: Path) -> None:
    recordings = read_recordings(folder)
    assert recordings.held_out == "carl"
    assert recordings.words == ["no", "yes"]
    assert recordings.labels == ["SIL", *(f"{w}.{n}" for w in ("no", "yes") for n in range(1, 6))]
    assert {split: len(spoken) for split, spoken in recordings.splits.items()} == {
        "train": 11,
        "valid": 1,
        "test": 6,
    }
    assert {spoken.speaker for spoken in recordings.splits["test"]} == {"carl"}
    assert recordings.splits["test"][0].name == "carl-no-0"


def test_another_speaker_can_be_held_out(folder: Path) -> None:
    splits = read_recordings(folder, "anna").splits
    assert {spoken.speaker for spoken in splits["test"]} == {"anna"}
    assert {spoken.speaker for spoken in splits["train"]} == {"ben", "carl"}


def test_an_unknown_speaker_is_refused_with_the_nearest(folder: Path) -> None:
    with pytest.raises(NnetError, match=r"by the held-out speaker 'karl'; did you mean 'carl'\?"):
        read_recordings(folder, "karl")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NnetError, match=r"nowhere: no such folder; expected recordings named"):
        read_recordings(tmp_path / "nowhere")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NnetError, match="no wav file in it; expected recordings named LABEL_"):
        read_recordings(tmp_path)


def test_a_name_that_does_not_fit_is_refused(folder: Path) -> None:
    write_wav(folder / "hello.wav", word(), RATE)
    with pytest.raises(NnetError, match=r"hello\.wav: expected a name like LABEL_SPEAKER_INDEX"):
        read_recordings(folder)


def test_stereo_is_refused(folder: Path) -> None:
    with wave.open(str(folder / "no_anna_7.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(word().tobytes())
    with pytest.raises(NnetError, match=r"no_anna_7\.wav: 2 channel\(s\) of 16 bits; expected 1"):
        read_recordings(folder)


def test_what_is_no_wav_file_is_refused(folder: Path) -> None:
    (folder / "no_anna_7.wav").write_text("some words, and not a sound at all")
    with pytest.raises(NnetError, match=r"no_anna_7\.wav: not a PCM wav file"):
        read_recordings(folder)


def test_another_rate_is_refused(folder: Path) -> None:
    write_wav(folder / "yes_carl_7.wav", word(), 16000)
    with pytest.raises(NnetError, match=r"yes_carl_7\.wav: 16000 Hz, but no_anna_0\.wav has 8000"):
        read_recordings(folder)


def test_one_speaker_alone_is_refused(tmp_path: Path) -> None:
    write_wav(tmp_path / "yes_anna_0.wav", word(), RATE)
    with pytest.raises(NnetError, match="'anna' is the only speaker; expected at least two"):
        read_recordings(tmp_path)


def test_too_few_recordings_are_refused(tmp_path: Path) -> None:
    for speaker in ("anna", "ben"):
        write_wav(tmp_path / f"yes_{speaker}_0.wav", word(), RATE)
    with pytest.raises(NnetError, match="expected at least 10 to train on"):
        read_recordings(tmp_path)


def log_posteriors(path: list[int], count: int) -> np.ndarray:
    return np.log(0.8 * np.eye(count)[path] + 0.2 / count)


def test_the_word_of_the_best_path_is_recognised() -> None:
    labels = ["SIL", *(f"{w}.{n}" for w in ("no", "yes") for n in range(1, 6))]
    priors = log_priors({"a": np.arange(11)}, 11)
    for path in ([0, 6, 6, 7, 8, 9, 9, 10, 0], [6, 7, 8, 9, 10], [0, 0, 6, 7, 8, 9, 10, 10]):
        assert recognize(log_posteriors(path, 11), priors, labels, ["no", "yes"]) == "yes"
    assert recognize(log_posteriors([1, 2, 3, 4, 5], 11), priors, labels, ["no", "yes"]) == "no"


def test_priors_are_frequencies_but_never_tiny() -> None:
    priors = log_priors({"a": np.array([0, 0, 1]), "b": np.array([0])}, 3)
    np.testing.assert_allclose(np.exp(priors), [3 / 4, 1 / 4, 1 / 6])
