"""Utterances as sound, and their perturbed copies."""

import numpy as np
import pytest

from nnet.data.writers import TableWriter
from nnet.errors import NnetError
from nnet.speech.perturbation import (
    NoiseOptions,
    Perturbation,
    add_noise,
    change_speed,
    change_volume,
    speed_prefix,
)
from nnet.speech.recordings import recordings
from nnet.speech.waves import Wave, write_wave
from tests.speech.digits import DIGITS, RATE, samples

WAVES = DIGITS / "dev" / "wav"


def tone(frequency, seconds=1.0, rate=RATE):
    time = np.arange(int(seconds * rate)) / rate
    return (1000 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "wav.scp").write_text(f"r1 {WAVES}/theo-000.wav\nr2 cat {WAVES}/theo-001.wav |\n")
    (tmp_path / "segments").write_text("u1 r1 0.1 0.6\nu2 r1 0.5 -1\nu3 r2 0 0.5\n")
    (tmp_path / "utt2spk").write_text("u1 s\nu2 s\nu3 s\n")
    return tmp_path


def check_segments(found):
    assert found["u1"].tolist() == samples("theo-000")[800:4800].tolist()
    assert found["u2"].tolist() == samples("theo-000")[4000:].tolist()
    assert found["u3"].tolist() == samples("theo-001")[:4000].tolist()


def test_segments_of_a_folder(folder):
    found = list(recordings(str(folder)))
    assert {recording.sample_frequency for recording in found} == {RATE}
    check_segments({recording.name: recording.samples for recording in found})


def test_segments_of_a_table(folder):
    found = recordings(f"scp:{folder}/wav.scp", str(folder / "segments"))
    check_segments({recording.name: recording.samples for recording in found})


def test_a_table_of_whole_recordings(folder):
    found = {recording.name: recording.samples for recording in recordings(f"scp:{folder}/wav.scp")}
    assert found["r2"].tolist() == samples("theo-001").tolist()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("u1 r1 0 3\n", "a segment from 0 to 3 s.*which has 1.23 s"),
        ("u1 r1 2 3\n", "a segment from 2 to 3 s"),
        ("u1 r9 0 1\n", "there is no recording 'r9'"),
        ("u1 r1 0 0.00001\n", "a segment without samples"),
    ],
)
def test_segments_outside_of_their_recording(folder, line, message):
    (folder / "segments").write_text(line)
    with pytest.raises(NnetError, match=f"(?s)utterance 'u1'.*{message}"):
        list(recordings(f"scp:{folder}/wav.scp", str(folder / "segments")))


def test_several_channels(tmp_path):
    stereo = Wave(np.array([[1, 2], [3, 4]], np.float32), RATE)
    with TableWriter(f"ark:{tmp_path}/w.ark", write_wave) as writer:
        writer.write("u", stereo)
    (second,) = recordings(f"ark:{tmp_path}/w.ark", channel=1)
    assert second.samples.tolist() == [3, 4]
    with pytest.raises(NnetError, match="u: the recording has 2 channels"):
        list(recordings(f"ark:{tmp_path}/w.ark"))


def test_a_folder_with_other_segments(folder):
    with pytest.raises(NnetError, match="has its own segments"):
        list(recordings(str(folder), "segments"))


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1])
def test_speed_changes_length_and_pitch(speed):
    faster = change_speed(tone(500), RATE, speed)
    assert len(faster) == pytest.approx(RATE / speed, abs=2)
    spectrum = np.abs(np.fft.rfft(faster * np.hanning(len(faster))))
    assert spectrum.argmax() * RATE / len(faster) == pytest.approx(500 * speed, rel=0.005)
    assert np.abs(faster).max() == pytest.approx(1000, rel=0.02)


def test_volume_is_clipped():
    loud = change_volume(tone(500), 50.0)
    assert (loud.max(), loud.min()) == (32767, -32768)


@pytest.mark.parametrize("snr", [-5, 10])
def test_noise_has_its_ratio(snr):
    clean, noise = tone(500), np.random.default_rng(0).normal(size=RATE).astype(np.float32)
    added = add_noise(clean, noise, snr) - clean
    ratio = 10 * np.log10((clean**2).mean() / (added**2).mean())
    assert ratio == pytest.approx(snr, abs=0.01)
    np.testing.assert_array_equal(add_noise(np.zeros(5, np.float32), noise[:5], snr), np.zeros(5))


def test_a_perturbation_depends_on_seed_name_and_draw_alone():
    noises = {"n1": Wave(tone(50, 0.1)[None], RATE), "n2": Wave(tone(3000, 3)[None], 16000)}
    perturbation = Perturbation((0.9, 1.1), (0.5, 2.0), noises, NoiseOptions((10.0, 0.0)), seed=3)
    first, again, other_name, other_draw = (
        perturbation.apply(name, tone(500), RATE, draw)
        for name, draw in (("a", 0), ("a", 0), ("b", 0), ("a", 1))
    )
    np.testing.assert_array_equal(first, again)
    for other in (other_name, other_draw):
        assert len(other) != len(first) or np.abs(other - first).max() > 1


def test_nothing_is_changed_by_default():
    np.testing.assert_array_equal(Perturbation().apply("a", tone(500), RATE), tone(500))


def test_names_of_copies():
    assert [speed_prefix(speed) for speed in (0.9, 1.0, 1.1)] == ["sp0.9-", "", "sp1.1-"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Perturbation((0.0,)), "factors from 0.2 to 5"),
        (lambda: Perturbation(volume=(2.0, 1.0)), "0 < least <= most"),
        (lambda: NoiseOptions(()), "at least one ratio"),
    ],
)
def test_impossible_perturbations(make, message):
    with pytest.raises(NnetError, match=message):
        make()
