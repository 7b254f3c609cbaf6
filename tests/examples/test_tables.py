"""Features, frame labels and Kaldi-style tables."""

from pathlib import Path

import kaldiio
import numpy as np
import pytest

from examples.speech.features import (
    centre_frequencies,
    frame_labels,
    log_mel,
    without_speaker_means,
)
from examples.speech.tables import DataFolder, write_data
from examples.speech.utterance import Segment, Utterance, tile
from examples.speech.wav import read_wav, write_wav
from nnet.errors import NnetError


def utterance(name: str = "anna-1", seconds: float = 1.0) -> Utterance:
    count = round(seconds * 16000)
    samples = np.random.default_rng(0).integers(-900, 900, count).astype(np.int16)
    return Utterance(name, "anna", "one", samples, 16000, tile(["SIL", "AA"], [0, 8000], count))


@pytest.mark.parametrize(("rate", "hertz"), [(8000, 1000.0), (16000, 1000.0), (16000, 5000.0)])
def test_a_tone_is_loudest_in_the_bin_around_it(rate: int, hertz: float) -> None:
    silence = np.zeros(rate)
    sound = 8000 * np.sin(2 * np.pi * hertz * np.arange(rate) / rate)
    frames = log_mel(np.concatenate([silence, sound]).round().astype(np.int16), rate)
    loudest = np.bincount(frames[110:].argmax(axis=1)).argmax()
    assert abs(centre_frequencies(rate)[loudest] / hertz - 1) < 0.06


def test_features_of_a_speaker_have_a_mean_of_zero() -> None:
    features = without_speaker_means([utterance("anna-1"), utterance("anna-2", 0.5)])
    assert {name: rows.shape for name, rows in features.items()} == {
        "anna-1": (98, 40),
        "anna-2": (48, 40),
    }
    together = np.concatenate(list(features.values()))
    np.testing.assert_allclose(together.mean(axis=0), 0, atol=1e-4)
    assert np.abs(features["anna-2"].mean(axis=0)).max() > 1e-3


def test_a_frame_has_the_label_at_its_centre() -> None:
    labels = frame_labels(utterance(), 98)
    assert labels.index("AA") == 49  # centre of frame 49: 49 * 10 ms + 12.5 ms = 502.5 ms
    assert labels[48] == "SIL"


def test_neighbouring_silences_become_one_and_empty_segments_vanish() -> None:
    segments = tile(["SIL", "SIL", "AA", "K", "K"], [0, 5, 9, 9, 12], 20)
    assert segments == (Segment("SIL", 0, 9), Segment("K", 9, 12), Segment("K", 12, 20))


def test_tables_are_readable_and_agree(tmp_path: Path) -> None:
    splits = {
        "train": [utterance("anna-2", 0.5), utterance("anna-1")],
        "valid": [utterance("anna-3")],
        "test": [utterance("anna-4")],
    }
    data = write_data(tmp_path / "data", splits, ["SIL", "AA"])
    features = kaldiio.load_scp(str(tmp_path / "data" / "train" / "feats.scp"))
    alignments = data.alignments("train")
    assert list(features) == list(alignments) == ["anna-1", "anna-2"]
    assert [len(rows) for rows in features.values()] == [len(row) for row in alignments.values()]
    assert alignments["anna-1"].dtype == np.int32
    assert alignments["anna-1"].tolist() == [0] * 49 + [1] * 49
    assert data.labels == ["SIL", "AA"]
    assert data.text("train") == {"anna-1": "one", "anna-2": "one"}
    assert (tmp_path / "data/train/spk2utt").read_text() == "anna anna-1 anna-2\n"
    assert DataFolder(tmp_path / "data").speakers("test") == {"anna-4": "anna"}


def test_an_alignment_is_written_as_kaldi_writes_integer_vectors(tmp_path: Path) -> None:
    splits = {"train": [utterance("a", 0.04)], "valid": [], "test": []}
    write_data(tmp_path, splits, ["SIL", "AA"])
    expected = b"a \0B\4\2\0\0\0" + 2 * b"\4\0\0\0\0"
    assert (tmp_path / "train" / "ali.ark").read_bytes() == expected


def test_a_wav_file_comes_back(tmp_path: Path) -> None:
    samples = utterance().samples
    write_wav(tmp_path / "a.wav", samples, 16000)
    read, rate = read_wav(tmp_path / "a.wav")
    np.testing.assert_array_equal(read, samples)
    assert rate == 16000


def test_a_shortened_wav_file_is_refused(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", utterance().samples, 16000)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-101])
    with pytest.raises(NnetError, match=r"a\.wav: 31899 bytes of sound; expected the 32000"):
        read_wav(tmp_path / "a.wav")
