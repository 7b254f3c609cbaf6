"""`nnet features` and `nnet ivectors` as their user meets them."""

import struct

import numpy as np
import pytest

from nnet.commands.main import main
from nnet.data.writers import MatrixWriter, VectorWriter
from tests.speech.digits import DIGITS, UTTERANCES, golden, golden_statistics
from tests.support import table

EXTRACTOR = DIGITS / "extractor"
BASE = "--sample-frequency=8000\n--dither=0\n--use-energy=false\n"


def run(capsys, *words):
    """Exit status and standard error of `nnet WORDS`."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return end.value.code, capsys.readouterr().err


@pytest.fixture
def folder(tmp_path):
    """A data folder of the recordings, and a configuration file beside it."""
    data = tmp_path / "data"
    data.mkdir()
    lines = [f"{name} {DIGITS}/dev/wav/{name}.wav" for name in UTTERANCES]
    (data / "wav.scp").write_text("\n".join(lines) + "\n")
    (data / "utt2spk").write_text("".join(f"{name} theo\n" for name in UTTERANCES))
    (data / "spk2utt").write_text(f"theo {' '.join(UTTERANCES)}\n")
    (tmp_path / "mfcc.conf").write_text(BASE + "--low-freq=64\n--high-freq=3800\n")
    return tmp_path


def features(capsys, folder, *words, conf="mfcc.conf", waves=None):
    waves = waves or f"scp:{folder}/data/wav.scp"
    words = ["features", folder / conf, waves, f"ark:{folder}/out.ark", *words]
    assert run(capsys, *words) == (0, "")
    return table(folder / "out.ark")


def assert_equal_tables(found, expected, names=UTTERANCES, atol=1e-3):
    for name in expected.keys() & set(names):
        np.testing.assert_allclose(found[name], expected[name], atol=atol)


@pytest.mark.parametrize("threads", [1, 3])
def test_features_of_a_table(folder, capsys, threads):
    found = features(capsys, folder, f"--num-threads={threads}")
    assert list(found) == UTTERANCES
    assert_equal_tables(found, golden("mfcc"))


def test_an_online_configuration(folder, capsys):
    waves = f"scp:{folder}/data/wav.scp"
    conf = DIGITS / "conf" / "online.conf"
    assert run(capsys, "features", conf, waves, f"ark:{folder}/out.ark") == (0, "")
    assert_equal_tables(table(folder / "out.ark"), golden("mfcc_hires"))


def test_normalization_by_speaker_and_its_statistics(folder, capsys):
    found = features(
        capsys, folder, "--cmvn=speaker", f"--write-cmvn=ark:{folder}/cmvn.ark",
        waves=folder / "data",
    )  # fmt: skip
    np.testing.assert_allclose(np.concatenate(list(found.values())).mean(axis=0), 0, atol=1e-3)
    stats = sum(golden_statistics("cmvn_utt").values())
    np.testing.assert_allclose(table(folder / "cmvn.ark")["theo"], stats, rtol=1e-4, atol=2)


def test_normalization_by_utterance_then_deltas_splicing_and_a_transform(folder, capsys):
    (folder / "cmvn.conf").write_text("--norm-vars=true\n")
    found = features(capsys, folder, "--cmvn=utterance", f"--cmvn-config={folder}/cmvn.conf")
    assert_equal_tables(found, golden("cmvn_applied"))
    assert_equal_tables(features(capsys, folder, "--delta-order=2"), golden("deltas"))
    assert_equal_tables(features(capsys, folder, "--splice=3,2"), golden("splice"))
    matrix = "[ " + "1 " * 26 + "]\n"
    (folder / "x.mat").write_text(matrix)
    summed = features(capsys, folder, "--splice=0,1", f"--transform={folder}/x.mat")
    frames = golden("mfcc")["theo-001"].sum(axis=1)
    np.testing.assert_allclose(summed["theo-001"][:-1, 0], frames[:-1] + frames[1:], atol=1e-2)


def test_online_normalization(folder, capsys):
    (folder / "hires.conf").write_text((DIGITS / "conf" / "mfcc_hires.conf").read_text())
    (folder / "cmvn.conf").write_text("--cmn-window=200\n")
    found = features(
        capsys, folder, "--cmvn=online", f"--cmvn-config={folder}/cmvn.conf",
        f"--global-cmvn-stats={EXTRACTOR}/global_cmvn.stats",
        conf="hires.conf", waves=folder / "data",
    )  # fmt: skip
    assert_equal_tables(found, golden("cmvn_online"))


def test_perturbed_copies(folder, capsys):
    words = ["--speeds=0.9,1.0", "--volume=0.5,0.5", "--noises=white", "--snrs=20", "--srand=5"]
    first = features(capsys, folder, *words)
    assert list(first)[:2] == ["sp0.9-theo-000", "theo-000"]
    ratio = len(first["sp0.9-theo-003"]) / len(first["theo-003"])
    assert ratio == pytest.approx(1 / 0.9, rel=0.01)
    second = features(capsys, folder, *words)
    assert_equal_tables(second, first, first, atol=0)
    other = features(capsys, folder, *words[:-1], "--srand=6")
    assert np.abs(other["theo-000"] - first["theo-000"]).max() > 0.01


def wav(folder, name, data, rate=8000, channels=1, size=None):
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * 2, channels * 2, 16)
    size = len(data) if size is None else size
    chunks = b"WAVEfmt \x10\0\0\0" + form + b"data" + struct.pack("<I", size) + data
    (folder / name).write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    (folder / "data" / "wav.scp").write_text(f"u {folder}/{name}\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 16000}, "utterance 'u': the signal has 16000 Hz, expected 8000 Hz"),
        ({"channels": 2}, "u: the recording has 2 channels, expected one"),
        ({"size": 99999}, "the header says 99999 bytes of samples, the file has 8000"),
        ({"size": 4000}, "4000 bytes after the samples"),
        ({"data": b""}, "the recording has no samples"),
        ({"data": b"\1\0" * 50}, "no utterance has any frames; nothing is written"),
    ],
)
def test_wrong_recordings(folder, capsys, options, message):
    wav(folder, "x.wav", **{"data": b"\1\0" * 4000, **options})
    words = [folder / "mfcc.conf", f"scp:{folder}/data/wav.scp", f"ark:{folder}/out.ark"]
    status, err = run(capsys, "features", *words)
    assert status == 1
    assert message in err
    assert "Traceback" not in err
    assert not (folder / "out.ark").exists()


@pytest.mark.parametrize("rate", [16000, 4000])
def test_resampling_is_allowed_by_an_option(folder, capsys, rate):
    wav(folder, "x.wav", b"\1\0" * 4000, rate=rate)
    option = "--allow-downsample=true" if rate == 16000 else "--allow-upsample=true"
    assert features(capsys, folder, option)["u"].shape[1] == 13


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cmvn=speakers"], "--cmvn is 'speakers'; expected: none, utterance, speaker, online"),
        (["--cmvn=online"], "--cmvn online needs --global-cmvn-stats"),
        (["--splice=3"], "--splice is '3'; expected: two numbers of frames"),
        (["--speeds=a"], "--speeds is 'a'; expected: numbers separated by commas"),
        (["--volume=1"], "--volume is '1'; expected: two factors"),
        (["--feature-type=mfc"], "--feature-type is 'mfc'"),
        (["--utt2spk=/nowhere"], "/nowhere: cannot read: no such file"),
    ],
)
def test_wrong_options(folder, capsys, words, message):
    given = ["features", folder / "mfcc.conf", f"scp:{folder}/data/wav.scp", f"ark:{folder}/o.ark"]
    status, err = run(capsys, *given, *words)
    assert status == 1
    assert message in err


@pytest.fixture
def hires(folder):
    """The features that the extractor was trained on."""
    with MatrixWriter(f"ark,scp:{folder}/f.ark,{folder}/data/feats.scp") as writer:
        for name in UTTERANCES:
            writer.write(name, golden("mfcc_hires")[name])
    return folder


def test_ivectors_of_speakers_and_of_utterances(hires, capsys):
    words = ["ivectors", EXTRACTOR, f"ark:{hires}/f.ark", f"ark:{hires}/out.ark"]
    assert run(capsys, *words, f"--spk2utt=ark:{hires}/data/spk2utt") == (0, "")
    assert_equal_tables(table(hires / "out.ark"), golden("ivectors_spk"), atol=1e-4)
    assert run(capsys, *words) == (0, "")
    assert_equal_tables(table(hires / "out.ark"), golden("ivectors_utt"), atol=1e-4)


def test_ivectors_of_a_data_folder(hires, capsys):
    words = ["ivectors", EXTRACTOR, hires / "data", f"ark:{hires}/out.ark", "--max-count=10"]
    assert run(capsys, *words) == (0, "")
    assert_equal_tables(table(hires / "out.ark"), golden("ivectors_max10"), atol=1e-4)
    assert run(capsys, *words[:-1], "--repeat", "--per-utterance") == (0, "")
    found, expected = table(hires / "out.ark"), golden("ivectors_utt")
    for name in UTTERANCES:
        assert len(found[name]) == len(golden("mfcc_hires")[name])
        # with one estimate a period each begins where the last one ended
        np.testing.assert_allclose(found[name][::10], expected[name], atol=1e-4)


def test_one_ivector_of_all_frames(hires, capsys):
    words = ["ivectors", EXTRACTOR, hires / "data", f"ark:{hires}/out.ark"]
    assert run(capsys, *words, "--offline=utterance") == (0, "")
    found = table(hires / "out.ark")
    assert list(found) == UTTERANCES
    last = golden("ivectors_utt")["theo-003"][-1]
    assert np.abs(found["theo-003"] - last).max() < 0.3 * np.abs(last).max()
    assert run(capsys, *words, "--offline=speaker") == (0, "")
    assert list(table(hires / "out.ark")) == ["theo"]


def test_weights_of_frames(hires, capsys):
    with VectorWriter(f"ark:{hires}/w.ark") as writer:
        for name in UTTERANCES:
            writer.write(name, np.zeros(len(golden("mfcc_hires")[name]), np.float32))
    words = ["ivectors", EXTRACTOR, f"ark:{hires}/f.ark", f"ark:{hires}/out.ark"]
    assert run(capsys, *words, f"--frame-weights=ark:{hires}/w.ark") == (0, "")
    assert np.abs(table(hires / "out.ark")["theo-000"]).max() < 1e-5


def test_an_utterance_without_features_is_left_out(hires, capsys):
    (hires / "spk2utt").write_text("theo theo-000 theo-999\n")
    words = ["ivectors", EXTRACTOR, f"ark:{hires}/f.ark", f"ark:{hires}/out.ark"]
    status, err = run(capsys, *words, f"--spk2utt={hires}/spk2utt")
    assert (status, list(table(hires / "out.ark"))) == (0, ["theo-000"])
    assert err == "nnet: warning: utterance 'theo-999' has no features; left out\n"


@pytest.mark.parametrize(
    ("speakers", "words", "message"),
    [
        ("theo theo-000\nx\n", [], "spk2utt:2: speaker 'x' has no utterances"),
        ("theo a b\n", [], "no utterance has features; nothing is written"),
        ("theo theo-000\n", ["--min-post=0.7"], "--min-post is 0.7"),
        ("theo theo-000\n", ["--offline=x"], "--offline is 'x'; expected: utterance or speaker"),
    ],
)
def test_wrong_requests_for_ivectors(hires, capsys, speakers, words, message):
    (hires / "spk2utt").write_text(speakers)
    given = ["ivectors", EXTRACTOR, f"ark:{hires}/f.ark", f"ark:{hires}/o.ark"]
    status, err = run(capsys, *given, f"--spk2utt={hires}/spk2utt", *words)
    assert status == 1
    assert message in err
    assert not (hires / "o.ark").exists()


def test_features_of_another_dimension(folder, capsys):
    with MatrixWriter(f"ark:{folder}/f.ark") as writer:
        writer.write("a", np.zeros((5, 13), np.float32))
    words = ["ivectors", EXTRACTOR, f"ark:{folder}/f.ark", f"ark:{folder}/out.ark"]
    status, err = run(capsys, *words)
    assert status == 1
    assert "utterance 'a': features of 13 dimensions; the i-vector extractor was trained" in err
